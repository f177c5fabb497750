# SPDX-License-Identifier: Apache-2.0
"""One rule between rows, as data: see posthouse.store.rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from posthouse.ports import Transaction

Mend = Callable[[Transaction, int, float], None]  # the row's key, the time


@dataclass(frozen=True, slots=True)
class Rule:
    """`key` is the column to page by, `wrong` the condition that finds a row, `says` what is wrong with it in words
    (behind the table's name and the key). `means`: what that does to mail, for an administrator."""

    table: str
    key: str
    wrong: str
    says: str
    means: str
    mend: Mend


def run(*statements: str) -> Mend:
    def mend(tx: Transaction, row: int, now: float) -> None:
        for statement in statements:
            parameters: dict[str, int | float] = {"id": row}
            if ":now" in statement:
                parameters["now"] = now
            tx.run(statement, **parameters)

    return mend
