# SPDX-License-Identifier: Apache-2.0
"""ClientHellos of anybody: bounded, never a fault, and cut short they ask for nothing."""

from __future__ import annotations

from posthouse.protocol.client_hello import MAX_OCTETS, MAX_PROTOCOLS, ClientHello, read_client_hello

DICTIONARY = "client_hello.dict"


def target(data: bytes) -> None:
    found = read_client_hello(data)
    assert len(found.protocols) <= MAX_PROTOCOLS
    assert found.server_name == found.server_name.lower()
    # The same octets as the extensions of a message that is well formed so far.
    extensions = len(data).to_bytes(2, "big") + data if len(data) < MAX_OCTETS else b""
    body = b"\3\3" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + extensions
    message = b"\1" + len(body).to_bytes(3, "big") + body
    whole = read_client_hello(message)
    assert sum(map(len, whole.protocols)) <= len(data)
    if whole != ClientHello():
        assert read_client_hello(message[:-1]) == ClientHello()
