# SPDX-License-Identifier: Apache-2.0
"""The header scan and its edits: never an exception, every octet accounted for, nothing else touched."""

from __future__ import annotations

import contextlib

from fuzz.choices import Choices
from posthouse.mail.header import (
    ENVELOPE_FIELDS,
    MAX_FIELDS,
    MAX_MESSAGE_ID,
    MAX_REFERENCES,
    insert_fields,
    remove_fields,
    scan_header,
    unpack_envelope,
)
from posthouse.mail.trace import delivered_before, is_looping
from posthouse.store.threads import base_subject, keys

DICTIONARY = "header.dict"


def target(data: bytes) -> None:
    choices = Choices(data)
    packed = choices.octets(60)
    letter = choices.rest
    scan = scan_header(letter)
    assert scan.header_size <= len(letter) or letter == b""
    fields = scan.fields
    position = 0
    for field in fields:
        assert field.start == position, "the fields have a gap"
        assert field.start <= field.value_start <= field.end
        position = field.end
    assert position == len(scan.block) or len(fields) >= MAX_FIELDS, "the fields are not the whole block"
    envelope = unpack_envelope(scan.pack_envelope())
    assert set(envelope) == set(ENVELOPE_FIELDS)
    assert len(scan.message_id) <= MAX_MESSAGE_ID
    assert len(scan.references) <= MAX_REFERENCES
    subject = envelope[b"subject"] or b""
    base_subject(subject).encode("utf-8", "surrogatepass")
    assert len(keys(scan.message_id, scan.in_reply_to, scan.references, subject)) <= MAX_REFERENCES + 2
    is_looping(scan)
    delivered_before(scan, [])
    _edit(letter)
    with contextlib.suppress(ValueError):
        unpack_envelope(packed)


def _edit(letter: bytes) -> None:
    without = remove_fields(letter, (b"Bcc", b"subject"))
    assert len(without) <= len(letter)
    scan = scan_header(without)
    assert b"bcc" not in scan or scan.is_too_big, "a removed field is still there"
    try:
        more = insert_fields(b"A: b\r\n\r\n", letter)
    except ValueError:
        return
    assert more.endswith(b"A: b\r\n\r\n")
    assert scan_header(more).is_well_formed or len(letter) > MAX_FIELDS, "an insertion spoils the header"
