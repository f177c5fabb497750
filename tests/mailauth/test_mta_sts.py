# SPDX-License-Identifier: Apache-2.0
"""MTA-STS as texts: the record in DNS, the policy, the hosts that it allows."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mailauth.mta_sts import (
    MAX_AGE,
    MAX_PATTERNS,
    MAX_POLICY,
    Mode,
    PolicyFault,
    is_policy_type,
    parse_policy,
    parse_record,
    policy_url,
    record_name,
)

EXAMPLE = (  # RFC 8461 §3.2
    b"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmx: backupmx.example.com\r\n"
    b"max_age: 604800\r\n"
)


# --- the record -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "ident"),
    [
        ([b"v=STSv1; id=20160831085700Z;"], "20160831085700Z"),  # §3.1, and appendix A.1
        ([b"v=STSv1; id=20160831085700Z"], "20160831085700Z"),
        ([b"v=STSv1;id=1"], "1"),
        ([b"v=STSv1 \t;\t id=1 \t;\t "], "1"),
        ([b"v=STSv1; a=b; id=1; x.y_z-1=!~"], "1"),
        ([b"v=STSv1; id=1; id=2"], "1"),
        ([b"v=STSv1; id=" + b"a" * 32], "a" * 32),
        ([b"v=STSv1; id=1", b"v=spf1 -all", b"", b"v=STSv2; id=2"], "1"),
        ([b"v=STSv1; id=1", b"v=STSv1; id=2"], None),
        ([], None),
        ([b"v=STSv1"], None),
        ([b"v=STSv1;"], None),
        ([b"v=STSv1; "], None),
        ([b"V=STSv1; id=1"], None),
        ([b"v=stsv1; id=1"], None),
        ([b" v=STSv1; id=1"], None),
        ([b"id=1; v=STSv1"], None),
        ([b"v=STSv1; ID=1"], None),
        ([b"v=STSv1; id="], None),
        ([b"v=STSv1; id=1-2"], None),
        ([b"v=STSv1; id=1 2"], None),
        ([b"v=STSv1; id=" + b"a" * 33], None),
        ([b"v=STSv1; id=1;; a=b"], None),
        ([b"v=STSv1; id=1; a"], None),
        ([b"v=STSv1; id=1; a=b=c"], None),
        ([b"v=STSv1; id=1; -a=b"], None),
        ([b"v=STSv1; id=1; \xc3\xa4=b"], None),
        ([b"v=STSv1; id=1\n"], None),
    ],
)
def test_records(texts: list[bytes], ident: str | None) -> None:
    assert parse_record(texts) == ident


IDENTS = st.text(string.ascii_letters + string.digits, min_size=1, max_size=32)
BLANKS = st.text(" \t", max_size=3)


@given(IDENTS, BLANKS, BLANKS, st.booleans())
def test_what_is_written_by_the_rules_is_read(ident: str, before: str, after: str, has_end: bool) -> None:
    delimiter = f"{before};{after}"
    text = f"v=STSv1{delimiter}id={ident}" + (delimiter if has_end else "")
    assert parse_record([text.encode()]) == ident


@given(st.lists(st.binary(max_size=60), max_size=3))
def test_no_text_breaks_it(texts: list[bytes]) -> None:
    parse_record([b"v=STSv1;" + text for text in texts])


# --- the policy -----------------------------------------------------------------------------------


def test_the_example_of_the_standard() -> None:
    policy = parse_policy(EXAMPLE)
    assert policy.mode is Mode.ENFORCE
    assert policy.patterns == ("mail.example.com", "*.example.net", "backupmx.example.com")
    assert policy.max_age == 604800
    assert policy.lines == (
        "version: STSv1",
        "mode: enforce",
        "mx: mail.example.com",
        "mx: *.example.net",
        "mx: backupmx.example.com",
        "max_age: 604800",
    )


@pytest.mark.parametrize(
    ("text", "mode", "patterns", "max_age"),
    [
        (b"version:STSv1\nmode:testing\nmx:a.test\nmax_age:1", Mode.TESTING, ("a.test",), 1),
        (b"max_age: \t5 \r\nmx: A.TEST\t\nmode: none\nversion: STSv1\n\n \t\n", Mode.NONE, ("a.test",), 5),
        (b"version: STSv1\nmode: none\nmax_age: 0\n", Mode.NONE, (), 0),
        (b"version: STSv1\nmode: none\nmode: enforce\nmax_age: 1\nmax_age: x\nversion: 2", Mode.NONE, (), 1),
        (b"version: STSv1\nmode: enforce\nmx: a\nmx: a\nmax_age: 9999999999", Mode.ENFORCE, ("a",), MAX_AGE),
        ("version: STSv1\nmode: none\nmax_age: 1\nnote: größe 5 : x".encode(), Mode.NONE, (), 1),
        (b"version: STSv1\nmode: enforce\nmx: xn--bcher-kva.example\nmax_age: 1", Mode.ENFORCE, None, 1),
    ],
)
def test_policies(text: bytes, mode: Mode, patterns: tuple[str, ...] | None, max_age: int) -> None:
    policy = parse_policy(text)
    assert (policy.mode, policy.max_age) == (mode, max_age)
    assert patterns is None or policy.patterns == patterns


HEAD = b"version: STSv1\nmode: enforce\nmax_age: 1\n"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"<html>",
        HEAD,  # no mx
        HEAD.replace(b"STSv1", b"STSv2") + b"mx: a.test",
        HEAD.replace(b"STSv1", b"stsv1") + b"mx: a.test",
        HEAD.replace(b"version: STSv1\n", b"") + b"mx: a.test",
        HEAD.replace(b"enforce", b"Enforce") + b"mx: a.test",
        HEAD.replace(b"mode: enforce\n", b"") + b"mx: a.test",
        HEAD.replace(b"max_age: 1\n", b"") + b"mx: a.test",
        HEAD.replace(b"max_age: 1", b"max_age: -1") + b"mx: a.test",
        HEAD.replace(b"max_age: 1", b"max_age: 12345678901") + b"mx: a.test",
        HEAD.replace(b"max_age: 1", "max_age: ٣".encode()) + b"mx: a.test",
        HEAD + b"mx:",
        HEAD + b"mx: ",
        HEAD + b"mx: .",
        HEAD + b"mx: *",
        HEAD + b"mx: *.",
        HEAD + b"mx: a.*.test",
        HEAD + b"mx: *a.test",
        HEAD + b"mx: **.test",
        HEAD + b"mx: a..test",
        HEAD + b"mx: a.test.",
        HEAD + b"mx: -a.test",
        HEAD + b"mx: a_b.test",
        HEAD + "mx: bücher.example".encode(),
        HEAD + b"mx: a.test b.test",
        HEAD + b"mx: [192.0.2.1]",
        HEAD + b"mx: " + b"a" * 64 + b".test",
        HEAD + b"mx: " + b"a." * 126 + b"ab",
        HEAD + b" mx: a.test",
        HEAD + b"mx : a.test",
        HEAD + b"mx: a.test\nnonsense",
        HEAD + b"mx: a.test\nx: a\x00b",
        HEAD + b"mx: a.test\rx: b",
        HEAD + b"mx: a.test\nx: \xff",
        HEAD + b"mx: a.test\n" + b"a" * 33 + b": b",
        HEAD + b"mx: a.test\n" + b"x" * MAX_POLICY,
        HEAD + b"".join(b"mx: %d.test\n" % number for number in range(MAX_PATTERNS + 1)),
    ],
)
def test_what_is_no_policy(text: bytes) -> None:
    with pytest.raises(PolicyFault):
        parse_policy(text)


LABELS = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=10)
HOSTS = st.lists(LABELS, min_size=1, max_size=4).map(".".join)


@given(
    st.sampled_from(["enforce", "testing"]),
    st.lists(st.tuples(st.booleans(), HOSTS), min_size=1, max_size=5),
    st.integers(0, MAX_AGE),
    st.sampled_from(["\n", "\r\n"]),
    st.randoms(),
)
def test_what_is_written_is_read_in_any_order(mode: str, hosts: list, max_age: int, end: str, chance: object) -> None:
    patterns = [f"{'*.' if is_wild else ''}{host}" for is_wild, host in hosts]
    lines = ["version: STSv1", f"mode: {mode}", f"max_age: {max_age}", *(f"mx: {each}" for each in patterns)]
    chance.shuffle(lines)
    policy = parse_policy(end.join(lines).encode())
    assert (policy.mode.value, policy.max_age, set(policy.patterns)) == (mode, max_age, set(patterns))
    assert list(policy.lines) == lines
    assert parse_policy("\n".join(policy.lines).encode()) == policy
    for is_wild, host in hosts:
        assert policy.allows(f"one.{host}".upper() if is_wild else host.upper())


@given(st.binary(max_size=200))
def test_no_octets_break_it(octets: bytes) -> None:
    for text in (octets, HEAD + octets):
        try:
            policy = parse_policy(text)
        except PolicyFault:
            continue
        assert policy.mode is Mode.NONE or policy.patterns


# --- hosts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "host", "is_allowed"),
    [
        ("*.example.com", "mail.example.com", True),  # §4.1
        ("*.example.com", "example.com", False),
        ("*.example.com", "foo.bar.example.com", False),
        ("*.example.com", ".example.com", False),
        ("mail.example.com", "MAIL.Example.com.", True),
        ("mail.example.com", "mail.example.org", False),
        ("mail.example.com", "xmail.example.com", False),
        ("mail.example.com", "", False),
        ("*.com", "example.com", True),
    ],
)
def test_hosts(pattern: str, host: str, is_allowed: bool) -> None:
    policy = parse_policy(HEAD + f"mx: {pattern}".encode())
    assert policy.allows(host) == is_allowed


@pytest.mark.parametrize(
    ("content_type", "is_good"),
    [
        ("text/plain", True),
        ("Text/Plain; charset=utf-8", True),
        (" text/plain ;x", True),
        ("text/html", False),
        ("", False),
        ("text/plainer", False),
    ],
)
def test_content_types(content_type: str, is_good: bool) -> None:
    assert is_policy_type(content_type) == is_good


def test_where_they_lie() -> None:
    assert record_name("example.com") == "_mta-sts.example.com"
    assert policy_url("example.com") == "https://mta-sts.example.com/.well-known/mta-sts.txt"
