# SPDX-License-Identifier: Apache-2.0
"""Maildirs that other servers deliver into."""

from __future__ import annotations

from pathlib import Path

from .letters import difference
from .programs import wait_until


def letters(box: Path) -> list[bytes]:
    """Oldest first, with CRLF lines."""
    files = [path for part in ("new", "cur") if (box / part).is_dir() for path in (box / part).iterdir()]
    files.sort(key=lambda path: path.stat().st_mtime_ns)
    return [path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for path in files]


def wait_for(box: Path, count: int, log: Path) -> list[bytes]:
    """Wait for so many letters; there must not be more."""
    wait_until(lambda: len(letters(box)) >= count, f"{count} letters in {box}", log=log)
    found = letters(box)
    assert len(found) == count
    return found


def holds(box: Path, sent: bytes) -> bool:
    return any(difference(found, sent) == "" for found in letters(box))
