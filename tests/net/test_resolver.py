# SPDX-License-Identifier: Apache-2.0
"""DNS: what is an answer, what is none, how long it is kept. Against a server on loopback."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator

import dns.rcode
import dns.rdata
import pytest

from posthouse.net import resolver as module
from posthouse.net.dns_cache import FAULT_TTL, MAX_NEGATIVE_TTL, MAX_TTL, DnsCache, Found, Missing
from posthouse.net.resolver import DnsResolver
from posthouse.ports import MxRecord, NameNotFound, Resolver, ResolverFault
from tests.net.dns_server import DnsServer, serving
from tests.net.static_resolver import StaticResolver

ON_BOTH_LOOPS = True


class Hours:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with serving() as one:
        yield one


@pytest.fixture
def clock() -> Hours:
    return Hours()


@pytest.fixture
async def resolver(server: DnsServer, clock: Hours) -> AsyncIterator[DnsResolver]:
    one = DnsResolver(clock, [f"127.0.0.1:{server.port}"])
    yield one
    await one.close()


def test_the_port_is_fulfilled() -> None:
    port: Resolver = DnsResolver(Hours())
    assert port is not None


@pytest.fixture(params=["dns", "static"])
def either(request: pytest.FixtureRequest, server: DnsServer, resolver: DnsResolver) -> Resolver:
    """The same small world behind both implementations of the port."""
    server.add("bob.test", "MX", "20 b.bob.test.", "10 z.bob.test.", "20 a.bob.test.")
    server.add("bob.test", "TXT", '"two"', '"one"')
    server.add("mx.bob.test", "A", "192.0.2.10", "192.0.2.9")
    server.add("mx.bob.test", "AAAA", "2001:db8::1")
    server.add("9.2.0.192.in-addr.arpa", "PTR", "mx.bob.test.", "a.bob.test.")
    for kind in ("MX", "TXT", "A", "AAAA"):
        server.rcodes["ill.test", kind] = dns.rcode.SERVFAIL
    if request.param == "dns":
        return resolver
    static = StaticResolver(
        {
            "bob.test": {
                "MX": [MxRecord(20, "b.bob.test"), MxRecord(10, "z.bob.test"), MxRecord(20, "a.bob.test")],
                "TXT": [b"two", b"one"],
            },
            "mx.bob.test": {
                "ADDRESS": [ipaddress.ip_address(text) for text in ("192.0.2.10", "2001:db8::1", "192.0.2.9")]
            },
            "9.2.0.192.in-addr.arpa": {"PTR": ["mx.bob.test", "a.bob.test"]},
        }
    )
    static.ill.add("ill.test")
    return static


async def test_contract_of_the_port(either: Resolver) -> None:
    """What every Resolver promises, the tests' own included."""
    found = await either.mx("BOB.test.")
    assert [(mx.preference, mx.host) for mx in found] == [(10, "z.bob.test"), (20, "a.bob.test"), (20, "b.bob.test")]
    addresses = [str(address) for address in await either.addresses("mx.bob.test")]
    assert addresses == ["2001:db8::1", "192.0.2.9", "192.0.2.10"]
    for version, some in ((6, addresses[:1]), (4, addresses[1:])):
        assert [str(address) for address in await either.addresses("mx.bob.test", version)] == some
        assert await either.addresses("bob.test", version) == []
        with pytest.raises(NameNotFound):
            await either.addresses("nowhere.test", version)
        with pytest.raises(ResolverFault):
            await either.addresses("ill.test", version)
    assert await either.txt("bob.test") == [b"one", b"two"]
    assert await either.names(ipaddress.ip_address("192.0.2.9")) == ["a.bob.test", "mx.bob.test"]
    assert await either.addresses("bob.test") == []
    assert await either.mx("mx.bob.test") == []
    for question in (either.mx, either.addresses, either.txt):
        with pytest.raises(NameNotFound):
            await question("nowhere.test")
        with pytest.raises(ResolverFault):
            await question("ill.test")


async def test_mx_sorted_lower_case_without_final_dot(server: DnsServer, resolver: DnsResolver) -> None:
    server.add("bob.test", "MX", "20 B.bob.test.", "10 z.bob.test.", "20 a.bob.test.")
    assert await resolver.mx("Bob.Test.") == [
        MxRecord(10, "z.bob.test"),
        MxRecord(20, "a.bob.test"),
        MxRecord(20, "b.bob.test"),
    ]


