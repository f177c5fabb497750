# SPDX-License-Identifier: Apache-2.0
"""The queue: letters that wait to be sent, claimed by one incarnation at a time, and the rulings on them.

Invariant: a recipient is in exactly one state; only its claimant rules on it; every statement here costs
O(log n) in what waits, so a queue of a million letters claims as fast as an empty one (docs/queue-states.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from posthouse.mail.envelope import TlsWish
from posthouse.ports import BlobLocation, Reader, Row, Transaction, Value
from posthouse.store import history
from posthouse.store.destinations import Destination, make_ready, next_due, refresh
from posthouse.store.faults import LOST
from posthouse.store.queue_rows import (
    Attempt,
    ClaimedLetter,
    ClaimedRecipient,
    LeaseLost,
    QueuedLetter,
    QueuedRecipient,
    Ruling,
    State,
    pack_notify,
    pack_outcome,
    pack_reverse_path,
    unpack_forward_path,
    unpack_outcome,
    unpack_reverse_path,
)

__all__ = [
    "Attempt",
    "ClaimedLetter",
    "ClaimedRecipient",
    "Destination",
    "LeaseLost",
    "QueuedLetter",
    "QueuedRecipient",
    "Ruling",
    "State",
    "next_due",
]

CLAIM_WINDOW = 100  # due rows looked at to find the letters of one claim; RFC 5321 §4.5.3.1.8: 100 recipients
LEASES_PER_TURN = 1000  # rows that one unit takes back: some milliseconds of the committer


# --- into the queue -------------------------------------------------------------------------------


def insert(tx: Transaction, blob: int, letter: QueuedLetter) -> int:
    """Put a letter into the queue; return its queue id. Its rows are written with those of other letters."""
    queue_id = tx.new_id()
    row: dict[str, Value] = {
        "id": queue_id,
        "blob": blob,
        "account": letter.account,
        "reverse_path": str(letter.reverse_path),
        "parameters": pack_reverse_path(letter.reverse_path),
        "prefix": letter.prefix,
        "language": letter.language,
        "message_id": letter.message_id,
        "size": letter.size,
        "eight_bit": int(letter.needs_eight_bit),
        "smtputf8": int(letter.needs_smtputf8),
        "received_at": letter.received_at,
        "trace": letter.trace,
        "open": len(letter.recipients),
        "tls_optional": int(letter.reverse_path.wish is TlsWish.OPTIONAL),
    }
    tx.add(_LETTER, (row,))
    ready: dict[str, float | None] = {}
    tx.add(_RECIPIENT, [_recipient_row(tx.new_id(), queue_id, recipient, ready) for recipient in letter.recipients])
    make_ready(tx, ready)
    return queue_id


_LETTER = (
    "INSERT INTO queue_letter (id, blob, account, reverse_path, parameters, prefix, language, message_id, size,"
    " needs_eight_bit, needs_smtputf8, received_at, trace, open_recipients, tls_optional) VALUES (:id, :blob, :account,"
    " :reverse_path, :parameters, :prefix, :language, :message_id, :size, :eight_bit, :smtputf8, :received_at,"
    " :trace, :open, :tls_optional)"
)
_RECIPIENT = (
    "INSERT INTO queue_recipient (id, letter, address, notify, original_recipient, next_hop, state, due_at,"
    " warn_at, expires_at, deadline_at, attempts, hold_asked) VALUES (:id, :letter, :address, :notify,"
    " :original_recipient, :next_hop, :state, :due_at, :warn_at, :expires_at, :deadline_at, 0, 0)"
)


def _recipient_row(
    row_id: int, letter: int, recipient: QueuedRecipient, ready: dict[str, float | None]
) -> Mapping[str, Value]:
    hop, due_at = recipient.next_hop, recipient.not_before
    earlier = ready.setdefault(hop, None)
    if not recipient.is_held and (earlier is None or due_at < earlier):
        ready[hop] = due_at
    warn_at = recipient.warn_at
    if warn_at is not None and warn_at >= recipient.expires_at:
        warn_at = None  # a warning that would come with the failure says nothing
    return {
        "id": row_id,
        "letter": letter,
        "address": str(recipient.path),
        "notify": pack_notify(recipient.path.notify),
        "original_recipient": recipient.path.original_recipient,
        "next_hop": hop,
        "state": State.HELD.value if recipient.is_held else State.DUE.value,
        "due_at": due_at,
        "warn_at": warn_at,
        "expires_at": recipient.expires_at,
        "deadline_at": recipient.expires_at if warn_at is None else warn_at,
    }


# --- claiming -------------------------------------------------------------------------------------

_CLAIM = "UPDATE queue_recipient SET state = 'claimed', owner = :owner, leased_until = :until "
_CLAIMED = " RETURNING id, letter, address, notify, original_recipient, next_hop, due_at, warn_at, expires_at, attempts"
# The expression around next_hop keeps SQLite from walking everything due at a large destination
# instead of this one letter's recipients.
_CLAIM_LETTER = (
    _CLAIM + "WHERE letter = :letter AND next_hop || '' = :hop AND state = 'due' AND due_at <= :now" + _CLAIMED
)
_CLAIM_OVERDUE = (
    _CLAIM  # noqa: S608 - constants
    + "WHERE id IN (SELECT id FROM queue_recipient WHERE next_hop = :hop AND state = 'due' AND deadline_at <= :now"
    + " ORDER BY deadline_at, id LIMIT :n) AND state = 'due'"
    + _CLAIMED
)
# A held one goes back to being held if it is given back or its claimant dies.
_CLAIM_ONE = (
    "UPDATE queue_recipient SET hold_asked = CASE WHEN state = 'held' THEN 1 ELSE hold_asked END, state = 'claimed',"  # noqa: S608 - constants
    " owner = :owner, leased_until = :until WHERE id = :id AND state IN ('due', 'held')" + _CLAIMED
)


def claim_due(
    tx: Transaction, next_hop: str, *, now: float, owner: str, leased_until: float, max_letters: int
) -> list[ClaimedLetter]:
    """Claim what is longest due for one next hop, at most `max_letters` letters, each with all its due
    recipients there. A session with the destination exists: it is not down any more."""
    tx.run(
        "UPDATE queue_destination SET failures = 0, down_since = NULL, down_until = 0, result = NULL"
        " WHERE next_hop = :hop",
        hop=next_hop,
    )
    letters = _longest_due(tx, next_hop, now, max_letters, look_at=max_letters)
    if len(letters) < max_letters:  # there are few, or some have several recipients
        letters = _longest_due(tx, next_hop, now, max_letters, look_at=CLAIM_WINDOW)
    claimed = [
        _claim_letter(tx, letter, next_hop, now=now, owner=owner, leased_until=leased_until) for letter in letters
    ]
    refresh(tx, next_hop, now)
    return [letter for letter in claimed if letter is not None]


def _longest_due(tx: Transaction, next_hop: str, now: float, max_letters: int, *, look_at: int) -> list[int]:
    """Letters, the longest due first, found in so many recipients. In a large queue each of these is a page of the
    database that nobody has looked at lately: no more of them than it takes."""
    rows = tx.rows(
        "SELECT letter FROM queue_recipient WHERE next_hop = :hop AND state = 'due' AND due_at <= :now"
        " ORDER BY due_at, id LIMIT :n",
        hop=next_hop,
        now=now,
        n=look_at,
    )
    return list(dict.fromkeys(letter for (letter,) in rows))[:max_letters]


def _claim_letter(
    tx: Transaction, letter: int, next_hop: str, *, now: float, owner: str, leased_until: float
) -> ClaimedLetter | None:
    rows = tx.rows(
        _CLAIM_LETTER,
        owner=owner,
        until=leased_until,
        letter=letter,
        hop=next_hop,
        now=now,
    )
    return _claimed_letter(tx, letter, rows)


def claim_tls_optional(
    tx: Transaction, next_hop: str, *, now: float, owner: str, leased_until: float, limit: int
) -> list[ClaimedLetter]:
    """Claim what is due for one next hop and may go there without protection, at most so many letters. Nothing is
    said of the destination: for all others it may still be down."""
    rows = tx.rows(
        "SELECT DISTINCT queue_letter.id FROM queue_letter JOIN queue_recipient ON queue_recipient.letter ="
        " queue_letter.id WHERE queue_letter.tls_optional = 1 AND queue_recipient.next_hop || '' = :hop"
        " AND queue_recipient.state = 'due' AND queue_recipient.due_at <= :now ORDER BY queue_letter.id LIMIT :n",
        hop=next_hop,
        now=now,
        n=limit,
    )
    claimed = [
        _claim_letter(tx, letter, next_hop, now=now, owner=owner, leased_until=leased_until) for (letter,) in rows
    ]
    if claimed:
        refresh(tx, next_hop, now)
    return [letter for letter in claimed if letter is not None]


def claim_overdue(
    tx: Transaction, next_hop: str, *, now: float, owner: str, leased_until: float, limit: int = CLAIM_WINDOW
) -> list[ClaimedLetter]:
    """Claim the recipients of a destination that is down whose deadline (warning or expiry) has come."""
    make_ready(tx, {next_hop: None})
    rows = tx.rows(
        _CLAIM_OVERDUE,
        owner=owner,
        until=leased_until,
        hop=next_hop,
        now=now,
        n=limit,
    )
    refresh(tx, next_hop, now)
    return claimed_letters(tx, rows)


def claim_recipients(
    tx: Transaction, recipients: Sequence[int], *, now: float, owner: str, leased_until: float
) -> list[ClaimedLetter]:
    """Claim these, due or held, in order to rule on them without an attempt (drop)."""
    rows: list[Row] = []
    for recipient in recipients:
        rows += tx.rows(_CLAIM_ONE, owner=owner, until=leased_until, id=recipient)
    _refresh_all(tx, dict.fromkeys(row[5] for row in rows), now)
    return claimed_letters(tx, rows)


def claimed_letters(tx: Transaction, rows: Sequence[Row]) -> list[ClaimedLetter]:
    by_letter: dict[int, list[Row]] = {}
    for row in rows:
        by_letter.setdefault(row[1], []).append(row)
    letters = (_claimed_letter(tx, letter, by_letter[letter]) for letter in sorted(by_letter))
    return [letter for letter in letters if letter is not None]


def location(reader: Reader, letter: int) -> BlobLocation | None:
    """Where a queued letter's content lies now; None when it is in the queue no more, or no row says where."""
    row = reader.row(
        "SELECT blob.pack, blob.pack_offset, blob.length, blob.hash FROM queue_letter"
        " JOIN blob ON blob.id = queue_letter.blob WHERE queue_letter.id = :id",
        id=letter,
    )
    return None if row is None else BlobLocation(*row)


