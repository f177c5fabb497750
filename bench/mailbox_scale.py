# SPDX-License-Identifier: Apache-2.0
"""One mailbox grown large: what a delivery, a login, a listing, a letter and a big removal cost, and what others wait.

"Others" is a second user who logs in and asks STAT again and again meanwhile: the longest of his sessions counts.
"""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from statistics import median

from bench import filling
from bench.cells import US, Cell, Family, Measure, Task
from bench.house import ADMIN, DOMAIN, PASSWORD, Server
from bench.pop3_client import Pop3
from bench.smtp_client import Smtp
from bench.submission_load import percentiles

SIZES = (1_000, 100_000, 1_000_000)
OCTETS = 1024
QUICK = 20  # a try-out has so many times fewer letters
OTHER = f"other@{DOMAIN}"
DELIVERED = 500  # letters
BREATH = 0.002  # seconds between two tries of others: the client shares the cores with the server
SESSIONS = 5  # of which the median counts
REMOVED = 50_000  # scattered letters, or a quarter of a smaller mailbox


def milliseconds(key: str, title: str) -> Measure:
    return Measure(key, title, "ms", is_more_better=False)


MEASURES = (
    milliseconds("login_ms", "PASS, the password being known"),
    milliseconds("first_ms", "login and STAT after a start, the password hashed"),
    milliseconds("deliver_p50_ms", "a letter delivered, median"),
    milliseconds("deliver_p99_ms", "99 of 100 within"),
    milliseconds("deliver_cpu_ms", "CPU of a delivery"),
    milliseconds("stat_ms", "STAT"),
    milliseconds("uidl_ms", "UIDL, all letters"),
    milliseconds("retr_ms", "RETR of a letter in the middle"),
    milliseconds("others_login_ms", "others wait at most, during logins and listings"),
    milliseconds("remove_ms", "QUIT after DELE of many scattered letters"),
    milliseconds("others_remove_ms", "others' letters wait at most, during it"),
    Measure("own_mib", "memory of its own, at most", "MiB", is_more_better=False),
    Measure("fill_rate", "letters put into the store before", "/s"),
)


class Others:
    """A second user at work; `longest` is the worst he has met, in seconds. Or, with `writes`, a letter for him."""

    def __init__(self, server: Server, *, writes: bool = False) -> None:
        self._server = server
        self._writes = writes
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.longest = 0.0
        self.own_memory = 0.0

    def __enter__(self) -> Others:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _work(self) -> None:
        with Smtp(self._server.smtp) as letters:
            while not self._is_over.is_set():
                started = time.perf_counter()
                if self._writes:
                    letters.send(OTHER, OCTETS)
                else:
                    with Pop3(self._server.pop3, OTHER) as session:
                        session.say("STAT")
                        session.say("QUIT")
                self.longest = max(self.longest, time.perf_counter() - started)
                self.own_memory = max(self.own_memory, self._server.memory().own)
                time.sleep(BREATH)


def delivering(server: Server, letters: int) -> dict[str, float]:
    """Letters one after the other, each answered before the next."""
    times = []
    cpu = server.cpu_seconds()
    with Smtp(server.smtp) as session:
        for _ in range(letters):
            started = time.perf_counter()
            session.send(ADMIN, OCTETS)
            times.append(time.perf_counter() - started)
    found = percentiles(times)
    return {
        "deliver_p50_ms": found["p50_ms"],
        "deliver_p99_ms": found["p99_ms"],
        "deliver_cpu_ms": (server.cpu_seconds() - cpu) / letters * 1000,
    }


def reading(server: Server, letters: int) -> dict[str, float]:
    """Whole sessions of the owner of the large mailbox; the first ones, which hash the passwords, do not
    count."""
    rounds: dict[str, list[float]] = {}
    first = 0.0
    for user in (OTHER, ADMIN):
        with Pop3(server.pop3, user) as session:
            session.say("STAT")
            first = session.times["PASS"] + session.times["STAT"]
            session.say("QUIT")
    with Others(server) as others:
        for _ in range(SESSIONS):
            with Pop3(server.pop3, ADMIN) as session:
                session.say("STAT")
                session.say("UIDL", is_listing=True)
                session.say(f"RETR {letters // 2}", is_listing=True)
                session.say("QUIT")
                for command, seconds in session.times.items():
                    rounds.setdefault(command, []).append(seconds * 1000)
    found = {command: median(times) for command, times in rounds.items()}
    return {
        "login_ms": found["PASS"],
        "first_ms": first * 1000,
        "stat_ms": found["STAT"],
        "uidl_ms": found["UIDL"],
        "retr_ms": found["RETR"],
        "others_login_ms": others.longest * 1000,
        "own_mib": max(others.own_memory, server.memory().own),
    }


def removing(server: Server, letters: int) -> dict[str, float]:
    """DELE of every second letter, up to REMOVED, then QUIT, while letters come for somebody else."""
    count = min(REMOVED, letters // 4)
    with Pop3(server.pop3, ADMIN) as session, Others(server, writes=True) as others:
        session.pipeline([f"DELE {number}" for number in range(1, 2 * count, 2)])
        others.longest = 0.0
        session.say("QUIT")
    return {"remove_ms": session.times["QUIT"] * 1000, "others_remove_ms": others.longest * 1000}


def measure(folder: Path, letters: int) -> dict[str, float]:
    server = Server(folder)
    server.found()
    server.command("account", "add", OTHER, "--password-stdin", given=PASSWORD + "\n")
    fill_seconds = asyncio.run(_fill(folder, letters))
    with server.running():
        return {
            **delivering(server, DELIVERED),
            **reading(server, letters),
            **removing(server, letters),
            "fill_rate": letters / fill_seconds,
        }


async def _fill(folder: Path, letters: int) -> float:
    async with filling.opened(folder) as house:
        return await filling.fill_mailbox(house, ADMIN, letters, OCTETS)


def cell(size: int) -> Cell:
    loads_for = 12 + size / 6000
    return Cell(f"{size:,} letters in one mailbox", MEASURES, importance=4, loads_for=loads_for, most_rounds=1)


SIZE_OF = {cell(size).name: size for size in SIZES}


def run(task: Task) -> dict[str, float]:
    size = SIZE_OF[task.cell.name]
    return measure(task.folder / "d", max(1000, size // QUICK) if task.is_quick else size)


NOTE = f"""\
The mailbox is filled through the store, in large units, with letters of {OCTETS} octets; then a server is started on
it. One client, one command at a time, over loopback. Removed are {REMOVED:,} letters (a quarter of a smaller mailbox).
"""

FAMILY = Family("mailbox", "A large mailbox", tuple(cell(size) for size in SIZES), (US,), run, NOTE)
