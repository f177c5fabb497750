# SPDX-License-Identifier: Apache-2.0
"""What became of letters: one row per letter, one per attempt, and the story that `posthouse trace` tells.

Invariant: a letter that was accepted has a row here or in the queue. Looking for a Message-ID is an index
look-up; looking for an address walks from the newest letter back, in pages, and costs deliveries nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from posthouse.outcome import Outcome
from posthouse.ports import Reader, Row, Transaction, Value
from posthouse.store import verdicts
from posthouse.store.queue_rows import Attempt, flat_outcome, outcome_from, pack_results, unpack_results

PURGE_PAGE = 1000  # rows looked at by one unit of housekeeping: some milliseconds of the committer
SEARCH_PAGE = 20_000  # rows walked by one read: some milliseconds of the reader thread
ATTEMPTS_SHOWN = 500  # of one letter; five days of the default schedule make 243


@dataclass(frozen=True, slots=True)
class RecipientResult:
    """The end of one recipient. `state` is delivered, failed or expired; `next_hop` "local" for a mailbox here."""

    address: str
    next_hop: str
    state: str
    outcome: Outcome
    attempts: int
    at: float


@dataclass(frozen=True, slots=True)
class LetterRecord:
    """One letter's row. `id` is its queue id where it was queued; `source` says where it came from (the peer's
    address and name, or the account), as the log does. Times are epoch seconds."""

    id: int
    trace: str
    message_id: str
    reverse_path: str
    account: int | None
    size: int
    received_at: float
    finished_at: float
    source: str
    results: tuple[RecipientResult, ...]


_PackedResult = tuple[str, str, str, tuple[str, str, str, str, str, int, str, str], int, float]
_decode_results = msgspec.msgpack.Decoder(list[_PackedResult]).decode
_encode = msgspec.msgpack.Encoder().encode

_INSERT = (
    "INSERT INTO history (id, trace, message_key, message_id, reverse_path, account, size, received_at,"
    " finished_at, source, addresses, results) VALUES (:id, :trace, :key, :message_id, :reverse_path, :account,"
    " :size, :received_at, :finished_at, :source, :addresses, :results)"
)
_INSERT_IF_NEW = _INSERT + " ON CONFLICT (id) DO NOTHING"
_GO_ON = (
    "UPDATE history SET size = :size, finished_at = :finished_at, source = :source, addresses = :addresses,"
    " results = :results WHERE id = :id"
)
_COLUMNS = "id, trace, message_id, reverse_path, account, size, received_at, finished_at, source, results"


def message_key(message_id: str) -> int:
    """63 bits of a hash of the Message-ID without its angle brackets: a small index that never tells."""
    octets = message_id.strip().strip("<>").encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(octets, digest_size=8).digest()) >> 1


def record_letter(tx: Transaction, letter: LetterRecord, *, is_new: bool = False) -> None:
    """Write a letter's row. A letter partly delivered here at once and partly queued has one row: use its queue
    id as `id`, and what the queue adds at its end goes into the same row. `is_new`: it has no row yet."""
    row = _row(letter)
    if is_new:
        tx.add(_INSERT, (row,))
    elif not tx.run(_INSERT_IF_NEW, **row):
        earlier = tx.row(f"SELECT {_COLUMNS} FROM history WHERE id = :id", id=letter.id)  # noqa: S608 - a constant
        assert earlier is not None, "it was in the way a moment ago"
        known = _letter(earlier)
        row = _row(
            replace(
                letter,
                size=max(letter.size, known.size),
                finished_at=max(letter.finished_at, known.finished_at),
                source=letter.source or known.source,
                results=known.results + letter.results,
            )
        )
        tx.run(_GO_ON, **{name: row[name] for name in ("id", "size", "finished_at", "source", "addresses", "results")})


def _row(letter: LetterRecord) -> dict[str, Value]:
    return {
        "id": letter.id,
        "trace": letter.trace,
        "key": message_key(letter.message_id),
        "message_id": letter.message_id,
        "reverse_path": letter.reverse_path,
        "account": letter.account,
        "size": letter.size,
        "received_at": letter.received_at,
        "finished_at": letter.finished_at,
        "source": letter.source,
        "addresses": _addresses(letter),
        "results": _encode(
            [(r.address, r.next_hop, r.state, flat_outcome(r.outcome), r.attempts, r.at) for r in letter.results]
        ),
    }


def _addresses(letter: LetterRecord) -> str:
    names = [letter.reverse_path or "<>", *(result.address for result in letter.results)]
    return " " + " ".join(dict.fromkeys(name.casefold() for name in names)) + " "


def _letter(row: Row) -> LetterRecord:
    *head, results = row
    unpacked = tuple(
        RecipientResult(address, hop, state, outcome_from(outcome), attempts, at)
        for address, hop, state, outcome, attempts, at in _decode_results(results)
    )
    values = (*head, unpacked)  # in the order of _COLUMNS
    return LetterRecord(*values)


# --- attempts -------------------------------------------------------------------------------------


def insert_attempt(tx: Transaction, attempt: Attempt) -> None:
    row: dict[str, Value] = {
        "id": tx.new_id(),
        "letter": attempt.letter,
        "next_hop": attempt.next_hop,
        "at": attempt.at,
        "host": attempt.host,
        "address": attempt.address,
        "tls": attempt.tls,
        "results": pack_results(attempt.results),
    }
    tx.add(_ATTEMPT, (row,))


_ATTEMPT = (
    "INSERT INTO attempt (id, letter, next_hop, at, host, address, tls, results)"
    " VALUES (:id, :letter, :next_hop, :at, :host, :address, :tls, :results)"
)


def attempts(reader: Reader, letter: int, next_hops: Sequence[str], since: float, until: float) -> list[Attempt]:
    """The attempts for one letter and, while it waited, for the destinations it waited for; oldest first, the
    newest ATTEMPTS_SHOWN of each."""
    columns = "SELECT letter, next_hop, at, host, address, tls, results FROM attempt "
    rows = reader.rows(columns + "WHERE letter = :letter ORDER BY id DESC LIMIT :n", letter=letter, n=ATTEMPTS_SHOWN)
    for hop in dict.fromkeys(next_hops):
        rows += reader.rows(
            columns + "WHERE letter IS NULL AND next_hop = :hop AND at >= :since AND at <= :until"
            " ORDER BY at DESC LIMIT :n",
            hop=hop,
            since=since,
            until=until,
            n=ATTEMPTS_SHOWN,
        )
    rows.sort(key=lambda row: row[2])
    return [
        Attempt(owner, hop, at, host, address, tls, unpack_results(results))
        for owner, hop, at, host, address, tls, results in rows
    ]


# --- looking for letters --------------------------------------------------------------------------


def letter(reader: Reader, queue_id: int) -> LetterRecord | None:
    row = reader.row(f"SELECT {_COLUMNS} FROM history WHERE id = :id", id=queue_id)  # noqa: S608 - a constant
    return _letter(row) if row else None


def by_message_id(reader: Reader, message_id: str, limit: int = 100) -> list[LetterRecord]:
    """Letters with this Message-ID (with or without angle brackets), newest first."""
    rows = reader.rows(
        f"SELECT {_COLUMNS} FROM history WHERE message_key = :key ORDER BY id DESC LIMIT :n",  # noqa: S608 - a constant
        key=message_key(message_id),
        n=limit,
    )
    wanted = message_id.strip().strip("<>")
    return [found for found in map(_letter, rows) if found.message_id.strip().strip("<>") == wanted]


@dataclass(frozen=True, slots=True)
class SearchPage:
    """What one page of a walk found; `next_before` goes on from there, None at the end."""

    letters: list[LetterRecord]
    next_before: int | None


def search(reader: Reader, *, address: str = "", trace: str = "", before: int | None = None) -> SearchPage:
    """Walk one page of history from the newest letter back, for an address (sender or recipient) or a trace id."""
    top = before if before is not None else (1 << 63) - 1
    last = reader.row(
        "SELECT MIN(id), COUNT(*) FROM (SELECT id FROM history WHERE id < :top ORDER BY id DESC LIMIT :n) AS page",
        top=top,
        n=SEARCH_PAGE,
    )
    if last is None or last[0] is None:
        return SearchPage([], None)
    bottom, count = last
    condition, pattern = "trace = :what", trace
    if address:
        condition, pattern = "addresses LIKE :what ESCAPE '!'", like_pattern(address)
    rows = reader.rows(
        f"SELECT {_COLUMNS} FROM history WHERE id >= :bottom AND id < :top AND {condition}"  # noqa: S608 - constants
        " ORDER BY id DESC",
        bottom=bottom,
        top=top,
        what=pattern,
    )
    return SearchPage([_letter(row) for row in rows], bottom if count == SEARCH_PAGE else None)


def like_pattern(address: str) -> str:
    """For `addresses LIKE … ESCAPE '!'`; blanks around it, so that a whole address is meant."""
    text = address.casefold()
    for special in "!%_":
        text = text.replace(special, "!" + special)
    return f"% {text} %"


# --- housekeeping ---------------------------------------------------------------------------------


def purge(tx: Transaction, before: float) -> int:
    """Forget letters finished, attempts and checks made, before this time; returns how many rows went. Call until 0.

    Ids grow with time, so the oldest rows come first and one page is enough to see whether there is work.
    """
    letters = tx.run(
        "DELETE FROM history WHERE id IN (SELECT id FROM history ORDER BY id LIMIT :n) AND finished_at < :before",
        n=PURGE_PAGE,
        before=before,
    )
    tries = tx.run(
        "DELETE FROM attempt WHERE id IN (SELECT id FROM attempt ORDER BY id LIMIT :n) AND at < :before",
        n=PURGE_PAGE,
        before=before,
    )
    return letters + tries + verdicts.purge(tx, before, PURGE_PAGE)
