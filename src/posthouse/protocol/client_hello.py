# SPDX-License-Identifier: Apache-2.0
"""What a TLS client asks for in its first message: the host name and the application protocols (RFC 8446 §4.1.2).

Invariant: one pass over the octets; whatever is not a well-formed ClientHello asks for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

CLIENT_HELLO = 1  # RFC 8446 §4
SERVER_NAME, ALPN = 0, 16  # RFC 6066 §3, RFC 7301 §3.1
HOST_NAME = 0
MAX_OCTETS = 1 << 16  # far more than any client sends; OpenSSL itself stops at 131396
MAX_PROTOCOLS = 32  # a browser offers two or three


@dataclass(frozen=True, slots=True)
class ClientHello:
    """`server_name` in lower case, "" for none; `protocols` in the client's order."""

    server_name: str = ""
    protocols: tuple[bytes, ...] = ()


class _Cut(Exception):  # noqa: N818 - what happened
    """The message ends within a field, or a field is too long for it."""


class _Octets:
    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def size(self) -> int:
        """What is left of them."""
        return len(self._data) - self._at

    def __bool__(self) -> bool:
        return self.size > 0

    def take(self, count: int) -> bytes:
        if self.size < count:
            raise _Cut
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> _Octets:
        """RFC 8446 §3.4: its length in so many octets, then its content."""
        return _Octets(self.take(self.number(size)))


def read_client_hello(message: bytes) -> ClientHello:
    """`message`: the handshake message with its header, without those of records."""
    if len(message) > MAX_OCTETS:
        return ClientHello()
    try:
        return _read(_Octets(message))
    except _Cut:
        return ClientHello()


def _read(octets: _Octets) -> ClientHello:
    if octets.number(1) != CLIENT_HELLO:
        return ClientHello()
    body = octets.vector(3)
    body.take(2 + 32)  # legacy_version, random
    body.vector(1)  # legacy_session_id
    body.vector(2)  # cipher_suites
    body.vector(1)  # legacy_compression_methods
    if not body:
        return ClientHello()  # TLS 1.2 without extensions
    extensions = body.vector(2)
    name = ""
    protocols: tuple[bytes, ...] = ()
    while extensions:
        kind, content = extensions.number(2), extensions.vector(2)
        if kind == SERVER_NAME:
            name = _server_name(content)
        elif kind == ALPN:
            protocols = _protocols(content)
    return ClientHello(name, protocols)


def _server_name(content: _Octets) -> str:
    names = content.vector(2)
    while names:
        kind, name = names.number(1), names.vector(2)
        if kind == HOST_NAME:
            return name.take(name.size).decode("ascii", "replace").lower()
    return ""


def _protocols(content: _Octets) -> tuple[bytes, ...]:
    offered = content.vector(2)
    found: list[bytes] = []
    while offered and len(found) < MAX_PROTOCOLS:
        one = offered.vector(1)
        found.append(one.take(one.size))
    return tuple(found)
