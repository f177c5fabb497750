# SPDX-License-Identifier: Apache-2.0
"""DNS answers with what DNSSEC says of them: whose word is taken, aliases, TLSA, the probe."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator

import dns.rcode
import pytest

from posthouse.net import resolver as resolver_module
from posthouse.net.resolver import DnsResolver, Dnssec
from posthouse.ports import MxRecord, NameNotFound, ResolverFault, SecureResolver, TlsaRecord
from posthouse.services.secure_dns import dnssec_findings
from tests.net.dns_server import DnsServer, serving
from tests.net.test_resolver import Hours

ON_BOTH_LOOPS = True
DIGEST = bytes(range(32))


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with serving() as one:
        one.add("bob.test", "MX", "10 mx.bob.test.")
        one.add("mx.bob.test", "A", "192.0.2.1")
        one.add("mx.bob.test", "AAAA", "2001:db8::1")
        one.add("_25._tcp.mx.bob.test", "TLSA", f"3 1 1 {DIGEST.hex()}", f"2 0 9 {'ab' * 7}")
        one.signed = {"bob.test", "mx.bob.test", "_25._tcp.mx.bob.test"}
        yield one


def resolver_of(
    server: DnsServer, dnssec: Dnssec = "auto", *, probe: tuple[str, str] = ("bob.test", "MX")
) -> DnsResolver:
    return DnsResolver(Hours(), [f"127.0.0.1:{server.port}"], dnssec=dnssec, probe=probe)


@pytest.fixture
async def resolver(server: DnsServer) -> AsyncIterator[SecureResolver]:
    one = resolver_of(server)
    yield one
    await one.close()


async def test_authentic_answers(resolver: SecureResolver) -> None:
    mx = await resolver.proven_mx("Bob.test")
    assert (mx.records, mx.is_authentic, mx.name) == ((MxRecord(10, "mx.bob.test"),), True, "bob.test")
    found = await resolver.proven_addresses("mx.bob.test")
    assert [str(each) for each in found.records] == ["2001:db8::1", "192.0.2.1"]
    assert found.is_authentic
    tlsa = await resolver.tlsa("_25._tcp.mx.bob.test")
    assert tlsa.records == (TlsaRecord(2, 0, 9, b"\xab" * 7), TlsaRecord(3, 1, 1, DIGEST))
    assert tlsa.is_authentic
    assert str(tlsa.records[1]) == f"3 1 1 {DIGEST.hex()}"
    assert await resolver.distrust() == ""


async def test_the_same_questions_without_proof(resolver: SecureResolver, server: DnsServer) -> None:
    """One answer serves both, and one question is asked."""
    assert (await resolver.proven_mx("bob.test")).is_authentic
    assert await resolver.mx("bob.test") == [MxRecord(10, "mx.bob.test")]
    assert [query for query in server.queries if query[1] == "MX"] == [("bob.test", "MX", "udp")]
    assert await resolver.addresses("mx.bob.test", 4) == [ipaddress.ip_address("192.0.2.1")]


async def test_what_is_not_signed_is_not_authentic(resolver: SecureResolver, server: DnsServer) -> None:
    server.signed = {"mx.bob.test"}
    assert not (await resolver.proven_mx("bob.test")).is_authentic
    assert "do not validate" in await resolver.distrust()
    assert (await resolver.proven_addresses("mx.bob.test")).is_authentic
    assert not (await resolver.tlsa("_25._tcp.mx.bob.test")).is_authentic
    assert await resolver.distrust() == "", "one proof is enough: zones of an own anchor count as the root does"


async def test_truncated_answers_come_by_tcp_with_their_proof(resolver: SecureResolver, server: DnsServer) -> None:
    server.truncates_udp = True
    assert (await resolver.tlsa("_25._tcp.mx.bob.test")).is_authentic
    assert ("_25._tcp.mx.bob.test", "TLSA", "tcp") in server.queries


async def test_aliases(resolver: SecureResolver, server: DnsServer) -> None:
    server.add("mail.bob.test", "CNAME", "host.provider.test.")
    server.add("host.provider.test", "A", "192.0.2.7")
    found = await resolver.proven_addresses("mail.bob.test")
    assert (found.name, found.is_authentic) == ("host.provider.test", False)
    alias = await resolver.proven_alias("mail.bob.test")
    assert (alias.records, alias.is_authentic) == (("host.provider.test",), False)
    server.signed |= {"other.bob.test"}
    server.add("other.bob.test", "CNAME", "host.provider.test.")
    assert (await resolver.proven_alias("other.bob.test")).is_authentic
    assert (await resolver.proven_alias("mx.bob.test")).records == ()


@pytest.mark.parametrize(("dnssec", "is_taken"), [("auto", True), ("trust", True), ("off", False)])
async def test_whose_word_is_taken(server: DnsServer, dnssec: Dnssec, is_taken: bool) -> None:
    resolver = resolver_of(server, dnssec)
    assert (await resolver.proven_mx("bob.test")).is_authentic == is_taken
    assert (await resolver.distrust() == "") == is_taken
    await resolver.close()


@pytest.mark.parametrize(
    ("server", "dnssec", "is_taken"),
    [
        ("127.0.0.1", "auto", True),
        ("127.9.9.9", "auto", True),
        ("::1", "auto", True),
        ("192.0.2.53", "auto", False),
        ("10.0.0.1", "auto", False),
        ("2001:db8::53", "auto", False),
        ("192.0.2.53", "trust", True),
        ("127.0.0.1", "off", False),
        (None, "auto", False),
    ],
)
async def test_servers_elsewhere_are_not_believed_unasked(server: str | None, dnssec: Dnssec, is_taken: bool) -> None:
    assert DnsResolver(Hours(), dnssec=dnssec)._is_trusted(server) == is_taken


async def test_a_resolver_elsewhere_says_so() -> None:
    resolver = DnsResolver(Hours(), ["192.0.2.53"], try_seconds=0.05)
    resolver._cache.put(("", "SOA"), (await found_unsigned()), 60.0)
    assert "not on this machine" in await resolver.distrust()
    await resolver.close()


async def found_unsigned() -> object:
    from posthouse.net.dns_cache import Found

    return Found((), is_authentic=False, name="")


async def test_bogus_answers_are_faults(resolver: SecureResolver, server: DnsServer) -> None:
    """A validating resolver says SERVFAIL for what was tampered with."""
    server.rcodes["_25._tcp.mx.bob.test", "TLSA"] = dns.rcode.SERVFAIL
    with pytest.raises(ResolverFault):
        await resolver.tlsa("_25._tcp.mx.bob.test")
    with pytest.raises(NameNotFound):
        await resolver.tlsa("_25._tcp.nowhere.test")
    server.rcodes["x.test", "MX"] = dns.rcode.SERVFAIL
    probing = resolver_of(server, probe=("x.test", "MX"))
    assert "does not answer" in await probing.distrust()
    await probing.close()


@pytest.mark.parametrize(
    ("dnssec", "is_asked", "is_authentic"), [("auto", False, None), ("trust", True, True), ("off", True, False)]
)
async def test_a_server_elsewhere_never_replaces_the_word_of_one_that_validates(
    server: DnsServer, monkeypatch: pytest.MonkeyPatch, dnssec: Dnssec, is_asked: bool, is_authentic: bool | None
) -> None:
    """What the near one found to be forged would else count as not signed, and DANE be skipped."""
    async with serving() as far:
        monkeypatch.setattr(resolver_module, "_is_near", lambda text: not text.endswith(f"@{far.port}"))
        far.add("_25._tcp.mx.bob.test", "TLSA", f"3 1 1 {bytes(32).hex()}")
        far.signed = {"_25._tcp.mx.bob.test"}
        server.rcodes["_25._tcp.mx.bob.test", "TLSA"] = dns.rcode.SERVFAIL
        resolver = DnsResolver(Hours(), [f"127.0.0.1:{server.port}", f"127.0.0.1:{far.port}"], dnssec=dnssec)
        if is_asked:
            assert (await resolver.tlsa("_25._tcp.mx.bob.test")).is_authentic == is_authentic
        else:
            with pytest.raises(ResolverFault):
                await resolver.tlsa("_25._tcp.mx.bob.test")
        assert bool(far.queries) == is_asked
        assert await resolver.passed_over() == ([] if is_asked else [f"127.0.0.1:{far.port}"])
        await resolver.close()


@pytest.mark.parametrize(
    ("servers", "passed_over"),
    [
        (["127.0.0.1", "192.0.2.53", "[2001:db8::53]:5353"], ["192.0.2.53", "[2001:db8::53]:5353"]),
        (["192.0.2.53", "::1"], ["192.0.2.53"]),
        (["192.0.2.53", "192.0.2.54"], []),
        (["127.0.0.1", "::1"], []),
    ],
)
async def test_who_is_passed_over(servers: list[str], passed_over: list[str]) -> None:
    resolver = DnsResolver(Hours(), servers)
    assert await resolver.passed_over() == passed_over
    *told, _ = await dnssec_findings(resolver, wants_dane=False)
    assert bool(told) == bool(passed_over)
    assert all(each in finding.text for each in passed_over for finding in told)


async def test_one_family_that_is_not_signed_spoils_both(resolver: SecureResolver, server: DnsServer) -> None:
    server.add("half.test", "A", "192.0.2.9")
    server.add("half.test", "AAAA", "2001:db8::9")
    server.may_answer.clear()
    asking = asyncio.ensure_future(resolver.proven_addresses("half.test"))
    server.signed = set()
    server.may_answer.set()
    assert not (await asking).is_authentic
