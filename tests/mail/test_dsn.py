# SPDX-License-Identifier: Apache-2.0
"""Delivery status notifications: three good parts, words for every cause, nothing injected, read back."""

from __future__ import annotations

from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse import outcome
from posthouse.mail.address import parse_address
from posthouse.mail.dsn import MAX_RETURNED_HEADER, Action, DsnRecipient, DsnReport, compose_dsn
from posthouse.mail.dsn_reader import parse_dsn
from posthouse.mail.dsn_texts import CHINESE, ENGLISH, Cause, cause_of, phrases
from posthouse.outcome import RemoteReply, Status

BOB = parse_address("bob@bob.test")
ORIGINAL = b"Message-ID: <x@alice.test>\r\nFrom: alice@alice.test\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nHi\r\n"
FAILED = DsnRecipient(
    address=BOB,
    action=Action.FAILED,
    status=outcome.BAD_MAILBOX,
    reply=RemoteReply(550, outcome.BAD_MAILBOX, "no such user"),
    remote_mta="mx.bob.test",
    original_recipient="rfc822;Bob@bob.test",
    last_attempt_at=1700003600.0,
    final_log_id="q1",
)
REPORT = DsnReport(
    reporting_mta="mail.alice.test",
    sender=parse_address("MAILER-DAEMON@mail.alice.test"),
    to=parse_address("alice@alice.test"),
    language="en",
    arrived_at=1700000000.0,
    recipients=(FAILED,),
    original=ORIGINAL,
    original_is_full=True,
    message_id="m1@mail.alice.test",
    boundary="=_abc",
    date=1700003601.0,
    envelope_id="QQ314159",
)


def _parts(octets: bytes) -> list[EmailMessage]:
    found = message_from_bytes(octets, policy=policy.default)
    assert not found.defects
    assert found.get_content_type() == "multipart/report"
    assert found.get_param("report-type") == "delivery-status"
    return list(found.iter_parts())  # type: ignore[attr-defined]


def _text(octets: bytes) -> str:
    return str(_parts(octets)[0].get_content())


def test_the_fields_for_programs_are_exact() -> None:
    """RFC 3464 §2."""
    octets = compose_dsn(REPORT)
    status = octets.split(b"Content-Type: message/delivery-status\r\n\r\n")[1].split(b"\r\n--")[0]
    assert status.decode() == (
        "Original-Envelope-Id: QQ314159\r\n"
        "Reporting-MTA: dns; mail.alice.test\r\n"
        "Arrival-Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
        "\r\n"
        "Original-Recipient: rfc822; Bob@bob.test\r\n"
        "Final-Recipient: rfc822; bob@bob.test\r\n"
        "Action: failed\r\n"
        "Status: 5.1.1\r\n"
        "Remote-MTA: dns; mx.bob.test\r\n"
        "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n"
        "Last-Attempt-Date: Tue, 14 Nov 2023 23:13:20 +0000\r\n"
        "Final-Log-ID: q1\r\n"
    )


def test_a_person_is_told_what_happened_since_when_and_what_to_do() -> None:
    text = _text(compose_dsn(REPORT))
    for words in (
        "Grüße",
        "bob@bob.test",
        "no mailbox of this name",
        "Check the spelling",
        "no such user",
        "14 Nov 2023",
    ):
        assert words in text
    assert "could NOT be delivered" in text


def test_a_chinese_reader_gets_chinese() -> None:
    octets = compose_dsn(replace(REPORT, language="zh-CN"))
    text = _text(octets)
    assert "没有这个名字的邮箱" in text
    assert "2023-11-14 22:13:20" in text
    assert octets.isascii()
    subject = message_from_bytes(octets, policy=policy.default)["subject"]
    assert subject == "未能送达：Grüße"


def test_the_header_stops_responders_and_joins_the_thread() -> None:
    found = message_from_bytes(compose_dsn(REPORT), policy=policy.default)
    assert found["auto-submitted"] == "auto-replied"
    assert found["in-reply-to"] == "<x@alice.test>"
    assert found["subject"] == "Not delivered: Grüße"
    assert found["to"] == "alice@alice.test"
    assert found["message-id"] == "<m1@mail.alice.test>"
    assert found["mime-version"] == "1.0"


def test_the_letter_comes_back_byte_for_byte() -> None:
    assert b"\r\n\r\n" + ORIGINAL + b"\r\n--=_abc--" in compose_dsn(REPORT)


def test_the_header_alone_comes_back_when_asked() -> None:
    header = ORIGINAL[: ORIGINAL.index(b"\r\n\r\n") + 4]
    octets = compose_dsn(replace(REPORT, original=header, original_is_full=False))
    assert _parts(octets)[2].get_content_type() == "text/rfc822-headers"
    assert b"Hi\r\n" not in octets
    assert "The header of your letter" in _text(octets)


def test_an_endless_header_is_cut_at_a_field() -> None:
    header = b"Subject: x\r\n" + b"X: " + b"y" * 990 + b"\r\n"
    octets = compose_dsn(replace(REPORT, original=header * 100, original_is_full=False))
    assert len(octets) < MAX_RETURNED_HEADER + 5_000


def test_a_delay_says_how_long_it_goes_on() -> None:
    recipient = replace(
        FAILED, action=Action.DELAYED, status=outcome.NO_ANSWER_FROM_HOST, reply=None, will_retry_until=1700432000.0,
        diagnostic="connection refused",
    )  # fmt: skip
    octets = compose_dsn(replace(REPORT, recipients=(recipient,)))
    text = " ".join(_text(octets).split())
    assert "You need not send it again" in text
    assert "Attempts go on until Sun, 19 Nov 2023 22:13:20 +0000" in text
    assert b"Will-Retry-Until: Sun, 19 Nov 2023 22:13:20 +0000\r\n" in octets
    assert b"Diagnostic-Code: x-posthouse; connection refused\r\n" in octets


