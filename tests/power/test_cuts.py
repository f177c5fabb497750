# SPDX-License-Identifier: Apache-2.0
"""Nothing acknowledged is lost in a power cut; and whoever checks that notices when it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest

from posthouse.ports import StoreFault
from posthouse.sim import cuts, recording, trials
from posthouse.sim.cuts import CUTS_PER_WORKLOAD, Moment, pieces, plan, play
from posthouse.sim.promises import Accepted
from posthouse.sim.trials import Outcome, run_trials
from posthouse.sim.workload import Workload
from posthouse.store.blobs.appender import PackAppender
from posthouse.store.databases import sqlite, sqlite_engine

SAMPLE = 40  # from the middle of a workload: founded, and everything is going on
FIRST = 200  # of the numbers: each of these faults is found by a tenth of them or more


def failures(outcome: Outcome) -> set[int]:
    return {number for number, _ in outcome.faults}


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, CUTS_PER_WORKLOAD + 150, 2 * CUTS_PER_WORKLOAD + 400])
def test_nothing_acknowledged_is_lost(first: int) -> None:
    outcome = play(first, SAMPLE + 20)
    assert outcome.faults == []
    assert outcome.trials == SAMPLE + 20
    kinds = {"by the rule of journal", "by the rule of posix", "a second cut during recovery", "days of work after it"}
    assert kinds < set(outcome.survived)


def test_a_report_about_a_letter_that_compaction_had_moved_did_not_say_which_one_it_was() -> None:
    """Workload 18 lost sight of its letter 1 (tests/services/test_relay_defects.py has the rule)."""
    assert play(9146, 1).faults == []


def test_a_cut_is_a_function_of_its_number() -> None:
    """As it is printed after a failure."""
    alone, among = play(777, 1), play(776, 3)
    assert alone.faults == among.faults == []
    assert alone.survived < among.survived


@pytest.mark.parametrize("seed", range(4))
def test_every_sync_point_of_a_workload_has_its_cut(tmp_path: Path, seed: int) -> None:
    """Workload 1 went on past the number of its cuts once."""
    workload = cuts.Recording(f"{seed}", tmp_path)
    first = seed * CUTS_PER_WORKLOAD
    planned = [plan(number, workload.log, workload.syncs) for number in range(first, first + CUTS_PER_WORKLOAD)]
    at_syncs = {cut.position - (cut.moment is Moment.AFTER_SYNC) for cut in planned if cut.moment is not Moment.ANY}
    assert at_syncs == set(workload.syncs)
    assert sum(cut.moment is Moment.ANY for cut in planned) >= CUTS_PER_WORKLOAD // 10


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
    assert len(failures(play(FIRST, SAMPLE))) >= 5


@pytest.mark.slow
def test_packs_that_are_not_synced_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording._RecordedFile, "sync", lambda file: None)
    assert len(failures(play(FIRST, SAMPLE))) >= 5


@pytest.mark.slow
def test_folders_that_are_not_synced_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording.RecordingDisk, "sync_folder", lambda disk, folder: None)
    assert len(failures(play(FIRST, SAMPLE))) >= 5


@pytest.mark.slow
def test_an_acknowledgement_before_the_commit_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that says 250 when the letter has come in, and stores it then."""
    real = Workload._begin

    def hasty(workload: Workload, *arguments: Any) -> int:
        number = real(workload, *arguments)
        workload.premises.note(Accepted(number))
        return number

    monkeypatch.setattr(Workload, "_begin", hasty)
    assert len(failures(play(FIRST, SAMPLE))) >= 5


@pytest.mark.slow
def test_rows_that_are_committed_before_their_content_is_synced_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """All is synced when the acknowledgement comes; but for a moment letters can be seen that are not whole."""
    settle = PackAppender.settle

    def write(appender: PackAppender) -> None:
        if appender._buffers:
            assert appender._file is not None
            appender._file.write(appender._buffers)

    def sync_late(appender: PackAppender) -> None:
        has_written = appender.waiting_octets > 0
        settle(appender)
        if has_written:
            assert appender._file is not None
            appender._file.sync()

    monkeypatch.setattr(PackAppender, "flush", write)
    monkeypatch.setattr(PackAppender, "settle", sync_late)
    assert len(failures(play(FIRST, SAMPLE))) >= 2


@pytest.mark.slow
def test_a_disk_that_lies_about_every_sync_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording.Recorder, "sync", lambda recorder, file: None)
    monkeypatch.setattr(recording.Recorder, "sync_folder", lambda recorder, path: None)
    assert len(failures(play(FIRST, SAMPLE))) >= 20


def _failing(first: int, count: int) -> Outcome:
    return Outcome(count, [(first, "a letter is lost")])


@pytest.mark.slow
def test_a_failure_is_told_with_the_command_that_plays_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_trials(_failing, [(777, 1)], 1, 1, "cuts") == 1
    assert "posthouse sim --cuts 1 --from 777" in capsys.readouterr().out


def _succeeding(_first: int, count: int) -> Outcome:
    return Outcome(count)


@pytest.mark.slow
def test_processes_are_renewed_as_often_as_it_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The executor's own way of renewing them hung after 5000 of 10,000 cuts."""
    monkeypatch.setattr(trials, "PIECES_PER_PROCESS", 2)
    assert run_trials(_succeeding, [(number, 1) for number in range(5)], 5, 1, "cuts") == 0
    assert "5 cuts in" in capsys.readouterr().out


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
