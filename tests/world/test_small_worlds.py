# SPDX-License-Identifier: Apache-2.0
"""Small worlds by seed: nothing is lost, the account finds out what is, and a seed gives the same world again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from posthouse.services.bounce import Posting
from posthouse.services.schedule import Ruled
from posthouse.services.settle import Settler
from posthouse.sim import cli
from posthouse.sim.small import Account, small_world
from posthouse.sim.world import World, run

COMMAND = [sys.executable, "-m", "posthouse", "sim", "--seeds", "2", "--from", "7"]


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost(seed: int) -> None:
    world, account = run(seed, small_world)
    assert account.lost == []
    assert world.faults == []
    assert account.accepted == account.delivered + account.reported + account.waiting > 0


def test_a_server_that_forgets_reports_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Settler._judge

    async def forget(settler: Settler, *arguments: Any) -> tuple[list[Ruled], Sequence[Posting]]:
        ruled, _ = await judge(settler, *arguments)
        return ruled, []

    monkeypatch.setattr(Settler, "_judge", forget)
    _, account = run(1, small_world)
    assert account.lost != []


def test_a_failed_seed_is_told_with_the_way_to_repeat_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def lose(world: World) -> Account:
        world.note("a letter falls behind a cupboard")
        return Account(letters=1, lost=["a letter"] if world.seed == 41 else [])

    monkeypatch.setenv("PYTHONHASHSEED", "0")
    monkeypatch.setattr(cli, "small_world", lose)
    assert cli.run(3, 40) == 1
    said = capsys.readouterr().out
    assert "seed 41: a letter\n" in said
    assert "falls behind a cupboard" in said
    assert said.endswith("1 of 3 worlds failed: 41\nto see one again: posthouse sim --seeds 1 --from 41\n")


@pytest.mark.slow
def test_the_same_seed_gives_the_same_log() -> None:
    """Two processes, by the command line; each line of its output has the digest of a world's log."""
    runs = [subprocess.Popen(COMMAND, stdout=subprocess.PIPE, env=_environment(hash_seed)) for hash_seed in ("1", "2")]
    first, second = (each.communicate()[0].decode() for each in runs)
    assert [each.returncode for each in runs] == [0, 0]
    assert first == second
    assert first.count("log ") == 2
    assert first.splitlines()[-1] == "2 worlds, no letter lost"


def _environment(hash_seed: str) -> dict[str, str]:
    return {**os.environ, "PYTHONHASHSEED": hash_seed}
