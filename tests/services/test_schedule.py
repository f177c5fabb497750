# SPDX-License-Identifier: Apache-2.0
"""When a letter is tried again, warned about and given up: tables for the pure ruling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.outcome import Outcome, Status
from posthouse.services.schedule import DAY, HOUR, MINUTE, Schedule, Schedules, rule
from posthouse.store.queue_rows import ClaimedRecipient, State
from tests.services.queue_world import path

NOW = 1_000_000.0
DELIVERED = Outcome(Status(2, 1, 5), "ok")
DEFERRED = Outcome(Status(4, 2, 1), "busy")
FAILED = Outcome(Status(5, 1, 1), "no such user")


def claimed(*, attempts: int = 0, age: float = 0.0, is_warned: bool = False) -> ClaimedRecipient:
    since = NOW - age
    return ClaimedRecipient(
        id=7,
        path=path("bob@bob.test"),
        next_hop="bob.test",
        due_at=since,
        warn_at=None if is_warned else since + 4 * HOUR,
        expires_at=since + 5 * DAY,
        attempts=attempts,
    )


@pytest.mark.parametrize(("attempts", "minutes"), [(0, 1), (1, 1), (2, 5), (3, 15), (4, 30), (5, 30), (500, 30)])
def test_the_last_delay_repeats(attempts, minutes):
    assert Schedule().delay(attempts) == minutes * MINUTE


@pytest.mark.parametrize(
    ("recipient", "outcome", "state", "due_in", "is_warning"),
    [
        (claimed(), DELIVERED, State.DELIVERED, None, False),
        (claimed(), FAILED, State.FAILED, None, False),
        (claimed(), DEFERRED, State.DUE, MINUTE, False),
        (claimed(attempts=1), DEFERRED, State.DUE, 5 * MINUTE, False),
        (claimed(attempts=9, age=4 * HOUR), DEFERRED, State.DUE, 30 * MINUTE, True),
        (claimed(attempts=9, age=4 * HOUR - 10 * MINUTE), DEFERRED, State.DUE, 10 * MINUTE, False),
        (claimed(attempts=9, age=4 * HOUR - 1), DEFERRED, State.DUE, MINUTE, False),
        (claimed(attempts=9, age=5 * HOUR, is_warned=True), DEFERRED, State.DUE, 30 * MINUTE, False),
        (claimed(attempts=9, age=5 * DAY - MINUTE, is_warned=True), DEFERRED, State.DUE, MINUTE, False),
        (claimed(attempts=9, age=5 * DAY), DEFERRED, State.EXPIRED, None, False),
        (claimed(attempts=9, age=6 * DAY), DELIVERED, State.DELIVERED, None, False),
    ],
)
def test_rulings(recipient, outcome, state, due_in, is_warning):
    ruled = rule(recipient, outcome, NOW, Schedule())
    assert (ruled.ruling.state, ruled.is_warning) == (state, is_warning)
    if due_in is not None:
        assert ruled.ruling.due_at == NOW + due_in


def test_giving_up_keeps_the_last_words_of_the_host():
    ruled = rule(claimed(age=5 * DAY), DEFERRED, NOW, Schedule())
    assert (str(ruled.ruling.outcome.status), ruled.ruling.outcome.diagnostic) == ("5.4.7", "busy")


def test_what_waits_for_its_destination_keeps_its_own_time():
    recipient = claimed(age=4 * HOUR)
    ruled = rule(recipient, DEFERRED, NOW, Schedule(), is_attempt=False)
    assert (ruled.ruling.due_at, ruled.is_warning, ruled.ruling.is_attempt) == (recipient.due_at, True, False)


def test_exceptions_by_domain_and_times_from_the_release():
    schedules = Schedules(Schedule(), {"bob.test": Schedule(retry=(1.0,), warn=None, expire=60.0)})
    recipient = schedules.recipient(path("bob@bob.test"), "*", now=NOW, not_before=NOW + 100)
    assert (recipient.not_before, recipient.warn_at, recipient.expires_at) == (NOW + 100, None, NOW + 160)
    other = schedules.recipient(path("bob@carol.test"), "*", now=NOW)
    assert (other.warn_at, other.expires_at) == (NOW + 4 * HOUR, NOW + 5 * DAY)
    assert schedules.longest_delay == 30 * MINUTE


@given(st.integers(0, 400), st.floats(0, 6 * DAY), st.booleans(), st.sampled_from([DELIVERED, DEFERRED, FAILED]))
def test_a_ruling_always_ends_or_goes_on_before_the_end(attempts, age, is_warned, outcome):
    recipient = claimed(attempts=attempts, age=age, is_warned=is_warned)
    ruling = rule(recipient, outcome, NOW, Schedule()).ruling
    if ruling.state is State.DUE:
        assert NOW < ruling.due_at <= recipient.expires_at
    else:
        assert ruling.state.is_final
