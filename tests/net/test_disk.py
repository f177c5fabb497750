# SPDX-License-Identifier: Apache-2.0
"""The disk writes completely, syncs what it names, and maps what is there."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from posthouse.net import disk as disk_module
from posthouse.net.disk import PosixDisk


def test_appending_goes_on_where_the_file_ends_and_is_private(tmp_path: Path) -> None:
    disk, path = PosixDisk(), tmp_path / "file"
    file = disk.append(path)
    file.write([b"one", memoryview(b"two"), bytearray(b"three")])
    file.sync()
    assert file.size == 11
    file.close()
    file.close()
    file = disk.append(path)
    assert file.size == 11
    file.truncate(3)
    file.write([b"!"])
    assert file.size == 4
    file.close()
    assert path.read_bytes() == b"one!"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_partial_writes_and_more_buffers_than_the_system_takes_are_written_completely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """writev may write less than it was given, at any octet."""
    real_writev, real_write = os.writev, os.write

    def short_writev(descriptor: int, buffers: Sequence[bytes]) -> int:
        return real_writev(descriptor, [b"".join(buffers)[:7]])

    buffers = [b"%d," % n for n in range(3000)]
    for is_short in (False, True):
        path = tmp_path / str(is_short)
        if is_short:
            monkeypatch.setattr(os, "writev", short_writev)
            monkeypatch.setattr(os, "write", lambda descriptor, octets: real_write(descriptor, octets[:501]))
        file = PosixDisk().append(path)
        file.write(buffers)
        assert file.size == path.stat().st_size
        file.close()
        assert path.read_bytes() == b"".join(buffers)
    assert disk_module.BUFFERS_PER_WRITE < 3000


def test_size_tells_what_was_written_before_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = PosixDisk().append(tmp_path / "file")
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda descriptor, buffers: real(descriptor, [b"abc"]))

    def full(descriptor: int, octets: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        file.write([b"abcdef"])
    assert file.size == 3
    file.close()


def test_every_change_of_names_syncs_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, synced = PosixDisk(), []
    monkeypatch.setattr(PosixDisk, "sync_folder", lambda self, folder: synced.append(folder.relative_to(tmp_path).name))
    disk.make_folder(tmp_path / "a" / "b")
    assert synced == ["", "a"]
    disk.make_folder(tmp_path / "a" / "b")
    disk.append(tmp_path / "a" / "x").close()
    disk.append(tmp_path / "a" / "x").close()
    assert synced == ["", "a", "a"]
    disk.rename(tmp_path / "a" / "x", tmp_path / "a" / "b" / "x")
    assert synced == ["", "a", "a", "b", "a"]
    disk.unlink(tmp_path / "a" / "b" / "x")
    disk.unlink(tmp_path / "a" / "b" / "x")
    assert synced[5:] == ["b", "b"]


def test_a_map_is_read_only_and_outlives_the_file(tmp_path: Path) -> None:
    disk, path = PosixDisk(), tmp_path / "file"
    path.write_bytes(b"")
    assert bytes(disk.map(path)) == b""
    path.write_bytes(b"octets" * 1000)
    view = disk.map(path)
    part = view[6:12]
    disk.unlink(path)
    del view
    assert bytes(part) == b"octets"
    assert part.readonly
    with pytest.raises(FileNotFoundError):
        disk.map(path)


def test_names_are_sorted_and_free_space_is_told(tmp_path: Path) -> None:
    disk = PosixDisk()
    for name in ("b", "a", "c"):
        (tmp_path / name).touch()
    assert disk.names(tmp_path) == ["a", "b", "c"]
    assert disk.names(tmp_path / "missing") == []
    assert disk.free_octets(tmp_path) > 0
    disk.sync_folder(tmp_path)
