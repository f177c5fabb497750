# SPDX-License-Identifier: Apache-2.0
"""SQLite on a failing disk: every write and sync of the log fails once, and nobody is told a lie."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from posthouse.store.databases import sqlite_engine
from posthouse.store.settings import StoreSettings

from .machine import House, fault_words, keep, outcomes, say

VFS = "failing"


class Failing:
    """Which call on the log fails next: `countdown` calls from now, with `error`, `times` times."""

    def __init__(self) -> None:
        self.call = ""
        self.countdown = 0
        self.times = 0
        self.error: type[apsw.Error] = apsw.IOError
        self.seen = 0

    def plan(self, call: str, countdown: int, error: type[apsw.Error], times: int = 1) -> None:
        self.call, self.countdown, self.error, self.times, self.seen = call, countdown, error, times, 0

    def step(self, name: str, call: str) -> None:
        if not name.endswith("-wal") or call != self.call:
            return
        self.seen += 1
        if self.seen > self.countdown and self.times > 0:
            self.times -= 1
            raise self.error(f"{call} of the log failed")


class FailingFile(apsw.VFSFile):
    def __init__(self, failing: Failing, filename: Any, flags: list[int]) -> None:
        super().__init__("", filename, flags)
        self._failing = failing
        self._name = filename.filename() if isinstance(filename, apsw.URIFilename) else str(filename)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._failing.step(self._name, "write")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._failing.step(self._name, "sync")
        super().xSync(flags)


class FailingVfs(apsw.VFS):
    def __init__(self, failing: Failing) -> None:
        self._failing = failing
        super().__init__(VFS, "")

    def xOpen(self, name: Any, flags: list[int]) -> FailingFile:
        return FailingFile(self._failing, name, flags)


@pytest.fixture
def failing() -> Iterator[Failing]:
    failing = Failing()
    vfs = FailingVfs(failing)
    yield failing
    vfs.unregister()


@pytest.mark.parametrize("error", [apsw.IOError, apsw.FullError])
@pytest.mark.parametrize(("call", "countdown"), [("sync", 0), *(("write", n) for n in range(0, 12, 3))])
@pytest.mark.parametrize("times", [1, 2, 1000])
async def test_a_failing_log_refuses_and_loses_nothing(
    tmp_path: Path, failing: Failing, error: type[apsw.Error], call: str, countdown: int, times: int
) -> None:
    house = House(tmp_path, settings=StoreSettings(reserve_octets=0, vfs=VFS)).open()
    expected = {await house.database.write(keep(b"before")): b"before"}
    failing.plan(call, countdown, error, times)
    results = await outcomes(
        *(house.database.write(keep(b"letter %d" % n)) for n in range(3)), house.database.write(say("word"))
    )
    failing.call = ""
    words = fault_words(results)
    assert set(words) <= {"ok", "full" if error is apsw.FullError else "fault"}
    if times == 1:
        assert words == ["ok"] * 4  # the batch was rolled back and each unit run again alone
    if times == 1000 and failing.seen > countdown:
        assert words[-1] != "ok"
    expected |= {number: b"letter %d" % n for n, number in enumerate(results[:3]) if words[n] == "ok"}
    assert await house.letters() == expected
    expected[await house.database.write(keep(b"after"))] = b"after"
    assert await house.letters() == expected
    await house.close()
    house.open()
    assert await house.letters() == expected
    await house.close()


async def test_a_fault_of_the_log_and_of_the_disk_together(tmp_path: Path, failing: Failing) -> None:
    house = House(tmp_path, settings=StoreSettings(reserve_octets=0, vfs=VFS)).open()
    expected = {await house.database.write(keep(b"before")): b"before"}
    failing.plan("sync", 0, apsw.FullError, 1000)
    house.disk.fail["truncate"] = errno.EIO
    results = await outcomes(*(house.database.write(keep(b"letter %d" % n)) for n in range(3)))
    assert fault_words(results) == ["full"] * 3
    failing.plan("", 0, apsw.IOError)
    house.disk.fail.clear()
    expected[await house.database.write(keep(b"after"))] = b"after"
    assert await house.letters() == expected
    await house.close()
    house.open()
    assert await house.letters() == expected
    await house.close()


async def test_the_log_starts_again_although_the_server_is_never_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker copies the bulk, the committer the rest: the log never grows far beyond its threshold."""
    monkeypatch.setattr(sqlite_engine, "CHECKPOINT_PAGES", 50)
    house = House(tmp_path).open()
    longest = 0
    for n in range(200):
        await house.database.write(say(f"word {n}"))
        longest = max(longest, house.database.wal_octets)
    assert longest < 60 * 4096
    assert house.database._checkpoints.count >= 4
    await house.close()


async def test_a_long_snapshot_lets_the_log_grow_and_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_engine, "CHECKPOINT_PAGES", 50)
    house = House(tmp_path).open()
    await house.database.write(say("first"))
    copy = house.database._begin_copy(tmp_path / "copy.part")
    for n in range(100):
        await house.database.write(say(f"during {n}"))
    assert house.database.wal_octets > 100 * 4096
    while not copy.step():
        pass
    copy.finish(house.disk, tmp_path / "copy")
    copy.discard(house.disk)
    for n in range(100):
        await house.database.write(say(f"after {n}"))
    assert house.database.wal_octets < 80 * 4096
    await house.close()


async def test_idle_time_empties_the_log(tmp_path: Path) -> None:
    house = House(tmp_path).open()
    await house.database.write(say("word"))
    assert house.database.wal_octets > 0
    house.workers.commits[0]([])
    assert house.database.wal_octets == 0
    await house.close()


async def test_an_unreadable_database_is_refused_with_a_sentence(tmp_path: Path) -> None:
    from posthouse.ports import StoreFault

    (tmp_path / "posthouse.sqlite3").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreFault, match="is damaged"):
        House(tmp_path).open()
