# SPDX-License-Identifier: Apache-2.0
"""The TLS results of a day as reports need them: read, and removed when they have been told.

Invariant: only whole days are read, and a day of a domain goes as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.ports import Reader, Transaction

MAX_RESULTS = 10_000  # of one domain and day in a report


@dataclass(frozen=True, slots=True)
class TlsCount:
    """`result` "" is a success, else the word of RFC 8460 §4.3."""

    policy_type: str
    policy_text: str
    mx_patterns: str
    result: str
    sending_ip: str
    receiving_mx: str
    receiving_helo: str
    receiving_ip: str
    reason: str
    count: int


def days(reader: Reader, before: int, after: tuple[int, str], page: int) -> list[tuple[int, str]]:
    """A page of (day, domain) that is to be told, oldest first: days before this one, behind `after`."""
    rows = reader.rows(
        "SELECT DISTINCT day, policy_domain FROM tls_result WHERE day < :before"
        " AND (day > :day OR (day = :day AND policy_domain > :domain)) ORDER BY day, policy_domain LIMIT :n",
        before=before,
        day=after[0],
        domain=after[1],
        n=page,
    )
    return [(row[0], row[1]) for row in rows]


def counts(reader: Reader, day: int, domain: str) -> list[TlsCount]:
    """Of one domain and day, grouped by policy, the most sessions first."""
    rows = reader.rows(
        "SELECT policy_type, policy_text, mx_patterns, result, sending_ip, receiving_mx, receiving_helo, receiving_ip,"
        " reason, count FROM tls_result WHERE day = :day AND policy_domain = :domain"
        " ORDER BY count DESC, policy_type, policy_text, mx_patterns, result, receiving_mx, receiving_ip LIMIT :n",
        day=day,
        domain=domain,
        n=MAX_RESULTS,
    )
    return [TlsCount(*row) for row in rows]


def forget(tx: Transaction, day: int, domain: str) -> None:
    """It was told, or nobody wants to know."""
    tx.run("DELETE FROM tls_result WHERE day = :day AND policy_domain = :domain", day=day, domain=domain)
