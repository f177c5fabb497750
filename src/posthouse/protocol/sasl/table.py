# SPDX-License-Identifier: Apache-2.0
"""All mechanisms, one row each, the strongest first: the order in which they are offered and chosen."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from posthouse.protocol.sasl.exchange import ClientExchange, SaslError, ServerExchange
from posthouse.protocol.sasl.login import LoginClient, LoginServer
from posthouse.protocol.sasl.plain import PlainClient, PlainServer
from posthouse.protocol.sasl.scram import ScramClient, ScramServer


@dataclass(frozen=True, slots=True)
class Mechanism:
    name: str
    sends_password: bool  # the password itself crosses the connection
    is_scram: bool  # the server needs ScramSecrets
    rfc: str
    server: Callable[[str], ServerExchange]  # nonce -> exchange
    client: Callable[[str, str, str], ClientExchange]  # name, password, nonce -> exchange


def _scram(name: str, rfc: str) -> Mechanism:
    return Mechanism(
        name,
        sends_password=False,
        is_scram=True,
        rfc=rfc,
        server=lambda nonce: ScramServer(name, nonce),
        client=lambda user, password, nonce: ScramClient(name, user, password, nonce),
    )


_ROWS = (
    _scram("SCRAM-SHA-256", "RFC 7677"),
    _scram("SCRAM-SHA-1", "RFC 5802"),
    Mechanism(
        "PLAIN",
        sends_password=True,
        is_scram=False,
        rfc="RFC 4616",
        server=lambda _: PlainServer(),
        client=lambda user, password, _: PlainClient(user, password),
    ),
    Mechanism(
        "LOGIN",
        sends_password=True,
        is_scram=False,
        rfc="draft-murchison-sasl-login-00",
        server=lambda _: LoginServer(),
        client=lambda user, password, _: LoginClient(user, password),
    ),
)
MECHANISMS: Mapping[str, Mechanism] = MappingProxyType({row.name: row for row in _ROWS})


def server_exchange(mechanism: str, nonce: str) -> ServerExchange:
    """Begin an exchange as server. `nonce`: printable ASCII without a comma. Raises SaslError for unknown names."""
    row = MECHANISMS.get(mechanism.upper())
    if row is None:
        raise SaslError("this mechanism is not known")
    return row.server(nonce)


def client_exchange(
    offered: Collection[str], name: str, password: str, nonce: str, *, is_protected: bool
) -> ClientExchange | None:
    """The strongest exchange that the server offers and that is fit for this connection; None where there is none.

    `is_protected`: TLS is on, or the peer is this machine. Without it no password is sent in clear.
    """
    names = {each.upper() for each in offered}
    for row in _ROWS:
        if row.name in names and (is_protected or not row.sends_password):
            return row.client(name, password, nonce)
    return None
