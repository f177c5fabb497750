# SPDX-License-Identifier: Apache-2.0
"""What the checks found about letters from other servers, kept as long as their history.

Invariant: a row belongs to a letter that was accepted; it is written in the unit that makes the letter durable.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from posthouse.ports import Reader, Transaction, Value


@dataclass(frozen=True, slots=True)
class Told:
    """One method's result in the words of RFC 8601. `properties`: (kind, name, value)."""

    method: str
    result: str
    reason: str
    properties: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`action`: what was done, accept or quarantine; `local`: why not what the owner of `author` asks for, "" where it
    is that. `policy_domain`: where the owner's record lies. `aligned`: "spf" and the signing domains that made DMARC
    pass, or would have."""

    peer: str
    author: str
    action: str
    local: str
    policy_domain: str
    aligned: tuple[str, ...]
    statements: tuple[Told, ...]


_Packed = tuple[str, str, tuple[str, ...], tuple[tuple[str, str, str, tuple[tuple[str, str, str], ...]], ...]]
_decode = msgspec.msgpack.Decoder(_Packed).decode
_encode = msgspec.msgpack.Encoder().encode

_INSERT = (
    "INSERT INTO verdict (letter, at, peer, author, action, statements)"
    " VALUES (:letter, :at, :peer, :author, :action, :statements)"
)


def record(tx: Transaction, letter: int, at: float, verdict: Verdict) -> None:
    """Of a letter that is new; `letter` as in its history. `at`: when it came."""
    told = [(each.method, each.result, each.reason, each.properties) for each in verdict.statements]
    row: dict[str, Value] = {
        "letter": letter,
        "at": at,
        "peer": verdict.peer,
        "author": verdict.author,
        "action": verdict.action,
        "statements": _encode((verdict.local, verdict.policy_domain, verdict.aligned, told)),
    }
    tx.add(_INSERT, (row,))


def of(reader: Reader, letter: int) -> Verdict | None:
    """None: it was not checked, or too long ago."""
    row = reader.row("SELECT peer, author, action, statements FROM verdict WHERE letter = :letter", letter=letter)
    if row is None:
        return None
    local, policy_domain, aligned, told = _decode(row[3])
    return Verdict(row[0], row[1], row[2], local, policy_domain, aligned, tuple(Told(*each) for each in told))


def purge(tx: Transaction, before: float, page: int) -> int:
    """Forget those of letters that came before this time and wait in the queue no more: under which sender a letter
    leaves hangs on it. Returns how many rows went. Ids grow with time."""
    return tx.run(
        "DELETE FROM verdict WHERE letter IN (SELECT letter FROM verdict WHERE NOT EXISTS (SELECT 1 FROM queue_letter"
        " WHERE queue_letter.id = verdict.letter) ORDER BY letter LIMIT :n) AND at < :before",
        n=page,
        before=before,
    )
