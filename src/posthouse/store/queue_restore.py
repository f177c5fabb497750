# SPDX-License-Identifier: Apache-2.0
"""The queue of a restored house. Invariant: no letter is given up for the time in which the house lay in a backup.

What was in the queue at the backup may have been sent since; nobody can say. A letter that comes twice is better
than one that never comes, so all of it is tried again, or held until the operator has decided.
"""

from __future__ import annotations

from posthouse.ports import Transaction
from posthouse.store import destinations


def resume(tx: Transaction, *, lost_seconds: float, now: float, is_held: bool) -> int:
    """Go on as if the lost time had not passed: what each recipient had left until its warning and its expiry, it has
    left now. `is_held`: nothing is tried until it is released. Returns how many recipients wait.

    Nothing is remembered of destinations that were down: that was the network of another day.
    """
    tx.run(
        "UPDATE queue_recipient SET expires_at = expires_at + :lost, deadline_at = deadline_at + :lost,"
        " warn_at = warn_at + :lost WHERE state IN ('due', 'claimed', 'held')",
        lost=max(0.0, lost_seconds),
    )
    # Whoever had claimed it is no more.
    tx.run(
        "UPDATE queue_recipient SET state = CASE WHEN hold_asked = 1 THEN 'held' ELSE 'due' END, hold_asked = 0,"
        " owner = NULL, leased_until = NULL WHERE state = 'claimed'"
    )
    if is_held:
        tx.run("UPDATE queue_recipient SET state = 'held' WHERE state = 'due'")
    tx.run("UPDATE queue_destination SET failures = 0, down_since = NULL, down_until = 0, result = NULL")
    for (hop,) in tx.rows("SELECT next_hop FROM queue_destination ORDER BY next_hop"):
        destinations.refresh(tx, hop, now)
    row = tx.row("SELECT COUNT(*) FROM queue_recipient WHERE state IN ('due', 'held')")
    return int(row[0]) if row else 0
