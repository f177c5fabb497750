# SPDX-License-Identifier: Apache-2.0
"""What a mail program must know to read and send here: servers, ports, kinds of TLS. Every form of automatic set-up and
the SRV records are written from this one description.

Invariant: nothing is offered that is not listened on, and nothing without TLS.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from posthouse.config import Listen

HTTPS_PORT = 443


class Protocol(StrEnum):
    IMAP = "imap"
    POP3 = "pop3"
    SMTP = "smtp"


class Security(StrEnum):
    IMPLICIT = "implicit"  # TLS from the first octet, which RFC 8314 §3 prefers
    STARTTLS = "starttls"


@dataclass(frozen=True, slots=True)
class MailServer:
    """`service`: the key of [listen], which is also the name of the SRV record (RFC 6186 §3, RFC 8314 §5.1)."""

    service: str
    protocol: Protocol
    security: Security
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Offer:
    """`servers`: the best of each protocol first. `https_port`: where the web is for the world; None: nowhere."""

    hostname: str
    servers: tuple[MailServer, ...]
    https_port: int | None

    @property
    def is_usable(self) -> bool:
        """Whether a mail program can be set up: it must send and read."""
        has = {server.protocol for server in self.servers}
        return Protocol.SMTP in has and len(has) > 1

    def best(self, protocol: Protocol) -> MailServer | None:
        return next((server for server in self.servers if server.protocol is protocol), None)

    @property
    def to_read(self) -> MailServer | None:
        """IMAP where it is on, for people have several devices."""
        return self.best(Protocol.IMAP) or self.best(Protocol.POP3)


# In the order of preference.
SERVICES = (
    ("imaps", Protocol.IMAP, Security.IMPLICIT),
    ("imap", Protocol.IMAP, Security.STARTTLS),
    ("pop3s", Protocol.POP3, Security.IMPLICIT),
    ("pop3", Protocol.POP3, Security.STARTTLS),
    ("submissions", Protocol.SMTP, Security.IMPLICIT),
    ("submission", Protocol.SMTP, Security.STARTTLS),
)


def offer_of(hostname: str, listen: Listen, *, behind_proxy: bool = False) -> Offer:
    """From the settings. What listens on loopback alone is for programs of this machine, and is offered only where the
    whole server is such: a trial."""
    ports = {name: _ports(getattr(listen, name)) for name, _, _ in SERVICES}
    is_trial = not any(public for public, _ in ports.values())
    servers = []
    for name, protocol, security in SERVICES:
        public, own = ports[name]
        found = own if is_trial else public
        if found:
            servers.append(MailServer(name, protocol, security, hostname, found[0]))
    return Offer(hostname, tuple(servers), HTTPS_PORT if behind_proxy else _https_port(listen))


def _https_port(listen: Listen) -> int | None:
    public, own = _ports(listen.https)
    found = public or own
    return None if not found else HTTPS_PORT if HTTPS_PORT in found else found[0]


def _ports(addresses: Sequence[str]) -> tuple[list[int], list[int]]:
    """Those that the world reaches, and those on loopback."""
    public: list[int] = []
    own: list[int] = []
    for text in addresses:
        host, _, port = text.rpartition(":")
        if text.startswith("unix:") or not port.isdigit():
            continue
        (own if is_loopback(host) else public).append(int(port))
    return public, own


def is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
