# SPDX-License-Identifier: Apache-2.0
"""`posthouse check`: DNS compared with what it should say; every finding that is not ok has a remedy."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from posthouse.ports import IPAddress, NameNotFound
from posthouse.services.checkup import Checkup, Finding
from posthouse.services.dns_records import DnsRecord, wanted_records, zone_text
from tests.fakes import FakeResolver
from tests.services.world import InlineWorkers

HOST = "mail.alice.test"
MX = DnsRecord("alice.test", "MX", f"10 {HOST}", "mail")
SPF = DnsRecord("alice.test", "TXT", "v=spf1 mx -all", "sender")
DKIM = DnsRecord("s._domainkey.alice.test", "TXT", "v=DKIM1; k=rsa; p=AAAA", "key")
DMARC = DnsRecord("_dmarc.alice.test", "TXT", "v=DMARC1; p=quarantine", "policy", is_advice=True)
SRV = DnsRecord("_pop3s._tcp.alice.test", "SRV", f"0 1 995 {HOST}", "settings", is_advice=True)


class Names(FakeResolver):
    """With TXT and PTR records."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[str, list[bytes]] = {}
        self.pointers: dict[str, list[str]] = {}

    async def txt(self, name: str) -> list[bytes]:
        if name in self.broken:
            self._look(name)
        if name not in self.texts:
            raise NameNotFound(name)
        return self.texts[name]

    async def names(self, address: IPAddress) -> list[str]:
        if str(address) not in self.pointers:
            raise NameNotFound(str(address))
        return self.pointers[str(address)]


def checkup(resolver: FakeResolver, *findings: Finding) -> Checkup:
    nothing: Any = None
    checks = [lambda: list(findings)]
    return Checkup(nothing, resolver, InlineWorkers(), hostname=HOST, local_checks=checks)


async def levels(resolver: FakeResolver, *records: DnsRecord) -> list[str]:
    found = await checkup(resolver).domain(records)
    assert all(each.remedy for each in found if each.level != "ok")
    return [each.level for each in found]


async def test_records_as_they_should_be() -> None:
    names = Names()
    names.domain("alice.test", (20, HOST))  # another preference is as good
    names.texts = {
        "alice.test": [b"something else", b"v=spf1 mx -all"],
        "s._domainkey.alice.test": [b"v=DKIM1;k=rsa;p=AAAA"],
        "_dmarc.alice.test": [b"v=DMARC1; p=quarantine"],
    }
    assert await levels(names, MX, SPF, DKIM, DMARC, SRV) == ["ok"] * 5


async def test_missing_records() -> None:
    assert await levels(Names(), MX, SPF, DKIM, DMARC) == ["error", "error", "error", "warning"]


async def test_records_that_say_something_else() -> None:
    names = Names()
    names.domain("alice.test", (10, "mail.bob.test"))
    names.texts = {
        "alice.test": [b"v=spf1 include:bob.test ~all"],
        "s._domainkey.alice.test": [b"v=DKIM1; k=rsa; p=BBBB"],
        "_dmarc.alice.test": [b"v=DMARC1; p=none"],
    }
    # An own policy is a choice; a wrong exchanger or key is a fault.
    assert await levels(names, MX, SPF, DKIM, DMARC) == ["error", "warning", "error", "warning"]


async def test_dns_that_does_not_answer_is_no_verdict() -> None:
    names = Names()
    names.broken = {"alice.test", HOST}
    assert await levels(names, MX, SPF) == ["warning", "warning"]
    [found] = await checkup(names).machine()
    assert found.level == "warning"


async def test_the_host_needs_an_address_that_leads_back() -> None:
    names = Names()
    mine = Finding("files", "ok", "private")
    assert [each.level for each in await checkup(names, mine).machine()] == ["ok", "error"]
    names.host(HOST, "192.0.2.1", "2001:db8::1")
    names.pointers = {"192.0.2.1": [HOST]}
    found = await checkup(names).machine()
    assert [each.level for each in found] == ["ok", "warning"]
    assert str(ipaddress.ip_address("2001:db8::1")) in found[1].text


class Keys:
    async def records(self, domain: str) -> list[tuple[str, str]]:
        return [(f"s._domainkey.{domain}", "v=DKIM1; p=" + "A" * 300)]


async def test_a_zone_has_a_line_for_each_record_and_splits_long_texts() -> None:
    keys: Any = Keys()
    records = await wanted_records("alice.test", HOST, keys, listens=frozenset({"pop3s", "submissions"}))
    assert [each.kind for each in records] == ["MX", "TXT", "TXT", "TXT", "TXT", "SRV", "SRV"]
    zone = zone_text("alice.test", HOST, records)
    assert f"alice.test. 3600 IN MX 10 {HOST}.\n" in zone
    assert f"_pop3s._tcp.alice.test. 3600 IN SRV 0 1 995 {HOST}.\n" in zone
    [key] = [line for line in zone.splitlines() if line.startswith("s._domainkey")]
    strings = key.partition(" TXT ")[2].strip('"').split('" "')
    assert "".join(strings) == records[3].value
    assert all(len(each) <= 255 for each in strings)


@pytest.mark.parametrize("value", ["", "v=spf1", ";"])
async def test_odd_texts_do_no_harm(value: str) -> None:
    names = Names()
    names.texts = {"alice.test": [value.encode()]}
    assert await levels(names, SPF) in (["error"], ["warning"])
