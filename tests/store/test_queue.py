# SPDX-License-Identifier: Apache-2.0
"""The queue's rows: states and who may change them, turns between destinations, and cost that does not grow."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

import pytest

from posthouse.mail.envelope import BodyType, DsnReturn, ForwardPath, Notify, ReversePath
from posthouse.outcome import Outcome, RemoteReply, Status
from posthouse.services.schedule import DAY, HOUR, Schedules
from posthouse.store import destinations, history, letter_story, queue, queue_admin
from posthouse.store.queue import Attempt, ClaimedLetter, LeaseLost, QueuedLetter, Ruling, State
from posthouse.store.queue_admin import Selection
from posthouse.store.queue_rows import (
    flat_outcome,
    outcome_from,
    pack_notify,
    pack_reverse_path,
    unpack_notify,
    unpack_reverse_path,
)
from tests.fakes import EPOCH
from tests.services.queue_world import letter_for, path, put_blob, reverse
from tests.store.plain_database import PlainDatabase

OK = Outcome(Status(2, 1, 5), "ok", "mx.bob.test", "192.0.2.1", "TLSv1.3", RemoteReply(250, Status(2, 1, 5), "ok"))
BUSY = Outcome(Status(4, 2, 1), "busy", "mx.bob.test", "192.0.2.1")
REFUSED = Outcome(Status(5, 1, 1), "no such user", "mx.bob.test")


class Desk:
    """The queue functions on a database, with the arguments that tests rarely vary."""

    def __init__(self) -> None:
        self.database = PlainDatabase()

    def put(self, *recipients: str | ForwardPath, **fields) -> int:
        letter = letter_for(recipients, **fields)
        return self.database.run(lambda tx: queue.insert(tx, put_blob(tx), letter))

    def claim(self, hop: str = "bob.test", now: float = EPOCH, owner: str = "me", n: int = 10) -> list[ClaimedLetter]:
        return self.database.run(
            lambda tx: queue.claim_due(tx, hop, now=now, owner=owner, leased_until=now + 900, max_letters=n)
        )

    def rule(
        self,
        letter: ClaimedLetter,
        state: State,
        outcome: Outcome,
        *,
        owner: str = "me",
        due_at: float = EPOCH + 60,
        only: int | None = None,
    ) -> None:
        recipients = letter.recipients[:only]
        rulings = [Ruling(r.id, state, outcome, due_at, r.warn_at) for r in recipients]
        attempt = Attempt(
            letter.id,
            "bob.test",
            EPOCH,
            outcome.host,
            outcome.address,
            outcome.tls,
            ((outcome, tuple(str(r.path) for r in recipients)),),
        )
        self.database.run(lambda tx: queue.record(tx, letter.id, rulings, owner=owner, now=EPOCH + 1, attempt=attempt))

    def states(self) -> list[str]:
        return [s for (s,) in self.database.look(lambda r: r.rows("SELECT state FROM queue_recipient ORDER BY id"))]

    def next_due(self) -> float | None:
        return self.database.look(queue.next_due)

    def do(self, change, ids: Sequence[int], now: float = EPOCH) -> int:
        return self.database.run(lambda tx: change(tx, ids, now))

    def find(self, selection: Selection, *states: State) -> list[int]:
        return self.database.look(lambda r: queue_admin.find(r, selection, states or tuple(State)))[0]


@pytest.fixture
def desk() -> Desk:
    return Desk()


# --- packing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        ReversePath(None),
        reverse("jürgen@bob.test"),
        ReversePath(
            reverse().address, 17, BodyType.EIGHT_BIT, smtputf8=True, dsn_return=DsnReturn.HEADERS, envelope_id="x y"
        ),
    ],
)
def test_reverse_paths_come_back_as_they_were(value):
    assert unpack_reverse_path(str(value), pack_reverse_path(value)) == value


@pytest.mark.parametrize("notify", [None, Notify.NEVER, Notify.SUCCESS | Notify.DELAY, Notify.FAILURE])
def test_notify_comes_back_as_it_was(notify):
    assert unpack_notify(pack_notify(notify)) == notify


@pytest.mark.parametrize("outcome", [OK, BUSY, REFUSED])
def test_outcomes_come_back_as_they_were(outcome):
    assert outcome_from(flat_outcome(outcome)) == outcome


# --- states -----------------------------------------------------------------------------------------


def test_a_claim_gives_everything_an_attempt_needs(desk):
    wanted = ForwardPath(path("bob@bob.test").address, Notify.SUCCESS, "rfc822;bob@old.test")
    queue_id = desk.put(wanted, "eve@bob.test", "carol@carol.test")
    (letter,) = desk.claim()
    assert letter.id == queue_id
    assert [r.path for r in letter.recipients] == [wanted, path("eve@bob.test")]
    assert letter.reverse_path == reverse()
    assert desk.database.blobs.contents[letter.location].startswith(b"Subject: news")
    assert desk.states() == ["claimed", "claimed", "due"]
    assert desk.claim() == []
    assert len(desk.claim("carol.test")) == 1


def test_only_the_claimant_rules_and_nothing_is_recorded_for_anybody_else(desk):
    desk.put("bob@bob.test", "eve@bob.test")
    (letter,) = desk.claim()
    with pytest.raises(LeaseLost) as lost:
        desk.rule(letter, State.DELIVERED, OK, owner="other")
    assert lost.value.recipients == tuple(r.id for r in letter.recipients)
    assert desk.states() == ["claimed", "claimed"]
    assert desk.database.look(lambda r: r.rows("SELECT id FROM attempt")) == []


def test_a_deferred_recipient_is_due_again_at_its_time(desk):
    desk.put("bob@bob.test")
    (letter,) = desk.claim()
    assert desk.next_due() is None
    desk.rule(letter, State.DUE, BUSY)
    assert (desk.states(), desk.next_due()) == (["due"], EPOCH + 60)
    assert desk.claim(now=EPOCH + 59) == []
    (again,) = desk.claim(now=EPOCH + 60)
    assert again.recipients[0].attempts == 1


def test_finished_recipients_wait_for_their_letter_and_then_leave_as_one_row(desk):
    queue_id = desk.put("bob@bob.test", "eve@bob.test", "carol@carol.test")
    (letter,) = desk.claim()
    desk.rule(letter, State.DELIVERED, OK, only=1)
    (first, second, third) = desk.states()
    assert (first, second, third) == ("delivered", "claimed", "due")
    rest = ClaimedLetter(**{f: getattr(letter, f) for f in letter.__slots__} | {"recipients": letter.recipients[1:]})
    desk.rule(rest, State.FAILED, REFUSED)
    (other,) = desk.claim("carol.test")
    desk.rule(other, State.EXPIRED, BUSY)
    assert desk.states() == []
    story = desk.database.look(lambda r: letter_story.by_queue_id(r, queue_id, EPOCH + 9))
    assert [(r.address, r.state) for r in story.recipients] == [
        ("bob@bob.test", "delivered"),
        ("eve@bob.test", "failed"),
        ("carol@carol.test", "expired"),
    ]
    assert len(story.attempts) == 3
    for table in ("queue_letter", "queue_recipient"):
        assert desk.database.look(lambda r, t=table: r.rows(f"SELECT 1 FROM {t}")) == []


def test_what_was_given_back_is_due_as_before(desk):
    desk.put("bob@bob.test", "eve@bob.test")
    (letter,) = desk.claim()
    desk.database.run(lambda tx: queue.give_back(tx, "me", [r.id for r in letter.recipients], EPOCH + 5))
    assert (desk.states(), desk.next_due()) == (["due", "due"], EPOCH + 5)


def test_claims_of_the_dead_are_taken_back_and_those_of_the_living_are_not(desk):
    for number in range(3):
        desk.put(f"u{number}@bob.test")
    desk.claim(owner="dead", n=1)
    desk.claim(owner="me", n=1)

    def take(now: float, *, is_alone: bool) -> int:
        return desk.database.run(lambda tx: queue.take_back(tx, "me", now, is_alone=is_alone))

    assert take(EPOCH + 899, is_alone=False) == 0
    assert take(EPOCH + 901, is_alone=False) == 1
    assert sorted(desk.states()) == ["claimed", "due", "due"]
    desk.claim(owner="dead", n=1)
    assert take(EPOCH, is_alone=True) == 1
    assert take(EPOCH, is_alone=True) == 0


def test_a_renewed_lease_lasts(desk):
    desk.put("bob@bob.test")
    desk.claim(owner="other")
    assert desk.database.run(lambda tx: queue.renew(tx, "other", EPOCH + 5000)) == 1
    assert desk.database.look(lambda r: queue.next_lease_end(r, "me")) == EPOCH + 5000
    assert desk.database.run(lambda tx: queue.take_back(tx, "me", EPOCH + 4999, is_alone=False)) == 0


# --- destinations -----------------------------------------------------------------------------------


def test_a_destination_that_is_down_holds_its_recipients_by_one_row(desk):
    for number in range(50):
        desk.put(f"u{number}@bob.test")
    down = Outcome(Status(4, 4, 1), "refused", "mx.bob.test")
    desk.database.run(
        lambda tx: destinations.set_down(tx, "bob.test", now=EPOCH, until=EPOCH + 60, outcome=down, attempt=None)
    )
    assert desk.next_due() == EPOCH + 60
    desk.put("new@bob.test", now=EPOCH + 10)
    assert desk.next_due() == EPOCH + 60
    desk.put("carol@carol.test", now=EPOCH + 10)
    assert desk.next_due() == EPOCH + 10
    known = desk.database.look(lambda r: destinations.find(r, "bob.test"))
    assert (known.failures, known.down_since, known.outcome) == (1, EPOCH, down)
    assert set(desk.states()) == {"due"}
    desk.claim(now=EPOCH + 60)
    known = desk.database.look(lambda r: destinations.find(r, "bob.test"))
    assert (known.failures, known.down_since, known.outcome) == (0, None, None)


def test_destinations_take_turns(desk):
    for number in range(30):
        desk.put(f"u{number}@huge.test", now=EPOCH - 1000)
    desk.put("u@small.test", now=EPOCH - 1)
    served = []
    for step in range(4):
        (first, *_) = desk.database.look(lambda r: destinations.ready_page(r, 5))
        served.append(first.next_hop)
        desk.claim(first.next_hop, now=EPOCH + step)
    assert served == ["huge.test", "small.test", "huge.test", "huge.test"]


def test_overdue_recipients_of_a_destination_that_is_down(desk):
    desk.put("old@bob.test", now=EPOCH - 5 * DAY)
    desk.put("slow@bob.test", now=EPOCH - 4 * HOUR)
    desk.put("new@bob.test", now=EPOCH - 60)
    letters = desk.database.run(
        lambda tx: queue.claim_overdue(tx, "bob.test", now=EPOCH, owner="me", leased_until=EPOCH + 9)
    )
    assert [str(r.path) for letter in letters for r in letter.recipients] == ["old@bob.test", "slow@bob.test"]


def test_a_destination_is_forgotten_when_nothing_waits_for_it(desk):
    desk.put("bob@bob.test", is_held=True)
    (held,) = desk.find(Selection())

    def prune() -> bool:
        desk.database.run(lambda tx: destinations.prune(tx, "bob.test", EPOCH + 2))
        return desk.database.look(lambda r: destinations.find(r, "bob.test")) is None

    assert not prune()
    desk.do(queue_admin.release, [held])
    assert not prune()
    (letter,) = desk.claim()
    assert not prune()
    desk.rule(letter, State.DELIVERED, OK)
    assert prune()


# --- the operator -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12345", Selection(queue_id=12345)),
        ("bob@bob.test", Selection(address="bob@bob.test")),
        ("Bob.test.", Selection(domain="bob.test")),
        ("*", Selection(domain="*")),
    ],
)
def test_what_an_operator_may_name(text, expected):
    assert Selection.parse(text) == expected


def test_selecting(desk):
    first = desk.put("bob@bob.test", "carol@carol.test")
    desk.put("Bob@bob.test", sender="eve@eve.test")
    desk.put("dave@bob.test", next_hop="*")

    def names(text: str) -> list[str]:
        ids = desk.find(Selection.parse(text))
        rows = desk.database.look(lambda r: r.rows("SELECT id, address FROM queue_recipient"))
        return [dict(rows)[each] for each in ids]

    assert names(str(first)) == ["bob@bob.test", "carol@carol.test"]
    assert names("BOB@bob.test") == ["bob@bob.test", "Bob@bob.test"]
    assert names("eve@eve.test") == ["Bob@bob.test"]
    assert names("bob.test") == ["bob@bob.test", "Bob@bob.test", "dave@bob.test"]
    assert names("nowhere.test") == []


def test_hold_and_release(desk):
    desk.put("bob@bob.test", not_before=EPOCH + 100)
    ids = desk.find(Selection())
    assert desk.do(queue_admin.hold, ids) == 1
    assert (desk.states(), desk.next_due()) == (["held"], None)
    assert desk.do(queue_admin.retry_now, ids) == 0
    assert desk.do(queue_admin.release, ids, EPOCH + 50) == 1
    assert desk.next_due() == EPOCH + 100


def test_a_claim_for_dropping_gives_held_ones_back_as_held(desk):
    desk.put("bob@bob.test", is_held=True)
    ids = desk.find(Selection())
    desk.database.run(lambda tx: queue.claim_recipients(tx, ids, now=EPOCH, owner="dead", leased_until=EPOCH + 9))
    assert desk.states() == ["claimed"]
    desk.database.run(lambda tx: queue.take_back(tx, "me", EPOCH, is_alone=True))
    assert desk.states() == ["held"]


def test_pages_of_the_queue(desk):
    ids = [desk.put(f"u{number}@bob.test", "carol@carol.test") for number in range(5)]
    page, after = desk.database.look(lambda r: queue_admin.list_letters(r, Selection(domain="bob.test"), 0, 3))
    assert [entry.id for entry in page] == ids[:3]
    assert page[0].states == {"due": 2}
    rest, end = desk.database.look(lambda r: queue_admin.list_letters(r, Selection(domain="bob.test"), after, 3))
    assert ([entry.id for entry in rest], end) == (ids[3:], None)
    totals = desk.database.look(queue_admin.totals)
    assert (totals.recipients, totals.letters) == ({"due": 10, "claimed": 0, "held": 0}, 5)
    assert (totals.oldest_at, totals.destinations, totals.destinations_down) == (EPOCH, 2, 0)


# --- history ----------------------------------------------------------------------------------------


def record(desk: Desk, queue_id: int, *recipients: str, finished_at: float = EPOCH) -> None:
    results = tuple(history.RecipientResult(r, "local", "delivered", OK, 1, finished_at) for r in recipients)
    letter = history.LetterRecord(
        queue_id, "beef", "<7@alice.test>", "alice@alice.test", None, 10, EPOCH, finished_at, "192.0.2.7", results
    )
    desk.database.run(lambda tx: history.record_letter(tx, letter))


def test_a_letter_partly_delivered_here_and_partly_queued_is_one_story(desk):
    queue_id = desk.put("bob@bob.test")
    record(desk, queue_id, "carol@alice.test")
    story = desk.database.look(lambda r: letter_story.by_queue_id(r, queue_id, EPOCH))
    assert [(r.address, r.state) for r in story.recipients] == [
        ("carol@alice.test", "delivered"),
        ("bob@bob.test", "due"),
    ]
    (letter,) = desk.claim()
    desk.rule(letter, State.DELIVERED, OK)
    story = desk.database.look(lambda r: letter_story.by_queue_id(r, queue_id, EPOCH))
    assert [(r.address, r.state) for r in story.recipients] == [
        ("carol@alice.test", "delivered"),
        ("bob@bob.test", "delivered"),
    ]
    assert story.source == "192.0.2.7"
    assert desk.database.look(lambda r: r.rows("SELECT COUNT(*) FROM history")) == [(1,)]


@pytest.mark.parametrize(
    "what", ["<7@alice.test>", "7@alice.test", "Carol_C@alice.test", "alice@alice.test", "beef", "50"]
)
def test_a_letter_is_found_by_all_its_names(desk, what):
    record(desk, 50, "carol_c@alice.test")
    record(desk, 51, "carolxc@alice.test") if what.startswith("Carol") else None
    stories, goes_on = desk.database.look(lambda r: letter_story.trace(r, what, EPOCH))
    assert [story.id for story in stories] == [50]
    assert goes_on is None


def test_a_walk_through_a_long_history_goes_on_page_by_page(desk, monkeypatch):
    monkeypatch.setattr(history, "SEARCH_PAGE", 10)
    for number in range(35):
        record(desk, 100 + number, "carol@alice.test" if number == 2 else "dave@alice.test")
    found, before, pages = [], None, 0
    while True:
        page, before = desk.database.look(
            lambda r, b=before: letter_story.trace(r, "carol@alice.test", EPOCH, before=b)
        )
        found += page
        pages += 1
        if before is None:
            break
    assert ([story.id for story in found], pages) == ([102], 4)


def test_old_history_is_forgotten_in_pages(desk, monkeypatch):
    monkeypatch.setattr(history, "PURGE_PAGE", 10)
    for number in range(25):
        record(desk, 100 + number, "carol@alice.test", finished_at=EPOCH + number)
    gone = 0
    while count := desk.database.run(lambda tx: history.purge(tx, EPOCH + 20)):
        gone += count
    assert gone == 20


# --- a model, and cost ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_every_recipient_is_in_one_state_and_none_is_lost(seed):
    """Random claims, rulings, crashes, holds and releases against a simple model."""
    rng, desk = random.Random(seed), Desk()
    now, expected = EPOCH, set()
    claimed: list[tuple[str, ClaimedLetter]] = []
    finished: set[str] = set()
    for step in range(120):
        now += rng.choice([0, 1, 30, 900])
        match rng.randrange(7):
            case 0 | 1:
                names = [f"u{step}x{n}@{rng.choice(['bob', 'carol'])}.test" for n in range(rng.randrange(1, 4))]
                desk.put(*names, now=now, is_held=rng.random() < 0.1)
                expected.update(names)
            case 2 | 3:
                owner = rng.choice(["me", "other"])
                hop = rng.choice(["bob.test", "carol.test"])
                claimed += [(owner, letter) for letter in desk.claim(hop, now=now, owner=owner, n=2)]
            case 4 if claimed:
                owner, letter = claimed.pop(rng.randrange(len(claimed)))
                state = rng.choice([State.DUE, State.DELIVERED, State.FAILED, State.EXPIRED])
                try:
                    desk.rule(letter, state, BUSY, owner=owner, due_at=now + 60)
                except LeaseLost:
                    continue
                if state.is_final:
                    finished.update(str(r.path) for r in letter.recipients)
            case 5:
                desk.database.run(lambda tx, n=now: queue.take_back(tx, "me", n, is_alone=True))
            case 6:
                change = rng.choice([queue_admin.hold, queue_admin.release, queue_admin.retry_now])
                desk.do(change, desk.find(Selection(domain=rng.choice(["bob.test", "carol.test"]))), now)
    rows = desk.database.look(lambda r: r.rows("SELECT address, state FROM queue_recipient"))
    records = desk.database.look(lambda r: history.search(r, address="alice@alice.test")).letters
    told = [result.address for each in records for result in each.results]
    assert len(told) == len(set(told))
    open_now = {address for address, state in rows if not State(state).is_final}
    assert open_now | finished == expected
    assert not open_now & finished
    assert set(told) | {address for address, _ in rows} == expected
    due = desk.database.look(lambda r: r.row("SELECT MIN(due_at) FROM queue_recipient WHERE state = 'due'"))[0]
    # What is due is found: a destination is never looked at later than its earliest recipient, or than now.
    assert due is None or desk.next_due() <= max(due, now)


def test_every_look_up_of_the_hot_path_uses_an_index():
    """The statements that run while mail flows never walk a table that grows with the queue."""
    desk = Desk()
    seen: set[str] = set()
    desk.database.connection.trace_v2(1, lambda event: seen.add(event["sql"]))
    for number in range(20):
        desk.put(f"u{number}@bob.test", "carol@carol.test")
    (first, second, *_) = desk.claim()
    desk.rule(first, State.DELIVERED, OK)
    desk.rule(second, State.DUE, BUSY)
    desk.database.look(queue.next_due)
    desk.database.look(lambda r: destinations.ready_page(r, 5))
    desk.database.run(
        lambda tx: destinations.set_down(tx, "bob.test", now=EPOCH, until=EPOCH + 60, outcome=BUSY, attempt=None)
    )
    desk.database.run(lambda tx: queue.claim_overdue(tx, "bob.test", now=EPOCH, owner="me", leased_until=EPOCH + 9))
    desk.database.run(lambda tx: destinations.prune(tx, "bob.test", EPOCH))
    desk.database.run(lambda tx: queue.renew(tx, "me", EPOCH))
    desk.database.run(lambda tx: queue.take_back(tx, "me", EPOCH, is_alone=True))
    desk.database.connection.trace_v2(0, None)
    checked = 0
    for sql in seen:
        if not sql.startswith(("SELECT", "UPDATE", "DELETE", "INSERT")):
            continue
        checked += 1
        plan = desk.database.connection.execute("EXPLAIN QUERY PLAN " + sql, _NOTHING)
        for *_, step in plan:
            walks = step.startswith("SCAN") and "INDEX" not in step and "CONSTANT" not in step
            assert not walks, (sql, step)
            if "owner <>" not in sql and "owner = :owner AND state" not in sql:
                assert "queue_recipient_claimed" not in step or "next_hop" in step, (sql, step)
    assert checked > 15


class _Nothing(dict):
    def __missing__(self, key: str) -> None:
        return None


_NOTHING = _Nothing()


def statements(desk: Desk, work: Callable[[], object]) -> list[str]:
    """What runs for it, in order."""
    seen: list[str] = []
    desk.database.connection.trace_v2(1, lambda event: seen.append(event["sql"]))
    work()
    desk.database.connection.trace_v2(0, None)
    return [sql for sql in seen if sql.startswith(("SELECT", "UPDATE", "DELETE", "INSERT"))]


def test_a_sent_letter_leaves_the_queue_by_few_statements():
    """Each statement makes the committer wait for the interpreter: ten of them for a letter were half of its cost."""
    desk = Desk()
    desk.put("u@bob.test")
    (letter,) = desk.claim()
    seen = statements(desk, lambda: desk.rule(letter, State.DELIVERED, OK))
    # The recipient, the attempt, the count of the letter, the letter, its recipients, its history.
    assert len(seen) == 6, seen


def test_a_claim_looks_at_no_more_recipients_than_it_takes():
    """In a queue of a million letters each recipient lies on a page of its own: a hundred were read to claim ten."""
    desk = Desk()
    for number in range(40):
        desk.put(f"u{number}@bob.test")
    looked_at: list[int] = []

    def claim(tx) -> list[ClaimedLetter]:
        rows = tx.rows

        def watched(sql, **named):
            looked_at.extend(named[name] for name in named if name == "n")
            return rows(sql, **named)

        tx.rows = watched
        return queue.claim_due(tx, "bob.test", now=EPOCH, owner="me", leased_until=EPOCH + 900, max_letters=10)

    assert len(desk.database.run(claim)) == 10
    assert looked_at == [10]


def test_a_claim_finds_its_letters_among_those_of_many_recipients():
    desk = Desk()
    for number in range(3):
        desk.put(*(f"u{number}-{each}@bob.test" for each in range(30)))
    claimed = desk.claim(n=2)
    assert [len(letter.recipients) for letter in claimed] == [30, 30]


def fill(desk: Desk, count: int) -> None:
    """`count` letters, half of them for one huge destination, the rest spread over 997 others."""
    letter = letter_for(["u@huge.test"])
    schedules = Schedules()

    def unit(tx) -> None:
        blob = put_blob(tx)
        for number in range(count):
            hop = "huge.test" if number % 2 else f"d{number % 997}.test"
            recipient = schedules.recipient(path(f"u{number}@{hop}"), hop, now=EPOCH - 10 + number / count)
            fields = {name: getattr(letter, name) for name in letter.__slots__}
            queue.insert(tx, blob, QueuedLetter(**fields | {"recipients": (recipient,)}))

    desk.database.run(unit)


def cost(desk: Desk) -> float:
    """Seconds of one claim and one ruling in the huge destination, the best of many."""
    times = []
    for _ in range(30):
        start = time.perf_counter()
        (letter,) = desk.claim("huge.test", n=1)
        desk.rule(letter, State.DUE, BUSY)
        desk.next_due()
        desk.database.look(lambda r: destinations.ready_page(r, 200))
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.mark.slow
def test_a_claim_costs_the_same_with_a_hundred_thousand_letters():
    small, large = Desk(), Desk()
    fill(small, 2_000)
    fill(large, 100_000)
    assert cost(large) < 3 * cost(small)
