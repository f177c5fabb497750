# SPDX-License-Identifier: Apache-2.0
"""When reports go out, what is tried again and for how long, and what a run leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from posthouse.mail.address import parse_address
from posthouse.ports import Conflict, ResolverFault, StoreFault, Transaction
from posthouse.services import reporting
from posthouse.services.dmarc_tally import DmarcTally
from posthouse.services.report_draft import DAY, Draft, Sender, report_id
from posthouse.services.report_post import NotTakenError
from posthouse.services.reporting import FIRST_DELAY, LAST_DELAY, MAX_SILENT, RETRY_FOR, Reporting
from posthouse.store import reports_received, reports_sent
from posthouse.store.reports_received import ReceivedReport
from posthouse.store.reports_sent import SentReport
from tests.fakes import EPOCH, FakeClock, SetClock
from tests.store.plain_database import PlainDatabase
from tests.virtual_loop import run

SENDER = Sender(parse_address("postmaster@here.test"), "Here", is_signed=True)
TODAY = int(EPOCH // DAY)


class Post:
    """Notes what is posted; `fault` is raised instead."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self.posted: list[tuple[str, int, float]] = []
        self.dropped: list[str] = []
        self.fault: Exception | None = None
        self.last: list[bool] = []

    async def sender(self) -> Sender:
        return SENDER

    async def post(self, draft: Draft, sender: Sender, *, is_last: bool) -> list[SentReport]:
        self.last.append(is_last)
        if self.fault is not None and not is_last:
            raise self.fault
        self.posted.append((draft.domain, draft.day, self._clock.wall()))
        draft.forget(None)  # type: ignore[arg-type]
        return [SentReport(0, draft.kind, draft.domain, draft.day, "", 0, "a@b.test", "b.test", 1, "posted", "", 1, 1)]

    async def drop(self, draft: Draft) -> None:
        self.dropped.append(draft.domain)
        draft.forget(None)  # type: ignore[arg-type]


class Counts:
    """A Reporter over a set of (day, domain)."""

    kind = "dmarc"

    def __init__(self, *entries: tuple[int, str]) -> None:
        self.entries = set(entries)
        self.faults: dict[str, Exception] = {}
        self.silent: set[str] = set()

    async def days(self, before: int, after: tuple[int, str]) -> list[tuple[int, str]]:
        return sorted(each for each in self.entries if each[0] < before and each > after)[:2]

    async def draft(self, day: int, domain: str, sender: Sender) -> Draft:
        if domain in self.faults:
            raise self.faults[domain]
        skipped = "nobody asks" if domain in self.silent else ""
        return Draft("dmarc", domain, day, self._forget(day, domain), skipped=skipped, is_asked_for=not skipped)

    def _forget(self, day: int, domain: str) -> Callable[[Transaction], None]:
        return lambda _: self.entries.discard((day, domain))

    def forget(self, tx: Transaction, day: int, domain: str) -> None:
        self.entries.discard((day, domain))


class World:
    def __init__(self, clock: Any, *entries: tuple[int, str]) -> None:
        self.database = PlainDatabase()
        self.clock = clock
        self.post = Post(clock)
        self.counts = Counts(*entries)
        tally = DmarcTally(self.database, clock)
        post: Any = self.post
        self.reporting = Reporting(
            self.database, clock, tally, post, [self.counts], hostname="mail.here.test", keep=10 * DAY
        )


def test_the_time_of_day_differs_from_server_to_server_and_day_to_day() -> None:
    def due(hostname: str, day: int) -> float:
        world = World(SetClock())
        world.reporting._hostname = hostname
        return world.reporting.due_at(day) - day * DAY

    times = [due(f"mail{number}.test", TODAY) for number in range(50)] + [due("a.test", TODAY + n) for n in range(50)]
    assert len(set(times)) > 90
    assert min(times) >= FIRST_DELAY
    assert max(times) <= LAST_DELAY
    assert due("a.test", TODAY) == due("a.test", TODAY), "a restart changes nothing"


def in_virtual_time(main: Callable[[World], Coroutine[Any, Any, None]], *entries: tuple[int, str]) -> World:
    async def live() -> World:
        world = World(FakeClock(), *entries)
        world.reporting.start()
        await main(world)
        await world.reporting.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return world

    return run(live())


