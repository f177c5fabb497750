# SPDX-License-Identifier: Apache-2.0
"""Every state that a SQLite database was committed in, read off its write-ahead log as it is written.

Invariant: after a cut the database must be, page by page, one of these states: no older than the last one that was
promised, no younger than the last one begun. That holds for every row of every table at once.
Format: https://www.sqlite.org/fileformat2.html#walformat - a header of 32 octets, then frames: 24 octets, a page.
"""

from __future__ import annotations

import struct

from posthouse.sim.disklog import Created, Entry, Renamed, Unlinked, Written

HEADER = 32
FRAME_HEADER = 24
PAGE_SIZE = 4096  # what apsw's SQLite gives a new database
_FRAME = struct.Struct(">II")  # the page's number; after a commit the database's size in pages, else 0
_MASK = (1 << 64) - 1


def page_digest(number: int, page: bytes) -> int:
    """Of use within one process only: Python salts its hashes."""
    return hash((number, page)) & _MASK


def digest(database: bytes) -> int:
    """Of a whole database's octets, as `Commits.states` has them."""
    pages = len(database) // PAGE_SIZE
    view = [database[number * PAGE_SIZE : (number + 1) * PAGE_SIZE] for number in range(pages)]
    return sum(page_digest(number, page) for number, page in enumerate(view, 1)) & _MASK


class Commits:
    """Give it every entry of the log. `states[n]` is the digest after n commits."""

    def __init__(self, name: str) -> None:
        self.states: list[int] = [0]
        self._name = name + "-wal"
        self._file: int | None = None
        self._pages: dict[int, int] = {}
        self._frames: dict[int, tuple[int, int]] = {}  # by index: page number, digest
        self._headers: dict[int, tuple[int, int]] = {}  # by index: page number, size
        self._done = 0  # frames that belong to commits

    def apply(self, entry: Entry) -> None:
        match entry:
            case Created(_, self._name, file):
                self._file = file
                self._restart()
            case Renamed() | Unlinked():
                pass
            case Written(self._file, offset, octets) if self._file is not None:
                self._write(offset, octets)
            case _:
                pass

    def _restart(self) -> None:
        self._frames.clear()
        self._headers.clear()
        self._done = 0

    def _write(self, offset: int, octets: bytes) -> None:
        if offset == 0:
            self._restart()
            return
        index, rest = divmod(offset - HEADER, FRAME_HEADER + PAGE_SIZE)
        if rest == 0 and len(octets) >= FRAME_HEADER:
            self._headers[index] = _FRAME.unpack_from(octets)
        elif rest == FRAME_HEADER and len(octets) == PAGE_SIZE and index in self._headers:
            number, size = self._headers[index]
            self._frames[index] = number, page_digest(number, octets)
            if size:
                self._commit(index, size)

    def _commit(self, last: int, size: int) -> None:
        for index in range(self._done, last + 1):
            number, page = self._frames[index]
            self._pages[number] = page
        self._done = last + 1
        self._pages = {number: page for number, page in self._pages.items() if number <= size}
        self.states.append(sum(self._pages.values()) & _MASK)
