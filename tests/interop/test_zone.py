# SPDX-License-Identifier: Apache-2.0
"""Our resolver and a real one: an unbound that validates what a BIND serves, signed, unsigned and badly signed."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from posthouse.net.clock import SystemClock
from posthouse.net.resolver import UDP_PAYLOAD, DnsResolver
from posthouse.ports import MxRecord, NameNotFound, ResolverFault

from .zone import Dns, Signing, Zone, txt

pytestmark = pytest.mark.interop

LONG = "v=DKIM1; p=" + "A" * 900  # more than one datagram had in RFC 1035 §2.3.4, less than one has with EDNS
WHOLE = "x" * (UDP_PAYLOAD + 800)  # comes by TCP
RECORDS = (
    "@ IN MX 10 mx1",
    "@ IN MX 20 mx2",
    "mx1 IN A 192.0.2.1",
    "mx1 IN A 192.0.2.9",
    "mx1 IN AAAA 2001:db8::1",
    "mx2 IN A 192.0.2.2",
    "none IN MX 0 .",
    "other IN CNAME mx1",
    # Another server's, that knows nothing of it: a question below it has no answer, the host itself has.
    "half IN A 192.0.2.3",
    "_tcp.half IN NS lame",
    txt("long", LONG),
    txt("whole", WHOLE),
    txt("both", "one"),
    txt("both", "two"),
)


@pytest.fixture(scope="module")
def world(base: Path) -> Iterator[Dns]:
    zones = [
        Zone("signed.test", RECORDS, Signing.GOOD),
        Zone("plain.test", RECORDS),
        Zone("expired.test", RECORDS, Signing.EXPIRED),
        Zone("2.0.192.in-addr.arpa", ["1 IN PTR mx1.signed.test."]),
    ]
    world = Dns(base / "world", *zones)
    world.start()
    yield world
    world.stop()


@pytest.fixture
async def resolver(world: Dns) -> AsyncIterator[DnsResolver]:
    resolver = DnsResolver(SystemClock(), [world.server])
    yield resolver
    await resolver.close()


@pytest.mark.parametrize("zone", ["signed.test", "plain.test"])
async def test_what_is_there_is_found(resolver: DnsResolver, zone: str) -> None:
    assert await resolver.mx(zone) == [MxRecord(10, f"mx1.{zone}"), MxRecord(20, f"mx2.{zone}")]
    assert [str(each) for each in await resolver.addresses(f"mx1.{zone}")] == ["2001:db8::1", "192.0.2.1", "192.0.2.9"]
    assert [str(each) for each in await resolver.addresses(f"other.{zone}", 4)] == ["192.0.2.1", "192.0.2.9"]
    assert await resolver.mx(f"none.{zone}") == [MxRecord(0, "")]
    assert await resolver.txt(f"both.{zone}") == [b"one", b"two"]
    assert await resolver.txt(f"long.{zone}") == [LONG.encode()]


async def test_a_reverse_name(resolver: DnsResolver) -> None:
    assert await resolver.names(ipaddress.ip_address("192.0.2.1")) == ["mx1.signed.test"]


@pytest.mark.parametrize("zone", ["signed.test", "plain.test"])
async def test_what_is_too_long_for_a_datagram_comes_by_tcp(world: Dns, resolver: DnsResolver, zone: str) -> None:
    question = dns.message.make_query(f"whole.{zone}", "TXT", use_edns=0, payload=UDP_PAYLOAD)
    host, _, port = world.server.partition(":")
    assert dns.query.udp(question, host, 5, int(port)).flags & dns.flags.TC, "else this shows nothing"
    assert await resolver.txt(f"whole.{zone}") == [WHOLE.encode()]


@pytest.mark.parametrize("zone", ["signed.test", "plain.test"])
async def test_what_is_not_there_is_told_from_what_nobody_tells(resolver: DnsResolver, zone: str) -> None:
    with pytest.raises(NameNotFound):
        await resolver.txt(f"nobody.{zone}")
    assert await resolver.txt(f"mx1.{zone}") == []
    assert [str(each) for each in await resolver.addresses(f"half.{zone}")] == ["192.0.2.3"]
    with pytest.raises(ResolverFault):
        await resolver.txt(f"_25._tcp.half.{zone}")


async def test_signatures_that_have_expired_are_a_fault_and_never_a_no(resolver: DnsResolver) -> None:
    """RFC 4035 §5.5: SERVFAIL, whatever is asked."""
    for question in (resolver.mx, resolver.txt, resolver.addresses):
        with pytest.raises(ResolverFault):
            await question("expired.test")
    with pytest.raises(ResolverFault):
        await resolver.txt("nobody.expired.test")


async def test_a_name_of_no_zone_is_not_there(resolver: DnsResolver) -> None:
    with pytest.raises(NameNotFound):
        await resolver.mx("example.com")


@pytest.mark.parametrize(
    ("name", "is_authentic", "rcode"),
    [
        ("mx1.signed.test", True, dns.rcode.NOERROR),
        ("nobody.signed.test", True, dns.rcode.NXDOMAIN),
        ("mx1.plain.test", False, dns.rcode.NOERROR),
        ("nobody.plain.test", False, dns.rcode.NXDOMAIN),
        ("mx1.expired.test", False, dns.rcode.SERVFAIL),
    ],
)
def test_the_ad_bit_is_for_signed_answers_alone(
    world: Dns, name: str, is_authentic: bool, rcode: dns.rcode.Rcode
) -> None:
    """RFC 4035 §3.2.3: what DANE stands on."""
    question = dns.message.make_query(name, "A", want_dnssec=True)
    host, _, port = world.server.partition(":")
    answer = dns.query.udp(question, host, 5, int(port))
    assert answer.rcode() == rcode
    assert bool(answer.flags & dns.flags.AD) == is_authentic


async def test_a_zone_can_change_under_a_running_resolver(world: Dns) -> None:
    world.publish({"plain.test": [*RECORDS, txt("late", "here")]})
    resolver = DnsResolver(SystemClock(), [world.server])
    assert await resolver.txt("late.plain.test") == [b"here"]
    assert await resolver.mx("signed.test") != []
    await resolver.close()
