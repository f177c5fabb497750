# SPDX-License-Identifier: Apache-2.0
"""A disk that is full or broken for a while: nothing accepted is lost, nothing refused is there, and it goes on."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path

import pytest

from posthouse.ports import StoreFault
from posthouse.sim import faults, workload
from posthouse.sim.faults import LASTING, MANNERS, FailingGate, Manner, operations, pieces, play
from posthouse.sim.promises import Accepted
from posthouse.sim.trials import Outcome
from posthouse.store.blobs.appender import PackAppender

STRIDE = 293  # a prime: every manner and every kind of operation has its turn


def faults_of(numbers: range) -> list[str]:
    total = Outcome()
    for number in numbers:
        total.add(play(number, 1))
    return [text for _, text in total.faults]


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, faults.TRIALS_PER_WORKLOAD])
def test_nothing_is_lost_and_it_works_again(first: int) -> None:
    assert faults_of(range(first, first + 12 * STRIDE, STRIDE)) == []


@pytest.mark.slow
def test_a_commit_that_failed_in_the_middle_of_a_write_left_a_refused_letter_in_the_packs() -> None:
    """Found at trials 6017 and 6114: the store's own check took its record for a letter that the rows had lost."""
    assert faults_of(range(6017, 6018)) == []
    assert faults_of(range(6114, 6115)) == []


@pytest.mark.slow
def test_the_torn_end_of_a_pack_that_was_left_counted_as_damage() -> None:
    """Found at trials 4787 and 4962 (tests/services/test_store_check.py has the rule)."""
    assert faults_of(range(4787, 4788)) == []
    assert faults_of(range(4962, 4963)) == []


def writes_to_packs(tmp_path: Path) -> list[int]:
    """The numbers of the operations of a workload without faults that write letters."""
    trial = faults.Trial(0, tmp_path)
    trial.gate.is_shut = True
    seen: list[int] = []
    real = trial.gate.pass_through

    def pass_through(operation: str, path: Path) -> None:
        if operation == "write" and path.suffix == ".pack":
            seen.append(trial.gate.seen)
        real(operation, path)

    trial.gate.pass_through = pass_through  # type: ignore[method-assign]  # it listens
    trial.run()
    return seen


@pytest.mark.slow
def test_a_store_that_swallows_the_faults_of_its_packs_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PackAppender.flush
    # The first write to a pack is its header.
    number = writes_to_packs(tmp_path)[1] * len(MANNERS)
    assert faults_of(range(number, number + 1)) == []

    def careless(appender: PackAppender) -> None:
        with contextlib.suppress(OSError):
            real(appender)

    monkeypatch.setattr(PackAppender, "flush", careless)
    assert faults_of(range(number, number + 1)) != []


@pytest.mark.slow
def test_a_server_that_says_ok_to_what_it_refused_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "Refused", Accepted)
    assert faults_of(range(5326, 6374, 131)) != []


@pytest.mark.slow
def test_every_operation_of_a_workload_has_its_trials() -> None:
    count = operations(0)
    assert count > 500
    found = pieces(count * len(MANNERS) + 10, 0)
    numbers = [number for first, length in found for number in range(first, first + length)]
    assert len(numbers) == len(set(numbers)) == count * len(MANNERS) + 10
    assert numbers[-1] == faults.TRIALS_PER_WORKLOAD + 9


# --- the gate -----------------------------------------------------------------------------------------


def failures(gate: FailingGate, operations: list[str]) -> list[int]:
    failed = []
    for number, operation in enumerate(operations):
        try:
            gate.pass_through(operation, Path("file"))
        except OSError:
            failed.append(number)
    return failed


def test_one_operation_fails_and_no_other() -> None:
    assert failures(FailingGate(2, Manner(errno.EIO, 1, is_torn=False)), ["write"] * 5) == [2]


def test_a_full_disk_refuses_only_what_needs_space() -> None:
    manner = Manner(errno.ENOSPC, 2, is_torn=False)
    assert failures(FailingGate(1, manner), ["write", "unlink", "truncate", "write", "sync", "write"]) == [3, 4]


def test_a_lasting_fault_ends() -> None:
    gate = FailingGate(0, Manner(errno.EIO, LASTING, is_torn=False))
    assert failures(gate, ["write"] * (LASTING + 3)) == list(range(LASTING))
    assert gate.is_over


def test_a_torn_write_writes_half_and_fails() -> None:
    gate = FailingGate(0, Manner(errno.EIO, 1, is_torn=True))
    assert gate.shortened(Path("file"), 100) == 50
    with pytest.raises(OSError, match="Input/output"):
        gate.pass_through("write", Path("file"))
    assert gate.shortened(Path("file"), 100) is None


def test_a_disk_that_is_well_again_fails_no_more() -> None:
    gate = FailingGate(0, Manner(errno.EIO, 5, is_torn=False))
    gate.is_shut = True
    assert failures(gate, ["write"] * 3) == []


def test_a_workload_that_gives_up_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise StoreFault("never")

    monkeypatch.setattr("posthouse.sim.premises.open_house", refuse)
    outcome = play(3, 1)
    assert any("gave up" in text for _, text in outcome.faults)
