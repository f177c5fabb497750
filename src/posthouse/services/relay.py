# SPDX-License-Identifier: Apache-2.0
"""The relay: sends what is due, in turn, within limits, and sleeps until the next due time.

Invariant: memory holds what is being sent (a few letters per connection), never what waits. The relay learns of
new mail by the ChangeBus topic "queue" and of time by one timer; the database is the truth, so a lost hint or a
jump of the clock costs at most RECHECK seconds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from posthouse.ports import Change, ChangeBus, Clock, Database, StoreFault
from posthouse.services.carrier import Carrier
from posthouse.services.lanes import Hop, Lane
from posthouse.services.settle import RelayCounters, Settler
from posthouse.store import destinations, queue
from posthouse.store.destinations import Destination
from posthouse.telemetry import logger

CONNECTIONS = 100  # outgoing at once: some hundred kilobytes each, and a small line is full long before
RECHECK = 300.0  # seconds: the longest sleep while something waits, because the wall clock may jump meanwhile
TICK = 0.001  # seconds: timers are not finer, and wall and loop time differ in their last digits
REST_AFTER_FAULT = 60.0  # seconds before a destination is tried again after a fault of our own (disk, defect)
CLOCK_JUMP = 60.0  # seconds that the wall clock may go back unnoticed (leap smearing, small corrections)


@dataclass(frozen=True, slots=True)
class RelayState:
    """What is going on, for metrics and the operator."""

    connections: int
    claimed: int
    destinations: dict[str, int]  # next hop -> connections


class Relay:
    """Starts one lane per connection. `is_alone`: no other process serves this store, so that claims of other
    incarnations are those of the dead."""

    def __init__(
        self,
        database: Database,
        carrier: Carrier,
        settler: Settler,
        clock: Clock,
        bus: ChangeBus,
        *,
        connections: int = CONNECTIONS,
        is_alone: bool = True,
    ) -> None:
        self._database = database
        self._carrier = carrier
        self._settler = settler
        self._clock = clock
        self._bus = bus
        self._connections = connections
        self._is_alone = is_alone
        self._lanes: dict[Lane, asyncio.Task[None]] = {}
        self._by_hop: dict[str, list[Lane]] = {}  # the same lanes: each look asks for those of hundreds of destinations
        self._resting: dict[str, float] = {}  # next hop -> monotonic time, after a fault of our own
        self._wake = asyncio.Event()
        self._working = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._unsubscribe: Callable[[], None] = lambda: None
        self._is_stopping = False
        self._clock_offset = clock.wall() - clock.monotonic()
        self._log = logger("relay")

    @property
    def counters(self) -> RelayCounters:
        return self._settler.counters

    def state(self) -> RelayState:
        hops = Counter(lane.next_hop for lane in self._lanes)
        return RelayState(len(self._lanes), sum(len(lane.claimed) for lane in self._lanes), dict(sorted(hops.items())))

    async def start(self) -> None:
        """Take back what dead incarnations had claimed, then begin to send."""
        now = self._clock.wall()
        taken = 0
        while count := await self._take_back(now):
            taken += count
        await self._pull_in(now)
        if taken:
            self._log.info("claims_taken_back", recipients=taken)
        self._unsubscribe = self._bus.subscribe("queue", 0, self._told)
        self._tasks = [asyncio.create_task(self._dispatch()), asyncio.create_task(self._renew_leases())]

    async def stop(self, grace: float = 30.0) -> None:
        """Drain: finish the mail transactions that run, for at most `grace` seconds; give back the rest."""
        self._is_stopping = True
        self._unsubscribe()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for lane in self._lanes:
            lane.leave()
        workers = list(self._lanes.values())
        if workers:
            await asyncio.wait(workers, timeout=grace)
        self._settler.is_hurried = True
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    def wake(self) -> None:
        """Look at the queue again: something changed."""
        self._wake.set()

    def _told(self, change: Change) -> None:
        self.wake()

    # --- the dispatcher ---------------------------------------------------------------------------

    async def _dispatch(self) -> None:
        while True:
            self._wake.clear()
            try:
                pause = await self._look()
            except StoreFault as fault:
                self._log.error("queue_not_readable", reason=str(fault))
                pause = REST_AFTER_FAULT
            except Exception as fault:
                self._log.exception("dispatcher_fault", reason=repr(fault))
                pause = REST_AFTER_FAULT
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _look(self) -> float | None:
        """Start lanes for what is ready; return how long to sleep, None for until woken."""
        await self._check_clock()
        # As many destinations as are being served may be passed over, so that many more are looked at.
        limit = 2 * self._connections + 1
        page = await self._database.read(lambda reader: destinations.ready_page(reader, limit))
        now = self._clock.wall()
        pauses = [] if self._is_alone else [await self._lease_pause(now)]
        waiting = 0
        for place in page:
            assert place.ready_at is not None
            rest = self._resting.get(place.next_hop, 0.0) - self._clock.monotonic()
            pause = max(place.ready_at - now, rest)
            if pause > 0:
                pauses.append(pause)
                if place.ready_at > now:
                    break  # the page is in order of time
            elif not self._serve(place):
                waiting += 1
        self._make_room(waiting)
        if not pauses and not page:
            return None
        return max(TICK, min([*pauses, RECHECK]))

    def _serve(self, place: Destination) -> bool:
        """Give a ready destination a lane if it may have one; False when only the total limit is in the way."""
        lanes = self._by_hop.get(place.next_hop, [])
        idle = next((lane for lane in lanes if lane.is_idle and not lane.gives_way), None)
        if idle is not None:
            idle.wake.set()
            return True
        # The second connection waits until the first has shown that the host is there, and taken its share.
        limit = self._settler.schedules.of(place.next_hop).connections
        hop = lanes[0].hop if lanes else Hop(place.next_hop)
        if lanes and (hop.is_down or len(lanes) >= limit or not all(lane.is_at_work for lane in lanes)):
            return True
        if len(self._lanes) >= self._connections:
            return False
        lane = Lane(hop, self.wake, is_telling=place.down_until > self._clock.wall())
        task = asyncio.create_task(self._carrier.run(lane))
        self._lanes[lane] = task
        self._by_hop.setdefault(lane.next_hop, []).append(lane)
        task.add_done_callback(lambda done: self._finished(lane, done))
        self._working.set()
        return True

    def _make_room(self, waiting: int) -> None:
        """Destinations wait for a place: idle connections go, then the extra ones of whoever has most, then those
        that have worked longest. Each finishes the letters it has claimed first."""
        if not waiting:
            return
        hops = Counter(lane.next_hop for lane in self._lanes)
        going = sum(lane.gives_way for lane in self._lanes)
        candidates = [lane for lane in self._lanes if not lane.gives_way]
        candidates.sort(key=lambda lane: (not lane.is_idle, -hops[lane.next_hop]))
        for lane in candidates[: max(0, waiting - going)]:
            lane.give_way()

    def _finished(self, lane: Lane, done: asyncio.Task[None]) -> None:
        del self._lanes[lane]
        same = self._by_hop[lane.next_hop]
        same.remove(lane)
        if not same:
            del self._by_hop[lane.next_hop]
        if not self._lanes:
            self._working.clear()
        fault = None if done.cancelled() else done.exception()
        if fault is not None:
            self._log.error("worker_fault", next_hop=lane.next_hop, reason=repr(fault), exc_info=fault)
            now = self._clock.monotonic()
            self._resting = {hop: until for hop, until in self._resting.items() if until > now}
            self._resting[lane.next_hop] = now + REST_AFTER_FAULT
        self.wake()

    # --- time and leases --------------------------------------------------------------------------

    async def _check_clock(self) -> None:
        offset = self._clock.wall() - self._clock.monotonic()
        if offset < self._clock_offset - CLOCK_JUMP:
            self._log.warning("clock_went_back", seconds=round(self._clock_offset - offset))
            await self._pull_in(self._clock.wall())
        self._clock_offset = offset

    async def _pull_in(self, now: float) -> None:
        latest = now + self._settler.schedules.longest_delay
        await self._database.write(lambda tx: destinations.pull_in(tx, now, latest))

    async def _take_back(self, now: float) -> int:
        return await self._database.write(
            lambda tx: queue.take_back(tx, self._settler.owner, now, is_alone=self._is_alone)
        )

    async def _lease_pause(self, now: float) -> float:
        """Other nodes: take back what their dead incarnations had claimed; seconds until the next lease ends."""
        ends = await self._database.read(lambda reader: queue.next_lease_end(reader, self._settler.owner))
        if ends is None:
            return RECHECK
        if ends > now:
            return ends - now
        taken = await self._take_back(now)
        self._log.warning("claims_taken_back", recipients=taken)
        self.wake()
        return RECHECK

    async def _renew_leases(self) -> None:
        """While something is claimed, say so three times per lease."""
        while True:
            await self._working.wait()
            await asyncio.sleep(self._carrier.lease / 3)
            if not any(lane.claimed for lane in self._lanes):
                continue
            until = self._clock.wall() + self._carrier.lease
            try:
                await self._database.write(partial(queue.renew, owner=self._settler.owner, leased_until=until))
            except Exception as fault:  # whatever it is, the next renewal is due all the same
                self._log.error("leases_not_renewed", reason=repr(fault))
