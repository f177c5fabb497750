# SPDX-License-Identifier: Apache-2.0
"""Nothing acknowledged is lost in a power cut; and whoever checks that notices when it is."""

from __future__ import annotations

from typing import Any

import apsw
import pytest

from posthouse.ports import StoreFault
from posthouse.sim import cuts, recording
from posthouse.sim.cuts import CUTS_PER_WORKLOAD, pieces, play
from posthouse.sim.trials import Outcome, run_trials
from posthouse.store.databases import sqlite, sqlite_engine

SAMPLE = 40  # from the middle of a workload: founded, and everything is going on


def failures(outcome: Outcome) -> set[int]:
    return {number for number, _ in outcome.faults}


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, CUTS_PER_WORKLOAD + 150, 2 * CUTS_PER_WORKLOAD + 400])
def test_nothing_acknowledged_is_lost(first: int) -> None:
    outcome = play(first, SAMPLE + 20)
    assert outcome.faults == []
    assert outcome.trials == SAMPLE + 20
    assert len(outcome.survived) == 4  # both rules, cuts during recovery, days of work afterwards


def test_a_cut_is_a_function_of_its_number() -> None:
    """As it is printed after a failure."""
    alone, among = play(777, 1), play(776, 3)
    assert alone.faults == among.faults == []
    assert alone.survived < among.survived


def test_pieces_end_with_their_workload() -> None:
    found = list(pieces(1000, CUTS_PER_WORKLOAD - 20))
    assert sum(count for _, count in found) == 1000
    assert all(first // CUTS_PER_WORKLOAD == (first + count - 1) // CUTS_PER_WORKLOAD for first, count in found)


# --- the checker can fail -----------------------------------------------------------------------------


def _connect_with(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sqlite_engine.connect

    def connect(*arguments: Any, **options: Any) -> apsw.Connection:
        connection = real(*arguments, **options)
        connection.execute(f"PRAGMA synchronous = {setting}").fetchall()
        return connection

    monkeypatch.setattr(sqlite_engine, "connect", connect)
    monkeypatch.setattr(sqlite, "connect", connect)


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["OFF", "NORMAL"])
def test_a_database_that_does_not_sync_its_commits_is_found_out(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    _connect_with(setting, monkeypatch)
    assert len(failures(play(150, SAMPLE))) >= 5


@pytest.mark.slow
def test_packs_that_are_not_synced_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording._RecordedFile, "sync", lambda file: None)
    assert len(failures(play(150, SAMPLE))) >= 5


@pytest.mark.slow
def test_folders_that_are_not_synced_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording.RecordingDisk, "sync_folder", lambda disk, folder: None)
    assert len(failures(play(150, SAMPLE))) >= 5


@pytest.mark.slow
def test_a_disk_that_lies_about_every_sync_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording.Recorder, "sync", lambda recorder, file: None)
    monkeypatch.setattr(recording.Recorder, "sync_folder", lambda recorder, path: None)
    assert len(failures(play(150, SAMPLE))) >= 20


def _failing(first: int, count: int) -> Outcome:
    return Outcome(count, [(first, "a letter is lost")])


@pytest.mark.slow
def test_a_failure_is_told_with_the_command_that_plays_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_trials(_failing, [(777, 1)], 1, 1, "cuts") == 1
    assert "posthouse sim --cuts 1 --from 777" in capsys.readouterr().out


@pytest.mark.slow
def test_the_command_plays_cuts_in_processes_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert cuts.run(2, 777, 1) == 0
    assert "2 cuts in" in capsys.readouterr().out


def test_a_store_that_does_not_start_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise StoreFault("no")

    # Every file is there and whole, and still it will not begin: only the start on an image is refused.
    recorded = cuts.Recording

    class Refusing(recorded):  # type: ignore[misc, valid-type]  # the class is a value here
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            monkeypatch.setattr("posthouse.sim.premises.open_house", refuse)

    monkeypatch.setattr(cuts, "Recording", Refusing)
    assert failures(play(200, 3)) == {200, 201, 202}
