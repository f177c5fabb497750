# SPDX-License-Identifier: Apache-2.0
"""Our own reports about any letter and any reply: well formed, no line too long, and our own reader reads them."""

from __future__ import annotations

from fuzz.choices import Choices
from posthouse.mail.address import Address, AddressError, parse_address
from posthouse.mail.dsn import Action, DsnRecipient, DsnReport, compose_dsn
from posthouse.mail.dsn_reader import parse_dsn
from posthouse.mail.header import scan_header
from posthouse.outcome import RemoteReply, Status

DICTIONARY = "dsn.dict"
MAX_LINE = 998  # octets without CRLF, RFC 5322 §2.1.1
_ACTIONS = tuple(Action)
_PLAIN = parse_address("bob@bob.test")


def target(data: bytes) -> None:
    choices = Choices(data)
    bits = choices.number(256)
    recipients = tuple(_recipient(choices) for _ in range(1 + choices.number(3)))
    original = choices.rest
    report = DsnReport(
        reporting_mta="mail.alice.test",
        sender=parse_address("mailer-daemon@alice.test"),
        to=parse_address("alice@alice.test"),
        language="zh" if bits & 1 else "en",
        arrived_at=1_700_000_000.0,
        recipients=recipients,
        original=original,
        original_is_full=bits & 2 == 2,
        message_id="1@alice.test",
        boundary="=_9f86d081884c7d659a2feaa0c55ad015",
        date=1_700_000_100.0,
        envelope_id=choices.text(30) if bits & 4 else None,
        may_use_eight_bit=bits & 8 == 8,
    )
    try:
        letter = compose_dsn(report)
    except ValueError as error:
        if "boundary" not in str(error):
            raise
        return
    scan = scan_header(letter)
    assert scan.is_well_formed, "the header of a report is not well formed"
    assert scan.block.isascii()
    if all(len(line) <= MAX_LINE for line in original.split(b"\r\n")):
        assert all(len(line) <= MAX_LINE for line in letter.split(b"\r\n")), "a line is too long"
    assert bits & 8 or letter.isascii(), "8-bit octets where none may be"
    if b"\r" in original.replace(b"\r\n", b"") or b"\n" in original.replace(b"\r\n", b""):
        return  # the server takes no such letters
    read = parse_dsn(letter)
    assert read is not None, "our own report is none"
    assert len(read.recipients) == len(recipients), "recipients are lost in a report, or come from nowhere"
    for said, heard in zip(recipients, read.recipients, strict=True):
        assert heard.action is said.action
        assert heard.status == said.status
        assert heard.address == said.address, "another recipient is reported"


def _recipient(choices: Choices) -> DsnRecipient:
    bits = choices.number(256)
    try:
        address: Address = parse_address(choices.text(40)) if bits & 1 else _PLAIN
    except AddressError:
        address = _PLAIN
    status = Status(5, choices.number(8), choices.number(20))
    return DsnRecipient(
        address,
        _ACTIONS[bits % len(_ACTIONS)],
        status,
        diagnostic=choices.text(60) if bits & 2 else "",
        reply=RemoteReply(550, status if bits & 4 else None, choices.text(60)) if bits & 8 else None,
        remote_mta="mx.bob.test" if bits & 16 else "",
        original_recipient=f"{('rfc822', 'utf-8')[bits // 32 % 2]};{choices.text(40)}" if bits & 64 else None,
        last_attempt_at=1_700_000_050.0 if bits & 128 else None,
        will_retry_until=1_700_400_000.0,
    )