async def test_null_mx(server: DnsServer, resolver: DnsResolver) -> None:
    """RFC 7505 §3"""
    server.add("nomail.test", "MX", "0 .")
    assert await resolver.mx("nomail.test") == [MxRecord(0, "")]


async def test_addresses_are_ipv6_then_ipv4_sorted(server: DnsServer, resolver: DnsResolver) -> None:
    server.add("mx.bob.test", "A", "192.0.2.10", "192.0.2.9")
    server.add("mx.bob.test", "AAAA", "2001:db8::2", "2001:db8::1")
    found = [str(address) for address in await resolver.addresses("mx.bob.test")]
    assert found == ["2001:db8::1", "2001:db8::2", "192.0.2.9", "192.0.2.10"]


async def test_txt_strings_are_joined(server: DnsServer, resolver: DnsResolver) -> None:
    """RFC 7208 §3.3"""
    server.add("bob.test", "TXT", '"v=spf1 " "-all"', '"a\\255b"')
    assert await resolver.txt("bob.test") == [b"a\xffb", b"v=spf1 -all"]


async def test_names_of_an_address(server: DnsServer, resolver: DnsResolver) -> None:
    server.add("25.2.0.192.in-addr.arpa", "PTR", "MX.bob.test.", "a.bob.test.")
    assert await resolver.names(ipaddress.ip_address("192.0.2.25")) == ["a.bob.test", "mx.bob.test"]
    with pytest.raises(NameNotFound):
        await resolver.names(ipaddress.ip_address("2001:db8::1"))


async def test_records_of_any_type_as_in_a_zone_file(server: DnsServer, resolver: DnsResolver) -> None:
    server.add("_imaps._tcp.a.test", "SRV", "10 1 993 mx2.a.test.", "0 1 993 Mx.a.test.")
    server.add("a.test", "CAA", '0 issue "ca.test; policy=ev"')
    server.add("_25._tcp.mx.a.test", "TLSA", "3 1 1 " + "AB" * 32)
    server.add("alias.a.test", "CNAME", "a.test.")
    assert await resolver.records("_imaps._tcp.a.test", "SRV") == ["0 1 993 Mx.a.test.", "10 1 993 mx2.a.test."]
    assert await resolver.records("a.test", "CAA") == ['0 issue "ca.test; policy=ev"']
    assert await resolver.records("_25._tcp.mx.a.test", "TLSA") == ["3 1 1 " + "ab" * 32]
    assert await resolver.records("alias.a.test", "CNAME") == ["a.test."]
    assert await resolver.records("a.test", "TLSA") == []
    with pytest.raises(NameNotFound):
        await resolver.records("none.a.test", "SRV")
    server.rcodes["ill.a.test", "SRV"] = dns.rcode.SERVFAIL
    with pytest.raises(ResolverFault):
        await resolver.records("ill.a.test", "SRV")


async def test_cnames_are_followed(server: DnsServer, resolver: DnsResolver) -> None:
    server.add("www.bob.test", "CNAME", "alias.bob.test.", ttl=50)
    server.add("alias.bob.test", "CNAME", "mx.bob.test.")
    server.add("mx.bob.test", "A", "192.0.2.1")
    assert [str(address) for address in await resolver.addresses("www.bob.test")] == ["192.0.2.1"]


# --- what is no answer ----------------------------------------------------------------------------


async def test_no_such_name(server: DnsServer, resolver: DnsResolver) -> None:
    for question in (resolver.mx, resolver.addresses, resolver.txt):
        with pytest.raises(NameNotFound):
            await question("nowhere.test")


async def test_no_records_of_that_type(server: DnsServer, resolver: DnsResolver) -> None:
    server.add("bob.test", "TXT", '"x"')
    assert await resolver.mx("bob.test") == []
    assert await resolver.addresses("bob.test") == []


