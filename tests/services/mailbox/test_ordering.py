# SPDX-License-Identifier: Apache-2.0
"""SORT and THREAD over letters in the store; what a client that comes back has missed."""

from __future__ import annotations

import asyncio
from array import array

import pytest

from posthouse.mail.number_set import NumberSet
from posthouse.mail.search import SortCriterion, SortKey, ThreadAlgorithm
from posthouse.mail.sorting import display_of_first, mailbox_of_first
from posthouse.mail.threads import written
from posthouse.services.mailbox.ordering import Sorter
from posthouse.services.mailbox.resync import Missed, missed
from posthouse.store import messages, reading
from posthouse.store.messages import Changes
from posthouse.store.uidset import EVERY_UID, from_uids
from tests.services.world import InlineWorkers
from tests.store.letterbox import NOW, Box, new_account
from tests.store.plain_database import PlainDatabase

from .post import CountedBlobs, all_of, post


def raw(
    number: int, sender: str, to: str, subject: str, date: str, cc: str = "", refs: str = "", size: int = 1
) -> bytes:
    return (
        f"From: {sender}\nTo: {to}\nCc: {cc}\nSubject: {subject}\nDate: {date}\nMessage-ID: <{number}@x>\n"
        f"References: {refs}\n\n" + "x" * size + "\n"
    ).encode()


@pytest.fixture
def box() -> Box:
    box = new_account(PlainDatabase())
    post(box, raw(1, "Zoe <bob@a.test>", "z@a.test", "b topic", "Mon, 1 Jan 2024 10:00:00 +0000", size=9))
    post(
        box, raw(2, "alice@a.test", '"Ann" <y@a.test>', "Re: A topic", "Mon, 1 Jan 2024 11:00:00 +0300", cc="q@a.test")
    )
    post(box, raw(3, '"Carl, the Great" <Bob@c.test>', "x@a.test", "a TOPIC", "?", refs="<2@x>", size=5))
    post(
        box,
        raw(4, "team: dan@a.test;", "", "", "Mon, 1 Jan 2024 07:00:00 +0000", refs="<0@x> <3@x>"),
        received_at=NOW - 5,
    )
    return box


def ordered(box: Box, *keys: SortKey, found: tuple[int, ...] = (1, 2, 3, 4)) -> list[int]:
    sorter = Sorter(box.db, box.db.blobs, InlineWorkers())
    return list(asyncio.run(sorter.sort(box.id("INBOX"), all_of(box), array("I", found), keys)))


C = SortCriterion


@pytest.mark.parametrize(
    ("criterion", "uids"),
    [
        (C.ARRIVAL, [4, 1, 2, 3]),
        (C.SIZE, [4, 2, 3, 1]),
        (C.DATE, [3, 4, 2, 1]),  # 3 has none: the internal date stands in
        (C.SUBJECT, [4, 2, 3, 1]),
        (C.FROM, [2, 1, 3, 4]),
        (C.TO, [4, 3, 2, 1]),
        (C.CC, [1, 3, 4, 2]),
        (C.DISPLAY_FROM, [2, 3, 4, 1]),
        (C.DISPLAY_TO, [4, 2, 3, 1]),
    ],
)
def test_each_criterion(box: Box, criterion: SortCriterion, uids: list[int]) -> None:
    sizes = dict(zip(all_of(box).uids, all_of(box).sizes, strict=True))
    if criterion is C.SIZE:
        uids = sorted(sizes, key=lambda uid: sizes[uid])
    assert ordered(box, SortKey(criterion)) == uids


def test_equals_stay_in_order_also_reversed(box: Box) -> None:
    """RFC 5256 §3: REVERSE does not reverse the order of the mailbox."""
    assert ordered(box, SortKey(C.CC, is_reverse=True)) == [2, 1, 3, 4]
    assert ordered(box, SortKey(C.SUBJECT), SortKey(C.DATE)) == [4, 3, 2, 1]
    assert ordered(box, SortKey(C.SUBJECT), SortKey(C.DATE, is_reverse=True)) == [4, 2, 3, 1]
    assert ordered(box, SortKey(C.SUBJECT, is_reverse=True), SortKey(C.DATE)) == [1, 3, 2, 4]
    assert ordered(box, SortKey(C.SUBJECT), found=(1, 3)) == [3, 1]
    assert ordered(box, SortKey(C.SUBJECT), found=()) == []


def test_what_went_meanwhile_is_left_out(box: Box) -> None:
    letters = all_of(box)
    box.db.run(lambda tx: messages.expunge(tx, box.account, box.id("INBOX"), ((2, 2),), now=NOW))
    sorter = Sorter(box.db, box.db.blobs, InlineWorkers())
    for criterion in (C.DATE, C.SUBJECT):
        found = asyncio.run(sorter.sort(box.id("INBOX"), letters, letters.uids, [SortKey(criterion)]))
        assert sorted(found) == [1, 3, 4]
    assert threads(box, letters.uids) == "(3 4)(1)"


