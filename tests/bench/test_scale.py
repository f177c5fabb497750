# SPDX-License-Identifier: Apache-2.0
"""The scale families: what they count is true, and what they limit is limited."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest
from bench.day_people import HOUR, OUTSIDE, Day, People, person
from bench.submission_load import RefusedError, Wire, content, percentiles
from bench.working_day import OPERATIONS

from bench import confined, draining


def test_thirty_percent_of_the_destinations_are_down() -> None:
    for count in (50, 1000):
        assert sum(map(draining.is_down, range(count))) == count * 3 // 10


def test_every_destination_has_a_loopback_address_of_its_own() -> None:
    found = [draining.address(number) for number in range(200_000)]
    assert len(set(found)) == len(found)
    assert all(each.startswith("127.") and not each.endswith((".0", ".255")) for each in found)


def test_a_day_is_the_same_for_a_seed_and_has_every_operation() -> None:
    plans = [People(Day(20, 2.0, 60.0, 1, 2, 3, seed=seed))._plan() for seed in (1, 1, 2)]
    times = [[(at, name) for at, name, _ in plan] for plan in plans]
    assert times[0] == times[1]
    assert times[0] != times[2]
    assert {name for _, name in times[0]} | {"POP3 login"} == set(OPERATIONS)
    assert all(0 <= at <= 2 * HOUR for at, _ in times[0])


def test_people_of_the_day_are_told_from_those_outside() -> None:
    assert not person(7).endswith(OUTSIDE)


def test_percentiles_are_milliseconds_of_what_was_measured() -> None:
    assert percentiles([each / 1000 for each in range(1, 201)]) == {"p50_ms": 101.0, "p99_ms": 199.0}
    assert percentiles([0.5]) == {"p50_ms": 500.0, "p99_ms": 500.0}
    assert percentiles([]) == {}


def test_a_letter_has_about_the_octets_that_were_asked_for() -> None:
    for octets in (2048, 10_240, 102_400):
        letter = content("a@bench.test", "b@bench.test", "x", octets)
        assert letter.endswith(b"\r\n.\r\n")
        assert 0.95 * octets <= len(letter) <= octets + 3


async def test_a_client_waits_for_the_last_line_of_a_reply() -> None:
    wire = Wire()
    asking = asyncio.ensure_future(wire.ask(b"", b"250"))
    await asyncio.sleep(0)
    wire.data_received(b"250-one\r\n250")
    wire.data_received(b"-two\r\n")
    assert not asking.done()
    wire.data_received(b"250 three\r\n")
    assert await asking == b"250-one\r\n250-two\r\n250 three\r\n"


async def test_a_client_is_told_of_a_refusal_and_of_a_lost_connection() -> None:
    wire = Wire()
    wire.data_received(b"550 no\r\n")  # before anybody asked
    with pytest.raises(RefusedError, match="550 no"):
        await wire.ask(b"", b"250")
    asking = asyncio.ensure_future(wire.ask(b"", b"250"))
    await asyncio.sleep(0)
    wire.connection_lost(None)
    with pytest.raises(RefusedError, match="closed early"):
        await asking


def test_without_a_control_group_nothing_is_called_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confined, "ROOT", tmp_path / "nowhere")
    with confined.limited(1 << 30) as limit:
        assert (limit.folder, limit.wrapper, limit.peak(), limit.kills()) == (None, (), None, 0)
        assert "nothing was limited" in limit.how


@pytest.mark.parametrize("is_unified", [True, False])
def test_a_control_group_takes_the_limit_and_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_unified: bool
) -> None:
    monkeypatch.setattr(confined, "ROOT", tmp_path)
    if is_unified:
        (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
        (tmp_path / "cgroup.subtree_control").touch()
    else:
        (tmp_path / "memory").mkdir()
    with confined.limited(2 << 30) as limit:
        assert limit.folder is not None
        command = [*limit.wrapper, "sh", "-c", "echo $$ and $1", "sh", "a word"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert done.stdout == f"{(limit.folder / 'cgroup.procs').read_text().strip()} and a word\n"
        name = "memory.max" if is_unified else "memory.limit_in_bytes"
        assert (limit.folder / name).read_text() == str(2 << 30)
        (limit.folder / ("memory.peak" if is_unified else "memory.max_usage_in_bytes")).write_text(str(5 << 20))
        (limit.folder / ("memory.events" if is_unified else "memory.oom_control")).write_text("oom_kill 1\n")
        assert (limit.peak(), limit.kills()) == (5.0, 1)
