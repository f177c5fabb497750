# SPDX-License-Identifier: Apache-2.0
"""Taking an account's letters away for good, before the account itself.

Invariant: between two units every letter that is left is whole; content becomes garbage (store/garbage.py).
"""

from __future__ import annotations

from posthouse.ports import Transaction
from posthouse.store import journal, messages

CLEARED_AT_ONCE = 1_000  # letters of one unit of work: some tens of milliseconds of the committer


def clear_account(tx: Transaction, account: int, now: float, limit: int = CLEARED_AT_ONCE) -> bool:
    """Remove some of what an account keeps for good; True when there may be more.

    Before the account itself goes: a million letters in one unit would keep everybody's new mail waiting for minutes.
    What is left in between is whole, apart from what clients could be told about the removals.
    """
    row = tx.row("SELECT id FROM mailbox WHERE account = :account AND total > 0 ORDER BY id LIMIT 1", account=account)
    some = None if row is None else tx.row(_SOME, mailbox=row[0], limit=limit)
    if row is not None and some is not None and some[0] is not None:
        unit = journal.begin(tx, account, now)
        messages.expunge_in(tx, unit, row[0], ((some[0], some[1]),))
        tx.run(
            "DELETE FROM tombstone WHERE mailbox = :mailbox AND modseq = :modseq", mailbox=row[0], modseq=unit.modseq
        )
        tx.run("UPDATE mailbox SET tombstone_floor = :modseq WHERE id = :mailbox", mailbox=row[0], modseq=unit.modseq)
        return True
    return bool(tx.run(_FORGET_KEYS, account=account, limit=limit)) or journal.purge(tx, account, now + 1)


_SOME = (
    "SELECT MIN(uid), MAX(uid) FROM"
    " (SELECT uid FROM placement WHERE mailbox = :mailbox ORDER BY uid LIMIT :limit) AS first_ones"
)
_FORGET_KEYS = (
    "DELETE FROM thread_reference WHERE account = :account AND hash IN"
    " (SELECT hash FROM thread_reference WHERE account = :account ORDER BY hash LIMIT :limit)"
)


def delete_account_mailboxes(tx: Transaction, account: int) -> None:
    """Remove all that an account keeps; its own row is the caller's. Content becomes garbage (store.garbage)."""
    for statement in _CLEAR_ACCOUNT:
        tx.run(statement, account=account)
    tx.run("UPDATE account SET used_octets = 0, used_letters = 0 WHERE id = :account", account=account)


_CLEAR_ACCOUNT = (
    "DELETE FROM tombstone WHERE mailbox IN (SELECT mailbox FROM journal WHERE account = :account)",
    (
        "DELETE FROM email_detail WHERE email IN (SELECT placement.email FROM mailbox"
        " JOIN placement ON placement.mailbox = mailbox.id WHERE mailbox.account = :account)"
    ),
    (
        "DELETE FROM email WHERE id IN (SELECT placement.email FROM mailbox"
        " JOIN placement ON placement.mailbox = mailbox.id WHERE mailbox.account = :account)"
    ),
    "DELETE FROM placement WHERE mailbox IN (SELECT id FROM mailbox WHERE account = :account)",
    "DELETE FROM thread_reference WHERE account = :account",
    "DELETE FROM journal WHERE account = :account",
    "DELETE FROM retired_name WHERE account = :account",
    "DELETE FROM visitor_seen WHERE person = :account OR mailbox IN (SELECT id FROM mailbox WHERE account = :account)",
    "DELETE FROM mailbox_right WHERE person = :account OR mailbox IN (SELECT id FROM mailbox WHERE account = :account)",
    "DELETE FROM subscribed_name WHERE person = :account OR owner = :account",
    "DELETE FROM keyword_spelling WHERE account = :account",
    "DELETE FROM mailbox WHERE account = :account",
)
