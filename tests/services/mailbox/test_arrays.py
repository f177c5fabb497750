# SPDX-License-Identifier: Apache-2.0
"""Open mailboxes: what sessions share is always what a fresh look would give, and each session learns what changed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from posthouse.ports import Reader
from posthouse.services.mailbox import arrays
from posthouse.services.mailbox.arrays import OpenMailbox, OpenMailboxes
from posthouse.services.mailbox.view import Changed, Exists, Expunged
from posthouse.store import catalogue, flagging, journal, mailboxes, messages, uidset
from posthouse.store.catalogue import Letters
from posthouse.store.flagging import Change
from posthouse.store.flags import FLAGGED, SEEN
from posthouse.store.refusal import MailboxRefusal
from posthouse.store.uidset import EVERY_UID, Ranges
from tests.store.letterbox import NOW, Box, new_account
from tests.store.plain_database import PlainDatabase

T = TypeVar("T")

words = st.sets(st.sampled_from(["work", "$junk", "later"]), max_size=2)
ranges = st.lists(st.tuples(st.integers(1, 14), st.integers(1, 14)), min_size=1, max_size=2).map(uidset.from_ranges)


@pytest.fixture
def box() -> Box:
    return new_account(PlainDatabase())


def opened(box: Box) -> tuple[OpenMailboxes, OpenMailbox]:
    shelf = OpenMailboxes(box.db)
    return shelf, asyncio.run(shelf.open(box.id("INBOX")))


def plain(letters: Letters) -> list[tuple[int, int, int, int, int, str]]:
    texts = (letters.texts[index] for index in letters.keywords)
    return list(zip(letters.uids, letters.emails, letters.modseqs, letters.flags, letters.sizes, texts, strict=True))


def store(box: Box, uids: Ranges, change: Change = Change.ADD, flags: int = 0, **how: object) -> flagging.Stored:
    return box.db.run(
        lambda tx: flagging.store(tx, box.account, box.id("INBOX"), uids, change, flags=flags, now=NOW, **how)
    )


def expunge(box: Box, uids: Ranges) -> None:
    box.db.run(lambda tx: messages.expunge(tx, box.account, box.id("INBOX"), uids, now=NOW))


def test_sets_of_keywords_that_no_letter_has_any_more_filled_the_memory(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each set that a letter ever had was kept as long as the mailbox was open."""
    monkeypatch.setattr(arrays, "UNUSED_TEXTS", 3)
    for _ in range(3):
        box.deliver()
    shelf, open_ = opened(box)
    view = open_.select()
    store(box, ((1, 1),), keywords=("stays",))
    for number in range(40):
        store(box, ((2, 2),), Change.REPLACE, keywords=(f"word{number}",))
        asyncio.run(open_.refresh())
        assert plain(open_.letters) == plain(box.db.look(partial(catalogue.page, mailbox=box.id("INBOX"))))
        assert open_.words() == ["stays", f"word{number}"]
        assert len(open_.letters.texts) <= 2 * 3 + 3 + 1
    assert [type(told) for told in view.tell(expunges=True)] == [Changed]
    shelf.close(open_, view)


class ArraysMachine(RuleBasedStateMachine):
    """One mailbox and two sessions, the second of which is told less often."""

    @initialize(first=st.integers(0, 5))
    def open(self, first: int) -> None:
        self.box = new_account(PlainDatabase())
        for _ in range(first):
            self.box.deliver()
        self.shelf, self.opened = opened(self.box)
        self.views = [self.opened.select(), self.opened.select(uses_vanished=True)]

    @rule(count=st.integers(1, 3), flags=st.sampled_from([0, SEEN]))
    def deliver(self, count: int, flags: int) -> None:
        for _ in range(count):
            self.box.deliver(flags=flags)

    @rule(uids=ranges, change=st.sampled_from(Change), flags=st.sampled_from([0, SEEN, FLAGGED]), words=words)
    def store(self, uids: Ranges, change: Change, flags: int, words: set[str]) -> None:
        store(self.box, uids, change, flags, keywords=words)

    @rule(uids=ranges)
    def expunge(self, uids: Ranges) -> None:
        expunge(self.box, uids)

    @rule(uids=ranges, flags=st.sampled_from([SEEN, FLAGGED]))
    def store_and_learn(self, uids: Ranges, flags: int) -> None:
        box = self.box
        unit = partial(flagging.store, account=box.account, mailbox=box.id("INBOX"), now=NOW)
        asyncio.run(self.opened.write(partial(unit, uids=uids, change=Change.ADD, flags=flags)))
        assert plain(self.opened.letters) == plain(box.db.look(partial(catalogue.page, mailbox=box.id("INBOX"))))

    @rule()
    def deliver_elsewhere(self) -> None:
        self.box.deliver("Archive")

    @rule()
    def forget_the_journal(self) -> None:
        self.box.db.run(lambda tx: journal.purge(tx, self.box.account, NOW + 1))

    @rule(which=st.integers(0, 1), expunges=st.booleans())
    def tell(self, which: int, expunges: bool) -> None:
        asyncio.run(self.opened.refresh())
        truth = self.box.db.look(partial(catalogue.page, mailbox=self.box.id("INBOX")))
        assert plain(self.opened.letters) == plain(truth)
        assert self.opened.head == self.box.db.look(partial(catalogue.head, mailbox=self.box.id("INBOX")))
        view = self.views[which]
        before = list(view.uids)
        told = view.tell(expunges=expunges)
        self.opened.settle(view)
        there = list(truth.uids)
        if expunges:
            assert list(view.uids) == there
            assert view._uids is self.opened.letters.uids
        else:
            assert list(view.uids) == sorted({*before, *there})
        for each in told:
            match each:
                case Exists(count, _):
                    assert count == len(view)
                case Changed(_, uids):
                    assert set(uids) <= set(there) & set(before)

    @invariant()
    def words_are_those_in_use(self) -> None:
        if hasattr(self, "opened"):
            used = {word for row in plain(self.opened.letters) for word in row[-1].split()}
            assert self.opened.words() == sorted(used)


