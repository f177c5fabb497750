# SPDX-License-Identifier: Apache-2.0
"""Reports in the store: each once, bounded, added up by source."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from posthouse.mailauth.tls_report import _count
from posthouse.ports import Transaction
from posthouse.store import history, reports_received, reports_sent, tls_days
from posthouse.store.queue_rows import Attempt
from posthouse.store.reports_received import ReceivedReport, Source
from posthouse.store.reports_sent import SentReport
from tests.store.plain_database import PlainDatabase

REPORT = ReceivedReport(
    0, "dmarc", "bob.test", "Reporter", "1@r.test", "r.test", 1000, 2000, 5000.0, 7, 12, 3, 0, {"p": "none"}
)
SOURCES = [Source("192.0.2.7", True, 12, {"dkim": "pass"}), Source("192.0.2.9", False, 3, {"dkim": "fail"})]


async def keep(database: PlainDatabase, report: ReceivedReport, sources: list[Source]) -> str:
    return await database.write(lambda tx: reports_received.keep(tx, report, sources))


async def test_a_report_is_kept_once() -> None:
    database = PlainDatabase()
    assert await keep(database, REPORT, SOURCES) == ""
    assert await keep(database, replace(REPORT, letter=8), SOURCES) == "it has come before"
    assert await keep(database, replace(REPORT, organization="Other"), SOURCES) == ""
    assert await keep(database, replace(REPORT, sender="other.test", domain="else.test"), SOURCES) == ""
    found = await database.read(lambda reader: reports_received.listed(reader, domain="bob.test", page=10))
    assert [each.organization for each in found] == ["Other", "Reporter"]
    assert replace(found[1], id=0) == replace(REPORT, sources=2)
    one = found[1].id
    assert await database.read(lambda reader: reports_received.report(reader, one)) == found[1]
    assert await database.read(lambda reader: reports_received.sources_of(reader, one)) == SOURCES
    assert await database.read(lambda reader: reports_received.report(reader, 4)) is None
    page = await database.read(lambda reader: reports_received.listed(reader, before=found[0].id, page=10))
    assert page == found[1:]


async def test_sources_are_added_up() -> None:
    database = PlainDatabase()
    await keep(database, REPORT, SOURCES)
    await keep(database, replace(REPORT, report_id="2", end_at=3000), SOURCES[1:])
    await keep(database, replace(REPORT, report_id="3", kind="tls"), SOURCES)
    await keep(database, replace(REPORT, report_id="4", domain="other.test"), SOURCES)

    rows = await database.read(lambda reader: reports_received.summary(reader, "bob.test", "dmarc", 0, 10))
    assert [(each.source, each.passed, each.failed, each.reports) for each in rows] == [
        ("192.0.2.9", 0, 6, 2),
        ("192.0.2.7", 12, 0, 1),
    ]
    rows = await database.read(lambda reader: reports_received.summary(reader, "bob.test", "dmarc", 2500, 10))
    assert [(each.source, each.failed) for each in rows] == [("192.0.2.9", 3)]
    totals = await database.read(lambda reader: reports_received.totals(reader, "bob.test", 0))
    assert totals == [("dmarc", 2, 24, 6), ("tls", 1, 12, 3)]


async def test_what_a_report_and_a_day_can_take_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports_received, "MAX_SOURCES", 5)
    database = PlainDatabase()
    many = [Source(f"192.0.2.{number}", number % 2 == 0, number, {}) for number in range(1, 11)]
    assert await keep(database, REPORT, many) == ""
    (report,) = await database.read(lambda reader: reports_received.listed(reader, page=10))
    kept = await database.read(lambda reader: reports_received.sources_of(reader, report.id))
    assert [(each.source, each.is_pass, each.count) for each in kept] == [
        ("192.0.2.10", True, 10),
        ("192.0.2.9", False, 9),
        ("192.0.2.8", True, 8),
        ("", True, 2 + 4 + 6),
        ("", False, 1 + 3 + 5 + 7),
    ]


async def test_nobody_takes_the_name_of_anothers_report() -> None:
    """Organization and report_id are what the writer says; the sender is who was authenticated."""
    database = PlainDatabase()
    squatter = replace(REPORT, sender="liar.test", passed=0)
    assert await keep(database, squatter, []) == ""
    assert await keep(database, REPORT, SOURCES) == ""
    assert await keep(database, squatter, []) == "it has come before"


async def test_names_of_any_letters_fit_into_a_key() -> None:
    """PostgreSQL takes 2,700 octets (tests/interop/test_sql.py runs this there)."""
    database = PlainDatabase()
    letters = random.Random(1)
    names = ["".join(chr(letters.randint(0x10000, 0x10FFFF)) for _ in range(300)) for _ in range(3)]
    report = replace(
        REPORT,
        domain=reports_received.cut_name(names[0]),
        organization=names[1],
        report_id=names[2],
        sender="a." * 120 + "liar.test",
    )
    assert await keep(database, report, SOURCES) == ""
    assert await keep(database, report, SOURCES) == "it has come before"
    (found,) = await database.read(lambda reader: reports_received.listed(reader, page=10))
    for name, kept in zip(names, (found.domain, found.organization, found.report_id), strict=True):
        assert kept == name[: reports_received.MAX_NAME // 4]
    assert reports_received.cut_name("grüße") == "grüße"


async def test_a_day_of_strangers_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever domains of ours, or below ours, they write about; also with reports that have no source at all."""
    monkeypatch.setattr(reports_received, "MAX_ROWS_PER_SENDER", 40)
    monkeypatch.setattr(reports_received, "MAX_ROWS_PER_DAY", 80)
    database = PlainDatabase()

    async def send(number: int, sender: str) -> str:
        at = REPORT.at + number
        crowded = await database.read(lambda reader: reports_received.crowded(reader, sender, at))
        if crowded:
            return crowded
        report = replace(REPORT, report_id=str(number), domain=f"x{number}.bob.test", sender=sender, at=at)
        return await keep(database, report, [])

    told = [await send(number, f"x{number}.liar.test") for number in range(10)]
    assert told == [""] * 4 + ["too many reports came from liar.test within a day"] * 6
    assert await send(20, "notliar.test") == "", "another one, whose name ends alike"
    told = [await send(number, "") for number in range(30, 40)]
    assert told[:3] == [""] * 3
    assert set(told[4:]) == {"too many reports came within a day"}
    assert await send(86_500, "x.liar.test") == "", "the next day"


