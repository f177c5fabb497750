# SPDX-License-Identifier: Apache-2.0
"""DIR/lock: one owner, and no other file is ever touched by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from posthouse.net.lock import LOCK_FILE, DirectoryInUse, DirectoryLock


def test_there_is_one_owner_at_a_time(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    with pytest.raises(DirectoryInUse, match="in use by process"):
        DirectoryLock(tmp_path)
    lock.release()
    DirectoryLock(tmp_path).release()


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    """Started as root it would empty whatever file the server's own user had it point to."""
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / LOCK_FILE).symlink_to(precious)
    with pytest.raises(DirectoryInUse, match="symbolic link"):
        DirectoryLock(folder)
    assert precious.read_text() == "keep me"
