# SPDX-License-Identifier: Apache-2.0
"""What is counted for DMARC reports to other domains' owners, until they are told.

Invariant: what a day can take has a bound, however many addresses, domains and signatures strangers make up; what is
not counted for that is counted as such.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from posthouse.ports import Reader, Transaction

MAX_KINDS = 10_000  # rows of one domain and day: a report of some 9 MB, which gzip makes 0.5 MB
MAX_DOMAINS = 20_000  # of one day: each may be a report, and strangers can publish policies for any number of names
DIGEST_OCTETS = 16

# (policy domain, p, sp, np, adkim, aspf, fo, testing), URIs of rua, problems
PolicySaid = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
_encode = msgspec.msgpack.Encoder().encode
_decode_policy = msgspec.msgpack.Decoder(PolicySaid).decode


@dataclass(frozen=True, slots=True)
class Counted:
    """Letters of which the report says the same; `facts` as packed by the caller. `telling` of them are a reason for
    a report."""

    facts: bytes
    count: int
    telling: int


@dataclass(frozen=True, slots=True)
class DayOfDomain:
    day: int
    domain: str
    policy: PolicySaid
    omitted: int
    count: int
    telling: int


def digest_of(facts: bytes) -> bytes:
    return hashlib.sha256(facts).digest()[:DIGEST_OCTETS]


def add(tx: Transaction, day: int, domain: str, policy: PolicySaid, counted: Sequence[Counted]) -> None:
    """Add to what is counted of that domain and day."""
    kinds = _kinds(tx, day, domain, policy)
    if kinds is None:
        return
    before, omitted = kinds, 0
    for each in counted:
        known = tx.run(
            "UPDATE dmarc_count SET count = count + :count, telling = telling + :telling"
            " WHERE day = :day AND domain = :domain AND digest = :digest",
            day=day,
            domain=domain,
            digest=digest_of(each.facts),
            count=each.count,
            telling=each.telling,
        )
        if known:
            continue
        if kinds >= MAX_KINDS:
            omitted += each.count
            continue
        kinds += 1
        tx.run(
            "INSERT INTO dmarc_count (day, domain, digest, facts, count, telling)"
            " VALUES (:day, :domain, :digest, :facts, :count, :telling)",
            day=day,
            domain=domain,
            digest=digest_of(each.facts),
            facts=each.facts,
            count=each.count,
            telling=each.telling,
        )
    if kinds != before or omitted:
        tx.run(
            "UPDATE dmarc_day SET kinds = :kinds, omitted = omitted + :omitted WHERE day = :day AND domain = :domain",
            day=day,
            domain=domain,
            kinds=kinds,
            omitted=omitted,
        )


def _kinds(tx: Transaction, day: int, domain: str, policy: PolicySaid) -> int | None:
    """How many rows the domain has that day; None where there is no room for one more domain."""
    row = tx.row("SELECT kinds FROM dmarc_day WHERE day = :day AND domain = :domain", day=day, domain=domain)
    if row is not None:
        tx.run(
            "UPDATE dmarc_day SET policy = :policy WHERE day = :day AND domain = :domain",
            day=day,
            domain=domain,
            policy=_encode(policy),
        )
        return int(row[0])
    total = tx.row("SELECT COUNT(*) FROM dmarc_day WHERE day = :day", day=day)
    if total is not None and total[0] >= MAX_DOMAINS:
        return None
    tx.run(
        "INSERT INTO dmarc_day (day, domain, policy, kinds, omitted) VALUES (:day, :domain, :policy, 0, 0)",
        day=day,
        domain=domain,
        policy=_encode(policy),
    )
    return 0


def days(reader: Reader, before: int, after: tuple[int, str], page: int) -> list[tuple[int, str]]:
    """A page of (day, domain) that is to be told, oldest first: days before this one, behind `after`."""
    rows = reader.rows(
        "SELECT day, domain FROM dmarc_day WHERE day < :before AND (day > :day OR (day = :day AND domain > :domain))"
        " ORDER BY day, domain LIMIT :n",
        before=before,
        day=after[0],
        domain=after[1],
        n=page,
    )
    return [(row[0], row[1]) for row in rows]


def one_day(reader: Reader, day: int, domain: str) -> DayOfDomain | None:
    row = reader.row(
        "SELECT policy, omitted FROM dmarc_day WHERE day = :day AND domain = :domain", day=day, domain=domain
    )
    if row is None:
        return None
    sums = reader.row(
        "SELECT CAST(COALESCE(SUM(count), 0) AS BIGINT), CAST(COALESCE(SUM(telling), 0) AS BIGINT) FROM dmarc_count"
        " WHERE day = :day AND domain = :domain",
        day=day,
        domain=domain,
    )
    assert sums is not None
    return DayOfDomain(day, domain, _decode_policy(row[0]), row[1], sums[0], sums[1])


def counted(reader: Reader, day: int, domain: str) -> list[Counted]:
    """All of one domain and day, the most letters first."""
    rows = reader.rows(
        "SELECT facts, count, telling FROM dmarc_count WHERE day = :day AND domain = :domain"
        " ORDER BY count DESC, digest",
        day=day,
        domain=domain,
    )
    return [Counted(*row) for row in rows]


def forget(tx: Transaction, day: int, domain: str) -> None:
    """It was told, or nobody wants to know."""
    tx.run("DELETE FROM dmarc_count WHERE day = :day AND domain = :domain", day=day, domain=domain)
    tx.run("DELETE FROM dmarc_day WHERE day = :day AND domain = :domain", day=day, domain=domain)
