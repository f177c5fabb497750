# SPDX-License-Identifier: Apache-2.0
"""SelectedView: what one client has been told, and what it is told when."""

from __future__ import annotations

from array import array

import pytest

from posthouse.mail.number_set import STAR, NumberSet
from posthouse.services.mailbox.view import Changed, Exists, Expunged, SelectedView, Told, Vanished
from posthouse.store import uidset
from posthouse.store.journal import Entry, Kind

BOX = 7


def view_of(*uids: int, **how: bool) -> SelectedView:
    return SelectedView(BOX, array("I", uids), 10, **how)


def entry(modseq: int, kind: Kind, *uids: int, mailbox: int = BOX) -> Entry:
    return Entry(modseq, mailbox, kind, uidset.from_uids(uids), 0.0)


def numbers(*pairs: tuple[int, int], saved: bool = False) -> NumberSet:
    return NumberSet(pairs, saved)


def plain(told: list[Told]) -> list[object]:
    """Events as plain values: one list for each."""
    found: list[object] = []
    for each in told:
        match each:
            case Expunged(gone):
                found.append(["EXPUNGE", *gone])
            case Vanished(uids):
                found.append(["VANISHED", uidset.to_text(uids)])
            case Exists(count, recent):
                found.append(["EXISTS", count, recent])
            case Changed(here, uids):
                found.append(["FETCH", *zip(here, uids, strict=True)])
    return found


ADDED, CHANGED, EXPUNGED = Kind.ADDED, Kind.CHANGED, Kind.EXPUNGED

# (what happened, told while expunges must wait, told afterwards when they may come), for a client that knows the
# UIDs 2, 4, 6, 8.
TABLE = {
    "nothing": ([], [], []),
    "a new letter": ([entry(11, ADDED, 9)], [["EXISTS", 5, 0]], []),
    "an expunge waits": ([entry(11, EXPUNGED, 4)], [], [["EXPUNGE", 2]]),
    "several go from the last to the first": ([entry(11, EXPUNGED, 2, 6, 8)], [], [["EXPUNGE", 4, 3, 1]]),
    "in several units": ([entry(11, EXPUNGED, 8), entry(12, EXPUNGED, 2)], [], [["EXPUNGE", 4, 1]]),
    "all": ([entry(11, EXPUNGED, 2, 4, 6, 8)], [], [["EXPUNGE", 4, 3, 2, 1]]),
    "what waits still counts": (
        [entry(11, EXPUNGED, 4), entry(12, ADDED, 9)],
        [["EXISTS", 5, 0]],
        [["EXPUNGE", 2]],
    ),
    "came and went": ([entry(11, ADDED, 9), entry(12, EXPUNGED, 9)], [], []),
    "some of what came went": ([entry(11, ADDED, 9, 10, 11), entry(12, EXPUNGED, 10)], [["EXISTS", 6, 0]], []),
    "flags": ([entry(11, CHANGED, 4, 8)], [["FETCH", (2, 4), (4, 8)]], []),
    "flags twice are told once": ([entry(11, CHANGED, 4), entry(12, CHANGED, 4)], [["FETCH", (2, 4)]], []),
    "flags of what is new are not told": ([entry(11, ADDED, 9), entry(12, CHANGED, 9)], [["EXISTS", 5, 0]], []),
    "flags of what has gone are not told": ([entry(11, CHANGED, 4), entry(12, EXPUNGED, 4)], [], [["EXPUNGE", 2]]),
    "moved within the mailbox": (
        [entry(11, ADDED, 9), entry(11, EXPUNGED, 2)],
        [["EXISTS", 5, 0]],
        [["EXPUNGE", 1]],
    ),
    "unknown UIDs": ([entry(11, EXPUNGED, 3, 99), entry(11, CHANGED, 5)], [], []),
    "another mailbox": ([entry(11, EXPUNGED, 4, mailbox=8)], [], []),
    "the mailbox itself": ([entry(11, Kind.RENAMED)], [], []),
    "known already": ([entry(10, EXPUNGED, 4)], [], []),
}


@pytest.mark.parametrize(("happened", "first", "then"), TABLE.values(), ids=TABLE.keys())
def test_what_is_told_and_when(happened: list[Entry], first: list[object], then: list[object]) -> None:
    """RFC 9051 §7.5.1: no EXPUNGE while FETCH, STORE or SEARCH by numbers is answered."""
    view = view_of(2, 4, 6, 8)
    view.learn(happened, 20)
    assert plain(view.tell(expunges=False)) == first
    assert plain(view.tell(expunges=True)) == then
    assert not view.has_news
    assert plain(view.tell(expunges=True)) == []
    assert view.told_modseq == view.learned_modseq == 20


