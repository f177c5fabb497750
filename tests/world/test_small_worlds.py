# SPDX-License-Identifier: Apache-2.0
"""Worlds by seed: nothing is lost, what is lost is found out, a seed gives the same world again, a failure is told."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from posthouse.net.smtp_connection import SmtpConnection
from posthouse.outcome import BAD_CONNECTION, DELIVERED, Outcome
from posthouse.services.bounce import Posting
from posthouse.services.entry_check import EntryCheck, Judgement
from posthouse.services.housekeeping import Housekeeping
from posthouse.services.schedule import Ruled, Schedule
from posthouse.services.settle import Settler
from posthouse.sim.results import SEEDS, TOWNS, Player, Result
from posthouse.store import queue
from tests.world.planted import player, problems_of

__all__ = ["player"]

COMMAND = [sys.executable, "-m", "posthouse", "sim", "--seeds", "2", "--from", "7", "--jobs", "1"]
SEED_FILE = Path(__file__).parents[1] / "data/seeds/found.txt"
# Enough for every kind of misfortune and deed to come up; more seeds are for `posthouse sim`.
SMALL = range(1000, 1024)
TOWN = 1000


def found_seeds() -> list[tuple[str, int]]:
    """Kind and seed of each world that once showed a fault (the rest of its line says which)."""
    lines = [line.split() for line in SEED_FILE.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return [(words[0], int(words[1])) for words in lines]


def told(result: Result) -> str:
    return "\n".join([*result.problems, *result.told])


@pytest.mark.slow
@pytest.mark.parametrize("first", SMALL[::6])
def test_nothing_is_lost(player: Player, first: int) -> None:
    for seed in range(first, first + 6):
        result = player.play(SEEDS, seed)
        assert not result.problems, told(result)
        assert result.accepted == result.delivered + result.reported + result.waiting + result.dropped > 0


@pytest.mark.slow
def test_nothing_is_lost_in_a_town(player: Player) -> None:
    result = player.play(TOWNS, TOWN)
    assert not result.problems, told(result)
    assert result.letters == 530
    assert result.survived.total() > 15


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seed"), found_seeds())
def test_what_was_found_stays_mended(player: Player, kind: str, seed: int) -> None:
    result = player.play(kind, seed)
    assert not result.problems, told(result)


def test_a_world_does_not_depend_on_those_before_it(player: Player) -> None:
    """The foundations of its servers are made once in a process; a new process makes them anew."""
    player.play(SEEDS, 5)
    fresh = Player()
    try:
        assert fresh.play(SEEDS, 6).digest == player.play(SEEDS, 6).digest
    finally:
        fresh.close()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_log() -> None:
    """Two processes, by the command line; each line of its output has the digest of a world's log."""
    runs = [subprocess.Popen(COMMAND, stdout=subprocess.PIPE, env=_environment(hash_seed)) for hash_seed in ("1", "2")]
    first, second = (each.communicate()[0].decode().splitlines() for each in runs)
    assert [each.returncode for each in runs] == [0, 0]
    assert first[:2] == second[:2]
    assert all(line.startswith("seeds ") and " log " in line for line in first[:2])
    assert first[-1] == "no letter lost, nothing found wrong"


DIGESTS = """
from posthouse.sim.results import SEEDS, Player
player = Player()
print([player.play(SEEDS, seed).digest for seed in (7, 8, 9)])
player.close()
"""


@pytest.mark.slow
def test_the_order_of_sets_changes_nothing() -> None:
    """The command gives its processes one order of sets, so that a failure comes again whatever the server does; but
    the server itself must not depend on it."""
    told = [
        subprocess.run([sys.executable, "-c", DIGESTS], env=_environment(seed), capture_output=True, check=True).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1] != b""


def _environment(hash_seed: str) -> dict[str, str]:
    return {**os.environ, "PYTHONHASHSEED": hash_seed}


# --- servers with a fault ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_server_that_forgets_reports_is_found_out(player: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Settler._judge

    async def forget(settler: Settler, *arguments: Any) -> tuple[list[Ruled], Sequence[Posting]]:
        ruled, _ = await judge(settler, *arguments)
        return ruled, []

    monkeypatch.setattr(Settler, "_judge", forget)
    assert problems_of(player, range(3, 9), "is lost")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("is_junk", "words"), [(True, "lies among the junk"), (False, "in the name of others and does not lie")]
)
def test_a_server_that_misjudges_is_found_out(
    player: Player, monkeypatch: pytest.MonkeyPatch, is_junk: bool, words: str
) -> None:
    judge = EntryCheck.judge

    def misjudge(check: EntryCheck, *arguments: Any) -> Judgement:
        return replace(judge(check, *arguments), is_junk=is_junk)

    monkeypatch.setattr(EntryCheck, "judge", misjudge)
    assert problems_of(player, range(1000, 1006), words)


@pytest.mark.slow
def test_a_server_that_believes_silence_is_found_out(player: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that breaks counts as delivery."""
    send = SmtpConnection.send

    async def believe(connection: SmtpConnection, *arguments: Any) -> list[Outcome]:
        outcomes = await send(connection, *arguments)
        return [Outcome(DELIVERED, "surely") if each.reply is None else each for each in outcomes]

    monkeypatch.setattr(SmtpConnection, "send", believe)
    assert problems_of(player, range(4, 40), "is lost")


@pytest.mark.slow
def test_a_server_that_sends_twice_is_found_out(player: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    """A letter that was taken is tried again, though the answer was heard."""
    send = SmtpConnection.send
    taken: list[Outcome] = []

    async def send_again(connection: SmtpConnection, *arguments: Any) -> list[Outcome]:
        outcomes = await send(connection, *arguments)
        is_first = not taken
        taken.extend(each for each in outcomes if each.is_delivered and connection.tls is None)
        return [Outcome(BAD_CONNECTION, "not sure") for _ in outcomes] if is_first and taken else outcomes

    monkeypatch.setattr(SmtpConnection, "send", send_again)
    assert problems_of(player, range(38, 50), "at most 1 may be")


@pytest.mark.slow
def test_a_server_that_tries_again_too_soon_is_found_out(player: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Schedule, "delay", lambda _schedule, _attempts: 40.0)
    assert problems_of(player, range(25, 40), "seconds after attempt 1")


@pytest.mark.slow
def test_a_server_that_tries_again_too_late_is_found_out(player: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Schedule, "delay", lambda _schedule, _attempts: 7200.0)
    assert problems_of(player, range(41, 60), "too late")


@pytest.mark.slow
def test_a_server_that_takes_claims_back_from_the_living_is_found_out(
    player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the dead had claimed stays claimed."""
    monkeypatch.setattr(queue, "take_back", lambda *_arguments, **_options: 0)
    assert problems_of(player, range(16, 50), "who is dead")


@pytest.mark.slow
def test_a_task_that_outlives_a_stop_is_found_out(player: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    async def leave(_housekeeping: Housekeeping) -> None:
        asyncio.get_running_loop().call_later(3600, print)

    monkeypatch.setattr(Housekeeping, "stop", leave)
    found = problems_of(player, range(1, 2), "after the stop")
    assert any("left running" in each for each in found)
    assert any("a timer left" in each for each in found)
