# SPDX-License-Identifier: Apache-2.0
"""MTA-STS policies of other domains, as they were fetched. Invariant: one per domain, the last one that was good, and
no more of them than MAX_KEPT."""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.ports import Reader, Row, Transaction

# Strangers choose domains that we write to (bounces, forwards). Of many the ones used last are kept: half a kilobyte
# each as a rule, at most 64 KiB.
MAX_KEPT = 5_000
KEPT_WHEN_FULL = 4_500  # to look for those costs some milliseconds: not for each new policy


@dataclass(frozen=True, slots=True)
class KeptPolicy:
    """`body`: as it was served. Times are seconds since the epoch; `refresh_at`: when it is to be fetched again."""

    domain: str
    policy_id: str
    body: bytes
    fetched_at: float
    expires_at: float
    refresh_at: float
    used_at: float


_COLUMNS = "domain, policy_id, body, fetched_at, expires_at, refresh_at, used_at"

_KEEP = (
    f"INSERT INTO sts_policy ({_COLUMNS})"  # noqa: S608 - a constant
    " VALUES (:domain, :policy_id, :body, :fetched_at, :expires_at, :refresh_at, :used_at)"
    " ON CONFLICT (domain) DO UPDATE SET policy_id = excluded.policy_id, body = excluded.body,"
    " fetched_at = excluded.fetched_at, expires_at = excluded.expires_at, refresh_at = excluded.refresh_at,"
    " used_at = excluded.used_at"
)


def find(reader: Reader, domain: str) -> KeptPolicy | None:
    row = reader.row(f"SELECT {_COLUMNS} FROM sts_policy WHERE domain = :domain", domain=domain)  # noqa: S608 - a constant
    return None if row is None else _kept(row)


def keep(tx: Transaction, policy: KeptPolicy) -> None:
    """In the place of the domain's last one; when there are too many, those go that were not used for the longest."""
    tx.run(
        _KEEP,
        domain=policy.domain,
        policy_id=policy.policy_id,
        body=policy.body,
        fetched_at=policy.fetched_at,
        expires_at=policy.expires_at,
        refresh_at=policy.refresh_at,
        used_at=policy.used_at,
    )
    count = tx.row("SELECT COUNT(*) FROM sts_policy")
    if count is not None and count[0] > MAX_KEPT:
        tx.run(
            "DELETE FROM sts_policy WHERE domain <> :domain AND domain NOT IN"
            " (SELECT domain FROM sts_policy ORDER BY used_at DESC, domain LIMIT :n)",
            domain=policy.domain,
            n=KEPT_WHEN_FULL,
        )


def note_use(tx: Transaction, domain: str, at: float) -> None:
    tx.run("UPDATE sts_policy SET used_at = :at WHERE domain = :domain", domain=domain, at=at)


def postpone(tx: Transaction, domain: str, refresh_at: float) -> None:
    tx.run("UPDATE sts_policy SET refresh_at = :at WHERE domain = :domain", domain=domain, at=refresh_at)


def next_refresh(reader: Reader, used_since: float) -> float | None:
    """When the next policy is to be fetched again; None: never, as things are."""
    row = reader.row("SELECT MIN(refresh_at) FROM sts_policy WHERE used_at >= :used_since", used_since=used_since)
    return None if row is None or row[0] is None else float(row[0])


def to_refresh(reader: Reader, now: float, used_since: float, limit: int) -> list[KeptPolicy]:
    rows = reader.rows(
        f"SELECT {_COLUMNS} FROM sts_policy WHERE refresh_at <= :now AND used_at >= :used_since"  # noqa: S608 - a constant
        " ORDER BY refresh_at, domain LIMIT :n",
        now=now,
        used_since=used_since,
        n=limit,
    )
    return [_kept(row) for row in rows]


def forget_expired(tx: Transaction, now: float) -> int:
    return tx.run("DELETE FROM sts_policy WHERE expires_at <= :now", now=now)


def _kept(row: Row) -> KeptPolicy:
    domain, policy_id, body, *times = row
    return KeptPolicy(domain, policy_id, bytes(body), *times)