def test_all_at_once_expunges_first_then_new_ones_then_flags_by_their_new_numbers() -> None:
    view = view_of(2, 4, 6, 8)
    view.learn([entry(11, CHANGED, 6, 8), entry(12, EXPUNGED, 2), entry(13, ADDED, 9, 10)], 13)
    assert plain(view.tell(expunges=True)) == [["EXPUNGE", 1], ["EXISTS", 5, 0], ["FETCH", (2, 6), (3, 8)]]
    assert list(view.uids) == [4, 6, 8, 9, 10]


def test_numbers_stay_until_the_expunge_is_told() -> None:
    view = view_of(2, 4, 6, 8)
    view.learn([entry(11, EXPUNGED, 4)], 11)
    view.tell(expunges=False)
    assert (len(view), view.number(6), view.uid(3), view.is_gone(4), view.is_gone(6)) == (4, 3, 6, True, False)
    assert view.has_gone
    view.tell(expunges=True)
    assert (len(view), view.number(6), view.uid(3), view.number(4)) == (3, 2, 8, 0)
    assert not view.is_gone(4)


def test_with_qresync_or_uidonly_uids_vanish() -> None:
    """RFC 7162 §3.2.10.2, RFC 9586 §3.6; the place of VANISHED is that of EXPUNGE."""
    view = view_of(2, 4, 6, 8, 9, uses_vanished=True)
    view.learn([entry(11, EXPUNGED, 2, 8, 9)], 11)
    assert plain(view.tell(expunges=False)) == []
    assert plain(view.tell(expunges=True)) == [["VANISHED", "2,8:9"]]


def test_a_client_is_given_no_higher_modseq_than_what_it_was_told() -> None:
    """RFC 7162 §3.1.2.1: who resynchronises from there must find what was held back."""
    view = view_of(2, 4, 6, 8)
    view.learn([entry(12, CHANGED, 2), entry(15, EXPUNGED, 4), entry(17, EXPUNGED, 6)], 18)
    assert (view.learned_modseq, view.told_modseq) == (18, 10)
    view.tell(expunges=False)
    assert view.told_modseq == 14
    view.learn([], 30)
    view.tell(expunges=False)
    assert view.told_modseq == 14
    view.tell(expunges=True)
    assert view.told_modseq == 30


def test_own_changes_are_no_news_but_others_of_the_same_letter_are() -> None:
    view = view_of(2, 4, 6, 8)
    view.did(12)
    view.learn([entry(11, CHANGED, 2), entry(12, CHANGED, 2, 4, 6), entry(13, CHANGED, 6)], 13)
    assert plain(view.tell(expunges=False)) == [["FETCH", (1, 2), (3, 6)]]
    view.learn([entry(14, CHANGED, 4)], 14)
    assert plain(view.tell(expunges=False)) == [["FETCH", (2, 4)]]


def test_own_changes_may_have_been_learned_before_it_is_known_that_they_are_own() -> None:
    """Whoever refreshes first does it for all, and a commit is there for all at once."""
    view = view_of(2, 4, 6, 8)
    view.learn([entry(11, CHANGED, 2), entry(12, CHANGED, 2, 4), entry(13, CHANGED, 6)], 13)
    view.did(12)
    assert plain(view.tell(expunges=False)) == [["FETCH", (1, 2), (3, 6)]]


def test_a_difference_is_told_whoever_made_it() -> None:
    """Where the journal does not reach back, nobody knows which of the changes were the session's own."""
    view = view_of(2, 4, 6, 8)
    view.did(12)
    view.learn([entry(12, CHANGED, 2, 4)], 12, is_difference=True)
    assert plain(view.tell(expunges=False)) == [["FETCH", (1, 2), (2, 4)]]


def test_flags_that_a_fetch_has_told_are_not_told_again() -> None:
    view = view_of(2, 4, 6, 8)
    view.learn([entry(11, CHANGED, 2, 4, 6)], 11)
    view.told_flags([4, 6, 8])
    assert plain(view.tell(expunges=False)) == [["FETCH", (1, 2)]]


def test_own_expunges_are_told() -> None:
    view = view_of(2, 4, 6, 8)
    view.did(11)
    view.learn([entry(11, EXPUNGED, 4, 6)], 11)
    assert plain(view.tell(expunges=True)) == [["EXPUNGE", 3, 2]]