def test_no_report_without_recipients() -> None:
    with pytest.raises(ValueError, match="recipient"):
        compose_dsn(replace(REPORT, recipients=()))


def test_international_recipients_make_the_global_type() -> None:
    """RFC 6533 §4.1, with ORCPT converted to characters."""
    recipient = replace(
        FAILED, address=parse_address("用户@bob.test"), original_recipient=r"utf-8;\x{7528}\x{6237}@bob.test"
    )
    octets = compose_dsn(replace(REPORT, recipients=(recipient,)))
    assert b"Content-Type: message/global-delivery-status\r\n" in octets
    assert "Final-Recipient: utf-8; 用户@bob.test\r\n".encode() in octets
    assert "Original-Recipient: utf-8; 用户@bob.test\r\n".encode() in octets


@pytest.mark.parametrize(
    ("original", "eight_bit", "kind", "encoding"),
    [
        (ORIGINAL, True, "message/rfc822", "7bit"),
        (ORIGINAL + "ü\r\n".encode(), True, "message/rfc822", "8bit"),
        (ORIGINAL + "ü\r\n".encode(), False, "text/rfc822-headers", None),
        ("Subject: ü\r\n\r\nü\r\n".encode(), True, "message/global", "8bit"),
        ("Subject: ü\r\n\r\nü\r\n".encode(), False, "message/global", "base64"),
        ("Subject: ü\r\n\r\nHi\r\n".encode(), False, "message/global", "base64"),
    ],
)
def test_the_letter_is_returned_in_a_form_that_the_way_back_takes(
    original: bytes, kind: str, encoding: str | None, *, eight_bit: bool
) -> None:
    octets = compose_dsn(replace(REPORT, original=original, may_use_eight_bit=eight_bit))
    assert octets.isascii() or eight_bit
    part = octets.split(b"--=_abc")[3]
    assert f"Content-Type: {kind}\r\n".encode() in part
    if encoding is not None:
        assert f"Content-Transfer-Encoding: {encoding}\r\n".encode() in part


@given(st.text(max_size=200), st.text(max_size=80), st.text(max_size=1500))
def test_no_words_of_a_remote_host_break_the_fields(diagnostic: str, host: str, reply: str) -> None:
    recipient = replace(FAILED, diagnostic=diagnostic, remote_mta=host, reply=RemoteReply(550, None, reply))
    octets = compose_dsn(replace(REPORT, recipients=(recipient, replace(recipient, reply=None))))
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    found = parse_dsn(octets)
    assert found is not None
    assert [one.address for one in found.recipients] == [BOB, BOB]
    assert [one.status for one in found.recipients] == [outcome.BAD_MAILBOX, outcome.BAD_MAILBOX]


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("language", ["en", "zh", "xx"])
def test_every_report_is_read_back(action: Action, language: str) -> None:
    recipient = replace(FAILED, action=action, status=Status(2, 0, 0), will_retry_until=1700432000.0)
    octets = compose_dsn(replace(REPORT, language=language, recipients=(recipient,)))
    found = parse_dsn(octets)
    assert found is not None
    assert found.reporting_mta == "mail.alice.test"
    assert found.envelope_id == "QQ314159"
    assert found.arrival is not None
    assert found.arrival.seconds == 1700000000
    assert found.original_message_id == b"x@alice.test"
    (one,) = found.recipients
    assert (one.action, one.address, one.original_recipient) == (action, BOB, "Bob@bob.test")
    assert one.remote_mta == "mx.bob.test"
    assert one.diagnostic == "550 5.1.1 no such user"


def test_every_cause_and_action_has_words_in_both_languages() -> None:
    for words in (ENGLISH, CHINESE):
        assert set(words.advice) == set(Cause)
        for table in (words.subjects, words.news, words.closing):
            assert set(table) == set(Action)
        for advice in words.advice.values():
            assert advice.happened.format(domain="bob.test")
            assert "{" not in advice.remedy
    assert phrases("zh_TW") is CHINESE
    assert phrases("fr") is ENGLISH


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (outcome.BAD_MAILBOX, Cause.UNKNOWN_MAILBOX),
        (outcome.BAD_DOMAIN, Cause.UNKNOWN_DOMAIN),
        (outcome.NULL_MX, Cause.NO_MAIL_DOMAIN),
        (outcome.MAILBOX_FULL, Cause.MAILBOX_FULL),
        (outcome.MAILBOX_TOO_SMALL, Cause.MAILBOX_FULL),
        (outcome.MESSAGE_TOO_BIG, Cause.TOO_BIG),
        (outcome.NO_ANSWER_FROM_HOST, Cause.HOST_DOWN),
        (outcome.EXPIRED, Cause.EXPIRED),
        (Status(4, 4, 7), Cause.EXPIRED),
        (outcome.ROUTING_LOOP, Cause.LOOP),
        (outcome.NOT_AUTHORIZED, Cause.POLICY),
        (Status(5, 7, 26), Cause.NOT_AUTHENTICATED),
        (Status(4, 7, 1), Cause.LATER),
        (outcome.NON_ASCII_NOT_ALLOWED, Cause.NO_SMTPUTF8),
        (Status(5, 0, 0), Cause.OTHER),
        (Status(4, 0, 0), Cause.LATER),
        (Status(5, 99, 1), Cause.OTHER),
    ],
)
def test_causes(status: Status, cause: Cause) -> None:
    assert cause_of(status) is cause