def _claimed_letter(tx: Transaction, letter: int, rows: Sequence[Row]) -> ClaimedLetter | None:
    if not rows:
        return None
    found = tx.row(
        "SELECT blob.pack, blob.pack_offset, blob.length, blob.hash, account, reverse_path, parameters, prefix,"
        " language, message_id, size, needs_eight_bit, needs_smtputf8, received_at, trace"
        " FROM queue_letter LEFT JOIN blob ON blob.id = queue_letter.blob WHERE queue_letter.id = :id",
        id=letter,
    )
    if found is None:
        return None
    pack, offset, length, digest, account, reverse_path, parameters, prefix, *rest = found
    language, message_id, size, eight_bit, smtputf8, received_at, trace = rest
    return ClaimedLetter(
        id=letter,
        location=LOST if pack is None else BlobLocation(pack, offset, length, digest),
        account=account,
        reverse_path=unpack_reverse_path(reverse_path, parameters),
        prefix=prefix,
        language=language,
        message_id=message_id,
        size=size,
        needs_eight_bit=bool(eight_bit),
        needs_smtputf8=bool(smtputf8),
        received_at=received_at,
        trace=trace,
        recipients=tuple(_claimed_recipient(row) for row in sorted(rows)),
    )


def _claimed_recipient(row: Row) -> ClaimedRecipient:
    row_id, _letter, address, notify, original_recipient, next_hop, due_at, warn_at, expires_at, attempts = row
    path = unpack_forward_path(address, notify, original_recipient)
    return ClaimedRecipient(row_id, path, next_hop, due_at, warn_at, expires_at, attempts)


