# SPDX-License-Identifier: Apache-2.0
"""A machine that tests can make fail: a disk with faults, a clock that is set, workers without threads."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from posthouse.net.disk import PosixDisk
from posthouse.ports import AppendFile, Buffer, Content, StoreFault
from posthouse.store.blobs.packs import PackStore
from posthouse.store.databases.migrate import Migration, packaged
from posthouse.store.databases.sqlite import SqliteDatabase, open_sqlite
from posthouse.store.settings import StoreSettings

SCHEMA = """
CREATE TABLE letter (
  id INTEGER PRIMARY KEY, pack INTEGER NOT NULL, place INTEGER NOT NULL, length INTEGER NOT NULL, digest BLOB NOT NULL
);
CREATE TABLE blob (id INTEGER PRIMARY KEY, pack INTEGER NOT NULL);
CREATE TABLE word (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE, weight REAL, octets BLOB);
"""


class SetClock:
    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class SeededEntropy:
    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)

    def octets(self, count: int) -> bytes:
        return self._random.randbytes(count)


class InlineWorkers:
    """Everything in the loop's thread; a batch is what was handed in before the loop came round."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.commits: list[Callable[[list[Any]], None]] = []

    async def run(self, function: Callable[[], Any], *, pool: str = "disk") -> Any:
        await asyncio.sleep(0)
        return function()

    def committer(self, commit: Callable[[list[Any]], None]) -> Callable[[Any], None]:
        waiting: list[Any] = []
        loop = asyncio.get_running_loop()
        self.commits.append(commit)

        def turn() -> None:
            batch = [item for item in waiting if item is not None]
            waiting.clear()
            if batch:
                self.batches.append(len(batch))
                commit(batch)

        def hand_in(item: Any) -> None:
            if not waiting:
                loop.call_soon(turn)
            waiting.append(item)

        return hand_in

    def call_back(self, calls: Sequence[Callable[[], None]]) -> None:
        for call in calls:
            call()

    async def close(self) -> None:
        return


class FaultyFile:
    def __init__(self, disk: FaultyDisk, file: AppendFile) -> None:
        self._disk = disk
        self._file = file

    @property
    def size(self) -> int:
        return self._file.size

    def write(self, buffers: Sequence[Buffer]) -> None:
        octets = b"".join(buffers)
        try:
            self._disk.step("write")
        except OSError:
            self._file.write([octets[: self._disk.torn]])
            raise
        self._file.write([octets])

    def sync(self) -> None:
        self._disk.step("sync")
        self._file.sync()

    def truncate(self, size: int) -> None:
        self._disk.step("truncate")
        self._file.truncate(size)

    def close(self) -> None:
        self._file.close()


class FaultyDisk(PosixDisk):
    """Fails an operation when told: `fail["write"] = errno.EIO` for every one, until it is taken away.

    `torn` octets of a failing write are written all the same.
    """

    def __init__(self) -> None:
        self.fail: dict[str, int] = {}
        self.torn = 0
        self.steps: list[str] = []
        self.free: int | None = None

    def step(self, name: str) -> None:
        self.steps.append(name)
        if name in self.fail:
            raise OSError(self.fail[name], os.strerror(self.fail[name]))

    def append(self, path: Path) -> AppendFile:
        self.step("append")
        return FaultyFile(self, super().append(path))

    def rename(self, old: Path, new: Path) -> None:
        self.step("rename")
        super().rename(old, new)

    def unlink(self, path: Path) -> None:
        self.step("unlink")
        super().unlink(path)

    def free_octets(self, folder: Path) -> int:
        return super().free_octets(folder) if self.free is None else self.free


def migrations() -> list[Migration]:
    """The machinery's own tables and two plain ones."""
    return [packaged()[0], Migration(9000, "test", SCHEMA)]


class House:
    """A store in a folder, to be opened, closed, crashed and opened again."""

    def __init__(self, folder: Path, *, workers: Any = None, settings: StoreSettings | None = None) -> None:
        self.folder = folder
        self.disk = FaultyDisk()
        self.clock = SetClock()
        self.workers = workers or InlineWorkers()
        self.settings = settings or StoreSettings(reserve_octets=0)
        self.database: SqliteDatabase
        self.packs: PackStore

    def open(self) -> House:
        self.database, self.packs = open_sqlite(
            self.folder,
            self.disk,
            self.workers,
            self.clock,
            SeededEntropy(),
            settings=self.settings,
            migrations=migrations(),
        )
        return self

    async def close(self) -> None:
        await self.database.close()
        await self.packs.close()

    @property
    def pack_files(self) -> list[Path]:
        return sorted((self.folder / "packs").glob("*.pack"))

    async def letters(self) -> dict[int, bytes]:
        """Every letter that the rows know, by id, with its octets."""
        rows = await self.database.read(lambda reader: reader.rows("SELECT id, pack, place, length FROM letter"))
        return {row[0]: bytes(await self.packs.open(location(*row[1:]))) for row in rows}


def location(pack: int, place: int, length: int) -> Any:
    from posthouse.ports import BlobLocation

    return BlobLocation(pack, place, length)


def content(octets: bytes) -> Content:
    return Content(len(octets), sha256(octets).digest(), octets=octets)


def keep(octets: bytes, note: bytes = b"note") -> Callable[[Any], int]:
    """A unit that stores a letter and gives its id."""
    return keep_content(content(octets), note)


def keep_content(letter: Content, note: bytes = b"note") -> Callable[[Any], int]:
    def unit(tx: Any) -> int:
        place = tx.append(letter, note)
        number: int = tx.new_id()
        tx.run(
            "INSERT INTO letter (id, pack, place, length, digest) VALUES (:id, :pack, :place, :length, :digest)",
            id=number,
            pack=place.pack,
            place=place.offset,
            length=place.length,
            digest=letter.digest,
        )
        return number

    return unit


def say(text: str) -> Callable[[Any], int]:
    """A unit that stores a row without content."""

    def unit(tx: Any) -> int:
        number: int = tx.new_id()
        tx.run("INSERT INTO word (id, text) VALUES (:id, :text)", id=number, text=text)
        return number

    return unit


async def outcomes(*writes: Any) -> list[Any]:
    """Run together; results, or the exceptions themselves."""
    return await asyncio.gather(*writes, return_exceptions=True)


def fault_words(results: Sequence[Any]) -> list[str]:
    """Each result in a word: ok, full, fault, or the exception's name."""
    words = []
    for result in results:
        if isinstance(result, StoreFault):
            words.append("full" if result.is_full else "fault")
        elif isinstance(result, BaseException):
            words.append(type(result).__name__)
        else:
            words.append("ok")
    return words
