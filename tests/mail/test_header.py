# SPDX-License-Identifier: Apache-2.0
"""The header scan: what it finds, what it tolerates, and that edits touch nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail.header import (
    ENVELOPE_FIELDS,
    MAX_FIELDS,
    MAX_HEADER,
    insert_fields,
    remove_fields,
    scan_header,
    split_fields,
    unpack_envelope,
)

LETTER = (
    b"Received: from a.test\r\n\tby b.test; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
    b"received: from c.test by a.test; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
    b"From: Alice <alice@alice.test>\r\n"
    b"To: bob@bob.test,\r\n carol@example.test\r\n"
    b"Bcc: secret@example.test,\r\n\tanother@example.test\r\n"
    b"Subject:  a folded\r\n subject \r\n"
    b"Message-ID: <one@alice.test>\r\n"
    b"References: <r1@x> <r2@x>\r\n\t<r3\r\n @x>\r\n"
    b"In-Reply-To: your letter of Monday <r3@x>\r\n"
    b"\r\n"
    b"Subject: not a field\r\n"
)


def test_finds_the_empty_line_and_every_field() -> None:
    scan = scan_header(LETTER)
    assert LETTER[scan.header_size :] == b"Subject: not a field\r\n"
    assert scan.block == LETTER[: scan.header_size - 2]
    assert scan.is_well_formed
    assert scan.count(b"received") == 2
    assert scan.get(b"subject") == b"a folded subject"
    assert scan.get(b"to") == b"bob@bob.test, carol@example.test"
    assert scan.get(b"sender") is None
    assert b"bcc" in scan
    assert b"sender" not in scan
    assert scan.raw(b"subject") == [b"  a folded\r\n subject "]
    assert scan.all(b"received")[1] == b"from c.test by a.test; Mon, 1 Jan 2024 00:00:00 +0000"


def test_message_ids_lose_brackets_and_blanks_that_folding_put_inside() -> None:
    scan = scan_header(LETTER)
    assert scan.message_id == b"one@alice.test"
    assert scan.references == [b"r1@x", b"r2@x", b"r3@x"]
    assert scan.in_reply_to == b"r3@x"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"<a@b>", b"a@b"),
        (b" a@b ", b"a@b"),
        (b"<>", b""),
        (b"", b""),
        (b"<" + b"x" * 2000 + b">", b""),
        (b"(comment) <a@b>", b"a@b"),
        (b"<a@b", b""),
    ],
)
def test_odd_message_ids(value: bytes, expected: bytes) -> None:
    assert scan_header(b"Message-Id: " + value + b"\r\n\r\n").message_id == expected


def test_only_the_last_eight_references_are_kept() -> None:
    value = b" ".join(b"<%d@x>" % number for number in range(2000))
    assert scan_header(b"References: " + value + b"\r\n\r\n").references == [b"%d@x" % n for n in range(1992, 2000)]


@pytest.mark.parametrize(
    ("octets", "size", "names", "well_formed"),
    [
        (b"\r\nbody", 2, [], True),
        (b"", 0, [], False),
        (b"A: 1\r\n", 6, [b"A"], False),
        (b"A: 1", 4, [b"A"], False),
        (b"A: 1\r\n\r\n", 8, [b"A"], True),
        (b"A : 1\r\n\r\n", 9, [b"A"], True),  # RFC 5322 §4.5: blanks before the colon
        (b"no field at all\r\nA: 1\r\n\r\n", 25, [b"", b"A"], False),
        (b"From alice Mon Jan 1\r\nA: 1\r\n\r\n", 30, [b"", b"A"], False),  # an mbox separator
        (b" starts folded\r\nA: 1\r\n\r\n", 24, [b"", b"A"], False),
        (b"A: 1\r\n \r\nB: 2\r\n\r\n", 17, [b"A", b"B"], True),  # a continuation of blanks only
        (b"A: 1\rB: 2\nC: 3\r\n\r\n", 18, [b"A"], True),  # bare CR and LF end nothing
        (b"A:\r\n\r\n", 6, [b"A"], True),
        (b"\xff: 1\r\nA: 1\r\n\r\n", 14, [b"", b"A"], False),
        (b": empty name\r\n\r\n", 16, [b""], False),
    ],
)
def test_malformed_headers_are_read_on(octets: bytes, size: int, names: list[bytes], *, well_formed: bool) -> None:
    scan = scan_header(octets)
    assert scan.header_size == size
    assert [field.name for field in scan.fields] == names
    assert scan.is_well_formed is well_formed


def test_takes_views_without_an_end_of_header_in_reach() -> None:
    for kind in (bytes, bytearray, memoryview):
        assert scan_header(kind(LETTER)).message_id == b"one@alice.test"


def test_header_larger_than_the_limit_is_said_to_be() -> None:
    octets = b"A: 1\r\n" + b"B: " + b"x" * MAX_HEADER + b"\r\n\r\nbody"
    for view in (octets, memoryview(octets)):
        scan = scan_header(view)
        assert scan.is_too_big
        assert not scan.is_well_formed
        assert scan.header_size == len(octets) - 4
        assert scan.get(b"a") == b"1"


def test_fields_beyond_the_limit_are_not_kept() -> None:
    scan = scan_header(b"A: 1\r\n" * (MAX_FIELDS + 1) + b"B: 1\r\n\r\n")
    assert scan.is_too_big
    assert scan.count(b"a") == MAX_FIELDS
    assert b"b" not in scan


def test_envelope_round_trip_with_long_and_repeated_fields() -> None:
    header = (
        b"To: a@x\r\nTo: b@x\r\nSubject: "
        + b"s" * 300
        + b"\r\nCc: "
        + b"c" * 70_000
        + b"\r\nFrom: f\r\nFrom: g\r\n\r\n"
    )
    envelope = unpack_envelope(scan_header(header).pack_envelope())
    assert list(envelope) == list(ENVELOPE_FIELDS)
    assert envelope[b"to"] == b"a@x, b@x"
    assert envelope[b"subject"] == b"s" * 300
    assert envelope[b"cc"] == b"c" * 70_000
    assert envelope[b"from"] == b"f"
    assert envelope[b"date"] is None


def test_packed_envelope_is_msgpack() -> None:
    msgspec = pytest.importorskip("msgspec")
    packed = scan_header(LETTER).pack_envelope()
    assert msgspec.msgpack.decode(packed) == list(unpack_envelope(packed).values())


@pytest.mark.parametrize(
    "packed", [b"", b"\x9a", b"\x9a\xc4", b"\x9a" + b"\xc0" * 9, b"\x9a" + b"\xc0" * 11, b"\x9aabc"]
)
def test_what_is_no_packed_envelope_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match="not a packed envelope"):
        unpack_envelope(packed)


def test_removing_bcc_leaves_every_other_octet() -> None:
    start = LETTER.index(b"Bcc:")
    end = LETTER.index(b"Subject:  a")
    assert remove_fields(LETTER, [b"BCC"]) == LETTER[:start] + LETTER[end:]


def test_removing_stops_at_the_empty_line_and_keeps_lines_that_are_no_fields() -> None:
    octets = b"rubbish\r\nBcc: a\r\nbcc : b\r\nBcc-Not: c\r\n\r\nBcc: body\r\n"
    assert remove_fields(octets, [b"bcc"]) == b"rubbish\r\nBcc-Not: c\r\n\r\nBcc: body\r\n"


def test_inserting_goes_on_top() -> None:
    assert insert_fields(b"A: 1\r\n\r\n", b"B: 2\r\n x\r\nC: 3\r\n") == b"B: 2\r\n x\r\nC: 3\r\nA: 1\r\n\r\n"
    assert insert_fields(b"A: 1\r\n", b"") == b"A: 1\r\n"


@pytest.mark.parametrize("fields", [b"A: 1", b"A\r\n", b"\r\n", b"A: 1\r\n\r\n", b"A: 1\r\n\r\nB: 1\r\n", b" x: 1\r\n"])
def test_inserting_anything_but_whole_fields_is_refused(fields: bytes) -> None:
    with pytest.raises(ValueError, match=r"field|empty line"):
        insert_fields(b"A: 1\r\n\r\n", fields)


_PIECES = st.lists(
    st.sampled_from([b"A", b"Bcc", b":", b" ", b"\t", b"\r\n", b"\r", b"\n", b"x", b"\xe9", b"<a@b>", b"\0", b"To"]),
    max_size=40,
).map(b"".join)


@given(_PIECES)
def test_the_fields_are_the_whole_block_whatever_stands_there(octets: bytes) -> None:
    scan = scan_header(octets)
    assert b"".join(scan.block[field.start : field.end] for field in scan.fields) == scan.block
    assert 0 <= scan.header_size <= len(octets)
    assert octets.startswith(scan.block)
    unpack_envelope(scan.pack_envelope())
    named = [field.name.lower() for field in scan.fields if field.name]
    assert sum(scan.count(name) for name in set(named)) == len(named)


@given(_PIECES)
def test_removal_is_byte_exact(octets: bytes) -> None:
    left = remove_fields(octets, [b"bcc"])
    kept = b"".join(octets[field.start : field.end] for field in split_fields(octets) if field.name.lower() != b"bcc")
    assert left.startswith(kept)
    assert len(octets) - len(left) == sum(
        field.end - field.start for field in split_fields(octets) if field.name.lower() == b"bcc"
    )


@given(
    st.lists(st.tuples(st.from_regex(r"[!-9;-~]{1,20}", fullmatch=True), st.from_regex(r"[!-~]{1,30}", fullmatch=True)))
)
def test_composed_headers_come_back_field_by_field(fields: list[tuple[str, str]]) -> None:
    block = "".join(f"{name}: {value}\r\n" for name, value in fields).encode()
    scan = scan_header(block + b"\r\nbody")
    assert scan.is_well_formed
    assert [field.name.decode() for field in scan.fields] == [name for name, _ in fields]
    assert scan.header_size == len(block) + 2
