# SPDX-License-Identifier: Apache-2.0
"""Composes delivery status notifications (RFC 3461 to 3464, RFC 6522, RFC 6533).

Three parts: words for a person, fields for a program, the letter or its header. ASCII types where everything
in them is ASCII, the `global` types where it is not. Nothing that a remote host said can break a field.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from posthouse.mail.address import Address
from posthouse.mail.compose import (
    Part,
    address_field,
    field,
    message,
    multipart,
    one_line,
    structured_field,
    text_part,
    to_base64,
)
from posthouse.mail.dates import format_date, format_for_people
from posthouse.mail.dsn_texts import Phrases, cause_of, phrases
from posthouse.mail.encoded_word import decode_header_text
from posthouse.mail.header import Buffer, HeaderScan, scan_header
from posthouse.outcome import RemoteReply, Status

MAX_RETURNED_HEADER = 64 * 1024  # octets of header that come back; a longer one is cut at a field's end
MAX_DIAGNOSTIC = 900  # characters of a diagnostic: even without a blank in it, it fits in one line (998 octets)
MAX_SUBJECT = 200  # characters of the letter's subject that are repeated
_WIDTH = 72  # columns of the text for people

_EMBEDDED_UNICODE = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")  # RFC 6533 §3, utf-8-addr-xtext


class Action(StrEnum):
    """RFC 3464 §2.3.3."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


@dataclass(frozen=True, slots=True)
class DsnRecipient:
    """What became of one recipient. Times are seconds since the epoch.

    `diagnostic` is one line for people, `reply` the remote host's own words where it spoke. `remote_mta` is a
    host name or "". `original_recipient` is ORCPT as `addr-type;address`, xtext decoded.
    """

    address: Address
    action: Action
    status: Status
    diagnostic: str = ""
    reply: RemoteReply | None = None
    remote_mta: str = ""
    original_recipient: str | None = None
    last_attempt_at: float | None = None
    will_retry_until: float | None = None
    final_log_id: str = ""


@dataclass(frozen=True, slots=True)
class DsnReport:
    """One report to one sender. Times are seconds since the epoch, `zone_minutes` east of UTC is how they print.

    `to` is the reverse-path of the letter; whoever makes a report for the null reverse-path has a defect.
    `original` is the letter or its header block alone. `message_id` has no angle brackets.
    Without `may_use_eight_bit` the report is 7-bit whatever came back, which may cost the letter's body.
    """

    reporting_mta: str
    sender: Address
    to: Address
    language: str
    arrived_at: float
    recipients: tuple[DsnRecipient, ...]
    original: Buffer
    original_is_full: bool
    message_id: str
    boundary: str
    date: float
    envelope_id: str | None = None
    received_from_mta: str | None = None
    zone_minutes: int = 0
    may_use_eight_bit: bool = True


def compose_dsn(report: DsnReport) -> bytes:
    """The whole notification: CRLF lines, to be sent with the null reverse-path. Raises ValueError for none.

    The result is ASCII unless 8-bit content or a `global` part came back in it: check `isascii()` to know
    whether it needs 8BITMIME.
    """
    if not report.recipients:
        raise ValueError("a report needs a recipient")
    scan = scan_header(report.original)
    words = phrases(report.language)
    subject = _subject(scan)
    returned, is_whole = _returned(report, scan)
    text = text_part(_human_text(report, words, subject, is_whole=is_whole))
    header = Part(b"Content-Language: " + words.tag.encode() + b"\r\n" + text.header, text.body)
    parts = [header, _status_part(report), returned]
    title = words.subjects[_main_action(report)].format(subject=subject).strip().rstrip(":：")
    fields = [
        address_field("From", [(words.display_name, report.sender)]),
        address_field("To", [("", report.to)]),
        field("Subject", title),
        structured_field("Date", format_date(report.date, report.zone_minutes)),
        structured_field("Message-ID", f"<{report.message_id}>"),
        # RFC 3834 §5: no responder answers it, whatever its reverse-path became on the way.
        b"Auto-Submitted: auto-replied\r\n",
    ]
    if scan.message_id.isascii() and 0 < len(scan.message_id) <= MAX_DIAGNOSTIC:
        about = f"<{scan.message_id.decode('ascii')}>"
        fields += [structured_field("In-Reply-To", about), structured_field("References", about)]
    container = multipart(
        "report",
        parts,
        report.boundary,
        parameters="; report-type=delivery-status",
        preamble="This is a delivery status notification in MIME format.",
    )
    return message(b"".join(fields), container)


