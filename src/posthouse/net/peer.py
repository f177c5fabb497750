# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end of a socket, in one form for IPv4, IPv6 and Unix sockets."""

from __future__ import annotations

import asyncio
from typing import Any

from posthouse.ports import Peer


def peer_of(transport: asyncio.BaseTransport, trace: str) -> Peer:
    """The peer of an accepted connection; `unix` as address where the socket has none."""
    address, port = _name(transport.get_extra_info("peername"))
    local_address, local_port = _name(transport.get_extra_info("sockname"))
    return Peer(address, port, local_address, local_port, trace)


def _name(name: Any) -> tuple[str, int]:  # what getpeername gives depends on the family
    if not isinstance(name, tuple) or len(name) < 2:
        return "unix", 0
    host = str(name[0]).partition("%")[0]  # the zone of a link-local address means nothing outside this machine
    if host.startswith("::ffff:") and "." in host:
        host = host[7:]  # IPv4 through an IPv6 socket (RFC 4291 §2.5.5.2): one peer, one name
    return host, int(name[1])
