# SPDX-License-Identifier: Apache-2.0
"""Which rows of a letter should be there and are not: its note compared with rows, tombstones, journal and history.

Invariant: a letter that was removed by its reader, or never acknowledged, lacks nothing. What was removed left a
tombstone; what was never acknowledged has a UID or an id that somebody else got, or nobody yet.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from posthouse.ports import Reader
from posthouse.store import history, uidset
from posthouse.store.journal import Kind
from posthouse.store.notes import Note, PlacedNote, RecipientNote
from posthouse.store.numbers import SEQUENCE_BITS
from posthouse.store.uidset import Ranges


class Trace(Enum):
    """What the rows know of one placement of a note."""

    PRESENT = 1
    GONE = 2  # removed, or never acknowledged
    LOST = 3  # it was there, and nothing says that it was removed


@dataclass(frozen=True, slots=True)
class Lacks:
    """What is missing of one letter. `emails`: ids that a placement (there or lost) needs; `details` alike."""

    blob: bool = False
    emails: frozenset[int] = frozenset()
    details: frozenset[int] = frozenset()
    places: tuple[PlacedNote, ...] = ()
    is_queued: bool = False  # its row in the queue is lost
    recipients: tuple[RecipientNote, ...] = ()  # of the queue

    @property
    def anything(self) -> bool:
        return self.blob or self.is_queued or bool(self.emails or self.details or self.places or self.recipients)


@dataclass(slots=True)
class _Memory:
    """What is known of one mailbox: UIDs that came by the journal, UIDs that went, and whether its counter misses
    letters."""

    added: Ranges
    removed: Ranges
    uid_next: int
    lost: int


@dataclass(slots=True)
class Evidence:
    """Asks within one read; make a new one for each. `history_since`: letters finished since then (epoch seconds) are
    in history, if they were finished at all."""

    reader: Reader
    history_since: float
    _mailboxes: dict[tuple[int, int], _Memory | None] = field(default_factory=dict)

    def lacks(self, note: Note) -> Lacks:
        places: list[PlacedNote] = []
        wanted: dict[int, None] = {}
        for placed in note.placed:
            match self.trace(placed):
                case Trace.LOST:
                    places.append(placed)
                    wanted[placed.email] = None
                case Trace.PRESENT:
                    wanted[placed.email] = None
                case Trace.GONE:
                    # It may have been copied or moved: then another placement shows it.
                    if self._has("SELECT 1 FROM placement WHERE email = :id LIMIT 1", placed.email):
                        wanted[placed.email] = None
        emails = frozenset(each for each in wanted if not self._has("SELECT 1 FROM email WHERE id = :id", each))
        details = frozenset(
            each for each in wanted if not self._has("SELECT 1 FROM email_detail WHERE email = :id", each)
        )
        is_queued, recipients, needs_blob = self._queue(note)
        needs_blob = needs_blob or bool(wanted)
        return Lacks(
            blob=needs_blob and not self._has("SELECT 1 FROM blob WHERE id = :id", note.blob),
            emails=emails,
            details=details,
            places=tuple(places),
            is_queued=is_queued,
            recipients=recipients,
        )

    def trace(self, placed: PlacedNote) -> Trace:
        row = self.reader.row(
            "SELECT email FROM placement WHERE mailbox = :mailbox AND uid = :uid",
            mailbox=placed.mailbox,
            uid=placed.uid,
        )
        if row is not None:
            return Trace.PRESENT if row[0] == placed.email else Trace.GONE
        memory = self._memory(placed)
        if memory is None or placed.uid >= memory.uid_next or _holds(memory.removed, placed.uid):
            return Trace.GONE
        if _holds(memory.added, placed.uid):
            return Trace.LOST
        # The journal does not reach back so far. The mailbox counts letters that are not there: this is one.
        if memory.lost > 0:
            memory.lost -= 1
            return Trace.LOST
        return Trace.GONE

    def _memory(self, placed: PlacedNote) -> _Memory | None:
        """None: there is no such mailbox (any more)."""
        key = placed.account, placed.mailbox
        if key not in self._mailboxes:
            self._mailboxes[key] = self._remember(*key)
        return self._mailboxes[key]

    def _remember(self, account: int, mailbox: int) -> _Memory | None:
        reader = self.reader
        head = reader.row(
            "SELECT uid_next, total, tombstone_floor, (SELECT COUNT(*) FROM placement WHERE mailbox = :mailbox)"
            " FROM mailbox WHERE id = :mailbox AND account = :account",
            mailbox=mailbox,
            account=account,
        )
        if head is None:
            return None
        # Of removals up to the floor nothing is known any more, so only what came later must have left a tombstone.
        added = reader.rows(
            "SELECT uids FROM journal WHERE account = :account AND mailbox = :mailbox AND kind = :kind"
            " AND modseq > :floor",
            account=account,
            mailbox=mailbox,
            kind=int(Kind.ADDED),
            floor=head[2],
        )
        removed = reader.rows("SELECT uid FROM tombstone WHERE mailbox = :mailbox", mailbox=mailbox)
        return _Memory(
            added=uidset.merged([uidset.from_text(row[0]) for row in added]),
            removed=uidset.from_uids(row[0] for row in removed),
            uid_next=head[0],
            lost=head[1] - head[3],
        )

    def _queue(self, note: Note) -> tuple[bool, tuple[RecipientNote, ...], bool]:
        """Whether its row in the queue is lost, which recipients are, and whether the queue needs its content.

        A recipient that is finished stays with its letter until all are, and then goes into history with it.
        """
        queued = note.queued
        if queued is None:
            return False, (), False
        is_there = self._has("SELECT 1 FROM queue_letter WHERE id = :id", queued.queue_id)
        rows = self.reader.rows("SELECT address FROM queue_recipient WHERE letter = :id", id=queued.queue_id)
        known = frozenset(row[0] for row in rows)
        missing = tuple(each for each in queued.recipients if each.address not in known)
        if is_there or known:
            return not is_there, missing, True
        record = history.letter(self.reader, queued.queue_id)
        finished = frozenset(each.address for each in record.results) if record else frozenset()
        missing = tuple(each for each in missing if each.address not in finished)
        is_lost = bool(missing) and (queued.queue_id >> SEQUENCE_BITS) / 1000 >= self.history_since
        return is_lost, missing if is_lost else (), is_lost

    def _has(self, statement: str, number: int) -> bool:
        return self.reader.row(statement, id=number) is not None


def _holds(ranges: Ranges, uid: int) -> bool:
    return any(first <= uid <= last for first, last in ranges)
