# SPDX-License-Identifier: Apache-2.0
"""Rows of letters for whoever reads a mailbox, many at once: dates, summaries, parsed structure, where content lies.

Invariant: a page costs what is asked for: no column is read that nobody wants, and no content is touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from posthouse.ports import BlobLocation, Reader, Row, Transaction
from posthouse.store import uidset
from posthouse.store.letters import StoredLetter
from posthouse.store.spans import pieces
from posthouse.store.uidset import Ranges

# Letters whose rows are read in one visit to the reader thread: a few milliseconds, and with summaries of a kilobyte
# each some hundred kilobytes of memory.
PAGE = 500
LARGE = 64 * 1024  # octets of content; the header of smaller letters is read with all the rest


@dataclass(frozen=True, slots=True)
class Dated:
    """`received_at` is the internal date, `saved_at` when the letter came into this mailbox."""

    uid: int
    email: int
    thread: int
    received_at: float
    saved_at: float


@dataclass(frozen=True, slots=True)
class Summed:
    """`summary`: packed ENVELOPE values. `ancestors`: ids in References, oldest first; None: not looked at yet."""

    uid: int
    email: int
    summary: bytes
    ancestors: tuple[bytes, ...] | None


@dataclass(frozen=True, slots=True)
class Parsed:
    """What was found out once about content; None: not yet."""

    uid: int
    email: int
    structure: bytes | None
    preview: str | None


@dataclass(frozen=True, slots=True)
class Placed:
    uid: int
    letter: StoredLetter


_DATED = (
    "SELECT p.uid, p.email, e.thread, e.received_at, p.saved_at FROM placement AS p"
    " JOIN email AS e ON e.id = p.email WHERE p.mailbox = :mailbox"
    " AND uid BETWEEN :first AND :last ORDER BY uid"
)
_SUMMED = (
    "SELECT p.uid, p.email, d.summary, d.ancestors FROM placement AS p"
    " JOIN email_detail AS d ON d.email = p.email WHERE p.mailbox = :mailbox"
    " AND uid BETWEEN :first AND :last ORDER BY uid"
)
_PARSED = (
    "SELECT p.uid, p.email, d.structure, d.preview FROM placement AS p"
    " JOIN email_detail AS d ON d.email = p.email WHERE p.mailbox = :mailbox"
    " AND uid BETWEEN :first AND :last ORDER BY uid"
)
_LETTERS = (
    "SELECT p.uid, p.email, e.account, e.blob, e.thread, d.prefix, b.pack, b.pack_offset, b.length, b.hash, e.size,"
    " e.header_size, e.has_dot_lines, e.received_at FROM placement AS p JOIN email AS e ON e.id = p.email"
    " JOIN email_detail AS d ON d.email = p.email JOIN blob AS b ON b.id = e.blob WHERE p.mailbox = :mailbox"
    " AND uid BETWEEN :first AND :last ORDER BY uid"
)


def pages(uids: Ranges, size: int = PAGE) -> Iterator[Ranges]:
    """A set of UIDs that are there, in parts for one visit to the reader each."""
    return uidset.parts(uids, size)


def dated(reader: Reader, mailbox: int, uids: Ranges) -> list[Dated]:
    """In order of UID, as all of these; letters that are not there (any more) are left out."""
    rows = _rows(reader, _DATED, mailbox, uids)
    return [Dated(uid, email, thread, received, saved or received) for uid, email, thread, received, saved in rows]


def summed(reader: Reader, mailbox: int, uids: Ranges) -> list[Summed]:
    return [
        Summed(uid, email, bytes(summary), None if known is None else tuple(bytes(known).split()))
        for uid, email, summary, known in _rows(reader, _SUMMED, mailbox, uids)
    ]


def parsed(reader: Reader, mailbox: int, uids: Ranges) -> list[Parsed]:
    return [
        Parsed(uid, email, None if structure is None else bytes(structure), preview)
        for uid, email, structure, preview in _rows(reader, _PARSED, mailbox, uids)
    ]


def letters(reader: Reader, mailbox: int, uids: Ranges) -> list[Placed]:
    """Where content lies. A letter whose rows are damaged is left out: `letters.retrieve` says which it is."""
    return [_placed(row) for row in _rows(reader, _LETTERS, mailbox, uids)]


# --- plain rows, for those who tell many letters at once: (UID, …), in order ----------------------

_DATES = (
    "SELECT p.uid, e.thread, e.received_at, CASE p.saved_at WHEN 0 THEN e.received_at ELSE p.saved_at END"
    " FROM placement AS p JOIN email AS e ON e.id = p.email WHERE p.mailbox = :mailbox"
    " AND uid BETWEEN :first AND :last ORDER BY uid"
)
_SUMMARIES = (
    "SELECT p.uid, d.summary FROM placement AS p JOIN email_detail AS d ON d.email = p.email"
    " WHERE p.mailbox = :mailbox AND uid BETWEEN :first AND :last ORDER BY uid"
)
_PLACES = (
    "SELECT p.uid, p.email, d.prefix, b.pack, b.pack_offset, b.length, b.hash, p.size, e.header_size,"
    " CASE WHEN b.length > 65536 THEN d.summary END"  # LARGE
    " FROM placement AS p JOIN email AS e ON e.id = p.email JOIN email_detail AS d ON d.email = p.email"
    " JOIN blob AS b ON b.id = e.blob WHERE p.mailbox = :mailbox AND uid BETWEEN :first AND :last ORDER BY uid"
)


def dates(reader: Reader, mailbox: int, uids: Ranges) -> list[Row]:
    """… thread, internal date, when it came into this mailbox."""
    return _rows(reader, _DATES, mailbox, uids)


def summaries(reader: Reader, mailbox: int, uids: Ranges) -> list[Row]:
    """… packed ENVELOPE values."""
    return _rows(reader, _SUMMARIES, mailbox, uids)


def findings(reader: Reader, mailbox: int, uids: Ranges) -> list[Row]:
    """… email, packed structure, preview; None: not found out yet."""
    return _rows(reader, _PARSED, mailbox, uids)


def places(reader: Reader, mailbox: int, uids: Ranges) -> list[Row]:
    """… email, prefix, and where the content lies: pack, offset, length, digest; size of both, size of the content's
    header; packed ENVELOPE values where the content is LARGE."""
    return _rows(reader, _PLACES, mailbox, uids)


def _rows(reader: Reader, statement: str, mailbox: int, uids: Ranges) -> list[Row]:
    found: list[Row] = []
    for piece in pieces(uids):
        found += reader.rows(piece.of(statement), mailbox=mailbox, **piece.parameters)
    return found


def _placed(row: Row) -> Placed:
    return Placed(
        row[0],
        StoredLetter(
            email=row[1],
            account=row[2],
            blob=row[3],
            thread=row[4],
            prefix=bytes(row[5]),
            location=BlobLocation(row[6], row[7], row[8], bytes(row[9])),
            size=row[10],
            header_size=row[11],
            has_dot_lines=bool(row[12]),
            received_at=row[13],
        ),
    )


# --- keeping what was found out -------------------------------------------------------------------

_KEEP_STRUCTURE = "UPDATE email_detail SET structure = :structure WHERE email = :email"
_KEEP_PREVIEW = "UPDATE email_detail SET preview = :preview WHERE email = :email"
_KEEP_ANCESTORS = "UPDATE email_detail SET ancestors = :ancestors WHERE email = :email"


def keep_structures(tx: Transaction, found: Iterable[tuple[int, bytes]]) -> None:
    """(email, packed structure). An email never changes, so these need no mod-sequence and hold for ever."""
    tx.many(_KEEP_STRUCTURE, [{"email": email, "structure": structure} for email, structure in found])


def keep_previews(tx: Transaction, found: Iterable[tuple[int, str]]) -> None:
    tx.many(_KEEP_PREVIEW, [{"email": email, "preview": preview} for email, preview in found])


def keep_ancestors(tx: Transaction, found: Iterable[tuple[int, Iterable[bytes]]]) -> None:
    tx.many(_KEEP_ANCESTORS, [{"email": email, "ancestors": b" ".join(ids)} for email, ids in found])
