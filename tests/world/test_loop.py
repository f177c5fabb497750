# SPDX-License-Identifier: Apache-2.0
"""The world's event loop: virtual time, order, deadlock, and lives that end."""

from __future__ import annotations

import asyncio
import gc
import warnings

import pytest

from posthouse.net.workers import POOL_SIZES
from posthouse.sim.loop import Deadlock, Life, WorldLoop, current_life
from posthouse.sim.machine import COSTS


@pytest.fixture
def loop() -> WorldLoop:
    return WorldLoop()


def test_time_jumps_to_the_next_timer(loop: WorldLoop) -> None:
    async def main() -> float:
        await asyncio.sleep(30 * 86400)
        return loop.time()

    assert loop.run(main()) == 30 * 86400


def test_equal_times_keep_their_order(loop: WorldLoop) -> None:
    said: list[int] = []

    async def main() -> None:
        for number in range(10):
            loop.call_at(5.0, said.append, number)
        await asyncio.sleep(6)

    loop.run(main())
    assert said == list(range(10))


def test_a_deadlock_is_told_with_who_waits(loop: WorldLoop) -> None:
    async def wait_for_ever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="wait_for_ever"):
        loop.run(wait_for_ever())


def test_a_circle_without_time_is_told(loop: WorldLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.sim.loop.MAX_STEPS", 1000)

    async def main() -> None:
        for _ in range(2000):
            await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="no time passes"):
        loop.run(main())


def test_cancelled_timers_do_not_move_time(loop: WorldLoop) -> None:
    async def main() -> float:
        loop.call_later(100, print).cancel()
        await asyncio.sleep(1)
        return loop.time()

    assert loop.run(main()) == 1


def test_the_machinery_of_asyncio_works(loop: WorldLoop) -> None:
    """Timeouts, task groups, gather, executors, events."""

    async def main() -> list[int]:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await asyncio.sleep(4)
        event = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(event.wait())
            loop.call_later(2, event.set)
        numbers = await asyncio.gather(asyncio.sleep(1, 1), asyncio.sleep(0.5, 2))
        return [*numbers, await loop.run_in_executor(None, int, "3")]

    assert loop.run(main()) == [1, 2, 3]
    assert loop.time() == 6


def test_what_belongs_to_a_life_ends_with_it(loop: WorldLoop) -> None:
    """Not even a `finally` sees another instant: it is a crash."""
    life = Life("somebody", "192.0.2.1")
    said: list[str] = []

    async def work() -> None:
        assert current_life() is life
        helping = asyncio.create_task(helper())
        try:
            while True:
                await asyncio.sleep(1)
                said.append("work")
        finally:
            await asyncio.shield(late())
            await helping
            said.append("after the end")

    async def late() -> None:
        await asyncio.sleep(1)
        said.append("after the end")

    async def helper() -> None:
        await asyncio.sleep(1.5)
        said.append("help")
        await asyncio.sleep(100)
        said.append("after the end")

    async def main() -> None:
        loop.create_task(work(), context=life.context)
        await asyncio.sleep(2.5)
        loop.end(life)
        await asyncio.sleep(200)

    loop.run(main())
    assert said == ["work", "help", "work"]
    assert life.tasks == {}
    assert loop.faults == []


def test_a_life_that_ends_while_the_loop_stands_still_leaves_nothing_behind(loop: WorldLoop) -> None:
    """Clean-up that begins a task found no loop, or another one, and its coroutine was left over."""
    life = Life("somebody", "192.0.2.1")
    cleaned: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            cleaned.append("began")
            await asyncio.shield(asyncio.ensure_future(late()))

    async def late() -> None:
        cleaned.append("after the end")

    async def main() -> None:
        loop.create_task(work(), context=life.context)
        await asyncio.sleep(1)

    loop.run(main())
    asyncio.set_event_loop(None)  # as it is after any asynchronous test
    with warnings.catch_warnings(record=True) as left:
        warnings.simplefilter("always")
        loop.end(life)
        gc.collect()
    assert [str(each.message) for each in left] == []
    assert cleaned == ["began"]
    assert life.tasks == {}


def test_a_task_that_dies_unseen_is_a_fault(loop: WorldLoop) -> None:
    async def fail() -> None:
        raise ValueError("unseen")

    async def main() -> None:
        loop.create_task(fail())
        await asyncio.sleep(1)

    loop.run(main())
    assert len(loop.faults) == 1
    assert "unseen" in loop.faults[0]


def test_the_machine_of_a_world_has_every_pool_of_workers() -> None:
    assert set(COSTS) == set(POOL_SIZES)
