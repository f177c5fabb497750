# SPDX-License-Identifier: Apache-2.0
"""One SMTP session over a blocking socket: letters one after the other, each answered before the next."""

from __future__ import annotations

import socket
from types import TracebackType

from bench.submission_load import content

SENDER = "someone@elsewhere.test"


class Smtp:
    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._count = 0
        self._hear(b"220")
        self._say(b"EHLO client.elsewhere.test\r\n", b"250")

    def send(self, to: str, octets: int) -> None:
        """Until the letter is durable. RuntimeError when it is refused."""
        self._count += 1
        self._say(f"MAIL FROM:<{SENDER}>\r\n".encode(), b"250")
        self._say(f"RCPT TO:<{to}>\r\n".encode(), b"250")
        self._say(b"DATA\r\n", b"354")
        self._say(content(SENDER, to, f"n{self._count}", octets), b"250")

    def _say(self, command: bytes, code: bytes) -> None:
        self._socket.sendall(command)
        self._hear(code)

    def _hear(self, code: bytes) -> None:
        reply = b""
        while not (reply.endswith(b"\r\n") and reply[reply.rfind(b"\n", 0, -1) + 1 :][3:4] == b" "):
            data = self._socket.recv(65536)
            if not data:
                raise RuntimeError("closed early")
            reply += data
        if not reply.startswith(code):
            raise RuntimeError(reply.decode("ascii", "replace").strip())

    def __enter__(self) -> Smtp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
