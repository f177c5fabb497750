# SPDX-License-Identifier: Apache-2.0
"""Looking into the content of letters: for their sections, and for structures and previews that nobody knows yet.

Invariant: a letter is parsed once; then its structure is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from functools import partial

from posthouse.mail.structure import Part
from posthouse.mail.structure_pack import pack, unpack
from posthouse.ports import BlobStore, Database, Row, Workers
from posthouse.services.mailbox.contents import Letter
from posthouse.services.mailbox.keeping import Keeper
from posthouse.services.mailbox.opening import Opener
from posthouse.services.mailbox.pages import Page, Rows, Wants
from posthouse.store import reading, uidset

# Letters parsed before others on this thread have their turn: one of 10 KB is some fifty microseconds. Large ones are
# parsed by a worker.
PARSED_AT_ONCE = 32
PARSED_HERE = 64 * 1024  # octets
# Octets of letters, and one letter at least, that are looked at before the next ones are opened: a millisecond to see
# whether they are whole.
OPENED_AT_ONCE = 1024 * 1024


class Looking:
    def __init__(self, database: Database, blobs: BlobStore, workers: Workers, keeper: Keeper) -> None:
        self._database = database
        self._opener = Opener(database, blobs)
        self._workers = workers
        self._keeper = keeper

    async def into(self, mailbox: int, page: Page, rows: Rows, wants: Wants) -> None:
        """Fill the page's columns; letters that cannot be read are taken from it. Raises StoreFault."""
        look = _Look(rows, wants)
        places = rows.places
        if look.lacking and not wants.letters:  # of these alone the content is read
            uids = uidset.from_uids(look.lacking)
            places = await self._database.read(partial(reading.places, mailbox=mailbox, uids=uids))
        whole = None if wants.contents else look.lacking
        letters: dict[int, Letter] = {}
        damaged: list[int] = []
        there: set[int] = set()
        for part in _parts(places):
            opened = await self._opener.open(mailbox, part, whole)
            damaged += opened.damaged
            there.update(opened.letters)
            if wants.letters:
                letters.update(opened.letters)
            await self._find_all_out(opened.letters, look)
        await self._keeper.keep(look.new_structures, look.new_previews)
        needed = page.uids if wants.letters else look.lacking
        if len(there) < len(needed):
            gone = [uid for uid in needed if uid not in there and uid not in damaged]
            page.forget(rows, damaged=damaged, gone=gone)
        look.give(page, letters)

    async def prepare(self, places: list[Row]) -> None:
        """Letters that will be opened one by one: as far as they are small they are looked at together."""
        small = [row for row in places if row[5] <= reading.LARGE]
        await self._opener.prepare(next(_parts(small), []))

    async def _find_all_out(self, letters: Mapping[int, Letter], look: _Look) -> None:
        lacking = [uid for uid in letters if uid in look.lacking] if look.lacking else []
        for number, uid in enumerate(lacking, 1):
            await self._find_out(uid, look.lacking[uid], letters[uid], look)
            if number % PARSED_AT_ONCE == 0 or number == len(lacking):
                await asyncio.sleep(0)

    async def _find_out(self, uid: int, email: int, letter: Letter, look: _Look) -> None:
        is_large = len(letter.content) > PARSED_HERE
        part = look.parts.get(uid)
        if part is None:
            part = await self._workers.run(letter.parse) if is_large else letter.parse()
            look.parts[uid] = part
            if not letter.lacks_header:
                look.new_structures.append((email, pack(part)))
        if look.wants.previews and look.previews[uid] is None:
            letter.structure = part
            text = await self._workers.run(letter.preview) if is_large else letter.preview()
            look.previews[uid] = text
            look.new_previews.append((email, text))


class _Look:
    """One page while it is looked at; all by UID."""

    def __init__(self, rows: Rows, wants: Wants) -> None:
        self.wants = wants
        self.parts: dict[int, Part] = {}
        self.previews: dict[int, str | None] = {}
        self.lacking: dict[int, int] = {}  # of these letters something is to be found out; their emails
        self.new_structures: list[tuple[int, bytes]] = []
        self.new_previews: list[tuple[int, str]] = []
        for row in rows.findings:
            self._know(*row)

    def _know(self, uid: int, email: int, structure: bytes | None, preview: str | None) -> None:
        wants = self.wants
        self.previews[uid] = preview
        lacks_preview = wants.previews and preview is None
        if wants.structures or wants.parts or lacks_preview:
            part = _unpacked(structure)
            if part is not None:
                self.parts[uid] = part
            if part is None or lacks_preview:
                self.lacking[uid] = email

    def give(self, page: Page, letters: dict[int, Letter]) -> None:
        wants, uids = self.wants, page.uids
        if wants.letters:
            page.letters = [letters[uid] for uid in uids]
            if wants.parts:
                for uid in uids:
                    letters[uid].structure = self.parts[uid]
        if wants.structures:
            page.structures = [self.parts[uid] for uid in uids]
        if wants.previews or wants.known_previews:
            page.previews = [self.previews[uid] for uid in uids]


def _parts(places: list[Row]) -> Iterator[list[Row]]:
    part: list[Row] = []
    left = OPENED_AT_ONCE
    for row in places:
        part.append(row)
        left -= row[5]
        if left <= 0:
            yield part
            part, left = [], OPENED_AT_ONCE
    if part:
        yield part


def _unpacked(structure: bytes | None) -> Part | None:
    if structure is None:
        return None
    try:
        return unpack(bytes(structure))
    except ValueError:
        return None  # damaged: it is found out again