async def test_all_reports_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    database = PlainDatabase()
    for number in range(6):
        assert await keep(database, replace(REPORT, report_id=str(number)), SOURCES) == ""
    assert await database.read(reports_received.surplus) == 0
    monkeypatch.setattr(reports_received, "MAX_ROWS", 3 * (2 + reports_received.REPORT_ROWS))
    surplus = await database.read(reports_received.surplus)
    assert await database.write(lambda tx: reports_received.purge(tx, 0.0, surplus)) == 3
    found = await database.read(lambda reader: reports_received.listed(reader, page=10))
    assert [each.report_id for each in found] == ["5", "4", "3"], "the oldest are forgotten"
    assert await database.read(reports_received.surplus) == 0


async def test_letters_that_cannot_be_read_are_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports_received, "MAX_UNREAD", 3)
    database = PlainDatabase()
    for number in range(6):
        await database.write(lambda tx, number=number: reports_received.unread(tx, number, 1.0, f"why {number}"))  # type: ignore[misc]
    await database.write(lambda tx: reports_received.unread(tx, 5, 1.0, "another why"))
    rows = await database.read(lambda reader: reports_received.list_unread(reader, 10))
    assert [(letter, reason) for letter, _, reason in rows] == [(5, "another why"), (4, "why 4"), (3, "why 3")]


async def test_a_letter_waits_once_and_its_content_may_be_gone() -> None:
    database = PlainDatabase()

    def unit(tx: Transaction) -> None:
        reports_received.wait(tx, 1, 99, 5.0)
        reports_received.wait(tx, 1, 99, 6.0)

    await database.write(unit)
    (waiting,) = await database.read(lambda reader: reports_received.waiting(reader, 10))
    assert (waiting.letter, waiting.at, waiting.tries, waiting.location) == (1, 5.0, 0, None)
    await database.write(lambda tx: reports_received.begin(tx, 1))
    assert [each.tries for each in await database.read(lambda reader: reports_received.waiting(reader, 10))] == [1]
    await database.write(lambda tx: reports_received.done(tx, 1))
    assert await database.read(lambda reader: reports_received.waiting(reader, 10)) == []


async def test_sent_reports() -> None:
    database = PlainDatabase()
    sent = SentReport(0, "tls", "a.test", 3, "id", 259_300.0, "r@b.test", "b.test", 9, "posted", "", 1, 5)

    def unit(tx: Transaction) -> None:
        reports_sent.record(tx, sent)
        reports_sent.record(tx, replace(sent, target="https://b.test/", result="taken", letter=None))
        reports_sent.record(tx, replace(sent, domain="c.test", report_id="other"))

    await database.write(unit)
    found = await database.read(lambda reader: reports_sent.listed(reader, domain="a.test", page=10))
    assert [each.target for each in found] == ["https://b.test/", "r@b.test"]
    assert await database.read(lambda reader: reports_sent.reports_about(reader, "tls", "a.test", 3)) == 1
    assert await database.read(lambda reader: reports_sent.reports_about(reader, "dmarc", "a.test", 3)) == 0


