# SPDX-License-Identifier: Apache-2.0
"""REQUIRETLS on the wire (RFC 8689 §2): offered within TLS alone, taken where it was offered, said where it may be."""

from __future__ import annotations

import pytest

from posthouse.mail.address import parse_address
from posthouse.mail.envelope import BodyType, DsnReturn, ReversePath, TlsWish
from posthouse.ports import TlsInfo
from posthouse.protocol.smtp import events as ev
from posthouse.protocol.smtp.client_commands import mail_command
from posthouse.protocol.smtp.client_offer import Offer
from posthouse.protocol.smtp.extensions import Mode
from posthouse.protocol.smtp.server import SmtpServer
from tests.protocol.smtp.test_server import READY, said

TLS = TlsInfo("TLSv1.3", "AES")


def greeted(verb: str = "EHLO", *, tls: bool = True, **settings: object) -> tuple[SmtpServer, bytes]:
    """An engine after its EHLO, and what it offers."""
    engine = SmtpServer(hostname="mail.example.test", **settings)  # type: ignore[arg-type]  # test shorthand
    if tls:
        engine.tls_started(TLS)
    engine.next_event()
    engine.send(READY)
    said(engine)
    engine.receive_data(f"{verb} client.example.test\r\n".encode())
    engine.next_event()
    engine.accept_hello()
    return engine, said(engine)


@pytest.mark.parametrize(
    ("verb", "tls", "settings", "is_offered"),
    [
        ("EHLO", True, {"offers_requiretls": True}, True),
        ("EHLO", False, {"offers_requiretls": True, "offers_tls": True}, False),
        ("EHLO", True, {}, False),
        ("HELO", True, {"offers_requiretls": True}, False),
        ("EHLO", True, {"offers_requiretls": True, "mode": Mode.SUBMISSION}, True),
        ("LHLO", True, {"offers_requiretls": True, "mode": Mode.LMTP}, True),
    ],
)
def test_where_it_is_offered_it_is_taken(verb: str, tls: bool, settings: dict[str, object], is_offered: bool) -> None:
    engine, offer = greeted(verb, tls=tls, **settings)
    assert (b"REQUIRETLS\r\n" in offer) == is_offered
    engine.receive_data(b"MAIL FROM:<alice@alice.test> requiretls\r\n")
    event = engine.next_event()
    if is_offered:
        assert event == ev.MailFrom(ReversePath(parse_address("alice@alice.test"), wish=TlsWish.REQUIRED))
    else:
        assert isinstance(event, ev.CommandError)
        assert event.reply.code == 555


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        (b"REQUIRETLS=yes", 501),
        (b"REQUIRETLS REQUIRETLS", 501),
        (b"REQUIRETLSX", 555),
    ],
)
def test_how_it_is_written(parameters: bytes, code: int) -> None:
    engine, _ = greeted(offers_requiretls=True)
    engine.receive_data(b"MAIL FROM:<> " + parameters + b"\r\n")
    event = engine.next_event()
    assert isinstance(event, ev.CommandError)
    assert event.reply.code == code


def test_with_others_and_for_the_null_path() -> None:
    engine, _ = greeted(offers_requiretls=True)
    engine.receive_data(b"MAIL FROM:<> SIZE=5 REQUIRETLS RET=HDRS\r\n")
    path = ReversePath(None, size=5, dsn_return=DsnReturn.HEADERS, wish=TlsWish.REQUIRED)
    assert engine.next_event() == ev.MailFrom(path)


def test_a_session_that_becomes_protected_offers_it_then() -> None:
    engine, offer = greeted(tls=False, offers_requiretls=True, offers_tls=True)
    assert b"STARTTLS" in offer
    engine.receive_data(b"STARTTLS\r\n")
    engine.next_event()
    engine.send(READY)
    engine.next_event()
    engine.tls_started(TLS)
    said(engine)
    engine.receive_data(b"EHLO client.example.test\r\n")
    engine.next_event()
    engine.accept_hello()
    assert b"REQUIRETLS" in said(engine)


@pytest.mark.parametrize(
    ("wish", "keywords", "is_said"),
    [
        (TlsWish.REQUIRED, {"REQUIRETLS": ""}, True),
        (TlsWish.REQUIRED, {}, False),
        (TlsWish.OPTIONAL, {"REQUIRETLS": ""}, False),
        (TlsWish.USUAL, {"REQUIRETLS": ""}, False),
    ],
)
def test_the_client_says_it(wish: TlsWish, keywords: dict[str, str], is_said: bool) -> None:
    path = ReversePath(parse_address("alice@alice.test"), wish=wish)
    line = mail_command(path, Offer(keywords), size=5, body=BodyType.SEVEN_BIT, smtputf8=False)
    assert line == b"MAIL FROM:<alice@alice.test>" + (b" REQUIRETLS" if is_said else b"") + b"\r\n"
