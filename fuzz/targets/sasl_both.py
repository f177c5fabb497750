# SPDX-License-Identifier: Apache-2.0
"""Our client against our server, each mechanism, any name and password: in with the right one, out with any other."""

from __future__ import annotations

from fuzz.choices import Choices
from fuzz.smtp_house import NONCE
from posthouse.protocol.sasl import SaslError
from posthouse.protocol.sasl.exchange import Challenge, PasswordGiven, Proven, SecretsWanted
from posthouse.protocol.sasl.prepare import MAX_NAME, MAX_PASSWORD, prepare
from posthouse.protocol.sasl.scram import derive
from posthouse.protocol.sasl.table import MECHANISMS, server_exchange

DICTIONARY = "sasl.dict"
ITERATIONS = 4096  # the fewest that are allowed
CLIENT_NONCE = "fyko+d2lbbFgONRv9qkxdawL"
MAX_SIZE = 600
_NAMES = tuple(MECHANISMS)


def target(data: bytes) -> None:
    choices = Choices(data)
    mechanism = _NAMES[choices.number(len(_NAMES))]
    is_asked_first = choices.flag()
    right = choices.text(40)
    is_right = choices.number(4) > 0
    name = choices.rest.decode("utf-8", "replace")
    try:
        prepared, comparable = prepare(name), prepare(right)
    except SaslError:
        return  # such an account or password cannot be made
    if "\0" in name + right or len(name.encode()) > MAX_NAME or len(right.encode()) > MAX_PASSWORD:
        return
    said = right if is_right else right + "x"
    verdict = _exchange(mechanism, (name, said), (prepared, comparable), is_asked_first=is_asked_first)
    assert verdict == is_right, f"{mechanism}: the right password is refused, or a wrong one taken"


def _exchange(mechanism: str, said: tuple[str, str], kept: tuple[str, str], *, is_asked_first: bool) -> bool:
    client = MECHANISMS[mechanism].client(*said, CLIENT_NONCE)
    server = server_exchange(mechanism, NONCE)
    message = None if is_asked_first else client.initial()
    try:
        while True:
            step = server.step(message)
            if isinstance(step, SecretsWanted):
                assert step.name == kept[0], "the name changed on its way"
                step = server.secrets(derive(mechanism, kept[1], b"salt of a fuzzer", ITERATIONS))
            match step:
                case Challenge(data) if message is None and is_asked_first and not data:
                    message = client.initial()
                    is_asked_first = False
                case Challenge(data):
                    message = client.respond(data)
                case PasswordGiven(name, password):
                    assert client.is_complete
                    assert name == kept[0], "the name changed on its way"
                    return prepare(password) == kept[1]
                case Proven(name):
                    assert client.is_complete
                    return name == kept[0]
    except SaslError:
        return False
