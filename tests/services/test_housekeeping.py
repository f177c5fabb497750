# SPDX-License-Identifier: Apache-2.0
"""Housekeeping: each job at its time, none kept from its work by another one's fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from posthouse.config import Store
from posthouse.net.disk import PosixDisk
from posthouse.ports import StoreFault
from posthouse.services import housekeeping
from posthouse.services.housekeeping import DAY, SWEEP, Housekeeping
from posthouse.store import journal, messages
from posthouse.store.uidset import EVERY_UID
from tests.fakes import EPOCH, FakeClock, SetClock
from tests.services.world import InlineWorkers
from tests.store.letterbox import NOW, new_account
from tests.store.plain_database import PlainDatabase
from tests.virtual_loop import run

KEPT = 10 * DAY  # seconds that history is kept here


class Desk:
    def __init__(self) -> None:
        self.purged: list[float] = []
        self.fault: Exception | None = None

    async def purge(self, keep: float) -> int:
        self.purged.append(keep)
        if self.fault is not None:
            raise self.fault
        return 1


class Compaction:
    def __init__(self) -> None:
        self.runs = 0

    async def run(self) -> int:
        self.runs += 1
        return 0


class House:
    def __init__(self, folder: Path, clock: Any, **store: Any) -> None:
        self.database, self.desk, self.compaction = PlainDatabase(), Desk(), Compaction()
        self.folder = folder
        self.keeping = Housekeeping(
            self.database,
            self.desk,
            clock,
            self.compaction,
            folder=folder,
            disk=PosixDisk(),
            workers=InlineWorkers(),
            store=Store(**store),
            keep_history=KEPT,
        )

    @property
    def snapshots(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


def at(day: int, hours: float) -> float:
    return (EPOCH // DAY + day) * DAY + hours * 3600


async def test_a_sweep_forgets_what_is_old_and_keeps_what_is_not(tmp_path: Path) -> None:
    house = House(tmp_path, SetClock(NOW + 90 * DAY + 1), keep_tombstones="90d")
    box = new_account(house.database)
    box.deliver()
    house.database.run(lambda tx: messages.expunge(tx, box.account, box.id("INBOX"), EVERY_UID, now=NOW))
    box.deliver(received_at=NOW + DAY)
    await house.keeping.sweep()
    assert house.desk.purged == [KEPT]
    assert house.compaction.runs == 1
    assert house.database.look(lambda reader: reader.rows("SELECT * FROM tombstone")) == []
    page = house.database.look(lambda reader: reader.rows("SELECT kind FROM journal"))
    assert page == [(int(journal.Kind.ADDED),)]


@pytest.mark.parametrize("fault", [StoreFault("no space", is_full=True), RuntimeError("a defect")])
async def test_a_part_that_fails_keeps_no_other_from_its_work(tmp_path: Path, fault: Exception) -> None:
    house = House(tmp_path, SetClock())
    house.desk.fault = fault
    await house.keeping.sweep()
    assert house.compaction.runs == 1


async def test_what_waits_for_others_keeps_no_part_of_ours_waiting(tmp_path: Path) -> None:
    house = House(tmp_path, SetClock())
    done: list[int] = []

    async def chore() -> None:
        done.append(house.compaction.runs)

    house.keeping._chores = (chore,)
    await house.keeping.sweep()
    assert done == [1], "room is made before DNS is asked for keys"


async def test_keys_of_threads_without_letters_go_once_a_day(tmp_path: Path) -> None:
    clock = SetClock(NOW)
    house = House(tmp_path, clock)
    box = new_account(house.database)
    box.deliver(message_id=b"1@alice.test")
    box.deliver(message_id=b"2@alice.test", flags=0)

    def keys() -> int:
        return house.database.look(lambda reader: reader.row("SELECT COUNT(*) FROM thread_reference"))[0]  # type: ignore[no-any-return]

    await house.keeping.sweep()
    assert keys() == 2
    house.database.run(lambda tx: messages.expunge(tx, box.account, box.id("INBOX"), ((1, 1),), now=NOW))
    clock.now += SWEEP
    await house.keeping.sweep()
    assert keys() == 2
    clock.now += DAY
    await house.keeping.sweep()
    assert keys() == 1


@pytest.mark.parametrize(
    ("present", "hours", "pause"),
    [
        ([-1], 1.0, 2.5 * 3600),  # yesterday's is there: at 03:30
        ([-1], 4.0, 23.5 * 3600),
        ([0], 3.5, DAY),
        ([], 4.0, SWEEP),  # never any: soon
        ([-5, -2], 4.0, SWEEP),  # the machine slept at that hour
        ([-5, -2], 3.0, 0.5 * 3600),
    ],
)
def test_the_next_snapshot(tmp_path: Path, present: list[int], hours: float, pause: float) -> None:
    house = House(tmp_path, SetClock(at(0, hours)), snapshot="03:30")
    for day in present:
        (tmp_path / housekeeping._name(at(day, 3.5))).touch()
    assert house.keeping.until_snapshot() == pytest.approx(pause)


async def test_the_oldest_snapshots_go(tmp_path: Path) -> None:
    clock = SetClock(at(0, 3.5))
    house = House(tmp_path, clock, snapshots_kept=3)
    for _ in range(5):
        await house.keeping.snapshot()
        clock.now += DAY
    assert house.snapshots == [housekeeping._name(at(day, 3.5)) for day in (2, 3, 4)]


def test_a_week(tmp_path: Path) -> None:
    async def story() -> None:
        house = House(tmp_path, FakeClock(), snapshot="03:30", snapshots_kept=30)
        house.keeping.start()
        try:
            await housekeeping.asyncio.sleep(7 * DAY)
        finally:
            await house.keeping.stop()
        assert len(house.snapshots) == 8, "one soon after the first start, then one a day"
        assert 7 * 24 - 1 <= house.compaction.runs <= 7 * 24

    run(story())


def test_a_job_that_fails_is_tried_again_at_its_next_time(tmp_path: Path) -> None:
    async def story() -> None:
        house = House(tmp_path, FakeClock(), snapshot="03:30")
        copy, fails = house.database.snapshot, 3

        async def snapshot(target: Path) -> None:
            nonlocal fails
            fails -= 1
            if fails >= 0:
                raise StoreFault("no space", is_full=True)
            await copy(target)

        house.database.snapshot = snapshot  # type: ignore[method-assign]
        house.keeping.start()
        await housekeeping.asyncio.sleep(DAY / 2)
        await house.keeping.stop()
        assert len(house.snapshots) == 1

    run(story())
