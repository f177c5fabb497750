# SPDX-License-Identifier: Apache-2.0
"""The runners: the same seed gives the same inputs, a fault is found, kept, told once and can be replayed."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from fuzz.choices import Choices, even_pieces, pieces
from fuzz.registry import Target

from fuzz import __main__ as command
from fuzz import mutate, plain, registry, rules


def _fails_at_bang(data: bytes) -> None:
    if b"!" in data:
        raise ValueError("a bang")
    assert b"?" not in data, "a question"


def _is_quadratic(data: bytes) -> None:
    for at in range(len(data)):
        for _ in data[:at]:
            pass


def _is_linear(data: bytes) -> None:
    for _ in data:
        pass


def _hoards(data: bytes) -> None:
    _ = [data[at:] for at in range(len(data))]


def _target(run: object) -> Target:
    return Target("planted", run, 64, "")  # type: ignore[arg-type]  # one of the above


def test_the_same_seed_gives_the_same_inputs() -> None:
    seeds, words = [b"MAIL FROM:<a@b.test>\r\n", b""], [b"RCPT", b"\0"]
    first = list(islice(mutate.inputs(seeds, words, 7, 50), 200))
    assert first == list(islice(mutate.inputs(seeds, words, 7, 50), 200))
    assert first != list(islice(mutate.inputs(seeds, words, 8, 50), 200))
    assert all(len(data) <= 50 for data in first)
    assert len(set(first)) > 150, "most inputs differ"


def test_a_fault_is_told_once_for_each_place_with_its_shortest_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Target, "seeds", lambda _: [b"some words", b"more!"])
    tried, faults = plain.run(_target(_fails_at_bang), seed=1, goes_on=plain.for_runs(3000))
    assert tried == 3000
    assert sorted(fault.what.split("\n")[0] for fault in faults) == ["AssertionError: a question", "ValueError: a bang"]
    assert all(len(fault.data) <= 3 for fault in faults)
    assert len(plain.replay(_target(_fails_at_bang))) == 1


def test_what_grows_too_fast_is_seen_by_counting_lines() -> None:
    family = rules.pumped(b"abcdefgh", Random(1), 300)
    assert rules.grows_too_fast(_target(_is_quadratic), family)
    assert not rules.grows_too_fast(_target(_is_linear), rules.pumped(b"abcdefgh", Random(1), 3000))
    assert rules.lines(lambda: _is_linear(b"x" * 50)) == rules.lines(lambda: _is_linear(b"y" * 50))


def test_what_hoards_is_seen_by_its_memory() -> None:
    data = bytes(20_000)
    assert rules.memory(_target(_hoards), data) > rules.memory_limit(data)
    assert rules.memory(_target(_is_linear), data) < rules.memory_limit(data)


def test_a_search_that_could_not_begin_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A target that failed at its import, or found again what lay there since yesterday, ended the night with 0."""
    monkeypatch.setattr(command, "CRASHES", tmp_path)
    monkeypatch.setattr(command, "GROWN", tmp_path / "grown")
    failed = subprocess.CompletedProcess([], 1, "", "ImportError: no such thing")
    monkeypatch.setattr(command, "_libfuzzer", lambda _name, _arguments: failed)
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda _name: True)
    monkeypatch.setattr(sys, "argv", ["fuzz", "address", "--runs", "1"])
    assert command.main() == 1
    assert "ENDED EARLY" in capsys.readouterr().out


def test_a_find_is_kept_and_replays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "CRASHES", tmp_path)
    monkeypatch.setattr(Target, "seeds", lambda _: [b"a!"])
    monkeypatch.setattr(registry, "load", lambda _: _target(_fails_at_bang))
    report = command._mutated("planted", seconds=None, runs=20, seed=1)
    assert report.executed == 20
    assert report.finds
    with pytest.raises(ValueError, match="a bang"):
        command._replay("planted", report.finds[:1])


@pytest.mark.parametrize(
    ("words", "code"), [(["nonsense"], 2), (["list"], 0), (["uid_set", "--runs", "3", "--plain"], 0)]
)
def test_the_command_says_how_it_went(
    words: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "CRASHES", tmp_path / "crashes")
    monkeypatch.setattr(sys, "argv", ["fuzz", *words])
    assert command.main() == code
    said = capsys.readouterr()
    assert "uid_set" in said.out + said.err


def test_choices_come_from_the_end_and_leave_the_beginning() -> None:
    choices = Choices(b"MAIL FROM\x05\x03\x01\x02")
    assert choices.number(10) == 2
    assert choices.flag()
    assert choices.octets(8) == b"OM\x05"
    assert choices.rest == b"MAIL FR"
    empty = Choices(b"")
    assert (empty.number(7), empty.flag(), empty.octets(9), empty.rest) == (0, False, b"", b"")


def test_pieces_are_all_of_it_in_order() -> None:
    octets = bytes(range(256)) * 5
    for seed in range(40):
        cut = pieces(octets, Random(seed))
        assert b"".join(cut) == octets
        assert all(cut)
    with even_pieces(100):
        assert [len(piece) for piece in pieces(octets, Random(1))] == [100] * 12 + [80]


def test_words_of_a_dictionary_are_octets() -> None:
    words = registry.load("smtp_server").words()
    assert b"\r\n.\r\n" in words
    assert b"MAIL FROM:<>\r\n" in words
