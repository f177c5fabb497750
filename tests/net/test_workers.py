# SPDX-License-Identifier: Apache-2.0
"""Threads by name, the committer's batches, one wake-up for all answers, and a clean end."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest

from posthouse.net import workers as workers_module
from posthouse.net.workers import ThreadWorkers


async def test_a_pool_runs_no_more_at_once_than_its_size() -> None:
    workers = ThreadWorkers(sizes={"disk": 2})
    both = threading.Barrier(2, timeout=10)
    running, most, lock = 0, 0, threading.Lock()

    def work() -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait()  # passes only when two run at once
        with lock:
            running -= 1
        return threading.current_thread().name

    names = await asyncio.gather(*(workers.run(work) for _ in range(6)))
    assert most <= 2
    assert {name.rpartition("_")[0] for name in names} == {"disk"}
    with pytest.raises(KeyError):
        await workers.run(work, pool="unknown")
    await workers.close()


async def test_a_functions_exception_is_raised_to_its_caller() -> None:
    workers = ThreadWorkers()
    with pytest.raises(ZeroDivisionError):
        await workers.run(lambda: 1 / 0)
    await workers.close()


async def test_the_committer_gets_everything_that_waits_in_order_in_one_thread() -> None:
    workers = ThreadWorkers()
    batches: list[list[int]] = []
    gate, names = threading.Event(), set()
    taken = asyncio.get_running_loop().create_future()
    seen = asyncio.get_running_loop().create_future()

    def commit(batch: list[int]) -> None:
        if not names:
            workers.call_back([partial(taken.set_result, None)])
        names.add(threading.current_thread().name)
        gate.wait(10)
        batches.append(batch)
        if batch and batch[-1] == 99:
            workers.call_back([partial(seen.set_result, None)])

    hand_in = workers.committer(commit)
    hand_in(0)
    await taken  # the first batch has been taken: what follows is the second
    for number in range(1, 100):
        hand_in(number)
    gate.set()
    await seen
    assert batches == [[0], list(range(1, 100))]
    assert names == {"committer"}
    await workers.close()


@pytest.mark.parametrize("is_held", [True, False])
async def test_what_a_busy_loop_hands_in_soon_shares_a_batch(monkeypatch: pytest.MonkeyPatch, *, is_held: bool) -> None:
    """But not where its turns take long, or are without end."""
    monkeypatch.setattr(workers_module, "HELD_SECONDS", 3600.0 if is_held else 0.0)
    monkeypatch.setattr(workers_module, "HELD_TURNS", workers_module.HELD_TURNS if is_held else 10**9)
    workers = ThreadWorkers()
    batches: list[list[int]] = []
    seen = {number: asyncio.get_running_loop().create_future() for number in (1, 2)}

    def commit(batch: list[int]) -> None:
        batches.append(batch)
        workers.call_back([partial(seen[number].set_result, None) for number in batch])

    hand_in = workers.committer(commit)
    hand_in(1)
    for _ in range(3):
        await asyncio.sleep(0)
    if not is_held:
        await seen[1]
    hand_in(2)
    await seen[2]
    assert [batch for batch in batches if batch] == ([[1, 2]] if is_held else [[1], [2]])
    await workers.close()


async def test_a_quiet_committer_is_asked_once_to_do_idle_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "IDLE_SECONDS", 0.001)
    workers = ThreadWorkers()
    batches: list[list[Any]] = []
    idle = asyncio.get_running_loop().create_future()

    def commit(batch: list[Any]) -> None:
        batches.append(batch)
        if not batch:
            workers.call_back([partial(idle.set_result, None)])

    workers.committer(commit)("work")
    await idle
    await workers.close()
    assert batches == [["work"], []]


async def test_a_fault_in_one_batch_does_not_end_the_committer() -> None:
    workers = ThreadWorkers()
    seen = asyncio.get_running_loop().create_future()

    def commit(batch: list[str]) -> None:
        if "bad" in batch:
            raise ValueError(batch)
        workers.call_back([partial(seen.set_result, None)])

    hand_in = workers.committer(commit)
    hand_in("bad")
    while not seen.done():
        hand_in("good")
        await asyncio.wait([seen], timeout=0.01)
        if seen.done():
            break
    await workers.close()


async def test_calls_back_run_in_the_loops_thread_in_order_with_one_wake_up(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = ThreadWorkers()
    loop = asyncio.get_running_loop()
    wake_ups, order = [], []
    real = loop.call_soon_threadsafe
    done = loop.create_future()

    def counted(*arguments: Any, **more: Any) -> asyncio.Handle:
        wake_ups.append(arguments)
        return real(*arguments, **more)

    def told(number: int) -> None:
        order.append((number, threading.current_thread() is threading.main_thread()))
        if number == 4:
            done.set_result(None)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    thread = threading.Thread(target=workers.call_back, args=([partial(told, number) for number in range(5)],))
    thread.start()
    await done
    thread.join()
    assert order == [(number, True) for number in range(5)]
    assert len(wake_ups) == 1
    await workers.close()


async def test_closing_ends_every_thread_after_the_work_handed_in() -> None:
    workers = ThreadWorkers()
    done: list[int] = []
    hand_in = workers.committer(done.extend)
    before = set(threading.enumerate())
    await workers.run(lambda: None, pool="read")
    for number in range(50):
        hand_in(number)
    await workers.close()
    await workers.close()
    assert done == list(range(50))
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert left <= {"close"}  # the thread that waited for the others is at its end
    assert not any(thread.name == "committer" for thread in threading.enumerate())


async def test_answers_after_the_loops_end_are_dropped() -> None:
    workers = ThreadWorkers()
    other = asyncio.new_event_loop()
    other.close()
    workers._loop = other
    workers.call_back([lambda: None])
