# SPDX-License-Identifier: Apache-2.0
"""A client that asks for letter after letter: rows are read ahead, and what it is told is what is there."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from posthouse.ports import BlobLocation, DamagedContent
from posthouse.services.mailbox import ahead
from posthouse.services.mailbox.fetching import Fetching
from posthouse.services.mailbox.pages import Page, Wants
from posthouse.services.mailbox.places import Place
from posthouse.services.mailbox.selected import SelectDesk, SelectedMailbox
from posthouse.store import messages, rights, uidset
from tests.fakes import FakeBus
from tests.services.world import HandClock, InlineWorkers, InstantBus
from tests.store.letterbox import NOW

from .post import post
from .test_fetching import Desk

T = TypeVar("T")

WHOLE = Wants(contents=True)
DATED = Wants(dates=True)
COUNT = 100


def words(uid: int) -> bytes:
    return b"Subject: %d\r\n\r\nletter %d\r\n" % (uid, uid)


class Copying:
    """One session, in Bob's INBOX with its letters."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.box = self.desk.box
        self.clock = HandClock()
        self.reads = 0
        self._read = self.desk.database.read
        self.desk.database.read = self.read  # type: ignore[method-assign]
        self.fetching = Fetching(
            self.desk.database,
            self.desk.blobs,  # type: ignore[arg-type]
            InlineWorkers(),
            InstantBus(),
            self.clock,
        )
        for uid in range(1, COUNT + 1):
            post(self.box, words(uid))
        place = Place(self.box.mailbox("INBOX"), self.box.account, "INBOX", rights.EVERY)
        self.selected: SelectedMailbox = asyncio.run(self._select(SelectDesk(self.desk.database, FakeBus()), place))

    async def read(self, query: Callable[[Any], T]) -> T:
        self.reads += 1
        return await self._read(query)

    @staticmethod
    async def _select(desk: SelectDesk, place: Place) -> SelectedMailbox:
        selected, _ = await desk.select(place, is_read_only=False, wants_recent=False)
        await selected.view()
        return selected

    def ask(self, uid: int, wants: Wants = WHOLE) -> Page:
        letters = self.selected.letters.within(((uid, uid),))
        return asyncio.run(self.fetching.page(self.box.id("INBOX"), letters, wants, self.selected))

    def visits(self, uids: Iterable[int], *questions: Wants) -> int:
        """Visits to the database while these are asked for, one by one; each is told as it was stored."""
        before = self.reads
        for uid in uids:
            for wants in questions or (WHOLE,):
                page = self.ask(uid, wants)
                assert (page.uids, page.damaged, page.is_short) == (array("I", [uid]), [], False)
                if wants.contents:
                    assert [bytes(letter.content) for letter in page.letters] == [words(uid)]
                if wants.dates:
                    assert [row[0] for row in page.dates] == [uid]
        return self.reads - before

    def expunge(self, *uids: int) -> None:
        gone = uidset.from_uids(uids)
        self.desk.database.run(
            lambda tx: messages.expunge(
                tx, account=self.box.account, mailbox=self.box.id("INBOX"), uids=gone, now=NOW, only_deleted=False
            )
        )


@pytest.fixture
def copying() -> Copying:
    return Copying()


