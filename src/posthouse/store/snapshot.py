# SPDX-License-Identifier: Apache-2.0
"""What a snapshot of the database needs of the packs, and what it holds. It reads; nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.ports import Reader
from posthouse.store.blobs import ledger


@dataclass(frozen=True, slots=True)
class WantedPack:
    """The first `size` octets of a pack: all that the snapshot's rows can refer to."""

    number: int
    size: int


@dataclass(frozen=True, slots=True)
class Contents:
    """Counts for people. `queued` are letters in the queue."""

    accounts: int
    letters: int
    queued: int


def wanted_packs(reader: Reader) -> list[WantedPack]:
    """Every pack, oldest first. Of the growing one what is settled: octets behind the tail were not acknowledged."""
    state = ledger.load_state(reader)
    return [
        WantedPack(row.number, state.tail if row.number == state.pack else row.size)
        for row in ledger.load_packs(reader)
    ]


def unreachable_blobs(reader: Reader) -> list[tuple[int, int]]:
    """(pack, octets) for each pack that rows refer to beyond what `wanted_packs` says is there: a broken snapshot."""
    sizes = {pack.number: pack.size for pack in wanted_packs(reader)}
    ends = reader.rows("SELECT pack, MAX(pack_offset + length) FROM blob GROUP BY pack ORDER BY pack")
    return [(pack, end) for pack, end in ends if end > sizes.get(pack, 0)]


def contents(reader: Reader) -> Contents:
    def count(sql: str) -> int:
        row = reader.row(sql)
        return int(row[0] or 0) if row else 0

    return Contents(
        accounts=count("SELECT COUNT(*) FROM account"),
        letters=count("SELECT SUM(total) FROM mailbox"),
        queued=count("SELECT COUNT(*) FROM queue_letter"),
    )
