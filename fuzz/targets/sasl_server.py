# SPDX-License-Identifier: Apache-2.0
"""Whatever a client says in an exchange with any mechanism: a step or SaslError."""

from __future__ import annotations

from fuzz.choices import Choices
from fuzz.smtp_house import NONCE, secrets
from posthouse.protocol.sasl import SaslError
from posthouse.protocol.sasl.exchange import PasswordGiven, Proven, SecretsWanted
from posthouse.protocol.sasl.prepare import MAX_NAME
from posthouse.protocol.sasl.table import MECHANISMS, server_exchange

DICTIONARY = "sasl.dict"
MAX_STEPS = 8  # messages of one exchange; no mechanism has more than three
_NAMES = tuple(MECHANISMS)


def target(data: bytes) -> None:
    choices = Choices(data)
    exchange = server_exchange(_NAMES[choices.number(len(_NAMES))], NONCE)
    messages: list[bytes | None] = list(choices.rest.split(b"<next>"))
    if choices.flag():
        messages.insert(0, None)
    try:
        for message in messages[:MAX_STEPS]:
            step = exchange.step(message)
            match step:
                case SecretsWanted(name):
                    assert 0 < len(name.encode()) <= MAX_NAME
                    exchange.secrets(secrets(exchange.mechanism))
                case PasswordGiven(name, password):
                    assert name
                    assert password
                    return
                case Proven():
                    return
                case _:
                    pass
    except SaslError:
        pass
