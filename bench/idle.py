# SPDX-License-Identifier: Apache-2.0
"""What idle POP3 connections cost in memory: logged in, and over TLS before the login."""

from __future__ import annotations

import gc
import resource
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench.cells import Cell, Measure, NotPossibleError, Target, Task
from bench.peers import DOMAIN, PASSWORD, PEERS, Setup

MORE = Measure("more_mib", "memory added", "MiB", is_more_better=False)
EACH = Measure("kib_each", "of one connection", "KiB", is_more_better=False)
BEFORE = Measure("idle_mib", "without connections", "MiB", is_more_better=False)

ANSWER_LIMIT = 60.0  # seconds; thousands of logins wait for each other's hashes
AT_ONCE = 8  # logins at once while the connections are made
SETTLE = 1.0  # seconds after the last login
SPARE_DESCRIPTORS = 500  # of this process, beside the connections
QUICK = 20  # connections of a try-out


@dataclass(frozen=True, slots=True)
class Shape:
    connections: int
    has_tls: bool = False  # then before the login


SHAPES = {
    "1,000 idle connections, logged in": Shape(1000),
    "1,000 idle connections over TLS": Shape(1000, has_tls=True),
    "10,000 idle connections, logged in": Shape(10_000),
}
QUARTER = (Target("Dovecot", "more_mib", 0.25), Target("Dovecot, high-performance mode", "more_mib", 0.25))
LOOPS = ("posthouse", "posthouse, without uvloop")
CELLS = (
    Cell("1,000 idle connections, logged in", (MORE, EACH, BEFORE), 3, targets=QUARTER, overhead=20, loads_for=30),
    Cell("1,000 idle connections over TLS", (MORE, EACH, BEFORE), 6, LOOPS, overhead=6, loads_for=4),
    Cell(
        "10,000 idle connections, logged in",
        (MORE, EACH, BEFORE),
        9,
        targets=QUARTER,
        overhead=60,
        loads_for=180,
        most_rounds=1,
    ),
)


def run(task: Task) -> dict[str, float]:
    shape = SHAPES[task.cell.name]
    count = QUICK if task.is_quick else shape.connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count + SPARE_DESCRIPTORS:
        raise NotPossibleError(f"only {hard} descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + SPARE_DESCRIPTORS), hard))
    peer = PEERS[task.peer]()
    users = () if shape.has_tls else tuple(f"user{number}@{DOMAIN}" for number in range(count))
    early = tuple(f"early{number}@{DOMAIN}" for number in range(AT_ONCE))
    held: list[socket.socket] = []
    try:
        peer.start(task.folder / "s", Setup(users=(*early, *users), connections=count))
        with ThreadPoolExecutor(AT_ONCE) as pool:  # what logins themselves need for a moment, connections do not keep
            for sock in pool.map(lambda user: login(peer.pop3_port, user), early):
                sock.close()
        time.sleep(SETTLE)
        before = peer.memory()[1]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            if shape.has_tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                held += pool.map(lambda _: secure(peer.pop3_port, context), range(count))
            else:
                held += pool.map(lambda user: login(peer.pop3_port, user), users)
        time.sleep(SETTLE)
        after = peer.memory()[1]
        for sock in held:  # every one of them is still served
            ask(sock, b"CAPA" if shape.has_tls else b"NOOP")
    finally:
        for sock in held:
            sock.close()
        peer.stop()
        gc.collect()
    return {"more_mib": after - before, "kib_each": (after - before) * 1024 / count, "idle_mib": before}


def ask(sock: socket.socket, command: bytes) -> None:
    """RuntimeError when the answer is not positive."""
    if command:
        sock.sendall(command + b"\r\n")
    answer = sock.recv(4096)
    if not answer.startswith(b"+OK"):
        raise RuntimeError(f"to {command.partition(b' ')[0].decode()}: {answer!r}")


def login(port: int, user: str) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), ANSWER_LIMIT)
    for command in (b"", b"USER " + user.encode(), b"PASS " + PASSWORD.encode()):
        ask(sock, command)
    return sock


def secure(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    """STLS done, not logged in."""
    sock = socket.create_connection(("127.0.0.1", port), ANSWER_LIMIT)
    for command in (b"", b"STLS"):
        ask(sock, command)
    return context.wrap_socket(sock)
