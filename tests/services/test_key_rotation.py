# SPDX-License-Identifier: Apache-2.0
"""Keys that take turns: none signs before DNS shows it, one always signs, and no record goes while it is needed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from posthouse.mail.address import Domain
from posthouse.mailauth.dkim_verify import verify
from posthouse.outcome import Refusal
from posthouse.ports import Change
from posthouse.services import key_rotation as module
from posthouse.services.host_signing import HostSigning, names_above
from posthouse.services.key_rotation import SETTLE, KeyRotation, RotationTerms
from posthouse.services.signing import Signing
from posthouse.store.keys import KeyInfo
from tests.fakes import FakeResolver
from tests.services.world import World

NAME = "example.test"
HOUR, DAY = 3600.0, 86400.0


class House:
    def __init__(self, *, every: float | None = None, hostname: str = "mail.example.test", domain: str = NAME) -> None:
        self.world = World(hostname=hostname)
        self.dns = FakeResolver()
        world = self.world
        self.rotation = KeyRotation(
            world.database,
            world.bus,
            world.keys,
            self.dns,
            world.clock,
            world.key,
            hostname=hostname,
            terms=RotationTerms(every=every, keep=10 * DAY),
        )
        self.signing = HostSigning(Signing(world.keys), hostname)
        if domain:
            asyncio.run(world.administration.add_domain(domain))

    def keys(self, name: str = NAME) -> list[KeyInfo]:
        return asyncio.run(self.rotation.keys_of(name))

    def states(self, name: str = NAME) -> list[str]:
        return [each.state.value for each in self.keys(name)]

    def publish(self, name: str = NAME) -> None:
        for record, value in asyncio.run(self.world.keys.records(name)):
            self.dns.text(record, value.encode())

    def after(self, seconds: float) -> None:
        self.world.clock.now += seconds
        asyncio.run(self.rotation.step())

    def signers(self, name: str = NAME) -> list[str]:
        return [each.selector for each in asyncio.run(self.world.keys.active(name))]


def test_a_key_goes_through_its_states() -> None:
    house = House()
    assert house.states() == ["active"]
    old = house.signers()
    (new,) = asyncio.run(house.rotation.rotate(NAME))
    assert (new.state, new.selector) == ("published", old[0].replace("-ed", "-2-ed"))
    house.after(5 * DAY)
    assert house.signers() == old, "it signs before its record is there"
    house.publish()
    house.after(HOUR)
    assert house.states() == ["active", "published"]
    house.after(SETTLE - 1)
    assert house.signers() == old, "others may not have seen the record yet"
    house.after(1)
    assert house.signers() == [new.selector]
    assert house.states() == ["retired", "active"]
    assert len(asyncio.run(house.world.keys.records(NAME))) == 2, "letters signed with the old key are on their way"
    house.after(10 * DAY - 1)
    assert house.states() == ["retired", "active"]
    house.after(1)
    assert house.states() == ["withdrawn", "active"]
    assert [name for name, _ in asyncio.run(house.world.keys.records(NAME))] == [new.record_name]
    house.after(HOUR)
    assert house.states() == ["withdrawn", "active"], "its record is still there, so somebody has to be told"
    (finding,) = asyncio.run(house.rotation.findings(NAME))
    assert finding.remedy == f"take {old[0]}._domainkey.{NAME} out of DNS"
    del house.dns.text_records[f"{old[0]}._domainkey.{NAME}"]
    house.after(HOUR)
    assert house.states() == ["active"]


def test_a_record_that_goes_away_again_or_is_of_another_key_counts_for_nothing() -> None:
    house = House()
    old = house.signers()
    (new,) = asyncio.run(house.rotation.rotate(NAME))
    for text in (b"v=DKIM1; k=ed25519; p=", b"v=spf1 -all", b"v=DKIM1; p=" + new.public_key.encode(), b"\xff=;;"):
        house.dns.text(new.record_name, text)
        house.after(SETTLE)
        house.after(SETTLE)
        assert house.signers() == old, text
    house.publish()
    house.after(HOUR)
    del house.dns.text_records[new.record_name]
    house.after(SETTLE)
    house.publish()
    house.after(HOUR)
    assert house.signers() == old
    house.dns.broken = {new.record_name}
    house.after(SETTLE)
    assert house.signers() == old, "DNS has not answered"
    house.dns.broken = set()
    house.after(HOUR)
    assert house.signers() == [new.selector], "what was seen before the fault counts"


def test_a_clock_that_was_set_back_waits_anew() -> None:
    house = House()
    (new,) = asyncio.run(house.rotation.rotate(NAME))
    house.publish()
    house.after(HOUR)
    house.after(-DAY)
    house.after(SETTLE - 1)
    assert new.selector not in house.signers()
    house.after(1)
    assert house.signers() == [new.selector]


def test_a_clock_that_is_put_forward_makes_nobody_see_a_record_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    old = house.signers()
    (new,) = asyncio.run(house.rotation.rotate(NAME))
    house.publish()
    house.after(HOUR)
    clock, skew = house.world.clock, 0.0
    monkeypatch.setattr(clock, "monotonic", lambda: clock.now - skew)
    skew = 30 * DAY
    house.after(skew)
    house.after(SETTLE - 1)
    assert house.signers() == old
    house.after(1)
    assert house.signers() == [new.selector]
    house.after(HOUR)
    assert house.states() == ["retired", "active"]
    skew += 30 * DAY
    house.after(30 * DAY)
    assert house.states() == ["retired", "active"], "its record would go while letters need it"
    house.after(10 * DAY)
    assert house.states() == ["withdrawn", "active"]


def test_what_was_seen_before_a_restart_counts() -> None:
    house = House()
    (new,) = asyncio.run(house.rotation.rotate(NAME))
    house.publish()
    house.after(HOUR)
    house.rotation._begun.clear()
    house.after(SETTLE)
    assert house.signers() == [new.selector]


def test_a_signing_key_whose_record_is_gone_is_told_until_it_is_back() -> None:
    house = House()
    (key,) = house.keys()
    house.publish()
    house.after(HOUR)
    assert house.rotation.lost() == []
    del house.dns.text_records[key.record_name]
    house.after(HOUR)
    house.after(HOUR)
    (finding,) = house.rotation.lost()
    assert (finding.level, key.record_name in finding.remedy) == ("error", True)
    house.dns.broken = {key.record_name}
    house.after(HOUR)
    assert len(house.rotation.lost()) == 1, "silence is no news"
    house.dns.broken = set()
    house.publish()
    house.after(HOUR)
    house.after(HOUR)
    assert house.rotation.lost() == []
    house.dns.text_records.clear()
    house.after(HOUR)
    assert house.rotation.lost()
    asyncio.run(house.world.administration.remove_domain(NAME))
    house.after(HOUR)
    assert house.rotation.lost() == []


def test_signing_keys_are_looked_for_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WATCHED", 2)
    house = House()
    for number in range(4):
        asyncio.run(house.world.administration.add_domain(f"d{number}.test"))
    for seen in (2, 4, 5):
        house.after(HOUR)
        assert len(house.rotation.lost()) == seen
    house = House()
    asyncio.run(house.world.administration.add_domain("other.test"))
    house.dns.broken = {house.keys()[0].record_name}
    house.after(HOUR)
    assert house.rotation.lost() == []
    house.after(HOUR)
    assert len(house.rotation.lost()) == 1, "dead DNS of one domain keeps no other from being looked at"


def test_by_age_and_not_while_one_waits() -> None:
    house = House(every=30 * DAY)
    house.after(30 * DAY - 1)
    assert house.states() == ["active"]
    house.after(1)
    house.after(60 * DAY)
    assert house.states() == ["active", "published"]
    (finding,) = asyncio.run(house.rotation.findings(NAME))
    assert finding.remedy.startswith("add the record ph")
    house.publish()
    house.after(HOUR)
    house.after(SETTLE)
    house.after(30 * DAY - 1)
    assert house.states() == ["withdrawn", "active"]
    house.after(1)
    assert house.states() == ["withdrawn", "active", "published"]


def refused(house: House, verb: str, *words: str, **options: bool) -> str:
    with pytest.raises(Refusal) as caught:
        asyncio.run(getattr(house.rotation, verb)(*words, **options))
    return caught.value.text


def test_by_hand() -> None:
    house = House()
    (old,) = house.keys()
    assert "no key of example.test waits" in refused(house, "activate", NAME)
    (new,) = asyncio.run(house.rotation.rotate(NAME))
    assert "wait for their records" in refused(house, "rotate", NAME)
    assert "DNS does not show" in refused(house, "activate", NAME)
    assert "signs letters" in refused(house, "remove", NAME, old.selector)
    asyncio.run(house.rotation.remove(NAME, new.selector))
    assert house.states() == ["active"]
    (new,) = asyncio.run(house.rotation.rotate(NAME))
    asyncio.run(house.rotation.activate(NAME, unseen=True))
    assert house.signers() == [new.selector]
    asyncio.run(house.rotation.remove(NAME, old.selector))
    assert house.states() == ["active"]
    (new,) = asyncio.run(house.rotation.rotate(NAME))
    house.publish()
    asyncio.run(house.rotation.activate(NAME))
    assert house.signers() == [new.selector]
    assert "no key with the selector" in refused(house, "remove", NAME, "none")
    for verb in ("keys_of", "rotate", "activate"):
        assert "not served here" in refused(house, verb, "elsewhere.test")


def test_both_algorithms_change_each_for_itself() -> None:
    house = House(domain="")
    house.world.keys._algorithms = ("rsa", "ed25519")
    asyncio.run(house.world.administration.add_domain(NAME))
    rsa, ed25519 = asyncio.run(house.rotation.rotate(NAME))
    house.dns.text(ed25519.record_name, ed25519.record.encode())
    house.after(HOUR)
    house.after(SETTLE)
    (old, *_) = [each.selector for each in house.keys(NAME)]
    assert house.signers() == [old, ed25519.selector]
    house.dns.text(rsa.record_name, rsa.record.encode())
    house.after(HOUR)
    house.after(SETTLE)
    assert house.signers() == [rsa.selector, ed25519.selector]


def test_a_removed_domain_takes_its_keys_with_it() -> None:
    house = House()
    asyncio.run(house.rotation.rotate(NAME))
    asyncio.run(house.world.administration.remove_domain(NAME))
    assert asyncio.run(house.rotation._infos(None)) == []


# --- the host's own name --------------------------------------------------------------------------


def test_a_host_below_its_domain_needs_no_key() -> None:
    house = House()
    asyncio.run(house.rotation.ensure_own_key())
    assert house.keys("mail.example.test") == []
    assert domains(house) == [NAME]


def domains(house: House) -> list[str]:
    """Whose signatures a report of the house has, all of them good."""
    report = b"From: MAILER-DAEMON@mail.example.test\r\n\r\nIt failed.\r\n"
    letter = asyncio.run(house.signing.sign(report, house.world.clock.now))
    header, _, body = letter.partition(b"\r\n\r\n")
    records = {each.record_name: each.record.encode() for each in asyncio.run(house.rotation._infos(None))}
    found = verify(header + b"\r\n", body, records.get)
    assert all(each.result == "pass" for each in found)
    assert letter.endswith(report)
    return [each.domain for each in found]


def test_a_host_of_another_domain_has_a_key_of_its_own_until_one_comes() -> None:
    house = House(hostname="mx.provider.test")
    own = "mx.provider.test"
    for _ in range(2):
        asyncio.run(house.rotation.ensure_own_key())
        assert house.states(own) == ["published"]
    assert domains(house) == [], "its record is not in DNS"
    (finding,) = asyncio.run(house.rotation.findings(NAME))
    assert "reports are not signed" in finding.text
    house.publish(own)
    house.after(HOUR)
    house.after(SETTLE)
    assert house.states(own) == ["active"]
    assert domains(house) == [own]
    asyncio.run(house.world.administration.add_domain("provider.test"))
    house.after(HOUR)
    assert house.states(own) == ["retired"]
    assert domains(house) == ["provider.test"]
    asyncio.run(house.world.administration.remove_domain("provider.test"))
    house.after(HOUR)
    assert house.states(own) == ["retired", "published"]


def test_a_host_that_is_given_another_name() -> None:
    house = House(hostname="mx.provider.test", domain="")
    asyncio.run(house.rotation.ensure_own_key())
    asyncio.run(house.rotation.activate("mx.provider.test", unseen=True))
    house.rotation._hostname = "mx2.provider.test"
    asyncio.run(house.rotation.ensure_own_key())
    assert house.states("mx.provider.test") == ["retired"]
    assert house.states("mx2.provider.test") == ["published"]


def test_names_above_a_host() -> None:
    assert names_above("a.b.example.test") == ["a.b.example.test", "b.example.test", "example.test"]
    assert names_above("localhost") == ["localhost"]


def test_those_who_cache_are_told() -> None:
    house = House()
    asyncio.run(house.rotation.rotate(NAME))
    asyncio.run(house.world.keys.active(NAME))
    house.world.bus.published.clear()
    asyncio.run(house.rotation.activate(NAME, unseen=True))
    assert house.world.bus.published == [Change("directory")]
    assert len(asyncio.run(house.world.keys.active(NAME))) == 1
    assert Domain.parse(NAME).name == NAME


@pytest.mark.parametrize(
    "texts",
    [
        (b"v=DKIM1; k=ed25519; h=sha1; p=KEY",),
        (b"v=DKIM1; k=ed25519; s=tlsrpt; p=KEY",),
        (b"v=DKIM2; k=ed25519; p=KEY",),
        (b"k=ed25519; v=DKIM1; p=KEY",),
        (b"v=DKIM1; k=ed25519; p=KEY", b"v=spf1 -all"),
        (b"v=DKIM1; k=ed25519; p=", b"v=DKIM1; k=ed25519; p=KEY"),
    ],
)
def test_no_key_signs_by_a_record_that_does_not_verify_its_signatures(texts: tuple[bytes, ...]) -> None:
    house = House()
    old = house.signers()
    (new,) = asyncio.run(house.rotation.rotate(NAME))
    house.dns.text(new.record_name, *(text.replace(b"KEY", new.public_key.encode()) for text in texts))
    house.after(HOUR)
    house.after(SETTLE)
    assert house.signers() == old


def test_a_domain_that_is_removed_meanwhile_keeps_no_other_from_its_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(every=30 * DAY)
    asyncio.run(house.world.administration.add_domain("other.test"))
    make = house.world.keys.make

    async def making(now: float, **names: Any) -> Any:
        made = await make(now, **names)
        if NAME in [each.name for each in await house.world.administration.list_domains()]:
            await house.world.administration.remove_domain(NAME)
        return made

    monkeypatch.setattr(house.world.keys, "make", making)
    house.after(30 * DAY)
    assert house.states("other.test") == ["active", "published"]


def test_a_key_of_the_host_whose_record_is_gone_is_told() -> None:
    house = House(domain="")
    asyncio.run(house.rotation.begin())
    host = "mail.example.test"
    house.publish(host)
    asyncio.run(house.rotation.activate(host))
    assert asyncio.run(house.rotation.findings(NAME)) == []
    house.dns.text_records.clear()
    (finding,) = asyncio.run(house.rotation.findings(NAME))
    assert (finding.level, "signatures of reports fail" in finding.text) == ("error", True)