# --- sets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "uids"),
    [
        (numbers((1, 1)), [2]),
        (numbers((2, 3)), [4, 6]),
        (numbers((3, 2), (1, 1)), [2, 4, 6]),
        (numbers((STAR, STAR)), [8]),
        (numbers((3, STAR)), [6, 8]),
        (numbers((STAR, 1)), [2, 4, 6, 8]),
        (numbers((1, 2), (2, 3)), [2, 4, 6]),
        (numbers((2, 2), saved=True), [4, 8]),
        (numbers(saved=True), [8]),
    ],
)
def test_sets_of_numbers(wanted: NumberSet, uids: list[int]) -> None:
    view = view_of(2, 4, 6, 8)
    view.save([8])
    assert view.has_numbers(wanted)
    assert list(view.by_numbers(wanted)) == uids
    assert list(view.numbers(view.by_numbers(wanted))) == [uid // 2 for uid in uids]


@pytest.mark.parametrize("wanted", [numbers((5, 5)), numbers((1, 5)), numbers((5, STAR))])
def test_numbers_that_nobody_has(wanted: NumberSet) -> None:
    view = view_of(2, 4, 6, 8)
    assert not view.has_numbers(wanted)
    assert list(view.by_numbers(wanted)) in ([], [2, 4, 6, 8], [8])
    with pytest.raises(IndexError):
        view.uid(5)


def test_an_empty_mailbox_has_no_last_message() -> None:
    view = view_of()
    for wanted in (numbers((1, STAR)), numbers((STAR, STAR))):
        assert not view.has_numbers(wanted)
        assert list(view.by_numbers(wanted)) == []
        assert list(view.by_uids(wanted)) == []
    assert list(view.numbers(array("I"))) == []


@pytest.mark.parametrize(
    ("wanted", "uids"),
    [
        (numbers((1, 5)), [2, 4]),
        (numbers((5, 5)), []),
        (numbers((1, STAR)), [2, 4, 6, 8]),
        (numbers((559, STAR)), [8]),
        (numbers((STAR, STAR)), [8]),
        (numbers((8, 8), (2, 3)), [2, 8]),
        (numbers((4, 4), saved=True), [4, 6]),
    ],
)
def test_sets_of_uids(wanted: NumberSet, uids: list[int]) -> None:
    """RFC 9051 §6.4.9: unknown UIDs are ignored, and n:* always has the last message in it."""
    view = view_of(2, 4, 6, 8)
    view.save([6])
    assert list(view.by_uids(wanted)) == uids


# --- the saved result and \Recent -----------------------------------------------------------------


def test_what_is_expunged_leaves_the_saved_result() -> None:
    """RFC 5182 §2.1."""
    view = view_of(2, 4, 6, 8)
    view.save([4, 6, 8])
    view.learn([entry(11, EXPUNGED, 6)], 11)
    view.tell(expunges=True)
    assert view.saved == ((4, 4), (8, 8))
    assert list(view.by_numbers(numbers(saved=True))) == [4, 8]
    view.save([])
    assert list(view.by_uids(numbers(saved=True))) == []


def test_recent_is_counted_and_told_with_what_is_new() -> None:
    """RFC 3501 §2.3.2."""
    view = SelectedView(BOX, array("I", [2, 4, 6, 8]), 10, recent=((6, 9),))
    assert (view.recent_count, view.is_recent(6), view.is_recent(4), view.is_recent(9)) == (2, True, False, True)
    view.learn([entry(11, ADDED, 10, 11)], 11)
    view.add_recent(((10, 11),))
    assert plain(view.tell(expunges=False)) == [["EXISTS", 6, 4]]
    view.learn([entry(12, EXPUNGED, 8, 10)], 12)
    assert plain(view.tell(expunges=True)) == [["EXPUNGE", 5, 4]]
    assert view.recent_count == 2
    assert not view.is_recent(10)


# --- memory ---------------------------------------------------------------------------------------


def test_sessions_share_one_array_that_grows() -> None:
    shared = array("I", [2, 4, 6, 8])
    one, two = (SelectedView(BOX, shared, 10) for _ in range(2))
    shared.append(9)
    assert len(one) == 4
    assert one.number(9) == 0
    one.learn([entry(11, ADDED, 9)], 11)
    one.tell(expunges=True)
    assert one._uids is shared
    one.learn([entry(12, ADDED, 10)], 12)
    one.tell(expunges=True)
    assert list(one.uids) == [2, 4, 6, 8, 9, 10]
    assert list(shared) == [2, 4, 6, 8, 9]
    assert list(two.uids) == [2, 4, 6, 8]
    two.learn([entry(11, EXPUNGED, 2)], 12)
    two.tell(expunges=True)
    assert list(shared) == [2, 4, 6, 8, 9]
    two.share(array("I", [4, 6, 8, 9]))
    assert list(two.uids) == [4, 6, 8]
    two.share(array("I", [1]))
    assert list(two.uids) == [4, 6, 8]