def test_each_day_is_told_once_when_it_is_over() -> None:
    entries = [(TODAY + n, f"{name}.test") for n in range(3) for name in "abc"]

    async def main(world: World) -> None:
        await asyncio.sleep(5 * DAY)

    world = in_virtual_time(main, *entries)
    assert sorted((day, domain) for domain, day, _ in world.post.posted) == sorted(entries)
    assert world.counts.entries == set()
    for _, day, at in world.post.posted:
        due = world.reporting.due_at(day + 1)
        assert due <= at <= due + 60, "when the day is over, one after the other"


def test_a_server_that_was_off_tells_soon_after_its_start() -> None:
    async def main(world: World) -> None:
        await asyncio.sleep(120)

    world = in_virtual_time(main, (TODAY - 1, "a.test"))
    assert EPOCH % DAY > LAST_DELAY, "its time has passed when the clock starts"
    assert [domain for domain, _, _ in world.post.posted] == ["a.test"]


@pytest.mark.parametrize("fault", [NotTakenError("HTTP 503"), StoreFault("no disk")])
def test_what_fails_is_tried_again(fault: Exception) -> None:
    async def main(world: World) -> None:
        world.post.fault = fault
        await asyncio.sleep(2 * 3600)
        tries = len(world.post.last)
        assert 3 <= tries <= 6, "again and again, but not all the time"
        world.post.fault = None
        await asyncio.sleep(5 * 3600)

    world = in_virtual_time(main, (TODAY - 1, "a.test"))
    assert len(world.post.posted) == 1


async def test_it_is_given_up_after_a_day() -> None:
    clock = SetClock()
    world = World(clock, (TODAY - 1, "a.test"), (TODAY - 1, "dns.test"), (TODAY - 1, "odd.test"))
    world.post.fault = NotTakenError("HTTP 503")
    world.counts.faults = {"dns.test": ResolverFault("SERVFAIL"), "odd.test": KeyError("a fault of ours")}
    run_ = await world.reporting.send()
    assert (run_.sent, run_.waiting) == ((), 3)
    clock.now = world.reporting.due_at(TODAY) + RETRY_FOR + 1
    run_ = await world.reporting.send()
    assert [each.domain for each in run_.sent] == ["a.test", "dns.test"]
    assert world.post.dropped == ["odd.test"]
    assert world.counts.entries == set()
    assert run_.waiting == 0


async def test_counts_that_cannot_be_removed_stop_no_other_report() -> None:
    clock = SetClock()
    world = World(clock, (TODAY - 1, "odd.test"), (TODAY - 1, "z.test"))
    world.counts.faults = {"odd.test": KeyError("a fault of ours")}

    async def drop(draft: Draft) -> None:
        raise Conflict("a rule of the schema")

    world.post.drop = drop  # type: ignore[method-assign]
    clock.now = world.reporting.due_at(TODAY) + RETRY_FOR + 1
    run_ = await world.reporting.send()
    assert [each.domain for each in run_.sent] == ["z.test"]
    assert run_.waiting == 0


def test_a_run_that_fails_is_tried_again_with_pauses() -> None:
    runs = 0

    async def main(world: World) -> None:
        async def flush() -> None:
            nonlocal runs
            runs += 1
            raise Conflict("again and again")

        world.reporting._tally.flush = flush  # type: ignore[method-assign]
        await asyncio.sleep(2 * DAY)

    in_virtual_time(main, (TODAY - 1, "a.test"))
    assert 8 <= runs <= 20, "a few times a day"


def test_silent_servers_of_one_organization_do_not_hold_up_the_others() -> None:
    """Each silence may take as long as a resolver or a web server is waited for."""
    made_up = [f"x{number:03}.liar.test" for number in range(100)]
    good = [f"{name}.test" for name in "abcz"]

    async def main(world: World) -> None:
        plain = world.counts.draft

        async def slow(day: int, domain: str, sender: Sender) -> Draft:
            await asyncio.sleep(600.0 if domain in made_up else 0.0)
            return await plain(day, domain, sender)

        world.counts.draft = slow  # type: ignore[method-assign]
        world.counts.faults = dict.fromkeys(made_up, ResolverFault("no answer"))
        await asyncio.sleep(4 * DAY)

    world = in_virtual_time(main, *((TODAY - 1, name) for name in (*made_up, *good)))
    told = {domain: at - EPOCH for domain, _, at in world.post.posted}
    for name in good:
        assert told[name] < 60 + MAX_SILENT * 600 + 60, "after three silences at most"
    assert world.counts.entries == set(), "the others are given up in the end"