def _main_action(report: DsnReport) -> Action:
    """The one that the subject tells: the worst."""
    order = list(Action)
    return min((recipient.action for recipient in report.recipients), key=order.index)


def _subject(scan: HeaderScan) -> str:
    return decode_header_text(scan.get(b"subject") or b"")[:MAX_SUBJECT]


# --- first part: for a person --------------------------------------------------------------------


def _human_text(report: DsnReport, words: Phrases, subject: str, *, is_whole: bool) -> str:
    opening = words.opening if subject else words.opening_without_subject
    arrived = format_for_people(report.arrived_at, report.zone_minutes, words.tag)
    blocks = [opening.format(host=report.reporting_mta, subject=subject, date=arrived)]
    closings: list[str] = []
    for action in Action:
        recipients = [recipient for recipient in report.recipients if recipient.action is action]
        if not recipients:
            continue
        blocks.append(words.news[action])
        blocks += [_about(report, words, recipient) for recipient in recipients]
        if words.closing[action]:
            closings.append(words.closing[action])
    blocks += closings
    blocks.append(words.attached_whole if is_whole else words.attached_header)
    return "\n\n".join(_wrap(block) for block in blocks) + "\n"


def _about(report: DsnReport, words: Phrases, recipient: DsnRecipient) -> str:
    """One recipient: the address, then indented what happened, what to do, since when, and the exact words."""
    lines = [recipient.address.unicode]
    if recipient.action in (Action.FAILED, Action.DELAYED):
        advice = words.advice[cause_of(recipient.status)]
        lines += [
            "    " + advice.happened.format(domain=recipient.address.domain.unicode),
            "    " + advice.remedy,
        ]
        since = format_for_people(report.arrived_at, report.zone_minutes, words.tag)
        if recipient.action is Action.DELAYED and recipient.will_retry_until is not None:
            until = format_for_people(recipient.will_retry_until, report.zone_minutes, words.tag)
            lines.append("    " + words.retry.format(since=since, until=until))
        elif recipient.last_attempt_at is not None and recipient.last_attempt_at - report.arrived_at >= 60:
            until = format_for_people(recipient.last_attempt_at, report.zone_minutes, words.tag)
            lines.append("    " + words.tried.format(since=since, until=until))
    spoken = _spoken(recipient)
    if spoken:
        host = recipient.remote_mta
        lead = words.said.format(host=host) if host and recipient.reply is not None else words.detail
        lines += ["    " + lead, "        " + spoken]
    return "\n".join(lines)


def _spoken(recipient: DsnRecipient) -> str:
    """The reply as the host gave it, or our own diagnostic, on one line."""
    if recipient.reply is None:
        return one_line(recipient.diagnostic)[:MAX_DIAGNOSTIC]
    status = f"{recipient.reply.status} " if recipient.reply.status is not None else ""
    return one_line(f"{recipient.reply.code} {status}{recipient.reply.text}")[:MAX_DIAGNOSTIC]


def _wrap(block: str) -> str:
    """Lines of at most _WIDTH columns (a wide character counts two), broken at blanks, the indent kept."""
    out: list[str] = []
    for line in block.split("\n"):
        indent = line[: len(line) - len(line.lstrip(" "))]
        current = ""
        for word in line.split():
            if current and _columns(indent + current) + 1 + _columns(word) > _WIDTH:
                out.append(indent + current)
                current = word
            else:
                current = f"{current} {word}" if current else word
        out.append(indent + current)
    return "\n".join(out)


def _columns(text: str) -> int:
    return sum(2 if char >= "\u1100" else 1 for char in text)


# --- second part: for a program ------------------------------------------------------------------


