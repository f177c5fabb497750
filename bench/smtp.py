# SPDX-License-Identifier: Apache-2.0
"""SMTP to the mailbox: letters per second accepted and delivered, CPU per letter, and the time of the last reply."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial

from bench import processes
from bench.cells import Cell, Family, Measure, Target, Task
from bench.peers import DOMAIN, PEERS, USER, Peer, Setup
from bench.peers.base import ROOT

RATE = Measure("rate", "letters delivered", "/s")
CPU = Measure("cpu_ms", "CPU a letter", "ms", is_more_better=False)
MEMORY = Measure("pss_mib", "memory after the load", "MiB", is_more_better=False)
P50 = Measure("p50_ms", "reply to the final dot, median", "ms", is_more_better=False)
P99 = Measure("p99_ms", "99 of 100 within", "ms", is_more_better=False)
CLIENT = Measure("client_cpu_ms", "CPU of the load client", "ms", is_more_better=False)

KIB = 1024
MOST_LETTERS = 20_000  # of one run: directories of more would measure the file system
MOST_OCTETS = 1 << 30  # of one run: more would wait for the disk's own pace
DELIVERY_LIMIT = 120.0  # seconds after the last reply
LOAD_LIMIT = 600.0  # seconds of one load client
# smtp-source counts octets with CRLF, a Maildir keeps LF: one octet of 80 or so is missing there.
KEPT_SHARE = 0.97
# Every server that was tried accepts far more than this at four sessions, so all get the same load.
LATENCY_PACE = 0.05


@dataclass(frozen=True, slots=True)
class Shape:
    sessions: int
    octets: int
    recipients: int = 1
    keeps_connection: bool = True
    has_tls: bool = False
    pace: float = 0.0

    @property
    def needs_own_client(self) -> bool:
        """smtp-source, which costs less than any client in Python, knows neither TLS nor the time of each reply."""
        return self.has_tls or self.pace > 0


ALL = ("posthouse", "Postfix", "Postfix + Dovecot", "Exim", "OpenSMTPD", "aiosmtpd", "Haraka + Dovecot")
WITH_DOVECOT = "Postfix + Dovecot"
CPU_TARGET = Target(WITH_DOVECOT, "cpu_ms", 0.15)
MAIN_TARGETS = (
    Target(WITH_DOVECOT, "rate", 5),
    Target("Postfix", "rate", 3),
    Target("aiosmtpd", "rate", 4),
    Target("Haraka + Dovecot", "rate", 7),
)
LOADS = (RATE, CPU, MEMORY)


def _shapes() -> dict[str, tuple[Shape, Cell]]:
    """Each cell by its name, with the load it stands for."""
    rows: list[tuple[Shape, Cell]] = []

    def add(name: str, shape: Shape, importance: int, *targets: Target, measures: tuple[Measure, ...] = LOADS) -> None:
        goals = targets if shape.pace else (*targets, CPU_TARGET)  # at a given pace the CPU of idling counts too
        rows.append((shape, Cell(name, measures, importance, targets=goals, overhead=3.0)))

    add("10 KiB, 10 sessions", Shape(10, 10 * KIB), 1, *MAIN_TARGETS)
    add("10 KiB, 50 sessions", Shape(50, 10 * KIB), 1, Target(WITH_DOVECOT, "rate", 8))
    add("100 KiB, 10 sessions", Shape(10, 100 * KIB), 2, Target(WITH_DOVECOT, "rate", 3.5))
    add("10 KiB, 1 session", Shape(1, 10 * KIB), 3)
    add("10 KiB, 10 sessions, one letter a connection", Shape(10, 10 * KIB, keeps_connection=False), 3)
    add("10 KiB, 4 sessions, 20 letters/s each", Shape(4, 10 * KIB, pace=LATENCY_PACE), 4, measures=(P50, P99, CPU))
    add("1 KiB, 10 sessions", Shape(10, KIB), 5)
    add("10 KiB, 10 sessions, TLS", Shape(10, 10 * KIB, has_tls=True), 5, measures=(*LOADS, CLIENT))
    add("10 KiB, 10 sessions, 10 recipients", Shape(10, 10 * KIB, recipients=10), 5)
    add("5 MiB, 10 sessions", Shape(10, 5 * KIB * KIB), 6)
    add("10 KiB, 10 sessions, 100 recipients", Shape(10, 10 * KIB, recipients=100), 6)
    add(
        "10 KiB, 10 sessions, TLS, one letter a connection",
        Shape(10, 10 * KIB, has_tls=True, keeps_connection=False),
        7,
        measures=(*LOADS, CLIENT),
    )
    return {cell.name: (shape, cell) for shape, cell in rows}


SHAPES = _shapes()


def recipients(count: int) -> tuple[str, ...]:
    """The addresses that smtp-source makes of ours."""
    return (USER, *(f"{number}{USER}" for number in range(2, count + 1)))


class Sender:
    """Puts letters into one server and knows how many must be there."""

    def __init__(self, peer: Peer, shape: Shape) -> None:
        self.peer = peer
        self.shape = shape
        self.users = recipients(shape.recipients)
        self.sent = 0

    def burst(self, letters: int) -> dict[str, float]:
        """Send, and wait until all are in the mailbox; `seconds` is the time of both."""
        started = time.perf_counter()
        found = self.load(letters)
        self.sent += letters
        # One mailbox is asked while the clock runs, all of them in `check`; other agents than ours deliver one
        # recipient after the other, so for them all count.
        users = self.users[:1] if self.peer.name == "posthouse" else self.users
        for user in users:
            processes.wait_until(partial(self._has_all, user), DELIVERY_LIMIT, "delivery")
        return {**found, "seconds": time.perf_counter() - started}

    def _has_all(self, user: str) -> bool:
        return self.peer.delivered(user) >= self.sent

    def load(self, letters: int) -> dict[str, float]:
        """Send, and come back when all were accepted."""
        return self._own(letters) if self.shape.needs_own_client else self._smtp_source(letters)

    def _smtp_source(self, letters: int) -> dict[str, float]:
        shape = self.shape
        command = ["smtp-source", "-s", str(shape.sessions), "-m", str(letters), "-l", str(shape.octets)]
        command += ["-r", str(shape.recipients), "-f", "sender@elsewhere.test", "-t", USER]
        if shape.keeps_connection:
            command.append("-d")
        run_load([*command, f"127.0.0.1:{self.peer.smtp_port}"])
        return {}

    def _own(self, letters: int) -> dict[str, float]:
        shape = self.shape
        command = [sys.executable, "-m", "bench.smtp_load", str(self.peer.smtp_port), "--to", USER]
        command += ["--sessions", str(shape.sessions), "--letters", str(letters), "--octets", str(shape.octets)]
        command += ["--pace", str(shape.pace)]
        if shape.has_tls:
            command.append("--tls")
        if not shape.keeps_connection:
            command.append("--one-letter-a-connection")
        found: dict[str, float] = json.loads(run_load(command))
        return found

    def check(self) -> None:
        """Every recipient has as many letters as were accepted, and their octets. Raises RuntimeError.

        The letters are alike, so one lost and one doubled would not be seen; the tests of reliability see to that.
        """
        for user in self.users:
            letters, octets = self.peer.mailbox(user)
            if letters != self.sent:
                raise RuntimeError(f"{letters} letters for {user}, {self.sent} were accepted")
            if octets < letters * self.shape.octets * KEPT_SHARE:
                raise RuntimeError(f"{octets} octets in {letters} letters for {user}: not whole")


def run_load(command: list[str]) -> str:
    """What the load client prints. RuntimeError with its last words when it fails."""
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LOAD_LIMIT, cwd=ROOT)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"the load client did not finish within {LOAD_LIMIT} s") from None
    if done.returncode:
        raise RuntimeError(f"the load client failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


def run(task: Task) -> dict[str, float]:
    shape, _ = SHAPES[task.cell.name]
    peer = PEERS[task.peer]()
    try:
        peer.start(task.folder / "s", Setup(users=recipients(shape.recipients), offers_tls=shape.has_tls))
        return measure(Sender(peer, shape), task)
    finally:
        peer.stop()


def measure(sender: Sender, task: Task) -> dict[str, float]:
    """A first burst wakes the server's processes, a second tells its pace, the third is measured."""
    peer, shape = sender.peer, sender.shape
    letters = max(20, 2 * shape.sessions) if shape.octets < KIB * KIB else shape.sessions
    most = min(MOST_LETTERS, MOST_OCTETS // (shape.octets * shape.recipients))
    for share in () if task.is_quick else (0.3, 1.0):
        seconds = sender.burst(letters)["seconds"]
        letters = max(shape.sessions, min(most, round(letters / seconds * task.seconds * share)))
    cpu = peer.cpu_seconds()
    found = sender.burst(letters)
    used = peer.cpu_seconds() - cpu
    _, pss = peer.memory()
    sender.check()
    return {
        **found,
        "rate": letters / found["seconds"],
        "cpu_ms": used / letters * 1000,
        "pss_mib": pss,
        "letters": letters,
    }


NOTE = f"""\
Load: Postfix's `smtp-source` on the same machine; over TLS and for the times of replies a client in Python, the same
for all. Delivered means: in the mailbox; as many letters as were accepted, and their octets (counted after the clock
has stopped; a run that fails this is shown as failed). Durability as each server does it by default. posthouse and
aiosmtpd answer the final dot when the letter is in the mailbox, the others when it is in their queue. aiosmtpd syncs
the letter's file, not the directory; OpenSMTPD calls no sync before its reply, only when it delivers. CPU counts all
processes of a server, ended ones too. Recipients are in `{DOMAIN}`; no server looks names up.
"""

FAMILY = Family("smtp", "SMTP to the mailbox", tuple(cell for _, cell in SHAPES.values()), ALL, run, NOTE)
