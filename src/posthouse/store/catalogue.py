# SPDX-License-Identifier: Apache-2.0
"""A mailbox as arrays: what its open sessions share in memory, read in pages and kept up to date by the journal.

Invariant: what a function here gives is one moment of the mailbox: `Head.modseq` and the rows belong together.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from itertools import chain

from posthouse.ports import Reader, Row, Transaction
from posthouse.store import uidset
from posthouse.store.flags import DELETED
from posthouse.store.journal import Entry, Kind
from posthouse.store.spans import pieces
from posthouse.store.uidset import Ranges

# Letters read in one visit to the reader thread, which others wait for meanwhile: some twenty milliseconds.
PAGE = 20_000
# Rows of the journal after which reading the mailbox anew is cheaper than following what happened.
MAX_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class Head:
    """The mailbox's own row: what SELECT tells, before any letter is looked at. `modseq` is HIGHESTMODSEQ."""

    mailbox: int
    account: int
    uid_validity: int
    uid_next: int
    modseq: int
    total: int
    unseen: int
    octets: int
    recent_from: int


@dataclass(slots=True)
class Letters:
    """Parallel arrays in order of UID. `keywords` are indexes into `texts`, which are as placements have them.

    `sizes` in octets. The arrays are typed "I" (UIDs, keywords), "Q" (ids, mod-sequences, sizes) and "B" (flags).
    """

    uids: array[int] = field(default_factory=lambda: array("I"))
    emails: array[int] = field(default_factory=lambda: array("Q"))
    modseqs: array[int] = field(default_factory=lambda: array("Q"))
    flags: array[int] = field(default_factory=lambda: array("B"))
    sizes: array[int] = field(default_factory=lambda: array("Q"))
    keywords: array[int] = field(default_factory=lambda: array("I"))
    texts: list[str] = field(default_factory=lambda: [""])

    def __len__(self) -> int:
        return len(self.uids)

    def within(self, uids: Ranges) -> Letters:
        """Those of these UIDs, in arrays of their own."""
        end = 0
        found: Letters | None = None
        for first, last in uids:
            start = bisect_left(self.uids, first, end)
            end = bisect_right(self.uids, last, start)
            if found is None:
                found = self._cut(start, end)
                continue
            found.uids += self.uids[start:end]
            found.emails += self.emails[start:end]
            found.modseqs += self.modseqs[start:end]
            found.flags += self.flags[start:end]
            found.sizes += self.sizes[start:end]
            found.keywords += self.keywords[start:end]
        return Letters(texts=self.texts) if found is None else found

    def _cut(self, start: int, end: int) -> Letters:
        return Letters(
            self.uids[start:end],
            self.emails[start:end],
            self.modseqs[start:end],
            self.flags[start:end],
            self.sizes[start:end],
            self.keywords[start:end],
            self.texts,
        )

    def without(self, uids: Ranges) -> Letters:
        """All others, in arrays of their own."""
        return self.within(uidset.difference(uidset.EVERY_UID, uids))

    def take_in(self, news: Letters) -> None:
        """Put letters as they are now in the place of what was known of them, and new ones at the end."""
        known = bisect_right(news.uids, self.uids[-1]) if len(self) else 0
        words = self._words_of(news)
        start = bisect_left(self.uids, news.uids[0]) if known else 0
        if self.uids[start : start + known] == news.uids[:known]:  # neighbours, or none: without a look at each
            self._put(slice(start, start + known), news, words, slice(0, known))
        else:
            for index in range(known):
                start = bisect_left(self.uids, news.uids[index], start)
                if self.uids[start] == news.uids[index]:
                    self._put(slice(start, start + 1), news, words, slice(index, index + 1))
        end = len(self)
        self.uids += news.uids[known:]
        self.emails += news.emails[known:]
        self.sizes += news.sizes[known:]
        self._put(slice(end, end), news, words, slice(known, len(news)))

    def _words_of(self, other: Letters) -> array[int]:
        """The other's keywords as indexes into the texts here."""
        places = {text: index for index, text in enumerate(self.texts)}
        for text in other.texts:
            if text not in places:
                places[text] = len(self.texts)
                self.texts.append(text)
        here = [places[text] for text in other.texts]
        if here == list(range(len(here))):
            return other.keywords
        return array("I", map(here.__getitem__, other.keywords))

    def _put(self, here: slice, news: Letters, words: array[int], there: slice) -> None:
        self.modseqs[here] = news.modseqs[there]
        self.flags[here] = news.flags[there]
        self.keywords[here] = words[there]


@dataclass(frozen=True, slots=True)
class News:
    """What happened after some mod-sequence. `entries`: the journal's, of this mailbox. `letters`: those that they
    name as added or changed, as they are now. `is_complete` False: too much, or nobody knows; read all anew."""

    head: Head
    entries: tuple[Entry, ...]
    letters: Letters
    is_complete: bool


_HEAD = (
    "SELECT id, account, uid_validity, uid_next, modseq, total, unseen, octets, recent_from FROM mailbox"
    " WHERE id = :mailbox"
)
_ROWS = (
    "SELECT uid, email, modseq, flags, size FROM placement WHERE mailbox = :mailbox AND uid > :after"
    " ORDER BY uid LIMIT :limit"
)
# Most letters have none: a second look at the page costs less than a text in every row.
_WORDS = (
    "SELECT uid, keywords FROM placement WHERE mailbox = :mailbox AND uid BETWEEN :first AND :last"
    " AND keywords <> '' ORDER BY uid"
)
_SOME = (
    "SELECT uid, email, modseq, flags, size FROM placement WHERE mailbox = :mailbox AND uid BETWEEN :first AND :last"
    " ORDER BY uid"
)
_ENTRIES = (
    "SELECT modseq, mailbox, kind, uids, at FROM journal WHERE account = :account AND modseq > :after"
    " AND mailbox = :mailbox ORDER BY modseq, kind LIMIT :limit"
)