TestArrays = ArraysMachine.TestCase
TestArrays.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_all_sessions_learn_by_one_look(box: Box) -> None:
    for _ in range(3):
        box.deliver()
    shelf, mailbox = opened(box)
    one, two = mailbox.select(), asyncio.run(shelf.open(box.id("INBOX"))).select()
    assert one._uids is two._uids is mailbox.letters.uids
    box.deliver()
    expunge(box, ((2, 2),))
    store(box, ((3, 3),), flags=SEEN)
    reads = box.db.reads
    asyncio.run(mailbox.refresh())
    assert box.db.reads == reads + 1
    for view in (one, two):
        expunged, exists, changed = view.tell(expunges=True)
        assert isinstance(expunged, Expunged)
        assert exists == Exists(3, 0)
        assert isinstance(changed, Changed)
        assert list(changed.uids) == [3]
    asyncio.run(mailbox.refresh())
    assert box.db.last_statements == 1, "where nothing happened, one row is read"


def test_a_large_mailbox_is_read_in_pages_and_what_happens_meanwhile_is_not_lost(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "PAGE", 3)
    for _ in range(8):
        box.deliver()
    happenings = [lambda: expunge(box, ((1, 1), (6, 6))), lambda: store(box, ((2, 2),), flags=FLAGGED), box.deliver]

    class Disturbing:
        """A database in which something happens after each page."""

        async def read(self, query: object) -> object:
            found = await box.db.read(query)  # type: ignore[arg-type]
            if happenings and isinstance(found, Letters):
                happenings.pop()()
            return found

    mailbox = asyncio.run(OpenMailboxes(Disturbing()).open(box.id("INBOX")))  # type: ignore[arg-type]
    assert not happenings
    assert plain(mailbox.letters) == plain(box.db.look(partial(catalogue.page, mailbox=box.id("INBOX"), limit=100)))


def test_a_mailbox_that_has_gone(box: Box) -> None:
    made = box.db.run(lambda tx: mailboxes.create(tx, box.account, "Team", NOW))
    shelf = OpenMailboxes(box.db)
    mailbox = asyncio.run(shelf.open(made.id))
    view = mailbox.select()
    box.db.run(lambda tx: mailboxes.delete(tx, box.account, made.id, NOW))
    asyncio.run(mailbox.refresh())
    assert mailbox.is_gone
    asyncio.run(mailbox.refresh())
    with pytest.raises(MailboxRefusal):
        asyncio.run(shelf.open(made.id))
    shelf.close(mailbox, view)
    shelf.close(mailbox, view)


def test_another_uidvalidity_is_another_mailbox(box: Box) -> None:
    box.deliver()
    shelf, mailbox = opened(box)
    box.db.run(lambda tx: mailboxes.renew_uid_validity(tx, box.account, NOW + 9))
    asyncio.run(mailbox.refresh())
    assert mailbox.is_gone
    again = asyncio.run(shelf.open(box.id("INBOX")))
    assert again is not mailbox
    assert again.head.uid_validity == box.mailbox("INBOX").uid_validity
    assert list(again.letters.uids) == [1]


