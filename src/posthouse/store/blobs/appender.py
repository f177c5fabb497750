# SPDX-License-Identifier: Apache-2.0
"""The one appender: gives out places in the growing pack and writes a batch's records behind its tail.

Invariant: octets before `tail` are synced and never written again; a place given out beyond it is either
settled together with its rows or never acknowledged. Used from one thread (or under one lock).
"""

from __future__ import annotations

import contextlib
from zlib import crc32

from posthouse.ports import AppendFile, BlobLocation, Buffer, Content
from posthouse.store.blobs.ledger import PackRow, PackState
from posthouse.store.blobs.record import (
    PACK_HEADER_SIZE,
    PackHeader,
    PackKind,
    RecordKind,
    pack_reference,
    record_header,
)
from posthouse.store.blobs.shelf import Shelf
from posthouse.store.faults import disk_fault, is_full

Mark = tuple[int, int, int]  # how much was waiting: buffers, octets, claimed packs


class PackAppender:
    """`number` is the growing pack (0: none yet), `tail` the offset behind its last settled record.

    `rows` are changes of packs that the next committed transaction has to write down (ledger.save_pack).
    `is_doubtful`: a commit failed that may come to light all the same (see `abandon`).
    """

    __slots__ = (
        "_buffers",
        "_claimed",
        "_file",
        "_pack_mark",
        "_shelf",
        "_waiting",
        "is_doubtful",
        "number",
        "rows",
        "tail",
    )

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._file: AppendFile | None = None
        self._pack_mark = b""
        self._buffers: list[Buffer] = []
        self._waiting = 0
        self._claimed: list[int] = []
        self.number = 0
        self.tail = 0
        self.rows: list[PackRow] = []
        self.is_doubtful = False

    @property
    def waiting_octets(self) -> int:
        """Octets reserved and not yet settled."""
        return self._waiting

    @property
    def end(self) -> int:
        """Where the tail will be when what waits is settled."""
        return self.tail + self._waiting

    def resume(self, file: AppendFile, header: PackHeader, tail: int) -> None:
        """Go on with a pack of the last run, whose file ends at its tail."""
        self._file, self._pack_mark, self.number, self.tail = file, header.mark, header.number, tail

    # --- inside a unit ---------------------------------------------------------------------------

    def reserve(self, content: Content, note: bytes) -> BlobLocation:
        """Put a record behind what waits and say where its content will be.

        Content that has a pack of its own gets a record that refers to it, so that the note is kept too.
        Raises StoreFault when there is no room, or no new pack can be begun.
        """
        if not self._buffers:
            self._shelf.check_room()
            if self._file is None or self.tail >= self._shelf.settings.seal_octets:
                self._begin_pack()
        octets = content.octets
        if octets is None:
            assert content.sealed is not None, "Content has octets or a sealed pack"
            octets = pack_reference(content.sealed)
            header = record_header(self._pack_mark, note, len(octets), crc32(octets), RecordKind.REFERENCE)
        else:
            header = record_header(self._pack_mark, note, len(octets), crc32(octets))
        offset = self.tail + self._waiting + len(header)
        self._buffers += (header, octets)
        self._waiting += len(header) + len(octets)
        return content.sealed or BlobLocation(self.number, offset, len(octets))

    def claim(self, number: int) -> bool:
        """Take a loose spooled pack for this unit; False when it is not loose (used already, or discarded)."""
        try:
            self._shelf.loose.remove(number)  # one step: `Spool.discard` may try the same from the loop's thread
        except KeyError:
            return False
        self._claimed.append(number)
        return True

    def mark(self) -> Mark:
        return len(self._buffers), self._waiting, len(self._claimed)

    def drop_to(self, mark: Mark) -> None:
        """A unit failed: forget what it reserved and claimed."""
        buffers, self._waiting, claimed = mark
        del self._buffers[buffers:]
        self._shelf.loose.update(self._claimed[claimed:])
        del self._claimed[claimed:]

    def drop(self) -> None:
        """The whole batch failed before anything was written."""
        self.drop_to((0, 0, 0))

    # --- the batch -------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write and sync what waits. Raises OSError; then nothing waits any more and the tail is sound."""
        if not self._buffers:
            return
        assert self._file is not None, "reserve began a pack"
        assert not self.is_doubtful, "what lies behind the tail may be needed"
        try:
            if self._file.size != self.tail:  # left by a batch whose commit failed
                self._file.truncate(self.tail)
            self._file.write(self._buffers)
        except OSError as error:
            self.drop()
            if is_full(error):
                self._cut()
            else:
                self._poison()
            raise
        try:
            self._file.sync()
        except OSError:
            # After a failed fsync the kernel may drop the pages and report success next time (PostgreSQL's
            # "fsyncgate"). This file cannot be trusted with anything new; what was synced before stays.
            self.drop()
            self._poison()
            raise

    def settle(self) -> None:
        """The rows are committed: what was flushed is part of the store."""
        self.tail += self._waiting
        self._forget_waiting()
        self.rows.clear()

    def abandon(self, *, for_want_of_space: bool) -> None:
        """The records are on disk, but their rows' commit failed.

        Without space the commit's last frame was never written, so the records can be cut off. After another
        error the commit might come to light after a crash: then its records must still be there. So they stay,
        behind the tail, until another commit has succeeded and `end_doubt` is called; nothing is written before.
        """
        claimed = tuple(self._claimed)
        if not for_want_of_space:
            self.is_doubtful = True
            self._shelf.doubtful.update(claimed)
        elif self._buffers:
            self._cut()
        self._forget_waiting()
        self._shelf.loose.update(claimed)

    def end_doubt(self) -> None:
        """A later commit, with `rows` in it, has taken the place of the doubtful one, which can never come to light
        any more: its records are as if they had not been written, and the next `flush` cuts them off."""
        self.is_doubtful = False
        self._shelf.doubtful.clear()
        self.rows.clear()

    def _forget_waiting(self) -> None:
        self._buffers = []
        self._waiting = 0
        self._claimed.clear()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    # --- packs -----------------------------------------------------------------------------------

    def _begin_pack(self) -> None:
        header = self._shelf.new_header(PackKind.LOG)
        path = self._shelf.path(header.number)
        try:
            file = self._shelf.create(path, header)
            try:
                file.sync()
            except OSError:
                file.close()
                with contextlib.suppress(OSError):
                    self._shelf.disk.unlink(path)
                raise
        except OSError as error:
            raise disk_fault("a new pack cannot be begun", error) from error
        if self._file is not None:
            self._file.close()
            self.rows.append(PackRow(self.number, PackKind.LOG, PackState.SEALED, self.tail))
        self.rows.append(PackRow(header.number, PackKind.LOG, PackState.GROWING, 0))
        self.resume(file, header, PACK_HEADER_SIZE)

    def _cut(self) -> None:
        """Remove what a failed batch left behind the tail."""
        assert self._file is not None, "something was written"
        try:
            self._file.truncate(self.tail)
        except OSError:
            self._poison()

    def _poison(self) -> None:
        """Leave this pack for good as it is; the next record begins a new one. It is cut at the next start."""
        assert self._file is not None, "something was written"
        with contextlib.suppress(OSError):
            self._file.close()
        self._file = None
        self.rows.append(PackRow(self.number, PackKind.LOG, PackState.TO_BE_CUT, self.tail))
        self.number, self.tail = 0, 0
