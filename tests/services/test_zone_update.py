# SPDX-License-Identifier: Apache-2.0
"""`posthouse dns DOMAIN --update`: what is ours, what is not, and what happens when the zone does not obey."""

from __future__ import annotations

import pytest

from posthouse.ports import ZoneRecord
from posthouse.services.dns_records import DnsRecord
from posthouse.services.zone_update import ZoneUpdate, wanted_in_zones
from posthouse.store import zone_records

from .world import World
from .zone import FakeZone

DOMAIN = "example.test"
MX = DnsRecord(DOMAIN, "MX", "10 mail.example.test", "")
SPF = DnsRecord(DOMAIN, "TXT", "v=spf1 mx -all", "")
DKIM = DnsRecord(f"ph202611-rsa._domainkey.{DOMAIN}", "TXT", "v=DKIM1; k=rsa; p=" + "A" * 300, "")
TLSA = DnsRecord(f"_25._tcp.mail.{DOMAIN}", "TLSA", "3 1 1 " + "ab" * 32, "")
ALL = [MX, SPF, DKIM, TLSA]


class Updates:
    def __init__(self) -> None:
        self.zone = FakeZone(DOMAIN)
        self.world = World()
        self.update = ZoneUpdate(self.zone, self.world.database, self.world.clock)

    async def run(self, *records: DnsRecord, is_dry: bool = False, replaces: bool = False) -> list[str]:
        """The actions, in the order of the steps."""
        steps = await self.update.run(DOMAIN, records, is_dry=is_dry, replaces=replaces)
        return [f"{step.action} {step.kind}" for step in steps]

    async def noted(self) -> list[ZoneRecord]:
        return await self.world.database.read(lambda reader: zone_records.of_domain(reader, DOMAIN))


@pytest.fixture
def updates() -> Updates:
    return Updates()


async def test_an_empty_zone_is_filled_and_then_left_alone(updates: Updates) -> None:
    assert await updates.run(*ALL) == ["add MX", "add TXT", "add TXT", "add TLSA"]
    assert updates.zone.values(DOMAIN, "MX") == ["10 mail.example.test."]
    assert updates.zone.values(DKIM.name, "TXT") == [DKIM.value]
    assert len(updates.zone.changes) == 1, "one update"
    assert await updates.run(*ALL) == ["there MX", "there TXT", "there TXT", "there TLSA"]
    assert len(updates.zone.changes) == 1
    assert len(await updates.noted()) == 4


async def test_a_dry_run_changes_nothing(updates: Updates) -> None:
    assert await updates.run(*ALL, is_dry=True) == ["add MX", "add TXT", "add TXT", "add TLSA"]
    assert updates.zone.held == []
    assert await updates.noted() == []


@pytest.mark.parametrize("replaces", [False, True])
async def test_a_policy_that_hangs_on_silent_dns_stays_as_it_is(updates: Updates, replaces: bool) -> None:
    """p=none was put there for other senders; p=quarantine in its place would lose their mail while DNS is silent."""
    mild, strict = (DnsRecord(f"_dmarc.{DOMAIN}", "TXT", f"v=DMARC1; p={word}", "") for word in ("none", "quarantine"))
    assert await updates.run(mild) == ["add TXT"]
    steps = await updates.update.run(DOMAIN, [MX, strict], replaces=replaces, unsure=[strict.name])
    assert [(step.action, step.kind) for step in steps] == [("kept", "TXT"), ("add", "MX")]
    assert "try again later" in steps[0].note
    assert updates.zone.values(strict.name, "TXT") == [mild.value]
    assert await updates.run(MX, strict) == ["there MX", "remove TXT", "add TXT"], "it was not forgotten"


async def test_what_is_not_wanted_any_more_goes_if_it_is_ours(updates: Updates) -> None:
    updates.zone.put(TLSA.name, "TLSA", "3 1 1 " + "CD" * 32)
    await updates.run(*ALL)
    following = DnsRecord(TLSA.name, "TLSA", "3 1 1 " + "ef" * 32, "")
    softer = DnsRecord(DOMAIN, "TXT", "v=spf1 mx ~all", "")
    assert await updates.run(MX, softer, following) == [
        "there MX",
        "remove TXT",
        "add TXT",
        "remove TLSA",
        "add TLSA",
        "remove TXT",
    ]
    assert updates.zone.values(DOMAIN, "TXT") == ["v=spf1 mx ~all"]
    assert updates.zone.values(DKIM.name, "TXT") == []
    assert updates.zone.values(TLSA.name, "TLSA") == ["3 1 1 " + "CD" * 32, "3 1 1 " + "ef" * 32], "theirs stays"
    assert len(await updates.noted()) == 3


