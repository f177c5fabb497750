# SPDX-License-Identifier: Apache-2.0
"""Whether the rows say what must hold: every counter recounted, every reference followed. It changes nothing.

For `posthouse check --store`, account by account, so that no read lasts long; `mend_counters` repairs what can be
known from other rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.ports import Reader, Row, Transaction


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is wrong: what it says (`stored`), what the other rows say (`actual`)."""

    table: str
    id: int
    field: str
    stored: int | str | None
    actual: int | str | None

    def __str__(self) -> str:
        return f"{self.table} {self.id}: {self.field} is {self.stored}, should be {self.actual}"


_ACCOUNT = (
    "SELECT used_octets, used_letters, modseq,"
    " (SELECT COALESCE(MAX(modseq), 0) FROM journal WHERE account = :account) FROM account WHERE id = :account"
)
# An email counts once, however many placements show it.
_EMAILS = (
    "SELECT COUNT(*), CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM email WHERE id IN (SELECT placement.email"
    " FROM mailbox JOIN placement ON placement.mailbox = mailbox.id WHERE mailbox.account = :account)"
)
_MAILBOXES = (
    "SELECT mailbox.id, mailbox.total, mailbox.unseen, mailbox.octets, mailbox.uid_next, mailbox.modseq,"
    " COUNT(placement.uid), CAST(COALESCE(SUM(1 - (placement.flags & 1)), 0) AS BIGINT),"
    " CAST(COALESCE(SUM(placement.size), 0) AS BIGINT), COALESCE(MAX(placement.uid), 0),"
    " COALESCE(MAX(placement.modseq), 0)"
    " FROM mailbox LEFT JOIN placement ON placement.mailbox = mailbox.id WHERE mailbox.account = :account"
    " GROUP BY mailbox.id, mailbox.total, mailbox.unseen, mailbox.octets, mailbox.uid_next, mailbox.modseq"
    " ORDER BY mailbox.id"
)
# Each finds rows that refer to nothing: (table, what is missing, statement over one account).
_DANGLING = (
    (
        "placement",
        "email",
        (
            "SELECT placement.email FROM mailbox JOIN placement ON placement.mailbox = mailbox.id"
            " LEFT JOIN email ON email.id = placement.email AND email.account = mailbox.account"
            " AND email.size = placement.size WHERE mailbox.account = :account AND email.id IS NULL LIMIT 100"
        ),
    ),
    (
        "email",
        "email_detail",
        (
            "SELECT id FROM email WHERE id IN (SELECT placement.email FROM mailbox JOIN placement"
            " ON placement.mailbox = mailbox.id WHERE mailbox.account = :account)"
            " AND NOT EXISTS (SELECT 1 FROM email_detail WHERE email_detail.email = email.id) LIMIT 100"
        ),
    ),
    (
        "email",
        "blob",
        (
            "SELECT id FROM email WHERE id IN (SELECT placement.email FROM mailbox JOIN placement"
            " ON placement.mailbox = mailbox.id WHERE mailbox.account = :account)"
            " AND NOT EXISTS (SELECT 1 FROM blob WHERE blob.id = email.blob) LIMIT 100"
        ),
    ),
)
# The same over the whole store.
_DANGLING_ANYWHERE = (
    (
        "email",
        "placement",
        ("SELECT id FROM email WHERE NOT EXISTS (SELECT 1 FROM placement WHERE placement.email = email.id) LIMIT 100"),
    ),
    (
        "placement",
        "mailbox",
        (
            "SELECT DISTINCT mailbox FROM placement WHERE NOT EXISTS"
            " (SELECT 1 FROM mailbox WHERE mailbox.id = placement.mailbox) LIMIT 100"
        ),
    ),
    (
        "email_detail",
        "email",
        (
            "SELECT email FROM email_detail WHERE NOT EXISTS (SELECT 1 FROM email WHERE email.id = email_detail.email)"
            " LIMIT 100"
        ),
    ),
    (
        "email",
        "account",
        "SELECT id FROM email WHERE NOT EXISTS (SELECT 1 FROM account WHERE account.id = email.account) LIMIT 100",
    ),
    (
        "queue_letter",
        "blob",
        "SELECT id FROM queue_letter WHERE NOT EXISTS (SELECT 1 FROM blob WHERE blob.id = queue_letter.blob) LIMIT 100",
    ),
)


def accounts(reader: Reader, after: int = 0, limit: int = 1_000) -> list[int]:
    """Ids of accounts, a page behind `after`."""
    rows = reader.rows("SELECT id FROM account WHERE id > :after ORDER BY id LIMIT :limit", after=after, limit=limit)
    return [row[0] for row in rows]


