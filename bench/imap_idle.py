# SPDX-License-Identifier: Apache-2.0
"""What idle IMAP connections cost in memory, and how soon one of them is told of a letter."""

from __future__ import annotations

import gc
import resource
import select
import socket
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from bench import imap_letters
from bench.cells import US, Cell, Measure, NotPossibleError, Target, Task
from bench.imap_client import Imap, WrongAnswerError
from bench.peers import DOMAIN, PEERS, Setup
from bench.submission_load import percentiles


def less(key: str, title: str, unit: str) -> Measure:
    return Measure(key, title, unit, is_more_better=False)


MEMORY = (
    less("more_mib", "memory added", "MiB"),
    less("kib_each", "of one connection", "KiB"),
    less("idle_mib", "without connections", "MiB"),
)
DELAY = (
    less("p99_ms", "from the reply to the final dot until EXISTS, 99 of 100 within", "ms"),
    less("p50_ms", "the same, median", "ms"),
    less("whole_p50_ms", "from the final dot itself, median", "ms"),
    less("early_percent", "told before the reply", "%"),
)
DEFAULT, FAST = "Dovecot", "Dovecot, high-performance mode"
LETTERS = 100  # in each INBOX
OCTETS = 1024
AT_ONCE = 8  # logins at once while the connections are made
SETTLE = 1.0  # seconds after the last one
SPARE_DESCRIPTORS = 500  # of this process, beside the connections
QUICK = 20  # connections of a try-out
# Each of Dovecot's processes watches its mailbox with an inotify instance of its own, of which a user has 128 by
# default; connections beyond that are told every half minute. So letters come for the first ones only, at which both
# are at their best.
WATCHED = 64
DELIVERIES = 512
PACE = 0.01  # seconds from one letter to the next
TOLD_LIMIT = 60.0  # seconds until EXISTS must have come
EXISTS = b" EXISTS\r\n"

MEMORY_CELL = Cell(
    "1,000 connections in IDLE",
    MEMORY,
    2,
    (US, DEFAULT, FAST),
    (Target(DEFAULT, "more_mib", 0.25), Target(FAST, "more_mib", 0.25)),
    overhead=30,
    loads_for=30,
)
DELAY_CELL = Cell(
    "a letter for one of 1,000 connections in IDLE",
    DELAY,
    2,
    (US, DEFAULT),
    (Target("", "p99_ms", 50),),
    overhead=30,
    loads_for=45,
)
CELLS = (MEMORY_CELL, DELAY_CELL)
NAMES = {cell.name for cell in CELLS}


