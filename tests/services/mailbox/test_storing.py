# SPDX-License-Identifier: Apache-2.0
"""Changes of letters by people with and without rights, alone and while others look on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product

import pytest

from posthouse.ports import Change as Hint
from posthouse.services.mailbox import storing
from posthouse.services.mailbox.places import Place
from posthouse.services.mailbox.selected import SelectDesk, SelectedMailbox
from posthouse.services.mailbox.storing import Storing
from posthouse.store import catalogue, flagging, integrity, mailboxes, messages, rights, visitors
from posthouse.store.carrying import touchable
from posthouse.store.flagging import Change
from posthouse.store.flags import ALL, ANSWERED, DELETED, FLAGGED, SEEN
from posthouse.store.refusal import MailboxRefusal, Reason
from posthouse.store.rights import EVERY
from posthouse.store.uidset import EVERY_UID, Ranges
from tests.services.world import HandClock
from tests.store.letterbox import NOW, Box, new_account
from tests.store.plain_database import PlainDatabase

# Flags and keywords of the four letters of each source, and which of them bob has seen where they are carol's.
LETTERS = ((SEEN, ()), (FLAGGED | DELETED, ("work",)), (SEEN | ANSWERED, ("later", "work")), (0, ()))
SEEN_BY_BOB: Ranges = ((1, 2),)


class Hints:
    """A ChangeBus that only remembers."""

    def __init__(self) -> None:
        self.told: list[Hint] = []

    def publish(self, change: Hint) -> None:
        self.told.append(change)

    def subscribe(self, topic: str, key: int, told: Callable[[Hint], None]) -> Callable[[], None]:
        return lambda: None


class House:
    """Bob, who acts, and Carol, who shares."""

    def __init__(self) -> None:
        self.db = PlainDatabase()
        self.bob = new_account(self.db)
        self.carol = new_account(self.db, "carol@bob.test")
        self.hints = Hints()
        self.storing = Storing(self.db, self.hints, HandClock())
        self.desk = SelectDesk(self.db, self.hints)

    def fill(self, owner: Box, name: str = "INBOX") -> None:
        mailbox = owner.id(name)
        for flags, words in LETTERS:
            uid = owner.deliver(name, flags=flags).uid
            unit = partial(flagging.store, account=owner.account, mailbox=mailbox, uids=((uid, uid),), now=NOW)
            self.db.run(partial(unit, change=Change.ADD, keywords=words))
        if owner is self.carol:
            self.db.run(
                lambda tx: visitors.store(
                    tx, owner.account, mailbox, self.bob.account, SEEN_BY_BOB, Change.ADD, flags=SEEN, now=NOW
                )
            )

    def share(self, letters: str, name: str = "INBOX") -> Place:
        carol, bob = self.carol, self.bob.account
        self.db.run(lambda tx: rights.grant(tx, carol.account, carol.id(name), bob, letters, NOW))
        return Place(carol.mailbox(name), bob, name, letters)

    def own(self, name: str = "INBOX") -> Place:
        return Place(self.bob.mailbox(name), self.bob.account, name, EVERY)

    def flags(self, place: Place) -> list[tuple[int, str]]:
        """As their owner has them."""
        letters = self.db.look(partial(catalogue.page, mailbox=place.id))
        return [(flags, letters.texts[index]) for flags, index in zip(letters.flags, letters.keywords, strict=True)]

    def seen(self, place: Place) -> list[bool]:
        r"""Bob's \Seen."""
        letters = self.db.look(partial(catalogue.page, mailbox=place.id))
        if not place.is_own:
            rows = self.db.look(partial(visitors.seen, mailbox=place.id, person=self.bob.account))
            letters = visitors.as_seen_by(letters, rows)
        return [bool(flags & SEEN) for flags in letters.flags]

    async def select(self, place: Place) -> SelectedMailbox:
        selected, _ = await self.desk.select(place, is_read_only=False, wants_recent=False)
        await selected.view()
        return selected


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    for box in (house.bob, house.carol):
        assert house.db.look(partial(integrity.check_account, account=box.account)) == []
    assert house.db.look(integrity.check_rest) == []


