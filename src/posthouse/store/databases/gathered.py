# SPDX-License-Identifier: Apache-2.0
"""Rows that wait to be inserted, many with one statement. Invariant: nothing reads a table while rows wait for it.

Each statement costs the committer's thread the interpreter, which it gives up and must win back from the busy loop:
under load that waiting, not SQLite, was most of a batch's time. So rows that nobody asks for within their transaction
are written at its end, those of all its units together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from posthouse.ports import Value

# Rows in one statement: any number is a sum of these, and each is one entry of the statement cache per table.
CHUNKS = (64, 32, 16, 8, 4, 2, 1)
SHAPES = 256  # texts kept; the house has about ten such inserts, in seven sizes

_INSERT = re.compile(r"(INSERT INTO (\w+) \([\w, ]+\) VALUES )(\([^()]*\))")
_PARAMETER = re.compile(r":(\w+)")
_WORD = re.compile(r"\w+")

Parameters = Mapping[str, Value]
Execute = Callable[[str, Sequence[Value]], object]


@lru_cache(maxsize=SHAPES)
def table_of(sql: str) -> str:
    """The table of a plain insert. Raises ValueError for another statement."""
    found = _INSERT.fullmatch(sql)
    if found is None:
        raise ValueError(f"not a plain INSERT … VALUES: {sql}")
    return found[2]


@lru_cache(maxsize=SHAPES)
def with_rows(sql: str, rows: int) -> tuple[str, tuple[str, ...]]:
    """The statement for so many rows, with `?` for parameters, and the names of one row's parameters in order."""
    found = _INSERT.fullmatch(sql)
    assert found is not None, "table_of was asked before"
    row = _PARAMETER.sub("?", found[3])
    return found[1] + ", ".join([row] * rows), tuple(_PARAMETER.findall(found[3]))


class Gathered:
    """`count`: rows that wait."""

    __slots__ = ("_harmless", "_rows", "_tables", "count")

    def __init__(self) -> None:
        self._rows: dict[str, list[Parameters]] = {}  # by statement
        self._tables: set[str] = set()  # into which rows were ever gathered
        self._harmless: set[str] = set()  # statements that name none of them
        self.count = 0

    def add(self, sql: str, rows: Sequence[Parameters]) -> None:
        waiting = self._rows.get(sql)
        if waiting is None:
            table = table_of(sql)
            if table not in self._tables:
                self._tables.add(table)
                self._harmless.clear()
            waiting = self._rows[sql] = []
        waiting.extend(rows)
        self.count += len(rows)

    def concerns(self, sql: str) -> bool:
        """Whether this statement may see, or need, rows that wait."""
        if sql in self._harmless:
            return False
        if self._tables.isdisjoint(_WORD.findall(sql)):
            self._harmless.add(sql)
            return False
        return True

    def write(self, execute: Execute) -> None:
        """Insert what waits. What the driver raises ends the transaction: nothing waits any more."""
        waiting = self._rows
        self.clear()
        for sql, rows in waiting.items():
            first = 0
            for size in CHUNKS:
                while len(rows) - first >= size:
                    text, names = with_rows(sql, size)
                    execute(text, [row[name] for row in rows[first : first + size] for name in names])
                    first += size

    def clear(self) -> None:
        self._rows = {}
        self.count = 0
