# SPDX-License-Identifier: Apache-2.0
"""Engine against engine: what our client says our server understands, and nothing else comes of it (Hypothesis)."""

from __future__ import annotations

from random import Random

import pytest
from fuzz.smtp_house import NAME, PASSWORD, House
from fuzz.targets import pop3_both, smtp_both
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.mail.address import Address, Domain, parse_address
from posthouse.mail.envelope import BodyType, DsnReturn, Envelope, ForwardPath, Notify, ReversePath
from posthouse.protocol.smtp.client_auth import Credentials
from posthouse.protocol.smtp.client_events import ClientSettings, TlsUse
from posthouse.protocol.smtp.extensions import Mode
from posthouse.protocol.smtp.server import SmtpServer

# What content is made of where it goes wrong: line ends, dots, NUL, eight bits, lines without an end.
_PIECES = st.sampled_from(
    [
        b"\r\n",
        b"\r",
        b"\n",
        b".",
        b"..",
        b"\r\n.\r\n",
        b"\n.\n",
        b"\0",
        b"\xc3\xa9",
        b"\xff",
        b"line",
        b"x" * 1200,
        b" ",
    ]
)
_LINES = st.lists(
    st.sampled_from([b"", b".", b"..", b".x", b"Subject: x", b"\xc3\xa9", b"y" * 2000, b"QUIT", b"RCPT TO:<x@y.test>"])
).map(b"\r\n".join)
_CONTENT = st.one_of(st.lists(_PIECES, max_size=40).map(b"".join), _LINES, _LINES.map(lambda text: text + b"\r\n"))
_LOCAL_PARTS = st.one_of(
    st.sampled_from(["a", "b.c", "o'neil", "a b", 'q"uote', "back\\slash", "<>", "@", "b\u00f6b", "\u4f60\u597d", " "]),
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=10),
)
_DOMAINS = st.sampled_from(["one.test", "xn--bcher-kva.test", "[192.0.2.1]", "[IPv6:2001:db8::1]"]).map(Domain)
# What the server takes for ENVID and ORCPT (RFC 3461 §4): printable ASCII.
_TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=30)


def _is_sayable(address: Address) -> bool:
    try:
        return parse_address(str(address)) == address
    except ValueError:
        return False


_ADDRESSES = st.builds(Address, _LOCAL_PARTS, _DOMAINS).filter(_is_sayable)
_REVERSE = st.builds(
    ReversePath,
    st.none() | _ADDRESSES,
    body=st.sampled_from([BodyType.SEVEN_BIT, BodyType.EIGHT_BIT]),
    smtputf8=st.booleans(),
    dsn_return=st.none() | st.sampled_from(DsnReturn),
    envelope_id=st.none() | _TEXT,
)
_FORWARD = st.builds(
    ForwardPath,
    _ADDRESSES,
    st.sampled_from([None, Notify.NEVER, Notify.SUCCESS, Notify.FAILURE | Notify.DELAY]),
    st.none() | _TEXT.map(lambda text: f"rfc822;{text}"),
)
_ENVELOPES = st.builds(Envelope, _REVERSE, st.lists(_FORWARD, min_size=1, max_size=5).map(tuple))


@pytest.mark.slow
@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    letters=st.lists(st.tuples(_ENVELOPES, _CONTENT), min_size=1, max_size=3),
    mode=st.sampled_from(Mode),
    hidden=st.sets(st.sampled_from(smtp_both.HIDEABLE), max_size=4).map(sorted),
    mood=st.binary(max_size=4),
    tls=st.sampled_from(TlsUse),
    may_bdat=st.booleans(),
    logs_in=st.booleans(),
    cut=st.integers(0, 1 << 16),
)
def test_a_letter_arrives_octet_by_octet_or_not_at_all(
    letters: list[tuple[Envelope, bytes]],
    mode: Mode,
    hidden: list[bytes],
    mood: bytes,
    tls: TlsUse,
    may_bdat: bool,
    logs_in: bool,
    cut: int,
) -> None:
    """`converse` asserts it: delivered to whom the server took it for, with that content; else another outcome."""
    engine = SmtpServer(
        hostname="mail.example.test",
        mode=mode,
        max_message_size=5000,
        max_recipients=4,
        offers_tls=tls is not TlsUse.NEVER,
        auth_needs_tls=False,
    )
    client = ClientSettings(
        helo="client.example.test",
        host="mail.example.test",
        tls=tls,
        is_lmtp=mode is Mode.LMTP,
        credentials=Credentials(NAME, PASSWORD) if logs_in else None,
        nonce="fyko+d2lbbFgONRv9qkxdawL",
        may_show_password=True,
        may_bdat=may_bdat,
    )
    smtp_both.converse(House(engine, mood), client, letters, hidden, Random(cut))


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True)
@given(envelope=_ENVELOPES, lines=_LINES, mode=st.sampled_from(Mode), cut=st.integers(0, 1 << 16))
def test_a_clean_letter_is_delivered_to_everybody(envelope: Envelope, lines: bytes, mode: Mode, cut: int) -> None:
    """A house that takes everything and a network that only cuts: nothing is refused on the way."""
    house = House(SmtpServer(hostname="mail.example.test", mode=mode))
    client = ClientSettings("client.example.test", "mail.example.test", is_lmtp=mode is Mode.LMTP)
    (outcomes,) = smtp_both.converse(house, client, [(envelope, lines)], [], Random(cut))
    assert all(outcome.is_delivered for outcome in outcomes), outcomes
    (letter,) = house.letters
    assert [path.address for path in letter.forward_paths] == [path.address for path in envelope.forward_paths]
    assert letter.content == (lines + b"\r\n" if lines and not lines.endswith(b"\r\n") else lines)


@pytest.mark.slow
@settings(max_examples=100, deadline=None, derandomize=True)
@given(letters=st.lists(_CONTENT, min_size=1, max_size=6), cut=st.integers(0, 1 << 16))
def test_what_pop3_gives_is_what_was_kept(letters: list[bytes], cut: int) -> None:
    pop3_both.retrieve(letters, Random(cut))
