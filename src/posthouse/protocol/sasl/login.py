# SPDX-License-Identifier: Apache-2.0
"""LOGIN (never more than draft-murchison-sasl-login, but Outlook and many devices know nothing better).

The server asks twice. What the questions say is ignored by clients, so theirs is by us.
"""

from __future__ import annotations

from posthouse.protocol.sasl.exchange import Challenge, PasswordGiven, SaslError, ScramSecrets, ServerStep
from posthouse.protocol.sasl.prepare import MAX_NAME, MAX_PASSWORD, decode, prepare

ASK_NAME = b"Username:"
ASK_PASSWORD = b"Password:"


class LoginServer:
    mechanism = "LOGIN"

    def __init__(self) -> None:
        self._name: str | None = None

    def step(self, response: bytes | None) -> ServerStep:
        if response is None:
            return Challenge(ASK_NAME)
        if self._name is None:
            # An initial response is the name: several clients send it, the draft does not forbid it.
            self._name = prepare(decode(response, MAX_NAME))
            return Challenge(ASK_PASSWORD)
        password = decode(response, MAX_PASSWORD)
        if not password:
            raise SaslError("empty password")
        return PasswordGiven(self._name, password)

    def secrets(self, secrets: ScramSecrets) -> Challenge:
        raise SaslError("LOGIN has no use for SCRAM secrets")


class LoginClient:
    mechanism = "LOGIN"

    def __init__(self, name: str, password: str) -> None:
        self._answers = [name.encode(), password.encode()]

    @property
    def is_complete(self) -> bool:
        return not self._answers

    def initial(self) -> bytes | None:
        return None

    def respond(self, challenge: bytes) -> bytes:
        if not self._answers:
            raise SaslError("the server asks for more than a name and a password")
        return self._answers.pop(0)
