# SPDX-License-Identifier: Apache-2.0
"""Whether a database file is sound: SQLite's own checks, and a schema of ours. Invariant: it changes no file."""

from __future__ import annotations

from pathlib import Path

import apsw

from posthouse.ports import Disk
from posthouse.store.databases.migrate import packaged

COPIED_AT_ONCE = 4 * 1024 * 1024  # octets
MAX_SAID = 3  # of SQLite's findings about one file; the first ones say enough


def unsound(path: Path, vfs: str | None, *, has_log: bool = False) -> str:
    """Why the database in a file is of no use; "" where it is sound.

    `has_log`: it is a house's own, whose write-ahead log counts; it and the log stay as they are.
    """
    flags = apsw.SQLITE_OPEN_READWRITE if has_log else apsw.SQLITE_OPEN_READONLY
    try:
        connection = apsw.Connection(str(path), flags=flags, vfs=vfs)
    except apsw.Error as error:
        return str(error)
    try:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        found = [row[0] for row in connection.execute(f"PRAGMA integrity_check({MAX_SAID})")]
        if found != ["ok"]:
            return "; ".join(map(str, found))
        return _foreign(connection)
    except apsw.Error as error:
        return str(error)
    finally:
        connection.close()


def _foreign(connection: apsw.Connection) -> str:
    """Why its schema is not one of this program's."""
    known = {migration.number: migration.checksum for migration in packaged()}
    applied = list(connection.execute("SELECT number, checksum FROM migration ORDER BY number"))
    if not applied:
        return "it is empty"
    for number, checksum in applied:
        if known.get(number) != checksum:
            return f"its migration {number:04d} is not known to this version of posthouse"
    return ""


def copy(disk: Disk, source: Path, target: Path) -> None:
    """A synced copy of a file. Raises OSError."""
    file = disk.append(target)
    try:
        start = 0
        while octets := disk.read(source, start, COPIED_AT_ONCE):
            file.write([octets])
            start += len(octets)
        file.sync()
    finally:
        file.close()
