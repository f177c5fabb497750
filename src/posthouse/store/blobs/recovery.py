# SPDX-License-Identifier: Apache-2.0
"""What happens to the packs at start. Invariant: nothing that was acknowledged is cut off or removed.

Octets behind "indexed up to" and files without a row were never acknowledged: they go. That is true only for
the database that wrote them; an older copy of it would take yesterday's letters for leftovers. So a number
(the lineage) is kept in the database and beside the packs, is changed at every start and after every
snapshot, and a database whose number is another is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

from posthouse.ports import StoreFault, Transaction
from posthouse.store.blobs import ledger
from posthouse.store.blobs.appender import PackAppender
from posthouse.store.blobs.ledger import PackRow, PackState, StoreState
from posthouse.store.blobs.record import DamagedPack, PackKind, read_pack_header, rescue_header
from posthouse.store.blobs.shelf import LINEAGE, Shelf

Transact = Callable[[Callable[[Transaction], None]], None]


@dataclass(slots=True)
class Recovery:
    """What was done at start. `findings` are damages that the operator should know, one sentence each."""

    cut_octets: int = 0
    removed: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


def read_lineage(shelf: Shelf) -> int | None:
    if LINEAGE not in shelf.disk.names(shelf.folder):
        return None
    text = bytes(shelf.disk.map(shelf.folder / LINEAGE)).strip()
    return int(text) if text.isdigit() else None


def write_lineage(shelf: Shelf, lineage: int) -> None:
    draft = shelf.folder / f"{LINEAGE}.new"
    file = shelf.disk.append(draft)
    try:
        file.truncate(0)
        file.write([b"%d\n" % lineage])
        file.sync()
    finally:
        file.close()
    shelf.disk.rename(draft, shelf.folder / LINEAGE)


def check_lineage(shelf: Shelf, state: StoreState) -> None:
    """Raises StoreFault when the packs are not this database's."""
    present = read_lineage(shelf)
    if present is None and not shelf.numbers() and state.last_pack == 0:
        return  # both are new
    if present is not None and present in (state.lineage, state.lineage_before):
        return
    raise StoreFault(
        f"the packs in {shelf.folder} do not belong to this database: it is older than they are, or another's. "
        "Nothing was changed. Put back the database that belongs to them; if it is lost, `posthouse rebuild` makes it "
        "anew from the last snapshot and the packs, `posthouse restore` from a backup."
    )


def renew_lineage(shelf: Shelf, transact: Transact, lineage: int, before: int) -> None:
    """First the row, which accepts both numbers, then the file: a crash between them is no mismatch."""
    transact(lambda tx: ledger.save_lineage(tx, lineage, before))
    write_lineage(shelf, lineage)


def recover(
    shelf: Shelf, appender: PackAppender, state: StoreState, rows: list[PackRow], transact: Transact
) -> Recovery:
    """Make the packs match the rows and let the appender go on where they end. Raises OSError."""
    recovery = Recovery()
    numbers = shelf.numbers()
    cut = _forgotten_packs(shelf, rows, numbers, transact, recovery)
    _remove_leftovers(shelf, [*rows, *cut], numbers, recovery)
    present = frozenset(numbers)
    for row in rows:
        if row.number not in present:
            recovery.findings.append(f"pack {row.number} is missing: its letters cannot be read")
        elif row.state is PackState.TO_BE_CUT:
            recovery.cut_octets += _cut(shelf, row.number, row.size)
            cut.append(PackRow(row.number, row.kind, PackState.SEALED, row.size))
    # A pack that its row calls sealed is compacted and removed like any other: nothing may be written to it.
    is_sealed = any(row.number == state.pack and row.state is PackState.SEALED for row in rows)
    if state.pack in present and not is_sealed:
        cut += _resume(shelf, appender, state, recovery)

    def record(tx: Transaction) -> None:
        for row in cut:
            ledger.save_pack(tx, row)

    if cut:
        transact(record)
    return recovery


def adopt(shelf: Shelf, rows: list[PackRow], transact: Transact) -> Recovery:
    """Make every pack there is the database's own, whole and sealed, and change none (after a restore)."""
    recovery = Recovery()
    known = {row.number: row for row in rows}
    taken: list[PackRow] = []
    for number in shelf.numbers():
        view = shelf.map(number)
        try:
            kind = read_pack_header(view).kind
        except DamagedPack as error:
            recovery.findings.append(f"pack {number} is damaged: {error}")
            kind = _kind(view, number)
        row = known.get(number)
        if row is None or row.state is not PackState.SEALED:
            taken.append(PackRow(number, kind, PackState.SEALED, len(view)))

    def record(tx: Transaction) -> None:
        for row in taken:
            ledger.save_pack(tx, row)
        state = ledger.load_state(tx)  # nothing grows: the next record begins a pack of its own
        ledger.save_tail(tx, 0, 0, state.last_id, state.last_pack)

    transact(record)
    return recovery


def _kind(view: memoryview, number: int) -> PackKind:
    """Of a pack whose header is damaged."""
    try:
        return rescue_header(view, number).kind
    except DamagedPack:
        return PackKind.LOG


def _forgotten_packs(
    shelf: Shelf, rows: list[PackRow], numbers: list[int], transact: Transact, recovery: Recovery
) -> list[PackRow]:
    """Packs whose own row is lost while letters refer to them: damage, and no reason to remove letters."""
    known = frozenset(row.number for row in rows)
    unknown = [number for number in numbers if number not in known]
    found: list[PackRow] = []

    def look(tx: Transaction) -> None:
        found.extend(
            PackRow(number, _kind(view := shelf.map(number), number), PackState.SEALED, len(view))
            for number in unknown
            if ledger.is_referred(tx, number)
        )

    if unknown:
        transact(look)
    recovery.findings += [f"pack {row.number} has letters and had no row: it got one" for row in found]
    return found


def _remove_leftovers(shelf: Shelf, rows: list[PackRow], numbers: list[int], recovery: Recovery) -> None:
    known = frozenset(row.number for row in rows)
    for path in [*shelf.parts(), *(shelf.path(number) for number in numbers if number not in known)]:
        with contextlib.suppress(OSError):
            shelf.disk.unlink(path)
            recovery.removed.append(path.name)


def _cut(shelf: Shelf, number: int, size: int) -> int:
    file = shelf.disk.append(shelf.path(number))
    try:
        surplus = file.size - size
        if surplus > 0:
            file.truncate(size)
            file.sync()
        return max(surplus, 0)
    finally:
        file.close()


def _resume(shelf: Shelf, appender: PackAppender, state: StoreState, recovery: Recovery) -> list[PackRow]:
    """Go on with the growing pack; a damaged one is left as it is and sealed, so that its rest can be read."""
    number, tail = state.pack, state.tail
    recovery.cut_octets += _cut(shelf, number, tail)
    file = shelf.disk.append(shelf.path(number))
    try:
        header = read_pack_header(shelf.disk.map(shelf.path(number)))
        if file.size == tail and header.number == number:
            appender.resume(file, header, tail)
            return []
        reason = f"it has {file.size} octets of {tail}"
    except DamagedPack as error:
        reason = str(error)
    file.close()
    recovery.findings.append(f"pack {number} is damaged: {reason}")
    return [PackRow(number, PackKind.LOG, PackState.SEALED, tail)]