def check_account(reader: Reader, account: int) -> list[Difference]:
    """Everything that one account's rows say about each other. At most a hundred of each kind are reported."""
    found = check_counters(reader, account)
    if reader.row("SELECT 1 FROM account WHERE id = :account", account=account) is None:
        return found
    inbox = reader.row("SELECT 1 FROM mailbox WHERE account = :account AND name = 'INBOX'", account=account)
    if inbox is None:
        found.append(Difference("account", account, "INBOX", None, "INBOX"))
    for table, missing, statement in _DANGLING:
        found += (Difference(table, row[0], missing, None, "a row") for row in reader.rows(statement, account=account))
    return found


def check_counters(reader: Reader, account: int) -> list[Difference]:
    """What an account and its mailboxes count, against what there is; what `mend_counters` mends."""
    row = reader.row(_ACCOUNT, account=account)
    if row is None:
        return []
    octets, letters, modseq, journal_modseq = row
    real_letters, real_octets = reader.row(_EMAILS, account=account) or (0, 0)
    found = [
        *_unequal("account", account, "used_octets", octets, real_octets),
        *_unequal("account", account, "used_letters", letters, real_letters),
        *_at_least("account", account, "modseq", modseq, journal_modseq),
    ]
    for mailbox in reader.rows(_MAILBOXES, account=account):
        found += _check_mailbox(mailbox, modseq)
    return found


def named(reader: Reader, difference: Difference) -> str:
    """A difference in words that say whose it is."""
    statement = (
        "SELECT mailbox.name || ' of ' || account.name FROM mailbox JOIN account ON account.id = mailbox.account"
        " WHERE mailbox.id = :id"
        if difference.table == "mailbox"
        else "SELECT 'account ' || name FROM account WHERE id = :id"
    )
    row = reader.row(statement, id=difference.id)
    whose = row[0] if row else f"{difference.table} {difference.id}"
    return f"{whose}: {difference.field} is {difference.stored}, should be {difference.actual}"


def _check_mailbox(row: Row, account_modseq: int) -> list[Difference]:
    mailbox, total, unseen, octets, uid_next, modseq = row[:6]
    real_total, real_unseen, real_octets, last_uid, last_modseq = row[6:]
    return [
        *_unequal("mailbox", mailbox, "total", total, real_total),
        *_unequal("mailbox", mailbox, "unseen", unseen, real_unseen),
        *_unequal("mailbox", mailbox, "octets", octets, real_octets),
        *_at_least("mailbox", mailbox, "uid_next", uid_next, last_uid + 1),
        *_at_least("mailbox", mailbox, "modseq", modseq, last_modseq),
        *_at_least("mailbox", mailbox, "modseq of its account", account_modseq, modseq),
    ]


def check_rest(reader: Reader) -> list[Difference]:
    """What belongs to no account's rows: it goes through whole tables."""
    found: list[Difference] = []
    for table, missing, statement in _DANGLING_ANYWHERE:
        found += (Difference(table, row[0], missing, None, "a row") for row in reader.rows(statement))
    return found


def _unequal(table: str, row: int, field: str, stored: int, actual: int) -> list[Difference]:
    return [] if stored == actual else [Difference(table, row, field, stored, actual)]


def _at_least(table: str, row: int, field: str, stored: int, least: int) -> list[Difference]:
    return [] if stored >= least else [Difference(table, row, field, stored, least)]


def mend_counters(tx: Transaction, account: int) -> None:
    """Set every counter of an account to what its emails and placements say."""
    row = tx.row(_ACCOUNT, account=account)
    if row is None:
        return
    letters, octets = tx.row(_EMAILS, account=account) or (0, 0)
    tx.run(
        "UPDATE account SET used_octets = :octets, used_letters = :letters,"
        " modseq = CASE WHEN modseq < :modseq THEN :modseq ELSE modseq END WHERE id = :account",
        octets=octets,
        letters=letters,
        modseq=max([row[3], *(max(mailbox[5], mailbox[10]) for mailbox in tx.rows(_MAILBOXES, account=account))]),
        account=account,
    )
    for mailbox in tx.rows(_MAILBOXES, account=account):
        tx.run(
            "UPDATE mailbox SET total = :total, unseen = :unseen, octets = :octets, uid_next = :uid_next,"
            " modseq = :modseq WHERE id = :mailbox",
            mailbox=mailbox[0],
            total=mailbox[6],
            unseen=mailbox[7],
            octets=mailbox[8],
            uid_next=max(mailbox[4], mailbox[9] + 1),
            modseq=max(mailbox[5], mailbox[10]),
        )
