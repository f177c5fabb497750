# SPDX-License-Identifier: Apache-2.0
"""A letter in the packs read for making its rows again: whole, hurt, or in a pack of its own.

Invariant: the digest is that of octets whose checksum holds, or UNKNOWN_DIGEST, with which nothing is ever served.
"""

from __future__ import annotations

import contextlib
import hashlib

from posthouse.ports import BlobLocation, StoreFault
from posthouse.store.blobs.inspection import open_pack
from posthouse.store.blobs.record import RECORD_HEADER_SIZE, Damage, Record, RecordKind, scan
from posthouse.store.blobs.shelf import Shelf
from posthouse.store.notes import Note, read_note
from posthouse.store.rebuild import UNKNOWN_DIGEST, Found, found_letter


def letter_of(shelf: Shelf, record: Record | Damage) -> Found | None:
    """None: a record without a note that can be read, or a reference that does not say any more what it means."""
    note = None if not record.note else read_note(record.note)
    if note is None or record.location is None:
        return None
    match record:
        case Record(kind=RecordKind.CONTENT):
            return found_letter(note, digested(record.location, record.content), record.content)
        case Record(kind=RecordKind.REFERENCE):
            return referred(shelf, note, record.location)
        case Damage(kind=RecordKind.CONTENT):
            return hurt(shelf, note, record.location)
        case _:
            return None


def referred(shelf: Shelf, note: Note, location: BlobLocation) -> Found:
    """A letter with a pack of its own. Its trailer says whether it is whole; one that is lost itself, where all else
    fits, speaks for hurt octets of its own rather than of the letter's."""
    found: Record | Damage | None = None
    size = 0
    with contextlib.suppress(StoreFault):
        pack = open_pack(shelf, location.pack)
        if pack.is_another:  # whatever is whole in it is somebody else's letter, its subject too
            return found_letter(note, _unknown(location), b"")
        size = len(pack.view)
        found = next(iter(scan(pack.view, pack.header)), None)
    if isinstance(found, Record) and found.location == location:
        return found_letter(note, digested(location, found.content), found.content)
    octets = rest(shelf, location)
    fits = size == location.offset + location.length + RECORD_HEADER_SIZE
    if isinstance(found, Damage) and found.note is None and fits and len(octets) == location.length:
        return found_letter(note, digested(location, memoryview(octets)), octets)
    return hurt(shelf, note, location)


def hurt(shelf: Shelf, note: Note, location: BlobLocation) -> Found:
    """What is left of it may still tell its subject."""
    return found_letter(note, _unknown(location), rest(shelf, location))


def _unknown(location: BlobLocation) -> BlobLocation:
    return BlobLocation(location.pack, location.offset, location.length, UNKNOWN_DIGEST)


def rest(shelf: Shelf, location: BlobLocation) -> bytes:
    """As many of the octets as there are, whole or not."""
    try:
        return shelf.read(location.pack, location.offset, location.length)
    except StoreFault:
        return b""


def digested(location: BlobLocation, content: memoryview) -> BlobLocation:
    return BlobLocation(location.pack, location.offset, location.length, hashlib.sha256(content).digest())