@pytest.mark.parametrize(
    ("value", "mailbox", "shown"),
    [
        (b"", "", ""),
        (b"a@b.test", "a", "a@b.test"),
        (b"Zoe <a@b.test>, x@y.test", "a", "Zoe"),
        (b"=?utf-8?q?J=C3=BCrgen?= <j@k.test>", "j", "J\u00fcrgen"),
        (b'"Last, First" <a@b.test>', "a", "Last, First"),
        (b"team: a@b.test;", "team", "team"),
        (b"nobody", "nobody", "nobody"),
    ],
)
def test_the_first_address(value: bytes, mailbox: str, shown: str) -> None:
    """RFC 5256 §3, RFC 5957 §3."""
    assert (mailbox_of_first(value), display_of_first(value)) == (mailbox, shown)


# --- threads --------------------------------------------------------------------------------------


def threads(box: Box, found: array[int] | None = None, algorithm: ThreadAlgorithm = ThreadAlgorithm.REFERENCES) -> str:
    sorter = Sorter(box.db, box.db.blobs, InlineWorkers())
    uids = all_of(box).uids if found is None else found
    forest, numbers = asyncio.run(sorter.thread(box.id("INBOX"), uids, algorithm))
    return written(forest, numbers)


def test_threads_of_a_mailbox(box: Box) -> None:
    assert threads(box) == "(2 3 4)(1)"
    assert threads(box, algorithm=ThreadAlgorithm.ORDERED_SUBJECT) == "(3 2)(4)(1)"
    assert threads(box, array("I", [3, 4])) == "(3 4)"


def test_references_of_old_letters_are_looked_up_once(box: Box) -> None:
    expected = threads(box)
    box.db.run(lambda tx: tx.run("UPDATE email_detail SET ancestors = NULL"))
    blobs = CountedBlobs(box.db.blobs)
    sorter = Sorter(box.db, blobs, InlineWorkers())  # type: ignore[arg-type]
    for opened in (4, 0):
        blobs.opened = 0
        forest, uids = asyncio.run(sorter.thread(box.id("INBOX"), all_of(box).uids, ThreadAlgorithm.REFERENCES))
        assert (written(forest, uids), blobs.opened) == (expected, opened)
    rows = box.db.look(lambda reader: reading.summed(reader, box.id("INBOX"), EVERY_UID))
    assert [row.ancestors for row in rows] == [(), (), (b"2@x",), (b"0@x", b"3@x")]


def test_damaged_rows_are_letters_without_a_header(box: Box) -> None:
    box.db.run(lambda tx: tx.run("UPDATE email_detail SET summary = :nothing", nothing=b"?"))
    assert sorted(ordered(box, SortKey(C.SUBJECT))) == [1, 2, 3, 4]
    assert threads(box) == "(4)(1)(2)(3)"


# --- coming back ----------------------------------------------------------------------------------


def said(text: str) -> NumberSet:
    pairs = [part.partition(":") for part in text.split(",")]
    return NumberSet(tuple((int(first), int(last or first)) for first, _, last in pairs))


def test_a_client_is_told_what_it_missed_of_what_it_knows() -> None:
    changes = Changes(50, is_complete=True, changed=((3, 3), (9, 9)), vanished=((1, 2), (5, 6)))
    uids = array("I", [3, 4, 7, 8, 9])
    assert missed(changes, uids, 10) == Missed(((1, 2), (5, 6)), ((3, 3), (9, 9)))
    assert missed(changes, uids, 10, said("2:5")) == Missed(((2, 2), (5, 5)), ((3, 3),))
    assert missed(changes, array("I"), 1) == Missed((), ())


def test_who_was_away_for_too_long_is_told_all_that_is_not_there() -> None:
    """The example of RFC 7162 §3.2.5.2: only UIDs that three divides are left."""
    uids = array("I", range(3, 29_998, 3))
    changes = Changes(50, is_complete=False, changed=(), vanished=())
    every = missed(changes, uids, 30_013, said("1:29997"))
    assert every.vanished == from_uids(uid for uid in range(1, 29_998) if uid % 3)
    matched = missed(
        changes,
        uids,
        30_013,
        said("1:29997"),
        said("5000,7500,9000,9990:9999"),
        said("15000,22500,27000,29970,29973,29976,29979,29982,29985,29988,29991,29994,29997"),
    )
    assert matched.vanished == ()


@pytest.mark.parametrize(
    ("numbers", "uids", "lowest"),
    [
        ("4,12", "8,24", 9),
        ("4", "9", 1),
        ("4,99", "8,24", 9),
        ("4:5", "8:9", 9),
        ("1:4294967295", "1:4294967295", 1),
    ],
)
def test_numbers_that_agree_say_where_to_begin(numbers: str, uids: str, lowest: int) -> None:
    there = array("I", [2, 4, 6, 8, 10, 12])
    changes = Changes(50, is_complete=False, changed=(), vanished=())
    found = missed(changes, there, 30, said("1:29"), said(numbers), said(uids)).vanished
    assert found[0][0] == lowest
