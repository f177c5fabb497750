# SPDX-License-Identifier: Apache-2.0
"""`posthouse check DOMAIN`: a domain as it should be, and one thing wrong at a time."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.ports import WebFault, WebReply
from posthouse.services.dns_records import Senders
from tests.services.domain_world import ADDRESS, DIGEST, DOMAIN, HOST, World, around

POLICY = f"https://mta-sts.{DOMAIN}/.well-known/mta-sts.txt"
KEY = f"s._domainkey.{DOMAIN}"
TLSA = f"_25._tcp.{HOST}"


async def test_nothing_is_wrong_with_what_is_as_it_should_be() -> None:
    for mode in ("testing", "enforce", "none", "off"):
        world = World(around(mode, authorities=("ca.test",)))  # type: ignore[arg-type]
        records = await world.build()
        world.sign()
        found = await world.findings(records)
        assert [each for each in found if each.level != "ok"] == []
        assert world.mail_host.closed == 1
        said = "\n".join(each.text for each in found)
        assert "SPF of alice.test for this host [8.8.4.4]: pass" in said
        assert "SPF of mail.alice.test for this host [8.8.4.4]: pass" in said
        assert (f"{POLICY} is the policy, mode {mode}" in said) == (mode != "off")
        assert "in the signed zone alice.test" in said


def change(name: str, *texts: str) -> Callable[[World], None]:
    return lambda world: world.dns.text(name, *(text.encode() for text in texts))


def other(name: str, kind: str, *values: str) -> Callable[[World], None]:
    return lambda world: world.dns.record(name, kind, *values)


def mx(*hosts: tuple[int, str]) -> Callable[[World], None]:
    return lambda world: world.dns.domain(DOMAIN, *hosts)


def without_names(*names: str) -> Callable[[World], None]:
    def work(world: World) -> None:
        for name in names:
            for table in (world.dns.mx_records, world.dns.text_records, world.dns.other_records):
                table.pop(name, None)  # type: ignore[attr-defined]
            world.dns.address_records.pop(name, None)

    return work


WRONG = {
    # what was changed, the level, words of the text
    "no exchanger": (mx(), "error", "MX alice.test is missing"),
    "another exchanger": (mx((10, "mx.bob.test")), "error", "10 mx.bob.test: not this server"),
    "null exchanger": (mx((0, "")), "error", "MX alice.test is 0 .: not this server"),
    "another one first": (mx((5, "mx.bob.test"), (10, HOST)), "warning", "try mx.bob.test first"),
    "one that the policy lacks": (mx((10, HOST), (20, "mx.bob.test")), "warning", "not in the MTA-STS policy"),
    "no SPF": (change(DOMAIN, "something else"), "error", "TXT alice.test is missing"),
    "two SPF": (change(DOMAIN, "v=spf1 mx -all", "v=spf1 a -all"), "error", "2 records with v=spf1"),
    "SPF of others": (change(DOMAIN, "v=spf1 ip4:192.0.2.1 -all"), "error", "SPF of alice.test for this host"),
    "SPF that is not one": (change(DOMAIN, "v=spf1 mxx:oops -all"), "error", "permerror"),
    "SPF that only doubts": (change(DOMAIN, "v=spf1 ip4:192.0.2.1 ~all"), "error", "softfail"),
    "another key": (change(KEY, "v=DKIM1; k=rsa; p=BBBB"), "error", "holds another key"),
    "a revoked key": (change(KEY, "v=DKIM1; p="), "error", "revoked"),
    "no key": (without_names(KEY), "error", f"TXT {KEY} is missing"),
    "no DMARC": (without_names("_dmarc.alice.test"), "warning", "TXT _dmarc.alice.test is missing"),
    "two DMARC": (change("_dmarc.alice.test", "v=DMARC1; p=none", "v=DMARC1; p=reject"), "error", "none counts"),
    "DMARC without policy": (change("_dmarc.alice.test", "v=DMARC1; sp=oops"), "error", "no policy"),
    "DMARC with a slip": (
        change("_dmarc.alice.test", "v=DMARC1; p=none; sp=oops; rua=mailto:a@b.test"),
        "warning",
        "sp",
    ),
    "DMARC that tells nobody": (change("_dmarc.alice.test", "v=DMARC1; p=reject"), "warning", "nobody is told"),
    "an old policy id": (change("_mta-sts.alice.test", "v=STSv1; id=1;"), "warning", "announces another policy"),
    "no policy id": (without_names("_mta-sts.alice.test"), "warning", "TXT _mta-sts.alice.test is missing"),
    "TLSRPT without a place": (change("_smtp._tls.alice.test", "v=TLSRPTv1;"), "warning", "_smtp._tls"),
    "no service": (without_names("_imaps._tcp.alice.test"), "warning", "SRV _imaps._tcp.alice.test is missing"),
    "a service elsewhere": (
        other("_imaps._tcp.alice.test", "SRV", "0 1 993 imap.bob.test."),
        "warning",
        "imap.bob.test.",
    ),
    "a service on another port": (other("_imaps._tcp.alice.test", "SRV", "0 1 994 mail.alice.test."), "warning", "994"),
    "a service that is off": (
        other("_imap._tcp.alice.test", "SRV", "0 1 143 mail.alice.test."),
        "warning",
        "not offered",
    ),
    "an alias as exchanger": (other(HOST, "CNAME", "host.bob.test."), "error", "must not lead to an alias"),
    "another authority": (other(HOST, "CAA", '0 issue "other.test"'), "error", "lets other.test issue"),
    "no authority": (other(HOST, "CAA", '0 issue ";"'), "error", "lets nobody issue"),
    "authorities for wildcards alone": (
        other(HOST, "CAA", '0 issuewild ";"'),
        "warning",
        "CAA mail.alice.test is missing",
    ),
    "TLSA of another key": (other(TLSA, "TLSA", "3 1 1 " + "00" * 32), "error", "do not deliver"),
    "TLSA of an authority": (other(TLSA, "TLSA", "2 1 1 " + "00" * 32), "warning", "does not name the key"),
    "no TLSA": (other(TLSA, "TLSA"), "warning", "is missing"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_one_thing_is_wrong(name: str) -> None:
    spoil, level, words = WRONG[name]
    world = World(around(authorities=("ca.test",)))
    records = await world.build()
    world.sign()
    spoil(world)
    wrong = await world.wrong(records)
    assert any(found == level and words in text for found, text in wrong), wrong


FINE = {
    "another preference": mx((20, HOST)),
    "other texts beside": change(DOMAIN, "something else", "v=spf1 mx -all"),
    "an own SPF that lets this host pass": change(DOMAIN, f"v=spf1 ip4:{ADDRESS} include:bob.test ~all"),
    "a key without blanks": change(KEY, "v=DKIM1;k=rsa;p=" + "A" * 300),
    "a key in an order of its own": change(KEY, "v=DKIM1; p=" + "A" * 150 + " " + "A" * 150 + "; t=s"),
    "an own DMARC policy": change("_dmarc.alice.test", "v=DMARC1;p=reject;rua=mailto:x@bob.test"),
    "a mild DMARC policy": change("_dmarc.alice.test", "v=DMARC1;p=none;rua=mailto:x@bob.test"),
    "another place for TLS reports": change("_smtp._tls.alice.test", "v=TLSRPTv1; rua=https://bob.test/"),
    "another weight": other("_imaps._tcp.alice.test", "SRV", "5 7 993 MAIL.alice.test."),
    "what is not offered is not said": without_names("_imap._tcp.alice.test", "_pop3._tcp.alice.test"),
    "more than one TLSA": other(TLSA, "TLSA", "3 1 1 " + "00" * 32, "3 1 1 " + DIGEST.hex().upper()),
    "more than one authority": other(HOST, "CAA", '0 issue "a.test"', '0 issue "CA.test; policy=x"', '0 iodef "m"'),
}


@pytest.mark.parametrize("name", FINE)
async def test_there_is_more_than_one_way_to_say_it(name: str) -> None:
    world = World(around(authorities=("ca.test",)))
    records = await world.build()
    world.sign()
    FINE[name](world)
    assert await world.wrong(records) == []


async def test_a_missing_policy_begins_with_reports_where_others_send() -> None:
    world = World(around(senders=Senders("include:news.test")))
    records = await world.build()
    without_names("_dmarc.alice.test")(world)
    [found] = [each for each in await world.findings(records) if "_dmarc" in each.text]
    assert "include:news.test" in found.remedy
    assert "p=none; rua" in found.remedy


async def test_authorities_of_the_whole_domain_count_where_the_host_has_none() -> None:
    """RFC 8659 §3."""
    world = World(around(authorities=("ca.test",)))
    records = await world.build()
    without_names(HOST)(world)
    world.dns.host(HOST, ADDRESS)
    world.dns.record(DOMAIN, "CAA", '0 issue "other.test"')
    assert any("CAA alice.test lets other.test" in text for _, text in await world.wrong(records))


async def test_addresses_instead_of_aliases() -> None:
    world = World()
    records = await world.build()
    for label in ("mta-sts", "autoconfig", "autodiscover"):
        world.dns.other_records.pop(f"{label}.{DOMAIN}")
    assert await world.wrong(records) == []
    world.dns.host(f"autoconfig.{DOMAIN}", "192.0.2.99")
    [(level, text)] = await world.wrong(records)
    assert level == "warning"
    assert "leads to 192.0.2.99, not to this host" in text


async def test_addresses_that_the_machine_sees() -> None:
    mine = (ipaddress.ip_address(ADDRESS), ipaddress.ip_address("2606:4700::1"))
    world = World(around(addresses=mine))
    records = await world.build()
    world.dns.host(HOST, *map(str, mine))
    for label in ("mta-sts", "autoconfig", "autodiscover"):
        world.dns.host(f"{label}.{DOMAIN}", *map(str, mine))
    assert await world.wrong(records) == []
    world.dns.host(HOST, "192.0.2.7")  # behind NAT, or moved
    wrong = await world.wrong(records)
    assert ("warning", f"A {HOST} is 192.0.2.7, and this machine has {ADDRESS}") in [
        (level, text) for level, text in wrong if text.startswith("A ")
    ]
    assert any(text == f"AAAA {HOST} is missing" for _, text in wrong)


async def test_names_that_are_missing_are_told_once() -> None:
    world = World()
    records = await world.build()
    without_names(f"mta-sts.{DOMAIN}", f"autoconfig.{DOMAIN}", f"autodiscover.{DOMAIN}")(world)
    assert [text for _, text in await world.wrong(records)] == [
        f"CNAME {label}.{DOMAIN} is missing" for label in ("mta-sts", "autoconfig", "autodiscover")
    ]
    assert world.web.asked == []


async def test_dns_that_does_not_answer_is_no_verdict() -> None:
    world = World()
    records = await world.build()
    world.sign()
    world.dns.broken = {*world.dns.mx_records, *world.dns.text_records, *world.dns.other_records} - {HOST}
    wrong = await world.wrong(records)
    assert {level for level, text in wrong if "does not answer" in text} == {"warning"}
    assert all(level == "warning" for level, _ in wrong if "SPF of" not in _)


async def test_one_line_tells_that_dns_answers_nothing() -> None:
    world = World()
    records = await world.build()
    world.dns.broken = {HOST, DOMAIN, *world.dns.text_records, *world.dns.other_records}
    [(level, text)] = await world.wrong(records)
    assert level == "warning"
    assert "no record was compared" in text


async def test_the_host_without_an_answer_ends_no_check() -> None:
    world = World()
    records = await world.build()
    world.dns.broken = {HOST}
    wrong = await world.wrong(records)
    assert ("warning", f"CNAME {HOST}: DNS does not answer") in [(level, text.split(" (")[0]) for level, text in wrong]
    assert not [text for _, text in wrong if text.startswith("MX ")], "the domain's own records are compared"


async def test_every_record_that_is_missing_is_named_with_its_line() -> None:
    world = World()
    records = await world.build()
    empty = World()
    found = await empty.findings(records)
    told = {each.remedy for each in found}
    for record in records:
        if record.kind not in ("TLSA", "PTR") and record.value != "0 0 0 .":
            assert f"add this record: {record.zone_line()}" in told
    assert {each.level for each in found if each.text.startswith(("MX", f"TXT {DOMAIN}", f"TXT {KEY}"))} == {"error"}


async def test_the_level_of_trouble_with_the_policy_follows_its_mode() -> None:
    pages: dict[str, WebReply | WebFault] = {
        "cannot be fetched": WebFault("the certificate is not good"),
        "answers 404": WebReply(404, {"content-type": "text/html"}, b"<html>"),
        "answers 200 text/html": WebReply(200, {"content-type": "text/html"}, b"<html>"),
        "answers 301": WebReply(301, {"location": "/"}, b""),
        "is another policy": WebReply(200, {"content-type": "text/plain"}, b"version: STSv1\nmode: none\n"),
    }
    for words, page in pages.items():
        for mode, level in (("testing", "warning"), ("enforce", "error")):
            world = World(around(mode))  # type: ignore[arg-type]
            records = await world.build()
            world.web.pages[POLICY] = page
            [(found, text)] = await world.wrong(records)
            assert (found, words in text) == (level, True), text


async def test_a_policy_with_other_line_ends_is_the_same() -> None:
    world = World()
    records = await world.build()
    world.web.pages[POLICY] = WebReply(
        200, {"content-type": "Text/Plain"}, world.around.policy.text.replace("\r\n", "\n").encode()
    )
    assert await world.wrong(records) == []


async def test_the_mail_host() -> None:
    world = World()
    records = await world.build()
    world.mail_host.refuses = {"verify"}
    [(level, text)] = await world.wrong(records)
    assert level == "warning"
    assert "not with a certificate that others trust" in text
    world.mail_host.refuses = {"verify", "opportunistic"}
    [(level, text)] = await world.wrong(records)
    assert level == "warning"
    assert "does not answer" in text
    assert {(target.host, target.address, target.port) for target in world.mail_host.asked} == {(HOST, ADDRESS, 25)}

    strict = World(around("enforce"))
    records = await strict.build()
    strict.mail_host.refuses = {"verify"}
    [(level, _)] = await strict.wrong(records)
    assert level == "error"


async def test_tlsa_in_a_zone_that_is_not_signed() -> None:
    world = World()
    records = await world.build()
    assert await world.wrong(records) == []
    world.dns.other_records.pop(TLSA)
    assert await world.wrong(records) == []  # it would not count
    world.dns.record(TLSA, "TLSA", "3 1 1 " + "00" * 32)
    [(level, _)] = await world.wrong(records)
    assert level == "warning"


async def test_keys_without_a_parent_that_knows_are_no_signature() -> None:
    world = World()
    records = await world.build()
    world.dns.record(DOMAIN, "DNSKEY", "257 3 13 AAAA")
    assert any("not signed" in each.text for each in await world.findings(records))


async def test_the_next_key_must_be_there_before_it_is_used() -> None:
    coming = bytes(32)
    world = World(around(key_digests=(DIGEST, coming)))
    records = await world.build()
    world.sign()
    assert await world.wrong(records) == []
    world.dns.record(TLSA, "TLSA", "3 1 1 " + DIGEST.hex())
    [(level, text)] = await world.wrong(records)
    assert level == "warning"
    assert "lacks the next key" in text


async def test_a_smart_host_sends_and_not_this_one() -> None:
    world = World(around(smart_host="smtp.provider.test"))
    records = await world.build()
    assert not any("SPF of" in each.text for each in await world.findings(records))


TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=4)


@settings(max_examples=60)
@given(TEXTS, st.sampled_from(["v=spf1", "v=DMARC1;", "v=DKIM1;", "v=STSv1;", "v=TLSRPTv1;", "0 issue ", "3 1 1 ", ""]))
def test_whatever_dns_says_there_is_a_finding(texts: list[str], start: str) -> None:
    async def look() -> None:
        world = World(around(authorities=("ca.test",)))
        records = await world.build()
        values = [f"{start}{text}" for text in texts]
        for name, kinds in world.dns.other_records.items():
            world.dns.other_records[name] = dict.fromkeys(kinds, values)
        for name in world.dns.text_records:
            world.dns.text(name, *(value.encode() for value in values))
        await world.findings(records)  # which looks whether each has its remedy

    asyncio.run(look())