@pytest.mark.parametrize(("left", "is_move"), [("lswite", False), ("lswite", True), ("", False), ("", True)])
def test_who_may_not_read_any_more_could_still_copy(house: House, left: str, *, is_move: bool) -> None:
    """The right to read the source was looked at when the mailbox was selected, and never again."""
    house.fill(house.carol)
    place = house.share("lrswite")
    house.share(left)
    carry = house.storing.move if is_move else house.storing.copy
    with pytest.raises(MailboxRefusal) as refused:
        asyncio.run(carry(place, EVERY_UID, house.own()))
    assert refused.value.reason is (Reason.NOPERM if left else Reason.NONEXISTENT)
    assert house.bob.uids("INBOX") == []


# --- flags ----------------------------------------------------------------------------------------


def test_what_may_not_be_changed_is_left(house: House) -> None:
    house.fill(house.carol)
    for letters, flags, words in product(
        ("lr", "lrs", "lrw", "lrt", "lrswt"), (0, SEEN, FLAGGED, DELETED | SEEN), ((), ("x",))
    ):
        place = house.share(letters)
        for change in Change:
            before, seen = house.flags(place), house.seen(place)
            wants = ALL if change is Change.REPLACE else flags
            if (wants & touchable(letters)) or (words and "w" in letters) or not (wants or words):
                asyncio.run(house.storing.store(place, EVERY_UID, change, flags, words))
            else:
                with pytest.raises(MailboxRefusal) as refused:
                    asyncio.run(house.storing.store(place, EVERY_UID, change, flags, words))
                assert refused.value.reason is Reason.NOPERM
            for (was, old), (now, new) in zip(before, house.flags(place), strict=True):
                assert (was ^ now) & ~(touchable(letters) & ~SEEN) == 0, "the owner's \\Seen is the owner's"
                assert old == new or "w" in letters
            assert seen == house.seen(place) or "s" in letters


def test_rights_count_as_they_are_now(house: House) -> None:
    house.fill(house.carol)
    place = house.share("lrswte")
    house.share("lr")
    for attempt in (
        house.storing.store(place, EVERY_UID, Change.ADD, FLAGGED),
        house.storing.expunge_deleted(place),
        house.storing.move(place, EVERY_UID, house.own()),
        house.storing.copy(house.own(), EVERY_UID, place),
    ):
        with pytest.raises(MailboxRefusal) as refused:
            asyncio.run(attempt)
        assert refused.value.reason is Reason.NOPERM
    assert not house.hints.told


def test_whoever_looks_on_learns_with_the_answer_unless_others_were_quicker(house: House) -> None:
    house.fill(house.bob)

    async def story() -> None:
        place = house.own()
        one, other = await house.select(place), await house.select(place)
        reads = house.db.reads
        done = await house.storing.store(place, ((1, 2),), Change.ADD, FLAGGED, looking=one)
        assert house.db.reads == reads, "one visit to the database"
        assert list(one.letters.flags[:2]) == [SEEN | FLAGGED, FLAGGED | DELETED]
        assert done.changed == ((1, 1),)
        view = await one.view()
        view.did(done.modseq)
        assert not view.has_news
        assert (await other.view()).has_news

        class Disturbed:
            """A database that is slow to answer: another session learns of more meanwhile."""

            async def read(self, query: object) -> object:
                return await house.db.read(query)  # type: ignore[arg-type]

            async def write(self, unit: object) -> object:
                found: object = await house.db.write(unit)  # type: ignore[arg-type]
                await house.storing.store(place, ((4, 4),), Change.ADD, ANSWERED)
                await other.refresh()
                return found

        assert one._opened is not None
        one._opened._database = Disturbed()  # type: ignore[assignment]
        await house.storing.store(place, ((3, 3),), Change.REMOVE, SEEN, looking=one)
        assert list(one.letters.flags[2:]) == [ANSWERED, ANSWERED]
        assert one.letters.modseqs == other.letters.modseqs

    asyncio.run(story())


