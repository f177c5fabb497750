# SPDX-License-Identifier: Apache-2.0
"""The records that a domain needs, and their zone-file form."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import dns.rdata
import dns.rdataclass
import dns.zone
import pytest

from posthouse.config import Listen
from posthouse.services.client_settings import offer_of
from posthouse.services.dns_records import DnsRecord, Senders, Surroundings, wanted_records, zone_text
from posthouse.services.other_senders import other_senders
from tests.fakes import FakeResolver
from tests.services.domain_world import ADDRESS, DIGEST, DOMAIN, HOST, Keys, around


async def records(domain: str = DOMAIN, **changes: Any) -> list[DnsRecord]:
    keys: Any = Keys()
    return await wanted_records(domain, keys, around(**changes))


def lines(found: list[DnsRecord]) -> set[str]:
    return {record.zone_line().replace(" 3600 IN", "") for record in found}


async def test_every_record() -> None:
    addresses = (ipaddress.ip_address(ADDRESS), ipaddress.ip_address("2606:4700::1"))
    policy = around().policy
    key = "A" * 300
    assert lines(await records(addresses=addresses, authorities=("ca.test",))) == {
        f"{HOST}. A {ADDRESS}",
        f"{HOST}. AAAA 2606:4700::1",
        f"; 4.4.8.8.in-addr.arpa. PTR {HOST}.",
        f"; {addresses[1].reverse_pointer}. PTR {HOST}.",
        f"{DOMAIN}. MX 10 {HOST}.",
        f'{DOMAIN}. TXT "v=spf1 mx -all"',
        f'{HOST}. TXT "v=spf1 a -all"',
        f's._domainkey.{DOMAIN}. TXT "v=DKIM1; k=rsa; p={key[:237]}" "{key[237:]}"',
        f'_dmarc.{DOMAIN}. TXT "v=DMARC1; p=quarantine; aspf=s; rua=mailto:postmaster@{DOMAIN}"',
        f'_mta-sts.{DOMAIN}. TXT "v=STSv1; id={policy.id};"',
        f"mta-sts.{DOMAIN}. CNAME {HOST}.",
        f'_smtp._tls.{DOMAIN}. TXT "v=TLSRPTv1; rua=mailto:postmaster@{DOMAIN}"',
        f"_25._tcp.{HOST}. TLSA 3 1 1 {DIGEST.hex()}",
        f'{HOST}. CAA 0 issue "ca.test"',
        f"_imaps._tcp.{DOMAIN}. SRV 0 1 993 {HOST}.",
        f"_imap._tcp.{DOMAIN}. SRV 0 0 0 .",
        f"_pop3s._tcp.{DOMAIN}. SRV 10 1 995 {HOST}.",
        f"_pop3._tcp.{DOMAIN}. SRV 0 0 0 .",
        f"_submissions._tcp.{DOMAIN}. SRV 0 1 465 {HOST}.",
        f"_submission._tcp.{DOMAIN}. SRV 0 0 0 .",
        f"autoconfig.{DOMAIN}. CNAME {HOST}.",
        f"autodiscover.{DOMAIN}. CNAME {HOST}.",
        f"_autodiscover._tcp.{DOMAIN}. SRV 0 1 443 {HOST}.",
    }


async def test_without_a_web_nothing_leads_there() -> None:
    offer = offer_of(HOST, Listen.model_validate({"imaps": ["*:993"], "submissions": ["*:465"]}))
    names = {record.name.partition(".")[0] for record in await records(offer=offer)}
    assert names.isdisjoint({"_mta-sts", "mta-sts", "autoconfig", "autodiscover", "_autodiscover"})
    off = {record.name.partition(".")[0] for record in await records(mode="off")}
    assert off.isdisjoint({"_mta-sts", "mta-sts"})


async def test_a_host_that_is_its_own_domain() -> None:
    offer = offer_of(DOMAIN, Listen.model_validate({"imaps": ["*:993"], "submissions": ["*:465"], "https": ["*:443"]}))
    found = await records(hostname=DOMAIN, offer=offer)
    own = [record for record in found if record.value.startswith("v=spf1")]
    assert len(own) == 1
    # Two of them at one name would be a permerror: what another domain here asks for at the host is the same record.
    beside = [record for record in await records("bob.test", hostname=DOMAIN) if record.name == DOMAIN]
    assert own[0].value in {record.value for record in beside}
    assert len([record for record in beside if record.value.startswith("v=spf1")]) == 1
    assert not [record for record in found if record.kind == "CNAME" and record.name == DOMAIN]


async def test_a_host_elsewhere_has_records_in_its_own_zone() -> None:
    found = await records("bob.test", authorities=("ca.test",))
    text = zone_text("bob.test", around(), found)
    own, _, others = text.partition("; In other zones:\n")
    assert f"_25._tcp.{HOST}." in others
    assert f'{HOST}. 3600 IN CAA 0 issue "ca.test"' in others
    assert " CAA " not in own, "other servers of the domain have certificates from whom they like"
    for line in own.splitlines():
        assert not line or line.startswith(";") or line.split(". ")[0].endswith("bob.test")


async def test_reports_that_go_elsewhere_must_be_let_in_there() -> None:
    found = lines(await records(report_address="reports@bob.test"))
    assert f'{DOMAIN}._report._dmarc.bob.test. TXT "v=DMARC1"' in found
    assert f'_smtp._tls.{DOMAIN}. TXT "v=TLSRPTv1; rua=mailto:reports@bob.test"' in found


async def test_where_others_send_too_reports_come_first() -> None:
    """A policy would hit the newsletter service that nobody here has heard of."""
    senders = Senders("include:news.test")
    [record] = [each for each in await records(senders=senders) if each.name == f"_dmarc.{DOMAIN}"]
    assert record.value == f"v=DMARC1; p=none; rua=mailto:postmaster@{DOMAIN}"
    assert "include:news.test" in record.why
    [record] = [
        each for each in await records(senders=replace(senders, are_judged=True)) if each.name == f"_dmarc.{DOMAIN}"
    ]
    assert record.value == f"v=DMARC1; p=quarantine; rua=mailto:postmaster@{DOMAIN}", "theirs may pass by relaxed SPF"


@pytest.mark.parametrize(
    ("spf", "other"),
    [
        ("", ""),
        ("something else", ""),
        ("v=spf1 mx -all", ""),
        (f"v=spf1 a mx a:{HOST} ip4:{ADDRESS} ip4:{ADDRESS}/32 ~all", ""),
        (f"v=spf1 +MX:{HOST.upper()} -all", ""),
        ("v=spf1 mx ip6:2606:4700::1 -all", ""),
        ("v=spf1 mx -include:bad.test ?ip4:192.0.2.9 -all", ""),
        ("v=spf1 mx include:news.test ~all", "include:news.test"),
        ("v=spf1 mx a:www.alice.test -all", "a:www.alice.test"),
        ("v=spf1 mx ip4:192.0.2.7 -all", "ip4:192.0.2.7"),
        (f"v=spf1 mx ip4:{ADDRESS}/24 -all", f"ip4:{ADDRESS}/24"),
        ("v=spf1 redirect=_spf.host.test", "redirect=_spf.host.test"),
        ("v=spf1 mx a/24 -all", "a/24"),
        ("v=spf1 exists:%{i}.list.test -all", "exists:%{i}.list.test"),
        ("v=spf1 mx ip4:nonsense exp=why.test -all", ""),
        ("v=spf1 mx ?all", ""),
        ("v=spf1 mx all", "all"),
        ("v=spf1 mx +all", "all"),
    ],
)
async def test_who_else_sends_stands_in_spf(spf: str, other: str) -> None:
    dns = FakeResolver()
    dns.host(HOST, ADDRESS)
    if spf:
        dns.text(DOMAIN, spf.encode())
    surroundings = around(addresses=(ipaddress.ip_address("2606:4700::1"),))
    assert await other_senders(dns, DOMAIN, surroundings) == Senders(other)
    for policy, are_judged in (("p=none", False), ("p=reject", True), ("oops", False), ("rua=mailto:a@b.test", False)):
        dns.text(f"_dmarc.{DOMAIN}", f"v=DMARC1; {policy}".encode())
        assert await other_senders(dns, DOMAIN, surroundings) == Senders(other, are_judged=bool(other) and are_judged)


async def test_dns_that_does_not_answer_is_not_taken_for_nobody() -> None:
    dns = FakeResolver()
    dns.host(HOST, ADDRESS)
    dns.text(DOMAIN, b"v=spf1 include:news.test -all")
    dns.broken.add(f"_dmarc.{DOMAIN}")
    senders = await other_senders(dns, DOMAIN, around())
    assert senders == Senders("include:news.test", is_known=False)
    [record] = [each for each in await records(senders=senders) if each.name == f"_dmarc.{DOMAIN}"]
    assert "p=none" in record.value, "what is known of them counts"
    dns.broken.add(DOMAIN)
    senders = await other_senders(dns, DOMAIN, around())
    assert senders == Senders(is_known=False)
    [record] = [each for each in await records(senders=senders) if each.name == f"_dmarc.{DOMAIN}"]
    assert "p=none first if they do" in record.why


async def test_a_smart_host_must_pass_spf() -> None:
    assert f'{DOMAIN}. TXT "v=spf1 mx a:smtp.provider.test ~all"' in lines(
        await records(smart_host="smtp.provider.test")
    )
    assert f'{DOMAIN}. TXT "v=spf1 mx ip4:192.0.2.1 ~all"' in lines(await records(smart_host="192.0.2.1"))
    assert f'{DOMAIN}. TXT "v=spf1 mx ip6:2001:db8::1 ~all"' in lines(await records(smart_host="2001:db8::1"))


async def test_keys_to_come_stand_beside_the_present_one() -> None:
    found = [record for record in await records(key_digests=(DIGEST, bytes(32), DIGEST)) if record.kind == "TLSA"]
    assert [record.value for record in found] == [f"3 1 1 {DIGEST.hex()}", f"3 1 1 {'00' * 32}"]


async def test_a_zone_reader_finds_every_record_again() -> None:
    addresses = (ipaddress.ip_address(ADDRESS),)
    surroundings: Surroundings = around(addresses=addresses, authorities=("ca.test",))
    keys: Any = Keys()
    found = await wanted_records(DOMAIN, keys, surroundings)
    zone = dns.zone.from_text(
        f"$ORIGIN {DOMAIN}.\n" + zone_text(DOMAIN, surroundings, found), check_origin=False, relativize=False
    )
    read = {(str(name), str(data)) for name, node in zone.nodes.items() for data in node.rdatasets for data in data}
    for record in found:
        if not record.is_foreign:
            line = record.zone_line()
            data = dns.rdata.from_text(dns.rdataclass.IN, record.kind, line.partition(f" IN {record.kind} ")[2])
            assert (f"{record.name}.", str(data)) in read
    assert len(read) == len([record for record in found if not record.is_foreign])


def test_texts_are_quoted() -> None:
    assert DnsRecord("a.test", "TXT", 'say "hi" \\ there', "").zone_line().endswith('TXT "say \\"hi\\" \\\\ there"')
