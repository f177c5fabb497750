# SPDX-License-Identifier: Apache-2.0
"""Figures of many mailboxes at once (LIST-STATUS): one statement per account, not one per mailbox.

Invariant: they say the same as `catalogue.recent`, `catalogue.deleted` and `visitors.unseen` say of each mailbox.
"""

from __future__ import annotations

from posthouse.ports import Reader
from posthouse.store.flags import DELETED


def recent(reader: Reader, account: int) -> dict[int, int]:
    r"""How many letters are \Recent, by mailbox of the account; those that have none are not named."""
    rows = reader.rows(
        "SELECT mailbox.id, COUNT(*) FROM mailbox JOIN placement ON placement.mailbox = mailbox.id"
        " AND placement.uid >= mailbox.recent_from WHERE mailbox.account = :account"
        " AND mailbox.recent_from < mailbox.uid_next GROUP BY mailbox.id",
        account=account,
    )
    return dict(rows)


def deleted(reader: Reader, account: int) -> dict[int, tuple[int, int]]:
    r"""How many letters are flagged \Deleted and their octets; mailboxes that have none are not named."""
    rows = reader.rows(
        "SELECT mailbox.id, COUNT(*), CAST(SUM(placement.size) AS BIGINT) FROM mailbox"
        " JOIN placement ON placement.mailbox = mailbox.id WHERE mailbox.account = :account"
        " AND (placement.flags & :deleted) <> 0 GROUP BY mailbox.id",
        account=account,
        deleted=DELETED,
    )
    return {mailbox: (count, octets) for mailbox, count, octets in rows}


def seen(reader: Reader, person: int) -> dict[int, int]:
    """How many letters a visitor has seen, by mailbox; those where it is none are not named."""
    rows = reader.rows(
        "SELECT mailbox, COUNT(*) FROM visitor_seen WHERE person = :person AND is_seen = 1 GROUP BY mailbox",
        person=person,
    )
    return dict(rows)
