# SPDX-License-Identifier: Apache-2.0
"""What a session must be like: DANE, MTA-STS and the operator's demands, one table for each."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from posthouse.mail.envelope import TlsWish
from posthouse.mailauth.mta_sts import policy_url
from posthouse.ports import ConnectFault, Target, TlsaRecord
from posthouse.services.protection import UNSIGNED, Guarded, Protection, Require, RuleBook, Rules
from posthouse.services.routing import Routing, StaticRoute
from posthouse.services.sts_policies import StsPolicies
from posthouse.services.tls_journal import TlsJournal
from posthouse.store import tls_results
from tests.fakes import EPOCH, FakeClock, FakeEntropy, FakeResolver, FakeWeb
from tests.store.plain_database import PlainDatabase
from tests.virtual_loop import run

GOOD = TlsaRecord(3, 1, 1, hashlib.sha256(b"key").digest())
UNUSABLE = TlsaRecord(1, 1, 1, hashlib.sha256(b"key").digest())
SIGNED = ("bob.test", "mx.bob.test", "_25._tcp.mx.bob.test")


class World:
    def __init__(self, rules: Rules | None = None) -> None:
        self.database, self.clock, self.resolver, self.web = PlainDatabase(), FakeClock(), FakeResolver(), FakeWeb()
        self.journal = TlsJournal(self.database, self.clock)
        self.policies = StsPolicies(self.database, self.resolver, self.web, self.clock)
        self.protection = Protection(self.resolver, self.policies, self.journal, RuleBook(rules or Rules()))
        self.routes: dict[str, StaticRoute] = {}
        self.resolver.domain("bob.test", (10, "mx.bob.test"))
        self.resolver.host("mx.bob.test", "192.0.2.1")

    def tlsa(self, *records: TlsaRecord, name: str = "_25._tcp.mx.bob.test", signed: tuple[str, ...] = SIGNED) -> None:
        self.resolver.tlsa_records[name] = list(records)
        self.resolver.signed |= set(signed)

    def sts(self, mode: str, mx: str = "*.bob.test", domain: str = "bob.test") -> None:
        self.resolver.text(f"_mta-sts.{domain}", b"v=STSv1; id=1")
        body = f"version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 86400\n"
        self.web.page(policy_url(domain), body.encode())

    async def guard(self, domain: str = "bob.test", *, wish: TlsWish = TlsWish.USUAL) -> Guarded:
        routing = Routing(self.resolver, FakeEntropy(), "alice.test", routes=self.routes)
        (target,) = await routing.targets(domain)
        return await self.protection.guard(Target(**{k: getattr(target, k) for k in Target.__slots__} | {"wish": wish}))

    async def refusal(self, **fields: object) -> ConnectFault:
        with pytest.raises(ConnectFault) as caught:
            await self.guard(**fields)  # type: ignore[arg-type]  # a test's short cut
        assert caught.value.is_policy
        assert caught.value.outcome.is_deferred
        return caught.value

    async def counted(self, domain: str = "bob.test") -> list[tuple[str, str, str]]:
        await self.journal.flush()
        rows = self.database.look(lambda reader: tls_results.of_day(reader, int(EPOCH // 86400), domain))
        return [(row.policy_type, row.result, row.reason) for row, _ in rows]


def play(script, **fields):
    async def story():
        world = World(**fields)
        await script(world)
        await world.journal.stop()

    run(story())


def test_nothing_published_means_opportunistic():
    async def script(world):
        found = await world.guard()
        assert (found.target.tls, found.target.dane, found.policy.kind) == ("opportunistic", None, "no-policy-found")

    play(script)


# --- DANE -----------------------------------------------------------------------------------------


def test_dane_with_a_signed_way():
    async def script(world):
        world.tlsa(GOOD)
        world.sts("enforce", "mx.eve.test")  # it would refuse this host, but is not asked (RFC 8461 §2)
        found = await world.guard()
        target = found.target
        assert (target.tls, target.is_way_sure, target.trust) == ("dane", True, "")
        assert (target.dane.records, target.dane.base) == ((GOOD,), "mx.bob.test")
        assert target.dane.names == ("mx.bob.test", "bob.test")  # RFC 7672 §3.2.2
        assert (found.policy.kind, found.policy.lines) == ("tlsa", (str(GOOD),))
        assert world.web.asked == []

    play(script)


def test_dane_behind_an_unsigned_mx_record():
    """RFC 7672 §2.2.1: the host is authenticated, the way to it is not, and the words say so."""

    async def script(world):
        world.tlsa(GOOD, signed=SIGNED[1:])
        target = (await world.guard()).target
        assert (target.tls, target.is_way_sure, target.trust) == ("dane", False, UNSIGNED)
        assert target.dane.names == ("mx.bob.test",)

    play(script)


@pytest.mark.parametrize("mode", ["enforce", "testing"])
def test_dane_behind_an_unsigned_mx_record_and_mta_sts(mode):
    """A failing DANE validation is not overridden, nor is an enforced policy."""

    async def script(world):
        world.tlsa(GOOD, signed=SIGNED[1:])
        world.sts(mode)
        found = await world.guard()
        assert found.target.dane is not None
        assert found.target.tls == ("verify" if mode == "enforce" else "dane")
        world.sts(mode, "mx.eve.test")
        world.resolver.text("_mta-sts.bob.test", b"v=STSv1; id=2")
        if mode == "enforce":
            await world.refusal()
        else:
            assert (await world.guard()).target.tls == "dane"

    play(script)


@pytest.mark.parametrize(
    ("signed", "is_asked"),
    [
        (("bob.test", "_25._tcp.mx.bob.test"), False),  # unsigned addresses: §2.2.2, not even asked
        (("bob.test", "mx.bob.test"), True),  # unsigned TLSA
    ],
)
def test_unsigned_records_count_for_nothing(signed, is_asked):
    async def script(world):
        world.tlsa(GOOD, signed=signed)
        assert (await world.guard()).target.tls == "opportunistic"
        assert ("_25._tcp.mx.bob.test" in world.resolver.asked) == is_asked

    play(script)


def test_unusable_records_mean_any_tls():
    async def script(world):
        world.tlsa(UNUSABLE)
        found = await world.guard()
        assert (found.target.tls, found.target.dane, found.policy.kind) == ("require", None, "tlsa")
        assert found.trouble.result == "tlsa-invalid"
        world.sts("enforce")
        found = await world.guard()
        assert (found.target.tls, found.target.trust) == ("verify", "MTA-STS")

    play(script)


def test_tlsa_questions_that_fail_make_the_host_unreachable():
    async def script(world):
        world.tlsa(GOOD)
        world.resolver.broken.add("_25._tcp.mx.bob.test")
        fault = await world.refusal()
        assert str(fault.outcome.status) == "4.4.3"
        assert await world.counted() == [("tlsa", "dnssec-invalid", "SERVFAIL for _25._tcp.mx.bob.test")]

    play(script)


@pytest.mark.parametrize(
    ("signed", "at", "base"),
    [
        # Secure CNAME: the expanded name first, then the name itself.
        (("mx.bob.test",), ("host.provider.test", "mx.bob.test"), "host.provider.test"),
        (("mx.bob.test",), ("mx.bob.test",), "mx.bob.test"),
        # Insecure target: the alias alone, where its own zone is signed.
        (("mx.bob.test CNAME",), ("host.provider.test", "mx.bob.test"), "mx.bob.test"),
        ((), ("host.provider.test", "mx.bob.test"), None),
    ],
)
def test_aliases(signed, at, base):
    """RFC 7672 §2.2.2."""

    async def script(world):
        world.resolver.aliases["mx.bob.test"] = "host.provider.test"
        world.resolver.signed = {"bob.test", *signed}
        for name in at:
            world.tlsa(GOOD, name=f"_25._tcp.{name}", signed=(f"_25._tcp.{name}",))
        target = (await world.guard()).target
        assert (None if target.dane is None else target.dane.base) == base
        if base is not None:
            assert target.dane.names == (base, "bob.test")

    play(script)


def test_a_domain_that_is_an_alias():
    """§3.2.2: the expanded next hop is a third name."""

    async def script(world):
        world.tlsa(GOOD)
        world.resolver.aliases["bob.test"] = "bob.provider.test"
        target = (await world.guard()).target
        assert target.dane.names == ("mx.bob.test", "bob.test", "bob.provider.test")

    play(script)


def test_a_domain_that_is_its_own_host():
    async def script(world):
        world.resolver.host("carol.test", "192.0.2.3")
        world.tlsa(GOOD, name="_25._tcp.carol.test", signed=("carol.test", "_25._tcp.carol.test"))
        target = (await world.guard("carol.test")).target
        assert (target.tls, target.is_way_sure, target.dane.names) == ("dane", True, ("carol.test",))

    play(script)


def test_a_fixed_route_is_a_domain_of_its_own():
    """RFC 7672 §2.2.3: its own port; RFC 8461 §3.4: its own policy."""

    async def script(world):
        world.routes["bob.test"] = StaticRoute("relay.test", 2525)
        world.resolver.host("relay.test", "192.0.2.9")
        world.sts("enforce", "relay.test", "relay.test")
        world.sts("enforce", "mx.eve.test", "bob.test")
        assert (await world.guard()).target.tls == "verify"
        world.tlsa(GOOD, name="_2525._tcp.relay.test", signed=("relay.test", "_2525._tcp.relay.test"))
        assert (await world.guard()).target.tls == "dane"

    play(script)


@pytest.mark.parametrize("tls", ["none", "require", "verify", "implicit"])
def test_a_route_that_says_what_its_tls_is_has_the_last_word(tls):
    async def script(world):
        world.routes["bob.test"] = StaticRoute("mx.bob.test", 25, tls)
        world.tlsa(GOOD)
        world.sts("enforce", "mx.eve.test", "mx.bob.test")
        found = await world.guard()
        assert (found.target.tls, found.target.dane) == (tls, None)

    play(script)


def test_addresses_are_not_asked_about():
    async def script(world):
        world.routes["bob.test"] = StaticRoute("192.0.2.1")
        assert (await world.guard()).target.proof is None
        assert (await world.guard("[192.0.2.5]")).target.proof is None

    play(script)


# --- MTA-STS --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "mx", "tls", "trouble"),
    [
        ("enforce", "*.bob.test", "verify", None),
        ("testing", "mx.bob.test", "try-verify", None),
        ("testing", "mx.eve.test", "opportunistic", "validation-failure"),
        ("none", "mx.eve.test", "opportunistic", None),
    ],
)
def test_policies(mode, mx, tls, trouble):
    async def script(world):
        world.sts(mode, mx)
        found = await world.guard()
        assert found.target.tls == tls
        assert (None if found.trouble is None else found.trouble.result) == trouble
        assert (found.policy.kind == "sts") == (mode != "none")
        if mode != "none":
            assert found.policy.patterns == (mx,)
        assert (found.target.trust == "MTA-STS") == (tls in ("verify", "try-verify"))

    play(script)


def test_a_host_that_an_enforced_policy_does_not_name():
    async def script(world):
        world.sts("enforce", "mx.eve.test")
        fault = await world.refusal()
        assert str(fault.outcome.status) == "4.7.5"
        assert "MTA-STS" in fault.outcome.diagnostic
        assert await world.counted() == [("sts", "validation-failure", "mtasts-policy-mx-mismatch")]

    play(script)


def test_a_policy_that_cannot_be_had_is_told():
    async def script(world):
        world.resolver.text("_mta-sts.bob.test", b"v=STSv1; id=1")
        assert (await world.guard()).target.tls == "opportunistic"
        assert [row[:2] for row in await world.counted()] == [("sts", "sts-policy-fetch-error")]

    play(script)


# --- demands --------------------------------------------------------------------------------------


def test_switched_off():
    async def script(world):
        world.tlsa(GOOD)
        world.sts("enforce", "mx.eve.test")
        assert (await world.guard()).target.tls == "opportunistic"
        assert world.web.asked == []
        assert "_25._tcp.mx.bob.test" not in world.resolver.asked

    play(script, rules=Rules(mta_sts=False, dane=False))


def test_an_exception_for_one_domain():
    async def script(world):
        world.sts("enforce", "mx.eve.test")
        world.protection.rules = RuleBook(Rules(), {"bob.test": Rules(mta_sts=False)})
        assert (await world.guard()).target.tls == "opportunistic"

    play(script)


def test_required_dane():
    async def script(world):
        fault = await world.refusal()
        assert fault.trouble.result == "dane-required"
        world.tlsa(GOOD, signed=SIGNED[1:])
        await world.refusal()  # RFC 7672 §2.2.1: an unsigned MX record delays it
        world.tlsa(UNUSABLE)
        await world.refusal()
        world.tlsa(GOOD)
        assert (await world.guard()).target.tls == "dane"
        assert ("no-policy-found", "dane-required", "no signed TLSA record behind a signed MX record") in (
            await world.counted()
        )

    play(script, rules=Rules(require=Require.DANE))


def test_required_authentication():
    async def script(world):
        await world.refusal()
        world.sts("testing")
        assert (await world.guard()).target.tls == "verify"
        world.resolver.text_records.clear()
        world.resolver.signed = {"bob.test"}
        world.protection.rules = RuleBook(Rules(mta_sts=False, require=Require.AUTHENTICATED))
        target = (await world.guard()).target
        assert (target.tls, target.is_way_sure) == ("verify", True), "a signed MX record and a trusted certificate"
        world.tlsa(GOOD)
        assert (await world.guard()).target.tls == "dane"

    play(script, rules=Rules(require=Require.AUTHENTICATED))


def test_required_tls():
    async def script(world):
        assert (await world.guard()).target.tls == "require"
        world.sts("testing")
        assert (await world.guard()).target.tls == "require"
        world.sts("enforce")
        world.resolver.text("_mta-sts.bob.test", b"v=STSv1; id=2")
        assert (await world.guard()).target.tls == "verify"

    play(script, rules=Rules(require=Require.TLS))


def test_a_letter_that_requires_tls():
    """RFC 8689 §4.2.1, and nothing of it is told to the recipient's domain."""

    async def script(world):
        fault = await world.refusal(wish=TlsWish.REQUIRED)
        assert str(fault.outcome.status) == "4.7.5"
        world.sts("testing")
        assert (await world.guard(wish=TlsWish.REQUIRED)).target.tls == "verify"
        world.tlsa(GOOD)
        assert (await world.guard(wish=TlsWish.REQUIRED)).target.tls == "dane"
        assert await world.counted() == []

    play(script)