def run(task: Task) -> dict[str, float]:
    count = QUICK if task.is_quick else 1000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count + SPARE_DESCRIPTORS:
        raise NotPossibleError(f"only {hard} descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + SPARE_DESCRIPTORS), hard))
    peer = PEERS[task.peer]()
    users = tuple(f"user{number}@{DOMAIN}" for number in range(count))
    early = tuple(f"early{number}@{DOMAIN}" for number in range(AT_ONCE))
    held: list[Imap] = []
    try:
        everybody = (*users, *early)
        setup = Setup(everybody, connections=count, wants_imap=True, letters=LETTERS, octets=OCTETS)
        peer.start(task.folder / "s", setup)
        with ThreadPoolExecutor(AT_ONCE) as pool:  # what logins themselves need for a moment, connections do not keep
            for client in pool.map(lambda user: idling(peer.imap_port, user), early):
                client.close()
        time.sleep(SETTLE)
        before = peer.memory()[1]
        # The first ones one after the other, so that they are those that Dovecot's watches are for.
        held += [idling(peer.imap_port, user) for user in users[:WATCHED]]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            held += pool.map(lambda user: idling(peer.imap_port, user), users[WATCHED:])
        time.sleep(SETTLE)
        after = peer.memory()[1]
        if task.cell.name == DELAY_CELL.name:
            return delays(peer.lmtp, held[:WATCHED], users, 2 * QUICK if task.is_quick else DELIVERIES)
        for client in held:  # every one of them is still served
            client.done()
    finally:
        for client in held:
            client.close()
        peer.stop()
        gc.collect()
    return {"more_mib": after - before, "kib_each": (after - before) * 1024 / count, "idle_mib": before}


def idling(port: int, user: str) -> Imap:
    """Logged in, INBOX selected and checked, in IDLE."""
    client = Imap.selected(port, user, LETTERS)
    client.idle()
    return client


@dataclass(slots=True)
class Letter:
    """Times of one delivery; 0: not yet."""

    sent: float = 0.0  # the final dot
    replied: float = 0.0
    told: float = 0.0


@dataclass(slots=True)
class Post:
    """Letters by LMTP, one after the other; a generator that yields until its socket can be read or a time comes."""

    path: Path
    users: list[str]
    count: int
    letters: list[Letter] = field(default_factory=list)
    sock: socket.socket = field(default_factory=lambda: socket.socket(socket.AF_UNIX))

    def __post_init__(self) -> None:
        self.sock.connect(str(self.path))
        self.expect(b"220")
        self.ask(b"LHLO client.bench.test\r\n", b"250")

    def expect(self, code: bytes) -> None:
        """Read a whole reply. Raises WrongAnswerError when it has another code."""
        got = b""
        while not (got.endswith(b"\r\n") and got[got.rfind(b"\n", 0, -1) + 1 :][3:4] == b" "):
            data = self.sock.recv(65_536)
            if not data:
                raise WrongAnswerError("LMTP closed early")
            got += data
        if not got.startswith(code):
            raise WrongAnswerError(f"LMTP: {got!r}")

    def ask(self, command: bytes, code: bytes) -> None:
        self.sock.sendall(command)
        self.expect(code)

    def post(self) -> Generator[float | None, float, None]:
        """Yields a time to wait for, or None while the reply to the final dot has not come; is sent the time then."""
        start = time.perf_counter()
        for number in range(self.count):
            yield start + number * PACE
            while number >= len(self.users) and not self.letters[number - len(self.users)].told:
                yield time.perf_counter() + PACE  # one letter at a time for each of them
            user = self.users[number % len(self.users)].encode()
            self.ask(b"MAIL FROM:<sender@elsewhere.test>\r\n", b"250")
            self.ask(b"RCPT TO:<" + user + b">\r\n", b"250")
            self.ask(b"DATA\r\n", b"354")
            letter = Letter()
            self.letters.append(letter)
            text = imap_letters.content(LETTERS + number, OCTETS) + b".\r\n"
            letter.sent = time.perf_counter()
            self.sock.sendall(text)
            letter.replied = yield None
            self.expect(b"250")


def delays(lmtp: Path, held: list[Imap], users: tuple[str, ...], count: int) -> dict[str, float]:
    """A letter for one connection after the other; the time at which each is told."""
    turns = list(users[: len(held)])
    post = Post(lmtp, turns, count)
    poll = select.epoll()
    poll.register(post.sock.fileno(), 0)
    who = {client.descriptor: number for number, client in enumerate(held)}
    for descriptor in who:
        poll.register(descriptor, select.EPOLLIN)
    told = [0] * len(held)  # letters so far
    steps = post.post()
    wish: float | None = next(steps)
    last = time.perf_counter()
    gc.disable()
    try:
        is_over = False
        while not (is_over and sum(told) == count):
            wait = TOLD_LIMIT if wish is None or is_over else max(0.0, wish - time.perf_counter())
            events = poll.poll(wait)
            now = time.perf_counter()
            for descriptor, _ in events:
                if descriptor in who:
                    last = now
                    hear(held[who[descriptor]], who[descriptor], told, post, now)
            if now - last > TOLD_LIMIT:
                raise WrongAnswerError(
                    f"{count - sum(told)} of {count} letters were not told within {TOLD_LIMIT:.0f} s"
                )
            is_ready = post.sock.fileno() in dict(events) if wish is None else now >= wish
            if not is_over and is_ready:
                try:
                    wish = steps.send(now)
                except StopIteration:
                    is_over = True
                poll.modify(post.sock.fileno(), select.EPOLLIN if wish is None and not is_over else 0)
    finally:
        gc.enable()
        poll.close()
        post.sock.close()
    return summary(post.letters)


def hear(client: Imap, number: int, told: list[int], post: Post, now: float) -> None:
    """What one connection said; EXISTS with the right number tells its letter."""
    for line in client.lines():
        if line.endswith(EXISTS):
            told[number] += 1
            if int(line.split()[1]) != LETTERS + told[number]:
                raise WrongAnswerError(f"{line!r} after {told[number]} letters")
            post.letters[number + (told[number] - 1) * len(post.users)].told = now


def summary(letters: list[Letter]) -> dict[str, float]:
    after = percentiles([max(0.0, each.told - each.replied) for each in letters])
    whole = percentiles([each.told - each.sent for each in letters])
    early = sum(each.told < each.replied for each in letters)
    return {**after, "whole_p50_ms": whole["p50_ms"], "early_percent": 100 * early / len(letters)}
