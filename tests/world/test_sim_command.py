# SPDX-License-Identifier: Apache-2.0
"""What `posthouse sim` tells: sums, failures with the way to see them again, the life of the letter concerned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from posthouse.sim import cli
from posthouse.sim.ledger import Finding
from posthouse.sim.life import life_of
from posthouse.sim.results import SEEDS, TOWNS, Player, Result, explanation
from posthouse.sim.world import World

LOG = [
    "      1.000000 alice: accepted kind=submission message_id=letter-1.alice@alice.test queue_id=7 trace=ab12",
    "      2.000000 alice: accepted kind=submission message_id=letter-1.alice@alice.test.example queue_id=8 trace=cd",
    "      3.000000 world: bob: crash, until 90061.0",
    "      4.000000 alice: deferred queue_id=7 trace=ab12",
    "      5.000000 alice: deferred queue_id=77 trace=ab123",
    "      6.000000 bob: accepted kind=mx message_id=letter-9.ben@bob.test queue_id=None trace=ef-1",
    "  90061.500000 bob: accepted kind=mx message_id=letter-1.alice@alice.test queue_id=None trace=gh-1",
    "  90062.000000 world: bob: crash is over",
]


def results(*failed: int, count: int = 3, kind: str = SEEDS) -> Iterator[Result]:
    for seed in range(count):
        yield Result(
            kind,
            seed,
            days=7.0,
            seconds=0.5,
            digest="abc",
            letters=30,
            accepted=40,
            delivered=38,
            reported=2,
            survived=Counter({"crash": 2}),
            problems=["a letter is lost"] if seed in failed else [],
            told=["it falls behind a cupboard"] if seed in failed else [],
        )


def test_the_life_of_a_letter_has_its_lines_and_what_befell_the_servers() -> None:
    assert [line.split(":", 3)[3].split()[0] for line in life_of(LOG, "letter-1.alice@alice.test")] == [
        "accepted",
        "bob:",
        "deferred",
        "accepted",
    ]
    assert life_of(LOG, "letter-1.alice@alice.test")[-1].startswith("day 1 01:01:01.500 bob: accepted")
    assert life_of(LOG, "letter-2.alice@alice.test") == []


def test_a_failure_is_explained_by_its_letters_or_by_the_end_of_the_log() -> None:
    told = explanation(LOG, [Finding("lost", "letter-1.alice@alice.test"), Finding("odd")])
    assert told[0] == "the life of <letter-1.alice@alice.test>:"
    assert len(told) == 5
    assert explanation(LOG, [Finding("odd")]) == ["the end of its log:", *(f"  {line}" for line in LOG)]


def test_worlds_without_a_fault_are_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    summary = cli.follow(results(), SEEDS, 3)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("seeds 0: 30 letters in 7 days; 40 recipients accepted: 38 delivered, 2 reported")
    assert said[3].startswith("3 small worlds, 21 days, 90 letters: 120 recipients accepted, 114 delivered")
    assert said[4] == "faults survived: 6 crash"
    assert said[-1] == "no letter lost, nothing found wrong"
    assert summary.document()["faults_survived"] == {"crash": 6}
    assert summary.document()["failed"] == {}


def test_a_failed_seed_is_told_with_the_way_to_see_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    summary = cli.follow(results(1, kind=TOWNS), TOWNS, 3)
    said = capsys.readouterr().out
    assert "towns 1 FAILED; to see it again: posthouse sim --towns 1 --from 1\n  a letter is lost\n" in said
    assert "  it falls behind a cupboard\n" in said
    assert said.endswith("1 of 3 FAILED: 1\nto see one again: posthouse sim --towns 1 --from 1\n")
    assert summary.document()["failed"] == {"1": ["a letter is lost"]}


def test_many_worlds_get_no_line_each_and_many_failures_are_told_briefly(capsys: pytest.CaptureFixture[str]) -> None:
    count = cli.LISTED + 5
    cli.follow(results(*range(count), count=count), SEEDS, count)
    said = capsys.readouterr().out
    assert said.count("it falls behind a cupboard") == cli.FAILURES_TOLD
    assert f"seeds {count - 1} FAILED: a letter is lost\n" in said
    assert "38 delivered, 2 reported, 0 waiting, 0 dropped; 2 faults" not in said


def test_an_error_of_the_world_itself_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stumble(world: World) -> None:
        world.note("a stone lies in the way")
        raise ValueError("stumbled")

    monkeypatch.setattr("posthouse.sim.small.small_world", stumble)
    player = Player()
    try:
        result = player.play(SEEDS, 1)
    finally:
        player.close()
    assert "ValueError: stumbled" in result.problems[0]
    assert "a stone lies in the way" in result.told[-1]