async def test_a_domain_beside_silent_ones_comes_later_in_the_same_run() -> None:
    """Other domains of a country (co.uk) share two labels with the silent ones."""
    made_up = [f"x{number}.co.test" for number in range(MAX_SILENT + 1)]
    world = World(SetClock(), *((TODAY - 1, name) for name in (*made_up, "yy.co.test", "z.test")))
    world.counts.faults = dict.fromkeys(made_up, ResolverFault("no answer"))
    run_ = await world.reporting.send()
    assert [each.domain for each in run_.sent] == ["z.test", "yy.co.test"]
    assert run_.waiting == len(made_up)


async def test_a_domain_that_does_not_ask_leaves_no_trace() -> None:
    world = World(SetClock(), (TODAY - 1, "a.test"))
    world.counts.silent = {"a.test"}
    assert (await world.reporting.send()).sent == ()
    assert world.post.dropped == ["a.test"]


async def test_a_preview_changes_nothing() -> None:
    world = World(SetClock(), (TODAY - 1, "a.test"), (TODAY, "b.test"), (TODAY, "dns.test"))
    world.counts.faults = {"dns.test": ResolverFault("SERVFAIL")}
    drafts = await world.reporting.preview()
    assert [(each.domain, bool(each.skipped)) for each in drafts] == [
        ("a.test", False),
        ("b.test", False),
        ("dns.test", True),
    ]
    assert len(world.counts.entries) == 3
    assert world.post.posted == []


async def test_what_is_given_up_without_a_try_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "LATE_SECONDS", 0.0)
    made_up = [f"x{number}.liar.test" for number in range(MAX_SILENT + 5)]
    clock = SetClock()
    world = World(clock, *((TODAY - 1, name) for name in made_up))
    world.counts.faults = dict.fromkeys(made_up, ResolverFault("no answer"))
    plain = world.post.post

    async def post(draft: Draft, sender: Sender, *, is_last: bool) -> list[SentReport]:
        return [replace(row, result="nobody") for row in await plain(draft, sender, is_last=is_last)]

    world.post.post = post  # type: ignore[method-assign]
    clock.now = world.reporting.due_at(TODAY) + RETRY_FOR - 1
    with capture_logs() as told:
        assert (await world.reporting.send()).waiting == len(made_up)
        clock.now += 2
        assert (await world.reporting.send()).waiting == 0
    assert world.counts.entries == set()
    assert [line["n"] for line in told if "are given up" in line["event"]] == [5]


async def test_a_preview_holds_no_more_than_fits_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "MAX_PREVIEW_TEXT", 250)
    world = World(SetClock(), *((TODAY - 1, f"{name}.test") for name in "abcdef"))
    plain = world.counts.draft

    async def draft(day: int, domain: str, sender: Sender) -> Draft:
        return replace(await plain(day, domain, sender), text=b"x" * 80, document=b"y" * 20)

    world.counts.draft = draft  # type: ignore[method-assign]
    assert len(await world.reporting.preview()) == 3


async def test_old_reports_are_forgotten() -> None:
    world = World(SetClock())

    def old_and_new(tx: Transaction) -> None:
        for age in (11, 1):
            at = EPOCH - age * DAY
            reports_sent.record(tx, SentReport(0, "dmarc", "a.test", 1, "x", at, "", "", None, "nobody", "", 0, 0))
            report = ReceivedReport(0, "dmarc", "b.test", "org", f"{age}", "", 0, 1, at, age, 1, 0, 0, {"email": "x"})
            assert reports_received.keep(tx, report, [reports_received.Source("192.0.2.1", True, 1, {})]) == ""
            reports_received.unread(tx, 100 - age, at, "no")

    await world.database.write(old_and_new)
    await world.reporting.send()
    sent = await world.database.read(lambda reader: reports_sent.listed(reader, page=10))
    received = await world.database.read(lambda reader: reports_received.listed(reader, page=10))
    assert [(EPOCH - each.at) / DAY for each in sent] == [1]
    assert [each.report_id for each in received] == ["1"]
    rows = await world.database.read(lambda reader: reader.rows("SELECT report FROM report_source"))
    assert len(rows) == 1
    assert len(await world.database.read(lambda reader: reports_received.list_unread(reader, 10))) == 1


def test_an_identifier_is_unique_for_its_domain_and_readable() -> None:
    assert report_id("2027-01-15", "a.test", 0, "here.test") == "2027-01-15_a.test@here.test"
    assert report_id("2027-01-15", "a.test", 1, "here.test") == "2027-01-15_a.test.2@here.test"
