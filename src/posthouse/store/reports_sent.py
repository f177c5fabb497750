# SPDX-License-Identifier: Apache-2.0
"""Reports that we have sent, or had to keep to ourselves: to whom, about what, and what came of it.

Invariant: a row is written in the unit that posts the letter and forgets what was counted for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.ports import Reader, Transaction

PURGE_PAGE = 1000  # rows looked at by one unit of housekeeping
LONGEST_WAY = 10 * 86400.0  # seconds a letter is tried for; five days is usual (RFC 5321 §4.5.4.1)

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


def tries_of(reader: Reader, kind: str, target_domain: str, begin: float, end: float) -> int:
    """How often within this time letters with reports of this kind were tried at a domain; each that was posted then,
    once at least."""
    row = reader.row(
        "SELECT COUNT(attempt.id), COUNT(DISTINCT CASE WHEN sent.at >= :begin THEN sent.id END)"
        " FROM report_sent AS sent LEFT JOIN attempt ON attempt.letter = sent.letter"
        " AND attempt.at >= :begin AND attempt.at < :end"
        " WHERE sent.target_domain = :domain AND sent.at >= :since AND sent.at < :end AND sent.kind = :kind"
        " AND sent.letter IS NOT NULL",
        kind=kind,
        domain=target_domain,
        begin=begin,
        end=end,
        since=begin - LONGEST_WAY,
    )
    return 0 if row is None else max(row)


def purge(tx: Transaction, before: float) -> int:
    """Ids grow with time; call until 0."""
    return tx.run(
        "DELETE FROM report_sent WHERE id IN (SELECT id FROM report_sent ORDER BY id LIMIT :n) AND at < :before",
        n=PURGE_PAGE,
        before=before,
    )
