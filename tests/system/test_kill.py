# SPDX-License-Identifier: Apache-2.0
"""kill -9 under load, again and again: every acknowledged letter is there after the restart, exactly as it was sent.

tools/kill_loop.py plays the same for as many rounds as wished.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.killing import Killing

ROUNDS = 4


@pytest.fixture
def folder(template: Path) -> Iterator[Path]:
    """A furnished data directory in a short place: the path of its control socket has at most 107 octets."""
    with tempfile.TemporaryDirectory(prefix="ph-kill-", dir="/tmp") as name:
        folder = Path(name) / "data"
        shutil.copytree(template, folder)
        yield folder


@pytest.mark.slow
def test_every_acknowledged_letter_survives_kill_9(folder: Path) -> None:
    killing = Killing(folder, seed=1)
    told = killing.play(ROUNDS)
    assert told.acknowledged > 100, "the load was no load"
    assert told.unanswered, "no letter was cut off"
    assert told.deleted, "no letter was deleted"
    assert told.at_the_peer, "no letter was sent on"
