# SPDX-License-Identifier: Apache-2.0
"""What an operator sees of the queue and does to it: pages of letters, hold, release, retry.

Invariant: nothing here touches a recipient that is claimed, except to note that a hold was asked for; what is
done is done to pages of recipients, so that the largest queue never makes a long unit of work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from posthouse.outcome import Outcome
from posthouse.ports import Reader, Row, Transaction
from posthouse.store import destinations, history
from posthouse.store.queue_rows import SMART_HOST, Attempt, State, unpack_outcome

PAGE = 500  # recipients or letters of one page: one unit of work of some milliseconds
# Rows looked at in one visit to the reader for what no index finds (an address, a Message-ID, a domain behind the
# smart host): some twenty milliseconds, for which everybody else's questions wait. A million take fifty visits.
WINDOW = 20_000
RECIPIENTS_SHOWN = 1000  # of one letter; more than a letter may have by default
MAX_QUEUE_ID_DIGITS = 19  # of a 63-bit number
MAX_ID = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Selection:
    """What an operator names: one letter by its queue id, a destination domain, an address (of a sender or a
    recipient), or, with all of them empty, the whole queue."""

    queue_id: int | None = None
    domain: str = ""
    address: str = ""

    @classmethod
    def parse(cls, text: str) -> Selection:
        """`12345` is a queue id, `bob@bob.test` an address, `bob.test` (also `local`, `*`) a destination."""
        text = text.strip()
        if text.isascii() and text.isdigit() and len(text) <= MAX_QUEUE_ID_DIGITS:
            return cls(queue_id=int(text))
        if "@" in text:
            return cls(address=text)
        return cls(domain=text.lower().removesuffix("."))


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """One letter in a list of the queue. `next_attempt_at` None: nothing of it is due (held, or claimed now)."""

    id: int
    reverse_path: str
    message_id: str
    trace: str
    account: int | None
    size: int
    received_at: float
    open_recipients: int
    states: dict[str, int]  # state -> recipients
    next_attempt_at: float | None


@dataclass(frozen=True, slots=True)
class RecipientEntry:
    """One recipient. `attempts` are its own; those of its destination while it was down are in the attempts."""

    id: int
    address: str
    next_hop: str
    state: str
    due_at: float
    warn_at: float | None
    expires_at: float
    attempts: int
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class QueueDetail:
    entry: QueueEntry
    recipients: list[RecipientEntry]
    destinations: list[destinations.Destination]
    attempts: list[Attempt]


@dataclass(frozen=True, slots=True)
class QueueTotals:
    """For metrics: recipients by state, letters, the oldest letter's time, destinations that are down."""

    recipients: dict[str, int]
    letters: int
    oldest_at: float | None
    destinations: int
    destinations_down: int


# --- selecting ------------------------------------------------------------------------------------


_BY_ADDRESS = (
    "lower(r.address) = :address OR EXISTS (SELECT 1 FROM queue_letter AS l WHERE l.id = r.letter"
    " AND lower(l.reverse_path) = :address)"
)
# Behind the smart host the destination is in the address alone.
_BY_DOMAIN = "r.next_hop = :domain OR (r.next_hop = :smart AND r.address LIKE :at ESCAPE '!')"
_IS_OPEN = (
    " AND EXISTS (SELECT 1 FROM queue_recipient AS r WHERE r.letter = l.id AND r.state IN ('due', 'claimed', 'held')"
)


def find(
    reader: Reader, selection: Selection, states: Sequence[State], after: int = 0, limit: int = PAGE
) -> tuple[list[int], int | None]:
    """Recipient ids in these states, growing, from the rows above `after`, at most WINDOW of them; and where to go on
    (None: at the end). A page may be empty and yet not the last."""
    where, what = _recipient_condition(selection)
    last, goes_on = _window(reader, _RECIPIENTS_AHEAD, after, is_short=selection.queue_id is not None)
    names = ", ".join(f"'{state.value}'" for state in states)
    # The expression around the state keeps SQLite from walking all that are in it instead of the window.
    rows = reader.rows(
        f"SELECT r.id FROM queue_recipient AS r WHERE r.id > :after AND r.id <= :last AND r.state || '' IN ({names})"  # noqa: S608 - constants
        f" AND ({where}) ORDER BY r.id LIMIT :n",
        after=after,
        last=last,
        n=limit,
        **what,
    )
    ids = [row[0] for row in rows]
    return ids, ids[-1] if len(ids) == limit else goes_on


