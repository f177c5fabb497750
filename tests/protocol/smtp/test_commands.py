# SPDX-License-Identifier: Apache-2.0
"""Parsers of command lines: forms that must be taken, forms that must not, and with which reply."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail.address import Address, Domain
from posthouse.mail.envelope import BodyType, DsnReturn, ForwardPath, Notify, ReversePath
from posthouse.protocol.smtp import commands, parameters
from posthouse.protocol.smtp.commands import Chunk, Context
from posthouse.protocol.smtp.events import AuthStart, Expn, Hello, Vrfy
from posthouse.protocol.smtp.faults import CommandFault
from posthouse.protocol.smtp.table import COMMANDS, Command

HOST = Domain("mail.example.test")
EHLO = Context(HOST, is_extended=True)
UTF8 = Context(HOST, is_extended=True, smtputf8=True)
HELO = Context(HOST)
ALICE = Address("alice", Domain("alice.test"))
BOB = Address("bob", Domain("bob.test"))

MAIL = [
    ("FROM:<alice@alice.test>", ReversePath(ALICE)),
    ("from:<alice@ALICE.test>", ReversePath(ALICE)),
    ("FROM: <alice@alice.test>", ReversePath(ALICE)),
    ("FROM:<>", ReversePath(None)),
    ("FROM:<> SIZE=0", ReversePath(None, size=0)),
    ("FROM:<alice@alice.test> SIZE=12345", ReversePath(ALICE, size=12345)),
    ("FROM:<alice@alice.test>  size=12345  BODY=7bit", ReversePath(ALICE, size=12345)),
    ("FROM:<alice@alice.test> BODY=8BITMIME", ReversePath(ALICE, body=BodyType.EIGHT_BIT)),
    ("FROM:<@a.test,@b.test:alice@alice.test>", ReversePath(ALICE)),
    ('FROM:<"alice"@alice.test>', ReversePath(ALICE)),
    ('FROM:<"a b>c"@alice.test>', ReversePath(Address("a b>c", Domain("alice.test")))),
    (r'FROM:<"a\"b\\c"@alice.test>', ReversePath(Address(r'a"b\c', Domain("alice.test")))),
    ('FROM:<"@x.test:y"@alice.test>', ReversePath(Address("@x.test:y", Domain("alice.test")))),
    ("FROM:<a@[192.0.2.1]>", ReversePath(Address("a", Domain("[192.0.2.1]")))),
    ("FROM:<a@bücher.test> SMTPUTF8", ReversePath(Address("a", Domain("xn--bcher-kva.test")), smtputf8=True)),
    ("FROM:<ä@alice.test> SMTPUTF8", ReversePath(Address("ä", Domain("alice.test")), smtputf8=True)),
    (
        "FROM:<alice@alice.test> RET=HDRS ENVID=a+20b+2B AUTH=<>",
        ReversePath(ALICE, dsn_return=DsnReturn.HEADERS, envelope_id="a b+", auth="<>"),
    ),
    ("FROM:<alice@alice.test> AUTH=e+3Dmc2@alice.test", ReversePath(ALICE, auth="e=mc2@alice.test")),
    # In brackets, as curl writes it.
    ("FROM:<alice@alice.test> AUTH=<alice@alice.test>", ReversePath(ALICE, auth="alice@alice.test")),
]


@pytest.mark.parametrize(("text", "path"), MAIL)
def test_mail(text: str, path: ReversePath) -> None:
    assert commands.parse_mail(text.encode(), EHLO).path == path


RCPT = [
    ("TO:<bob@bob.test>", ForwardPath(BOB)),
    ("to: <bob@BOB.test>", ForwardPath(BOB)),
    ("TO:<@a.test:bob@bob.test>", ForwardPath(BOB)),
    ("TO:<Bob@bob.test>", ForwardPath(Address("Bob", Domain("bob.test")))),
    ("TO:<postmaster>", ForwardPath(Address("postmaster", HOST))),
    ("TO:<POSTMASTER>", ForwardPath(Address("POSTMASTER", HOST))),
    ("TO:<bob@bob.test> NOTIFY=never", ForwardPath(BOB, Notify.NEVER)),
    ("TO:<bob@bob.test> NOTIFY=SUCCESS,DELAY", ForwardPath(BOB, Notify.SUCCESS | Notify.DELAY)),
    ("TO:<bob@bob.test> ORCPT=rfc822;Bob+2Bx@bob.test", ForwardPath(BOB, None, "rfc822;Bob+x@bob.test")),
    ("TO:<bob@bob.test> ORCPT=utf-8;b\\x{F6}b@bob.test", ForwardPath(BOB, None, "utf-8;böb@bob.test")),
    ("TO:<bob@bob.test> ORCPT=utf-8;a\\x{2B}b@bob.test", ForwardPath(BOB, None, "utf-8;a+b@bob.test")),
    ("TO:<bob@bob.test> ORCPT=utf-8;böb@bob.test", ForwardPath(BOB, None, "utf-8;böb@bob.test")),
    # what is no character, or would break a line of the DSN, is carried on as it came (RFC 6533 §3)
    ("TO:<bob@bob.test> ORCPT=utf-8;a\\x{0D}\\x{0A}b", ForwardPath(BOB, None, "utf-8;a\\x{0D}\\x{0A}b")),
    ("TO:<bob@bob.test> ORCPT=utf-8;a\\x{D800}b", ForwardPath(BOB, None, "utf-8;a\\x{D800}b")),
    ("TO:<bob@bob.test> ORCPT=utf-8;a\\x{FFFFFF}b", ForwardPath(BOB, None, "utf-8;a\\x{FFFFFF}b")),
]


@pytest.mark.parametrize(("text", "path"), RCPT)
def test_rcpt(text: str, path: ForwardPath) -> None:
    assert commands.parse_rcpt(text.encode(), UTF8).path == path


BAD = [
    (commands.parse_mail, "FROM:<alice@alice.test", 501, "5.5.4"),
    (commands.parse_mail, "FROM:alice@alice.test", 501, "5.5.4"),
    (commands.parse_mail, "FROM <alice@alice.test>", 501, "5.5.4"),
    (commands.parse_mail, "TO:<alice@alice.test>", 501, "5.5.4"),
    (commands.parse_mail, "", 501, "5.5.4"),
    (commands.parse_mail, "FROM:<alice@alice.test>SIZE=1", 501, "5.5.4"),
    (commands.parse_mail, "FROM:<alice@alice.test> SIZE=", 501, "5.5.4"),
    (commands.parse_mail, "FROM:<alice@alice.test> SIZE=1x", 501, "5.5.4"),
    (commands.parse_mail, "FROM:<alice@alice.test> SIZE=123456789012345678901", 501, "5.5.4"),
    (commands.parse_mail, "FROM:<alice@alice.test> SIZE=١", 501, "5.5.4"),
    (commands.parse_mail, "FROM:<alice@alice.test> =1", 501, "5.5.4"),
    (commands.parse_mail, "FROM:<alice@alice.test> X=a=b", 501, "5.5.4"),
    (commands.parse_mail, "FROM:<alice@alice.test> BODY=BINARYMIME", 555, "5.5.4"),
    (commands.parse_mail, "FROM:<alice@alice.test> HOLDFOR=60", 555, "5.5.4"),
    (commands.parse_mail, "FROM:<alice@alice.test> ENVID=", 501, "5.5.4"),
    (commands.parse_mail, "FROM:<alice@alice.test> ENVID=+C3+A4", 501, "5.5.4"),
    (commands.parse_mail, "FROM:<alice@alice.test> ENVID=+FF", 501, "5.5.4"),
    (commands.parse_mail, "FROM:<alice>", 501, "5.1.7"),
    (commands.parse_mail, "FROM:<alice@>", 501, "5.1.7"),
    (commands.parse_mail, "FROM:<@alice.test>", 501, "5.1.7"),
    (commands.parse_mail, "FROM:<a b@alice.test>", 501, "5.1.7"),
    (commands.parse_mail, "FROM:<a..b@alice.test>", 501, "5.1.7"),
    (commands.parse_mail, 'FROM:<"a"b@alice.test>', 501, "5.1.7"),
    (commands.parse_mail, "FROM:<ä@alice.test>", 550, "5.6.7"),
    (commands.parse_rcpt, "TO:<ä@alice.test>", 553, "5.6.7"),
    (commands.parse_rcpt, "TO:<>", 501, "5.1.3"),
    (commands.parse_rcpt, "TO:<bob@bob.test> NOTIFY", 501, "5.5.4"),
    (commands.parse_rcpt, "TO:<bob@bob.test> NOTIFY=SUCCESS,", 501, "5.5.4"),
    (commands.parse_rcpt, "TO:<bob@bob.test> ORCPT=;a", 501, "5.5.4"),
    (commands.parse_rcpt, "TO:<bob@bob.test> ORCPT=rfc822;", 501, "5.5.4"),
    (commands.parse_rcpt, "TO:<bob@bob.test> ORCPT=rfc822;a+0D+0Ab", 501, "5.5.4"),
    (commands.parse_rcpt, "TO:<bob@bob.test> ORCPT=rfc822;a+2", 501, "5.5.4"),
    (commands.parse_rcpt, "TO:<bob@bob.test> ORCPT=utf-8;böb@bob.test", 501, "5.5.4"),
    (commands.parse_bdat, "", 501, "5.5.4"),
    (commands.parse_bdat, "-1", 501, "5.5.4"),
    (commands.parse_bdat, "10 LAST LAST", 501, "5.5.4"),
    (commands.parse_bdat, "10LAST", 501, "5.5.4"),
    (commands.parse_bdat, "0x10", 501, "5.5.4"),
    (commands.parse_auth, "", 501, "5.5.4"),
    (commands.parse_auth, "PL@IN", 501, "5.5.4"),
    (commands.parse_auth, "PLAIN AA", 501, "5.5.2"),
    (commands.parse_auth, "PLAIN AA==AA==", 501, "5.5.2"),
    (commands.parse_auth, "PLAIN AA== AA==", 501, "5.5.2"),
    (commands.parse_vrfy, "", 501, "5.5.4"),
    (commands.parse_vrfy, " SMTPUTF8", 501, "5.5.4"),
    (commands.parse_quit, "now", 501, "5.5.4"),
    (commands.parse_data, "now", 501, "5.5.4"),
]


@pytest.mark.parametrize(("parse", "text", "code", "status"), BAD)
def test_refused(parse: Callable[[bytes, Context], object], text: str, code: int, status: str) -> None:
    """Bad input gets a standard reply of one line of printable ASCII."""
    with pytest.raises(CommandFault) as caught:
        parse(text.encode(), EHLO)
    reply = caught.value.reply
    assert (reply.code, str(reply.status)) == (code, status)
    assert reply.text.isascii()
    assert reply.text.isprintable()


def test_helo_takes_no_parameters() -> None:
    """RFC 5321 §4.1.1.11; the fast path for SIZE must know it too."""
    for text in (b"FROM:<alice@alice.test> SIZE=1", b"FROM:<alice@alice.test> BODY=7BIT"):
        with pytest.raises(CommandFault) as caught:
            commands.parse_mail(text, HELO)
        assert caught.value.reply.code == 555
    assert commands.parse_mail(b"FROM:<alice@alice.test>", HELO).path == ReversePath(ALICE)


def test_other_forms() -> None:
    assert commands.parse_ehlo(b"[192.0.2.1]", EHLO) == Hello("EHLO", "[192.0.2.1]")
    assert commands.parse_bdat(b"86 last", EHLO) == Chunk(86, is_last=True)
    assert commands.parse_bdat(b"0", EHLO) == Chunk(0, is_last=False)
    assert commands.parse_auth(b"plain =", EHLO) == AuthStart("PLAIN", b"")
    assert commands.parse_auth(b"PLAIN AGEAYg==", EHLO) == AuthStart("PLAIN", b"\0a\0b")
    assert commands.parse_auth(b"SCRAM-SHA-256-PLUS", EHLO) == AuthStart("SCRAM-SHA-256-PLUS", None)
    assert commands.parse_vrfy("bøb SMTPUTF8".encode(), EHLO) == Vrfy("bøb", smtputf8=True)
    assert commands.parse_expn(b"staff", EHLO) == Expn("staff")


def refusal_code(parse: Callable[[bytes, Context], object], argument: bytes, context: Context) -> int:
    """0 for an event; any other exception than CommandFault fails the test."""
    try:
        parse(argument, context)
    except CommandFault as fault:
        return fault.reply.code if fault.reply.text.isascii() else -1
    return 0


@given(st.sampled_from([row for rows in COMMANDS.values() for row in rows.values()]), st.binary(max_size=300))
def test_parsers_never_fail_otherwise(row: Command, argument: bytes) -> None:
    """Any octets give an event or a CommandFault."""
    for context in (HELO, EHLO, UTF8):
        assert refusal_code(row.parse, argument, context) in {0, 501, 550, 553, 555}


WORDS = (
    'FROM: TO: < > @ " \\ a ä bob@bob.test SIZE= 1 ORCPT= utf-8; \\x{41} NOTIFY= NEVER , = + 2B SMTPUTF8 : '
    "[192.0.2.1] . postmaster ENVID="
)
PIECES = st.sampled_from([" ", *WORDS.split()])


@given(st.lists(PIECES, max_size=14).map("".join))
def test_path_parsers_never_fail_on_near_misses(text: str) -> None:
    for parse in (commands.parse_mail, commands.parse_rcpt):
        for argument in (text, "FROM:<" + text, "TO:<" + text):
            assert refusal_code(parse, argument.encode(), UTF8) in {0, 501, 550, 553, 555}


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=30))
def test_xtext_round_trip(text: str) -> None:
    coded = "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in text)
    assert parameters.decode_xtext("ENVID", coded) == text
    assert parameters.read_envelope_id(coded) == text if len(coded) <= 100 else True


@given(st.binary(max_size=60))
def test_base64_round_trip(data: bytes) -> None:
    assert commands.decode_base64(base64.b64encode(data)) == data


def test_unclosed_quotes_are_refused_in_linear_time() -> None:
    """No pattern may take a line of quotes and backslashes for an exercise in backtracking."""
    for text in ('FROM:<"' + "\\a" * 900, "FROM:<" + '"a"' * 600, "FROM:<" + "@a," * 600):
        with pytest.raises(CommandFault):
            commands.parse_mail(text.encode(), EHLO)
