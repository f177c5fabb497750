# SPDX-License-Identifier: Apache-2.0
"""POP3: sessions and logins per second, reading at full speed, and what idle connections cost in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import partial

from bench import idle, processes
from bench.cells import CEILING, Cell, Family, Measure, Target, Task
from bench.peers import DOMAIN, PEERS, Dovecot, Peer, Setup
from bench.peers.base import ROOT
from bench.smtp import run_load

SESSIONS = Measure("rate", "sessions", "/s")
LOGINS = Measure("rate", "logins", "/s")
READING = Measure("mib_s", "letters read", "MiB/s")
CPU = Measure("cpu_ms", "CPU a session", "ms", is_more_better=False)
CLIENT = Measure("client_cpu_ms", "CPU of the load client", "ms", is_more_better=False)

KIB = 1024
FILL_LIMIT = 120.0  # seconds until all letters are there
MOST_SESSIONS = 20_000  # of one run: each leaves a port in TIME_WAIT for a minute
FRESH_USERS = 200  # accounts that log in once each, where no login may be cached


@dataclass(frozen=True, slots=True)
class Shape:
    at_once: int
    users: int
    letters: int  # in each mailbox, all of them read in a session
    octets: int = 10 * KIB
    is_listing: bool = True
    is_argon2: bool = False
    knows_users: bool = True

    @property
    def arguments(self) -> list[str]:
        found = ["--users", str(self.users), "--at-once", str(self.at_once), "--letters", str(self.letters)]
        found += ["--octets", str(self.octets)]
        return [*found, *([] if self.is_listing else ["--no-listing"])]


DEFAULT, FAST = "Dovecot", "Dovecot, high-performance mode"
BOTH_TARGETS = (Target(DEFAULT, "rate", 10), Target(FAST, "rate", 2.5))
SERVERS = ("posthouse", DEFAULT, FAST)
LOADS = (SESSIONS, CPU, CLIENT)

SHAPES = {
    "sessions, 10 at once": Shape(10, 10, 10),
    "sessions, 10 at once, Argon2id": Shape(10, 10, 10, is_argon2=True),
    "reading, 4 at once, 100 letters of 100 KiB": Shape(4, 4, 100, 100 * KIB, is_listing=False),
    "logins, Argon2id, users who come back": Shape(10, 10, 0, is_listing=False, is_argon2=True),
    "logins, Argon2id, each user for the first time": Shape(
        10, FRESH_USERS, 0, is_listing=False, is_argon2=True, knows_users=False
    ),
}
CELLS = (
    Cell("sessions, 10 at once", LOADS, 1, (*SERVERS, CEILING), BOTH_TARGETS),
    Cell("sessions, 10 at once, Argon2id", LOADS, 2, (*SERVERS, CEILING), BOTH_TARGETS),
    Cell("reading, 4 at once, 100 letters of 100 KiB", (READING, CPU, CLIENT), 3, (*SERVERS, CEILING), overhead=8.0),
    Cell("logins, Argon2id, users who come back", (LOGINS, CPU, CLIENT), 5, (*SERVERS, CEILING)),
    Cell("logins, Argon2id, each user for the first time", (LOGINS, CPU), 5, overhead=5.0, loads_for=4.0),
    *idle.CELLS,
)


def run(task: Task) -> dict[str, float]:
    if task.cell.name in idle.SHAPES:
        return idle.run(task)
    shape = SHAPES[task.cell.name]
    if task.peer == CEILING:
        return measure(None, shape, task)
    peer = PEERS[task.peer]()
    try:
        users = tuple(f"user{number}@{DOMAIN}" for number in range(shape.users))
        setup = Setup(users=users, is_argon2=shape.is_argon2)
        peer.start(task.folder / "s", setup)
        if shape.letters:
            fill(peer, shape, users)
        return measure(peer, shape, task)
    finally:
        peer.stop()


def measure(peer: Peer | None, shape: Shape, task: Task) -> dict[str, float]:
    """Bursts that fill caches and tell the pace, then the one that is measured."""
    arguments = [str(peer.pop3_port)] if peer else ["0", "--null"]
    if not shape.knows_users:
        # Every user logs in once, in the measured burst itself, so nothing can be known before; no octets to check.
        return load(shape, [*arguments, "--no-check"], shape.at_once if task.is_quick else shape.users, peer)
    sessions = 2 * shape.at_once
    for share in () if task.is_quick else (0.3, 1.0):
        rate = load(shape, arguments, sessions, peer)["rate"]
        sessions = max(shape.at_once, min(MOST_SESSIONS, round(rate * task.seconds * share)))
    return load(shape, arguments, sessions, peer)


def load(shape: Shape, arguments: list[str], sessions: int, peer: Peer | None) -> dict[str, float]:
    """One burst. The client checks each mailbox first, and that every session got all octets."""
    command = [sys.executable, "-m", "bench.pop3_load", *arguments, *shape.arguments, "--sessions", str(sessions)]
    cpu = peer.cpu_seconds() if peer else 0.0
    found: dict[str, float] = json.loads(run_load(command))
    used = peer.cpu_seconds() - cpu if peer else 0.0
    # The client's own check of the mailboxes is one more session of each user.
    checks = 0 if "--no-check" in arguments else shape.users
    rates = {"rate": sessions / found["seconds"], "mib_s": found["octets"] / found["seconds"] / KIB / KIB}
    return {**found, **rates, "cpu_ms": used / (sessions + checks) * 1000, "sessions": sessions}


def fill(peer: Peer, shape: Shape, users: tuple[str, ...]) -> None:
    """By LMTP where the server only reads, by SMTP otherwise."""
    is_lmtp = isinstance(peer, Dovecot)
    where = f"unix:{peer.lmtp}" if isinstance(peer, Dovecot) else f"127.0.0.1:{peer.smtp_port}"
    for user in users:
        command = ["smtp-source", "-d", "-s", "2", "-m", str(shape.letters), "-l", str(shape.octets)]
        command += [*(["-L"] if is_lmtp else []), "-f", "sender@elsewhere.test", "-t", user, where]
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    for user in users:
        processes.wait_until(partial(has_all, peer, user, shape.letters), FILL_LIMIT, f"the letters of {user}")


def has_all(peer: Peer, user: str, letters: int) -> bool:
    return peer.delivered(user) >= letters


NOTE = """\
A session: connect, USER, PASS, STAT, UIDL, RETR of ten letters of 10 KiB, QUIT, one command at a time; the client is
Python on the same machine, and its own limit against canned answers stands beside the results. It checks each mailbox
first and counts every octet. posthouse always keeps Argon2id (19 MiB, 2 passes) and remembers right passwords for a
short time, as a keyed hash. Dovecot keeps plain passwords where the cell does not say otherwise, which is the cheapest
for it; with Argon2id (the same parameters) its `auth_cache_size` is set, but that keeps the stored hash, which is
verified at each login. Default mode of Dovecot: a process for each login and each session; high-performance mode:
`service_count = 0` for logins, 256 sessions for a mail process. Memory is PSS over all processes; what the kernel keeps
for a connection is not counted. Each idle connection is of another user; all are served once more at the end.
"""

FAMILY = Family("pop3", "POP3", CELLS, SERVERS, run, NOTE)
