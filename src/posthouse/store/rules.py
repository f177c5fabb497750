# SPDX-License-Identifier: Apache-2.0
"""What must hold between rows, rule by rule: how to find the rows that break it, and what mends them.

Invariant: a rule mends only what other rows tell for certain, or what says nothing any more (a row that refers to
nothing). Counters are integrity.mend_counters' matter, content the checkup's. It goes page by page, so that neither a
read nor a unit of work lasts long on a large store.
"""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.mail.header import scan_header
from posthouse.outcome import SYSTEM_FAULT, Outcome
from posthouse.ports import Reader, Transaction
from posthouse.store import destinations, mailboxes
from posthouse.store.queue_rows import pack_outcome
from posthouse.store.rule import Rule, run
from posthouse.store.sharing_rules import SHARING_RULES

# Seconds that a clock may have been set back since a time was written down, before that counts as damage.
CLOCK_SLACK = 3_600
PAGE = 2_000  # rows looked at by one read: some milliseconds

_NO_SUMMARY = scan_header(b"\r\n").pack_envelope()
_FAULT = pack_outcome(Outcome(SYSTEM_FAULT, "what became of it was lost with a damaged row"))


def _say_unknown(tx: Transaction, row: int, _: float) -> None:
    tx.run("UPDATE queue_recipient SET result = :result WHERE id = :id", id=row, result=_FAULT)


def _refresh(tx: Transaction, row: int, now: float) -> None:
    found = tx.row("SELECT next_hop FROM queue_recipient WHERE id = :id", id=row)
    if found is not None:
        destinations.make_ready(tx, {found[0]: now})
        destinations.refresh(tx, found[0], now)


def _new_validity(tx: Transaction, row: int, now: float) -> None:
    mailboxes.give_new_validity(tx, row, now)


def _empty_detail(tx: Transaction, row: int, _: float) -> None:
    tx.run(
        "INSERT INTO email_detail (email, prefix, summary, reverse_path, trace)"
        " VALUES (:id, :prefix, :summary, '', '') ON CONFLICT (email) DO NOTHING",
        id=row,
        prefix=b"",
        summary=_NO_SUMMARY,
    )


def _placeholder(tx: Transaction, row: int, _: float) -> None:
    """So that the letter is shown as damaged, and not as one that was removed."""
    tx.run(
        "INSERT INTO blob (id, pack, pack_offset, length, hash) SELECT blob, 0, 0, 0, :lost FROM email WHERE id = :id"
        " ON CONFLICT (id) DO NOTHING",
        id=row,
        lost=b"lost",
    )


_NOT = "NOT EXISTS (SELECT 1 FROM "
_WAITING = (
    "(SELECT COUNT(*) FROM queue_recipient AS r WHERE r.letter = queue_letter.id"
    " AND r.state IN ('due', 'claimed', 'held'))"
)