_RECIPIENTS_AHEAD = (
    "SELECT COUNT(*), MAX(id) FROM"
    " (SELECT id FROM queue_recipient WHERE id > :after ORDER BY id LIMIT :window) AS looked_at"
)
_LETTERS_AHEAD = (
    "SELECT COUNT(*), MAX(id) FROM"
    " (SELECT id FROM queue_letter WHERE id > :after ORDER BY id LIMIT :window) AS looked_at"
)


def _window(reader: Reader, ahead: str, after: int, *, is_short: bool) -> tuple[int, int | None]:
    """The last id of the next window, and where the one behind it begins; None: it is the last one. `is_short`: an
    index finds what is wanted, so there is one window for all."""
    if is_short:
        return MAX_ID, None
    count, last = reader.row(ahead, after=after, window=WINDOW) or (0, None)
    return (MAX_ID, None) if count < WINDOW else (last, last)


def _recipient_condition(selection: Selection) -> tuple[str, dict[str, int | str]]:
    if selection.queue_id is not None:
        return "r.letter = :letter", {"letter": selection.queue_id}
    if selection.address:
        return _BY_ADDRESS, {"address": selection.address.lower()}
    if selection.domain:
        at = "%@" + selection.domain.replace("_", "!_")
        return _BY_DOMAIN, {"domain": selection.domain, "smart": SMART_HOST, "at": at}
    return "1 = 1", {}


# --- doing ----------------------------------------------------------------------------------------


def hold(tx: Transaction, recipients: Sequence[int], now: float) -> int:
    """Due recipients are held; claimed ones as soon as their attempt has not delivered them. Returns how many."""
    count = 0
    hops = _lock(tx, recipients)
    for recipient in recipients:
        count += tx.run(
            "UPDATE queue_recipient SET hold_asked = CASE WHEN state = 'claimed' THEN 1 ELSE 0 END,"
            " state = CASE WHEN state = 'claimed' THEN 'claimed' ELSE 'held' END"
            " WHERE id = :id AND state IN ('due', 'claimed')",
            id=recipient,
        )
    for hop in hops:
        destinations.refresh(tx, hop, now)
    return count


def release(tx: Transaction, recipients: Sequence[int], now: float) -> int:
    """Held recipients are due, at once or when their time comes; one that expired while held gets a last try."""
    return _set_due(tx, recipients, now, "state = 'held'", "CASE WHEN due_at > :now THEN due_at ELSE :now END")


def retry_now(tx: Transaction, recipients: Sequence[int], now: float) -> int:
    """Due recipients are due at once, and so is their destination if it was down. Held ones stay held."""
    return _set_due(tx, recipients, now, "state = 'due'", ":now", is_impatient=True)


def _set_due(
    tx: Transaction, recipients: Sequence[int], now: float, condition: str, due_at: str, *, is_impatient: bool = False
) -> int:
    count = 0
    hops = _lock(tx, recipients)
    for recipient in recipients:
        count += tx.run(
            f"UPDATE queue_recipient SET state = 'due', due_at = {due_at} WHERE id = :id AND {condition}",  # noqa: S608 - constants
            id=recipient,
            now=now,
        )
    for hop in hops:
        if is_impatient:
            tx.run("UPDATE queue_destination SET down_until = 0 WHERE next_hop = :hop", hop=hop)
        destinations.refresh(tx, hop, now)
    return count


def _lock(tx: Transaction, recipients: Sequence[int]) -> list[str]:
    """Lock the destinations of these recipients; their names, sorted."""
    hops: set[str] = set()
    for recipient in recipients:
        row = tx.row("SELECT next_hop FROM queue_recipient WHERE id = :id", id=recipient)
        if row:
            hops.add(row[0])
    ordered = sorted(hops)
    destinations.make_ready(tx, dict.fromkeys(ordered))
    return ordered


# --- seeing ---------------------------------------------------------------------------------------

_ENTRY = (
    "SELECT l.id, l.reverse_path, l.message_id, l.trace, l.account, l.size, l.received_at, l.open_recipients"
    " FROM queue_letter AS l "
)


