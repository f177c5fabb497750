# SPDX-License-Identifier: Apache-2.0
"""Searching a mailbox without an index: the arrays first, then dates, summaries, headers and bodies of what is left.

Invariant: nothing is read of a letter that is decided already, at most one page of letters is held at a time, and no
letter is found that the client has not been told of.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import compress
from typing import Annotated, TypedDict, assert_never

import msgspec

from posthouse.mail.header import ENVELOPE_FIELDS
from posthouse.mail.search import PartialRange, ReturnOption, SearchKey, keys_of
from posthouse.mail.structure import Part, parse
from posthouse.mail.structure_pack import pack, unpack
from posthouse.ports import BlobLocation, BlobStore, DamagedContent, Database, Row, StoreFault, Workers
from posthouse.services.mailbox.judging import LARGE, NOTHING, Facts, Level
from posthouse.services.mailbox.keeping import Keeper
from posthouse.services.mailbox.program import Program
from posthouse.services.mailbox.view import SelectedView
from posthouse.store import reading, uidset
from posthouse.store.catalogue import Letters
from posthouse.store.uidset import Ranges

# What HeaderScan.pack_envelope writes is MessagePack.
_COUNT = len(ENVELOPE_FIELDS)
_Packed = Annotated[tuple[bytes | None, ...], msgspec.Meta(min_length=_COUNT, max_length=_COUNT)]
_unpack = msgspec.msgpack.Decoder(_Packed).decode

# Letters whose content is looked at, and octets, before others on this thread have their turn: one or two milliseconds.
BODIES_AT_ONCE = 32
# Keys times letters that are told from the arrays in this thread: some ten milliseconds of the dearest ones. A program
# may have a thousand keys, and a mailbox a million letters.
STEPS_HERE = 300_000
OCTETS_AT_ONCE = 256 * 1024


def visible(letters: Letters, view: SelectedView) -> Letters:
    """Of what is in the mailbox that which this client has been told of."""
    known = view.uids
    return letters if known == letters.uids else letters.within(uidset.from_uids(known))


class Searcher:
    """Finds letters of one mailbox at a time."""

    def __init__(self, database: Database, blobs: BlobStore, workers: Workers) -> None:
        self._database = database
        self._blobs = blobs
        self._workers = workers
        self._keeper = Keeper(database)

    async def close(self) -> None:
        """Before the database."""
        await self._keeper.close()

    async def find(self, key: SearchKey, letters: Letters, view: SelectedView, now: float) -> array[int]:
        """UIDs, growing, of the letters that the program finds. `letters`: see `visible`.

        Raises StoreFault; content that is damaged has no text to be found.
        """
        if len(letters) * len(list(keys_of(key))) <= STEPS_HERE:
            program, marks, undecided = _begun(key, letters, view, now)
        else:
            letters = letters.within(uidset.EVERY_UID)  # other sessions take in what comes meanwhile
            work = partial(_begun, key, letters, view, now)
            program, marks, undecided = await self._workers.run(work, pool="search")
        for start in range(0, len(undecided), reading.PAGE):
            page = _Page(view.mailbox, letters, undecided[start : start + reading.PAGE])
            for level in program.levels:
                await self._read(level, page, program, marks)
                if not page.left:
                    break
        return array("I", compress(letters.uids, marks))

    async def _read(self, level: Level, page: _Page, program: Program, marks: bytearray) -> None:
        """Read one thing of these letters; which of them need another look. What has gone meanwhile is not found."""
        there: list[Facts]
        match level:
            case Level.ARRAYS:
                there = list(page.left.values())
            case Level.DATES:
                there = page.dated(await self._database.read(partial(reading.dated, **page.wanted)))
            case Level.SUMMARY:
                there = page.summed(await self._database.read(partial(reading.summaries, **page.wanted)))
            case Level.HEADER | Level.BODY:
                await self._look_into(page, program, marks, is_whole=level is Level.BODY)
                return
            case _:
                assert_never(level)
        page.left = {}
        for facts in there:
            facts.level = level
            page.judged(facts, program.judge(facts), marks)

    async def _look_into(self, page: _Page, program: Program, marks: bytearray, *, is_whole: bool) -> None:
        """At headers, or at all of the letters."""
        places = await self._database.read(partial(reading.places, **page.wanted))
        if is_whole:
            page.packed = {
                row[0]: row[2] for row in await self._database.read(partial(reading.findings, **page.wanted))
            }
        left, page.left = page.left, {}
        octets = 0
        for number, row in enumerate(places, 1):
            uid, size = row[0], row[7]
            facts = left[uid]
            if not await self._open(page, row, facts, is_whole=is_whole):
                continue
            facts.level = Level.BODY if is_whole else Level.HEADER
            if is_whole and size > LARGE:  # a worker looks at it
                is_found = await self._workers.run(partial(program.judge, facts), pool="search")
            else:
                is_found = program.judge(facts)
            page.judged(facts, is_found, marks)
            facts.content, facts.structure = NOTHING, None  # a page holds no bodies
            octets += size if is_whole else len(facts.header)
            if number % BODIES_AT_ONCE == 0 or octets > OCTETS_AT_ONCE:
                octets = 0
                await asyncio.sleep(0)
        await self._keeper.keep(page.new_structures, [])

    async def _open(self, page: _Page, row: Row, facts: Facts, *, is_whole: bool) -> bool:
        """False: the letter has gone."""
        prefix, header_size = bytes(row[2]), row[8]
        try:
            content = await self._content(page.mailbox, row)
        except DamagedContent:
            facts.header, facts.structure = prefix, None
            return True
        if content is None:
            return False
        facts.header = prefix + content[:header_size]
        if not is_whole:
            return True
        if header_size == 0:  # a body alone came; the header is what was put before it
            facts.content, facts.body = memoryview(b"\r\n" + content), 2
            facts.structure = partial(parse, facts.content)
        else:
            facts.content, facts.body = content, header_size
            facts.structure = partial(page.structure, row[0], row[1], content)
        return True

    async def _content(self, mailbox: int, row: Row) -> memoryview | None:
        try:
            return await self._blobs.open(_location(row))
        except StoreFault:
            # Since the row was read the letter may have gone, or have been moved to another pack (compaction).
            uid = row[0]
            again = await self._database.read(partial(reading.places, mailbox=mailbox, uids=((uid, uid),)))
            if not again:
                return None
            if _location(again[0]) == _location(row):
                raise
            return await self._blobs.open(_location(again[0]))


def _begun(key: SearchKey, letters: Letters, view: SelectedView, now: float) -> tuple[Program, bytearray, array[int]]:
    program = Program(key, letters, view, now)
    return program, *program.at_once()


class _Page:
    """Some letters that are not decided yet. `left`: those that need another look, by UID."""

    def __init__(self, mailbox: int, letters: Letters, indexes: array[int]) -> None:
        self.mailbox = mailbox
        self.left = {letters.uids[index]: Facts(index) for index in indexes}
        self.packed: dict[int, bytes | None] = {}  # structures that are known, by UID
        self.new_structures: list[tuple[int, bytes]] = []
        self._letters = letters

    @property
    def wanted(self) -> _Wanted:
        return {"mailbox": self.mailbox, "uids": uidset.from_uids(self.left)}

    def judged(self, facts: Facts, is_found: bool | None, marks: bytearray) -> None:
        if is_found is None:
            self.left[self._letters.uids[facts.index]] = facts
        elif is_found:
            marks[facts.index] = 1

    def dated(self, rows: list[reading.Dated]) -> list[Facts]:
        there: list[Facts] = []
        for row in rows:
            facts = self.left[row.uid]
            facts.dated = row
            there.append(facts)
        return there

    def summed(self, rows: list[Row]) -> list[Facts]:
        there: list[Facts] = []
        for uid, summary in rows:
            facts = self.left[uid]
            facts.summary = unpacked(summary)
            there.append(facts)
        return there

    def structure(self, uid: int, email: int, content: memoryview) -> Part:
        """As it is kept; what is found out now is kept for the next time."""
        packed = self.packed.get(uid)
        if packed is not None:
            with suppress(ValueError):  # a damaged row
                return unpack(packed)
        part = parse(content)
        self.new_structures.append((email, pack(part)))
        return part


class _Wanted(TypedDict):
    mailbox: int
    uids: Ranges


def _location(row: Row) -> BlobLocation:
    return BlobLocation(row[3], row[4], row[5], bytes(row[6]))


def unpacked(summary: bytes) -> dict[bytes, bytes | None]:
    """As `mail.header.unpack_envelope`, by C; nothing where the row is damaged."""
    try:
        return dict(zip(ENVELOPE_FIELDS, _unpack(summary), strict=True))
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
