# SPDX-License-Identifier: Apache-2.0
"""Authentication-Results: the examples of RFC 8601, what is written is read, what is forged goes away."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail.header import scan_header, split_fields
from posthouse.mailauth.dkim_verify import Verification
from posthouse.mailauth.dmarc import DmarcResult, DmarcVerdict, Policy
from posthouse.mailauth.iprev import IprevResult, IprevVerdict
from posthouse.mailauth.results import (
    MAX_PROPERTIES,
    MAX_STATEMENTS,
    MAX_TEXT,
    MAX_VALUE,
    AuthResults,
    Property,
    Statement,
    authentication_results,
    parse_results,
    payload,
    remove_claimed,
)
from posthouse.mailauth.signatures import SignatureResult
from posthouse.mailauth.spf import SpfResult, SpfVerdict
from posthouse.mailauth.statements import (
    arc_statement,
    auth_statement,
    dkim_statement,
    dmarc_statement,
    iprev_statement,
    spf_statement,
    unsigned,
)

ADDRESS = ipaddress.ip_address("192.0.2.200")


def said(value: str) -> AuthResults:
    found = parse_results(value.replace("\n", "\r\n").encode())
    assert found is not None
    return found


# --- reading: appendix B --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "authserv_id", "statements"),
    [
        (" example.org 1; none", "example.org", ()),  # B.2
        (
            " example.com;\n          spf=pass smtp.mailfrom=example.net",  # B.3
            "example.com",
            (Statement("spf", "pass", (Property("smtp", "mailfrom", "example.net"),)),),
        ),
        (
            (
                " example.com;\n          auth=pass (cram-md5) smtp.auth=sender@example.net;\n"
                "          spf=pass smtp.mailfrom=example.net"
            ),
            "example.com",
            (
                Statement("auth", "pass", (Property("smtp", "auth", "sender@example.net"),)),
                Statement("spf", "pass", (Property("smtp", "mailfrom", "example.net"),)),
            ),
        ),
        (
            " example.com; iprev=pass\n          policy.iprev=192.0.2.200",  # B.4
            "example.com",
            (Statement("iprev", "pass", (Property("policy", "iprev", "192.0.2.200"),)),),
        ),
        (
            " example.com;\n          dkim=pass (good signature) header.d=example.com",  # B.5
            "example.com",
            (Statement("dkim", "pass", (Property("header", "d", "example.com"),)),),
        ),
        (
            (
                ' example.com;\n      dkim=pass reason="good signature"\n        header.i=@mail-router.example.net;\n'
                '      dkim=fail reason="bad signature"\n        header.i=@newyork.example.com'
            ),
            "example.com",
            (
                Statement("dkim", "pass", (Property("header", "i", "@mail-router.example.net"),), "good signature"),
                Statement("dkim", "fail", (Property("header", "i", "@newyork.example.com"),), "bad signature"),
            ),
        ),
        (
            (
                " foo.example.net (foobar) 1 (baz);\n"
                "    dkim (Because I like it) / 1 (One yay) = (wait for it) fail\n"
                "      policy (A dot can go here) . (like that) expired\n"
                "      (this surprised me) = (as I wasn't expecting it) 1362471462"
            ),
            "foo.example.net",
            (Statement("dkim", "fail", (Property("policy", "expired", "1362471462"),)),),
        ),
        # §2.4, and what others write.
        (
            "a; dkim=policy policy.dkim-rules=unsigned-subject",
            "a",
            (Statement("dkim", "policy", (Property("policy", "dkim-rules", "unsigned-subject"),)),),
        ),
        (
            "a; arc=pass (i=1) smtp.remote-ip=2001:db8::1; DKIM=Pass header.B=ab/c+=;",
            "a",
            (
                Statement("arc", "pass", (Property("smtp", "remote-ip", "2001:db8::1"),)),
                Statement("dkim", "pass", (Property("header", "b", "ab/c+="),)),
            ),
        ),
        (
            '"an; id" ; spf=pass smtp.mailfrom="a ; \\"b\\""@example.com',
            "an; id",
            (Statement("spf", "pass", (Property("smtp", "mailfrom", 'a ; "b"@example.com'),)),),
        ),
        ('a; x=y (an odd " mark; z=w) p.q=r', "a", (Statement("x", "y", (Property("p", "q", "r"),)),)),
        ("a; x=y (one (two) \\) three; z=w) p.q=r", "a", (Statement("x", "y", (Property("p", "q", "r"),)),)),
        ("bücher.example; spf=none", "bücher.example", (Statement("spf", "none"),)),
    ],
)
def test_what_is_read(value: str, authserv_id: str, statements: tuple[Statement, ...]) -> None:
    assert said(value) == AuthResults(authserv_id, "1", statements, is_well_formed=True)


@pytest.mark.parametrize("value", ["", ";", "; spf=pass", "a b; spf=pass", "spf=pass", "a/b; none", "(a", '"a'])
def test_fields_of_nobody(value: str) -> None:
    assert parse_results(value.encode()) is None


@pytest.mark.parametrize(
    ("value", "statements"),
    [
        ("a; spf", ()),
        ("a; spf=pass oops", (Statement("spf", "pass"),)),
        ("a; spf=pass; dkim/2=pass; dmarc=pass", (Statement("spf", "pass"), Statement("dmarc", "pass"))),
        ("a; spf=pass smtp.mailfrom", (Statement("spf", "pass"),)),
        ('a; spf=pass smtp.mailfrom="open', (Statement("spf", "pass"),)),
        ('a; spf=pass smtp.mailfrom=x"y"', (Statement("spf", "pass"),)),
        ("a; spf=pass!", ()),
    ],
)
def test_what_cannot_be_read_is_left_out(value: str, statements: tuple[Statement, ...]) -> None:
    assert said(value) == AuthResults("a", "1", statements, is_well_formed=False)


def test_of_another_version_nothing_is_read() -> None:
    """§2.6"""
    assert said("a 2; spf=pass") == AuthResults("a", "2", (), is_well_formed=False)


def test_fields_have_an_end() -> None:
    found = said("a" + "; x=y" * (MAX_STATEMENTS + 1))
    assert (len(found.statements), found.is_well_formed) == (MAX_STATEMENTS, False)
    found = said("a; x=y" + " p.q=r" * (MAX_PROPERTIES + 1))
    assert (len(found.statements[0].properties), found.is_well_formed) == (MAX_PROPERTIES, False)
    assert not said("a; x=y " + " " * MAX_VALUE).is_well_formed


# --- writing --------------------------------------------------------------------------------------


def test_a_field_with_everything() -> None:
    spf = SpfVerdict(SpfResult.SOFTFAIL, "example.com", "mailfrom", ("~all",), "~all of example.com matches")
    dkim = Verification(SignatureResult.PASS, "example.com", "sel", "rsa-sha256", "", "@example.com", "abcdefg/")
    dmarc = DmarcVerdict(DmarcResult.FAIL, "example.com", "neither is aligned", policy=Policy.QUARANTINE)
    field = authentication_results(
        "mx.bob.test",
        [
            iprev_statement(IprevVerdict(IprevResult.PASS, ADDRESS, "mx.example.com")),
            spf_statement(spf),
            dkim_statement(dkim),
            dmarc_statement(dmarc),
            arc_statement("pass", remote=ADDRESS, oldest_pass=0),
        ],
    )
    assert field.decode() == (
        "Authentication-Results: mx.bob.test;\r\n"
        "\tiprev=pass policy.iprev=192.0.2.200;\r\n"
        '\tspf=softfail reason="~all of example.com matches"\r\n'
        "\t smtp.mailfrom=example.com;\r\n"
        "\tdkim=pass header.d=example.com header.s=sel header.a=rsa-sha256\r\n"
        '\t header.b="abcdefg/";\r\n'
        '\tdmarc=fail reason="neither is aligned" header.from=example.com\r\n'
        "\t policy.dmarc=quarantine;\r\n"
        "\tarc=pass smtp.remote-ip=192.0.2.200 header.oldest-pass=0\r\n"
    )
    assert all(len(line.expandtabs()) <= 78 for line in field.decode().split("\r\n"))


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        (unsigned(), "dkim=none"),
        (auth_statement("ann@alice.test"), "auth=pass smtp.auth=ann@alice.test"),
        (auth_statement("an n@alice.test"), 'auth=pass smtp.auth="an n@alice.test"'),
        (spf_statement(SpfVerdict(SpfResult.NONE, "", "helo", reason="no name")), 'spf=none reason="no name"'),
        (spf_statement(SpfVerdict(SpfResult.PASS, "a.test", "helo", reason="x")), "spf=pass smtp.helo=a.test"),
        (
            iprev_statement(IprevVerdict(IprevResult.FAIL, ipaddress.ip_address("2001:db8::1"), "", "why")),
            'iprev=fail reason="why" policy.iprev="2001:db8::1"',
        ),
        (dmarc_statement(DmarcVerdict(DmarcResult.PASS, "a.test", "x")), "dmarc=pass header.from=a.test"),
        (dmarc_statement(DmarcVerdict(DmarcResult.PERMERROR, "", "no From")), 'dmarc=permerror reason="no From"'),
        (arc_statement("none"), "arc=none"),
    ],
)
def test_statements(statement: Statement, text: str) -> None:
    assert payload("b.test", [statement]) == f"b.test;\r\n\t{text}".encode()


def test_nothing_checked() -> None:
    assert authentication_results("b.test", []) == b"Authentication-Results: b.test; none\r\n"


WORDS = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
STATEMENTS = st.lists(
    st.builds(
        Statement,
        WORDS,
        WORDS,
        st.lists(st.builds(Property, WORDS, WORDS, st.text(max_size=300)), max_size=5).map(tuple),
        st.text(max_size=300),
    ),
    max_size=5,
)


def _as_written(text: str) -> str:
    return "".join(char if " " <= char <= "~" else "?" for char in text[:MAX_TEXT])


@given(st.text(min_size=1, max_size=300), STATEMENTS)
def test_what_is_written_is_one_field_and_is_read_again(authserv_id: str, statements: list[Statement]) -> None:
    field = authentication_results(authserv_id, statements)
    assert [one.name for one in split_fields(field)] == [b"Authentication-Results"]
    assert all(len(line) <= 998 for line in field.split(b"\r\n"))
    assert field.isascii()
    found = parse_results(field.partition(b":")[2])
    assert found == AuthResults(
        _as_written(authserv_id),
        "1",
        tuple(
            Statement(
                one.method,
                one.result,
                tuple(Property(kind, name, _as_written(value)) for kind, name, value in one.properties),
                _as_written(one.reason),
            )
            for one in statements
        ),
        is_well_formed=True,
    )


# --- taking away (§5) -----------------------------------------------------------------------------

KEPT = b"Received: by a\r\nauthentication-results-x: mx.bob.test; x=y\r\nFrom: ann@alice.test\r\n"


@pytest.mark.parametrize(
    "field",
    [
        "Authentication-Results: mx.bob.test; spf=pass",
        "AUTHENTICATION-RESULTS : mx.BOB.test. 1; spf=pass",
        "Authentication-Results:\r\n (a; b) mx.bob.test;\r\n spf=pass",
        'Authentication-Results: "mx.bob.test"; spf=pass',
        'Authentication-Results: "mx\\.bob.test" (x); spf=pass',
        "Authentication-Results: mx.bob.test",
        "Authentication-Results: bücher.test; none",
        "Authentication-Results: xn--bcher-kva.test; none",
        # Of another version, and of nobody who can be named: a reader may take them for anything.
        "Authentication-Results: other.test 2; spf=pass",
        "Authentication-Results: mx.bob.test spf=pass",
        "Authentication-Results: mx.bob.test/1; spf=pass",
        "Authentication-Results: ; spf=pass",
        "Authentication-Results:",
    ],
)
def test_fields_that_claim_to_be_ours_go(field: str) -> None:
    own = ["mx.bob.test", "bücher.test"]
    foreign = b"Authentication-Results: mx.alice.test; spf=pass\r\n"
    header = field.encode() + b"\r\n" + foreign + KEPT + field.encode() + b"\r\n"
    assert remove_claimed(header, own) == foreign + KEPT


@pytest.mark.parametrize(
    "field",
    [
        "Authentication-Results: bob.test; spf=pass",
        "Authentication-Results: mx.bob.test.evil.test; spf=pass",
        "Authentication-Results: a (mx.bob.test;) ; spf=pass",
        "ARC-Authentication-Results: i=1; mx.bob.test; spf=pass",
        "X-Note: Authentication-Results: mx.bob.test; spf=pass",
    ],
)
def test_fields_of_others_stay(field: str) -> None:
    header = field.encode() + b"\r\n" + KEPT
    assert remove_claimed(header, ["mx.bob.test"]) == header


def test_after_it_no_reader_finds_ours() -> None:
    header = b"Authentication-Results: mx.bob.test; spf=pass\r\n" * 50 + KEPT
    assert b"authentication-results" not in scan_header(remove_claimed(header, ["mx.bob.test"]) + b"\r\n")