@pytest.mark.parametrize("mode", ["enforce", "testing", "none"])
@pytest.mark.parametrize("is_had", [True, False])
def test_an_old_policy_does_not_judge_a_letter_while_a_newer_one_cannot_be_had(mode, is_had):
    """It is announced, and may name the host."""

    async def script(world):
        world.sts(mode, "old.bob.test")
        await world.policies.of("bob.test")
        world.resolver.text("_mta-sts.bob.test", b"v=STSv1; id=2")
        if not is_had:
            world.web.pages.clear()
        fault = await world.refusal(wish=TlsWish.REQUIRED)
        assert fault.trouble.is_judged == is_had

    play(script)


@pytest.mark.parametrize("why", ["dns broken", "dns silent", "web gone", "nothing there"])
@pytest.mark.parametrize("records", [(), (GOOD,), (UNUSABLE,)])
def test_what_is_not_known_now_does_not_judge_a_letter_that_requires_tls(why, records):
    """With the policy it would go: only where there is none for sure it is returned (RFC 8689 §4.2.1)."""

    async def script(world):
        world.sts("enforce")
        world.tlsa(*records, signed=SIGNED[1:])  # the MX record is not signed
        match why:
            case "dns broken":
                world.resolver.broken.add("_mta-sts.bob.test")
            case "dns silent":

                async def silence(_name):
                    await asyncio.sleep(3600)

                world.resolver.txt = silence
            case "web gone":
                world.web.pages.clear()
            case "nothing there":
                world.resolver.text_records.clear()
        fault = await world.refusal(wish=TlsWish.REQUIRED)
        assert fault.trouble.is_judged == (why == "nothing there")

    play(script)