async def test_what_is_there_word_for_word_is_taken_for_ours(updates: Updates) -> None:
    """Somebody has copied it from what `posthouse dns` prints."""
    updates.zone.put(DOMAIN, "MX", "10 MAIL.example.test.")
    updates.zone.put(TLSA.name, "TLSA", "3 1 1 " + "AB" * 16 + " " + "AB" * 16)
    assert await updates.run(MX, TLSA) == ["there MX", "there TLSA"]
    assert updates.zone.changes == []


@pytest.mark.parametrize(
    ("theirs", "wanted"),
    [
        (("MX", "10 other.test."), MX),
        (("TXT", "v=spf1 include:_spf.other.test -all"), SPF),
        (("CNAME", "other.test."), MX),
        (("A", "192.0.2.7"), DnsRecord(DOMAIN, "A", "192.0.2.1", "")),
        (("A", "192.0.2.7"), DnsRecord(DOMAIN, "CNAME", "mail.example.test.", "")),
        (("CNAME", "other.test."), DnsRecord(DOMAIN, "CNAME", "mail.example.test.", "")),
    ],
)
async def test_what_others_have_put_there_is_told_and_stays(
    updates: Updates, theirs: tuple[str, str], wanted: DnsRecord
) -> None:
    updates.zone.put(DOMAIN, *theirs)
    steps = await updates.update.run(DOMAIN, [wanted])
    [step] = steps
    assert (step.action, step.kind) == ("kept", wanted.kind)
    assert step.note == f"there is {theirs[0]} {theirs[1]}; --replace"
    assert updates.zone.changes == []
    assert await updates.noted() == []
    replaced = await updates.run(wanted, replaces=True)
    assert replaced == [f"replace {theirs[0]}", f"add {wanted.kind}"]
    assert theirs[1] not in updates.zone.values(DOMAIN, theirs[0])


async def test_no_policy_for_mail_that_goes_elsewhere(updates: Updates) -> None:
    policy = DnsRecord(f"_mta-sts.{DOMAIN}", "TXT", "v=STSv1; id=1", "")
    updates.zone.put(DOMAIN, "MX", "10 other.test.")
    steps = await updates.update.run(DOMAIN, [MX, policy])
    assert [(each.action, each.kind) for each in steps] == [("kept", "MX"), ("kept", "TXT")]
    assert updates.zone.changes == []
    assert await updates.run(MX, policy, replaces=True) == ["replace MX", "add MX", "add TXT"]


async def test_others_stand_beside_ours(updates: Updates) -> None:
    updates.zone.put(DOMAIN, "TXT", "google-site-verification=x")
    updates.zone.put(DOMAIN, "CAA", '0 issue "other.test"')
    caa = DnsRecord(DOMAIN, "CAA", '0 issue "ca.test"', "")
    assert await updates.run(SPF, caa) == ["add TXT", "add CAA"]
    assert len(updates.zone.values(DOMAIN, "TXT")) == 2
    assert len(updates.zone.values(DOMAIN, "CAA")) == 2


async def test_names_in_other_zones_are_told(updates: Updates) -> None:
    elsewhere = DnsRecord("mail.other.test", "TXT", "v=spf1 a -all", "")
    steps = await updates.update.run(DOMAIN, [elsewhere, MX])
    assert [(step.action, step.note) for step in steps] == [("elsewhere", "no zone for mail.other.test"), ("add", "")]


async def test_a_zone_that_changes_meanwhile_is_looked_at_again(updates: Updates) -> None:
    updates.zone.interloper = [ZoneRecord(DOMAIN, "MX", "5 other.test.")]
    assert await updates.run(MX, SPF) == ["kept MX", "add TXT"]
    assert updates.zone.values(DOMAIN, "MX") == ["5 other.test."]


async def test_a_refused_update_leaves_no_note(updates: Updates) -> None:
    await updates.run(MX)
    updates.zone.fault = "refused"
    steps = await updates.update.run(DOMAIN, [MX, SPF])
    assert [(step.action, step.note) for step in steps] == [("failed", "refused")] * 2
    assert await updates.noted() == [ZoneRecord(DOMAIN, "MX", "10 mail.example.test.")]


async def test_somebody_has_removed_ours(updates: Updates) -> None:
    await updates.run(MX, SPF)
    updates.zone.held.clear()
    assert await updates.run(MX) == ["add MX"]
    assert await updates.noted() == [ZoneRecord(DOMAIN, "MX", "10 mail.example.test.")]


def test_records_as_the_port_has_them() -> None:
    class Foreign(DnsRecord):
        def zone_line(self) -> str:
            return "; " + super().zone_line()

    found = wanted_in_zones([MX, DKIM, Foreign("7.2.0.192.in-addr.arpa", "PTR", "mail.example.test", "")])
    assert found == [ZoneRecord(DOMAIN, "MX", "10 mail.example.test."), ZoneRecord(DKIM.name, "TXT", DKIM.value)]
