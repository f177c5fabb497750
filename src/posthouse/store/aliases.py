# SPDX-License-Identifier: Apache-2.0
"""Aliases: addresses that stand for other addresses, here or elsewhere.

An alias has at least one target; without any it is gone. Loops are allowed to be written (nobody can see them
from one end) and are cut where addresses are looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from posthouse.mail.address import Address, Domain
from posthouse.outcome import BAD_MAILBOX, INVALID_ARGUMENTS, Refusal
from posthouse.ports import Reader, Transaction
from posthouse.store.directory import domain_for, insert_address, said
from posthouse.store.lookup import MAX_ALIAS_TARGETS, fold


@dataclass(frozen=True, slots=True)
class AliasRow:
    address: str
    targets: tuple[str, ...]


def add_alias(tx: Transaction, address: Address, targets: Sequence[Address]) -> None:
    """Make an alias, or add targets to the one that is there. Targets that it has already change nothing."""
    if not targets:
        raise Refusal(INVALID_ARGUMENTS, "an alias needs at least one target")
    if any(target.key == address.key for target in targets):
        raise Refusal(INVALID_ARGUMENTS, f"{said(address)} cannot be its own target")
    alias = _alias(tx, address)
    if alias is None:
        alias = insert_address(tx, address, "alias", None)
    present = _targets(tx, alias)
    wanted = {target.key: str(target) for target in targets}
    known = {text for _, text in present}
    fresh = [text for text in wanted.values() if text not in known]
    if len(present) + len(fresh) > MAX_ALIAS_TARGETS:
        raise Refusal(INVALID_ARGUMENTS, f"an alias has at most {MAX_ALIAS_TARGETS} targets")
    first = present[-1][0] + 1 if present else 0
    tx.many(
        "INSERT INTO alias_target (address, position, target) VALUES (:address, :position, :target)",
        [{"address": alias, "position": first + at, "target": text} for at, text in enumerate(fresh)],
    )


def remove_alias(tx: Transaction, address: Address, targets: Sequence[Address] = ()) -> None:
    """Remove these targets, or with none named the whole alias."""
    alias = _alias(tx, address)
    if alias is None:
        raise Refusal(BAD_MAILBOX, f"there is no alias {said(address)}")
    for target in targets:
        changed = tx.run(
            "DELETE FROM alias_target WHERE address = :address AND target = :target",
            address=alias,
            target=str(target),
        )
        if not changed:
            raise Refusal(BAD_MAILBOX, f"{said(target)} is no target of {said(address)}")
    if not targets:
        tx.run("DELETE FROM alias_target WHERE address = :address", address=alias)
    if not _targets(tx, alias):
        tx.run("DELETE FROM address WHERE id = :id", id=alias)


def list_aliases(reader: Reader, *, domain: Domain | None = None) -> list[AliasRow]:
    """All aliases in the order of domain and local part."""
    rows = reader.rows(
        "SELECT x.local_part, d.name, t.target FROM address x JOIN domain d ON d.id = x.domain"
        " JOIN alias_target t ON t.address = x.id WHERE x.kind = 'alias' AND (:domain = '' OR d.name = :domain)"
        " ORDER BY d.name, x.local_part, t.position",
        domain="" if domain is None else domain.name,
    )
    gathered: dict[str, list[str]] = {}
    for local_part, name, target in rows:
        gathered.setdefault(str(Address(local_part, Domain(name))), []).append(target)
    return [AliasRow(address, tuple(targets)) for address, targets in gathered.items()]


def _alias(tx: Reader, address: Address) -> int | None:
    row = tx.row(
        "SELECT id FROM address WHERE domain = :domain AND local_part = :local_part AND kind = 'alias'",
        domain=domain_for(tx, address),
        local_part=fold(address.local_part),
    )
    return None if row is None else row[0]


def _targets(tx: Reader, alias: int) -> list[tuple[int, str]]:
    rows = tx.rows(
        "SELECT position, target FROM alias_target WHERE address = :address ORDER BY position", address=alias
    )
    return [(position, target) for position, target in rows]