def _status_part(report: DsnReport) -> Part:
    """RFC 3464 §2.2 and §2.3; `message/global-delivery-status` (RFC 6533 §4.1) when it is not all ASCII."""
    zone = report.zone_minutes
    fields = [structured_field("Reporting-MTA", f"dns; {report.reporting_mta}")]
    if report.envelope_id:
        fields.insert(0, structured_field("Original-Envelope-Id", report.envelope_id))
    if report.received_from_mta:
        fields.append(structured_field("Received-From-MTA", f"dns; {report.received_from_mta}"))
    fields.append(structured_field("Arrival-Date", format_date(report.arrived_at, zone)))
    for recipient in report.recipients:
        fields.append(b"\r\n")
        fields += _recipient_fields(recipient, zone)
    body = b"".join(fields)
    if body.isascii():
        return Part(b"Content-Type: message/delivery-status\r\n", body)
    return _global_part("message/global-delivery-status", body, report)


def _global_part(content_type: str, body: bytes, report: DsnReport) -> Part:
    """RFC 6533 §4: 8bit where it may be, base64 elsewhere (these types allow it, unlike message/rfc822)."""
    encoding = "8bit" if report.may_use_eight_bit else "base64"
    header = f"Content-Type: {content_type}\r\nContent-Transfer-Encoding: {encoding}\r\n".encode("ascii")
    return Part(header, body if report.may_use_eight_bit else to_base64(body))


def _recipient_fields(recipient: DsnRecipient, zone: int) -> list[bytes]:
    fields: list[bytes] = []
    if recipient.original_recipient:
        fields.append(structured_field("Original-Recipient", _original_recipient(recipient.original_recipient)))
    kind = "rfc822" if recipient.address.is_ascii else "utf-8"
    fields += [
        structured_field("Final-Recipient", f"{kind}; {recipient.address}"),
        structured_field("Action", recipient.action),
        structured_field("Status", str(recipient.status)),
    ]
    if recipient.remote_mta:
        fields.append(structured_field("Remote-MTA", f"dns; {recipient.remote_mta}"))
    spoken = _spoken(recipient)
    if spoken:
        kind = "smtp" if recipient.reply is not None else "x-posthouse"
        fields.append(structured_field("Diagnostic-Code", f"{kind}; {spoken.encode('ascii', 'replace').decode()}"))
        if not spoken.isascii():  # RFC 6533 §4.1: Diagnostic-Code itself is ASCII
            fields.append(structured_field("Localized-Diagnostic", f"i-default; {spoken}"))
    if recipient.last_attempt_at is not None:
        fields.append(structured_field("Last-Attempt-Date", format_date(recipient.last_attempt_at, zone)))
    if recipient.final_log_id:
        fields.append(structured_field("Final-Log-ID", recipient.final_log_id))
    if recipient.will_retry_until is not None and recipient.action is Action.DELAYED:
        fields.append(structured_field("Will-Retry-Until", format_date(recipient.will_retry_until, zone)))
    return fields


def _original_recipient(text: str) -> str:
    """ORCPT as a field value; the `\\x{4E2D}` of its utf-8 type become characters (RFC 6533 §4.1)."""
    kind, _, address = text.partition(";")
    if kind.lower() == "utf-8":
        address = _EMBEDDED_UNICODE.sub(_embedded, address)
    return f"{kind}; {address}"


def _embedded(match: re.Match[str]) -> str:
    code = int(match[1], 16)
    if code < 0x20 or code == 0x7F or 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
        return match[0]
    return chr(code)


# --- third part: the letter ----------------------------------------------------------------------


def _returned(report: DsnReport, scan: HeaderScan) -> tuple[Part, bool]:
    """The letter, or its header where that is all there is or all that can be sent; and whether it is the letter."""
    if report.original_is_full:
        octets = bytes(report.original)
        is_global = not scan.block.isascii()
        if octets.isascii() or (report.may_use_eight_bit and not is_global):
            encoding = b"7bit" if octets.isascii() else b"8bit"
            header = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: " + encoding + b"\r\n"
            return Part(header, octets), True
        if is_global:
            return _global_part("message/global", octets, report), True
    block = _short(scan)
    if block.isascii():
        return Part(b"Content-Type: text/rfc822-headers\r\n", block), False
    return _global_part("message/global-headers", block, report), False


def _short(scan: HeaderScan) -> bytes:
    block = scan.block
    if len(block) <= MAX_RETURNED_HEADER:
        return block
    ends = [one.end for one in scan.fields if one.end <= MAX_RETURNED_HEADER]
    return block[: ends[-1]] if ends else b""
