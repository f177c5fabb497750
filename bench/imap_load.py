# SPDX-License-Identifier: Apache-2.0
"""IMAP load: so many sessions at once, one command at a time, every answer counted. Prints one JSON object.

It shares the machine with what it measures, so it is as lean as Python allows: bare sockets, commands made beforehand
where they repeat, whole buffers searched for the FETCH lines and, at their end, for the tagged line. Letters of an
answer whose octets were compared once are only counted.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import replace

from bench import imap_null
from bench.imap_client import ANSWER_LIMIT, LINE_LIMIT, TAG, WrongAnswerError
from bench.imap_scripts import FETCHED, GREETING, SCRIPTS, Load, Script, Step
from bench.submission_load import percentiles

CHUNK = 1 << 20
OVERLAP = len(FETCHED) - 1  # octets of a FETCH line's mark that may have come before
OK = TAG + b" OK"
LF = 10


class Worker:
    """One connection and the steps that are said on it. `buffer` is shared: what has come stands behind LINE_LIMIT
    octets, in which the last ones that came before are put."""

    __slots__ = (
        "_answer",
        "_buffer",
        "_fetches",
        "_sent",
        "_step",
        "_steps",
        "_tail",
        "_unread",
        "_view",
        "sock",
        "times",
    )

    def __init__(self, port: int, buffer: bytearray, steps: Iterator[Step], times: list[float]) -> None:
        """Connect, and be ready for the greeting, which is the first step."""
        self._buffer = buffer
        self._view = memoryview(buffer)[LINE_LIMIT:]
        self.times = times
        self.sock = socket.socket()
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._steps = steps
        self._step = next(steps)
        self._begin()

    def _begin(self) -> None:
        self._answer = self._fetches = 0
        self._unread = self._step.unread
        self._tail = b""
        self._sent = time.perf_counter()

    def go_on(self) -> bool:
        """Say the next thing; False when there is nothing left to say."""
        step = next(self._steps, None)
        if step is None:
            return False
        self._step = step
        self._begin()
        self.sock.sendall(b"%s %s\r\n" % (TAG, step.command))
        return True

    def read(self) -> bool:
        """Take what has come; True when that was the end of the answer. Raises WrongAnswerError."""
        buffer, step = self._buffer, self._step
        flags = socket.MSG_TRUNC if self._unread else 0  # tcp(7): counted and thrown away, not copied
        size = self.sock.recv_into(self._view, min(self._unread, CHUNK), flags)  # a length of 0: all of the buffer
        if not size:
            raise WrongAnswerError(f"closed early, after {step.command[:100]!r}")
        if self._unread:
            self._unread -= size
            self._answer += size
            return False
        end = LINE_LIMIT + size
        start = LINE_LIMIT - len(self._tail)
        buffer[start:LINE_LIMIT] = self._tail
        self._answer += size
        if step.fetches is not None:
            self._fetches += buffer.count(FETCHED, max(start, LINE_LIMIT - OVERLAP), end)
        if buffer[end - 1] == LF:
            line = max(buffer.rfind(b"\n", start, end - 1) + 1, start)
            if step is GREETING or buffer.startswith(TAG, line, end):
                self._finish(start, line, end)
                return True
        self._tail = bytes(buffer[max(start, end - LINE_LIMIT) : end])
        return False

    def _finish(self, start: int, line: int, end: int) -> None:
        """The answer is whole; its last line is at `line`."""
        step, buffer = self._step, self._buffer
        if not buffer.startswith(b"* OK" if step is GREETING else OK, line, end):
            raise WrongAnswerError(f"to {step.command[:100]!r}: {bytes(buffer[line:end])[:300]!r}")
        if step.fetches is not None and step.fetches != self._fetches:
            raise WrongAnswerError(f"to {step.command[:100]!r}: {self._fetches} FETCH lines, not {step.fetches}")
        untagged = self._answer - (end - line)
        if step.octets is not None and step.octets != untagged:
            raise WrongAnswerError(f"to {step.command[:100]!r}: {untagged} octets instead of {step.octets}")
        if step.line and buffer.find(step.line, start, line) < 0:
            raise WrongAnswerError(f"to {step.command[:100]!r}: no line {step.line[:100]!r}")
        if step.is_timed:
            self.times.append(time.perf_counter() - self._sent)


class Loader:
    """Runs bursts of one script's turns against one server."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._buffer = bytearray(LINE_LIMIT + CHUNK)
        self._turns = 0  # of all bursts

    def burst(self, turns: int) -> dict[str, float]:
        """Raises WrongAnswerError and OSError."""
        left = iter(range(self._turns, self._turns + turns))
        self._turns += turns
        run = Burst(self._script, left, self._buffer)
        gc.disable()  # nothing here makes cycles; a pause would be measured as the server's
        try:
            if self._script.keeps_connections:
                run.open_all()
            cpu, started = time.process_time(), time.perf_counter()
            run.play()
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        finally:
            run.close()
            gc.enable()
        return {"seconds": seconds, "turns": turns, "client_cpu_ms": cpu / turns * 1000, **percentiles(run.times)}


