# SPDX-License-Identifier: Apache-2.0
"""kill -9 under load: every acknowledged letter is there afterwards, whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .kill_child import SETTINGS, letter
from .machine import House

ROUNDS = 4


@pytest.mark.slow
async def test_every_acknowledged_letter_survives_kill_nine(tmp_path: Path) -> None:
    """Four runs on one store, each killed at another moment; in between all letters are read and compared."""
    expected: dict[int, bytes] = {}
    for turn in range(ROUNDS):
        run = f"run{turn}"
        with subprocess.Popen(  # noqa: ASYNC220 - nothing else runs here meanwhile
            [sys.executable, "-m", "tests.store.kill_child", str(tmp_path / "data"), run],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        ) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline() for _ in range(150 + 173 * turn)]
            child.kill()
            lines += child.stdout.readlines()
        for line in lines:
            if line.endswith(b"\n"):
                number, writer, count = map(int, line.split())
                expected[number] = letter(writer, count, run)
        house = House(tmp_path / "data", settings=SETTINGS).open()
        assert house.packs.recovery.findings == []
        found = await house.letters()
        assert {number: found.get(number) for number in expected} == expected
        assert all(octets.startswith(b"run") for octets in found.values())
        await house.close()
    assert len(expected) > 150 * ROUNDS
