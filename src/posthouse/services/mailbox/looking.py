# SPDX-License-Identifier: Apache-2.0
"""Looking into the content of letters: for their sections, and for structures and previews that nobody knows yet.

Invariant: a letter is parsed once; then its structure is kept. Content whose octets are not those that were stored is
DamagedContent, and nothing of it is given.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Collection
from functools import partial

from posthouse.mail.structure import Part
from posthouse.mail.structure_pack import pack, unpack
from posthouse.ports import BlobLocation, BlobStore, DamagedContent, Database, Row, StoreFault, Workers
from posthouse.services.mailbox.contents import Letter
from posthouse.services.mailbox.keeping import Keeper
from posthouse.services.mailbox.pages import Page, Rows, Wants
from posthouse.store import reading, uidset

# Letters parsed before others on this thread have their turn: one of 10 KB is some fifty microseconds. Large ones are
# parsed by a worker.
PARSED_AT_ONCE = 32
PARSED_HERE = 64 * 1024  # octets


class Looking:
    def __init__(self, database: Database, blobs: BlobStore, workers: Workers, keeper: Keeper) -> None:
        self._database = database
        self._blobs = blobs
        self._workers = workers
        self._keeper = keeper

    async def into(self, mailbox: int, page: Page, rows: Rows, wants: Wants) -> None:
        """Fill the page's columns; letters that cannot be read are taken from it. Raises StoreFault."""
        look = _Look(page.uids, rows, wants)
        if look.lacking and not wants.letters:  # of these alone the content is read
            uids = uidset.from_uids(page.uids[index] for index in look.lacking)
            look.place(await self._database.read(partial(reading.places, mailbox=mailbox, uids=uids)))
        damaged: list[int] = []
        gone: list[int] = []
        found = 0
        for index, uid in enumerate(page.uids):
            is_lacking = index in look.lacking
            row = look.places.get(uid)
            if row is None:
                if is_lacking:
                    gone.append(uid)
                continue
            try:
                letter = look.letters[index] = await self._open(mailbox, row, whole=wants.contents or is_lacking)
            except DamagedContent:
                damaged.append(uid)
                continue
            if is_lacking:
                await self._find_out(index, row[1], letter, look)
                found += 1
                if found % PARSED_AT_ONCE == 0:
                    await asyncio.sleep(0)
            letter.structure = look.parts[index]
        await self._keeper.keep(look.new_structures, look.new_previews)
        look.give(page, {*damaged, *gone})
        page.forget(rows, damaged=damaged, gone=gone)

    async def _open(self, mailbox: int, row: Row, *, whole: bool) -> Letter:
        uid, email, prefix, *_place, size, header_size = row
        location = _location(row)
        prefix = bytes(prefix)
        if len(prefix) + location.length != size:
            raise DamagedContent(f"the rows of letter {email} do not agree about its size")
        try:
            content = await self._blobs.open(location)
        except StoreFault:
            # Since the row was read the letter may have been moved to another pack (compaction).
            again = await self._database.read(partial(reading.places, mailbox=mailbox, uids=((uid, uid),)))
            if not again or _location(again[0]) == location:
                raise
            content = await self._blobs.open(_location(again[0]))
        return Letter(prefix, content if whole else content[:header_size], header_size)

    async def _find_out(self, index: int, email: int, letter: Letter, look: _Look) -> None:
        is_large = len(letter.content) > PARSED_HERE
        part = look.parts[index]
        if part is None:
            part = await self._workers.run(letter.parse) if is_large else letter.parse()
            look.parts[index] = part
            if not letter.lacks_header:
                look.new_structures.append((email, pack(part)))
        if look.wants.previews and look.previews[index] is None:
            letter.structure = part
            text = await self._workers.run(letter.preview) if is_large else letter.preview()
            look.previews[index] = text
            look.new_previews.append((email, text))


class _Look:
    """One page while it is looked at: a value for each letter in each column, None where it is not known."""

    def __init__(self, uids: array[int], rows: Rows, wants: Wants) -> None:
        count = len(uids)
        self.wants = wants
        self.places: dict[int, Row] = {}  # by UID
        self.letters: list[Letter | None] = [None] * count
        self.parts: list[Part | None] = [None] * count
        self.previews: list[str | None] = [row[3] for row in rows.findings]
        self.lacking: set[int] = set()  # indexes of letters of which something is to be found out
        self.new_structures: list[tuple[int, bytes]] = []
        self.new_previews: list[tuple[int, str]] = []
        self.place(rows.places)
        if wants.previews:
            self.lacking.update(index for index, preview in enumerate(self.previews) if preview is None)
        if wants.structures or wants.parts:
            self.parts = [_unpacked(row[2]) for row in rows.findings]
            self.lacking.update(index for index, part in enumerate(self.parts) if part is None)
        else:
            for index in self.lacking:
                self.parts[index] = _unpacked(rows.findings[index][2])

    def place(self, places: list[Row]) -> None:
        self.places.update((row[0], row) for row in places)

    def give(self, page: Page, lost: Collection[int]) -> None:
        there = [index for index, uid in enumerate(page.uids) if uid not in lost]
        wants = self.wants
        if wants.letters:
            page.letters = [letter for index in there if (letter := self.letters[index]) is not None]
        if wants.structures:
            page.structures = [part for index in there if (part := self.parts[index]) is not None]
        if wants.previews or wants.known_previews:
            page.previews = [self.previews[index] for index in there]


def _location(row: Row) -> BlobLocation:
    return BlobLocation(row[3], row[4], row[5], bytes(row[6]))


def _unpacked(structure: bytes | None) -> Part | None:
    if structure is None:
        return None
    try:
        return unpack(bytes(structure))
    except ValueError:
        return None  # damaged: it is found out again
