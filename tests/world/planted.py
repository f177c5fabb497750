# SPDX-License-Identifier: Apache-2.0
"""Worlds whose servers have a fault, as the tests of this folder play them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from posthouse.sim.results import SEEDS, Player


@pytest.fixture(scope="module")
def player() -> Iterator[Player]:
    made = Player()
    yield made
    made.close()


def problems_of(player: Player, seeds: Sequence[int], words: str) -> list[str]:
    """What the first of these worlds in which anything is wrong says; only faults with these words count. Each range
    begins with the first seed that shows its fault: there are others behind it."""
    for seed in seeds:
        found = [each for each in player.play(SEEDS, seed).problems if words in each]
        if found:
            return found
    return []