def list_letters(
    reader: Reader, selection: Selection, after: int = 0, limit: int = PAGE
) -> tuple[list[QueueEntry], int | None]:
    """Letters with an unfinished recipient in the selection, oldest first, from the next WINDOW above `after`; and
    where to go on (None: that was all). A page may be empty and yet not the last."""
    where, what = _recipient_condition(selection)
    condition = "l.id > :after AND l.id <= :last"
    is_short = selection.queue_id is not None or where == "1 = 1"
    last, goes_on = _window(reader, _LETTERS_AHEAD, after, is_short=is_short)
    if selection.queue_id is not None:
        condition, what = condition + " AND l.id = :letter", {"letter": selection.queue_id}
    elif where != "1 = 1":
        condition += f"{_IS_OPEN} AND ({where}))"
    rows = reader.rows(_ENTRY + f"WHERE {condition} ORDER BY l.id LIMIT :n", after=after, last=last, n=limit, **what)
    return [_entry(reader, row) for row in rows], rows[-1][0] if len(rows) == limit else goes_on


def _entry(reader: Reader, row: Row) -> QueueEntry:
    states: dict[str, int] = {}
    next_at: float | None = None
    for state, count, due_at in reader.rows(
        "SELECT r.state, COUNT(*), MIN(CASE WHEN d.down_until > r.due_at THEN d.down_until ELSE r.due_at END)"
        " FROM queue_recipient AS r LEFT JOIN queue_destination AS d ON d.next_hop = r.next_hop"
        " WHERE r.letter = :id GROUP BY r.state ORDER BY r.state",
        id=row[0],
    ):
        states[state] = count
        if state == State.DUE:
            next_at = due_at
    values = (*row, states, next_at)  # in the order of _ENTRY
    return QueueEntry(*values)


def show(reader: Reader, queue_id: int, now: float) -> QueueDetail | None:
    """Everything about one letter in the queue; None when it is not there (history may know it)."""
    row = reader.row(_ENTRY + "WHERE l.id = :id", id=queue_id)
    if row is None:
        return None
    entry = _entry(reader, row)
    recipients = [
        RecipientEntry(*(*row[:-1], unpack_outcome(row[-1])))
        for row in reader.rows(
            "SELECT id, address, next_hop, state, due_at, warn_at, expires_at, attempts, result FROM queue_recipient"
            " WHERE letter = :id ORDER BY id LIMIT :n",
            id=queue_id,
            n=RECIPIENTS_SHOWN,
        )
    ]
    hops = list(dict.fromkeys(recipient.next_hop for recipient in recipients))
    known = (destinations.find(reader, hop) for hop in hops)
    return QueueDetail(
        entry,
        recipients,
        [each for each in known if each is not None],
        history.attempts(reader, queue_id, hops, entry.received_at, now),
    )


def find_named(reader: Reader, name: str, after: int = 0, limit: int = PAGE) -> tuple[list[int], int | None]:
    """Queue ids of letters with this Message-ID (with or without angle brackets) or trace id, from the next WINDOW
    above `after`; and where to go on (None: that was all)."""
    bare = name.strip().strip("<>")
    last, goes_on = _window(reader, _LETTERS_AHEAD, after, is_short=False)
    rows = reader.rows(
        "SELECT id FROM queue_letter WHERE id > :after AND id <= :last"
        " AND (message_id IN (:bare, :full) OR trace = :bare) ORDER BY id LIMIT :n",
        after=after,
        last=last,
        bare=bare,
        full=f"<{bare}>",
        n=limit,
    )
    return [row[0] for row in rows], rows[-1][0] if len(rows) == limit else goes_on


def totals(reader: Reader) -> QueueTotals:
    """Counts for metrics: a walk over the index of states' rows, milliseconds per hundred thousand."""
    counts = dict.fromkeys((state.value for state in State), 0)
    for state in (State.DUE, State.CLAIMED, State.HELD):
        row = reader.row(f"SELECT COUNT(*) FROM queue_recipient WHERE state = '{state.value}'")  # noqa: S608 - a constant
        counts[state.value] = row[0] if row else 0
    head = reader.row("SELECT COUNT(*) FROM queue_letter")
    oldest = reader.row("SELECT received_at FROM queue_letter ORDER BY id LIMIT 1")
    places = reader.row("SELECT COUNT(*), SUM(CASE WHEN failures > 0 THEN 1 ELSE 0 END) FROM queue_destination")
    return QueueTotals(
        recipients={state: count for state, count in counts.items() if not State(state).is_final},
        letters=head[0] if head else 0,
        oldest_at=oldest[0] if oldest else None,
        destinations=places[0] if places else 0,
        destinations_down=int(places[1] or 0) if places else 0,
    )
