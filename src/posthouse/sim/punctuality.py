# SPDX-License-Identifier: Apache-2.0
"""Whether a server keeps its schedule: what is due is tried, nothing is tried too soon, senders are told in time.

Invariants checked: retries after 1, 5, 15, then every 30 minutes, and at the time of the warning, at four hours, and
of the end, at five days.
Too early is looked for in what was done, too late in what still waits while the server is up and has no
connection to that destination.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from posthouse.sim.machine import EPOCH
from posthouse.sim.records import AttemptRow, QueuedRow, Records

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR

RETRY = (1 * MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE)
WARN = 4 * HOUR
EXPIRE = 5 * DAY

# Seconds that something due may still wait: a look of the dispatcher, the group commits before it.
LATE = 30.0
# Seconds that a session may take, with the longest waits of RFC 5321 §4.5.3.2 at every step and ten letters that a
# worker takes at once. While one goes on, what else is due there waits for it.
SESSION = 12 * HOUR
# Seconds by which times may differ: they are rounded to three places on their way through the rows.
GRAIN = 0.01


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known of a server beside its rows, all in seconds since the world began. `busy`: destinations that
    it has a session with or is connecting to. `retried`: when an operator asked for retries at once."""

    now: float
    up_since: float
    busy: Sequence[str] = ()
    retried: Sequence[float] = field(default=())


def lateness(rows: Records, watch: Watch) -> Iterator[str]:
    """Of a server that is up: what should have been tried or told by now."""
    for row in rows.queue:
        if row.state != "due":
            continue
        place = rows.destinations.get(row.next_hop)
        down_until = place.down_until if place else 0.0
        grace = SESSION if row.next_hop in watch.busy else LATE
        ready = max(max(row.due_at, down_until) - EPOCH, watch.up_since)
        if watch.now - ready > grace:
            yield f"{_name(row)} is due since {ready:.1f}, and is not tried at {watch.now:.1f}"
        # What was held or dropped meanwhile is told of when it is looked at again.
        told = max(row.deadline_at - EPOCH, watch.up_since, *watch.retried)
        if watch.now - told > grace + RETRY[0]:
            yield f"{_name(row)}: its sender should have been told at {told:.1f}, it is {watch.now:.1f}"
        # What expired while it was held has a last try when it is released.
        if row.due_at > row.expires_at + GRAIN and not _was_asked(row.expires_at, row.due_at, watch):
            yield f"{_name(row)} is to be tried after its end"
    yield from _plans(rows, watch)


def _plans(rows: Records, watch: Watch) -> Iterator[str]:
    """The next attempt of each that waits is where the schedule puts it."""
    last = {
        (attempt.letter, recipient): attempt.at
        for attempt in rows.attempts
        for _, recipients in attempt.results
        for recipient in recipients
    }
    for row in rows.queue:
        at = last.get((row.letter, row.address))
        if row.state != "due" or at is None or not row.attempts or _was_asked(at, row.due_at, watch):
            continue
        latest = planned(at, row.attempts, row.deadline_at, row.expires_at)
        if row.due_at > latest + GRAIN:
            yield f"{_name(row)} was tried at {at - EPOCH:.1f} and is due at {row.due_at - EPOCH:.1f}, too late"


def haste(rows: Records, watch: Watch) -> Iterator[str]:
    """Attempts that came too soon after the one before. After an operator's wish nothing is too soon."""
    tries: dict[tuple[int, str], list[float]] = {}
    for attempt in rows.attempts:
        if attempt.letter is None:
            continue
        for outcome, recipients in attempt.results:
            for recipient in recipients:
                times = tries.setdefault((attempt.letter, recipient), [])
                yield from _too_soon(rows, times, attempt, recipient, watch)
                if outcome.is_deferred:
                    times.append(attempt.at)
    yield from _probes_too_soon(rows, watch)


def _too_soon(
    rows: Records, times: Sequence[float], attempt: AttemptRow, recipient: str, watch: Watch
) -> Iterator[str]:
    if not times or _was_asked(times[-1], attempt.at, watch):
        return
    letter = rows.queued[attempt.letter or 0]
    expires_at, warn_at = letter.received_at + EXPIRE, letter.received_at + WARN
    told_at = warn_at if times[-1] < warn_at else expires_at
    if attempt.at < planned(times[-1], len(times), told_at, expires_at) - GRAIN:
        name, wait = f"{recipient} of <{letter.message_id}>", attempt.at - times[-1]
        yield f"{name} was tried {wait:.1f} seconds after attempt {len(times)}, at {attempt.at - EPOCH:.1f}"


def _probes_too_soon(rows: Records, watch: Watch) -> Iterator[str]:
    """A destination that was found down is not looked for again within the shortest delay."""
    last: dict[str, float] = {}
    for attempt in rows.attempts:
        if attempt.letter is not None:
            last.pop(attempt.next_hop, None)
            continue
        before = last.get(attempt.next_hop)
        if before is not None and not _was_asked(before, attempt.at, watch):
            wait = attempt.at - before
            if wait < RETRY[0] - GRAIN:
                yield f"{attempt.next_hop} was found down, and probed {wait:.1f} seconds later"
        last[attempt.next_hop] = attempt.at


def report_time(kind: str, arrived: float, told: float) -> str | None:
    """`kind`: "delayed" or "expired"; epoch seconds. What is wrong with the time of a report; reports carry whole
    seconds."""
    wanted = WARN if kind == "delayed" else EXPIRE
    if told - arrived < wanted - 1.0:
        return f"its sender was told {kind} after {told - arrived:.0f} seconds, not {wanted:.0f}"
    return None


def planned(at: float, attempts: int, told_at: float, expires_at: float) -> float:
    """When the next attempt is due after that many, the last of them at `at`. Senders are told, at `told_at`, of what
    was found just then; only within the shortest delay nothing is tried twice, but at the end."""
    return min(at + delay(attempts), max(told_at, at + RETRY[0]), expires_at)


def delay(attempts: int) -> float:
    """How long to wait after that many attempts."""
    return RETRY[min(attempts, len(RETRY)) - 1]


def _was_asked(since: float, until: float, watch: Watch) -> bool:
    return any(since - GRAIN <= at + EPOCH <= until + GRAIN for at in watch.retried)


def _name(row: QueuedRow) -> str:
    return f"{row.address} of <{row.message_id}>"
