# SPDX-License-Identifier: Apache-2.0
"""A working day of 500 people on a small machine: two cores, 2 GB, a smart host that is away for an hour.

The day is compressed: everything comes so many times faster than in life, the waiting of the queue too. At its end
every accepted letter must be accounted for: fetched or in its mailbox, or at the smart host.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from pathlib import Path

import uvloop

from bench.cells import US, Cell, Family, Measure, Target, Task
from bench.confined import limited
from bench.day_people import HOUR, Day, People, person
from bench.house import DOMAIN, Server, raise_descriptors, wait_until
from bench.peers.posthouse import add_accounts
from bench.pop3_client import Pop3
from bench.sink import Sink
from bench.startup import Watch
from bench.submission_load import percentiles
from posthouse.access import client

PEOPLE = 500
HOURS = 8.0  # nine to five
SPEED = 60.0  # an hour passes in a minute
MEMORY = 2 << 30  # octets
OUTAGE_AT = 0.3  # of the day
OUTAGE = 1.0  # hours, or a third of a shorter day
QUICK_HOURS = 1.0
QUICK_PEOPLE = 50
MAX_TWICE = 5  # connections to one destination: when the host goes away, each may lose the reply to a letter
PROBLEMS_TOLD = 5  # kinds of them, while it runs
EVENING = 120.0  # seconds in which the queue must be empty after the day

OPERATIONS = {
    "letter submitted": "submit",
    "letter from outside": "inbound",
    "look for mail": "session",
    "POP3 login": "login",
    "10 MiB submitted": "big",
    "newsletter to all": "news",
}


def _measures() -> tuple[Measure, ...]:
    found = []
    for name, key in OPERATIONS.items():
        found.append(Measure(f"{key}_p50_ms", f"{name}, median", "ms", is_more_better=False))
        found.append(Measure(f"{key}_p99_ms", f"{name}, 99 of 100 within", "ms", is_more_better=False))
    return (
        *found,
        Measure("peak_own_mib", "memory of its own, at most", "MiB", is_more_better=False),
        Measure("peak_group_mib", "with the page cache of its files", "MiB", is_more_better=False),
        Measure("limit_mib", "limit of both (0: none could be set)", "MiB"),
        Measure("cores", "cores used over the compressed day", "", is_more_better=False),
        Measure("letters", "letters into mailboxes", ""),
        Measure("relayed", "letters to the smart host", ""),
        Measure("logins", "POP3 sessions", ""),
        Measure("problems", "operations that failed", "", is_more_better=False),
    )


async def _furnish(folder: Path, people: int) -> None:
    await add_accounts(folder, [person(number) for number in range(people)])
    async with client(folder) as api:
        everybody = {"address": f"all@{DOMAIN}", "targets": [person(number) for number in range(people)]}
        (await api.post("/v1/aliases", json=everybody)).raise_for_status()


def _settings(speed: float) -> str:
    """The queue's own schedule, as much faster as the day is."""
    retry = ", ".join(f'"{max(1, round(minutes * 60 / speed))}s"' for minutes in (1, 5, 15, 30))
    return f'[queue]\nretry = [{retry}]\nwarn = "{max(1, round(4 * HOUR / speed))}s"\n'


class SmartHost:
    """The next hop of everything for outside, which is away for a part of the day."""

    def __init__(self) -> None:
        self._sink = Sink()
        self.port = self._sink.port
        self._earlier = 0
        self._sink.__enter__()

    def letters(self) -> int:
        return self._earlier + self._sink.letters()

    def leave(self) -> None:
        self._sink.__exit__(None, None, None)
        self._earlier += self._sink.letters()

    def come_back(self) -> None:
        self._sink = Sink(self.port)
        self._sink.__enter__()

    def close(self) -> None:
        self._sink.__exit__(None, None, None)


