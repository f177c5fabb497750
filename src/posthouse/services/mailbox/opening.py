# SPDX-License-Identifier: Apache-2.0
"""Opening the content of many letters at once, or its header alone.

Invariant: octets that are not those that were stored are given to nobody. Of a large letter whose header alone is
asked for no more is read; then what its row has of the header says whether it is the right one.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial

from posthouse.mail.header import scan_header
from posthouse.ports import BlobLocation, BlobStore, DamagedContent, Database, Row, StoreFault
from posthouse.services.mailbox.contents import Letter
from posthouse.store import reading, uidset

_NOTHING = memoryview(b"")


@dataclass(slots=True)
class Opened:
    """By UID."""

    letters: dict[int, Letter] = field(default_factory=dict)
    damaged: list[int] = field(default_factory=list)


class Opener:
    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    async def open(self, mailbox: int, rows: list[Row], whole: Collection[int] | None = None) -> Opened:
        """`rows`: see `reading.places`. Of letters that are not among `whole` the header alone; None: all are.
        Raises StoreFault where the disk does not answer."""
        opened = Opened()
        wanted: list[Row] = []
        for row in rows:
            is_whole = whole is None or row[0] in whole
            letter = None if is_whole else await self._header(row)
            if letter is None:
                wanted.append(row)
            else:
                opened.letters[row[0]] = letter
        failed = await self._contents(wanted, opened, whole)
        if failed:
            # Since the rows were read a letter may have been moved to another pack (compaction).
            uids = uidset.from_uids(failed)
            again = await self._database.read(partial(reading.places, mailbox=mailbox, uids=uids))
            for uid, fault in (await self._contents(again, opened, whole)).items():
                if not isinstance(fault, DamagedContent):
                    raise fault
                opened.damaged.append(uid)
        return opened

    async def prepare(self, rows: list[Row]) -> None:
        """Have it known whether these are whole: what lies side by side is read in one piece. What is damaged is named
        by whoever opens it."""
        await self._blobs.open_all([_location(row) for row in rows])

    async def _contents(self, rows: list[Row], opened: Opened, whole: Collection[int] | None) -> dict[int, StoreFault]:
        """What could not be opened, and why."""
        failed: dict[int, StoreFault] = {}
        contents = await self._blobs.open_all([_location(row) for row in rows])
        for row, content in zip(rows, contents, strict=True):
            uid, email, prefix, _pack, _offset, length, _digest, size, header_size, _summary = row
            if isinstance(content, StoreFault):
                failed[uid] = content
            elif len(prefix) + length != size:
                failed[uid] = DamagedContent(f"the rows of letter {uid} do not agree about its size")
            else:
                here = content if whole is None or uid in whole else content[:header_size]
                opened.letters[uid] = Letter(email, bytes(prefix), here, header_size)
        return failed

    async def _header(self, row: Row) -> Letter | None:
        """None: a look at the whole content is needed. That of a small letter costs less than any other way to be
        certain."""
        prefix, size, header_size, summary = bytes(row[2]), row[7], row[8], row[9]
        if len(prefix) + row[5] != size:
            return None
        if not header_size:
            return Letter(row[1], prefix, _NOTHING, 0)
        if summary is None or header_size > reading.LARGE:
            return None
        try:
            header = await self._blobs.beginning(_location(row), header_size)
        except StoreFault:
            return None
        if scan_header(header).pack_envelope() != summary:
            return None
        return Letter(row[1], prefix, memoryview(header), header_size)


def _location(row: Row) -> BlobLocation:
    return BlobLocation(row[3], row[4], row[5], bytes(row[6]))
