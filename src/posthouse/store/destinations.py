# SPDX-License-Identifier: Apache-2.0
"""Destinations: one row per next hop that says when it may be looked at, and whether it is down.

Invariant: `ready_at` is never later than max(the earliest due recipient there, `down_until`), so that what is
due is found by looking at the first few destinations only. A destination that is down holds all its due
recipients by this one row. One that was served goes behind all that are ready by now: they take turns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from posthouse.outcome import Outcome
from posthouse.ports import Reader, Row, Transaction
from posthouse.store import history
from posthouse.store.queue_rows import Attempt, pack_outcome, unpack_outcome

RECIPIENTS_PER_TURN = 1000  # rows that one unit of housekeeping touches: some milliseconds of the committer


@dataclass(frozen=True, slots=True)
class Destination:
    """The state of one next hop. `failures` > 0: no session came about lately, it is probed at `down_until`."""

    next_hop: str
    ready_at: float | None
    failures: int
    down_since: float | None
    down_until: float
    outcome: Outcome | None


def make_ready(tx: Transaction, ready: Mapping[str, float | None]) -> None:
    """Something of these next hops is due at these times (None: only held): let them be looked at then, but
    not before a destination that is down may be probed. In the order of names, so that nodes do not deadlock."""
    tx.many(
        "INSERT INTO queue_destination (next_hop, ready_at, failures, down_until) VALUES (:next_hop, :ready_at, 0, 0)"
        " ON CONFLICT (next_hop) DO UPDATE SET ready_at = CASE"
        " WHEN excluded.ready_at IS NULL THEN queue_destination.ready_at"
        " WHEN queue_destination.ready_at < excluded.ready_at THEN queue_destination.ready_at"
        # One that is down may be looked at before `down_until` to tell senders in time: see `refresh`.
        " WHEN excluded.ready_at < queue_destination.down_until"
        " THEN CASE WHEN queue_destination.ready_at < queue_destination.down_until THEN queue_destination.ready_at"
        " ELSE queue_destination.down_until END"
        " ELSE excluded.ready_at END",
        [{"next_hop": hop, "ready_at": ready[hop]} for hop in sorted(ready)],
    )


def next_due(reader: Reader) -> float | None:
    """When something may be attempted next; None when nothing ever is."""
    row = reader.row("SELECT ready_at FROM queue_destination WHERE ready_at IS NOT NULL ORDER BY ready_at LIMIT 1")
    return float(row[0]) if row else None


_DESTINATION = "SELECT next_hop, ready_at, failures, down_since, down_until, result FROM queue_destination "


def ready_page(reader: Reader, limit: int) -> list[Destination]:
    """The destinations that may be looked at first, in order of their time, also those of the future."""
    rows = reader.rows(_DESTINATION + "WHERE ready_at IS NOT NULL ORDER BY ready_at, next_hop LIMIT :n", n=limit)
    return [_destination(row) for row in rows]


def find(reader: Reader, next_hop: str) -> Destination | None:
    row = reader.row(_DESTINATION + "WHERE next_hop = :hop", hop=next_hop)
    return _destination(row) if row else None


def _destination(row: Row) -> Destination:
    next_hop, ready_at, failures, down_since, down_until, result = row
    return Destination(next_hop, ready_at, failures, down_since, down_until, unpack_outcome(result))


def lock(tx: Transaction, next_hops: Iterable[str]) -> None:
    """Make other writers of these destinations wait (and this unit for them) until it ends: what `refresh` then
    counts is all there is. One order for everybody, so that no two units wait for each other."""
    for hop in sorted(set(next_hops)):
        tx.run("UPDATE queue_destination SET ready_at = ready_at WHERE next_hop = :hop", hop=hop)


# Each is the first row of its own index.
_EARLIEST = (
    "SELECT (SELECT MIN(due_at) FROM queue_recipient WHERE next_hop = :hop AND state = 'due'),"
    " (SELECT MIN(deadline_at) FROM queue_recipient WHERE next_hop = :hop AND state = 'due')"
)


def refresh(tx: Transaction, next_hop: str, now: float) -> None:
    """Compute anew when a (locked) destination may be looked at: what is overdue counts as due now, behind the
    destinations that have waited longer. One that is down is looked at for the next warning or expiry there, though
    not probed: its senders are told in time."""
    row = tx.row(_EARLIEST, hop=next_hop)
    due_at, deadline_at = row or (None, None)
    tx.run(
        "UPDATE queue_destination SET ready_at = CASE WHEN :ready_at < down_until"
        " THEN CASE WHEN :told_at < down_until THEN :told_at ELSE down_until END"
        " ELSE :ready_at END WHERE next_hop = :hop",
        ready_at=None if due_at is None else max(due_at, now),
        told_at=None if deadline_at is None else max(deadline_at, now),
        hop=next_hop,
    )


# --- down, up, gone ---------------------------------------------------------------------------------


def set_down(
    tx: Transaction, next_hop: str, *, now: float, until: float, outcome: Outcome, attempt: Attempt | None
) -> None:
    """No session came about: everything for this next hop waits until `until`. One row, whatever waits."""
    make_ready(tx, {next_hop: None})
    tx.run(
        "UPDATE queue_destination SET failures = failures + 1, down_until = :until, result = :result,"
        " down_since = CASE WHEN down_since IS NULL THEN :now ELSE down_since END WHERE next_hop = :hop",
        until=until,
        result=pack_outcome(outcome),
        now=now,
        hop=next_hop,
    )
    if attempt is not None:
        history.insert_attempt(tx, attempt)
    refresh(tx, next_hop, now)


_PRUNE = (
    "DELETE FROM queue_destination WHERE ready_at IS NULL AND down_until <= :now"
    " AND NOT EXISTS (SELECT 1 FROM queue_recipient AS r WHERE r.next_hop = queue_destination.next_hop"
    " AND r.state = 'due')"
    " AND NOT EXISTS (SELECT 1 FROM queue_recipient AS r WHERE r.next_hop = queue_destination.next_hop"
    " AND r.state = 'claimed')"
    " AND NOT EXISTS (SELECT 1 FROM queue_recipient AS r WHERE r.next_hop = queue_destination.next_hop"
    " AND r.state = 'held')"
)  # three questions, because each state has its own index


def prune(tx: Transaction, next_hop: str, now: float) -> None:
    """Forget a destination that nothing waits for (its back-off is remembered while it lasts)."""
    tx.run(_PRUNE + " AND next_hop = :hop", hop=next_hop, now=now)


def prune_all(tx: Transaction, now: float) -> int:
    """Forget all of them: housekeeping, for those whose back-off has passed meanwhile."""
    return tx.run(_PRUNE, now=now)


def reroute(tx: Transaction, next_hop: str, now: float, limit: int = RECIPIENTS_PER_TURN) -> int:
    """The smart host is gone from the configuration: its due recipients go by their own domains again.
    Call until it returns 0."""
    lock(tx, [next_hop])
    rows = tx.rows(
        "SELECT id, address, due_at FROM queue_recipient WHERE next_hop = :hop AND state = 'due'"
        " ORDER BY due_at, id LIMIT :n",
        hop=next_hop,
        n=limit,
    )
    ready: dict[str, float | None] = {}
    for recipient, address, due_at in rows:
        domain = address.rpartition("@")[2]
        tx.run(
            "UPDATE queue_recipient SET next_hop = :hop WHERE id = :id AND state = 'due'",
            hop=domain,
            id=recipient,
        )
        earlier = ready.get(domain)
        ready[domain] = due_at if earlier is None else min(earlier, due_at)
    make_ready(tx, ready)
    refresh(tx, next_hop, now)
    return len(rows)


def pull_in(tx: Transaction, now: float, latest: float) -> int:
    """After the wall clock went back: retries planned later than any schedule gives (`latest`) are due now.
    Future releases keep their time. Returns the number of destinations changed."""
    tx.run("UPDATE queue_destination SET down_until = :now WHERE down_until > :latest", now=now, latest=latest)
    hops = tx.rows("SELECT next_hop FROM queue_destination WHERE ready_at > :latest ORDER BY next_hop", latest=latest)
    for (hop,) in hops:
        tx.run(
            "UPDATE queue_recipient SET due_at = :now WHERE next_hop = :hop AND state = 'due' AND due_at > :latest"
            " AND (attempts > 0 OR due_at <= (SELECT received_at FROM queue_letter WHERE queue_letter.id = letter))",
            now=now,
            hop=hop,
            latest=latest,
        )
        refresh(tx, hop, now)
    return len(hops)
