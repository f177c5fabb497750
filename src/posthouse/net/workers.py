# SPDX-License-Identifier: Apache-2.0
"""The Workers port: bounded thread pools by name, and committer threads.

Invariant: answers go to the loop with one wake-up per batch, and `close` returns only when every thread ended.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from posthouse import telemetry

T = TypeVar("T")

POOL_SIZES: Mapping[str, int] = {
    "disk": 4,  # spooled content, maps, snapshots, checkpoints: waits for the disk, rarely more than a few at once
    "hash": 2,  # Argon2id needs 19 MiB per thread and a whole core; more than two starve the loop
    "search": 2,  # what takes long in a large mailbox: sorting it, looking into large letters; it computes only
    "read": 1,  # more reader threads only fight for the interpreter (measured)
    "resolve": 2,  # look-ups through the system's resolver block, rarely
}

# After this long without work a committer is asked once to do idle work (checkpoints). Long enough that a busy
# server never sees it, short enough that the write-ahead log is small soon after a burst.
IDLE_SECONDS = 0.5

# Turns of the loop for which work for a committer is held, so that what a busy loop is about to hand in shares its
# batch: each batch costs two syncs, tens of writes, and a fight for the interpreter with each statement. An idle loop
# makes them in some fifteen microseconds. In a trial at 10 and 50 sessions: 15 % more letters (docs/performance.md).
HELD_TURNS = 8
# Seconds that turns may take for this; they are long where hundreds of sessions are busy at once.
HELD_SECONDS = 0.02


class _Entrance:
    """Through which the loop hands work to a committer's thread, in order."""

    def __init__(self, loop: asyncio.AbstractEventLoop, waiting: queue.SimpleQueue[list[Any]]) -> None:
        self._loop = loop
        self._waiting = waiting
        self._held: list[Any] = []
        self._until = 0.0

    def hand_in(self, item: Any) -> None:
        self._held.append(item)
        if len(self._held) == 1:
            self._until = self._loop.time() + HELD_SECONDS
            self._loop.call_soon(self._turn, HELD_TURNS)

    def pass_on(self) -> None:
        if self._held:
            self._waiting.put(self._held)
            self._held = []

    def _turn(self, left: int) -> None:
        if left > 1 and self._loop.time() < self._until:
            self._loop.call_soon(self._turn, left - 1)
        else:
            self.pass_on()


class ThreadWorkers:
    """Threads on the running loop; construct it in the loop's thread."""

    def __init__(self, *, sizes: Mapping[str, int] = POOL_SIZES) -> None:
        self._loop = asyncio.get_running_loop()
        self._sizes = dict(sizes)
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._committers: list[tuple[threading.Thread, _Entrance]] = []
        self._log = telemetry.logger("workers")

    async def run(self, function: Callable[[], T], *, pool: str = "disk") -> T:
        threads = self._pools.get(pool)
        if threads is None:
            threads = ThreadPoolExecutor(self._sizes[pool], thread_name_prefix=pool)
            self._pools[pool] = threads
        return await self._loop.run_in_executor(threads, function)

    def committer(self, commit: Callable[[list[Any]], None]) -> Callable[[Any], None]:
        waiting: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
        # A daemon: should the program end without `close`, it ends as in a power cut, which the store survives.
        thread = threading.Thread(target=self._commit_all, args=(commit, waiting), name="committer", daemon=True)
        entrance = _Entrance(self._loop, waiting)
        self._committers.append((thread, entrance))
        thread.start()
        return entrance.hand_in

    def _commit_all(self, commit: Callable[[list[Any]], None], waiting: queue.SimpleQueue[list[Any]]) -> None:
        is_idle = True
        while True:
            try:
                batch = waiting.get(timeout=None if is_idle else IDLE_SECONDS)
            except queue.Empty:
                is_idle = True
                self._guarded(commit, [])
                continue
            for _ in range(waiting.qsize()):
                batch.extend(waiting.get_nowait())
            is_idle = False
            if None not in batch:
                self._guarded(commit, batch)
                continue
            batch = batch[: batch.index(None)]
            if batch:
                self._guarded(commit, batch)
            return

    def _guarded(self, commit: Callable[[list[Any]], None], batch: list[Any]) -> None:
        try:
            commit(batch)
        except Exception:  # a fault of the program; the thread must go on, later batches may succeed
            self._log.exception("commit_failed", items=len(batch))

    def call_back(self, calls: Sequence[Callable[[], None]]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._run_calls, calls)
        except RuntimeError:  # the loop is closed: nobody waits any more
            self._log.warning("answers_dropped", calls=len(calls))

    @staticmethod
    def _run_calls(calls: Sequence[Callable[[], None]]) -> None:
        for call in calls:
            call()

    async def close(self) -> None:
        """End all threads after the work that was handed in."""
        for _, entrance in self._committers:
            entrance.hand_in(None)
            entrance.pass_on()
        threads = [thread for thread, _ in self._committers]
        self._committers.clear()
        pools = list(self._pools.values())
        self._pools.clear()
        ended = self._loop.create_future()

        def join() -> None:
            for thread in threads:
                thread.join()
            for pool in pools:
                pool.shutdown(wait=True)
            self.call_back([partial(ended.set_result, None)])

        if threads or pools:
            threading.Thread(target=join, name="close", daemon=True).start()
            await ended
