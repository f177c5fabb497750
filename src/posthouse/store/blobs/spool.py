# SPDX-License-Identifier: Apache-2.0
"""Large content while it arrives. Invariant: it is durable under its final name before any unit can refer to it.

It goes into a pack of its own, chunk by chunk, through a worker, so that a session holds a few chunks at most.
A crash leaves a `.part` or a pack without a row; both are removed at the next start. The number needs no row
of its own: it is greater than every name in the folder and every number that any row ever held.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import TypeVar
from zlib import crc32

from posthouse.ports import AppendFile, BlobLocation, Buffer, StoreFault, Workers
from posthouse.store.blobs.record import PACK_HEADER_SIZE, PackHeader, PackKind, RecordKind, record_header
from posthouse.store.blobs.shelf import Shelf
from posthouse.store.faults import disk_fault

T = TypeVar("T")

# Content beyond this is spooled: less is cheaper to hold than a file is to make (0.5 ms), and 50 sessions
# hold no more than 12 MiB.
SPOOL_THRESHOLD = 256 * 1024
# What is handed to a worker at once: a hand-over costs 70 µs, writing this much about 100 µs.
SPOOL_CHUNK = 256 * 1024


class PackSpool:
    """One content on its way. Use it from one task; `discard` may come at any time, also after `seal`."""

    def __init__(self, shelf: Shelf, workers: Workers) -> None:
        self._shelf = shelf
        self._workers = workers
        self._waiting: list[bytes] = []
        self._waiting_octets = 0
        self._file: AppendFile | None = None
        self._header: PackHeader | None = None
        self._length = 0
        self._crc = 0
        self._running: asyncio.Future[None] | None = None
        self._is_ended = False
        self._sealed: BlobLocation | None = None

    async def write(self, chunk: Buffer) -> None:
        """Raises StoreFault; then only `discard` is left to do."""
        if self._is_ended:
            raise StoreFault("the spool has ended")
        # A view may be of a buffer that is filled again.
        self._waiting.append(chunk if isinstance(chunk, bytes) else bytes(chunk))
        self._waiting_octets += len(chunk)
        if self._waiting_octets >= SPOOL_CHUNK:
            buffers, self._waiting, self._waiting_octets = self._waiting, [], 0
            await self._run(partial(self._write, buffers))

    async def seal(self) -> BlobLocation:
        if self._is_ended:
            raise StoreFault("the spool has ended")
        self._is_ended = True
        buffers, self._waiting, self._waiting_octets = self._waiting, [], 0
        await self._run(partial(self._seal, buffers))
        assert self._sealed is not None, "_seal sets it"
        return self._sealed

    async def discard(self) -> None:
        """Remove it, unless a unit refers to it or may do so. Never raises StoreFault: what is left goes at the next
        start."""
        self._is_ended = True
        self._waiting = []
        if self._running is not None:
            with contextlib.suppress(Exception):  # its own caller has been told
                await self._running
        if self._header is not None:
            await self._run(self._discard)

    async def _run(self, work: Callable[[], None]) -> None:
        """One piece of work at a time. It ends in its thread even when this task is cancelled meanwhile."""
        self._running = asyncio.ensure_future(self._workers.run(work, pool="disk"))
        # Its exception is told to `write`'s caller; after a cancellation nobody asks.
        self._running.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await asyncio.shield(self._running)
        except OSError as error:
            self._is_ended = True
            raise disk_fault("content cannot be spooled", error) from error
        except StoreFault:
            self._is_ended = True
            raise

    # --- in a worker -----------------------------------------------------------------------------

    def _write(self, buffers: list[bytes]) -> None:
        self._shelf.check_room()
        if self._file is None:
            header = self._shelf.new_header(PackKind.OWN)
            self._file = self._shelf.create(self._shelf.part_path(header.number), header)
            self._header = header
        self._file.write(buffers)
        for buffer in buffers:
            self._crc = crc32(buffer, self._crc)
            self._length += len(buffer)

    def _seal(self, buffers: list[bytes]) -> None:
        self._write(buffers)
        assert self._file is not None, "_write opens it"
        assert self._header is not None, "_write makes it"
        number = self._header.number
        trailer = record_header(self._header.mark, b"", self._length, self._crc, RecordKind.TRAILER)
        self._file.write([trailer])
        self._file.sync()
        self._file.close()
        self._file = None
        self._shelf.disk.rename(self._shelf.part_path(number), self._shelf.path(number))
        self._shelf.loose.add(number)
        self._sealed = BlobLocation(number, PACK_HEADER_SIZE, self._length)

    def _discard(self) -> None:
        assert self._header is not None, "asked only then"
        if self._file is not None:
            self._file.close()
            self._file = None
        number = self._header.number
        if number in self._shelf.doubtful:
            return
        with contextlib.suppress(OSError):
            if self._sealed is None:
                self._shelf.disk.unlink(self._shelf.part_path(number))
                return
            try:
                self._shelf.loose.remove(number)  # one step: a unit may claim it from the committer's thread
            except KeyError:
                return
            self._shelf.disk.unlink(self._shelf.path(number))