@pytest.mark.parametrize("uids", [range(1, COUNT + 1), range(COUNT, 0, -1)], ids=["growing", "falling"])
def test_who_asks_for_letter_after_letter_was_a_visit_to_the_database_each(copying: Copying, uids: range) -> None:
    """mbsync asks for each letter by itself: nearly all of its time went into waking the reader thread."""
    assert copying.visits(uids) == 1 + -(-(COUNT - 1) // ahead.LETTERS)


@pytest.mark.parametrize("uids", [[1, 50, 2, 70, 30], [5, 5, 5], range(1, COUNT, 2)])
def test_who_does_not_go_from_letter_to_letter_has_nothing_read_ahead(
    copying: Copying, uids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[object] = []
    monkeypatch.setattr(copying.fetching._looking, "prepare", prepared.append)
    assert copying.visits(uids) == len(uids)
    assert not prepared


def test_letters_that_are_not_there_are_no_gap(copying: Copying) -> None:
    copying.expunge(*range(2, COUNT, 2))
    asyncio.run(copying.selected.refresh())
    left = [uid for uid in range(1, COUNT + 1) if uid == COUNT or uid % 2]
    assert copying.visits(left) == 1 + -(-(len(left) - 1) // ahead.LETTERS)


def test_two_questions_in_turns_are_each_read_ahead(copying: Copying) -> None:
    alone = copying.visits(range(1, COUNT + 1))
    assert copying.visits(range(1, COUNT + 1), DATED, replace(WHOLE, dates=True)) == 2 * alone


def test_no_more_questions_are_kept_than_the_limit(copying: Copying) -> None:
    flags = ("summaries", "headers", "dates", "contents", "known_previews")
    questions = [Wants(**{flag: True}) for flag in flags]
    assert len(questions) > ahead.WALKS
    assert copying.visits(range(1, 11), *questions) == 10 * len(questions)
    assert len(copying.selected.ahead._walks) == ahead.WALKS


def test_what_was_read_is_given_out_once_and_not_for_long(copying: Copying) -> None:
    copying.visits((1, 2, 3))
    assert copying.visits((3,)) == 1
    assert copying.visits((4, 5)) == 0
    copying.clock.now += ahead.LASTS + 1
    assert copying.visits((7,)) == 1
    assert copying.visits((6,)) == 1


def test_what_is_small_is_looked_at_together(copying: Copying) -> None:
    asked: list[int] = []
    real = copying.desk.blobs.open_all

    async def counted(locations: list[BlobLocation]) -> object:
        asked.append(len(locations))
        return await real(locations)

    copying.desk.blobs.open_all = counted  # type: ignore[method-assign,assignment]
    copying.visits((1, 2, 3))
    assert asked == [1, ahead.LETTERS, 1, 1]


# --- what happens between two of them -----------------------------------------------------------


def hurt(copying: Copying) -> None:
    copying.desk.blobs.faults[copying.desk.location(5)] = DamagedContent("hurt")


def lose_rows(copying: Copying) -> None:
    copying.desk.run("DELETE FROM email_detail WHERE email = :email", email=copying.desk.email(5))


def wrong_size(copying: Copying) -> None:
    copying.desk.run(
        "UPDATE email_detail SET prefix = :wrong WHERE email = :email", wrong=b"\0", email=copying.desk.email(5)
    )


@pytest.mark.parametrize("happens", [hurt, lose_rows, wrong_size])
def test_a_damaged_letter_is_named_and_those_around_it_are_told(
    copying: Copying, happens: Callable[[Copying], None]
) -> None:
    happens(copying)
    copying.visits((1, 2, 3, 4))
    page = copying.ask(5)
    assert (list(page.uids), page.damaged, list(page.letters)) == ([], [5], [])
    copying.visits(range(6, COUNT + 1))


def test_a_letter_that_was_damaged_after_its_row_was_read_is_named(copying: Copying) -> None:
    copying.visits((1, 2, 3))
    hurt(copying)
    copying.visits((4,))
    page = copying.ask(5)
    assert (list(page.uids), page.damaged) == ([], [5])


def test_letters_that_were_moved_after_their_rows_were_read_are_found(copying: Copying) -> None:
    """Compaction: what is kept says where they were."""
    copying.visits((1, 2, 3))
    contents = copying.desk.database.blobs.contents
    for uid in range(4, 11):
        before = copying.desk.location(uid)
        contents[replace(before, pack=9)] = contents.pop(before)
        copying.desk.blobs.faults[before] = DamagedContent("its pack is missing")
        copying.desk.run(
            "UPDATE blob SET pack = 9 WHERE pack = :pack AND pack_offset = :offset",
            pack=before.pack,
            offset=before.offset,
        )
    copying.visits(range(4, 21))


def test_a_letter_that_has_gone_is_not_asked_for(copying: Copying) -> None:
    copying.visits((1, 2, 3))
    copying.expunge(4)
    asyncio.run(copying.selected.refresh())
    assert not len(copying.selected.letters.within(((4, 4),)))
    copying.visits(range(5, 11))


def test_a_letter_that_goes_before_its_row_is_read_is_left_out(copying: Copying) -> None:
    copying.visits((1,))
    copying.expunge(2, 3)  # nobody has looked since
    page = copying.ask(2)
    assert (list(page.uids), page.damaged, page.is_short) == ([], [], True)
    page = copying.ask(3)
    assert (list(page.uids), page.damaged, page.is_short) == ([], [], True)
    copying.visits(range(4, 11))