# --- leases ---------------------------------------------------------------------------------------


def renew(tx: Transaction, owner: str, leased_until: float) -> int:
    """Prolong every lease of a live incarnation."""
    return tx.run(
        "UPDATE queue_recipient SET leased_until = :until WHERE owner = :owner AND state = 'claimed'",
        until=leased_until,
        owner=owner,
    )


def give_back(tx: Transaction, owner: str, recipients: Sequence[int], now: float) -> None:
    """Claimed, but nothing was tried (a drain, a fault of ours): due as before."""
    hops: dict[str, float | None] = {}
    for recipient in recipients:
        row = tx.row(
            "UPDATE queue_recipient SET state = CASE WHEN hold_asked = 1 THEN 'held' ELSE 'due' END, hold_asked = 0,"
            " owner = NULL, leased_until = NULL WHERE id = :id AND state = 'claimed' AND owner = :owner"
            " RETURNING next_hop",
            id=recipient,
            owner=owner,
        )
        if row:
            hops[row[0]] = now
    _refresh_all(tx, hops, now)


def take_back(tx: Transaction, owner: str, now: float, *, is_alone: bool) -> int:
    """Make due what dead incarnations have claimed, at most LEASES_PER_TURN: call until it returns 0.

    `is_alone`: this incarnation owns the data directory, so all others are dead; else those are whose lease ran out.
    """
    rows = tx.rows(
        "UPDATE queue_recipient SET state = CASE WHEN hold_asked = 1 THEN 'held' ELSE 'due' END, hold_asked = 0,"
        " owner = NULL, leased_until = NULL WHERE state = 'claimed' AND id IN (SELECT id FROM queue_recipient"
        " WHERE state = 'claimed' AND owner <> :owner AND leased_until <= :ended LIMIT :n) RETURNING next_hop",
        owner=owner,
        ended=float("inf") if is_alone else now,
        n=LEASES_PER_TURN,
    )
    _refresh_all(tx, {hop: now for (hop,) in rows}, now)
    return len(rows)


