# SPDX-License-Identifier: Apache-2.0
"""Whatever a server says in an exchange with any mechanism: a response or the exchange's own error."""

from __future__ import annotations

from fuzz.choices import Choices
from fuzz.smtp_house import NAME, PASSWORD
from posthouse.protocol.engine import RemoteProtocolError
from posthouse.protocol.sasl import SaslError
from posthouse.protocol.sasl.table import MECHANISMS
from posthouse.protocol.smtp.client_auth import Credentials, Login, Mechanism, Plain, Scram

DICTIONARY = "sasl.dict"
CLIENT_NONCE = "fyko+d2lbbFgONRv9qkxdawL"
MAX_STEPS = 8
_NAMES = tuple(MECHANISMS)


def target(data: bytes) -> None:
    choices = Choices(data)
    kind = choices.number(len(_NAMES) + 3)
    # A password makes 10,000 rounds; the rounds a server asks for are bounded, and here they are kept few.
    challenges = [text for text in choices.rest.split(b"<next>")[:MAX_STEPS] if text.count(b"0000") == 0]
    try:
        if kind < len(_NAMES):
            client = MECHANISMS[_NAMES[kind]].client(NAME, PASSWORD, CLIENT_NONCE)
            client.initial()
            for challenge in challenges:
                client.respond(challenge)
            assert not client.is_complete or kind > 1 or b"v=" in challenges[-1], "SCRAM believes without a proof"
        else:
            _smtp(kind - len(_NAMES), challenges)
    except (SaslError, RemoteProtocolError):
        pass


def _smtp(kind: int, challenges: list[bytes]) -> None:
    credentials = Credentials(NAME, PASSWORD)
    mechanism: Mechanism = (Plain(credentials), Login(credentials), Scram(credentials, CLIENT_NONCE))[kind]
    for challenge in challenges:
        mechanism.respond(challenge)
