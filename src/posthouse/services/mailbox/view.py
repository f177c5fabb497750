# SPDX-License-Identifier: Apache-2.0
"""SelectedView: what one client has been told of its selected mailbox, and what it is to be told next.

Invariant: a message has the number that this client gives it, whatever has happened in the mailbox meanwhile. An
expunge counts from the moment when it is told, and it is told only where the caller allows it (RFC 9051 §7.5.1).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from posthouse.mail.number_set import NumberSet
from posthouse.store import uidset
from posthouse.store.journal import Entry, Kind
from posthouse.store.uidset import Ranges


@dataclass(frozen=True, slots=True)
class Expunged:
    """Sequence numbers, from the last to the first: each is right as it stands, since only larger ones have gone."""

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Vanished:
    """The same for clients that want UIDs (RFC 7162 §3.2.10.2, RFC 9586 §3.6)."""

    uids: Ranges


@dataclass(frozen=True, slots=True)
class Exists:
    """`recent` is told to clients of RFC 3501 alone."""

    count: int
    recent: int


@dataclass(frozen=True, slots=True)
class Changed:
    """Flags or keywords of these are other ones now. Pairs, growing; the caller reads the flags and tells them."""

    numbers: array[int]
    uids: array[int]


Told = Expunged | Vanished | Exists | Changed


class SelectedView:
    """One client's mailbox.

    `learn` takes in what happened, `tell` gives what is to be written now. `uids` may be an array that others share
    and that grows at its end: only what was told is looked at, and nothing is written into it.
    """

    __slots__ = (
        "_changed",
        "_count",
        "_gone",
        "_gone_since",
        "_is_own",
        "_modseq",
        "_new",
        "_own_units",
        "_recent",
        "_saved",
        "_told_modseq",
        "_told_recent",
        "_uids",
        "flags_modseq",
        "mailbox",
        "marks_recent",
        "uses_vanished",
    )

    def __init__(
        self, mailbox: int, uids: array[int], modseq: int, *, recent: Ranges = (), uses_vanished: bool = False
    ) -> None:
        self.mailbox = mailbox
        # What comes while this session looks on is \Recent for it (RFC 3501 §2.3.2: a session SHOULD rather take a
        # letter for recent than not). For the next one that selects the mailbox it is so too.
        self.marks_recent = False
        self.uses_vanished = uses_vanished  # since ENABLE QRESYNC or UIDONLY
        # Up to here the client's flags are looked up, where they are not everybody's; None: all that was learned.
        self.flags_modseq: int | None = None
        self._uids = uids
        self._count = len(uids)
        self._is_own = False
        self._modseq = self._told_modseq = modseq
        self._gone: Ranges = ()  # the client knows them, they are not there, and that is not told yet
        self._gone_since = 0  # mod-sequence of the oldest of those; 0: none
        self._new: Ranges = ()  # there, not told yet
        # Not told yet, by mod-sequence of the unit (0: of several); what the client does not know may be among them.
        self._changed: dict[int, Ranges] = {}
        self._own_units: set[int] = set()
        self._recent = recent
        self._saved: Ranges = ()
        self._told_recent = self.recent_count

    # --- what the client knows ------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._count

    @property
    def uids(self) -> array[int]:
        """UIDs of what was told, by number. A copy."""
        return self._uids[: self._count]

    @property
    def learned_modseq(self) -> int:
        """All changes up to this mod-sequence were taken in: where the journal is to be read on."""
        return self._modseq

    @property
    def told_modseq(self) -> int:
        """All changes up to this mod-sequence were told: the HIGHESTMODSEQ that this client may be given. What is
        held back must be found again by a client that goes on from here another day (RFC 7162 §3.1.2.1)."""
        return self._told_modseq

    @property
    def has_news(self) -> bool:
        return bool(self._gone or self._new or self._changed)

    @property
    def has_gone(self) -> bool:
        """Whether the client still counts messages that are no longer there (EXPUNGEISSUED, RFC 5530 §3)."""
        return bool(self._gone)

    def is_gone(self, uid: int) -> bool:
        return _is_in(uid, self._gone)

    def number(self, uid: int) -> int:
        """The sequence number; 0 where the client knows no such message."""
        index = bisect_left(self._uids, uid, 0, self._count)
        return index + 1 if index < self._count and self._uids[index] == uid else 0

    def uid(self, number: int) -> int:
        """Raises IndexError where there is no such number."""
        if not 1 <= number <= self._count:
            raise IndexError(number)
        return self._uids[number - 1]

    def numbers(self, uids: array[int]) -> array[int]:
        """Sequence numbers of growing UIDs that the client knows."""
        if not uids:
            return array("I")
        first = bisect_left(self._uids, uids[0], 0, self._count)
        if self._uids[first : first + len(uids)] == uids:  # neighbours: the common case, without a look at each
            return array("I", range(first + 1, first + len(uids) + 1))
        found, here = array("I"), first
        for uid in uids:
            here = bisect_left(self._uids, uid, here, self._count)
            found.append(here + 1)
        return found

    # --- sets as clients say them ---------------------------------------------------------------------

    def has_numbers(self, wanted: NumberSet) -> bool:
        """Whether there is a message of each number: any other is a client's mistake (RFC 9051 §9: seq-number).

        `*` needs a message to mean, also within a range.
        """
        if wanted.has_star and not self._count:
            return False
        return wanted.highest <= self._count

    def by_numbers(self, wanted: NumberSet) -> array[int]:
        """UIDs of the messages with these sequence numbers, growing. `$` is what was saved (RFC 5182 §2.1)."""
        found = [
            self._uids[first - 1 : min(last, self._count)] for first, last in wanted.resolved(self._count) if first
        ]
        return self._with_saved(found, wanted)

    def by_uids(self, wanted: NumberSet) -> array[int]:
        """UIDs of this set that the client knows, growing: others are ignored (RFC 9051 §6.4.9).

        `*` is the highest UID, so `559:*` has it in it even where it is lower.
        """
        largest = self._uids[self._count - 1] if self._count else 0
        return self._with_saved(self._slices(wanted.resolved(largest)), wanted)

    def within(self, uids: Ranges) -> array[int]:
        """UIDs of these ranges that the client knows, growing."""
        return _joined(self._slices(uids))

    def _slices(self, uids: Ranges) -> list[array[int]]:
        found: list[array[int]] = []
        begin = 0
        for first, last in uids:
            begin = bisect_left(self._uids, first, begin, self._count)
            end = bisect_right(self._uids, last, begin, self._count)
            if begin < end:
                found.append(self._uids[begin:end])
            begin = end
        return found

    def _with_saved(self, found: list[array[int]], wanted: NumberSet) -> array[int]:
        if not wanted.has_saved:
            return _joined(found)
        if not found:
            return self.within(self._saved)
        return array("I", sorted({*chain.from_iterable(found), *self.within(self._saved)}))

    # --- the saved result -----------------------------------------------------------------------------

    @property
    def saved(self) -> Ranges:
        """UIDs of the result that `$` stands for; those expunged since are gone from it once that was told."""
        return self._saved

    def save(self, uids: Iterable[int]) -> None:
        """Remember the result of SEARCH RETURN (SAVE); nothing when it failed (RFC 5182 §2.1)."""
        self._saved = uidset.from_uids(uids)

    # --- \Recent --------------------------------------------------------------------------------------

    @property
    def recent(self) -> Ranges:
        return self._recent

    @property
    def recent_count(self) -> int:
        return sum(map(len, self._slices(self._recent)))

    def is_recent(self, uid: int) -> bool:
        return _is_in(uid, self._recent)

    def add_recent(self, uids: Ranges) -> None:
        r"""These are \Recent in this session and in no other (RFC 3501 §2.3.2)."""
        self._recent = uidset.merged((self._recent, uids))

    # --- taking in ------------------------------------------------------------------------------------

    def did(self, modseq: int) -> None:
        """This session made that unit of work, and answers for its changes of flags itself: they are no news. (Another
        session that shares the arrays may have looked in between, so it may have been learned already.)"""
        if modseq > self._modseq:
            self._own_units.add(modseq)
        else:
            self._changed.pop(modseq, None)

    def learn(self, entries: Iterable[Entry], modseq: int, *, is_difference: bool = False) -> None:
        """Take in what the journal says up to `modseq`. What was taken in before does not matter, nor do other
        mailboxes. A UID is never given twice, so what came and went between two looks is simply never told.

        `is_difference`: the entries are no units of work but all that is different, own changes among it.
        """
        own_units = () if is_difference else self._own_units
        added: list[tuple[int, int]] = []
        expunged: list[tuple[int, int]] = []
        gone_since = 0
        for entry in entries:
            if entry.modseq <= self._modseq or entry.mailbox != self.mailbox:
                continue
            match entry.kind:
                case Kind.ADDED:
                    added += entry.uids
                case Kind.CHANGED:
                    if entry.modseq not in own_units:
                        unit = 0 if is_difference else entry.modseq
                        self._changed[unit] = uidset.merged((self._changed.get(unit, ()), entry.uids))
                case Kind.EXPUNGED:
                    expunged += entry.uids
                    if not gone_since and self.within(entry.uids):
                        gone_since = entry.modseq
                case Kind.CREATED | Kind.RENAMED | Kind.DELETED:
                    pass  # not about its messages
        if added:
            self._new = uidset.from_ranges((*self._new, *added))
        if expunged:
            self._expunge(uidset.from_ranges(expunged), gone_since)
        if modseq > self._modseq:
            self._modseq = modseq
            if self._own_units:
                self._own_units = {unit for unit in self._own_units if unit > modseq}

    def _expunge(self, expunged: Ranges, since: int) -> None:
        self._new = uidset.difference(self._new, expunged)
        gone = self.within(expunged)
        if gone:
            self._gone = uidset.merged((self._gone, uidset.from_uids(gone)))
            self._gone_since = self._gone_since or since

    def told_flags(self, uids: Iterable[int]) -> None:
        """The client has just been given the flags of these, as they are by what was learned: no news any more."""
        if self._changed:
            told = uidset.from_uids(uids)
            left = {
                unit: pending if self._is_later(unit) else uidset.difference(pending, told)
                for unit, pending in self._changed.items()
            }
            self._changed = {unit: pending for unit, pending in left.items() if pending}

    def _is_later(self, unit: int) -> bool:
        """Whether that unit of work is not in the flags that the client is given."""
        return self.flags_modseq is not None and self.flags_modseq < (unit or self._modseq)

    # --- telling --------------------------------------------------------------------------------------

    def tell(self, *, expunges: bool) -> list[Told]:
        """What is to be written now, in this order; from then on the client knows it.

        `expunges`: they may be told (not while FETCH, STORE, SEARCH, SORT or THREAD by number is answered, and not
        while no command is in progress; RFC 9051 §7.5.1, RFC 5256 §3).
        """
        told: list[Told] = []
        # Of what was known before: of new ones the client will ask.
        later = {unit: pending for unit, pending in self._changed.items() if self._is_later(unit)}
        pending = uidset.merged([uids for unit, uids in self._changed.items() if unit not in later])
        changed = self.within(uidset.difference(pending, self._gone))
        self._changed = later
        if expunges and self._gone:
            told.append(self._drop())
        has_new = bool(self._new)
        if has_new:
            if self.marks_recent:
                self.add_recent(self._new)
            self._append(array("I", uidset.expand(self._new)))
            self._new = ()
        recent = self.recent_count
        if has_new or recent > self._told_recent:
            told.append(Exists(self._count, recent))
        self._told_recent = recent
        if changed:
            told.append(Changed(self.numbers(changed), changed))
        self._told_modseq = self._gone_since - 1 if self._gone_since else self._modseq
        if later and self.flags_modseq is not None:
            self._told_modseq = min(self._told_modseq, self.flags_modseq)
        return told

    def _drop(self) -> Expunged | Vanished:
        gone = self.within(self._gone)
        numbers = self.numbers(gone)
        # The runs between the numbers that go, so that a large mailbox is not gone through one by one.
        starts = chain((0,), numbers)
        ends = chain((number - 1 for number in numbers), (self._count,))
        self._uids = _joined([self._uids[start:end] for start, end in zip(starts, ends, strict=True) if start < end])
        self._count = len(self._uids)
        self._is_own = True
        self._saved = uidset.difference(self._saved, self._gone)
        self._recent = uidset.difference(self._recent, self._gone)
        told = Vanished(self._gone) if self.uses_vanished else Expunged(tuple(reversed(numbers)))
        self._gone, self._gone_since = (), 0
        return told

    def _append(self, added: array[int]) -> None:
        end = self._count + len(added)
        if self._uids[self._count : end] == added:  # the shared array has grown by the same
            self._count = end
            return
        if not self._is_own:
            self._uids = self._uids[: self._count]
            self._is_own = True
        self._uids.extend(added)
        self._count = end

    def share(self, uids: array[int]) -> None:
        """Use this array from now on where its beginning is what this client knows: sessions of a large mailbox then
        have one between them."""
        if self._uids is not uids and self._uids[: self._count] == uids[: self._count]:
            self._uids = uids
            self._is_own = False


def _is_in(uid: int, ranges: Ranges) -> bool:
    index = bisect_right(ranges, (uid, uidset.MAX_UID)) - 1
    return index >= 0 and uid <= ranges[index][1]


def _joined(slices: list[array[int]]) -> array[int]:
    if len(slices) == 1:
        return slices[0]
    joined = array("I")
    for each in slices:
        joined.extend(each)
    return joined
