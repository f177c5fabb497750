# SPDX-License-Identifier: Apache-2.0
"""SASL mechanisms (RFC 4422), server and client side, without I/O.

An exchange takes and gives octets; base64, `=` for an empty initial response and `*` for a cancelled
exchange are the matter of the protocol around it. What it cannot know (passwords, SCRAM secrets) it asks for.
"""

from posthouse.protocol.sasl.exchange import (
    Challenge,
    ClientExchange,
    PasswordGiven,
    Proven,
    SaslError,
    ScramSecrets,
    SecretsWanted,
    ServerExchange,
    ServerStep,
)
from posthouse.protocol.sasl.prepare import prepare
from posthouse.protocol.sasl.table import MECHANISMS, Mechanism, client_exchange, server_exchange

__all__ = [
    "MECHANISMS",
    "Challenge",
    "ClientExchange",
    "Mechanism",
    "PasswordGiven",
    "Proven",
    "SaslError",
    "ScramSecrets",
    "SecretsWanted",
    "ServerExchange",
    "ServerStep",
    "client_exchange",
    "prepare",
    "server_exchange",
]
