# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL connections and the running transaction. Invariant: the store's one SQL text is all they are given.

That text is SQLite's: here its parameters are rewritten, and the types in its DDL.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import psycopg
from psycopg import errors
from psycopg.adapt import Loader
from psycopg.types.string import TextLoader

from posthouse.ports import BlobLocation, Buffer, Conflict, Content, Row, StoreFault, Value
from posthouse.store.blobs import ledger
from posthouse.store.blobs.ledger import PackRow, PackState
from posthouse.store.blobs.record import PACK_HEADER_SIZE, RECORD_HEADER_SIZE, PackKind
from posthouse.store.blobs.shared import SharedAppender
from posthouse.store.blobs.shelf import Shelf

# The statements of the house, twice over.
STATEMENT_CACHE = 1024
# A statement is prepared when it is run the second time on a connection.
PREPARE_THRESHOLD = 1

_PARAMETER = re.compile(r"('(?:[^']|'')*')|::|:([A-Za-z_][A-Za-z0-9_]*)|%")
_DDL = re.compile(r"\s*(?:CREATE|ALTER)\b", re.IGNORECASE)
# Types are written in capitals, names are not: there is a table `blob`.
_TYPE = re.compile(r"\b(INTEGER|BLOB|REAL|WITHOUT ROWID)\b")
_TYPES = {"INTEGER": "BIGINT", "BLOB": "BYTEA", "REAL": "DOUBLE PRECISION"}


class NumericLoader(Loader):
    """SUM over BIGINT is NUMERIC here and an integer on SQLite: give back a number as SQLite would."""

    def load(self, data: Buffer) -> int | float:
        text = bytes(data).decode("ascii")
        return int(text) if text.lstrip("-").isdigit() else float(text)


@lru_cache(maxsize=STATEMENT_CACHE)
def rewrite(sql: str) -> bytes:
    """`:name` becomes `%(name)s`, a percent sign is doubled, types in DDL are mapped; texts in quotes stay."""

    def one(found: re.Match[str]) -> str:
        if found[1] is not None:
            return found[1].replace("%", "%%")
        if found[2] is not None:
            return f"%({found[2]})s"
        return "%%" if found[0] == "%" else found[0]

    text = _PARAMETER.sub(one, sql)
    if _DDL.match(text):
        text = _TYPE.sub(lambda found: _TYPES.get(found[1], ""), text)
    return text.encode()


def translate(error: Exception) -> Exception:
    """The driver's error in the words of the ports; what is a fault of the statement stays as it is."""
    if isinstance(error, errors.DiskFull):
        return StoreFault(f"the database failed: {error}", is_full=True)
    if isinstance(error, errors.ProgramLimitExceeded):
        return error  # psycopg calls it operational, but a key that is too long fails for ever
    if isinstance(error, psycopg.IntegrityError):
        return Conflict(str(error).strip())
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)):
        return StoreFault(f"the database failed: {error}")
    return error


def connect(dsn: str, *, is_reader: bool = False, is_automatic: bool = False) -> psycopg.Connection[Row]:
    """Writers are SERIALIZABLE: a unit is written as if it were alone, and here it is not. Raises psycopg's errors."""
    connection = psycopg.connect(dsn, autocommit=is_automatic, prepare_threshold=PREPARE_THRESHOLD)
    if is_reader:
        connection.read_only = True
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    elif not is_automatic:
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    connection.adapters.register_loader("numeric", NumericLoader)
    connection.adapters.register_loader("name", TextLoader)
    return connection


class PostgresReader:
    """Reading on one connection, inside its transaction."""

    __slots__ = ("_cursor", "connection")

    def __init__(self, connection: psycopg.Connection[Row]) -> None:
        self.connection = connection
        self._cursor = connection.cursor()

    def row(self, sql: str, /, **parameters: Value) -> Row | None:
        return self._cursor.execute(rewrite(sql), parameters).fetchone()

    def rows(self, sql: str, /, **parameters: Value) -> list[Row]:
        return self._cursor.execute(rewrite(sql), parameters).fetchall()


class PostgresTransaction(PostgresReader):
    """One unit's transaction. `claimed` are the spooled packs that it took."""

    __slots__ = ("_packs", "_shelf", "claimed", "new_id")

    def __init__(
        self,
        connection: psycopg.Connection[Row],
        packs: SharedAppender,
        shelf: Shelf,
        new_id: Callable[[], int],
    ) -> None:
        super().__init__(connection)
        self._packs = packs
        self._shelf = shelf
        self.new_id = new_id
        self.claimed: list[int] = []

    def run(self, sql: str, /, **parameters: Value) -> int:
        return self._cursor.execute(rewrite(sql), parameters).rowcount

    def add(self, sql: str, rows: Sequence[Mapping[str, Value]], /) -> None:
        self.many(sql, rows)

    def many(self, sql: str, parameters: Iterable[Mapping[str, Value]], /) -> None:
        self._cursor.executemany(rewrite(sql), cast("Iterable[Mapping[str, Any]]", parameters))

    def append(self, content: Content, note: bytes) -> BlobLocation:
        sealed = content.sealed
        if sealed is not None:
            try:
                self._shelf.loose.remove(sealed.pack)
                self.claimed.append(sealed.pack)
                size = PACK_HEADER_SIZE + sealed.length + RECORD_HEADER_SIZE
                ledger.save_pack(self, PackRow(sealed.pack, PackKind.OWN, PackState.SEALED, size))
            except KeyError:
                if not ledger.has_pack(self, sealed.pack):
                    raise StoreFault("the spooled content was discarded") from None
        return self._packs.append(content, note)
