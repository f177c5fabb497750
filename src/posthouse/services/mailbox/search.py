# SPDX-License-Identifier: Apache-2.0
"""Searching a mailbox without an index: the arrays first, then dates, summaries, headers and bodies of what is left.

Invariant: nothing is read of a letter that is decided already, at most one page of letters is held at a time, and no
letter is found that the client has not been told of.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence
from functools import partial
from itertools import compress
from typing import assert_never

from posthouse.mail.header import unpack_envelope
from posthouse.mail.search import PartialRange, ReturnOption, SearchKey
from posthouse.mail.structure import parse
from posthouse.mail.structure_pack import unpack
from posthouse.ports import BlobStore, DamagedContent, Database
from posthouse.services.mailbox.program import NOTHING, Facts, Level, Program
from posthouse.services.mailbox.view import SelectedView
from posthouse.store import reading, uidset
from posthouse.store.catalogue import Letters
from posthouse.store.letters import StoredLetter
from posthouse.store.uidset import Ranges

# Letters whose content is looked at before others on this thread have their turn: a letter of 10 KB is some fifty
# microseconds, so a millisecond or two. Large ones have theirs after each.
BODIES_AT_ONCE = 32
LARGE = 256 * 1024  # octets


def visible(letters: Letters, view: SelectedView) -> Letters:
    """Of what is in the mailbox that which this client has been told of."""
    known = view.uids
    return letters if known == letters.uids else letters.within(uidset.from_uids(known))


class Searcher:
    """Finds letters of one mailbox at a time."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    async def find(self, key: SearchKey, letters: Letters, view: SelectedView, now: float) -> array[int]:
        """UIDs, growing, of the letters that the program finds. `letters`: see `visible`.

        Raises StoreFault; content that is damaged has no text to be found.
        """
        program = Program(key, letters, view, now)
        marks, undecided = program.at_once()
        for start in range(0, len(undecided), reading.PAGE):
            page = [Facts(index) for index in undecided[start : start + reading.PAGE]]
            for level in program.levels:
                page = await self._decide(program, level, page, letters, view.mailbox, marks)
                if not page:
                    break
        return array("I", compress(letters.uids, marks))

    async def _decide(
        self, program: Program, level: Level, page: list[Facts], letters: Letters, mailbox: int, marks: bytearray
    ) -> list[Facts]:
        """Read one thing of these letters; which of them need another look. What has gone meanwhile is not found."""
        uids = uidset.from_uids(letters.uids[facts.index] for facts in page)
        by_uid = {letters.uids[facts.index]: facts for facts in page}
        here: dict[int, StoredLetter] = {}
        match level:
            case Level.ARRAYS:
                read = page
            case Level.DATES:
                read = await self._dates(mailbox, uids, by_uid)
            case Level.SUMMARY:
                read = await self._summaries(mailbox, uids, by_uid)
            case Level.HEADER | Level.BODY:
                rows = await self._database.read(partial(reading.letters, mailbox=mailbox, uids=uids))
                here = {row.uid: row.letter for row in rows}
                read = [facts for uid, facts in by_uid.items() if uid in here]
                if level is Level.BODY:
                    await self._structures(mailbox, uids, by_uid)
            case _:
                assert_never(level)
        left: list[Facts] = []
        for number, facts in enumerate(read, 1):
            if here:
                stored = here[letters.uids[facts.index]]
                await self._open(stored, facts, with_body=level is Level.BODY)
                if level is Level.BODY and (number % BODIES_AT_ONCE == 0 or stored.size > LARGE):
                    await asyncio.sleep(0)
            facts.level = level
            is_found = program.judge(facts)
            facts.content, facts.structure = NOTHING, None  # a page holds no bodies
            if is_found is None:
                left.append(facts)
            elif is_found:
                marks[facts.index] = 1
        return left

    async def _dates(self, mailbox: int, uids: Ranges, by_uid: dict[int, Facts]) -> list[Facts]:
        read: list[Facts] = []
        for row in await self._database.read(partial(reading.dated, mailbox=mailbox, uids=uids)):
            facts = by_uid[row.uid]
            facts.dated = row
            read.append(facts)
        return read

    async def _summaries(self, mailbox: int, uids: Ranges, by_uid: dict[int, Facts]) -> list[Facts]:
        read: list[Facts] = []
        for row in await self._database.read(partial(reading.summed, mailbox=mailbox, uids=uids)):
            facts = by_uid[row.uid]
            facts.summary = unpacked(row.summary)
            read.append(facts)
        return read

    async def _structures(self, mailbox: int, uids: Ranges, by_uid: dict[int, Facts]) -> None:
        """Those that are known already."""
        for row in await self._database.read(partial(reading.parsed, mailbox=mailbox, uids=uids)):
            if row.structure is not None:
                by_uid[row.uid].structure = partial(unpack, row.structure)

    async def _open(self, stored: StoredLetter, facts: Facts, *, with_body: bool) -> None:
        try:
            content = await self._blobs.open(stored.location)
        except DamagedContent:
            facts.header, facts.structure = stored.prefix, None
            return
        facts.header = stored.prefix + bytes(content[: stored.header_size])
        if not with_body:
            return
        if stored.header_size == 0:  # a body alone came; the header is what was put before it
            content = memoryview(b"\r\n" + content)
            facts.structure = None
        facts.content, facts.body = content, stored.header_size or 2
        facts.structure = facts.structure or partial(parse, content)


def unpacked(summary: bytes) -> dict[bytes, bytes | None]:
    """Nothing where the row is damaged."""
    try:
        return unpack_envelope(summary)
    except ValueError:
        return {}


def highest_modseq(letters: Letters, uids: Sequence[int]) -> int:
    """Of these letters (RFC 7162 §3.1.5); 0 for none."""
    found = letters.within(uidset.from_uids(uids)).modseqs
    return max(found, default=0)


def kept(found: array[int], returns: frozenset[ReturnOption], partial_range: PartialRange | None = None) -> array[int]:
    """What `$` stands for after a search with SAVE (RFC 5182 §2.4, RFC 9394 §3.2)."""
    ends = returns & {ReturnOption.MIN, ReturnOption.MAX}
    wants_all = not returns.isdisjoint((ReturnOption.ALL, ReturnOption.COUNT))
    if wants_all or not found or (not ends and partial_range is None):
        return found
    chosen: set[int] = set()
    if partial_range is not None:
        start, stop = partial_range.window(len(found))
        chosen.update(found[start:stop])
    if ReturnOption.MIN in ends:
        chosen.add(found[0])
    if ReturnOption.MAX in ends:
        chosen.add(found[-1])
    return array("I", sorted(chosen))
