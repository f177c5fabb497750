# SPDX-License-Identifier: Apache-2.0
"""How TLS with other domains went, counted by day for the reports that they ask for (TLSRPT, RFC 8460).

Invariant: a session is counted once; rows are counters, so that a day of a busy destination is one row and not many.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from posthouse.ports import Reader, Transaction

DAY = 86400  # seconds
# Octets. All columns but the count are the key, and PostgreSQL takes 2,700 in one: two of these, a reason, a domain, a
# host and two addresses fit.
MAX_POLICY_TEXT = 800
MAX_REASON = 200
MAX_ROWS = 100_000  # of all days together: who sends to so many domains in a day reports about the first ones


@dataclass(frozen=True, slots=True)
class TlsResult:
    """What is counted. `policy_text` and `mx_patterns`: one per line. `result`: "" for success, whose rows have no
    details, or the word of RFC 8460 §4.3."""

    day: int  # since the epoch, UTC
    policy_domain: str
    policy_type: str
    policy_text: str = ""
    mx_patterns: str = ""
    result: str = ""
    sending_ip: str = ""
    receiving_mx: str = ""
    receiving_helo: str = ""
    receiving_ip: str = ""
    reason: str = ""


_COLUMNS = TlsResult.__slots__
_ADD = (
    f"INSERT INTO tls_result ({', '.join(_COLUMNS)}, count)"  # noqa: S608 - constants
    f" VALUES ({', '.join(f':{name}' for name in _COLUMNS)}, :count)"
    f" ON CONFLICT ({', '.join(_COLUMNS)}) DO UPDATE SET count = tls_result.count + excluded.count"
)


def add(tx: Transaction, counts: Mapping[TlsResult, int]) -> bool:
    """Add to the counters; False: there are too many rows, and nothing was added. In one order for everybody, so that
    no two units wait for each other."""
    row = tx.row("SELECT COUNT(*) FROM tls_result")
    if row is not None and row[0] >= MAX_ROWS:
        return False
    order = sorted(counts, key=lambda result: tuple(getattr(result, name) for name in _COLUMNS))
    tx.many(_ADD, [{name: getattr(each, name) for name in _COLUMNS} | {"count": counts[each]} for each in order])
    return True


def of_day(reader: Reader, day: int, domain: str) -> list[tuple[TlsResult, int]]:
    """Everything that was counted for one domain on one day."""
    rows = reader.rows(
        f"SELECT {', '.join(_COLUMNS)}, count FROM tls_result WHERE day = :day AND policy_domain = :domain"  # noqa: S608
        f" ORDER BY {', '.join(_COLUMNS)}",
        day=day,
        domain=domain,
    )
    return [(TlsResult(*row[:-1]), row[-1]) for row in rows]


def forget(tx: Transaction, before: int) -> int:
    """Days before this one: nobody asks for them any more. Returns how many rows went."""
    return tx.run("DELETE FROM tls_result WHERE day < :before", before=before)
