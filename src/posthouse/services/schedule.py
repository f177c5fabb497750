# SPDX-License-Identifier: Apache-2.0
"""When a letter is tried again, when its sender is warned, when it is given up; and the ruling on an outcome.

Invariant: `rule` is a pure function of a claimed recipient, an outcome and the wall clock; the same ruling
follows from the same history, whichever incarnation makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from posthouse.mail.envelope import ForwardPath
from posthouse.outcome import EXPIRED, Outcome
from posthouse.store.queue_rows import ClaimedRecipient, QueuedRecipient, Ruling, State

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Schedule:
    """All times in seconds. RFC 5321 §4.5.4.1: retries about every 30 minutes, giving up after 4 to 5 days.

    `retry`: the delays after the first, second, … attempt; the last one repeats. `warn`: the age at which the
    sender is told of a delay, None for never. `connections`: at once to one destination.
    """

    retry: tuple[float, ...] = (1 * MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE)
    warn: float | None = 4 * HOUR
    expire: float = 5 * DAY
    connections: int = 5

    def delay(self, attempts: int) -> float:
        """How long to wait after that many attempts (at least one)."""
        return self.retry[min(max(attempts, 1), len(self.retry)) - 1]


@dataclass(frozen=True, slots=True)
class Schedules:
    """The schedule of every destination domain: exceptions by name, and the one for all others."""

    default: Schedule = field(default_factory=Schedule)
    exceptions: Mapping[str, Schedule] = field(default_factory=dict)

    def of(self, domain: str) -> Schedule:
        return self.exceptions.get(domain, self.default)

    @property
    def longest_delay(self) -> float:
        """No retry is planned further away than this."""
        return max(max(schedule.retry) for schedule in (self.default, *self.exceptions.values()))

    def recipient(
        self, path: ForwardPath, next_hop: str, *, now: float, not_before: float | None = None, is_held: bool = False
    ) -> QueuedRecipient:
        """A recipient on its way into the queue, with its own times. Warning and expiry count from the moment at
        which it may first be sent."""
        schedule = self.of(path.address.domain.name)
        start = now if not_before is None else max(now, not_before)
        return QueuedRecipient(
            path=path,
            next_hop=next_hop,
            not_before=start,
            expires_at=start + schedule.expire,
            is_held=is_held,
            warn_at=None if schedule.warn is None else start + schedule.warn,
        )


@dataclass(frozen=True, slots=True)
class Ruled:
    """A ruling, with the recipient it is about. `is_warning`: its sender is to be told of the delay now."""

    recipient: ClaimedRecipient
    ruling: Ruling
    is_warning: bool = False


def rule(
    recipient: ClaimedRecipient, outcome: Outcome, now: float, schedule: Schedule, *, is_attempt: bool = True
) -> Ruled:
    """What becomes of a recipient after an outcome.

    A deferred one is due again after the schedule's delay, but once more exactly when it expires: every letter
    gets its last attempt at the end of its time, not up to half an hour before. So it is when its sender is to be
    warned, who is told in time and of what the host said a moment ago; only within the shortest delay nothing is
    tried twice. `is_attempt` False: its destination is down and nothing was tried for it alone; its own time stays.
    """
    if outcome.is_delivered:
        return Ruled(recipient, Ruling(recipient.id, State.DELIVERED, outcome, is_attempt=is_attempt))
    if outcome.is_failed:
        return Ruled(recipient, Ruling(recipient.id, State.FAILED, outcome, is_attempt=is_attempt))
    if now >= recipient.expires_at:
        last_word = Outcome(
            status=EXPIRED,
            diagnostic=outcome.diagnostic,
            host=outcome.host,
            address=outcome.address,
            tls=outcome.tls,
            reply=outcome.reply,
        )
        return Ruled(recipient, Ruling(recipient.id, State.EXPIRED, last_word, is_attempt=is_attempt))
    is_warning = recipient.warn_at is not None and now >= recipient.warn_at
    due_at = recipient.due_at
    if is_attempt:
        due_at = min(now + schedule.delay(recipient.attempts + 1), recipient.expires_at)
        if recipient.warn_at is not None and not is_warning:
            due_at = min(due_at, max(recipient.warn_at, now + schedule.delay(1)))
    ruling = Ruling(
        recipient=recipient.id,
        state=State.DUE,
        outcome=outcome,
        due_at=due_at,
        warn_at=None if is_warning else recipient.warn_at,
        is_attempt=is_attempt,
    )
    return Ruled(recipient, ruling, is_warning)
