# SPDX-License-Identifier: Apache-2.0
"""What each step of the queue costs as the queue grows: insert, claim, record, a destination down, what operators ask.

Only the CPU time inside the unit of work (or the query) counts: no sync, no hand-over between threads, nothing that
another program takes. A step whose cost grows with what waits would make a long outage a slow server.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

from bench import filling
from posthouse.app import House
from posthouse.outcome import Outcome, Status
from posthouse.ports import Reader, Transaction
from posthouse.store import destinations, letters, queue, queue_admin
from posthouse.store.queue_admin import Selection
from posthouse.store.queue_rows import Attempt, ClaimedLetter, Ruling, State

T = TypeVar("T")

ROUNDS = 200  # of each step; the median counts, so that a page read from the disk does not
SEEN = 5  # rounds of what walks through the queue
OWNER = "bench"
# Rows that a unit inserts are written when a statement names their table, at the latest at the commit, where nobody
# would count them.
WRITES_WHAT_WAITS = "SELECT 1 FROM queue_letter WHERE id = -1"
LETTERS_PER_CLAIM = 10  # as the relay claims
SENT = Outcome(Status(2, 0, 0), "taken", host="sink.test", address="127.0.0.1")
DEFERRED = Outcome(Status(4, 2, 0), "later", host="sink.test", address="127.0.0.1")


class Stopwatch:
    """CPU milliseconds of each step, measured in the thread that does it."""

    def __init__(self, house: House) -> None:
        self._database = house.database
        self._times: dict[str, list[float]] = {}

    async def write(self, step: str, unit: Callable[[Transaction], T]) -> T:
        def timed(tx: Transaction) -> tuple[T, float]:
            started = time.thread_time()
            result = unit(tx)
            tx.row(WRITES_WHAT_WAITS)
            return result, time.thread_time() - started

        return self._note(step, await self._database.write(timed))

    async def read(self, step: str, query: Callable[[Reader], T]) -> T:
        def timed(reader: Reader) -> tuple[T, float]:
            started = time.thread_time()
            result = query(reader)
            return result, time.thread_time() - started

        return self._note(step, await self._database.read(timed))

    def _note(self, step: str, done: tuple[T, float]) -> T:
        self._times.setdefault(step, []).append(done[1] * 1000)
        return done[0]

    def medians(self) -> dict[str, float]:
        return {step: median(times) for step, times in self._times.items()}


async def measure(folder: Path, count: int, places: int, octets: int) -> dict[str, float]:
    """Median CPU milliseconds of each step on a store that has at least `count` letters queued, due now."""
    async with filling.opened(folder) as house:
        watch = Stopwatch(house)
        await _write_steps(house, watch, count, places, octets)
        await _down_steps(house, watch, places)
        await _read_steps(watch, places)
        return watch.medians()


async def _write_steps(house: House, watch: Stopwatch, count: int, places: int, octets: int) -> None:
    now = house.machine.clock.wall()

    def accept(tx: Transaction, number: int) -> None:
        new = filling.letter(number, octets, now)
        hop = filling.destination(number % places)
        letters.accept(tx, new, [], filling.queued(number, new.content.size, now, hop))

    for number in range(ROUNDS):
        await watch.write("insert a letter", partial(accept, number=count + number))
    for number in range(ROUNDS):
        hop = filling.destination(number * 7 % places)
        claimed = await watch.write(
            "claim 10 letters",
            partial(
                queue.claim_due,
                next_hop=hop,
                now=now + 1,
                owner=OWNER,
                leased_until=now + 900,
                max_letters=LETTERS_PER_CLAIM,
            ),
        )
        for at, each in enumerate(claimed[:2]):
            state, outcome = (State.DELIVERED, SENT) if at else (State.DUE, DEFERRED)
            step = "record one sent" if at else "record one deferred"
            await watch.write(step, partial(_record, letter=each, state=state, outcome=outcome, now=now))
        ids = [recipient.id for each in claimed[2:] for recipient in each.recipients]
        await watch.write("give 8 back", partial(queue.give_back, owner=OWNER, recipients=ids, now=now))


def _record(tx: Transaction, letter: ClaimedLetter, state: State, outcome: Outcome, now: float) -> None:
    recipient = letter.recipients[0]
    ruling = Ruling(recipient.id, state, outcome, due_at=now + 60, warn_at=recipient.warn_at)
    attempt = Attempt(
        letter.id, recipient.next_hop, now, "sink.test", "127.0.0.1", "", ((outcome, (str(recipient.path),)),)
    )
    queue.record(tx, letter.id, [ruling], owner=OWNER, now=now, attempt=attempt)


async def _down_steps(house: House, watch: Stopwatch, places: int) -> None:
    now = house.machine.clock.wall()
    down = Outcome(Status(4, 4, 1), "refused")
    for number in range(ROUNDS):
        hop = filling.destination(number * 7 % places)
        attempt = Attempt(None, hop, now, "", "127.0.0.1", "", ((down, ()),))
        await watch.write(
            "set a destination down",
            partial(destinations.set_down, next_hop=hop, now=now, until=now + 60, outcome=down, attempt=attempt),
        )
        await watch.write(
            "claim what is overdue there",
            partial(queue.claim_overdue, next_hop=hop, now=now, owner=OWNER, leased_until=now + 900),
        )
    await watch.write("take back dead claims", partial(queue.take_back, owner=OWNER, now=now, is_alone=True))
    await watch.write("renew leases", partial(queue.renew, owner=OWNER, leased_until=now + 900))
    await watch.write("forget idle destinations", partial(destinations.prune_all, now=now))


async def _read_steps(watch: Stopwatch, places: int) -> None:
    for _ in range(ROUNDS):
        await watch.read("look for ready destinations", partial(destinations.ready_page, limit=201))
    last = filling.destination(places - 1)
    for _ in range(SEEN):
        await watch.read("totals (metrics)", queue_admin.totals)
        await watch.read("list the queue, a page", partial(queue_admin.list_letters, selection=Selection()))
        for what, selection in (("a destination", Selection.parse(last)), ("nobody", Selection.parse("nobody.test"))):
            step = f"list {what}, a visit"
            await watch.read(step, partial(queue_admin.list_letters, selection=selection))
            step = f"find recipients of {what}, a visit"
            await watch.read(step, partial(queue_admin.find, selection=selection, states=(State.DUE,)))
        who = Selection.parse(f"person{places - 1}@{last}")
        await watch.read("list an address, a visit", partial(queue_admin.list_letters, selection=who))
        await watch.read("look for a Message-ID, a visit", partial(queue_admin.find_named, name="<x@y>"))
