# SPDX-License-Identifier: Apache-2.0
"""POP3 load: whole sessions, so many at once, one command at a time, every octet counted. Prints one JSON object.

It shares the machine with what it measures, so it is as lean as Python allows: one process, bare sockets, commands
made beforehand, the end of an answer looked for in its last octets only. `--null` shows how fast it is by itself.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

BUFFER = 1 << 20
END = b"\r\n.\r\n"
LF = 10
PLUS = 43


class WrongAnswerError(Exception):
    """The server refused, or did not send what it has to send."""


@dataclass(frozen=True, slots=True)
class Load:
    port: int
    users: int  # user0 … ; more than one session of a user at once must not happen
    at_once: int
    sessions: int
    letters: int = 10  # read in each session; 0: log in and leave
    is_listing: bool = True  # STAT and UIDL before reading
    octets: int = 10_240  # a letter has at least so many
    domain: str = "bench.test"
    password: str = "correct-horse-battery"


@dataclass(frozen=True, slots=True)
class Step:
    command: bytes
    is_multi_line: bool = False
    is_letter: bool = False


def plan(load: Load) -> list[Step]:
    """The steps of each session after the password."""
    steps = [Step(b"STAT\r\n"), Step(b"UIDL\r\n", is_multi_line=True)] if load.is_listing else []
    steps += [
        Step(b"RETR %d\r\n" % number, is_multi_line=True, is_letter=True) for number in range(1, load.letters + 1)
    ]
    return [*steps, Step(b"QUIT\r\n")]


def user(load: Load, number: int) -> bytes:
    return f"user{number % load.users}@{load.domain}".encode()


class Worker:
    """Runs one session after the other."""

    __slots__ = ("answer", "at", "expected", "octets", "recv_into", "send", "sock", "steps", "tail")

    def __init__(self, port: int, steps: list[Step], expected: int) -> None:
        """Connect, and be ready for the greeting. `expected`: octets of the answers to RETR in one session."""
        self.steps = steps
        self.at = 0  # the step whose answer is awaited; the first is the greeting
        self.answer = 0  # octets of it so far
        self.octets = 0
        self.tail = b""
        self.expected = expected
        self.sock = socket.socket()
        self.sock.connect(("127.0.0.1", port))
        self.sock.setblocking(False)
        self.send = self.sock.send
        self.recv_into = self.sock.recv_into

    def read(self, buffer: bytearray) -> bool:
        """Take what has come and go on; False when the session is over. Raises WrongAnswerError."""
        size = self.recv_into(buffer)
        if not self.answer and (not size or buffer[0] != PLUS):
            raise WrongAnswerError(f"to {self.steps[self.at].command!r}: {bytes(buffer[: min(size, 100)])!r}")
        if not size:
            raise WrongAnswerError("closed early")
        self.answer += size
        step = self.steps[self.at]
        if step.is_multi_line:
            last = buffer[size - 5 : size] if size >= len(END) else self.tail + buffer[:size]
            if last[-5:] != END:
                self.tail = bytes(last)
                return True
            if step.is_letter:
                self.octets += self.answer
        elif buffer[size - 1] != LF:
            return True
        self.answer, self.tail = 0, b""
        self.at += 1
        if self.at == len(self.steps):
            self.sock.close()
            if self.octets != self.expected:
                raise WrongAnswerError(f"{self.octets} octets of letters instead of {self.expected}")
            return False
        self.send(self.steps[self.at].command)  # a command always fits into an empty socket buffer
        return True


def run(load: Load, expected: list[int]) -> dict[str, float]:
    """All sessions; `expected` by user. Raises WrongAnswerError and OSError."""
    poll = select.epoll()
    buffer = bytearray(BUFFER)
    workers: dict[int, Worker] = {}
    rest = plan(load)

    def begin(left: Iterator[int]) -> None:
        number = next(left, None)
        if number is not None:
            login = [Step(b"USER " + user(load, number) + b"\r\n"), Step(b"PASS " + load.password.encode() + b"\r\n")]
            worker = Worker(load.port, [Step(b""), *login, *rest], expected[number % load.users])
            workers[worker.sock.fileno()] = worker
            turns[worker.sock.fileno()] = left
            poll.register(worker.sock.fileno(), select.EPOLLIN)

    turns: dict[int, Iterator[int]] = {}
    gc.disable()  # nothing here makes cycles
    cpu, started = time.process_time(), time.perf_counter()
    for lane in range(load.at_once):
        begin(iter(range(lane, load.sessions, load.at_once)))
    done = 0
    try:
        while workers:
            for number, _ in poll.poll():
                if not workers[number].read(buffer):
                    done += 1
                    del workers[number]
                    begin(turns.pop(number))
    finally:
        for worker in workers.values():
            worker.sock.close()
        poll.close()
    seconds = time.perf_counter() - started
    if done != load.sessions:
        raise WrongAnswerError(f"{done} of {load.sessions} sessions were whole")
    return {
        "seconds": seconds,
        "octets": sum(expected[number % load.users] for number in range(load.sessions)),
        "client_cpu_ms": (time.process_time() - cpu) / load.sessions * 1000,
    }


def check(load: Load, number: int) -> int:
    """One careful session of a user: as many letters as are read, each as long as announced and at least as long as
    it was sent. Returns the octets of the answers to RETR. Raises WrongAnswerError."""
    with socket.create_connection(("127.0.0.1", load.port), 30) as sock:
        lines = sock.makefile("rb")

        def ask(command: bytes) -> bytes:
            if command:
                sock.sendall(command + b"\r\n")
            answer = lines.readline()
            if not answer.startswith(b"+OK"):
                raise WrongAnswerError(f"to {command!r}: {answer!r}")
            return answer

        for command in (b"", b"USER " + user(load, number), b"PASS " + load.password.encode()):
            ask(command)
        if load.letters and int(ask(b"STAT").split()[1]) < load.letters:
            raise WrongAnswerError(f"{user(load, number).decode()} lacks letters")
        total = 0
        for letter in range(1, load.letters + 1):
            announced = int(ask(b"LIST %d" % letter).split()[2])
            total += len(ask(b"RETR %d" % letter))
            size = 0
            while (line := lines.readline()) != b".\r\n":
                if not line.endswith(b"\r\n"):
                    raise WrongAnswerError("cut off")
                total += len(line)
                size += len(line) - line.startswith(b".")
            total += len(b".\r\n")
            if size != announced or size < load.octets:
                raise WrongAnswerError(f"a letter of {size} octets, announced as {announced}, sent with {load.octets}")
        ask(b"QUIT")
    return total


def null_server(load: Load) -> tuple[int, int]:
    """(process, port) of a server that does nothing but answer: what the client reaches there is its limit."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    child = os.fork()
    if child:
        port = listener.getsockname()[1]
        listener.close()
        return child, int(port)
    letter = b"+OK 10400 octets\r\n" + (b"X" * 78 + b"\r\n") * (load.octets // 80 + 2) + b".\r\n"
    uidl = b"+OK\r\n" + b"".join(b"%d %032d\r\n" % (n, n) for n in range(1, load.letters + 1)) + b".\r\n"
    answers = {b"RETR": letter, b"UIDL": uidl, b"STAT": b"+OK %d 104000\r\n" % load.letters}
    answers[b"LIST"] = b"+OK 1 %d\r\n" % (80 * (load.octets // 80 + 2))
    poll = select.epoll()
    poll.register(listener.fileno(), select.EPOLLIN)
    socks: dict[int, socket.socket] = {}
    while True:
        for number, _ in poll.poll():
            if number == listener.fileno():
                sock, _ = listener.accept()
                socks[sock.fileno()] = sock
                poll.register(sock.fileno(), select.EPOLLIN)
                sock.send(b"+OK\r\n")
            elif command := socks[number].recv(1000):
                socks[number].sendall(answers.get(command[:4], b"+OK\r\n"))
            else:
                socks.pop(number).close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int, help="0 with --null")
    parser.add_argument("--users", type=int, default=10)
    parser.add_argument("--at-once", type=int, default=10)
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--letters", type=int, default=10)
    parser.add_argument("--octets", type=int, default=10_240)
    parser.add_argument("--no-listing", action="store_true")
    parser.add_argument("--no-check", action="store_true", help="when the octets do not matter: nothing is read")
    parser.add_argument("--null", action="store_true")
    given = parser.parse_args()
    load = Load(
        given.port, given.users, given.at_once, given.sessions, given.letters, not given.no_listing, given.octets
    )
    child = 0
    if given.null:
        child, port = null_server(load)
        load = Load(port, given.users, given.at_once, given.sessions, given.letters, not given.no_listing, given.octets)
    try:
        expected = [0 if given.no_check else check(load, number) for number in range(load.users)]
        print(json.dumps(run(load, expected)))
    finally:
        if child:
            os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
