# SPDX-License-Identifier: Apache-2.0
"""The world's DNS: its records, how they change, and how it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from posthouse.ports import MxRecord, NameNotFound, ResolverFault, TlsaRecord
from posthouse.sim.dns import LOOK_UP, NO_ANSWER, NOTHING, WorldDns, WorldResolver
from posthouse.sim.loop import WorldLoop


def play(script: Callable[[WorldDns, WorldResolver, WorldLoop], Awaitable[None]]) -> None:
    loop = WorldLoop()  # type: ignore[abstract]  # what it lacks nobody in the house asks for
    dns = WorldDns()
    dns.add_host("mail.bob.test", "192.0.2.2")
    dns.add_mx("bob.test", "mail.bob.test")

    async def main() -> None:
        await script(dns, WorldResolver(dns), loop)

    loop.run(main())


@pytest.mark.parametrize(
    ("kind", "error", "seconds"),
    [
        ("nxdomain", NameNotFound, LOOK_UP),
        ("servfail", ResolverFault, NO_ANSWER),
        ("timeout", ResolverFault, NOTHING),
    ],
)
def test_a_failing_name(kind: str, error: type[Exception], seconds: float) -> None:
    async def script(dns: WorldDns, resolver: WorldResolver, loop: WorldLoop) -> None:
        dns.fail("bob.test", kind)
        with pytest.raises(error):
            await resolver.mx("bob.test")
        assert loop.time() == seconds
        assert [str(each) for each in await resolver.addresses("mail.bob.test")] == ["192.0.2.2"]
        await asyncio.sleep(1_000_000)
        with pytest.raises(error):
            await resolver.mx("bob.test")
        dns.clear("bob.test")
        assert await resolver.mx("bob.test") == [MxRecord(10, "mail.bob.test")]

    play(script)


def test_a_failure_with_an_end() -> None:
    async def script(dns: WorldDns, resolver: WorldResolver, loop: WorldLoop) -> None:
        dns.fail("bob.test", "nxdomain", until=100.0)
        await asyncio.sleep(99)
        with pytest.raises(NameNotFound):
            await resolver.mx("bob.test")
        await asyncio.sleep(100 - loop.time())
        assert await resolver.mx("bob.test")

    play(script)


def test_an_unknown_kind_of_failure_is_a_mistake_of_the_script() -> None:
    with pytest.raises(ValueError, match="refused"):
        WorldDns().fail("bob.test", "refused")


def test_answers_change() -> None:
    async def script(dns: WorldDns, resolver: WorldResolver, loop: WorldLoop) -> None:
        dns.replace_mx("bob.test", "mx1.eve.test", MxRecord(20, "mx2.eve.test"))
        assert await resolver.mx("bob.test") == [MxRecord(10, "mx1.eve.test"), MxRecord(20, "mx2.eve.test")]
        dns.replace_mx("bob.test")
        assert await resolver.mx("bob.test") == []
        dns.replace_addresses("mail.bob.test", "2001:db8::2", "192.0.2.3")
        assert [str(each) for each in await resolver.addresses("mail.bob.test")] == ["2001:db8::2", "192.0.2.3"]
        dns.remove("mail.bob.test")
        with pytest.raises(NameNotFound):
            await resolver.addresses("mail.bob.test")

    play(script)


def test_text_and_tlsa_records() -> None:
    async def script(dns: WorldDns, resolver: WorldResolver, loop: WorldLoop) -> None:
        record = TlsaRecord(3, 1, 1, bytes(32))
        dns.add_txt("_mta-sts.bob.test", b"v=STSv1; id=1")
        dns.add_tlsa("mail.bob.test", record)
        assert await resolver.txt("_mta-sts.bob.test") == [b"v=STSv1; id=1"]
        answer = await resolver.tlsa("_25._tcp.mail.bob.test")
        assert (answer.records, answer.is_authentic) == ((record,), False)
        with pytest.raises(NameNotFound):
            await resolver.tlsa("_465._tcp.mail.bob.test")

    play(script)
