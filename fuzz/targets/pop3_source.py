# SPDX-License-Identifier: Apache-2.0
"""Whatever another server says while its mailbox is imported: letters, or SourceFault in words that can be shown."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

from fuzz.choices import Choices, pieces
from posthouse.net.pop3_source import Pop3Source, SourceFault

DICTIONARY = "pop3.dict"
MAX_SIZE = 6000  # numbers of more than 4,300 digits among them
_CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class _Socket:
    """Gives the input, then its end."""

    def __init__(self, octets: list[bytes]) -> None:
        self._octets = iter(octets)
        self.said = b""

    def recv(self, _most: int) -> bytes:
        return next(self._octets, b"")

    def sendall(self, octets: bytes) -> None:
        self.said += bytes(octets)

    def close(self) -> None:
        pass


def target(data: bytes) -> None:
    choices = Choices(data)
    user, password = choices.text(20), choices.text(20)
    chance = choices.chance()
    fake = _Socket(pieces(choices.rest, chance))
    said = ""
    with _connected(fake):
        try:
            source = Pop3Source("mail.bob.test", 110, tls="none", context=_CONTEXT)
            for letter in source.letters(user, password):
                assert not letter or letter.endswith(b"\r\n"), "a letter is lines"
        except SourceFault as fault:
            said = str(fault)
    assert not said or said.isprintable(), "what the other server says would drive a terminal"
    assert not any(line.startswith(b"DELE") for line in fake.said.split(b"\r\n")), "something is removed there"


@contextlib.contextmanager
def _connected(fake: Any) -> Iterator[None]:
    before = socket.create_connection
    setattr(socket, "create_connection", lambda *_: fake)  # noqa: B010 - with another type
    try:
        yield
    finally:
        setattr(socket, "create_connection", before)  # noqa: B010 - as above
