# SPDX-License-Identifier: Apache-2.0
"""What is counted of letters for DMARC reports, how it is written, and that strangers cannot make it grow."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import replace
from typing import Any

import pytest

from posthouse.mailauth.aggregate import Override
from posthouse.mailauth.arc import Chain, ChainResult
from posthouse.mailauth.author import Authors
from posthouse.mailauth.dkim_verify import SignatureResult, Verification
from posthouse.mailauth.dmarc import DmarcResult, DmarcVerdict, Policy
from posthouse.mailauth.dmarc_record import DmarcRecord, parse_record
from posthouse.mailauth.iprev import IprevResult, IprevVerdict
from posthouse.mailauth.spf import SpfResult, SpfVerdict
from posthouse.outcome import DNS_FAULT, NOT_AUTHORIZED, Refusal
from posthouse.ports import Conflict, StoreFault, Transaction
from posthouse.services import dmarc_tally
from posthouse.services.disposition import Action, Decision
from posthouse.services.dmarc_facts import facts_of, policy_said
from posthouse.services.dmarc_tally import DAY, FLUSH_SECONDS, DmarcTally, unpack_facts
from posthouse.services.verification import Findings
from posthouse.store import dmarc_counts
from posthouse.store.dmarc_counts import Counted
from tests.fakes import FakeClock, SetClock
from tests.store.plain_database import PlainDatabase
from tests.virtual_loop import run

ADDRESS = ipaddress.ip_address("192.0.2.7")
TAKEN = Decision(Action.ACCEPT)
RUA = "rua=mailto:r@author.test"


def record_of(text: str) -> DmarcRecord:
    found = parse_record(f"v=DMARC1; {text}".encode())
    assert found is not None
    return found


def found_of(verdict: DmarcVerdict, **more: object) -> Findings:
    spf = SpfVerdict(SpfResult.PASS, "bounce.author.test", "mailfrom")
    iprev = IprevVerdict(IprevResult.PASS, ADDRESS)
    found = Findings(ADDRESS, spf, iprev, (), Chain(ChainResult.NONE, 0), Authors((verdict.author,)), 1, (verdict,))
    return replace(found, **more)  # type: ignore[arg-type]


def passed(text: str = f"p=reject; {RUA}", author: str = "author.test") -> DmarcVerdict:
    return DmarcVerdict(DmarcResult.PASS, author, policy_domain="author.test", record=record_of(text), spf_aligned=True)


def failed(text: str = f"p=reject; {RUA}", asked: Policy = Policy.REJECT) -> DmarcVerdict:
    record = record_of(text)
    policy = asked.milder if record.is_test else asked
    return DmarcVerdict(
        DmarcResult.FAIL,
        "author.test",
        policy_domain="author.test",
        record=record,
        policy=policy,
        asked_policy=asked,
    )


REJECTED = Decision(Action.REJECT, Refusal(NOT_AUTHORIZED, "no"))


@pytest.mark.parametrize(
    ("verdict", "decision", "voucher", "disposition", "overrides"),
    [
        (passed(), TAKEN, "", "pass", ()),
        (passed(f"p=none; {RUA}"), TAKEN, "", "none", ()),
        (passed(f"p=reject; t=y; {RUA}"), TAKEN, "", "none", ()),
        (passed(f"p=reject; sp=none; {RUA}", "sub.author.test"), TAKEN, "", "none", ()),
        # Another check's matter: DMARC has let it pass.
        (passed(), Decision(Action.QUARANTINE, local="reverse DNS validation failed"), "", "pass", ()),
        (failed(), REJECTED, "", "reject", ()),
        (
            failed(),
            Decision(Action.QUARANTINE, local="a setting says quarantine instead of reject"),
            "",
            "quarantine",
            (Override("local_policy", "a setting says quarantine instead of reject"),),
        ),
        (
            failed(),
            Decision(Action.ACCEPT, local="the trusted sealer lists.test has seen DMARC pass (ARC)"),
            "lists.test",
            "none",
            (Override("trusted_forwarder", "the trusted sealer lists.test has seen DMARC pass (ARC)"),),
        ),
        (
            failed(f"p=reject; t=y; {RUA}"),
            Decision(Action.QUARANTINE),
            "",
            "quarantine",
            (Override("policy_test_mode"),),
        ),
        (failed(f"p=none; {RUA}", Policy.NONE), TAKEN, "", "none", ()),
        (
            failed(f"p=none; {RUA}", Policy.NONE),
            Decision(Action.REJECT, Refusal(NOT_AUTHORIZED, "no"), "SPF validation failed"),
            "",
            "reject",
            (Override("local_policy", "SPF validation failed"),),
        ),
    ],
)
def test_dispositions_and_why_they_are_not_what_the_owner_asks_for(
    verdict: DmarcVerdict, decision: Decision, voucher: str, disposition: str, overrides: tuple[Override, ...]
) -> None:
    facts = facts_of(found_of(verdict, voucher=voucher), verdict, decision, {"bob.test"})
    assert (facts.disposition, facts.overrides) == (disposition, overrides)


def test_identities() -> None:
    verdict = passed()
    facts = facts_of(found_of(verdict), verdict, TAKEN, {"bob.test"})
    assert (facts.header_from, facts.envelope_from, facts.envelope_to) == (
        "author.test",
        "bounce.author.test",
        "bob.test",
    )
    assert facts_of(found_of(verdict), verdict, TAKEN, {"bob.test", "c.test"}).envelope_to == ""
    null = found_of(verdict, spf=SpfVerdict(SpfResult.SOFTFAIL, "mx.author.test", "helo", reason="~all"))
    facts = facts_of(null, verdict, TAKEN, {"bob.test"})
    assert facts.envelope_from == ""
    assert facts.spf is not None
    assert (facts.spf.domain, facts.spf.scope, facts.spf.result, facts.spf.text) == (
        "mx.author.test",
        "mfrom",
        "softfail",
        "~all",
    )


def test_signatures_stand_in_the_order_of_the_rfc() -> None:
    """RFC 9990 §3.1.3."""

    def signature(domain: str, result: SignatureResult = SignatureResult.PASS) -> Verification:
        return Verification(result, domain, "s", "rsa-sha256")

    verdict = replace(passed(), dkim_aligned=("mail.author.test", "author.test"))
    told = (
        signature("bad.test", SignatureResult.FAIL),
        signature("esp.test"),
        signature("Mail.Author.Test"),
        signature("author.test"),
        Verification(SignatureResult.PERMERROR, "", "", ""),
    )
    facts = facts_of(found_of(verdict, signatures=told), verdict, TAKEN, {"bob.test"})
    assert [each.domain for each in facts.signatures] == ["author.test", "mail.author.test", "esp.test", "bad.test"]


def test_the_policy_is_told_with_its_defaults() -> None:
    verdict = passed(f"p=quarantine; np=reject; aspf=s; t=y; {RUA}")
    tags, rua, _ = policy_said(verdict)
    assert tags == ("author.test", "quarantine", "quarantine", "reject", "r", "s", "0", "y")
    assert rua == ("mailto:r@author.test",)


# --- counting -------------------------------------------------------------------------------------


class World:
    def __init__(self) -> None:
        self.database = PlainDatabase()
        self.clock = SetClock()
        self.tally = DmarcTally(self.database, self.clock)
        self.day = int(self.clock.now // DAY)

    def count(self, verdict: DmarcVerdict, *, is_report: bool = False, **more: object) -> None:
        self.tally.count(found_of(verdict, **more), TAKEN, {"bob.test"}, is_report=is_report)

    async def counted(self, domain: str = "author.test") -> list[Counted]:
        return await self.database.read(lambda reader: dmarc_counts.counted(reader, self.day, domain))


async def test_letters_of_which_the_same_is_to_be_told_are_one_row() -> None:
    world = World()
    for _ in range(3):
        world.count(passed())
    world.count(passed(), is_report=True)
    await world.tally.flush()
    world.count(passed())
    world.count(failed())
    await world.tally.close()
    rows = await world.counted()
    assert [(each.count, each.telling, unpack_facts(each.facts).is_pass) for each in rows] == [
        (5, 4, True),
        (1, 1, False),
    ]
    entry = await world.database.read(lambda reader: dmarc_counts.one_day(reader, world.day, "author.test"))
    assert entry is not None
    assert (entry.count, entry.telling, entry.omitted) == (6, 5, 0)


async def test_who_asks_for_nothing_is_not_counted_and_what_comes_again_neither() -> None:
    world = World()
    world.count(passed("p=reject"))
    world.count(DmarcVerdict(DmarcResult.NONE, "author.test"))
    later = Decision(Action.ACCEPT, Refusal(DNS_FAULT, "later"))
    world.tally.count(found_of(failed()), later, {"bob.test"}, is_report=False)
    DmarcTally(world.database, world.clock, is_on=False).count(found_of(passed()), TAKEN, (), is_report=False)
    await world.tally.close()
    assert await world.counted() == []


async def test_the_last_policy_of_the_day_is_told() -> None:
    world = World()
    world.count(passed())
    world.count(passed(f"p=none; {RUA}"))
    await world.tally.flush()
    world.count(passed(f"p=quarantine; {RUA}"))
    await world.tally.close()
    entry = await world.database.read(lambda reader: dmarc_counts.one_day(reader, world.day, "author.test"))
    assert entry is not None
    assert entry.policy[0][1] == "quarantine"


async def test_a_store_that_fails_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.count(passed())
    write = world.database.write

    async def fails(unit: object) -> None:
        raise StoreFault("no disk")

    monkeypatch.setattr(world.database, "write", fails)
    with pytest.raises(StoreFault):
        await world.tally.flush()
    world.count(passed())
    monkeypatch.setattr(world.database, "write", write)
    await world.tally.close()
    assert [each.count for each in await world.counted()] == [2]


async def test_counts_that_the_store_never_takes_hold_up_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr(dmarc_tally, "PAGE", 1)
    for name in ("a.test", "odd.test", "z.test"):
        world.count(replace(passed(), author=name, policy_domain=name))
    add = dmarc_counts.add

    def picky(tx: Transaction, day: int, domain: str, *rest: Any) -> None:
        if domain == "odd.test":
            raise Conflict("a rule of the schema")
        add(tx, day, domain, *rest)

    monkeypatch.setattr(dmarc_counts, "add", picky)
    await world.tally.flush()
    assert world.tally._waiting == {}
    await world.tally.close()
    days = await world.database.read(lambda reader: dmarc_counts.days(reader, world.day + 1, (-1, ""), 100))
    assert days == [(world.day, "a.test"), (world.day, "z.test")]


async def test_memory_and_rows_have_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dmarc_tally, "MAX_WAITING", 10)
    monkeypatch.setattr(dmarc_counts, "MAX_KINDS", 4)
    monkeypatch.setattr(dmarc_counts, "MAX_DOMAINS", 2)
    world = World()
    for number in range(20):
        world.count(passed(), address=ipaddress.ip_address(f"192.0.2.{number}"))
    assert len(world.tally._waiting) == 10
    await world.tally.flush()
    entry = await world.database.read(lambda reader: dmarc_counts.one_day(reader, world.day, "author.test"))
    assert entry is not None
    assert (len(await world.counted()), entry.omitted) == (4, 6)
    for name in ("b.test", "c.test", "d.test"):
        world.count(replace(passed(), author=name, policy_domain=name))
    await world.tally.close()
    days = await world.database.read(lambda reader: dmarc_counts.days(reader, world.day + 1, (-1, ""), 100))
    assert days == [(world.day, "author.test"), (world.day, "b.test")]


def test_what_was_counted_is_written_after_a_minute() -> None:
    async def main() -> list[Counted]:
        database, clock = PlainDatabase(), FakeClock()
        tally = DmarcTally(database, clock)
        tally.count(found_of(passed()), TAKEN, {"bob.test"}, is_report=False)
        day = int(clock.wall() // DAY)
        await asyncio.sleep(FLUSH_SECONDS - 1)
        assert await database.read(lambda reader: dmarc_counts.counted(reader, day, "author.test")) == []
        await asyncio.sleep(2)
        return await database.read(lambda reader: dmarc_counts.counted(reader, day, "author.test"))

    assert [each.count for each in run(main())] == [1]
