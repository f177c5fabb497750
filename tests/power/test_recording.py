# SPDX-License-Identifier: Apache-2.0
"""What is recorded is what was done: an image with everything kept is the folder itself, octet by octet."""

from __future__ import annotations

from pathlib import Path
from random import Random

import apsw
import pytest

from posthouse.sim.disklog import Created, Entry, FolderSynced, MadeFolder, Renamed, Synced, Tree, Unlinked, Written
from posthouse.sim.image import DiskState, Luck, Rule
from posthouse.sim.premises import Premises
from posthouse.sim.recording import Recorder, adopt
from posthouse.sim.wal import Commits, digest
from posthouse.sim.workload import Workload

EVERYTHING = Luck(Random(0), 1.0, 512)


def files_of(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("-shm")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def kinds(log: list[Entry]) -> list[str]:
    return [type(entry).__name__ for entry in log]


@pytest.mark.parametrize("rule", list(Rule))
def test_an_image_with_everything_kept_is_the_folder(tmp_path: Path, rule: Rule) -> None:
    disk = DiskState(rule)
    premises = Premises("1", tmp_path, disk.apply)
    premises.loop.run(Workload(premises).run(4))
    premises.leave()
    assert disk.image(EVERYTHING).files == files_of(premises.folder)


def test_the_disk_port_is_recorded_step_by_step(tmp_path: Path) -> None:
    log: list[Entry] = []
    disk = Recorder(tmp_path, log.append).disk
    disk.make_folder(tmp_path / "packs")
    file = disk.append(tmp_path / "packs" / "one")
    file.write([b"ab", b"cd"])
    file.sync()
    file.truncate(1)
    file.close()
    disk.rename(tmp_path / "packs" / "one", tmp_path / "packs" / "two")
    disk.unlink(tmp_path / "packs" / "two")
    disk.unlink(tmp_path / "packs" / "two")
    assert log == [
        MadeFolder(0, "packs", 1),
        FolderSynced(0),
        Created(1, "one", 2),
        FolderSynced(1),
        Written(2, 0, b"abcd"),
        Synced(2),
        *log[6:7],
        Renamed(1, "one", 1, "two"),
        FolderSynced(1),
        Unlinked(1, "two"),
        FolderSynced(1),
        FolderSynced(1),
    ]
    assert kinds(log)[6] == "Truncated"


def test_sqlite_is_recorded_without_its_shared_memory(tmp_path: Path) -> None:
    log: list[Entry] = []
    recorder = Recorder(tmp_path, log.append)
    connection = apsw.Connection(str(tmp_path / "x.sqlite3"), vfs=recorder.vfs)
    connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (a)").fetchall()
    names = [entry.name for entry in log if isinstance(entry, Created)]
    assert names == ["x.sqlite3", "x.sqlite3-journal", "x.sqlite3-wal"]
    assert kinds(log)[-1] == "Synced"
    assert (tmp_path / "x.sqlite3-shm").exists()
    connection.close()


def test_a_dead_life_writes_nothing_down(tmp_path: Path) -> None:
    log: list[Entry] = []
    recorder = Recorder(tmp_path, log.append)
    connection = apsw.Connection(str(tmp_path / "x.sqlite3"), vfs=recorder.vfs)
    connection.execute("PRAGMA journal_mode = WAL; CREATE TABLE t (a)").fetchall()
    file = recorder.disk.append(tmp_path / "pack")
    recorder.end()
    before = list(log)
    file.write([b"late"])
    connection.close()
    assert log == before


def test_a_failing_rollback_of_names_leaves_the_tree_as_it_is(tmp_path: Path) -> None:
    """A renaming of what is not there raises as the real one does, and nothing is written down."""
    log: list[Entry] = []
    disk = Recorder(tmp_path, log.append).disk
    with pytest.raises(FileNotFoundError):
        disk.rename(tmp_path / "no", tmp_path / "nowhere")
    assert log == []


def test_what_is_found_counts_as_durable(tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "one").write_bytes(b"octets")
    disk, tree = DiskState(Rule.POSIX), Tree()
    adopt(tmp_path, tree, [disk])
    recorder = Recorder(tmp_path, disk.apply, tree)
    recorder.disk.append(tmp_path / "packs" / "one").write([b" more"])
    assert disk.image(Luck(Random(0), 0.0, 512)).files == {"packs/one": b"octets"}
    assert disk.image(EVERYTHING).files == {"packs/one": b"octets more"}


def test_the_log_of_sqlite_tells_every_committed_state(tmp_path: Path) -> None:
    """Also across a transaction that was rolled back, a checkpoint and a log that starts again."""
    commits = Commits("x.sqlite3")
    recorder = Recorder(tmp_path, commits.apply)
    connection = apsw.Connection(str(tmp_path / "x.sqlite3"), vfs=recorder.vfs)
    connection.execute("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = 2").fetchall()
    connection.execute("CREATE TABLE t (a)")
    assert commits.states[-1] == digest(connection.serialize("main"))
    for number in range(30):
        connection.execute("BEGIN")
        connection.execute("INSERT INTO t VALUES (?)", (bytes([number]) * 3000,))
        connection.execute("INSERT INTO t SELECT a FROM t LIMIT 20")  # more than the cache: pages are spilled
        connection.execute("ROLLBACK" if number % 7 == 3 else "COMMIT")
        assert commits.states[-1] == digest(connection.serialize("main"))
        if number % 10 == 9:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    assert len(commits.states) == 1 + 1 + 26
    connection.close()
