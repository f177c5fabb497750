# SPDX-License-Identifier: Apache-2.0
"""Under which addresses the world reaches this machine, as far as the machine can know.

Invariant: private addresses are never among them: behind NAT the machine does not know its own.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

from posthouse.net.sockets import ListenFault, parse_listen_address
from posthouse.ports import IPAddress

# Nothing is sent there (UDP): the system only says from which address it would send (RFC 5737, RFC 3849).
FAR_AWAY = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
ANY_PORT = 9


def own_addresses(listens: Sequence[str]) -> tuple[IPAddress, ...]:
    """`listens`: as in [listen]. Addresses named there, or where every address is listened on those of the routes to
    the world."""
    found: list[IPAddress] = []
    for text in listens:
        try:
            address = parse_listen_address(text)
        except ListenFault:
            continue
        if address.path is None:
            found += _meant(address.host)
    return tuple(dict.fromkeys(each for each in found if each.is_global))


def _meant(host: str) -> list[IPAddress]:
    if host in ("", "0.0.0.0", "::"):  # noqa: S104 - compared
        versions = {"": (4, 6), "0.0.0.0": (4,), "::": (6,)}[host]  # noqa: S104 - compared
        return [each for each in map(_source, FAR_AWAY) if each is not None and each.version in versions]
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        return []  # a name, which DNS knows better


def _source(way: tuple[socket.AddressFamily, str]) -> IPAddress | None:
    family, far = way
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((far, ANY_PORT))
            return ipaddress.ip_address(str(probe.getsockname()[0]).partition("%")[0])
    except (OSError, ValueError):
        return None  # no such network
