# SPDX-License-Identifier: Apache-2.0
"""Looking into a database file that nobody writes: a snapshot. Invariant: the file is not changed, nor put beside."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import apsw

from posthouse.ports import Reader, StoreFault
from posthouse.store.databases.sqlite_engine import SqliteReader


@contextlib.contextmanager
def open_snapshot(path: Path) -> Iterator[Reader]:
    """Read a snapshot. Blocks: call it in a worker. Raises StoreFault when it is no database or is damaged."""
    name = f"file:{quote(str(path.absolute()))}?immutable=1"
    try:
        connection = apsw.Connection(name, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
        reader = SqliteReader(connection)
        try:
            yield reader
        finally:
            reader.close()
    except apsw.Error as error:
        raise StoreFault(f"the database {path.name} cannot be read: {error}") from error


def damage_of(reader: Reader) -> list[str]:
    """What SQLite itself finds wrong with the file, at most a hundred lines; [] when it is whole."""
    found = [str(row[0]) for row in reader.rows("PRAGMA integrity_check")]
    return [] if found == ["ok"] else found
