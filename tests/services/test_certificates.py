# SPDX-License-Identifier: Apache-2.0
"""Certificates over months of virtual time: had, renewed, given new keys; faults and crashes at every step."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from pathlib import Path

import pytest

from posthouse.net.disk import PosixDisk
from posthouse.outcome import Refusal
from posthouse.ports import AppendFile, StoreFault, WebFault
from posthouse.services.acme.words import Reason
from posthouse.services.acme.x509 import key_digest, key_kind, make_key
from posthouse.services.certificate_findings import findings_of
from posthouse.services.certificate_shelf import State
from posthouse.services.certificate_terms import Authority, CertificatePlan
from posthouse.services.certificates import Certificates
from posthouse.services.challenges import ChallengeKind
from posthouse.services.key_rollover import tlsa_name, tlsa_value
from tests.fakes import EPOCH, FakeEntropy
from tests.virtual_loop import run

from .authority import DIRECTORY, FakeAuthority, Problem
from .certificate_world import HOST, CertificateWorld

DAY = 86400.0
PLANS = {
    kind: CertificatePlan("main", (HOST, "mta-sts.example.test"), kind) for kind in ("http-01", "tls-alpn-01", "dns-01")
}


async def live(world: CertificateWorld, days: float) -> None:
    world.certificates.start()
    await asyncio.sleep(days * DAY)
    await world.certificates.stop()


@pytest.mark.parametrize("kind", ["http-01", "tls-alpn-01", "dns-01"])
def test_each_challenge(tmp_path: Path, kind: ChallengeKind) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path, PLANS[kind])
        world.ca.looks_per_validation = 3
        world.zone.lag = 20.0
        await live(world, 0.1)
        [status] = await world.certificates.list()
        assert (status.state, status.names) == ("good", (HOST, "mta-sts.example.test"))
        assert world.installed == 1
        served = world.shelf.served("main")
        assert served is not None
        assert served.facts.names == status.names
        assert world.zone.held == [], "nothing is left behind"
        assert world.challenges.tls_names() == {}
        assert world.challenges.http_answer("token-of-1-0000000000000000") is None
        assert world.ca.accounts[next(iter(world.ca.accounts))]["contact"] == ["mailto:admin@example.test"]

    run(main())


def test_no_proof_is_given_of_a_name_that_was_not_ordered(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.ca.wants_proof_of = "other.test"
        await live(world, 0.1)
        [status] = await world.certificates.list()
        assert status.state != "good"
        assert "other.test: the authority asks for a proof" in status.error
        assert "challenge" not in world.ca.asked

    run(main())


def test_renewals_keep_the_key_and_come_in_time(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.ca.has_renewal_info, world.ca.days = False, 12.0
        await live(world, 60)
        orders = list(world.ca.orders.values())
        assert len(orders) == 8, "every 7.6 to 8 days"
        [status] = await world.certificates.list()
        assert status.expires_at is not None
        assert status.expires_at > world.clock.wall() + 4 * DAY
        digests = world.certificates.digests(HOST)
        assert digests.present == status.key_digest
        assert world.certificates.first_end == status.expires_at
        assert world.shelf.state("main").renewals == len(orders) - 1

    run(main())


def test_short_lives(tmp_path: Path) -> None:
    async def main() -> None:
        plan = CertificatePlan("main", (HOST,), "http-01", profile="shortlived")
        world = CertificateWorld(tmp_path, plan)
        world.ca.days, world.ca.has_renewal_info = 6.0, False
        await live(world, 30)
        assert 7 <= len(world.ca.orders) <= 9
        assert {order.profile for order in world.ca.orders.values()} == {"shortlived"}

    run(main())


def test_the_authority_says_when(tmp_path: Path) -> None:
    """RFC 9773: a window far before the usual time, and then one in the past: a certificate that is to be revoked."""

    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.ca.window = (EPOCH + 10 * DAY, EPOCH + 12 * DAY)
        await live(world, 9.9)
        assert len(world.ca.orders) == 1
        first = world.shelf.served("main")
        assert first is not None
        [status] = await world.certificates.list()
        assert status.renew_at is not None
        assert EPOCH + 10 * DAY <= status.renew_at <= EPOCH + 12 * DAY
        assert status.explanation == "https://ca.test/why"
        world.certificates.watch(lambda: setattr(world.ca, "window", (EPOCH + 60 * DAY, EPOCH + 61 * DAY)))
        world.certificates.start()
        await asyncio.sleep(2.2 * DAY)
        world.ca.window = (EPOCH - DAY, EPOCH)
        assert len(world.ca.orders) == 2
        assert world.ca.orders[2].replaces == first.facts.renewal_id
        await asyncio.sleep(0.5 * DAY)
        await world.certificates.stop()
        assert len(world.ca.orders) == 3, "at once, when it is heard of"

    run(main())


def test_renewal_information_is_asked_for_as_the_authority_wants(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.ca.window, world.ca.retry_after = (EPOCH + 60 * DAY, EPOCH + 61 * DAY), "3600"
        await live(world, 1)
        assert 24 <= world.ca.asked.count("renewal") <= 26
        world.ca.asked.clear()
        world.ca.window = None  # 503: RFC 9773 §4.3.3
        await live(world, 1)
        assert 4 <= world.ca.asked.count("renewal") <= 6, "every six hours"

    run(main())


@pytest.mark.parametrize("window", [(EPOCH + DAY, EPOCH + DAY), (EPOCH + DAY, EPOCH)])
def test_a_window_that_ends_before_it_begins_is_none(tmp_path: Path, window: tuple[float, float]) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.ca.window = window
        await live(world, 5)
        assert len(world.ca.orders) == 1
        assert world.shelf.state("main").window is None

    run(main())


def test_a_replacement_that_is_refused_is_ordered_without(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.ca.window = (EPOCH + 50 * DAY, EPOCH + 51 * DAY)
        await live(world, 0.1)
        world.ca.replaced = {served.facts.renewal_id for served in [world.shelf.served("main")] if served}
        world.certificates.start()
        await world.certificates.renew("main")
        await world.certificates.stop()
        assert [order.replaces for order in world.ca.orders.values()] == ["", ""]
        assert world.ca.asked.count("new-order") == 3

    run(main())


def test_what_fails_is_tried_again_ever_more_rarely(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.ca.look = lambda *_: False
        world.certificates.start()
        await asyncio.sleep(DAY)
        tries = world.ca.asked.count("new-order")
        assert 6 <= tries <= 8
        [status] = await world.certificates.list()
        assert (status.state, status.expires_at) == ("waiting", None)
        assert "http-01 has failed: not what was expected (unauthorized)" in status.error
        assert status.retry_at is not None
        assert status.retry_at > world.clock.wall()
        world.ca.look = world.look
        await asyncio.sleep(6.1 * 3600)
        await world.certificates.stop()
        [status] = await world.certificates.list()
        assert (status.state, status.error, status.retry_at) == ("good", "", None)
        page = world.metrics.page().decode()
        assert f'posthouse_certificate_orders_total{{result="failed"}} {tries}.0' in page
        assert 'posthouse_certificate_orders_total{result="issued"} 1.0' in page

    run(main())


def test_a_restart_forgets_no_failure(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.ca.look = lambda *_: False
        await live(world, 0.1)
        before = world.ca.asked.count("new-order")
        again = CertificateWorld(tmp_path, keeps=world.ca)
        await live(again, 0.01)
        assert world.ca.asked.count("new-order") == before

    run(main())


def test_a_rate_limit_is_kept(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.ca.refuse = [
            Problem("rateLimited", "too many", status=429, headers={"retry-after": str(2 * 86400)}) for _ in range(2)
        ]
        await live(world, 1.9)
        assert world.ca.asked.count("new-account") == 1
        await live(world, 3)
        assert (await world.certificates.list())[0].state == "good"

    run(main())


@pytest.mark.parametrize(
    "fault",
    [
        WebFault("ca.test: no connection"),
        Problem("serverInternal", "busy", status=500),
        Problem("badCSR"),
        Problem("userActionRequired", "new terms", status=403),
    ],
    ids=["silent", "busy", "csr", "terms"],
)
@pytest.mark.parametrize("step", range(1, 9))
def test_a_fault_at_any_step_leaves_what_is_served(tmp_path: Path, fault: Problem | WebFault, step: int) -> None:
    """The n-th request of a renewal fails; the next attempt succeeds."""

    async def main() -> None:
        world = CertificateWorld(tmp_path)
        await live(world, 0.1)
        before = (tmp_path / "acme" / "main" / "served.pem").read_bytes()
        world.certificates.start()
        last = world.ca.posts
        world.ca.refuse_at = {last + step: fault}
        try:
            await world.certificates.renew("main")
        except Refusal:
            assert (tmp_path / "acme" / "main" / "served.pem").read_bytes() == before
            assert (await world.certificates.list())[0].state == "failing"
            await world.certificates.renew("main")
        assert world.ca.posts >= last + step, "the fault has happened"
        await world.certificates.stop()
        [status] = await world.certificates.list()
        assert status.state == "good"
        assert (tmp_path / "acme" / "main" / "served.pem").read_bytes() != before

    run(main())


def test_nonces_that_are_refused(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.ca.refuse = [Problem("badNonce") for _ in range(5)]
        await live(world, 0.001)
        assert (await world.certificates.list())[0].state == "good"

    run(main())


def test_an_account_that_is_gone_is_made_again(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        await live(world, 0.1)
        world.ca.accounts.clear()
        world.certificates.start()
        assert (await world.certificates.renew("main")).state == "good"
        await world.certificates.stop()
        assert len(world.ca.accounts) == 1

    run(main())


def test_an_account_key_that_was_removed_begins_anew(tmp_path: Path) -> None:
    """As the server advises where it cannot read it: the accounts were that key's."""

    async def main() -> None:
        world = CertificateWorld(tmp_path)
        await live(world, 0.1)
        (tmp_path / "acme" / "account.pem").write_bytes(b"nonsense")
        again = CertificateWorld(tmp_path, keeps=world.ca)
        again.certificates.start()
        with pytest.raises(StoreFault, match="remove it to begin anew"):
            await again.certificates.renew("main")
        (tmp_path / "acme" / "account.pem").unlink()
        assert (await again.certificates.renew("main")).state == "good"
        await again.certificates.stop()
        assert len(again.ca.accounts) == 2

    run(main())


