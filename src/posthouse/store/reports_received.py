# SPDX-License-Identifier: Apache-2.0
"""Reports of others about our domains, as values for display; and the letters that wait to be read as such.

Invariant: a report of a sender is kept once, however often it comes; what reports take has bounds, for each sender, for
a day and in all, as whoever knows an address for reports may send some.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from posthouse.ports import BlobLocation, Reader, Row, Transaction

PURGE_PAGE = 500  # reports removed by one unit of housekeeping, each with its sources
MAX_SOURCES = 2_000  # rows of one report; what is beyond the largest of them is kept as one sum
# Rows of all reports that come within a day, of those whose senders belong together, and of all that are kept (the
# oldest go first). A row is some 300 octets and at most 600. A report counts as REPORT_ROWS more: its own texts, and
# else one without sources would count as nothing. A thousand domains get some 150,000 a day, from the largest
# reporter 20,000.
MAX_ROWS_PER_DAY, MAX_ROWS_PER_SENDER, MAX_ROWS = 250_000, 50_000, 5_000_000
REPORT_ROWS = 10
MAX_UNREAD = 1_000  # letters remembered that could not be read as reports
# Octets of what a report says beside numbers, of all and for each source; what is beyond is forgotten: a stranger
# can pack 16 MB of text into a letter of 20 KB.
MAX_DETAILS, FACTS_PER_SOURCE = 4_000, 500
# Octets of each name that a report is found by: PostgreSQL takes 2,700 in a key, all of them together.
MAX_NAME = 255

_COLUMNS = (
    "id, kind, domain, organization, report_id, sender, begin_at, end_at, at, letter, passed, failed, sources, details"
)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode

Facts = dict[str, Any]  # texts, numbers, lists and objects of these, as JSON has them


@dataclass(frozen=True, slots=True)
class Source:
    """Letters (DMARC) or sessions (TLS) that one address stands for, all passed or all failed."""

    source: str
    is_pass: bool
    count: int
    facts: Facts


@dataclass(frozen=True, slots=True)
class ReceivedReport:
    """See the table in migrations/0008_reports.sql. `details`: what the report says apart from its sources."""

    id: int
    kind: str
    domain: str
    organization: str
    report_id: str
    sender: str
    begin_at: int
    end_at: int
    at: float
    letter: int
    passed: int
    failed: int
    sources: int
    details: Facts


@dataclass(frozen=True, slots=True)
class Waiting:
    """`location` None: its content is gone. `tries`: processes that have begun to read it."""

    letter: int
    at: float
    tries: int
    location: BlobLocation | None


@dataclass(frozen=True, slots=True)
class Summary:
    """Of one source of a domain over several reports."""

    source: str
    passed: int
    failed: int
    reports: int


# --- letters that wait ----------------------------------------------------------------------------


def wait(tx: Transaction, letter: int, blob: int, at: float) -> None:
    """In the unit that takes the letter."""
    tx.run(
        "INSERT INTO report_waiting (letter, blob, at) VALUES (:letter, :blob, :at) ON CONFLICT (letter) DO NOTHING",
        letter=letter,
        blob=blob,
        at=at,
    )


def waiting(reader: Reader, page: int) -> list[Waiting]:
    """The oldest first."""
    rows = reader.rows(
        "SELECT letter, at, tries, pack, pack_offset, length, hash FROM report_waiting LEFT JOIN blob ON blob.id ="
        " report_waiting.blob"
        " ORDER BY letter LIMIT :n",
        n=page,
    )
    return [Waiting(row[0], row[1], row[2], None if row[3] is None else BlobLocation(*row[3:])) for row in rows]


def begin(tx: Transaction, letter: int) -> None:
    """It is going to be read by this process."""
    tx.run("UPDATE report_waiting SET tries = tries + 1 WHERE letter = :letter", letter=letter)


def done(tx: Transaction, letter: int) -> bool:
    """It has been looked at; False: by somebody else before."""
    return tx.run("DELETE FROM report_waiting WHERE letter = :letter", letter=letter) > 0


def unread(tx: Transaction, letter: int, at: float, reason: str) -> None:
    """It looks like a report and is not kept; the oldest of them are forgotten."""
    tx.run(
        "INSERT INTO report_unread (letter, at, reason) VALUES (:letter, :at, :reason)"
        " ON CONFLICT (letter) DO UPDATE SET reason = excluded.reason",
        letter=letter,
        at=at,
        reason=reason,
    )
    tx.run(
        "DELETE FROM report_unread WHERE letter <= (SELECT letter FROM report_unread ORDER BY letter DESC LIMIT 1"
        " OFFSET :n)",
        n=MAX_UNREAD,
    )


def list_unread(reader: Reader, page: int) -> list[tuple[int, float, str]]:
    """(letter, when it came, why), the newest first."""
    rows = reader.rows("SELECT letter, at, reason FROM report_unread ORDER BY letter DESC LIMIT :n", n=page)
    return [(row[0], row[1], row[2]) for row in rows]


# --- reports --------------------------------------------------------------------------------------


def crowded(reader: Reader, sender: str, at: float) -> str:
    """Why no more is kept of what came from that domain at that time, "" where there is room. The last report that has
    room may be larger than the room."""
    kin = ".".join(sender.rsplit(".", 2)[-2:])  # "b.test" and all below: names below one's own cost nothing
    row = reader.row(
        "SELECT CAST(COALESCE(SUM(sources + :own), 0) AS BIGINT), CAST(COALESCE(SUM(CASE WHEN sender = :kin"
        " OR sender LIKE :below THEN sources + :own END), 0) AS BIGINT) FROM report_received WHERE at > :since",
        own=REPORT_ROWS,
        kin=kin,
        below=f"%.{kin}" if kin else "",
        since=at - 86400,
    )
    assert row is not None
    if row[0] >= MAX_ROWS_PER_DAY:
        return "too many reports came within a day"
    if row[1] >= MAX_ROWS_PER_SENDER:
        return f"too many reports came from {kin or 'nobody who is known'} within a day"
    return ""


def cut_name(text: str) -> str:
    """The beginning of a name that a stranger has chosen, as much as is kept."""
    return text.encode("utf-8", "replace")[:MAX_NAME].decode("utf-8", "ignore")


def keep(tx: Transaction, report: ReceivedReport, sources: Sequence[Source]) -> str:
    """Keep it with its largest sources; "" when it is kept, else why not. `report.domain` and `.sender` are names of
    domains, MAX_NAME octets at most; `.id`, `.passed`, `.failed` and `.sources` are given here."""
    known = tx.row(
        "SELECT id FROM report_received WHERE kind = :kind AND domain = :domain AND sender = :sender"
        " AND organization = :organization AND report_id = :report_id",
        kind=report.kind,
        domain=report.domain,
        sender=report.sender,
        organization=cut_name(report.organization),
        report_id=cut_name(report.report_id),
    )
    if known is not None:
        return "it has come before"  # RFC 9990 §3.5.4
    rows = _largest(sources)
    ident = tx.new_id()
    tx.run(
        f"INSERT INTO report_received ({_COLUMNS}) VALUES (:id, :kind, :domain, :organization, :report_id, :sender,"  # noqa: S608 - a constant
        " :begin_at, :end_at, :at, :letter, :passed, :failed, :sources, :details)",
        id=ident,
        kind=report.kind,
        domain=report.domain,
        organization=cut_name(report.organization),
        report_id=cut_name(report.report_id),
        sender=report.sender,
        begin_at=report.begin_at,
        end_at=report.end_at,
        at=report.at,
        letter=report.letter,
        passed=report.passed,
        failed=report.failed,
        sources=len(rows),
        details=details if len(details := _encode(report.details)) <= MAX_DETAILS else _encode({}),
    )
    facts = _facts(rows)
    tx.many(
        "INSERT INTO report_source (report, number, source, passed, count, facts)"
        " VALUES (:report, :number, :source, :passed, :count, :facts)",
        [
            {
                "report": ident,
                "number": number,
                "source": each.source,
                "passed": int(each.is_pass),
                "count": each.count,
                "facts": facts[number],
            }
            for number, each in enumerate(rows)
        ],
    )
    return ""


def _facts(rows: Sequence[Source]) -> list[bytes]:
    """As they are kept: of a stranger's texts no more than there is room for, the largest sources first."""
    facts, left = [_encode(each.facts) for each in rows], FACTS_PER_SOURCE * (len(rows) + REPORT_ROWS // 2)
    for number, octets in enumerate(facts):
        if len(octets) > left:
            facts[number] = _encode({})
        left -= len(facts[number])
    return facts


def _largest(sources: Sequence[Source]) -> list[Source]:
    """With one sum each of what passed and failed beyond MAX_SOURCES."""
    ordered = sorted(sources, key=lambda each: -each.count)
    rows, rest = ordered[: MAX_SOURCES - 2], ordered[MAX_SOURCES - 2 :]
    for is_pass in (True, False):
        beyond = [each.count for each in rest if each.is_pass is is_pass]
        if beyond:
            rows.append(Source("", is_pass, sum(beyond), {"others": len(beyond)}))
    return rows


def listed(reader: Reader, *, domain: str = "", before: int | None = None, page: int) -> list[ReceivedReport]:
    """The newest first; with `domain` of that one alone; with `before` those with smaller ids."""
    condition = "domain = :domain AND id < :before" if domain else "id < :before"
    rows = reader.rows(
        f"SELECT {_COLUMNS} FROM report_received WHERE {condition} ORDER BY id DESC LIMIT :n",  # noqa: S608 - constants
        **({"domain": domain} if domain else {}),
        before=(1 << 63) - 1 if before is None else before,
        n=page,
    )
    return [_report(row) for row in rows]


def report(reader: Reader, ident: int) -> ReceivedReport | None:
    row = reader.row(f"SELECT {_COLUMNS} FROM report_received WHERE id = :id", id=ident)  # noqa: S608 - a constant
    return None if row is None else _report(row)


def sources_of(reader: Reader, ident: int) -> list[Source]:
    """Of one report, the most letters first."""
    rows = reader.rows(
        "SELECT source, passed, count, facts FROM report_source WHERE report = :report ORDER BY number", report=ident
    )
    return [Source(row[0], bool(row[1]), row[2], _decode(row[3])) for row in rows]


def summary(reader: Reader, domain: str, kind: str, since: int, page: int) -> list[Summary]:
    """Per source, over the reports whose period ends after `since`; the most failures first."""
    rows = reader.rows(
        "SELECT source, CAST(SUM(passed * count) AS BIGINT), CAST(SUM((1 - passed) * count) AS BIGINT),"
        " COUNT(DISTINCT report) FROM report_source WHERE report IN (SELECT id FROM report_received"
        " WHERE domain = :domain AND kind = :kind AND end_at > :since) GROUP BY source ORDER BY 3 DESC, 2 DESC, source"
        " LIMIT :n",
        domain=domain,
        kind=kind,
        since=since,
        n=page,
    )
    return [Summary(*row) for row in rows]


def totals(reader: Reader, domain: str, since: int) -> list[tuple[str, int, int, int]]:
    """(kind, reports, passed, failed) of the reports whose period ends after `since`."""
    rows = reader.rows(
        "SELECT kind, COUNT(*), CAST(SUM(passed) AS BIGINT), CAST(SUM(failed) AS BIGINT) FROM report_received"
        " WHERE domain = :domain AND end_at > :since GROUP BY kind ORDER BY kind",
        domain=domain,
        since=since,
    )
    return [(row[0], row[1], row[2], row[3]) for row in rows]


def surplus(reader: Reader) -> int:
    """The newest of the reports that are too many in all; 0 for none. It looks at every one."""
    row = reader.row(
        "SELECT MAX(id) FROM (SELECT id, SUM(sources + :own) OVER (ORDER BY id DESC) AS total FROM report_received)"
        " AS counted WHERE total > :most",
        own=REPORT_ROWS,
        most=MAX_ROWS,
    )
    return 0 if row is None or row[0] is None else int(row[0])


def purge(tx: Transaction, before: float, surplus: int = 0) -> int:
    """Forget what came before this time, and reports up to `surplus`; call until 0. Ids grow with time."""
    old = tx.rows(
        "SELECT id FROM (SELECT id, at FROM report_received ORDER BY id LIMIT :n) AS oldest"
        " WHERE at < :before OR id <= :surplus",
        n=PURGE_PAGE,
        before=before,
        surplus=surplus,
    )
    for (ident,) in old:
        tx.run("DELETE FROM report_source WHERE report = :report", report=ident)
        tx.run("DELETE FROM report_received WHERE id = :id", id=ident)
    return len(old) + tx.run(
        "DELETE FROM report_unread WHERE letter IN (SELECT letter FROM report_unread ORDER BY letter LIMIT :n)"
        " AND at < :before",
        n=PURGE_PAGE,
        before=before,
    )


def _report(row: Row) -> ReceivedReport:
    return ReceivedReport(*(*row[:13], _decode(row[13])))
