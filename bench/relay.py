# SPDX-License-Identifier: Apache-2.0
"""Relay: letters per second from a session through the queue to another host, beside others relaying to the same sink.

All are given letters that they must queue; the run ends when the sink has them all.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.cells import US, Cell, Family, Measure, Target, Task
from bench.house import wait_until
from bench.relay_peers import MAKERS, SINK_DOMAIN, Relaying, relaying
from bench.sink import Sink
from bench.smtp import run_load

KIB = 1024
WARM_UP = 50  # letters
MOST = 30_000
SENT_LIMIT = 300.0  # seconds after the last reply
RATE = Measure("rate", "letters relayed", "/s")
MEASURES = (
    RATE,
    Measure("cpu_ms", "CPU a letter", "ms", is_more_better=False),
    Measure("p50_ms", "a mail transaction, median", "ms", is_more_better=False),
    Measure("p99_ms", "99 of 100 within", "ms", is_more_better=False),
    Measure("accepted", "letters accepted meanwhile", "/s"),
)


@dataclass(frozen=True, slots=True)
class Shape:
    sessions: int
    octets: int
    is_submission: bool


SHAPES = {
    "10 KiB, 10 sessions": Shape(10, 10 * KIB, is_submission=False),
    "10 KiB, 50 sessions": Shape(50, 10 * KIB, is_submission=False),
    "10 KiB, 10 sessions, submitted with AUTH, signed with RSA and Ed25519": Shape(10, 10 * KIB, is_submission=True),
}


def measure(peer: str, folder: Path, shape: Shape, seconds: float, *, is_quick: bool = False) -> dict[str, float]:
    with Sink() as sink:
        server = relaying(peer, sink.port)
        try:
            server.start(folder)
            return _bursts(server, sink, shape, seconds, is_quick=is_quick)
        finally:
            server.stop()


def _bursts(server: Relaying, sink: Sink, shape: Shape, seconds: float, *, is_quick: bool) -> dict[str, float]:
    """A first burst wakes everything, a second tells the pace, the third counts."""
    load = server.load(is_submission=shape.is_submission)
    letters = WARM_UP
    found: dict[str, float] = {}
    for share in (0.0,) if is_quick else (0.2, 1.0, 0.0):
        before, cpu = sink.letters(), server.cpu_seconds()
        size = ["--sessions", str(shape.sessions), "--letters", str(letters), "--octets", str(shape.octets)]
        found = json.loads(run_load([sys.executable, "-m", "bench.submission_load", *load, *size]))
        answered = time.perf_counter()
        wait_until(partial(_has, sink, before + letters), SENT_LIMIT, "the sink", pause=0.01)
        took = found["seconds"] + time.perf_counter() - answered  # without the start of the client's program
        if sink.letters() != before + letters:
            raise RuntimeError(f"{sink.letters() - before} letters came, {letters} were sent")
        found["cpu_ms"] = (server.cpu_seconds() - cpu) / letters * 1000
        found |= {"rate": letters / took, "accepted": letters / found["seconds"]}
        if share:
            letters = max(shape.sessions, min(MOST, round(found["rate"] * seconds * share)))
    return found


def _has(sink: Sink, letters: int) -> bool:
    return sink.letters() >= letters


def run(task: Task) -> dict[str, float]:
    return measure(task.peer, task.folder / "s", SHAPES[task.cell.name], task.seconds, is_quick=task.is_quick)


def _cell(name: str, shape: Shape) -> Cell:
    is_ours = shape.is_submission
    targets = () if is_ours else tuple(Target(peer, "rate", 1.0) for peer in MAKERS)
    return Cell(name, MEASURES, importance=4, peers=(US,) if is_ours else (), targets=targets, overhead=6.0)


NOTE = f"""\
A client in Python, the same for all, on the same two cores; smtp-sink is the next hop. The clock stops when the sink
has every letter (each once). The others relay for loopback; to posthouse the same letters go to an alias that leads to
`{SINK_DOMAIN}`, so that they are queued without a signature, as theirs are. Submitted letters cost a login a session
and two signatures a letter. Exim starts a process for each letter and tries it at once; Postfix, OpenSMTPD and
posthouse have a queue manager that keeps connections.
"""

FAMILY = Family(
    "relay", "Relay through the queue", tuple(_cell(*each) for each in SHAPES.items()), (US, *MAKERS), run, NOTE
)
