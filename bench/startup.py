# SPDX-License-Identifier: Apache-2.0
"""How long a server takes until it serves, and what memory it needs: beside others, and with a full store.

Full: 100,000 letters in the queue (for a destination that is down) and a million in mailboxes.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bench import filling
from bench.cells import US, Cell, Family, Measure, Target, Task
from bench.house import ADMIN, DOMAIN, PASSWORD, Memory, Server, free_port
from bench.peers import PEERS, USER, Peer
from bench.smtp import ALL, run_load

OCTETS = 1024
QUEUED = 100_000
KEPT = 1_000_000
MAILBOXES = 10  # that the million letters are in
QUICK = 100
IDLE_AFTER = 3.0  # seconds: the first idle work (a checkpoint) is done by then
SESSIONS = 50  # of the SMTP load
LETTERS = 3000
READS = 100  # POP3 sessions, each of which lists a whole mailbox
LOOK = 0.05  # seconds between looks at the memory
MANY_LOOK = 0.25  # at that of a server with a hundred processes
PEER_LETTERS = 1500
PEER_OCTETS = 10 * 1024

MEASURES = (
    Measure("start_s", "from the command until it answers", "s", is_more_better=False),
    Measure("crash_s", "the same after a kill -9", "s", is_more_better=False),
    Measure("idle_own_mib", "idle, memory of its own", "MiB", is_more_better=False),
    Measure("idle_rss_mib", "idle, resident", "MiB", is_more_better=False),
    Measure(
        "load_own_mib",
        f"with {SESSIONS} SMTP sessions and 10 POP3 ones, of its own, at most",
        "MiB",
        is_more_better=False,
    ),
    Measure("load_rss_mib", "the same, resident", "MiB", is_more_better=False),
)


PEER_MEASURES = (
    Measure("idle_pss_mib", "idle, PSS", "MiB", is_more_better=False),
    Measure("idle_rss_mib", "idle, resident", "MiB", is_more_better=False),
    Measure("load_pss_mib", f"with {SESSIONS} SMTP sessions, PSS at most", "MiB", is_more_better=False),
    Measure("load_rss_mib", "the same, resident", "MiB", is_more_better=False),
    Measure("start_s", "from its first program until it answers", "s", is_more_better=False),
)


class Watch:
    """The greatest memory while it is open."""

    def __init__(self, memory: Callable[[], Memory], pause: float = LOOK) -> None:
        self._memory = memory
        self._pause = pause
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.own = 0.0
        self.resident = 0.0

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._is_over.wait(self._pause):
            memory = self._memory()
            self.own, self.resident = max(self.own, memory.own), max(self.resident, memory.resident)


def reader(number: int) -> str:
    return f"user{number}@{DOMAIN}"  # as bench.pop3_load names them


async def _fill(folder: Path, queued: int, kept: int) -> None:
    async with filling.opened(folder) as house:
        await filling.fill_queue(house, queued, 1, OCTETS)
        for number in range(MAILBOXES):
            await filling.fill_mailbox(house, reader(number), kept // MAILBOXES, OCTETS, first=number * kept)


def load(server: Server) -> None:
    """50 sessions that write and ten that read, at the same time."""
    source = [sys.executable, "-m", "bench.submission_load", str(server.smtp), "--sender", "someone@elsewhere.test"]
    source += ["--to", ADMIN, "--sessions", str(SESSIONS), "--letters", str(LETTERS)]
    reading = [sys.executable, "-m", "bench.pop3_load", str(server.pop3), "--users", str(MAILBOXES)]
    reading += ["--sessions", str(READS), "--octets", str(OCTETS // 2)]
    with subprocess.Popen(reading, stdout=subprocess.DEVNULL) as readers:
        run_load(source)
        if readers.wait():
            raise RuntimeError("the POP3 load failed")


def measure(folder: Path, queued: int, kept: int) -> dict[str, float]:
    server = Server(folder, {filling.destination(0): f"127.0.0.1:{free_port()}"})
    server.found()
    for number in range(MAILBOXES):
        server.command("account", "add", reader(number), "--password-stdin", given=PASSWORD + "\n")
    asyncio.run(_fill(folder, queued, kept))
    start = server.start()
    try:
        time.sleep(IDLE_AFTER)
        idle = server.memory()
        with Watch(server.memory) as watch:
            load(server)
    finally:
        server.kill()
    crash = server.start()
    server.stop()
    return {
        "start_s": start,
        "crash_s": crash,
        "idle_own_mib": idle.own,
        "idle_rss_mib": idle.resident,
        "load_own_mib": watch.own,
        "load_rss_mib": watch.resident,
    }


def beside_others(peer: Peer, folder: Path, letters: int) -> dict[str, float]:
    """Every process of a server, idle and while letters come in."""

    def memory() -> Memory:
        rss, pss = peer.memory()
        return Memory(pss, rss)

    try:
        peer.start(folder)
        time.sleep(IDLE_AFTER)
        idle = memory()
        load = [
            sys.executable,
            "-m",
            "bench.submission_load",
            str(peer.smtp_port),
            "--sender",
            "someone@elsewhere.test",
        ]
        load += ["--to", USER, "--sessions", str(SESSIONS), "--letters", str(letters), "--octets", str(PEER_OCTETS)]
        with Watch(memory, MANY_LOOK) as watch:
            run_load(load)
    finally:
        peer.stop()
    return {
        "start_s": peer.start_seconds,
        "idle_pss_mib": idle.own,
        "idle_rss_mib": idle.resident,
        "load_pss_mib": max(watch.own, idle.own),
        "load_rss_mib": max(watch.resident, idle.resident),
    }


BESIDE = Cell("beside others, an empty store", PEER_MEASURES, importance=3, peers=ALL, loads_for=12, most_rounds=2)
EMPTY = Cell("an empty store", MEASURES, importance=4, targets=(Target("", "idle_rss_mib", 100),), loads_for=15)
FULL = Cell(
    f"{QUEUED:,} letters queued, {KEPT:,} in mailboxes",
    MEASURES,
    importance=5,
    targets=(Target("", "start_s", 5), Target("", "load_own_mib", 256)),
    loads_for=115,
    most_rounds=1,
)


def run(task: Task) -> dict[str, float]:
    if task.cell.name == BESIDE.name:
        return beside_others(PEERS[task.peer](), task.folder / "s", SESSIONS if task.is_quick else PEER_LETTERS)
    # Each mailbox has the ten letters that a POP3 session of the load reads.
    least = 10 * MAILBOXES
    if task.cell.name == EMPTY.name:
        return measure(task.folder / "d", 0, least)
    share = QUICK if task.is_quick else 1
    return measure(task.folder / "d", QUEUED // share, max(least, KEPT // share))


NOTE = f"""\
"Empty" has {10 * MAILBOXES} letters, which the load reads. "Of its own" is anonymous memory; resident memory has the
mapped mail too, which the system takes back when it needs the room. A POP3 session of the load: login, STAT, UIDL,
RETR of ten letters. Beside others: the memory of all processes of a server; in PSS, pages that several share count
once, in the resident size as often as they are shared. The start is that of the server's own program with its settings
there, in steps of some milliseconds.
"""

FAMILY = Family("startup", "Start and memory", (BESIDE, EMPTY, FULL), (US,), run, NOTE)
