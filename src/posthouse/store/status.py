# SPDX-License-Identifier: Apache-2.0
"""Figures of many mailboxes at once (LIST-STATUS): one statement, not one per mailbox.

Invariant: they say the same as `catalogue.recent`, `catalogue.deleted` and `visitors.unseen` say of each mailbox.
"""

from __future__ import annotations

from posthouse.ports import Reader
from posthouse.store.flags import DELETED

# Of own mailboxes, and those of others that the person may see or is denied.
_RECENT = (
    "SELECT mailbox.id, COUNT(*) FROM mailbox JOIN placement ON placement.mailbox = mailbox.id"
    " AND placement.uid >= mailbox.recent_from WHERE mailbox.recent_from < mailbox.uid_next"
    " AND mailbox.id IN (SELECT id FROM mailbox WHERE account = :person"
    " UNION SELECT mailbox FROM mailbox_right WHERE person IN (:person, 0)) GROUP BY mailbox.id"
)
_DELETED = (
    "SELECT mailbox.id, COUNT(*), CAST(SUM(placement.size) AS BIGINT) FROM mailbox"
    " JOIN placement ON placement.mailbox = mailbox.id WHERE (placement.flags & :deleted) <> 0"
    " AND mailbox.id IN (SELECT id FROM mailbox WHERE account = :person"
    " UNION SELECT mailbox FROM mailbox_right WHERE person IN (:person, 0)) GROUP BY mailbox.id"
)


def recent(reader: Reader, person: int) -> dict[int, int]:
    r"""How many letters are \Recent, by mailbox that the person has or shares; where there are none it is not named."""
    return dict(reader.rows(_RECENT, person=person))


def deleted(reader: Reader, person: int) -> dict[int, tuple[int, int]]:
    r"""The same of letters that are flagged \Deleted: how many, and their octets."""
    rows = reader.rows(_DELETED, person=person, deleted=DELETED)
    return {mailbox: (count, octets) for mailbox, count, octets in rows}


def seen(reader: Reader, person: int) -> dict[int, int]:
    """How many letters a visitor has seen, by mailbox; those where it is none are not named."""
    rows = reader.rows(
        "SELECT mailbox, COUNT(*) FROM visitor_seen WHERE person = :person AND is_seen = 1 GROUP BY mailbox",
        person=person,
    )
    return dict(rows)