def test_many_letters_are_not_read_again_while_other_units_wait(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "READ_AT_ONCE", 2)
    house.fill(house.bob)

    async def story() -> None:
        place = house.own()
        selected = await house.select(place)
        reads = house.db.reads
        await house.storing.store(place, ((1, 3),), Change.ADD, DELETED, looking=selected)
        assert house.db.reads == reads + 1
        assert all(flags & DELETED for flags in selected.letters.flags[:3])

    asyncio.run(story())


# --- COPY and MOVE --------------------------------------------------------------------------------


@pytest.mark.parametrize("is_move", [False, True])
@pytest.mark.parametrize("letters", ["lri", "lris", "lriw", "lriswt"])
@pytest.mark.parametrize(("source", "target"), list(product(("bob", "carol"), repeat=2)))
def test_each_takes_the_own_seen_along_and_sets_what_may_be_set(
    house: House, source: str, target: str, letters: str, is_move: bool
) -> None:
    start = house.own() if source == "bob" else house.share("lrte")
    end = house.own("Archive") if target == "bob" else house.share(letters, "Archive")
    house.fill(house.bob if source == "bob" else house.carol)
    flags, seen = house.flags(start), house.seen(start)
    do = house.storing.move if is_move else house.storing.copy
    copied = asyncio.run(do(start, ((1, 1), (3, 9)), end))
    assert (copied.source, copied.target) == (((1, 1), (3, 4)), ((1, 3),))
    took = [0, 2, 3]
    own_seen = [seen[index] for index in took]
    if target == "carol" and "s" not in letters:
        own_seen = [False] * 3
    assert house.seen(end) == own_seen
    allowed = ALL if target == "bob" else touchable(letters)
    for index, (now, words) in zip(took, house.flags(end), strict=True):
        was, old = flags[index]
        assert now & ~SEEN == was & allowed & ~SEEN
        assert words == (old if target == "bob" or "w" in letters else "")
        if target == "carol":  # nobody sees for her; within her account her \Seen stays
            assert now & SEEN == (was & SEEN if source == "carol" else 0)
    left = [flags[1]] if is_move else flags
    assert house.flags(start) == left
    accounts = {end.owner, start.owner} if is_move else {end.owner}
    assert {hint.key for hint in house.hints.told} == accounts


def test_all_that_are_named_or_none(house: House) -> None:
    house.fill(house.bob)
    place, end = house.own(), house.own("Archive")
    house.db.run(lambda tx: messages.expunge(tx, house.bob.account, place.id, ((2, 2),), now=NOW))
    with pytest.raises(MailboxRefusal) as refused:
        asyncio.run(house.storing.copy(place, ((1, 4),), end, needs_all=True))
    assert refused.value.reason is Reason.EXPUNGEISSUED
    assert house.bob.uids("Archive") == []
    assert asyncio.run(house.storing.copy(place, ((1, 4),), end)).target == ((1, 3),)


def test_a_mailbox_that_has_gone_is_no_target(house: House) -> None:
    house.fill(house.bob)
    box = house.bob
    made = house.db.run(lambda tx: mailboxes.create(tx, box.account, "Team", NOW))
    end = replace(house.own(), mailbox=made, name="Team")
    house.db.run(lambda tx: mailboxes.delete(tx, box.account, made.id, NOW))
    for do in (house.storing.copy, house.storing.move):
        with pytest.raises(MailboxRefusal) as refused:
            asyncio.run(do(house.own(), EVERY_UID, end))
        assert refused.value.reason is Reason.NONEXISTENT
    assert len(box.uids("INBOX")) == 4
