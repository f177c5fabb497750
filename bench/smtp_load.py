# SPDX-License-Identifier: Apache-2.0
"""SMTP load with what smtp-source lacks: STARTTLS, and the time from the final dot to its reply, letter by letter.

One process, sockets that do not block, one generator per session. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import gc
import heapq
import json
import select
import socket
import ssl
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

CHUNK = 65_536
# What a session waits for: its socket (an epoll event mask), or a time in seconds.
Wait = Generator[int | float, None, None]


class RefusedError(Exception):
    """The server answered otherwise than hoped for."""


@dataclass(frozen=True, slots=True)
class Load:
    port: int
    sessions: int
    letters: int
    octets: int
    to: str
    has_tls: bool = False
    keeps_connection: bool = True
    pace: float = 0.0  # seconds from the start of one letter of a session to the start of its next; 0: at once


@dataclass(slots=True)
class Tally:
    """What has been done so far."""

    left: Iterator[int]
    delays: list[float] = field(default_factory=list)  # seconds from the final dot to the reply


class Line:
    """One connection; `send` and `reply` are generators that yield what they wait for."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)

    def send(self, data: bytes) -> Wait:
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                yield select.EPOLLOUT
            except ssl.SSLWantReadError:
                yield select.EPOLLIN

    def reply(self, code: bytes) -> Wait:
        """Wait for a whole reply, whose last line has a space behind the code."""
        got = b""
        while not (got.endswith(b"\r\n") and got[got.rfind(b"\n", 0, -1) + 1 :][3:4] == b" "):
            try:
                data = self.sock.recv(CHUNK)
            except (BlockingIOError, ssl.SSLWantReadError):
                yield select.EPOLLIN
                continue
            if not data:
                raise RefusedError("closed early")
            got += data
        if not got.startswith(code):
            raise RefusedError(got.decode("ascii", "replace").strip())

    def start_tls(self, context: ssl.SSLContext) -> Wait:
        self.sock = context.wrap_socket(self.sock, do_handshake_on_connect=False)
        while True:
            try:
                self.sock.do_handshake()
            except ssl.SSLWantReadError:
                yield select.EPOLLIN
            except ssl.SSLWantWriteError:
                yield select.EPOLLOUT
            else:
                return


