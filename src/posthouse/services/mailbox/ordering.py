# SPDX-License-Identifier: Apache-2.0
"""SORT and THREAD of letters that a search has found (RFC 5256): what they need is read in pages, and no more is kept
of each letter than it is sorted by.

Invariant: a letter that has gone meanwhile is left out; all others are there once.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from posthouse.mail.base_subject import base_subject
from posthouse.mail.header import message_ids, scan_header
from posthouse.mail.search import SortCriterion, SortKey, ThreadAlgorithm
from posthouse.mail.sorting import collation_key, fields_of, order, sent_date
from posthouse.mail.threads import Forest, Member, links, thread, written
from posthouse.ports import BlobStore, DamagedContent, Database, Workers
from posthouse.services.mailbox.search import unpacked
from posthouse.store import reading, uidset
from posthouse.store.catalogue import Letters
from posthouse.store.reading import Summed
from posthouse.store.uidset import Ranges

# Ids of References that count: threads of people are some ten letters deep, and each id is a step of the algorithm.
MAX_ANCESTORS = 100

# Letters sorted or threaded at once, which takes a millisecond or two; more are a worker's.
HERE = 200

_DATED = frozenset((SortCriterion.ARRIVAL, SortCriterion.DATE))  # the internal date stands in for a lost Date field

T = TypeVar("T")


class Sorter:
    """Orders and threads letters of one mailbox at a time."""

    def __init__(self, database: Database, blobs: BlobStore, workers: Workers) -> None:
        self._database = database
        self._blobs = blobs
        self._workers = workers

    async def sort(self, mailbox: int, letters: Letters, found: array[int], keys: Sequence[SortKey]) -> array[int]:
        """The UIDs in the order of the keys, the first of which counts most. Raises StoreFault."""
        fields = fields_of(keys)
        needs_dates = any(key.criterion in _DATED for key in keys)
        gathered = _Gathered()
        for page in reading.pages(uidset.from_uids(found)):
            here = letters.within(page)
            there = set(here.uids)
            dates: dict[int, float] = {}
            summaries: dict[int, dict[bytes, bytes | None]] = {}
            if needs_dates:
                rows = await self._database.read(partial(reading.dated, mailbox=mailbox, uids=page))
                dates = {row.uid: row.received_at for row in rows}
                there &= dates.keys()
            if fields:
                for row in await self._database.read(partial(reading.summed, mailbox=mailbox, uids=page)):
                    values = unpacked(row.summary)
                    summaries[row.uid] = {field: values.get(field) for field in fields}
                there &= summaries.keys()
            for uid, size in zip(here.uids, here.sizes, strict=True):
                if uid in there:
                    gathered.add(uid, size, dates.get(uid, 0.0), summaries.get(uid))
        places = await self._work(partial(order, gathered, keys), len(gathered.uids))
        return array("I", map(gathered.uids.__getitem__, places))

    async def thread(self, mailbox: int, found: array[int], algorithm: ThreadAlgorithm) -> tuple[Forest, array[int]]:
        """The threads, and the UIDs that their numbers stand for. Raises StoreFault."""
        uids = array("I")
        members: list[Member] = []
        for page in reading.pages(uidset.from_uids(found)):
            rows = await self._database.read(partial(reading.dated, mailbox=mailbox, uids=page))
            dates = {row.uid: row.received_at for row in rows}
            summed = await self._database.read(partial(reading.summed, mailbox=mailbox, uids=page))
            ancestors: dict[int, tuple[bytes, ...]] = {}
            if algorithm is ThreadAlgorithm.REFERENCES:
                ancestors = await self._ancestors(mailbox, summed)
            there = [row for row in summed if row.uid in dates]
            uids.extend(row.uid for row in there)
            members += await self._work(partial(_members, there, ancestors, dates), len(there))
        return await self._work(partial(thread, members, algorithm), len(members)), uids

    async def written(self, forest: Forest, numbers: Sequence[int]) -> str:
        """See `mail.threads.written`."""
        return await self._work(partial(written, forest, numbers), len(numbers))

    async def _work(self, function: Callable[[], T], letters: int) -> T:
        return function() if letters <= HERE else await self._workers.run(function, pool="search")

    async def _ancestors(self, mailbox: int, rows: Sequence[Summed]) -> dict[int, tuple[bytes, ...]]:
        """By UID. Those of letters from before they were kept are looked up once, in the letters' headers."""
        known = {row.uid: row.ancestors for row in rows if row.ancestors is not None}
        unknown = uidset.from_uids(row.uid for row in rows if row.ancestors is None)
        if unknown:
            looked_up = await self._look_up(mailbox, unknown)
            known |= {uid: ids for uid, _, ids in looked_up}
            keep = [(email, ids) for _, email, ids in looked_up]
            await self._database.write(lambda tx: reading.keep_ancestors(tx, keep))
        return known

    async def _look_up(self, mailbox: int, uids: Ranges) -> list[tuple[int, int, tuple[bytes, ...]]]:
        found: list[tuple[int, int, tuple[bytes, ...]]] = []
        for row in await self._database.read(partial(reading.letters, mailbox=mailbox, uids=uids)):
            letter = row.letter
            try:
                content = await self._blobs.open(letter.location)
            except DamagedContent:
                continue
            values = scan_header(bytes(content[: letter.header_size])).raw(b"references")
            ids = message_ids(values[0]) if values else []
            found.append((row.uid, letter.email, tuple(ids[-MAX_ANCESTORS:])))
        return found


def _members(
    rows: Sequence[Summed], ancestors: Mapping[int, Sequence[bytes]], dates: Mapping[int, float]
) -> list[Member]:
    return [_member(row, ancestors.get(row.uid, ()), dates[row.uid]) for row in rows]


def _member(row: Summed, ancestors: Sequence[bytes], received: float) -> Member:
    summary = unpacked(row.summary)
    if not summary:
        return Member(b"", (), base_subject(b""), received)
    message_id, ids = links(summary, ancestors)
    subject = base_subject(summary[b"subject"] or b"")
    return Member(
        message_id, ids, subject._replace(text=collation_key(subject.text)), sent_date(summary[b"date"], received)
    )


class _Gathered:
    """Implements `sorting.Sortable`."""

    def __init__(self) -> None:
        self.uids = array("I")
        self._sizes = array("Q")
        self._received = array("d")
        self._summaries: list[Mapping[bytes, bytes | None]] = []

    def add(self, uid: int, size: int, received: float, summary: Mapping[bytes, bytes | None] | None) -> None:
        self.uids.append(uid)
        self._sizes.append(size)
        self._received.append(received)
        if summary is not None:
            self._summaries.append(summary)

    def summaries(self) -> Sequence[Mapping[bytes, bytes | None]]:
        return self._summaries

    def received(self) -> Sequence[float]:
        return self._received

    def sizes(self) -> Sequence[int]:
        return self._sizes
