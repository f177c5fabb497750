# SPDX-License-Identifier: Apache-2.0
"""The families as they are declared: a target that can never be judged, or two cells of one name, would be silent."""

from __future__ import annotations

import pytest
from bench.cells import CEILING, Family
from bench.peers import PEERS
from bench.registry import MODULES, families

KNOWN = families(list(MODULES))


@pytest.mark.parametrize("family", KNOWN, ids=lambda family: family.name)
def test_cells_have_names_of_their_own(family: Family) -> None:
    names = [cell.name for cell in family.cells]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("family", KNOWN, ids=lambda family: family.name)
def test_every_target_is_of_a_peer_and_a_measure_of_its_cell(family: Family) -> None:
    for cell in family.cells:
        assert cell.measures, cell.name
        for target in cell.targets:
            assert target.peer == "" or target.peer in family.peers_of(cell), cell.name
            assert target.key in {measure.key for measure in cell.measures}, cell.name


@pytest.mark.parametrize("name", list(MODULES))
def test_every_server_of_a_family_is_known(name: str) -> None:
    (family,) = families([name])
    for cell in family.cells:
        assert set(family.peers_of(cell)) <= {*PEERS, CEILING}


def test_an_unknown_family_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="unknown families: smpt"):
        families(["smpt"])