def test_arrays_of_closed_mailboxes_are_kept_up_to_a_limit(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "KEPT_LETTERS", 2 * arrays.ENTRY + 1)
    box.deliver()
    box.deliver("Archive")
    shelf = OpenMailboxes(box.db)

    def visit(name: str) -> OpenMailbox:
        mailbox = asyncio.run(shelf.open(box.id(name)))
        shelf.close(mailbox, mailbox.select())
        return mailbox

    inbox = visit("INBOX")
    assert visit("INBOX") is inbox
    archive = visit("Archive")
    assert visit("Archive") is archive
    assert visit("INBOX") is not inbox, "the oldest went"
    used = asyncio.run(shelf.open(box.id("Archive")))
    used.select()
    visit("Sent")
    visit("Junk")
    assert visit("Archive") is used, "a mailbox that is used stays"


def test_a_session_that_asks_late_is_told_from_where_it_was(box: Box) -> None:
    """SELECT tells figures; the letters are read when the first of them is asked for."""
    for _ in range(4):
        box.deliver()
    head = box.db.look(partial(catalogue.head, mailbox=box.id("INBOX")))
    assert head is not None
    shelf, mailbox = opened(box)
    quiet = asyncio.run(mailbox.select_as_of(head))
    assert quiet._uids is mailbox.letters.uids
    expunge(box, ((1, 1), (3, 3)))
    store(box, ((2, 2),), flags=FLAGGED)
    box.deliver()
    for late in (mailbox, asyncio.run(OpenMailboxes(box.db).open(box.id("INBOX")))):
        view = asyncio.run(late.select_as_of(head))
        assert list(view.uids) == [1, 2, 3, 4]
        gone, exists, changed = view.tell(expunges=True)
        assert (gone, exists) == (Expunged((3, 1)), Exists(3, 0))
        assert isinstance(changed, Changed)
        assert list(changed.uids) == [2]
        assert list(view.uids) == [2, 4, 5]
    assert list(quiet.uids) == [1, 2, 3, 4]
    box.db.run(lambda tx: journal.purge(tx, box.account, NOW + 1))
    with pytest.raises(MailboxRefusal):
        asyncio.run(mailbox.select_as_of(head))
    shelf.close(mailbox, quiet)


def test_openings_at_once_read_once(box: Box) -> None:
    for _ in range(3):
        box.deliver()
    shelf = OpenMailboxes(box.db)

    async def both() -> list[OpenMailbox]:
        return list(await asyncio.gather(*(shelf.open(box.id("INBOX")) for _ in range(3))))

    one, *others = asyncio.run(both())
    assert all(other is one for other in others)
    store(box, EVERY_UID, flags=SEEN)

    async def refreshed() -> None:
        await asyncio.gather(one.refresh(), one.refresh())

    asyncio.run(refreshed())
    assert set(one.letters.flags) == {SEEN}


class Lagging:
    """A database whose answers are heard late: `meanwhile` happens between reading number `at` and its answer."""

    def __init__(self, db: PlainDatabase, at: int, meanwhile: Callable[[], Awaitable[None]]) -> None:
        self._db = db
        self._left = at
        self._meanwhile = meanwhile

    async def read(self, query: Callable[[Reader], T]) -> T:
        answer = await self._db.read(query)
        self._left -= 1
        if not self._left:
            await self._meanwhile()
        return answer


def test_a_session_that_asked_late_missed_what_another_one_took_in_while_it_was_read(box: Box) -> None:
    """What it had missed was read before another session's look and taken in after it: an expunge between the two was
    never told, and the client counted a letter that nobody had any more."""
    for _ in range(3):
        box.deliver()
    head = box.db.look(partial(catalogue.head, mailbox=box.id("INBOX")))
    assert head is not None
    looks: list[asyncio.Task[None]] = []

    async def look_elsewhere() -> None:
        expunge(box, ((1, 1),))
        looks.append(asyncio.create_task(mailbox.refresh()))
        for _ in range(10):
            await asyncio.sleep(0)

    async def ask_late() -> list[object]:
        # The first reading is the look before; the second tells what was missed.
        mailbox._database = Lagging(box.db, 2, look_elsewhere)  # type: ignore[assignment]
        view = await mailbox.select_as_of(head)
        await asyncio.gather(*looks)
        await mailbox.refresh()
        return list(view.tell(expunges=True))

    _, mailbox = opened(box)
    assert asyncio.run(ask_late()) == [Expunged((1,))]


def test_a_mailbox_that_was_let_go_of_while_it_was_opened_again(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was looked for among the open ones where it was no more, and the session ended with a KeyError."""
    monkeypatch.setattr(arrays, "KEPT_LETTERS", 0)
    shelf, mailbox = opened(box)
    view = mailbox.select()

    async def close() -> None:
        shelf.close(mailbox, view)

    async def open_again() -> OpenMailbox:
        mailbox._database = Lagging(box.db, 1, close)  # type: ignore[assignment]
        return await shelf.open(box.id("INBOX"))

    assert asyncio.run(open_again()) is mailbox
