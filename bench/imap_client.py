# SPDX-License-Identifier: Apache-2.0
"""One IMAP session over a blocking socket, each command timed: for checks, and for what one user waits."""

from __future__ import annotations

import socket
import time
from types import TracebackType

from bench.house import PASSWORD

CHUNK = 1 << 20
TAG = b"bEnCh7"  # the letters that are measured with have it nowhere
LINE_LIMIT = 2000  # octets of a tagged line, at most
ANSWER_LIMIT = 300.0  # seconds; the first look into a large mailbox makes some servers read all of it


class WrongAnswerError(Exception):
    """The server refused, or did not send what it has to send."""


class Imap:
    """`seconds`: how long the last command took."""

    def __init__(self, port: int, user: str = "") -> None:
        """Connected, greeted, and logged in where a user is given."""
        self.seconds = 0.0
        self._rest = b""
        self._socket = socket.create_connection(("127.0.0.1", port), ANSWER_LIMIT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        greeting = b""
        while not greeting.endswith(b"\r\n"):
            greeting += self._receive()
        if not greeting.startswith(b"* OK"):
            raise WrongAnswerError(f"greeted with {greeting[:200]!r}")
        if user:
            self.say(b"LOGIN %s %s" % (user.encode(), PASSWORD.encode()))

    @classmethod
    def selected(cls, port: int, user: str, letters: int) -> Imap:
        """Logged in, with INBOX selected, which must have so many letters."""
        client = cls(port, user)
        try:
            client.select(letters)
        except BaseException:
            client.close()
            raise
        return client

    def say(self, command: bytes) -> bytes:
        """The untagged lines of the answer. Raises WrongAnswerError when it is not OK."""
        started = time.perf_counter()
        self._socket.sendall(TAG + b" " + command + b"\r\n")
        pieces: list[bytes] = []
        last = b""
        while True:
            data = self._receive()
            pieces.append(data)
            last = (last + data)[-LINE_LIMIT:]
            line = last[last.rfind(b"\n", 0, -1) + 1 :]
            if line.startswith(TAG) and line.endswith(b"\r\n"):
                break
        self.seconds = time.perf_counter() - started
        if not line.startswith(TAG + b" OK"):
            raise WrongAnswerError(f"to {command[:100]!r}: {line[:300]!r}")
        return b"".join(pieces)[: -len(line)]

    def select(self, letters: int | None = None) -> int:
        """SELECT INBOX; how many letters it has. Raises WrongAnswerError when these are not `letters`."""
        answer = self.say(b"SELECT INBOX")
        found = [int(line.split()[1]) for line in answer.splitlines() if line.endswith(b" EXISTS")]
        if len(found) != 1 or letters not in (None, found[0]):
            raise WrongAnswerError(f"{found} letters instead of {letters}")
        return found[0]

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def lines(self) -> list[bytes]:
        """Wait for octets; the lines that are whole now, the last one's rest is kept. Only between commands."""
        *found, self._rest = (self._rest + self._receive()).split(b"\r\n")
        return [line + b"\r\n" for line in found]

    def idle(self) -> None:
        """Begin IDLE (RFC 2177). Raises WrongAnswerError when the server does not."""
        self.send(TAG + b" IDLE\r\n")
        lines: list[bytes] = []
        while not lines:
            lines = self.lines()
        if not lines[-1].startswith(b"+"):
            raise WrongAnswerError(f"to IDLE: {lines!r}")

    def done(self) -> None:
        """End IDLE."""
        self.send(b"DONE\r\n")
        while not (tagged := [line for line in self.lines() if not line.startswith(b"*")]):
            pass
        if not tagged[0].startswith(TAG + b" OK"):
            raise WrongAnswerError(f"to DONE: {tagged!r}")

    def _receive(self) -> bytes:
        data = self._socket.recv(CHUNK)
        if not data:
            raise WrongAnswerError("closed early")
        return data

    @property
    def descriptor(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Imap:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