class Burst:
    """So many turns over `at_once` lanes, which take the next one from `left` as they get free."""

    def __init__(self, script: Script, left: Iterator[int], buffer: bytearray) -> None:
        self.times: list[float] = []
        self._script = script
        self._left = left
        self._buffer = buffer
        self._poll = select.epoll()
        self._workers: dict[int, tuple[int, Worker]] = {}  # lane and connection by descriptor

    def open_all(self) -> None:
        """For connections that are kept: all of them, up to the answer of their last opening step."""
        for lane in range(self._script.load.at_once):
            worker = self._connect(lane, self._kept(lane))
            for at in range(len(self._script.begin(lane))):
                if at:
                    worker.go_on()
                while self._ready() and not worker.read():
                    pass
        self.times.clear()

    def _kept(self, lane: int) -> Iterator[Step]:
        yield from self._script.begin(lane)
        for number in self._left:
            yield from self._script.turn(lane, number)

    def _connect(self, lane: int, steps: Iterator[Step]) -> Worker:
        worker = Worker(self._script.load.port, self._buffer, steps, self.times)
        self._workers[worker.sock.fileno()] = lane, worker
        self._poll.register(worker.sock.fileno(), select.EPOLLIN)
        return worker

    def play(self) -> None:
        if self._workers:
            for number, (_, worker) in list(self._workers.items()):
                if not worker.go_on():
                    self._drop(number)
        else:
            for lane in range(self._script.load.at_once):
                self._begin(lane)
        while self._workers:
            for number in self._ready():
                lane, worker = self._workers[number]
                if worker.read() and not worker.go_on():
                    self._drop(number)
                    if not self._script.keeps_connections:
                        self._begin(lane)

    def _ready(self) -> list[int]:
        """Descriptors that can be read. Raises WrongAnswerError when none can for too long."""
        found = self._poll.poll(ANSWER_LIMIT)
        if not found:
            raise WrongAnswerError(f"no answer, or not all of it, within {ANSWER_LIMIT:.0f} s")
        return [number for number, _ in found]

    def _begin(self, lane: int) -> None:
        """The next whole session, if there is one."""
        number = next(self._left, None)
        if number is not None:
            self._connect(lane, iter(self._script.turn(lane, number)))

    def _drop(self, number: int) -> None:
        _, worker = self._workers.pop(number)
        self._poll.unregister(number)
        worker.sock.close()

    def close(self) -> None:
        for _, worker in self._workers.values():
            worker.sock.close()
        self._poll.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int, help="0 with --null")
    parser.add_argument("script", choices=SCRIPTS)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--letters", type=int, default=1000, help="that every INBOX has, put there by the benchmark")
    parser.add_argument("--octets", type=int, default=1024, help="of each of them")
    parser.add_argument("--null", action="store_true", help="against canned answers: the client's own limit")
    given = parser.parse_args()
    load = Load(given.port, given.script, given.at_once, given.letters, given.octets)
    with contextlib.ExitStack() as stack:
        if given.null:
            load = replace(load, port=stack.enter_context(imap_null.running(load)))
        script = SCRIPTS[load.script](load)
        first = script.prepare()
        found = Loader(script).burst(given.turns)
        script.verify()
        print(json.dumps({**first, **found}))


if __name__ == "__main__":
    main()