def head(reader: Reader, mailbox: int) -> Head | None:
    row = reader.row(_HEAD, mailbox=mailbox)
    return None if row is None else Head(*row)


def page(reader: Reader, mailbox: int, after: int = 0, limit: int = PAGE) -> Letters:
    """The letters behind UID `after`, at most `limit`."""
    letters = _letters(reader.rows(_ROWS, mailbox=mailbox, after=after, limit=limit))
    if len(letters):
        _add_words(letters, reader.rows(_WORDS, mailbox=mailbox, first=letters.uids[0], last=letters.uids[-1]))
    return letters


def some(reader: Reader, mailbox: int, uids: Ranges) -> Letters:
    """Those letters that are there."""
    rows: list[Row] = []
    words: list[Row] = []
    for piece in pieces(uids):
        rows += reader.rows(piece.of(_SOME), mailbox=mailbox, **piece.parameters)
        words += reader.rows(piece.of(_WORDS), mailbox=mailbox, **piece.parameters)
    letters = _letters(rows)
    _add_words(letters, words)
    return letters


def news(reader: Reader, mailbox: int, after: int, uid_validity: int) -> News | None:
    """What happened after mod-sequence `after`; one row is read where nothing did. None: no such mailbox any more."""
    now = head(reader, mailbox)
    if now is None:
        return None
    if now.uid_validity == uid_validity and now.modseq <= after:
        return News(now, (), Letters(), is_complete=True)
    floor = reader.row("SELECT journal_floor FROM account WHERE id = :account", account=now.account)
    if floor is None or after < floor[0] or now.uid_validity != uid_validity:
        return News(now, (), Letters(), is_complete=False)
    rows = reader.rows(_ENTRIES, account=now.account, after=after, mailbox=mailbox, limit=MAX_ENTRIES)
    if len(rows) == MAX_ENTRIES:
        return News(now, (), Letters(), is_complete=False)
    entries = tuple(Entry(row[0], row[1], Kind(row[2]), uidset.from_text(row[3]), row[4]) for row in rows)
    named = uidset.merged([entry.uids for entry in entries if entry.kind in (Kind.ADDED, Kind.CHANGED)])
    return News(now, entries, some(reader, mailbox, named), is_complete=True)


def _letters(rows: list[Row]) -> Letters:
    flat = array("Q", chain.from_iterable(rows))  # zip(*rows) takes twice as long
    return Letters(
        uids=array("I", flat[0::5]),
        emails=flat[1::5],
        modseqs=flat[2::5],
        flags=array("B", flat[3::5]),
        sizes=flat[4::5],
        keywords=array("I", bytes(4 * len(rows))),
    )


def _add_words(letters: Letters, rows: list[Row]) -> None:
    known = {text: index for index, text in enumerate(letters.texts)}
    place = 0
    for uid, text in rows:
        index = known.get(text)
        if index is None:
            index = known[text] = len(letters.texts)
            letters.texts.append(text)
        place = bisect_left(letters.uids, uid, place)  # both are in order of UID
        letters.keywords[place] = index


# --- STATUS ---------------------------------------------------------------------------------------


def deleted(reader: Reader, mailbox: int) -> tuple[int, int]:
    r"""How many letters are flagged \Deleted, and their octets (RFC 9051 §6.3.11, RFC 9208 §4.1.4)."""
    row = reader.row(
        "SELECT COUNT(*), CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM placement WHERE mailbox = :mailbox"
        " AND (flags & :deleted) <> 0",
        mailbox=mailbox,
        deleted=DELETED,
    )
    assert row is not None  # an aggregate
    return row[0], row[1]


def recent(reader: Reader, mailbox: int, recent_from: int) -> int:
    r"""How many letters no session has been shown as \Recent (RFC 3501 §6.3.10)."""
    row = reader.row(
        "SELECT COUNT(*) FROM placement WHERE mailbox = :mailbox AND uid >= :recent_from",
        mailbox=mailbox,
        recent_from=recent_from,
    )
    assert row is not None  # an aggregate
    return int(row[0])


def first_unseen(reader: Reader, mailbox: int) -> int | None:
    r"""UID of the first letter without \Seen (RFC 3501 §6.3.1); None: all are seen."""
    row = reader.row(
        "SELECT uid FROM placement WHERE mailbox = :mailbox AND (flags & 1) = 0 ORDER BY uid LIMIT 1", mailbox=mailbox
    )
    return None if row is None else int(row[0])


def number_of(reader: Reader, head: Head, uid: int) -> int:
    """The sequence number of a letter that is there; without a look at the others where none has ever gone."""
    if head.total == head.uid_next - 1:
        return uid
    row = reader.row(
        "SELECT COUNT(*) FROM placement WHERE mailbox = :mailbox AND uid <= :uid", mailbox=head.mailbox, uid=uid
    )
    assert row is not None  # an aggregate
    return int(row[0])


def claim_recent(tx: Transaction, mailbox: int) -> Ranges:
    r"""What is \Recent from now on in the session that asks, and in no other. No mod-sequence: nothing else changes."""
    row = tx.row("SELECT recent_from, uid_next FROM mailbox WHERE id = :mailbox", mailbox=mailbox)
    if row is None or row[0] >= row[1]:
        return ()
    tx.run("UPDATE mailbox SET recent_from = :uid_next WHERE id = :mailbox", uid_next=row[1], mailbox=mailbox)
    return ((row[0], row[1] - 1),)