def test_a_changed_contact_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        await live(world, 0.1)
        again = CertificateWorld(tmp_path, authority=Authority(DIRECTORY, ("new@example.test",)), keeps=world.ca)
        again.certificates.start()
        await again.certificates.renew("main")
        await again.certificates.stop()
        [account] = world.ca.accounts.values()
        assert account["contact"] == ["mailto:new@example.test"]

    run(main())


def test_external_account_binding(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.ca.mac_keys = {"kid-1": b"secret of kid-1"}
        await live(world, 0.001)
        assert "acme.eab_key_id" in (await world.certificates.list())[0].error
        bound = Authority(DIRECTORY, (), "kid-1", b"secret of kid-1")
        again = CertificateWorld(tmp_path / "again", authority=bound, keeps=world.ca)
        await live(again, 0.001)
        assert (await again.certificates.list())[0].state == "good"

    run(main())


def test_another_authority_is_asked_at_once(tmp_path: Path) -> None:
    """From an authority's stage to its real one."""

    async def main() -> None:
        world = CertificateWorld(tmp_path)
        await live(world, 0.1)
        state = world.shelf.state("main")
        state.directory = "https://stage.test/dir"
        world.shelf.keep_state("main", state)
        await live(world, 0.1)
        assert len(world.ca.orders) == 2
        assert world.ca.orders[2].replaces == ""

    run(main())


def test_more_names_are_asked_for_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        await live(world, 0.1)
        again = CertificateWorld(tmp_path, PLANS["http-01"], keeps=world.ca)
        await live(again, 0.1)
        served = again.shelf.served("main")
        assert served is not None
        assert set(served.facts.names) == {HOST, "mta-sts.example.test"}

    run(main())


def test_certificates_by_hand_win(tmp_path: Path) -> None:
    async def main() -> None:
        plans = (CertificatePlan("main", (HOST,), "http-01"), CertificatePlan("web", ("web.test",), "http-01"))
        world = CertificateWorld(tmp_path, *plans, by_hand=["*.example.test"])
        await live(world, 1)
        assert [each.state for each in await world.certificates.list()] == ["by hand", "good"]
        assert len(world.ca.orders) == 1
        assert world.certificates.digests(HOST).present == ""

    run(main())


def test_a_clock_that_is_years_ahead_does_not_order_without_end(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        await live(world, 0.1)
        world.clock.skew = 3 * 365 * DAY
        world.ca.clock = FakeAuthority.__new__(FakeAuthority)  # type: ignore[assignment]
        world.ca.clock.wall = lambda: world.clock.wall() - world.clock.skew  # type: ignore[method-assign, attr-defined]
        await live(world, 1)
        assert len(world.ca.orders) <= 6

    run(main())


@pytest.mark.parametrize(("life", "begins"), [(-1.0, 0.0), (90.0, 2 * DAY)])
def test_a_certificate_that_is_not_good_now_replaces_nothing(tmp_path: Path, life: float, begins: float) -> None:
    """It has ended already, or begins the day after tomorrow; then it is taken when its time has come."""

    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.certificates.start()
        await asyncio.sleep(60)
        before = world.shelf.served("main")
        world.ca.days, world.ca.begins = (90.0, begins) if begins else (1.0, -2 * DAY)
        with pytest.raises(Refusal, match="is the clock right"):
            await world.certificates.renew("main")
        still = world.shelf.served("main")
        assert still is not None
        assert before is not None
        assert still.certificate == before.certificate
        assert (await world.certificates.list())[0].state == "failing"
        world.ca.days, world.ca.begins = 90.0, 0.0
        await asyncio.sleep(3 * DAY)
        after = world.shelf.served("main")
        await world.certificates.stop()
        assert after is not None
        assert after.certificate != before.certificate
        assert len(world.ca.orders) == (2 if begins else 3), "what will be good is not ordered again"

    run(main())


def test_a_chain_that_the_tls_library_does_not_take_replaces_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.certificates.start()
        await asyncio.sleep(60)
        before = (tmp_path / "acme" / "main" / "served.pem").read_bytes()
        world.ca.weak_root = True
        with pytest.raises(Refusal, match="what the authority gave cannot be served"):
            await world.certificates.renew("main")
        assert (tmp_path / "acme" / "main" / "served.pem").read_bytes() == before
        assert sorted(each.name for each in (tmp_path / "acme" / "main").iterdir()) == ["served.pem", "state.json"]
        assert world.installed == 1
        world.ca.weak_root = False
        await asyncio.sleep(3600)
        await world.certificates.stop()
        assert (await world.certificates.list())[0].state == "good"
        assert world.installed == 2

    run(main())


def test_certificates_that_live_for_hours_are_renewed_in_time(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.ca.days, world.ca.has_renewal_info = 4 / 24, False
        world.certificates.start()
        for _ in range(200):
            await asyncio.sleep(300)
            [status] = await world.certificates.list()
            assert status.state == "good"
        await world.certificates.stop()
        assert 5 <= len(world.ca.orders) <= 8

    run(main())


def test_an_unforeseen_fault_is_tried_again_ever_more_rarely(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And told as others are; a look at another certificate does not bring it forward."""

    async def main() -> None:
        plans = [CertificatePlan("main", (HOST,), "http-01"), CertificatePlan("web", ("web.example.test",), "http-01")]
        world = CertificateWorld(tmp_path, *plans)
        real, asked = world.shelf.state, []

        def state(name: str) -> State:
            if name == "main":
                asked.append(world.clock.monotonic())
                raise ZeroDivisionError("of a kind that nobody expects")
            return real(name)

        world.shelf.state = state  # type: ignore[method-assign]
        begun = world.clock.monotonic()
        world.certificates.start()
        for _ in range(8 * 60):
            await asyncio.sleep(60)
            world.certificates._wake.set()
        assert [round((moment - begun) / 600) for moment in asked] == [0, 1, 4, 10, 22, 46]
        world.shelf.state = real  # type: ignore[method-assign]
        [status, other] = await world.certificates.list()
        assert (status.state, other.state) == ("waiting", "good")
        assert "nobody expects" in status.error
        assert status.retry_at is not None
        assert status.retry_at > world.clock.wall() + 3 * 3600
        await world.certificates.renew("main")
        assert (await world.certificates.list())[0].error == ""
        await world.certificates.stop()

    run(main())
    said = capsys.readouterr()
    assert (said.out + said.err).count("Traceback") == 1


def test_the_end_of_what_fails_is_measured_after_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        await live(world, 0.1)
        world.shelf.keep_state("main", State(failures=3, retry_at=world.clock.wall() + 7200.0, error="no"))
        again = CertificateWorld(tmp_path, keeps=world.ca)
        await live(again, 0.01)
        [status] = await again.certificates.list()
        assert again.certificates.first_end == status.expires_at

    run(main())


def test_a_clock_that_was_years_ahead_holds_nothing_back(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.ca.look = lambda *_: False
        world.clock.skew = 3 * 365 * DAY
        await live(world, 0.01)
        world.clock.skew = 0.0
        world.ca.look = world.look
        await live(world, 0.01)
        assert (await world.certificates.list())[0].state == "good"

    run(main())


def test_what_cannot_be_asked_for(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        with pytest.raises(Refusal, match="start it first"):
            await world.certificates.renew("main")
        world.certificates.start()
        with pytest.raises(Refusal, match="there is no certificate 'other'"):
            await world.certificates.renew("other")
        with pytest.raises(Refusal, match="whose key could be replaced"):
            await world.certificates.rollover("main")
        await world.certificates.stop()
        world.certificates._plans.clear()
        with pytest.raises(Refusal, match="no certificate is wanted"):
            await world.certificates.renew("main")

    run(main())


# --- keys -----------------------------------------------------------------------------------------


def test_the_first_certificate_takes_the_key_that_is_served_already(tmp_path: Path) -> None:
    """So that a TLSA record of the self-signed certificate stays right."""

    async def main() -> None:
        world = CertificateWorld(tmp_path, first_key=make_key("ec", FakeEntropy(7)))
        await live(world, 0.1)
        served = world.shelf.served("main")
        assert served is not None
        assert served.key.private_numbers() == make_key("ec", FakeEntropy(7)).private_numbers()
        assert world.shelf.next_key("main") is None

    run(main())


def test_one_by_hand_gives_its_key_to_the_one_that_will_follow_it(tmp_path: Path) -> None:
    """Nobody is asked while it wins, but for people who prepare the change."""

    async def main() -> None:
        key = make_key("ec", FakeEntropy(7))
        world = CertificateWorld(tmp_path, by_hand=[HOST], first_key=key)
        world.certificates.start()
        await asyncio.sleep(3600)
        assert world.ca.orders == {}
        status = await world.certificates.renew("main")
        await world.certificates.stop()
        assert (status.state, status.key_digest) == ("by hand", key_digest(key))

    run(main())


@pytest.mark.parametrize("is_noted", [True, False])
def test_a_first_key_of_another_kind_is_dropped_only_where_dns_does_not_tell_of_it(
    tmp_path: Path, is_noted: bool
) -> None:
    """`acme.key = "rsa"` with the self-signed certificate's EC key in a TLSA record: a rollover like any."""

    async def main() -> None:
        first = make_key("ec", FakeEntropy(7))
        plan = CertificatePlan("main", (HOST,), "http-01", key="rsa")
        world = CertificateWorld(tmp_path, plan, first_key=first)
        if is_noted:
            world.zone.put(tlsa_name(HOST), "TLSA", tlsa_value(key_digest(first)), 3600)
        world.certificates.start()
        await asyncio.sleep(1.9 * 3600)
        if is_noted:
            assert _digest(world) == key_digest(first), "less than two TTLs"
            assert len(world.zone.values(tlsa_name(HOST), "TLSA")) == 2
        await asyncio.sleep(3600)
        await world.certificates.stop()
        served = world.shelf.served("main")
        assert served is not None
        assert key_kind(served.key) == "rsa"
        assert len(world.ca.orders) == (2 if is_noted else 1)
        if is_noted:
            assert world.zone.values(tlsa_name(HOST), "TLSA") == [tlsa_value(_digest(world))]

    run(main())


def test_another_kind_of_key_in_the_settings_is_a_rollover(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        await live(world, 0.1)
        plan = CertificatePlan("main", (HOST,), "http-01", key="rsa")
        again = CertificateWorld(tmp_path, plan, keeps=world.ca)
        again.zone.put(tlsa_name(HOST), "TLSA", tlsa_value(_digest(world)), 3600)
        await live(again, 0.2)
        served = again.shelf.served("main")
        assert served is not None
        assert key_kind(served.key) == "rsa"
        assert again.zone.values(tlsa_name(HOST), "TLSA") == [tlsa_value(served.facts.key_digest)]

    run(main())


def test_a_wildcard_for_the_host_waits_for_dns_too(tmp_path: Path) -> None:
    async def main() -> None:
        first = make_key("ec", FakeEntropy(7))
        world = CertificateWorld(tmp_path, CertificatePlan("main", ("*.example.test",), "dns-01"), first_key=first)
        world.certificates.start()
        await asyncio.sleep(600)
        before = _digest(world)
        assert before == key_digest(first)
        world.zone.put(tlsa_name(HOST), "TLSA", tlsa_value(before), 3600)
        _, sight = await world.certificates.rollover("main")
        assert sight is not None
        assert sight.is_used
        await asyncio.sleep(1.9 * 3600)
        assert _digest(world) == before
        await world.certificates.stop()

    run(main())


def test_a_key_whose_record_went_while_the_server_was_down_is_not_taken(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.certificates.start()
        await asyncio.sleep(60)
        before = _digest(world)
        world.zone.put(tlsa_name(HOST), "TLSA", tlsa_value(before), 3600)
        status, _ = await world.certificates.rollover("main")
        await asyncio.sleep(1800)
        await world.certificates.stop()
        record = [
            each for each in await world.zone.records(tlsa_name(HOST), "TLSA") if status.next_digest in each.value
        ]
        await world.zone.change("example.test", add=[], remove=record)
        world.zone.fault = "the zone is edited by hand"
        await asyncio.sleep(3 * DAY)
        await live(world, 0.1)
        assert _digest(world) == before

    run(main())


def test_who_only_looks_disturbs_no_installation(tmp_path: Path) -> None:
    """Between the new certificate and the forgetting of what led to it somebody lists the certificates."""

    async def main() -> None:
        world = CertificateWorld(tmp_path)
        await live(world, 0.1)
        served = world.shelf.served("main")
        assert served is not None
        world.shelf.keep_next_key("main", served.key)
        state = world.shelf.state("main")
        [status] = await world.certificates.list()
        assert status.next_digest == ""
        assert world.certificates.digests(HOST).following == ""
        assert world.shelf.next_key("main") is not None
        assert world.shelf.state("main") == state

    run(main())


def test_a_rollover_where_nobody_uses_dane(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.certificates.start()
        await asyncio.sleep(60)
        [before] = await world.certificates.list()
        status, sight = await world.certificates.rollover("main")
        assert sight is not None
        assert not sight.is_used
        await asyncio.sleep(60)
        await world.certificates.stop()
        [after] = await world.certificates.list()
        assert after.key_digest == status.next_digest != before.key_digest
        assert after.next_digest == ""

    run(main())


def test_a_rollover_waits_for_dns(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        name = tlsa_name(HOST)
        world.certificates.start()
        await asyncio.sleep(60)
        [before] = await world.certificates.list()
        world.zone.put(name, "TLSA", tlsa_value(before.key_digest).upper(), 3600)
        world.zone.fault = "the zone is edited by hand"
        _, sight = await world.certificates.rollover("main")
        assert sight is not None
        assert sight.is_used
        assert not sight.is_shown
        await asyncio.sleep(3 * DAY)
        [waiting] = await world.certificates.list()
        assert waiting.key_digest == before.key_digest
        assert waiting.next_from is None
        digests = world.certificates.digests(HOST)
        assert (digests.present, digests.following) == (before.key_digest, waiting.next_digest)
        world.zone.put(name, "TLSA", tlsa_value(waiting.next_digest), 3600)
        seen_at = world.clock.wall()
        await asyncio.sleep(1.9 * 3600)
        assert (await world.certificates.list())[0].key_digest == before.key_digest, "less than two TTLs"
        await asyncio.sleep(0.5 * 3600)
        [after] = await world.certificates.list()
        assert after.key_digest == waiting.next_digest
        assert after.issued_at is not None
        assert after.issued_at >= seen_at + 2 * 3600
        await world.certificates.stop()

    run(main())


def test_a_clock_that_jumps_ahead_shortens_no_rollover(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.certificates.start()
        await asyncio.sleep(60)
        before = _digest(world)
        world.zone.put(tlsa_name(HOST), "TLSA", tlsa_value(before), 3600)
        await world.certificates.rollover("main")
        world.clock.skew = 10 * 3600.0
        await asyncio.sleep(1.9 * 3600)
        assert _digest(world) == before
        await asyncio.sleep(0.5 * 3600)
        assert _digest(world) != before
        await world.certificates.stop()

    run(main())


def test_a_clock_that_was_ahead_does_not_hold_a_rollover_back(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.certificates.start()
        await asyncio.sleep(60)
        before = _digest(world)
        world.zone.put(tlsa_name(HOST), "TLSA", tlsa_value(before), 3600)
        world.clock.skew = 10 * DAY
        await world.certificates.rollover("main")
        await world.certificates.stop()
        world.clock.skew = 0.0
        await live(world, 0.2)
        assert _digest(world) != before

    run(main())


def test_a_record_that_goes_away_again_stops_the_rollover(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.certificates.start()
        await asyncio.sleep(60)
        [before] = await world.certificates.list()
        world.zone.put(tlsa_name(HOST), "TLSA", tlsa_value(before.key_digest), 3600)
        status, _ = await world.certificates.rollover("main")
        assert status.next_from is not None
        world.zone.held = [each for each in world.zone.held if each.value == tlsa_value(before.key_digest)]
        world.zone.fault = "no more"
        await asyncio.sleep(DAY)
        [after] = await world.certificates.list()
        assert (after.key_digest, after.next_from) == (before.key_digest, None)
        await world.certificates.stop()

    run(main())


def test_a_new_key_with_every_second_renewal(tmp_path: Path) -> None:
    """Over a year: each next key's record stands beside the present one's, and the old one's goes."""

    async def main() -> None:
        plan = CertificatePlan("main", (HOST,), "http-01", rollover=2)
        world = CertificateWorld(tmp_path, plan)
        world.ca.has_renewal_info, world.ca.days = False, 12.0
        seen: list[str] = []
        world.certificates.watch(lambda: seen.append(_digest(world)))
        world.certificates.start()
        await asyncio.sleep(60)
        world.zone.put(tlsa_name(HOST), "TLSA", tlsa_value(seen[0]), 3600)
        await asyncio.sleep(55 * DAY)
        await world.certificates.stop()
        kept = [a == b for a, b in itertools.pairwise(seen)]
        assert kept == [True, False, True, False, True, False, True]
        assert world.zone.values(tlsa_name(HOST), "TLSA") == [tlsa_value(seen[-1])]

    run(main())


def _digest(world: CertificateWorld) -> str:
    served = world.shelf.served("main")
    assert served is not None
    return served.facts.key_digest


def test_a_new_key_at_once(tmp_path: Path) -> None:
    """A key that somebody has stolen: DNS may still tell the old one."""

    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.certificates.start()
        await asyncio.sleep(60)
        [before] = await world.certificates.list()
        world.zone.put(tlsa_name(HOST), "TLSA", tlsa_value(before.key_digest), 3600)
        after = await world.certificates.renew("main", new_key=True)
        assert after.key_digest != before.key_digest
        assert world.zone.values(tlsa_name(HOST), "TLSA") == [tlsa_value(after.key_digest)]
        await world.certificates.stop()

    run(main())


# --- revocation -----------------------------------------------------------------------------------


def test_a_stolen_key(tmp_path: Path) -> None:
    """Revoked by the key itself, and another key and certificate at once; the next key lay beside it."""

    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.certificates.start()
        await asyncio.sleep(60)
        before = world.shelf.served("main")
        assert before is not None
        name = tlsa_name(HOST)
        world.zone.put(name, "TLSA", tlsa_value(before.facts.key_digest), 3600)
        waiting, _ = await world.certificates.rollover("main")
        status = await world.certificates.revoke("main", "key-compromise")
        assert world.ca.revoked == {before.certificate: (1, True)}
        assert (status.state, status.revoked_for, status.next_digest) == ("good", "", "")
        assert status.key_digest not in (before.facts.key_digest, waiting.next_digest)
        assert world.zone.values(name, "TLSA") == [tlsa_value(status.key_digest)]
        await asyncio.sleep(DAY)
        await world.certificates.stop()
        assert len(world.ca.orders) == 2

    run(main())


def test_a_stolen_key_that_is_no_account_key(tmp_path: Path) -> None:
    """RSA: our signatures are not of its kind, so the account revokes."""

    async def main() -> None:
        world = CertificateWorld(tmp_path, CertificatePlan("main", (HOST,), "http-01", key="rsa"))
        world.certificates.start()
        await asyncio.sleep(60)
        before = _digest(world)
        status = await world.certificates.revoke("main", "key-compromise")
        await world.certificates.stop()
        assert [*world.ca.revoked.values()] == [(1, False)]
        assert status.key_digest != before

    run(main())


@pytest.mark.parametrize(("reason", "code"), [("unspecified", None), ("superseded", 4)])
def test_another_reason_keeps_the_key(tmp_path: Path, reason: Reason, code: int | None) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.certificates.start()
        await asyncio.sleep(60)
        before = world.shelf.served("main")
        status = await world.certificates.revoke("main", reason)
        await world.certificates.stop()
        assert before is not None
        assert world.ca.revoked == {before.certificate: (code, False)}
        assert (status.state, status.key_digest) == ("good", before.facts.key_digest)
        assert len(world.ca.orders) == 2

    run(main())


def test_names_that_are_given_up(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.certificates.start()
        await asyncio.sleep(60)
        status = await world.certificates.revoke("main", "cessation-of-operation")
        assert (status.state, status.revoked_for) == ("revoked", "cessation-of-operation")
        assert findings_of([status])[0].level == "error"
        await asyncio.sleep(80 * DAY)
        assert len(world.ca.orders) == 1, "nothing more is asked for"
        assert (await world.certificates.renew("main")).state == "good"
        await world.certificates.stop()

    run(main())


def test_after_a_revocation_the_calendar_goes_on_trying(tmp_path: Path) -> None:
    """What is served stays meanwhile, and is told to be revoked; a restart forgets nothing of it."""

    async def main() -> None:
        world = CertificateWorld(tmp_path)
        await live(world, 0.1)
        before = _digest(world)
        world.certificates.start()
        world.ca.look = lambda *_: False
        status = await world.certificates.revoke("main", "key-compromise")
        assert (status.state, status.key_digest) == ("revoked", before)
        assert "http-01 has failed" in status.error
        assert "is revoked (key-compromise), and still served: " in findings_of([status])[0].text
        again_status = await world.certificates.revoke("main", "key-compromise")  # alreadyRevoked is what was wanted
        assert again_status.state == "revoked"
        await world.certificates.stop()
        again = CertificateWorld(tmp_path, keeps=world.ca)
        again.zone.put(tlsa_name(HOST), "TLSA", tlsa_value(before), 3600)
        again.zone.fault = "the zone is edited by hand"
        await live(again, 0.1)
        [after] = await again.certificates.list()
        assert after.state == "good"
        assert after.key_digest != before

    run(main())


def test_after_a_theft_no_order_for_a_key_that_lay_beside_it_is_taken_up(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        await live(world, 0.1)
        world.certificates.start()
        world.ca.begins = 2 * DAY
        with pytest.raises(Refusal, match="begins at"):
            await world.certificates.renew("main", new_key=True)
        beside = world.shelf.next_key("main")
        assert beside is not None
        assert world.shelf.state("main").order_url
        world.ca.begins = 0.0
        status = await world.certificates.revoke("main", "key-compromise")
        await world.certificates.stop()
        assert (status.state, status.error) == ("good", "")
        assert status.key_digest != key_digest(beside)

    run(main())


def test_a_revocation_while_nothing_is_served_is_followed_at_the_start(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        await live(world, 0.1)
        before = _digest(world)
        status = await world.certificates.revoke("main", "key-compromise")
        assert (status.state, status.error) == ("revoked", "")
        assert findings_of([status])[0].remedy == "start the server, which gets another one"
        await live(world, 0.1)
        assert (await world.certificates.list())[0].state == "good"
        assert _digest(world) != before

    run(main())


def test_what_cannot_be_revoked(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        with pytest.raises(Refusal, match="there is no certificate main yet"):
            await world.certificates.revoke("main", "superseded")
        await live(world, 0.1)
        world.ca.refuse = [Problem("unauthorized", "not yours", status=403)]
        with pytest.raises(Refusal, match=r"certificate main is not revoked: not yours \(unauthorized\)"):
            await world.certificates.revoke("main", "superseded")
        world.ca.revokes = False
        with pytest.raises(Refusal, match="revokes no certificates"):
            await world.certificates.revoke("main", "key-compromise")
        assert (await world.certificates.list())[0].state == "good"
        state = world.shelf.state("main")
        state.directory = "https://other.test/dir"
        world.shelf.keep_state("main", state)
        with pytest.raises(Refusal, match=r"is from https://other\.test/dir: set acme.directory"):
            await world.certificates.revoke("main", "superseded")

    run(main())


@pytest.mark.parametrize("changes", range(1, 6))
def test_a_power_cut_after_a_revocation(tmp_path: Path, changes: int) -> None:
    """The command is given once more where it has not ended; then the stolen key is served no more."""

    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.certificates.start()
        await asyncio.sleep(60)
        await world.certificates.rollover("main")
        await world.certificates.stop()
        stolen = {_digest(world), (await world.certificates.list())[0].next_digest}
        disk = _CutDisk(changes)
        cut = CertificateWorld(tmp_path, disk=disk, keeps=world.ca)
        with contextlib.suppress(_PowerCut):
            await cut.certificates.revoke("main", "key-compromise")
            await live(cut, 0.01)
        again = CertificateWorld(tmp_path, keeps=world.ca)
        if disk.left == 0 and (await again.certificates.list())[0].revoked_for == "":
            await again.certificates.revoke("main", "key-compromise")
        await live(again, 0.1)
        [status] = await again.certificates.list()
        assert status.state == "good"
        assert status.key_digest not in stolen

    run(main())


# --- the machine ----------------------------------------------------------------------------------


class _PowerCut(BaseException):
    pass


class _CutDisk(PosixDisk):
    """The power goes at the n-th change of a name."""

    def __init__(self, changes: int) -> None:
        self.left = changes

    def _cut(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise _PowerCut

    def rename(self, old: Path, new: Path) -> None:
        self._cut()
        super().rename(old, new)

    def unlink(self, path: Path) -> None:
        self._cut()
        super().unlink(path)


async def _a_life(certificates: Certificates, plan: CertificatePlan) -> None:
    """The first certificate, a renewal, a rollover."""
    await certificates.tend(plan)
    await certificates._attempt(await certificates._standing(plan), "renewal")
    standing = await certificates._keys.make_next(await certificates._standing(plan))
    standing.state.is_rollover_asked = True
    await certificates._keys.follow_next(standing)
    await certificates.tend(plan)


@pytest.mark.parametrize("changes", range(1, 16))
def test_a_power_cut_at_any_step(tmp_path: Path, changes: int) -> None:
    """Then another start gets it right, and key and chain fit always."""

    async def main() -> None:
        disk = _CutDisk(changes)
        world = CertificateWorld(tmp_path, disk=disk)
        with contextlib.suppress(_PowerCut):
            await _a_life(world.certificates, world.plans[0])
        assert disk.left <= 0, "a life has fewer changes than that"
        served = world.shelf.served("main")
        assert served is not None or not (tmp_path / "acme" / "main" / "served.pem").exists()
        again = CertificateWorld(tmp_path, keeps=world.ca)
        await live(again, 0.1)
        [status] = await again.certificates.list()
        assert status.state == "good"
        assert len(again.ca.accounts) == 1, "the key was durable before the authority heard of it"
        assert len([order for order in again.ca.orders.values() if order.chain]) <= 3

    run(main())


def test_an_order_is_taken_up_again(tmp_path: Path) -> None:
    """The line breaks when the certificate has been issued already: it is fetched, not ordered once more."""

    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.ca.forgets_after_finalize = True
        await live(world, 0.001)
        assert (await world.certificates.list())[0].state == "waiting"
        again = CertificateWorld(tmp_path, keeps=world.ca)
        again.ca.forgets_after_finalize = False
        await live(again, 0.1)
        assert (await again.certificates.list())[0].state == "good"
        assert len(again.ca.orders) == 1

    run(main())


def test_an_order_with_a_certificate_of_no_use_is_given_up(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.ca.forgets_after_finalize = True
        await live(world, 0.001)
        world.ca.forgets_after_finalize = False
        for order in world.ca.orders.values():
            order.chain = b"nothing"
        await live(world, 0.5)
        assert (await world.certificates.list())[0].state == "good"
        assert len(world.ca.orders) == 2

    run(main())


def test_the_old_record_stays_while_the_old_key_is_served(tmp_path: Path) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.certificates.start()
        await asyncio.sleep(60)
        before = tlsa_value(_digest(world))
        world.zone.put(tlsa_name(HOST), "TLSA", before, 3600)
        world.certificates.watch(lambda: False)  # the reload has failed
        await world.certificates.rollover("main")
        await asyncio.sleep(DAY)
        await world.certificates.stop()
        assert tlsa_value(_digest(world)) != before
        assert before in world.zone.values(tlsa_name(HOST), "TLSA")

    run(main())


def test_the_new_record_comes_though_the_new_key_is_not_served_yet(tmp_path: Path) -> None:
    """After a theft nothing has announced it, and it is served as soon as the reload succeeds."""

    async def main() -> None:
        world = CertificateWorld(tmp_path)
        world.certificates.start()
        await asyncio.sleep(60)
        before = tlsa_value(_digest(world))
        world.zone.put(tlsa_name(HOST), "TLSA", before, 3600)
        world.certificates.watch(lambda: False)
        await world.certificates.revoke("main", "key-compromise")
        await world.certificates.stop()
        after = tlsa_value(_digest(world))
        assert after != before
        assert set(world.zone.values(tlsa_name(HOST), "TLSA")) == {before, after}

    run(main())


class _FullDisk(PosixDisk):
    is_full = False

    def append(self, path: Path) -> AppendFile:
        if self.is_full:
            raise OSError(28, "No space left on device")
        return super().append(path)


def test_a_full_disk(tmp_path: Path) -> None:
    async def main() -> None:
        disk = _FullDisk()
        world = CertificateWorld(tmp_path, disk=disk)
        disk.is_full = True
        world.certificates.start()
        await asyncio.sleep(3600)
        disk.is_full = False
        await asyncio.sleep(3600)
        await world.certificates.stop()
        assert (await world.certificates.list())[0].state == "good"

    run(main())


@pytest.mark.parametrize("name", ["state.json", "served.pem", "next.pem"])
@pytest.mark.parametrize("octets", [b"", b"{", b'{"failures": "x"}', b"-----BEGIN CERTIFICATE-----\n", b"\xff\x00"])
def test_damaged_files(tmp_path: Path, name: str, octets: bytes) -> None:
    async def main() -> None:
        world = CertificateWorld(tmp_path)
        await live(world, 0.1)
        (tmp_path / "acme" / "main" / name).write_bytes(octets)
        await live(world, 0.1)
        [status] = await world.certificates.list()
        assert status.state == "good"

    run(main())
