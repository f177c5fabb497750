# SPDX-License-Identifier: Apache-2.0
"""MTA-STS policies of other domains: fetched once, obeyed while they last, fetched again, kept when that fails."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from posthouse.mailauth.mta_sts import Mode, policy_url
from posthouse.ports import StoreFault, WebFault
from posthouse.services.sts_policies import DAY, FETCH_SECONDS, PAUSE_AFTER_FAILURE, USED_WITHIN, StsPolicies
from posthouse.store import sts_policies as rows
from tests.fakes import FakeClock, FakeResolver, FakeWeb
from tests.store.plain_database import PlainDatabase
from tests.virtual_loop import run

URL = policy_url("bob.test")


def text(mode: str = "enforce", *, mx: str = "*.bob.test", max_age: float = 7 * DAY) -> bytes:
    return f"version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: {int(max_age)}\n".encode()


class World:
    """Use inside a running (virtual) loop."""

    def __init__(self) -> None:
        self.database, self.clock, self.resolver, self.web = PlainDatabase(), FakeClock(), FakeResolver(), FakeWeb()
        self.told: list[tuple[str, tuple[str, str] | None]] = []
        self.start_again()

    def start_again(self) -> None:
        """The process starts (again) on the same store."""
        self.policies = StsPolicies(
            self.database,
            self.resolver,
            self.web,
            self.clock,
            told=lambda domain, fetched: self.told.append((domain, fetched.trouble)),
        )

    def publish(self, body: bytes, ident: str = "1", **fields: object) -> None:
        self.resolver.text("_mta-sts.bob.test", f"v=STSv1; id={ident}".encode())
        self.web.page(URL, body, **fields)  # type: ignore[arg-type]  # a test's short cut

    async def mode(self) -> Mode | None:
        found = await self.policies.of("bob.test")
        return None if found.policy is None else found.policy.mode

    async def trouble(self) -> str:
        found = await self.policies.of("bob.test")
        return "" if found.trouble is None else found.trouble[0]


def test_a_policy_is_fetched_once_and_outlives_a_restart():
    async def story():
        world = World()
        assert await world.mode() is None
        assert world.web.asked == [], "without a record nobody is asked"
        world.publish(text())
        assert await world.mode() is Mode.ENFORCE
        for _ in range(3):
            assert await world.mode() is Mode.ENFORCE
        world.start_again()
        assert await world.mode() is Mode.ENFORCE
        assert world.web.asked == [URL]

    run(story())


def test_questions_at_once_are_one_fetch():
    async def story():
        world = World()
        world.publish(text())
        found = await asyncio.gather(*(world.mode() for _ in range(20)))
        assert set(found) == {Mode.ENFORCE}
        assert world.web.asked == [URL]

    run(story())


def test_another_id_means_another_policy():
    async def story():
        world = World()
        world.publish(text())
        assert await world.mode() is Mode.ENFORCE
        world.publish(text("testing"), "2")
        assert await world.mode() is Mode.TESTING
        world.publish(text("none"), "3")
        assert await world.mode() is Mode.NONE
        assert len(world.web.asked) == 3

    run(story())


@pytest.mark.parametrize("what", ["record gone", "dns broken", "dns silent", "web gone", "web wrong"])
def test_a_good_policy_is_kept_until_its_time_is_over(what):
    async def story():
        world = World()
        world.publish(text(max_age=7 * DAY))
        assert await world.mode() is Mode.ENFORCE
        match what:
            case "record gone":
                world.resolver.text_records.clear()
            case "dns broken":
                world.resolver.broken.add("_mta-sts.bob.test")
            case "dns silent":

                async def silence(name):
                    await asyncio.sleep(3600)

                world.resolver.txt = silence
            case "web gone":
                world.publish(b"", "2")
                world.web.pages[URL] = WebFault("gone")
            case "web wrong":
                world.publish(b"<html>", "2")
        await asyncio.sleep(6 * DAY)
        assert await world.mode() is Mode.ENFORCE
        await asyncio.sleep(DAY)
        assert await world.mode() is None

    run(story())


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"status": 404}, "sts-policy-fetch-error"),
        ({"status": 301}, "sts-policy-fetch-error"),
        ({"status": 206}, "sts-policy-fetch-error"),
        ({"content_type": "text/html"}, "sts-policy-invalid"),
        ({"content_type": ""}, "sts-policy-invalid"),
        ({"body": b"version: STSv2"}, "sts-policy-invalid"),
    ],
)
def test_what_is_no_policy_is_told_and_not_asked_for_again_at_once(fields, word):
    async def story():
        world = World()
        world.publish(**({"body": text()} | fields))
        assert await world.trouble() == word
        assert await world.trouble() == word
        assert await world.mode() is None
        assert len(world.web.asked) == 1, "five minutes per id (RFC 8461 §3.3)"
        world.publish(text(), "2")
        assert await world.mode() is Mode.ENFORCE, "another id is another chance"

    run(story())


def test_after_five_minutes_it_is_asked_for_again():
    async def story():
        world = World()
        world.publish(text())
        world.web.pages[URL] = WebFault("the certificate is not good", result="certificate-expired")
        assert await world.trouble() == "sts-webpki-invalid"
        await asyncio.sleep(PAUSE_AFTER_FAILURE - 1)
        world.web.page(URL, text())
        assert await world.mode() is None
        await asyncio.sleep(1)
        assert await world.mode() is Mode.ENFORCE
        assert await world.trouble() == ""

    run(story())


def test_what_cannot_be_kept_is_obeyed_all_the_same():
    async def story():
        world = World()
        world.publish(text())
        world.database.fault = StoreFault("full", is_full=True)
        assert await world.mode() is Mode.ENFORCE
        assert await world.mode() is Mode.ENFORCE
        assert world.web.asked == [URL]

    run(story())


def test_a_policy_without_time_is_asked_for_each_time():
    async def story():
        world = World()
        world.publish(text(max_age=0))
        assert await world.mode() is Mode.ENFORCE
        assert await world.mode() is Mode.ENFORCE
        assert len(world.web.asked) == 2

    run(story())


def test_policies_in_use_are_refreshed_every_day_before_they_end():
    async def story():
        world = World()
        world.publish(text(max_age=3 * DAY))
        await world.mode()
        world.policies.start()
        await asyncio.sleep(10 * DAY)
        kept = world.database.look(partial(rows.find, domain="bob.test"))
        assert kept is not None
        assert kept.expires_at > world.clock.wall() + 1.9 * DAY
        assert 9 <= len(world.web.asked) <= 12
        # Nobody has written for so long: it ends like any other.
        await asyncio.sleep(USED_WITHIN + 5 * DAY)
        assert world.database.look(partial(rows.find, domain="bob.test")) is None
        count = len(world.web.asked)
        await asyncio.sleep(10 * DAY)
        assert len(world.web.asked) == count
        await world.policies.stop()

    run(story())


def test_a_policy_of_seconds_is_not_fetched_every_second():
    async def story():
        world = World()
        world.publish(text(max_age=2))
        await world.mode()
        world.policies.start()
        await asyncio.sleep(3000)
        assert len(world.web.asked) <= 11
        await world.policies.stop()

    run(story())


def test_a_huge_policy_is_obeyed_and_not_held_in_memory():
    async def story():
        world = World()
        world.publish(text())
        assert await world.mode() is Mode.ENFORCE
        world.publish(text("testing") + b"a:b\n" * 15_000, "2")
        assert await world.mode() is Mode.TESTING
        assert await world.mode() is Mode.TESTING, "and not the short one of before"
        assert len(world.web.asked) == 2
        assert len(world.policies._known) == 0

    run(story())


def test_a_refresh_that_fails_is_told_and_the_old_policy_stays():
    async def story():
        world = World()
        world.publish(text(max_age=30 * DAY))
        await world.mode()
        world.policies.start()
        world.web.pages[URL] = WebFault("gone")
        await asyncio.sleep(4 * DAY)
        assert {word for _, (word, _) in world.told} == {"sts-policy-fetch-error"}
        assert 2 <= len(world.told) <= 5, "once a day, or there about"
        assert await world.mode() is Mode.ENFORCE
        await world.policies.stop()

    run(story())


def test_a_store_that_fails_does_not_end_the_refreshing():
    async def story():
        world = World()
        world.publish(text(max_age=3 * DAY))
        await world.mode()
        world.policies.start()
        world.database.fault = StoreFault("the disk")
        await asyncio.sleep(DAY / 2)
        world.database.fault = None
        await asyncio.sleep(2 * DAY)
        assert len(world.web.asked) >= 2
        await world.policies.stop()

    run(story())


def test_use_is_noted_once_a_day():
    async def story():
        world = World()
        world.publish(text(max_age=30 * DAY))
        await world.mode()
        writes = world.database.writes
        for _ in range(100):
            await world.mode()
        assert world.database.writes == writes
        await asyncio.sleep(1.5 * DAY)
        await asyncio.gather(*(world.mode() for _ in range(5)))
        await world.mode()
        assert world.database.writes == writes + 1

    run(story())


def test_a_damaged_row_is_no_policy():
    async def story():
        world = World()
        world.publish(text())
        await world.mode()
        world.database.run(lambda tx: tx.run("UPDATE sts_policy SET body = :body", body=b"\xff"))
        world.start_again()
        assert await world.mode() is Mode.ENFORCE, "fetched anew"
        assert len(world.web.asked) == 2

    run(story())


def test_the_stop_ends_what_is_under_way():
    async def story():
        world = World()
        world.publish(text())
        world.web.takes = FETCH_SECONDS
        world.policies.start()
        asking = asyncio.ensure_future(world.mode())
        await asyncio.sleep(1)
        await world.policies.stop()
        with pytest.raises(asyncio.CancelledError):
            await asking

    run(story())


def test_no_more_policies_are_kept_than_the_store_has_room_for(monkeypatch):
    """Strangers choose whom we write to; what was used last stays."""
    monkeypatch.setattr(rows, "MAX_KEPT", 4)
    monkeypatch.setattr(rows, "KEPT_WHEN_FULL", 2)

    def kept(domain, used_at):
        return rows.KeptPolicy(domain, "1", text(), 0.0, 10.0, 10.0, used_at)

    async def story():
        database = PlainDatabase()
        for number, used_at in enumerate([5.0, 9.0, 1.0, 7.0, 0.5]):
            await database.write(partial(rows.keep, policy=kept(f"d{number}.test", used_at)))
        found = [n for n in range(5) if database.look(partial(rows.find, domain=f"d{n}.test")) is not None]
        assert found == [1, 3, 4], "what is being kept just now is not what goes"

    run(story())


def test_a_policy_that_was_fetched_while_the_clock_was_wrong_is_fetched_again():
    async def story():
        world = World()
        world.publish(text())
        world.clock.skew = 5 * 365 * DAY
        assert await world.mode() is Mode.ENFORCE
        world.clock.skew = 0.0
        world.publish(text("testing"))  # with the same id: else it would be fetched for that
        assert await world.mode() is Mode.TESTING
        assert await world.mode() is Mode.TESTING
        assert len(world.web.asked) == 2

    run(story())
