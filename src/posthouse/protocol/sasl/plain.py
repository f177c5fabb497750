# SPDX-License-Identifier: Apache-2.0
"""PLAIN (RFC 4616): `[authzid] NUL authcid NUL passwd`, in one message from the client."""

from __future__ import annotations

from posthouse.protocol.sasl.exchange import Challenge, PasswordGiven, SaslError, ScramSecrets, ServerStep
from posthouse.protocol.sasl.prepare import MAX_NAME, MAX_PASSWORD, decode, prepare


class PlainServer:
    mechanism = "PLAIN"

    def step(self, response: bytes | None) -> ServerStep:
        if response is None:
            return Challenge(b"")
        parts = response.split(b"\0")
        if len(parts) != 3:
            raise SaslError("PLAIN needs exactly two NUL octets")
        authzid, name = decode(parts[0], MAX_NAME), prepare(decode(parts[1], MAX_NAME))
        password = decode(parts[2], MAX_PASSWORD)
        if not password:
            raise SaslError("empty password")
        # RFC 4616 §2: acting for somebody else is not offered here; one's own name is the same as none.
        if authzid and prepare(authzid) != name:
            raise SaslError("the authorization identity differs from the authentication identity")
        return PasswordGiven(name, password)

    def secrets(self, secrets: ScramSecrets) -> Challenge:
        raise SaslError("PLAIN has no use for SCRAM secrets")


class PlainClient:
    mechanism = "PLAIN"
    is_complete = True  # there is nothing that the server could prove

    def __init__(self, name: str, password: str) -> None:
        self._message = f"\0{name}\0{password}".encode()
        if self._message.count(b"\0") != 2:
            raise SaslError("NUL in a name or password")
        self._is_sent = False

    def initial(self) -> bytes | None:
        self._is_sent = True
        return self._message

    def respond(self, challenge: bytes) -> bytes:
        # A server that ignores initial responses asks for the message with an empty challenge.
        if self._is_sent:
            raise SaslError("the server asks for more than PLAIN has")
        self._is_sent = True
        return self._message
