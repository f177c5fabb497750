# SPDX-License-Identifier: Apache-2.0
"""Whatever a DNS server answers: the resolver has an answer, NameNotFound or ResolverFault.

The input is the messages in their order, `<next>` between them; the first two octets of each (the id) are set right,
as a resolver drops others.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Iterator
from typing import Any

import dns.message
import dns.nameserver
import dns.resolver

from fuzz.choices import Choices
from fuzz.virtual_loop import VirtualLoop
from posthouse.mailauth.dane import usable
from posthouse.net.resolver import DnsResolver
from posthouse.net.smtp_tls import server_name
from posthouse.ports import NameNotFound, ResolverFault

DICTIONARY = "dns.dict"
MAX_QUESTIONS = 60  # of one input: more is a resolver that does not give up
_LOOP = VirtualLoop()


class _Clock:
    def wall(self) -> float:
        return _LOOP.time()

    def monotonic(self) -> float:
        return _LOOP.time()

    def time(self) -> float:
        """As the module `time`, for dnspython's own limits."""
        return _LOOP.time()


class _Hostile(dns.nameserver.Nameserver):
    """Answers with what it is given, over and over."""

    def __init__(self, messages: list[bytes]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # dnspython left it without types
        self._messages: Iterator[bytes] = iter(messages)
        self._last = messages[-1]
        self.questions = 0

    def __str__(self) -> str:
        return "hostile"

    def kind(self) -> str:
        return "Do53"

    def is_always_max_size(self) -> bool:
        return False

    def answer_nameserver(self) -> str:
        return "192.0.2.53"

    def answer_port(self) -> int:
        return 53

    async def async_query(self, request: Any, *_: Any, **options: Any) -> dns.message.Message:
        self.questions += 1
        assert self.questions <= MAX_QUESTIONS, "the resolver asks without end"
        await asyncio.sleep(0.01)
        octets = next(self._messages, self._last)
        wire = request.id.to_bytes(2, "big") + octets
        answer = dns.message.from_wire(wire, raise_on_truncation=not options.get("max_size", False))
        if not request.is_response(answer):
            raise dns.message.BadEDNS
        return answer


def target(data: bytes) -> None:
    choices = Choices(data)
    kind = choices.number(5)
    resolver = DnsResolver(_Clock())
    server = _Hostile(choices.rest.split(b"<next>"))
    resolver._configured = (server,)  # where a list of addresses would stand
    clock, dns.resolver.time = dns.resolver.time, _Clock()  # type: ignore[attr-defined,assignment]  # its limits in virtual time
    try:
        _LOOP.run_until_complete(_ask(resolver, kind))
    finally:
        dns.resolver.time = clock  # type: ignore[attr-defined]  # as above


async def _ask(resolver: DnsResolver, kind: int) -> None:
    try:
        match kind:
            case 0:
                for record in await resolver.mx("bob.test"):
                    assert 0 <= record.preference < 65536
                    record.host.encode()
                    server_name(record.host)  # what TLS would be told
                    with contextlib.suppress(NameNotFound, ResolverFault):
                        await resolver.addresses(record.host)
            case 1:
                for address in await resolver.addresses("mx.bob.test"):
                    str(address)
            case 2:
                for text in await resolver.txt("bob.test"):
                    assert len(text) < 65536
            case 3:
                for name in await resolver.names(ipaddress.ip_address("192.0.2.1")):
                    name.encode()
                    with contextlib.suppress(NameNotFound, ResolverFault):
                        await resolver.addresses(name)
            case _:
                await asyncio.gather(resolver.mx("bob.test"), resolver.mx("bob.test"), return_exceptions=True)
                await resolver.txt("b\u00f6b.test")
                for tlsa in (await resolver.tlsa("_25._tcp.mx.bob.test")).records:
                    assert min(tlsa.usage, tlsa.selector, tlsa.matching) >= 0
                    str(tlsa)
                    usable([tlsa])
                for alias in (await resolver.proven_alias("mx.bob.test")).records:
                    alias.encode()
    except (NameNotFound, ResolverFault):
        pass
    finally:
        await resolver.close()