async def test_tries_of_sent_reports_are_counted() -> None:
    """In the days in which they happened; one that left no attempt was tried once."""
    database = PlainDatabase()
    sent = SentReport(0, "tls", "a.test", 3, "id", 100.0, "r@b.test", "b.test", 9, "posted", "", 1, 5)

    def unit(tx: Transaction) -> None:
        reports_sent.record(tx, sent)
        reports_sent.record(tx, replace(sent, letter=10, at=200.0))
        reports_sent.record(tx, replace(sent, letter=11, target_domain="c.test"))
        reports_sent.record(tx, replace(sent, letter=12, kind="dmarc"))
        reports_sent.record(tx, replace(sent, letter=None, result="taken"))
        for letter, at in (
            (9, 150.0),
            (9, 180.0),
            (9, 86_500.0),
            (10, 86_600.0),
            (11, 150.0),
            (12, 150.0),
            (77, 160.0),
        ):
            history.insert_attempt(tx, Attempt(letter, "b.test", at, "mx.b.test", "192.0.2.1", "", ()))

    await database.write(unit)

    async def tries(domain: str, begin: float, end: float) -> int:
        return await database.read(lambda reader: reports_sent.tries_of(reader, "tls", domain, begin, end))

    assert await tries("b.test", 0, 86_400) == 2
    assert await tries("b.test", 190, 86_400) == 1, "posted and not tried, as far as is known"
    assert await tries("b.test", 86_400, 172_800) == 2, "put off until the next day"
    assert await tries("c.test", 0, 86_400) == 1
    assert await tries("d.test", 0, 86_400) == 0


async def test_tls_results_come_by_day_and_domain() -> None:
    database = PlainDatabase()

    def unit(tx: Transaction) -> None:
        rows = ((1, "b.test", "", 4), (1, "a.test", "", 1), (1, "a.test", "x", 9), (2, "a.test", "", 1))
        for day, domain, result, count in rows:
            tx.run(
                "INSERT INTO tls_result (day, policy_domain, policy_type, policy_text, mx_patterns, result, sending_ip,"
                " receiving_mx, receiving_helo, receiving_ip, reason, count) VALUES (:day, :domain, 'sts', '', '',"
                " :result, '', '', '', '', '', :count)",
                day=day,
                domain=domain,
                result=result,
                count=count,
            )

    await database.write(unit)
    assert await database.read(lambda reader: tls_days.days(reader, 2, (-1, ""), 10)) == [(1, "a.test"), (1, "b.test")]
    assert await database.read(lambda reader: tls_days.days(reader, 9, (1, "a.test"), 1)) == [(1, "b.test")]
    counts = await database.read(lambda reader: tls_days.counts(reader, 1, "a.test"))
    assert [(each.result, each.count) for each in counts] == [("x", 9), ("", 1)]
    await database.write(lambda tx: tls_days.forget(tx, 1, "a.test"))
    assert await database.read(lambda reader: tls_days.days(reader, 9, (-1, ""), 10)) == [(1, "b.test"), (2, "a.test")]


async def test_texts_of_a_stranger_do_not_fill_the_disk() -> None:
    """A letter of 20 KB holds 16 MB of them."""
    database = PlainDatabase()
    long = {"signatures": [{"domain": "x" * 1000}] * 20}
    many = [Source(f"192.0.2.{n}", False, 100 - n, long) for n in range(100)]
    assert await keep(database, replace(REPORT, details={"policies": ["x" * 1000] * 2000}), many) == ""
    row = await database.read(lambda reader: reader.row("SELECT SUM(LENGTH(facts)) FROM report_source"))
    assert row is not None
    assert row[0] <= reports_received.MAX_DETAILS + reports_received.FACTS_PER_SOURCE * len(many)
    found = (await database.read(lambda reader: reports_received.listed(reader, page=1)))[0]
    assert (found.details, found.sources) == ({}, 100)


async def test_sums_over_hostile_tls_reports_fit_into_the_database() -> None:
    database, most = PlainDatabase(), _count(9_999_999_999)
    assert _count(1e14) == 0
    for number in range(3):
        sources = [Source("", False, most, {})] * 10_000
        assert await keep(database, replace(REPORT, kind="tls", report_id=f"h{number}"), sources) == ""
    found = await database.read(lambda reader: reports_received.summary(reader, "bob.test", "tls", 0, 10))
    assert found[0].failed == 30_000 * most
