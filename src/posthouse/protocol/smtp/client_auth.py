# SPDX-License-Identifier: Apache-2.0
"""The client's side of AUTH (RFC 4954): PLAIN, LOGIN, SCRAM-SHA-256.

Invariant: a password is put on the wire only where the caller says that the connection is protected;
SCRAM succeeds only when the server has proved that it knows the password too.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from scramp import ScramClient, ScramException

from posthouse.protocol.engine import RemoteProtocolError

# PBKDF2 runs in the loop's thread: 600,000 rounds (what is advised for new verifiers) take about 0.15 s, once
# for a connection. A server that asks for more wants to stop us.
MAX_SCRAM_ROUNDS = 600_000
_ROUNDS = re.compile(r"(?:^|,)i=(\d{1,9})(?:,|$)")
# RFC 5321 §4.5.3.1.4: a command line with its CRLF. RFC 4954 §4: a longer initial response waits for 334.
MAX_COMMAND_LINE = 512


@dataclass(frozen=True, slots=True)
class Credentials:
    """`mechanisms`: the only ones to be tried; empty: every one there is."""

    username: str
    password: str
    mechanisms: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, …)"  # a password is not for logs and tracebacks


class Mechanism(Protocol):
    """One exchange. `initial` is the initial response, None where the server speaks first."""

    name: str
    initial: bytes | None

    def respond(self, challenge: bytes) -> bytes:
        """Raises RemoteProtocolError when the challenge makes no sense."""

    @property
    def is_satisfied(self) -> bool:
        """Whether a 235 may be believed now."""


class Plain:
    """RFC 4616."""

    name = "PLAIN"

    def __init__(self, credentials: Credentials) -> None:
        self.initial: bytes | None = f"\0{credentials.username}\0{credentials.password}".encode()

    def respond(self, challenge: bytes) -> bytes:
        raise RemoteProtocolError("PLAIN has no second challenge")

    @property
    def is_satisfied(self) -> bool:
        return True


class Login:
    """draft-murchison-sasl-login: two prompts whose words do not matter."""

    name = "LOGIN"

    def __init__(self, credentials: Credentials) -> None:
        self.initial: bytes | None = None
        self._answers = [credentials.password.encode(), credentials.username.encode()]

    def respond(self, challenge: bytes) -> bytes:
        if not self._answers:
            raise RemoteProtocolError("LOGIN has no third challenge")
        return self._answers.pop()

    @property
    def is_satisfied(self) -> bool:
        return not self._answers


class Scram:
    """RFC 7677 without channel binding. `nonce` is unpredictable printable text without a comma."""

    name = "SCRAM-SHA-256"

    def __init__(self, credentials: Credentials, nonce: str) -> None:
        self._client = ScramClient([self.name], credentials.username, credentials.password, c_nonce=nonce)
        first: str = self._client.get_client_first()
        self.initial: bytes | None = first.encode()
        self._is_final_sent = False
        self._is_proved = False

    def respond(self, challenge: bytes) -> bytes:
        try:
            text = challenge.decode()
            if self._is_final_sent:
                if self._is_proved:
                    raise RemoteProtocolError("SCRAM has no third challenge")
                self._client.set_server_final(text)
                self._is_proved = True
                return b""
            rounds = _ROUNDS.search(text)
            if rounds is None or int(rounds[1]) > MAX_SCRAM_ROUNDS:
                raise RemoteProtocolError("the server's SCRAM challenge asks for too many rounds, or for none")
            self._client.set_server_first(text)
            final: str = self._client.get_client_final()
        except (ScramException, ValueError) as error:
            raise RemoteProtocolError(f"the server's SCRAM message is not valid: {error}") from None
        self._is_final_sent = True
        return final.encode()

    @property
    def is_satisfied(self) -> bool:
        return self._is_proved


def choose(
    offered: Iterable[str], tried: Iterable[str], credentials: Credentials, nonce: str, *, may_show: bool
) -> Mechanism | None:
    """The best mechanism not tried yet; None when there is no other. `may_show`: the password may be sent."""
    left = [name for name in offered if name not in tried and name in (credentials.mechanisms or (name,))]
    if Scram.name in left and _fits_scram(credentials):
        return Scram(credentials, nonce)
    if may_show and Plain.name in left and "\0" not in credentials.username + credentials.password:
        return Plain(credentials)
    if may_show and Login.name in left:
        return Login(credentials)
    return None


def command(mechanism: Mechanism) -> tuple[bytes, bool]:
    """The AUTH line, and whether the initial response is in it."""
    start = f"AUTH {mechanism.name}".encode()
    if mechanism.initial is not None:
        # RFC 4954 §4: an empty initial response is "=".
        line = start + b" " + (encode(mechanism.initial) or b"=") + b"\r\n"
        if len(line) <= MAX_COMMAND_LINE:
            return line, True
    return start + b"\r\n", False


def encode(response: bytes) -> bytes:
    return base64.b64encode(response)


def decode(text: str) -> bytes:
    """The text of a 334. Raises RemoteProtocolError when it is not base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RemoteProtocolError("a challenge is not base64") from None


def _fits_scram(credentials: Credentials) -> bool:
    """Whether SASLprep lets the name and the password through (RFC 5802 §5.1)."""
    try:
        ScramClient([Scram.name], credentials.username, credentials.password, c_nonce="probe")
    except (ScramException, ValueError):
        return False
    return True
