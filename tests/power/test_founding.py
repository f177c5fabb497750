# SPDX-License-Identifier: Apache-2.0
"""A data directory is founded completely or not at all, also when the power goes in between."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from posthouse import config
from posthouse.composing.ground import SECRET_FILE
from posthouse.founding import _folder, _move
from posthouse.sim.disklog import Entry, Tree
from posthouse.sim.image import DiskState, Luck, Rule
from posthouse.sim.recording import Recorder, adopt

NAMES = ("lineage", "posthouse.sqlite3", SECRET_FILE)


def images(disk: DiskState, log: list[Entry]) -> list[dict[str, bytes]]:
    """What cuts at every point leave."""
    found = []
    for position in range(len(log) + 1):
        found += [disk.image(Luck.drawn(Random(seed))).files for seed in range(30)]
        if position < len(log):
            disk.apply(log[position])
    return found


@pytest.mark.parametrize("rule", list(Rule))
def test_where_the_settings_are_there_is_a_whole_house(tmp_path: Path, rule: Rule) -> None:
    """`posthouse up` takes posthouse.toml for the sign of a house: it must not come to the disk before the rest."""
    stage = tmp_path / ".init-1"
    (stage / "packs").mkdir(parents=True)
    for name in NAMES:
        (stage / name).write_bytes(name.encode())
    (stage / "packs" / "one").write_bytes(b"pack")
    disk, tree, log = DiskState(rule), Tree(), list[Entry]()
    adopt(tmp_path, tree, [disk])
    recorder = Recorder(tmp_path, log.append, tree)
    _move(stage, tmp_path, "hostname = 'x'\n", recorder.disk)
    whole = {name: name.encode() for name in NAMES}
    whole |= {"packs/one": b"pack", config.FILE_NAME: b"hostname = 'x'\n"}
    found = [files for files in images(disk, log) if config.FILE_NAME in files]
    assert found
    assert all(whole.items() <= files.items() for files in found)


def test_the_name_of_a_new_data_directory_is_durable(tmp_path: Path) -> None:
    disk, log = DiskState(Rule.POSIX), list[Entry]()
    recorder = Recorder(tmp_path, log.append)
    with _folder(tmp_path / "var" / "posthouse", recorder.disk):
        for entry in log:
            disk.apply(entry)
        assert disk.image(Luck(Random(1), 0.0, 512)).folders == ["var", "var/posthouse"]


def test_a_data_directory_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, lambda entry: None)
    with pytest.raises(RuntimeError), _folder(tmp_path / "var" / "posthouse", recorder.disk):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