@pytest.mark.parametrize("name", ["a..b.test", "x" * 64 + ".test", ".".join(["abcdefgh"] * 40), "ü.test"])
async def test_what_cannot_be_a_name_is_not_found_without_asking(
    server: DnsServer, resolver: DnsResolver, name: str
) -> None:
    with pytest.raises(NameNotFound):
        await resolver.mx(name)
    assert not server.queries


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.FORMERR])
async def test_refusals_of_the_server_are_faults(
    server: DnsServer, resolver: DnsResolver, rcode: dns.rcode.Rcode
) -> None:
    """Never "no such name": a letter must not be returned because a DNS server is ill."""
    server.rcodes["bob.test", "MX"] = rcode
    with pytest.raises(ResolverFault, match="no server gave an answer"):
        await resolver.mx("bob.test")


async def test_a_cname_loop_is_a_fault(server: DnsServer, resolver: DnsResolver) -> None:
    server.add("a.test", "CNAME", "b.test.")
    server.add("b.test", "CNAME", "a.test.")
    with pytest.raises(ResolverFault):
        await resolver.mx("a.test")


async def test_silence_is_a_fault(server: DnsServer, resolver: DnsResolver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUESTION_SECONDS", 0.05)
    monkeypatch.setattr(module, "TRY_SECONDS", 0.02)
    server.is_silent = True
    with pytest.raises(ResolverFault, match="no answer in time"):
        await resolver.mx("bob.test")


async def test_one_family_that_fails_does_not_hide_the_other(server: DnsServer, resolver: DnsResolver) -> None:
    server.add("mx.bob.test", "A", "192.0.2.1")
    server.rcodes["mx.bob.test", "AAAA"] = dns.rcode.SERVFAIL
    assert [str(address) for address in await resolver.addresses("mx.bob.test")] == ["192.0.2.1"]
    server.add("other.test", "TXT", '"x"')
    server.rcodes["other.test", "A"] = dns.rcode.SERVFAIL
    with pytest.raises(ResolverFault):
        await resolver.addresses("other.test")


@pytest.mark.parametrize(("wrong", "ill"), [("AAAA", "A"), ("A", "AAAA")])
async def test_no_such_name_for_one_family_says_nothing_while_the_other_fails(
    server: DnsServer, resolver: DnsResolver, wrong: str, ill: str
) -> None:
    """Some name servers say NXDOMAIN to AAAA for hosts that have an A: while that one cannot be asked, the letter
    waits. It is returned only when nothing speaks against it."""
    server.rcodes["mx.bob.test", wrong] = dns.rcode.NXDOMAIN
    server.rcodes["mx.bob.test", ill] = dns.rcode.SERVFAIL
    with pytest.raises(ResolverFault):
        await resolver.addresses("mx.bob.test")


async def test_a_garbled_answer_is_a_fault(
    server: DnsServer, resolver: DnsResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUESTION_SECONDS", 0.05)
    server.garbled.add(("bob.test", "MX"))
    with pytest.raises(ResolverFault):
        await resolver.mx("bob.test")


async def test_no_server_configured_is_a_fault_of_the_question(monkeypatch: pytest.MonkeyPatch, clock: Hours) -> None:
    def none(*_: object, **__: object) -> None:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(module.dns.asyncresolver, "Resolver", none)
    with pytest.raises(ResolverFault, match="no DNS server configured"):
        await DnsResolver(clock).mx("bob.test")


# --- UDP and TCP ----------------------------------------------------------------------------------


async def test_long_answers_come_by_tcp(server: DnsServer, resolver: DnsResolver) -> None:
    """RFC 7766 §5"""
    server.truncates_udp = True
    server.add("bob.test", "TXT", *(f'"{number:0200}"' for number in range(30)))
    assert len(await resolver.txt("bob.test")) == 30
    assert [way for *_, way in server.queries] == ["udp", "tcp"]


# --- the cache ------------------------------------------------------------------------------------


async def test_answers_are_kept_as_long_as_their_ttl(server: DnsServer, resolver: DnsResolver, clock: Hours) -> None:
    server.add("bob.test", "MX", "10 mx.bob.test.", ttl=300)
    for _ in range(3):
        await resolver.mx("bob.test")
    await resolver.mx("BOB.test")
    assert len(server.queries) == 1
    clock.now += 299
    await resolver.mx("bob.test")
    assert len(server.queries) == 1
    clock.now += 1
    await resolver.mx("bob.test")
    assert len(server.queries) == 2
    resolver.forget()
    await resolver.mx("bob.test")
    assert len(server.queries) == 3


@pytest.mark.parametrize("exists", [False, True])
async def test_negative_answers_are_kept_as_the_soa_says(
    server: DnsServer, resolver: DnsResolver, clock: Hours, exists: bool
) -> None:
    """RFC 2308 §5"""
    server.negative_ttl = 60
    if exists:
        server.add("bob.test", "A", "192.0.2.1")

    async def ask() -> None:
        try:
            assert await resolver.mx("bob.test") == []
        except NameNotFound:
            assert not exists

    await ask()
    clock.now += 59
    await ask()
    assert len(server.queries) == 1
    clock.now += 1
    await ask()
    assert len(server.queries) == 2


async def test_a_fault_is_kept_for_moments(server: DnsServer, resolver: DnsResolver, clock: Hours) -> None:
    server.rcodes["bob.test", "MX"] = dns.rcode.SERVFAIL
    for _ in range(2):
        with pytest.raises(ResolverFault):
            await resolver.mx("bob.test")
    asked = len(server.queries)
    del server.rcodes["bob.test", "MX"]
    server.add("bob.test", "MX", "10 mx.bob.test.")
    clock.now += FAULT_TTL
    assert await resolver.mx("bob.test")
    assert len(server.queries) == asked + 1


async def test_equal_questions_at_once_are_one(server: DnsServer, resolver: DnsResolver) -> None:
    """And whoever is cancelled does not take the answer from the others."""
    server.add("bob.test", "MX", "10 mx.bob.test.")
    server.may_answer.clear()
    waiting = [asyncio.ensure_future(resolver.mx("bob.test")) for _ in range(5)]
    await server.arrived.wait()
    waiting[0].cancel()
    server.may_answer.set()
    answers = await asyncio.gather(*waiting[1:])
    assert answers == [[MxRecord(10, "mx.bob.test")]] * 4
    assert waiting[0].cancelled()
    assert len(server.queries) == 1
    assert not resolver._in_flight


async def test_close_gives_up_what_is_asked(server: DnsServer, resolver: DnsResolver) -> None:
    server.may_answer.clear()
    waiting = asyncio.ensure_future(resolver.mx("bob.test"))
    await server.arrived.wait()
    await resolver.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    server.may_answer.set()


def test_cache_bounds() -> None:
    clock = Hours()
    cache = DnsCache(clock.monotonic, max_entries=2)
    cache.put(("a", "A"), Found((1,)), 10 * MAX_TTL)
    cache.put(("b", "A"), Missing(), 10 * MAX_TTL)
    assert cache.get(("a", "A")) == Found((1,))
    cache.put(("c", "A"), Found(()), 0)
    assert len(cache) == 2
    assert cache.get(("b", "A")) is None, "the least recently used one goes first"
    clock.now += 1
    assert cache.get(("c", "A")) is None
    clock.now += MAX_NEGATIVE_TTL
    assert cache.get(("a", "A")) is not None
    clock.now += MAX_TTL
    assert cache.get(("a", "A")) is None
    cache.put(("b", "A"), Missing(), 10 * MAX_TTL)
    clock.now += MAX_NEGATIVE_TTL
    assert cache.get(("b", "A")) is None


@pytest.mark.parametrize("text", ["192.0.2.1", "192.0.2.1:5353", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:53"])
def test_servers_are_addresses_with_or_without_a_port(text: str) -> None:
    assert DnsResolver(Hours(), [text])


@pytest.mark.parametrize(
    "text", ["", "dns.example.test", "192.0.2.1:", "192.0.2.1:99999", "[2001:db8::1]x", "1.2.3.4:0"]
)
def test_other_text_is_no_server(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|port"):
        DnsResolver(Hours(), [text])


@pytest.mark.parametrize(("strings", "kept"), [(10, 1), (240, 0)])
def test_a_huge_answer_is_given_and_not_kept(monkeypatch, strings, kept):
    async def story():
        resolver = DnsResolver(Hours(), ["127.0.0.1"])
        record = dns.rdata.from_text("IN", "TXT", " ".join(['"' + "x" * 255 + '"'] * strings))

        async def query(_qname, _kind):
            return Found((record,)), 300.0

        monkeypatch.setattr(resolver, "_query", query)
        assert len((await resolver.txt("huge.test"))[0]) == 255 * strings
        assert len(resolver._cache) == kept

    asyncio.run(story())
