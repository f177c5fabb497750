# SPDX-License-Identifier: Apache-2.0
"""Numbered SQL files become the schema. Invariant: a file that was applied is never applied again nor changed.

Each is applied in one transaction together with its line in the table `migration`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources

from posthouse.ports import Reader, StoreFault, Transaction

_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
# A text in quotes is kept whole; a comment goes to its line's end.
_QUOTED_OR_COMMENT = re.compile(r"('(?:[^']|'')*')|--[^\n]*")
_STATEMENT_END = re.compile(r";[ \t]*(?:\n|\Z)")

_TABLE = (
    "CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL,"
    " applied_at REAL NOT NULL)"
)

Transact = Callable[[Callable[[Transaction], None]], None]


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. `checksum` is SHA-256 of its text with LF line ends, in hexadecimal."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return sha256(self.text.replace("\r\n", "\n").encode()).hexdigest()

    @property
    def statements(self) -> list[str]:
        bare = _QUOTED_OR_COMMENT.sub(lambda found: found.group(1) or "", self.text.replace("\r\n", "\n"))
        parts = (part.strip() for part in _STATEMENT_END.split(bare))
        return [part for part in parts if part]


def packaged() -> list[Migration]:
    """The migrations that belong to this version, in order."""
    found = []
    for entry in resources.files("posthouse.store.migrations").iterdir():
        match = _FILE_NAME.fullmatch(entry.name)
        if match:
            found.append(Migration(int(match[1]), match[2], entry.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.number)


def migrate(transact: Transact, migrations: Sequence[Migration], now: float) -> list[int]:
    """Apply what is missing; the numbers applied. Raises StoreFault when the schema is not one of ours."""
    applied: dict[int, tuple[str, str]] = {}

    def look(tx: Transaction) -> None:
        tx.run(_TABLE)
        applied.update(_applied(tx))

    transact(look)
    _check(applied, migrations)
    missing = [migration for migration in migrations if migration.number not in applied]
    for migration in missing:
        transact(lambda tx, migration=migration: _apply(tx, migration, now))  # type: ignore[misc] # a default binds it
    return [migration.number for migration in missing]


def _applied(reader: Reader) -> dict[int, tuple[str, str]]:
    rows = reader.rows("SELECT number, name, checksum FROM migration ORDER BY number")
    return {number: (name, checksum) for number, name, checksum in rows}


def _check(applied: dict[int, tuple[str, str]], migrations: Sequence[Migration]) -> None:
    known = {migration.number: migration for migration in migrations}
    if len(known) != len(migrations):
        raise StoreFault("two migrations have the same number")
    for number, (name, checksum) in applied.items():
        migration = known.get(number)
        if migration is None:
            raise StoreFault(
                f"the database has migration {number:04d} ({name}), which this version does not know: it was written"
                " by a newer version of posthouse. Install that version again, or restore a backup from before it."
            )
        if migration.checksum != checksum:
            raise StoreFault(
                f"migration {number:04d} ({name}) is not the one that made this database: its file was changed"
                " afterwards. Install an unchanged posthouse."
            )


def _apply(tx: Transaction, migration: Migration, now: float) -> None:
    for statement in migration.statements:
        tx.run(statement)
    tx.run(
        "INSERT INTO migration (number, name, checksum, applied_at) VALUES (:number, :name, :checksum, :now)",
        number=migration.number,
        name=migration.name,
        checksum=migration.checksum,
        now=now,
    )