def measure(folder: Path, people: int, hours: float, speed: float) -> dict[str, float]:
    raise_descriptors()
    host = SmartHost()
    server = Server(folder, {"*": f"127.0.0.1:{host.port}"}, _settings(speed))
    try:
        server.found()
        asyncio.run(_furnish(folder, people))
        with limited(MEMORY) as limit:
            server.wrapper = limit.wrapper
            server.start()
            try:
                found = _play(server, host, Day(people, hours, speed, server.smtp, server.submission, server.pop3))
                found["limit_mib"] = 0.0 if limit.folder is None else MEMORY / (1 << 20)
                peak = limit.peak()
                if peak is not None:
                    found["peak_group_mib"] = peak
                if limit.kills():
                    raise RuntimeError(f"the server was ended for want of memory ({limit.how})")
            finally:
                server.stop()
        return found
    finally:
        host.close()


def _play(server: Server, host: SmartHost, day: Day) -> dict[str, float]:
    outage = min(OUTAGE, day.hours / 3) * HOUR / day.speed
    away_at = OUTAGE_AT * day.hours * HOUR / day.speed
    timers = [threading.Timer(away_at, host.leave), threading.Timer(away_at + outage, host.come_back)]
    people = People(day)
    cpu, started = server.cpu_seconds(), time.perf_counter()
    with Watch(server.memory) as watch:
        for timer in timers:
            timer.start()
        uvloop.run(people.live())
        seconds = time.perf_counter() - started
        for timer in timers:
            timer.join()
        wait_until(lambda: host.letters() >= people.tally.sent_outside, EVENING, "the queue to be empty")
    tally = people.tally
    found = {"cores": (server.cpu_seconds() - cpu) / seconds, "peak_own_mib": watch.own}
    for name, key in OPERATIONS.items():
        found |= {f"{key}_{each}": value for each, value in percentiles(tally.times.get(name, [])).items()}
    for problem, times in sorted(tally.problems.items(), key=lambda each: -each[1])[:PROBLEMS_TOLD]:
        print(f"  {times} times: {problem}", file=sys.stderr)
    _account(server, host, day, people)
    found |= {
        "letters": float(tally.delivered),
        "relayed": float(tally.sent_outside),
        "logins": float(len(tally.times.get("look for mail", []))),
        "problems": float(sum(tally.problems.values())),
    }
    return found


def _account(server: Server, host: SmartHost, day: Day, people: People) -> None:
    """Every letter that was accepted is somewhere, once. Raises RuntimeError."""
    tally = people.tally
    twice = host.letters() - tally.sent_outside
    if not 0 <= twice <= MAX_TWICE:
        raise RuntimeError(f"{host.letters()} letters at the smart host, {tally.sent_outside} were accepted for it")
    left = 0
    for number in range(day.people):
        with Pop3(server.pop3, person(number)) as session:
            left += session.letters() - people.left_on_server(number)
            session.say("QUIT")
    if tally.fetched + left != tally.delivered:
        raise RuntimeError(
            f"{tally.fetched} letters fetched and {left} waiting, {tally.delivered} were accepted; {tally.problems}"
        )


CELL = Cell(
    f"{PEOPLE} people, {HOURS:.0f} hours in {HOURS * HOUR / SPEED / 60:.0f} minutes, 2 GB",
    _measures(),
    importance=3,
    targets=(Target("", "submit_p99_ms", 1000), Target("", "login_p99_ms", 1000), Target("", "problems", 0)),
    loads_for=HOURS * HOUR / SPEED + 60,
    most_rounds=1,
)


def run(task: Task) -> dict[str, float]:
    if task.is_quick:
        return measure(task.folder / "d", QUICK_PEOPLE, QUICK_HOURS, SPEED)
    return measure(task.folder / "d", PEOPLE, HOURS, SPEED)


NOTE = f"""\
Everything comes {SPEED:.0f} times faster than in life: {PEOPLE} people who look for mail every five minutes (POP3, new
letters fetched, every second person removes them), write four letters an hour (login, DKIM signatures, half of them
to outside) and get eight from outside, a tenth of the day's within the first ten minutes; some letters of 10 MiB;
three newsletters to everybody; a smart host that refuses connections for an hour. The queue's schedule is as much
faster. Times count from the planned moment. A right password is known for five real minutes, so most logins here do
not hash it; in life most do, which at this number of people takes a thirtieth of a core.
The clients share the two cores with the server.
The limit of memory is a control group (version 1 or 2, no swap) that the server is started in; where none can be made,
the limit is told as 0 and the memory with the page cache is missing.
"""

FAMILY = Family("day", "A working day", (CELL,), (US,), run, NOTE)
