# SPDX-License-Identifier: Apache-2.0
"""What an exchange says to the one who runs it: send this, check that, it is proven."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


class SaslError(Exception):
    """The exchange has failed: a malformed message, or a proof that does not hold. It cannot be continued.

    The text is for the log; the peer learns no more than that authentication failed (RFC 4422 §3.6).
    """


@dataclass(frozen=True, slots=True)
class Challenge:
    """Send this to the client and give its answer to `step`."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PasswordGiven:
    """The client sent name and password in clear; the exchange is over when they are right."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SecretsWanted:
    """The server needs the stored secrets of this name: call `ServerExchange.secrets`."""

    name: str


@dataclass(frozen=True, slots=True)
class Proven:
    """The client has proved that it knows the password of this name, and the exchange is over."""

    name: str


ServerStep = Challenge | PasswordGiven | SecretsWanted | Proven


@dataclass(frozen=True, slots=True)
class ScramSecrets:
    """What a server keeps of a password for SCRAM (RFC 5802 §2.2): enough to verify, not enough to log in."""

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


class ServerExchange(Protocol):
    mechanism: str

    def step(self, response: bytes | None) -> ServerStep:
        """Take the client's next message; None for "no initial response". Raises SaslError."""

    def secrets(self, secrets: ScramSecrets) -> Challenge:
        """The answer to SecretsWanted. Raises SaslError."""


class ClientExchange(Protocol):
    mechanism: str

    @property
    def is_complete(self) -> bool:
        """Whether the server may say "success" now. Where it says so earlier it has proved nothing (RFC 5802 §5)."""

    def initial(self) -> bytes | None:
        """The initial response; None where the server speaks first. Call it once."""

    def respond(self, challenge: bytes) -> bytes:
        """The answer to the server's challenge. Raises SaslError: cancel the exchange."""