def content(load: Load) -> tuple[bytes, bytes]:
    """(what stands before the letter's number, what follows it), with the final dot; `octets` of body."""
    line = b"X" * 78 + b"\r\n"
    body = (line * (load.octets // len(line) + 1))[: max(0, load.octets - 2)] + b"\r\n"
    head = f"From: <sender@elsewhere.test>\r\nTo: <{load.to}>\r\nDate: Mon, 23 Nov 2026 09:00:00 +0000\r\nMessage-ID: <"
    return head.encode(), b"@elsewhere.test>\r\nSubject: load\r\n\r\n" + body + b".\r\n"


class Session:
    """One sender after the other connection, until no letter is left."""

    def __init__(self, load: Load, tally: Tally, context: ssl.SSLContext, number: int) -> None:
        self._load = load
        self._tally = tally
        self._context = context
        self._before, self._after = content(load)
        # Sessions do not begin together: with a pace, they are spread over it.
        self._next = time.perf_counter() + load.pace * number / load.sessions
        self.line: Line | None = None

    def run(self) -> Wait:
        for number in self._tally.left:
            if self._load.pace:
                yield self._next - time.perf_counter()
                self._next = max(self._next + self._load.pace, time.perf_counter())
            if self.line is None:
                yield from self._open()
            yield from self._letter(number)
            if not self._load.keeps_connection:
                yield from self._close()
        yield from self._close()

    def _open(self) -> Wait:
        self.line = Line(self._load.port)
        yield from self.line.reply(b"220")
        yield from self._ask(b"EHLO client.elsewhere.test\r\n")
        if self._load.has_tls:
            yield from self._ask(b"STARTTLS\r\n", b"220")
            yield from self.line.start_tls(self._context)
            yield from self._ask(b"EHLO client.elsewhere.test\r\n")

    def _letter(self, number: int) -> Wait:
        assert self.line is not None
        yield from self._ask(b"MAIL FROM:<sender@elsewhere.test>\r\n")
        yield from self._ask(b"RCPT TO:<" + self._load.to.encode() + b">\r\n")
        yield from self._ask(b"DATA\r\n", b"354")
        yield from self.line.send(self._before + b"%d" % number + self._after)
        sent = time.perf_counter()
        yield from self.line.reply(b"250")
        self._tally.delays.append(time.perf_counter() - sent)

    def _ask(self, command: bytes, code: bytes = b"250") -> Wait:
        assert self.line is not None
        yield from self.line.send(command)
        yield from self.line.reply(code)

    def _close(self) -> Wait:
        if self.line is not None:
            yield from self._ask(b"QUIT\r\n", b"221")
            self.line.sock.close()
            self.line = None


class Scheduler:
    """Resumes each session when what it waits for has come."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._waiting: dict[int, tuple[Session, Wait]] = {}
        self._timers: list[tuple[float, int, Session, Wait]] = []

    def close(self) -> None:
        self._epoll.close()

    def step(self, session: Session, steps: Wait) -> None:
        wish = next(steps, None)
        if wish is None:
            return
        if isinstance(wish, float):
            heapq.heappush(self._timers, (time.perf_counter() + wish, id(session), session, steps))
            return
        assert session.line is not None
        number = session.line.sock.fileno()
        flags = wish | select.EPOLLONESHOT
        try:
            self._epoll.modify(number, flags)
        except FileNotFoundError:
            self._epoll.register(number, flags)
        self._waiting[number] = session, steps

    def run(self) -> None:
        while self._waiting or self._timers:
            now = time.perf_counter()
            while self._timers and self._timers[0][0] <= now:
                _, _, session, steps = heapq.heappop(self._timers)
                self.step(session, steps)
            pause = max(0.0, self._timers[0][0] - time.perf_counter()) if self._timers else -1.0
            if self._waiting or self._timers:
                for number, _ in self._epoll.poll(pause):
                    session, steps = self._waiting.pop(number)
                    self.step(session, steps)


def run(load: Load) -> dict[str, float]:
    """Raises RefusedError and OSError. Seconds, p50 and p99 of the reply to the final dot in milliseconds."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    tally = Tally(iter(range(load.letters)))
    scheduler = Scheduler()
    gc.disable()  # nothing here makes cycles; a pause would be measured as the server's
    cpu, started = time.process_time(), time.perf_counter()
    sessions = [Session(load, tally, context, number) for number in range(load.sessions)]
    try:
        for session in sessions:
            scheduler.step(session, session.run())
        scheduler.run()
    finally:
        scheduler.close()
        for session in sessions:
            if session.line is not None:
                session.line.sock.close()
    seconds = time.perf_counter() - started
    delays = sorted(tally.delays)
    if len(delays) != load.letters:
        raise RefusedError(f"{len(delays)} of {load.letters} letters were answered")
    return {
        "seconds": seconds,
        "p50_ms": delays[len(delays) // 2] * 1000,
        "p99_ms": delays[min(len(delays) - 1, len(delays) * 99 // 100)] * 1000,
        "client_cpu_ms": (time.process_time() - cpu) / load.letters * 1000,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--letters", type=int, default=100)
    parser.add_argument("--octets", type=int, default=10_240)
    parser.add_argument("--to", required=True)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--one-letter-a-connection", action="store_true")
    parser.add_argument("--pace", type=float, default=0.0)
    given = parser.parse_args()
    load = Load(
        given.port,
        given.sessions,
        given.letters,
        given.octets,
        given.to,
        given.tls,
        not given.one_letter_a_connection,
        given.pace,
    )
    print(json.dumps(run(load)))


if __name__ == "__main__":
    main()