def next_lease_end(reader: Reader, owner: str) -> float | None:
    """When the first lease of another incarnation ends; None when there is none."""
    row = reader.row(
        "SELECT MIN(leased_until) FROM queue_recipient WHERE state = 'claimed' AND owner <> :owner", owner=owner
    )
    return float(row[0]) if row and row[0] is not None else None


def _refresh_all(tx: Transaction, hops: Mapping[str, float | None], now: float) -> None:
    make_ready(tx, dict.fromkeys(hops))  # the row may be gone; it also locks them, in order
    for hop in sorted(hops):
        refresh(tx, hop, now)


# --- rulings --------------------------------------------------------------------------------------


def record(
    tx: Transaction, letter: int, rulings: Sequence[Ruling], *, owner: str, now: float, attempt: Attempt | None
) -> None:
    """Record what became of claimed recipients of one letter. Raises LeaseLost, then nothing is recorded.

    The caller writes the DSNs that the rulings cause in the same unit. A letter whose last recipient is
    finished leaves the queue for history here.
    """
    lost: list[int] = []
    finished = 0
    ready: dict[str, float | None] = {}
    for ruling in rulings:
        hop = _rule(tx, ruling, owner)
        if hop is None:
            lost.append(ruling.recipient)
        elif ruling.state.is_final:
            finished += 1
        else:
            earlier = ready.get(hop)
            ready[hop] = ruling.due_at if earlier is None else min(earlier, ruling.due_at)
    if lost:
        raise LeaseLost(tuple(lost))
    if attempt is not None:
        history.insert_attempt(tx, attempt)
    if finished:
        row = tx.row(
            "UPDATE queue_letter SET open_recipients = open_recipients - :n WHERE id = :id RETURNING open_recipients",
            n=finished,
            id=letter,
        )
        if row is not None and row[0] <= 0:
            finish(tx, letter, now)
    if ready:
        make_ready(tx, ready)


def _rule(tx: Transaction, ruling: Ruling, owner: str) -> str | None:
    """The next hop of the recipient; None when it is not `owner`'s claim."""
    if ruling.state.is_final:
        row = tx.row(
            "UPDATE queue_recipient SET state = :state, attempts = attempts + :n, result = :result, owner = NULL,"
            " leased_until = NULL WHERE id = :id AND state = 'claimed' AND owner = :owner RETURNING next_hop",
            state=ruling.state.value,
            n=int(ruling.is_attempt),
            result=pack_outcome(ruling.outcome),
            id=ruling.recipient,
            owner=owner,
        )
    else:
        row = tx.row(
            "UPDATE queue_recipient SET state = CASE WHEN hold_asked = 1 THEN 'held' ELSE 'due' END, hold_asked = 0,"
            " attempts = attempts + :n, result = :result, due_at = :due_at, warn_at = :warn_at,"
            " deadline_at = COALESCE(:warn_at, expires_at), owner = NULL,"
            " leased_until = NULL WHERE id = :id AND state = 'claimed' AND owner = :owner RETURNING next_hop",
            n=int(ruling.is_attempt),
            result=pack_outcome(ruling.outcome),
            due_at=ruling.due_at,
            warn_at=ruling.warn_at,
            id=ruling.recipient,
            owner=owner,
        )
    return row[0] if row else None


def finish(tx: Transaction, letter: int, now: float) -> None:
    """Every recipient is finished: the letter becomes history, its rows leave the queue."""
    head = tx.row(
        "DELETE FROM queue_letter WHERE id = :id RETURNING trace, message_id, reverse_path, account, size, received_at",
        id=letter,
    )
    assert head is not None
    rows = tx.rows(
        "DELETE FROM queue_recipient WHERE letter = :id RETURNING id, address, next_hop, state, attempts, result",
        id=letter,
    )
    trace, message_id, reverse_path, account, size, received_at = head
    results = []
    for _id, address, next_hop, state, attempts, result in sorted(rows):
        outcome = unpack_outcome(result)
        assert outcome is not None
        results.append(history.RecipientResult(address, next_hop, state, outcome, attempts, now))
    history.record_letter(
        tx,
        history.LetterRecord(
            id=letter,
            trace=trace,
            message_id=message_id,
            reverse_path=reverse_path,
            account=account,
            size=size,
            received_at=received_at,
            finished_at=now,
            source="",
            results=tuple(results),
        ),
    )
