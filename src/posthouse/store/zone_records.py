# SPDX-License-Identifier: Apache-2.0
"""Records that we have put into zones of DNS. Invariant: what is in a zone because of us is here too."""

from __future__ import annotations

from collections.abc import Iterable

from posthouse.ports import Reader, Transaction, ZoneRecord


def of_domain(reader: Reader, domain: str) -> list[ZoneRecord]:
    rows = reader.rows(
        "SELECT name, kind, value FROM zone_record WHERE domain = :domain ORDER BY name, kind, value", domain=domain
    )
    return [ZoneRecord(*row) for row in rows]


def note(tx: Transaction, domain: str, records: Iterable[ZoneRecord], now: float) -> None:
    """What is noted already is noted once."""
    known = set(of_domain(tx, domain))
    for record in dict.fromkeys(records):
        if record not in known:
            tx.run(
                "INSERT INTO zone_record (id, domain, name, kind, value, put_at)"
                " VALUES (:id, :domain, :name, :kind, :value, :now)",
                id=tx.new_id(),
                domain=domain,
                name=record.name,
                kind=record.kind,
                value=record.value,
                now=now,
            )


def forget(tx: Transaction, domain: str, records: Iterable[ZoneRecord]) -> None:
    for record in records:
        tx.run(
            "DELETE FROM zone_record WHERE domain = :domain AND name = :name AND kind = :kind AND value = :value",
            domain=domain,
            name=record.name,
            kind=record.kind,
            value=record.value,
        )
