# SPDX-License-Identifier: Apache-2.0
"""One POP3 session over a blocking socket, each command timed: for what one user waits."""

from __future__ import annotations

import socket
import time
from types import TracebackType

from bench.house import PASSWORD

CHUNK = 1 << 20
END = b"\r\n.\r\n"


class Pop3:
    """`times`: seconds by command, of the last time it was said."""

    def __init__(self, port: int, user: str) -> None:
        self.times: dict[str, float] = {}
        self._socket = socket.create_connection(("127.0.0.1", port), 120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read(b"\r\n")
        self.say(f"USER {user}")
        self.say(f"PASS {PASSWORD}")

    def say(self, command: str, *, is_listing: bool = False) -> int:
        """Octets of the answer. RuntimeError for -ERR."""
        started = time.perf_counter()
        self._socket.sendall(command.encode() + b"\r\n")
        size = self._read(END if is_listing else b"\r\n")
        self.times[command.partition(" ")[0]] = time.perf_counter() - started
        return size

    def letters(self) -> int:
        """As STAT tells it."""
        self._socket.sendall(b"STAT\r\n")
        return int(self._receive().split()[1])

    def pipeline(self, commands: list[str]) -> None:
        """All at once, each with an answer of one line (RFC 2449 §6.6)."""
        step = 500  # so that neither side's buffers fill while nobody reads
        for first in range(0, len(commands), step):
            part = commands[first : first + step]
            self._socket.sendall("".join(each + "\r\n" for each in part).encode())
            left, tail = len(part), b""
            while left:
                data = tail + self._receive()
                left -= data.count(b"\r\n")
                tail = data[data.rfind(b"\r\n") + 2 :]

    def _read(self, end: bytes) -> int:
        data = self._receive()
        if not data.startswith(b"+OK"):
            raise RuntimeError(data[:200].decode("ascii", "replace"))
        size, tail = len(data), data[-len(end) :]
        while tail != end:
            data = self._receive()
            size, tail = size + len(data), (tail + data)[-len(end) :]
        return size

    def _receive(self) -> bytes:
        data = self._socket.recv(CHUNK)
        if not data:
            raise RuntimeError("closed early")
        return data

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Pop3:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