RULES: tuple[Rule, ...] = (
    Rule(
        "email_detail",
        "email",
        _NOT + "email WHERE email.id = email_detail.email)",
        "belongs to no letter",
        "nothing: it is left over",
        run("DELETE FROM email_detail WHERE email = :id"),
    ),
    Rule(
        "email",
        "id",
        _NOT + "email_detail WHERE email_detail.email = email.id)",
        "has lost its own fields (Return-Path, Received) and its summary",
        "the letter cannot be read until that is mended; the rest of it is whole",
        _empty_detail,
    ),
    Rule(
        "email",
        "id",
        _NOT + "blob WHERE blob.id = email.blob)",
        "has lost the row that says where its content lies",
        "the letter cannot be read",
        _placeholder,
    ),
    Rule(
        "email",
        "id",
        "size <> COALESCE((SELECT LENGTH(email_detail.prefix) + blob.length FROM email_detail JOIN blob"
        " ON blob.id = email.blob AND blob.pack > 0 WHERE email_detail.email = email.id), size)",
        "says another size than its parts have",
        "mail programs are told a wrong size",
        run(
            "UPDATE email SET size = (SELECT LENGTH(email_detail.prefix) + blob.length FROM email_detail JOIN blob"
            " ON blob.id = email.blob WHERE email_detail.email = email.id) WHERE id = :id",
            "UPDATE placement SET size = (SELECT size FROM email WHERE id = :id) WHERE email = :id",
        ),
    ),
    Rule(
        "email",
        "id",
        "EXISTS (SELECT 1 FROM placement WHERE placement.email = email.id AND placement.size <> email.size)",
        "has another size in a mailbox than of its own",
        "mail programs are told a wrong size",
        run("UPDATE placement SET size = (SELECT size FROM email WHERE id = :id) WHERE email = :id"),
    ),
    Rule(
        "retention",
        "blob",
        _NOT + "blob WHERE blob.id = retention.blob)",
        "keeps content that is gone",
        "nothing: it is left over",
        run("DELETE FROM retention WHERE blob = :id"),
    ),
    Rule(
        "credential",
        "id",
        _NOT + "account WHERE account.id = credential.account)",
        "is the password of nobody",
        "nothing: it is left over",
        run("DELETE FROM credential WHERE id = :id"),
    ),
    Rule(
        "dkim_key",
        "id",
        "dkim_key.domain IS NOT NULL AND " + _NOT + "domain WHERE domain.id = dkim_key.domain)",
        "is the key of no domain",
        "nothing: it is left over",
        run("DELETE FROM dkim_key WHERE id = :id"),
    ),
    Rule(
        "alias_target",
        "address",
        _NOT + "address WHERE address.id = alias_target.address)",
        "is the target of no alias",
        "nothing: it is left over",
        run("DELETE FROM alias_target WHERE address = :id"),
    ),
    Rule(
        "address",
        "id",
        "account IS NOT NULL AND " + _NOT + "account WHERE account.id = address.account)",
        "leads to an account that is gone",
        "letters to it are refused; mended, the address goes",
        run("DELETE FROM address WHERE id = :id"),
    ),
    Rule(
        "mailbox",
        "id",
        _NOT
        + "account WHERE account.id = mailbox.account) AND "
        + _NOT
        + "placement WHERE placement.mailbox = mailbox.id)",
        "is empty and belongs to nobody",
        "nothing: it is left over",
        run("DELETE FROM mailbox WHERE id = :id"),
    ),
    Rule(
        "mailbox",
        "id",
        "uid_validity < 1 OR (uid_validity IN (SELECT uid_validity FROM mailbox GROUP BY uid_validity"
        " HAVING COUNT(*) > 1) AND id > (SELECT MIN(other.id) FROM mailbox AS other"
        " WHERE other.uid_validity = mailbox.uid_validity))",
        "has the UIDVALIDITY of another",
        "mail programs may take its letters for others'",
        _new_validity,
    ),
    Rule(
        "mailbox",
        "id",
        "uid_validity > COALESCE((SELECT last FROM uid_epoch WHERE id = 1), 0)",
        "has a UIDVALIDITY that was never given out",
        "a new mailbox might get the same",
        run(
            "INSERT INTO uid_epoch (id, last) SELECT 1, MAX(uid_validity) FROM mailbox WHERE 1 = 1"
            " ON CONFLICT (id) DO UPDATE SET last = excluded.last"
        ),
    ),
    Rule(
        "account",
        "id",
        "state NOT IN ('active', 'disabled')",
        "is neither active nor disabled",
        "whether it may log in is not known; mended, it may not",
        run("UPDATE account SET state = 'disabled' WHERE id = :id"),
    ),
    Rule(
        "account",
        "id",
        "journal_floor > modseq",
        "has a journal that begins in the future",
        "mail programs that synchronise are told nothing",
        run("UPDATE account SET modseq = journal_floor + 1 WHERE id = :id"),
    ),
    Rule(
        "queue_recipient",
        "id",
        _NOT + "queue_letter WHERE queue_letter.id = queue_recipient.letter)",
        "waits for a letter that is gone",
        "the recipient gets nothing; mended, the row goes, as nothing is left to send",
        run("DELETE FROM queue_recipient WHERE id = :id"),
    ),
    Rule(
        "queue_recipient",
        "id",
        "state NOT IN ('due', 'claimed', 'held', 'delivered', 'failed', 'expired')",
        "is in no state that there is",
        "the recipient gets nothing; mended, it is held for you to release or drop",
        run(
            "UPDATE queue_recipient SET state = 'held', owner = NULL, leased_until = NULL, hold_asked = 0"
            " WHERE id = :id"
        ),
    ),
    Rule(
        "queue_recipient",
        "id",
        "state = 'claimed' AND (owner IS NULL OR leased_until IS NULL)",
        "is being sent by nobody",
        "the recipient gets nothing until that is mended",
        run(
            "UPDATE queue_recipient SET state = 'due', owner = NULL, leased_until = NULL WHERE id = :id",
        ),
    ),
    Rule(
        "queue_recipient",
        "id",
        "state <> 'claimed' AND (owner IS NOT NULL OR leased_until IS NOT NULL)",
        "has an owner although nobody sends it",
        "nothing at present",
        run("UPDATE queue_recipient SET owner = NULL, leased_until = NULL WHERE id = :id"),
    ),
    Rule(
        "queue_recipient",
        "id",
        "state IN ('delivered', 'failed', 'expired') AND result IS NULL",
        "is finished without a result",
        "its letter cannot leave the queue",
        _say_unknown,
    ),
    Rule(
        "queue_recipient",
        "id",
        "deadline_at <> COALESCE(warn_at, expires_at)",
        "has a wrong deadline",
        "a warning or the end of trying may come late",
        run("UPDATE queue_recipient SET deadline_at = COALESCE(warn_at, expires_at) WHERE id = :id"),
    ),
    Rule(
        "queue_recipient",
        "id",
        "state = 'due' AND " + _NOT + "queue_destination AS d WHERE d.next_hop = queue_recipient.next_hop"
        " AND d.ready_at IS NOT NULL AND (d.ready_at <= queue_recipient.due_at OR d.ready_at <= d.down_until"
        f" OR d.ready_at <= :now + {CLOCK_SLACK}))",
        "is due, and its destination is not looked at",
        "the recipient waits too long",
        _refresh,
    ),
    Rule(
        "queue_letter",
        "id",
        "open_recipients <> " + _WAITING,
        "counts its recipients wrongly",
        "it leaves the queue too early or never",
        run(
            "UPDATE queue_letter SET open_recipients = " + _WAITING + " WHERE id = :id"  # noqa: S608 - constants
        ),
    ),
    *SHARING_RULES,
)


