# SPDX-License-Identifier: Apache-2.0
"""Reads delivery status notifications of any software: which recipients, what became of them.

Reading never fails and takes time in proportion to the octets looked at (at most MAX_READ). What a field says
is given as a value where it can be understood and is empty or None where not.
"""

from __future__ import annotations

import base64
import binascii
import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass

from posthouse.mail.address import Address, AddressError, parse_address
from posthouse.mail.dates import Date, parse_date
from posthouse.mail.dsn import Action
from posthouse.mail.encoded_word import decode_unlabelled
from posthouse.mail.header import HeaderScan, scan_header, split_fields, unfold
from posthouse.outcome import Status

MAX_READ = 1 << 20  # octets: the fields stand before the returned letter, which may be large
MAX_DEPTH = 4  # multiparts inside multiparts; a report is one, lists and scanners wrap it once more
MAX_PARTS = 100  # parts looked at; a report has three
MAX_RECIPIENTS = 10_000  # groups read; ten times what one mail transaction may name
MAX_VALUE = 4_000  # characters of one field that are kept

_LINE_END = re.compile(rb"\r\n?|\n")
_TYPE = re.compile(rb"\s*([A-Za-z0-9!#$&^_.+\-]+)\s*/\s*([A-Za-z0-9!#$&^_.+\-]+)")
_BOUNDARY = re.compile(rb";\s*boundary\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s;]+))", re.IGNORECASE)
_QUOTED_PAIR = re.compile(rb"\\(.)")
_STATUS = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d.])")
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9\-/.]*")
_EMPTY_LINES = re.compile(rb"\r\n(?:[ \t]*\r\n)+")

_STATUS_TYPES = (b"message/delivery-status", b"message/global-delivery-status")
_LETTER_TYPES = (b"message/rfc822", b"message/global", b"text/rfc822-headers", b"message/global-headers")


@dataclass(frozen=True, slots=True)
class ReadRecipient:
    """One group of per-recipient fields (RFC 3464 §2.3). Addresses are text without their type.

    `address` is the final recipient as a value; None where it is none that could be mailed to.
    """

    final_recipient: str
    original_recipient: str
    address: Address | None
    action: Action | None
    status: Status | None
    remote_mta: str
    diagnostic: str
    last_attempt: Date | None
    will_retry_until: Date | None


@dataclass(frozen=True, slots=True)
class ReadDsn:
    """A notification. `original_message_id` is that of the returned letter, without angle brackets, or b""."""

    reporting_mta: str
    envelope_id: str
    arrival: Date | None
    recipients: tuple[ReadRecipient, ...]
    original_message_id: bytes


def parse_dsn(octets: bytes) -> ReadDsn | None:
    """Read a letter; None when it has no part that reports delivery status. Any line ends will do."""
    text = _LINE_END.sub(b"\r\n", octets[:MAX_READ])
    if text.startswith(b"From "):  # an mbox separator
        text = text.partition(b"\r\n")[2]
    status: bytes | None = None
    message_id = b""
    for kind, body in _leaves(text):
        if kind in _STATUS_TYPES and status is None:
            status = body
        elif kind in _LETTER_TYPES and not message_id:
            message_id = scan_header(body.lstrip(b"\r\n")).message_id
    return None if status is None else _read_status(status, message_id)


def _leaves(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, decoded body) of every part that is no multipart, in order."""
    waiting = [(text, 0)]
    left = MAX_PARTS
    while waiting and left:
        left -= 1
        entity, depth = waiting.pop()
        scan = scan_header(entity)
        body = entity[scan.header_size :]
        value = scan.get(b"content-type") or b""
        match = _TYPE.match(value)
        kind = b"text/plain" if match is None else (match[1] + b"/" + match[2]).lower()
        boundary = _BOUNDARY.search(value)
        if kind.startswith(b"multipart/") and boundary is not None and depth < MAX_DEPTH:
            mark = boundary[2] if boundary[1] is None else _QUOTED_PAIR.sub(rb"\1", boundary[1])
            waiting += [(part, depth + 1) for part in reversed(_split(body, mark))]
        elif kind in _STATUS_TYPES or kind in _LETTER_TYPES:
            yield kind, _decoded(scan, body)


def _split(body: bytes, mark: bytes) -> list[bytes]:
    """The parts between the delimiter lines (RFC 2046 §5.1.1); what follows the closing one is dropped."""
    pieces = (b"\r\n" + body).split(b"\r\n--" + mark.rstrip())
    parts: list[bytes] = []
    for piece in pieces[1 : MAX_PARTS + 1]:
        if piece.startswith(b"--"):
            break
        parts.append(piece.partition(b"\r\n")[2])
    return parts


def _decoded(scan: HeaderScan, body: bytes) -> bytes:
    encoding = (scan.get(b"content-transfer-encoding") or b"").lower()
    if encoding == b"quoted-printable":
        return quopri.decodestring(body)
    if encoding == b"base64":
        try:
            return base64.b64decode(body)
        except binascii.Error:
            return body
    return body


def _read_status(body: bytes, message_id: bytes) -> ReadDsn:
    whole: dict[bytes, str] = {}
    recipients: list[ReadRecipient] = []
    for group in _EMPTY_LINES.split(body.strip(b"\r\n") + b"\r\n"):
        fields = _fields(group + b"\r\n")
        if b"final-recipient" in fields or b"action" in fields or b"original-recipient" in fields:
            if len(recipients) >= MAX_RECIPIENTS:
                break
            recipients.append(_recipient(fields))
        if not recipients or b"reporting-mta" in fields:  # some put everything into one group
            whole = {**fields, **whole}
    return ReadDsn(
        reporting_mta=_without_type(whole.get(b"reporting-mta", "")),
        envelope_id=whole.get(b"original-envelope-id", ""),
        arrival=parse_date(whole.get(b"arrival-date", "")),
        recipients=tuple(recipients),
        original_message_id=message_id,
    )


def _fields(group: bytes) -> dict[bytes, str]:
    """Name in lower case -> value, the first of each name."""
    fields: dict[bytes, str] = {}
    for field in split_fields(group):
        name = field.name.lower()
        if name and name not in fields:
            fields[name] = decode_unlabelled(unfold(group[field.value_start : field.end]))[:MAX_VALUE]
    return fields


def _recipient(fields: dict[bytes, str]) -> ReadRecipient:
    final = _without_type(fields.get(b"final-recipient", ""))
    try:
        address = parse_address(final.strip("<>"))
    except AddressError:
        address = None
    word = fields.get(b"action", "").split("(")[0].strip().lower()
    status = _STATUS.search(fields.get(b"status", ""))
    return ReadRecipient(
        final_recipient=final,
        original_recipient=_without_type(fields.get(b"original-recipient", "")),
        address=address,
        action=Action(word) if word in set(Action) else None,
        status=Status(*map(int, status.groups())) if status is not None else None,
        remote_mta=_without_type(fields.get(b"remote-mta", "")),
        diagnostic=_without_type(fields.get(b"diagnostic-code", "")),
        last_attempt=parse_date(fields.get(b"last-attempt-date", "")),
        will_retry_until=parse_date(fields.get(b"will-retry-until", "")),
    )


def _without_type(value: str) -> str:
    """`rfc822; a@b` → `a@b` (RFC 3464 §2.1.2): a type is a word before the first semicolon."""
    kind, semicolon, rest = value.partition(";")
    return rest.strip() if semicolon and _ADDRESS_TYPE.fullmatch(kind.strip()) else value.strip()
