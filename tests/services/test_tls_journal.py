# SPDX-License-Identifier: Apache-2.0
"""How TLS went, counted: in batches, bounded, across midnight, past a disk that refuses."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.mailauth.mta_sts import parse_policy
from posthouse.ports import StoreFault, Target, TlsTrouble
from posthouse.services import tls_journal
from posthouse.services.tls_journal import FLUSH, KEEP_DAYS, AppliedPolicy, TlsJournal
from posthouse.store import tls_results
from posthouse.store.tls_results import MAX_POLICY_TEXT, TlsResult
from tests.fakes import EPOCH, FakeClock
from tests.store.plain_database import PlainDatabase
from tests.virtual_loop import run

DAY = int(EPOCH // 86400)
STS = AppliedPolicy("bob.test", "sts", ("version: STSv1", "mode: enforce"), ("*.bob.test",))
TARGET = Target("mx.bob.test", "192.0.2.1")
EXPIRED = TlsTrouble("certificate-expired", "certificate\r\n  has expired", "198.51.100.1")


class World:
    def __init__(self, **fields: bool) -> None:
        self.database, self.clock = PlainDatabase(), FakeClock()
        self.journal = TlsJournal(self.database, self.clock, **fields)

    def rows(self, day: int = DAY, domain: str = "bob.test") -> list[tuple[TlsResult, int]]:
        return self.database.look(lambda reader: tls_results.of_day(reader, day, domain))


def test_sessions_are_counted_and_written_together():
    async def story():
        world = World()
        for _ in range(1000):
            world.journal.note(STS, TARGET, None)
        for _ in range(3):
            world.journal.note(STS, TARGET, EXPIRED)
        world.journal.note(AppliedPolicy("alice.test"), TARGET, None)
        assert world.database.writes == 0, "nothing on the path of letters"
        await asyncio.sleep(FLUSH + 1)
        text = "version: STSv1\nmode: enforce"
        success = TlsResult(DAY, "bob.test", "sts", text, "*.bob.test")
        failure = TlsResult(
            DAY,
            "bob.test",
            "sts",
            text,
            "*.bob.test",
            "certificate-expired",
            "198.51.100.1",
            "mx.bob.test",
            "",
            "192.0.2.1",
            "certificate has expired",
        )
        assert world.rows() == [(success, 1000), (failure, 3)]
        assert world.rows(domain="alice.test") == [(TlsResult(DAY, "alice.test", "no-policy-found"), 1)]
        assert world.database.writes == 2, "one batch, and what is old forgotten"
        world.journal.note(STS, TARGET, None)
        await asyncio.sleep(FLUSH + 1)
        assert world.rows()[0] == (success, 1001)
        assert world.database.writes == 3
        assert len(asyncio.all_tasks()) == 1, "nothing waits when there is nothing to write"

    run(story())


def test_the_stop_writes_what_was_counted():
    async def story():
        world = World()
        world.journal.note(STS, TARGET, None)
        await world.journal.stop()
        assert [count for _, count in world.rows()] == [1]
        await world.journal.stop()
        assert [count for _, count in world.rows()] == [1]

    run(story())


class SlowDatabase(PlainDatabase):
    """A unit is done at once, and the answer comes late."""

    async def write(self, unit):
        done = await super().write(unit)
        await asyncio.sleep(5)
        return done


@pytest.mark.parametrize("later", [1, 6, 11])
def test_what_is_being_written_at_the_stop_is_counted_once(later):
    async def story():
        world = World()
        world.journal = TlsJournal(SlowDatabase(), world.clock)
        world.database = world.journal._database
        for number in range(3):
            world.journal.note(STS, TARGET, None)
            world.journal.note(AppliedPolicy(f"d{number}.test"), TARGET, None)
        await asyncio.sleep(FLUSH + later)
        world.journal.note(STS, TARGET, None)
        await world.journal.stop()
        assert [count for _, count in world.rows()] == [4]
        assert len(asyncio.all_tasks()) == 1

    run(story())


def test_a_busy_server_writes_once_a_minute():
    """What is counted while the disk works waits for the next turn."""

    async def story():
        world = World()
        world.journal = TlsJournal(SlowDatabase(), world.clock)
        world.database = world.journal._database
        for _ in range(600):
            world.journal.note(STS, TARGET, None)
            await asyncio.sleep(1)
        assert world.database.writes <= 12
        await world.journal.stop()
        assert [count for _, count in world.rows()] == [600]

    run(story())


def test_days_are_those_of_the_sessions():
    async def story():
        world = World()
        world.clock.skew = 86400 - EPOCH % 86400 - 10  # ten seconds before midnight
        world.journal.note(STS, TARGET, None)
        await asyncio.sleep(20)
        world.journal.note(STS, TARGET, None)
        await world.journal.stop()
        assert [count for _, count in world.rows(DAY)] == [1]
        assert [count for _, count in world.rows(DAY + 1)] == [1]

    run(story())


def test_a_disk_that_refuses_delays_the_rows():
    async def story():
        world = World()
        world.journal.note(STS, TARGET, None)
        world.database.fault = StoreFault("the disk")
        await asyncio.sleep(5 * FLUSH)
        world.journal.note(STS, TARGET, None)
        world.database.fault = None
        await asyncio.sleep(2 * FLUSH)
        assert [count for _, count in world.rows()] == [2]
        world.journal.note(STS, TARGET, None)
        world.database.fault = StoreFault("the disk")
        await world.journal.stop()

    run(story())


def test_memory_and_table_are_bounded(monkeypatch):
    async def story():
        world = World()
        monkeypatch.setattr(tls_journal, "MAX_PENDING", 10)
        for number in range(50):
            world.journal.note(AppliedPolicy(f"d{number}.test"), TARGET, None)
        world.journal.note(AppliedPolicy("d3.test"), TARGET, None)
        monkeypatch.setattr(tls_journal, "MAX_BATCH", 4)
        await world.journal.stop()
        assert sum(count for n in range(50) for _, count in world.rows(domain=f"d{n}.test")) == 11
        monkeypatch.setattr(tls_results, "MAX_ROWS", 10)
        world.journal.note(STS, TARGET, None)
        await world.journal.stop()
        assert world.rows() == []

    run(story())


def test_long_texts_are_cut_at_lines():
    async def story():
        world = World()
        lines = tuple(f"mx: {'a' * 60}{number}.test" for number in range(1000))
        world.journal.note(AppliedPolicy("bob.test", "sts", lines), TARGET, TlsTrouble("x", "ü" * 5000))
        await world.journal.stop()
        ((row, _),) = world.rows()
        assert len(row.policy_text) <= MAX_POLICY_TEXT
        assert set(row.policy_text.split("\n")) < set(lines)
        assert row.reason == "?" * tls_results.MAX_REASON

    run(story())


def test_old_days_are_forgotten():
    async def story():
        world = World()
        world.journal.note(STS, TARGET, None)
        await world.journal.stop()
        await asyncio.sleep((KEEP_DAYS + 1) * 86400)
        world.journal.note(STS, TARGET, None)
        await world.journal.stop()
        assert world.rows() == []
        assert len(world.rows(DAY + KEEP_DAYS + 1)) == 1

    run(story())


def test_off_means_nothing_is_counted():
    async def story():
        world = World(is_on=False)
        world.journal.note(STS, TARGET, None)
        await world.journal.stop()
        assert world.rows() == []

    run(story())


def test_policies_that_could_not_be_had():
    async def story():
        world = World()
        text = b"version: STSv1\nmode: %s\nmx: a.test\nmax_age: 1"
        trouble = ("sts-policy-fetch-error", "no connection")
        world.journal.note_policy("bob.test", None, trouble)
        world.journal.note_policy("bob.test", parse_policy(text % b"testing"), trouble)
        world.journal.note_policy("bob.test", parse_policy(text % b"none"), trouble)  # RFC 8461 §6: not this one
        world.journal.note_policy("bob.test", parse_policy(text % b"enforce"), None)
        await world.journal.stop()
        assert [(row.policy_text[:6], row.result, count) for row, count in world.rows()] == [
            ("", trouble[0], 1),
            ("versio", trouble[0], 1),
        ]

    run(story())