@dataclass(frozen=True, slots=True)
class Page:
    """Keys of rows that break a rule, among the next ones behind `after`; where to go on (None: that was all)."""

    wrong: tuple[int, ...]
    after: int | None


def look(reader: Reader, rule: Rule, after: int, now: float) -> Page:
    table, key = rule.table, rule.key
    head = reader.row(
        f"SELECT COUNT(*), MAX(k) FROM (SELECT {key} AS k FROM {table} WHERE {key} > :after ORDER BY {key} LIMIT :page)"  # noqa: S608 - constants
        " AS looked_at",
        after=after,
        page=PAGE,
    )
    count, last = head or (0, None)
    if not count:
        return Page((), None)
    parameters: dict[str, int | float] = {"after": after, "last": last}
    if ":now" in rule.wrong:
        parameters["now"] = now
    rows = reader.rows(
        f"SELECT {key} FROM {table} WHERE {key} > :after AND {key} <= :last AND ({rule.wrong}) ORDER BY {key}",  # noqa: S608 - constants
        **parameters,
    )
    return Page(tuple(row[0] for row in rows), last if count == PAGE else None)


def mend(tx: Transaction, rule: Rule, rows: tuple[int, ...], now: float) -> int:
    """Mend those of the rows that (still) break the rule; how many."""
    mended = 0
    for row in rows:
        parameters: dict[str, int | float] = {"id": row}
        if ":now" in rule.wrong:
            parameters["now"] = now
        if tx.row(
            f"SELECT 1 FROM {rule.table} WHERE {rule.key} = :id AND ({rule.wrong})",  # noqa: S608 - constants
            **parameters,
        ):
            rule.mend(tx, row, now)
            mended += 1
    return mended


__all__ = ["RULES", "Page", "Rule", "look", "mend"]
