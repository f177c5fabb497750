# SPDX-License-Identifier: Apache-2.0
"""Servers that report badly about mail are found out: what is counted twice, told twice, lost, or told of reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from posthouse.services.dmarc_tally import DmarcTally
from posthouse.sim.report_facts import LOST, Event, Seen, seen
from posthouse.sim.results import SEEDS, Player
from posthouse.sim.world import HOUR
from posthouse.store import dmarc_counts, reports_sent
from tests.world.planted import player, problems_of

__all__ = ["player"]

ASKING = 2  # a seed whose domains ask for reports
FIRST_DAY = 16 * HOUR  # worlds begin at eight in the morning
count, close = DmarcTally.count, DmarcTally.close


def twice(tally: DmarcTally, *arguments: Any, **options: Any) -> None:
    for _ in range(2):
        count(tally, *arguments, **options)


def as_any_letter(tally: DmarcTally, *arguments: Any, **options: Any) -> None:
    count(tally, *arguments, **{**options, "is_report": False})


async def without_writing(tally: DmarcTally) -> None:
    tally._waiting.clear()
    await close(tally)


def nothing(*_arguments: Any, **_options: Any) -> int:
    return 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "name", "fault", "first", "words"),
    [
        pytest.param(DmarcTally, "count", twice, ASKING, ", there were 1 to 1", id="counted twice"),
        pytest.param(DmarcTally, "count", as_any_letter, ASKING, "nothing but reports", id="about DMARC reports"),
        pytest.param(reports_sent, "tries_of", nothing, ASKING, "nothing but reports", id="about TLS reports"),
        pytest.param(dmarc_counts, "forget", nothing, ASKING, " was made ", id="told twice"),
        pytest.param(DmarcTally, "close", without_writing, 24, " counts ", id="forgotten at a stop"),
    ],
)
def test_a_server_that_reports_badly_is_found_out(
    player: Player,
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    name: str,
    fault: Callable[..., Any],
    first: int,
    words: str,
) -> None:
    monkeypatch.setattr(where, name, fault)
    assert problems_of(player, range(first, first + 3), words)


@pytest.mark.slow
def test_a_report_that_is_lost_is_found_out(player: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    record = reports_sent.record

    def under_another_letter(tx: Any, sent: Any) -> None:
        record(tx, sent)
        tx.run("UPDATE report_sent SET letter = 1")

    monkeypatch.setattr(reports_sent, "record", under_another_letter)
    assert any("is lost" in each for each in player.play(SEEDS, ASKING).problems)


@pytest.mark.parametrize(
    ("events", "ends", "expected"),
    [
        ([Event(HOUR), Event(2 * HOUR, is_telling=False)], [], Seen(most=2, least=2, telling=1, owed=1)),
        ([Event(HOUR, is_sure=False)], [], Seen(most=1, least=0, telling=1, owed=0)),
        ([Event(FIRST_DAY - 1)], [], Seen(most=1, least=1, telling=1, owed=1)),
        ([Event(FIRST_DAY + 1)], [], Seen(most=1, least=0, telling=1, owed=0)),  # it may have been counted before
        ([Event(FIRST_DAY + HOUR)], [], Seen(most=0, least=0, telling=0, owed=0)),
        ([Event(HOUR)], [HOUR + LOST - 1], Seen(most=1, least=0, telling=1, owed=0)),
        ([Event(HOUR)], [HOUR + LOST + 1], Seen(most=1, least=1, telling=1, owed=1)),
    ],
)
def test_what_is_to_be_told_of_a_day(events: list[Event], ends: list[float], expected: Seen) -> None:
    assert seen(events, 20833, ends) == expected
