# SPDX-License-Identifier: Apache-2.0
"""Reports that we have sent, or had to keep to ourselves: to whom, about what, and what came of it.

Invariant: a row is written in the unit that posts the letter and forgets what was counted for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.ports import Reader, Transaction

PURGE_PAGE = 1000  # rows looked at by one unit of housekeeping

_COLUMNS = "id, kind, domain, day, report_id, at, target, target_domain, letter, result, reason, records, letters"


@dataclass(frozen=True, slots=True)
class SentReport:
    """See the table in migrations/0008_reports.sql. `letter` None: no letter was written."""

    id: int
    kind: str
    domain: str
    day: int
    report_id: str
    at: float
    target: str
    target_domain: str
    letter: int | None
    result: str
    reason: str
    records: int
    letters: int


def record(tx: Transaction, sent: SentReport) -> None:
    """`sent.id` is given here."""
    tx.run(
        f"INSERT INTO report_sent ({_COLUMNS}) VALUES (:id, :kind, :domain, :day, :report_id, :at, :target,"  # noqa: S608 - a constant
        " :target_domain, :letter, :result, :reason, :records, :letters)",
        id=tx.new_id(),
        kind=sent.kind,
        domain=sent.domain,
        day=sent.day,
        report_id=sent.report_id,
        at=sent.at,
        target=sent.target,
        target_domain=sent.target_domain,
        letter=sent.letter,
        result=sent.result,
        reason=sent.reason,
        records=sent.records,
        letters=sent.letters,
    )


def listed(reader: Reader, *, domain: str = "", before: int | None = None, page: int) -> list[SentReport]:
    """The newest first; with `domain` of that one alone; with `before` those with smaller ids."""
    condition = "domain = :domain AND id < :before" if domain else "id < :before"
    rows = reader.rows(
        f"SELECT {_COLUMNS} FROM report_sent WHERE {condition} ORDER BY id DESC LIMIT :n",  # noqa: S608 - constants
        **({"domain": domain} if domain else {}),
        before=(1 << 63) - 1 if before is None else before,
        n=page,
    )
    return [SentReport(*row) for row in rows]


def reports_about(reader: Reader, kind: str, domain: str, day: int) -> int:
    """How many different reports of this kind there were about that domain and day."""
    row = reader.row(
        "SELECT COUNT(DISTINCT report_id) FROM report_sent WHERE domain = :domain AND day = :day AND kind = :kind",
        domain=domain,
        day=day,
        kind=kind,
    )
    return 0 if row is None else int(row[0])


def posted_to(reader: Reader, kind: str, target_domain: str, begin: float, end: float) -> int:
    """How many letters with reports of this kind went to a domain within this time."""
    row = reader.row(
        "SELECT COUNT(*) FROM report_sent WHERE kind = :kind AND target_domain = :domain AND result = 'posted'"
        " AND at >= :begin AND at < :end",
        kind=kind,
        domain=target_domain,
        begin=begin,
        end=end,
    )
    return 0 if row is None else int(row[0])


def purge(tx: Transaction, before: float) -> int:
    """Ids grow with time; call until 0."""
    return tx.run(
        "DELETE FROM report_sent WHERE id IN (SELECT id FROM report_sent ORDER BY id LIMIT :n) AND at < :before",
        n=PURGE_PAGE,
        before=before,
    )
