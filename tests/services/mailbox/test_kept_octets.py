# SPDX-License-Identifier: Apache-2.0
"""What is kept of letters for the next client, and that it is never too much."""

from __future__ import annotations

from posthouse.services.mailbox.kept_octets import ENTRY, FORMS, KeptOctets


def test_what_was_written_is_there_by_letter_and_form() -> None:
    kept = KeptOctets()
    kept.keep([5, 7], 0, [b"five", b"seven"])
    kept.keep([5], 1, [b"other"])
    assert kept.all_of([7, 5, 7], 0) == [b"seven", b"five", b"seven"]
    assert kept.all_of([5], 1) == [b"other"]
    assert kept.all_of([], 3) == []


def test_of_a_page_there_is_all_or_nothing() -> None:
    kept = KeptOctets()
    kept.keep([1, 2], 0, [b"1", b"2"])
    assert kept.all_of([1, 2, 3], 0) is None
    assert kept.all_of([1], 1) is None


def test_forms_of_neighbours_are_not_mixed_up() -> None:
    kept = KeptOctets()
    for form in range(FORMS):
        kept.keep([1, 2], form, [b"1 %d" % form, b"2 %d" % form])
    for form in range(FORMS):
        assert kept.all_of([1, 2], form) == [b"1 %d" % form, b"2 %d" % form]


def test_the_oldest_pages_go_when_there_is_too_much() -> None:
    size = 10 * (ENTRY + 4)
    kept = KeptOctets(limit=3 * size)
    for page in range(5):
        kept.keep(range(10 * page, 10 * page + 10), 0, [b"%04d" % page] * 10)
    there = [kept.all_of(range(10 * page, 10 * page + 10), 0) is not None for page in range(5)]
    assert there == [False, False, True, True, True]


def test_a_page_that_is_more_than_the_limit_is_not_kept() -> None:
    kept = KeptOctets(limit=2 * ENTRY)
    kept.keep([1], 0, [b"x"])
    kept.keep([2, 3], 0, [b"y", b"z"])
    assert kept.all_of([2], 0) is None
    assert kept.all_of([1], 0) == [b"x"]


def test_a_page_that_is_kept_twice_goes_with_its_older_half_and_is_written_again() -> None:
    kept = KeptOctets(limit=2 * (ENTRY + 1))
    kept.keep([1], 0, [b"x"])
    kept.keep([1], 0, [b"x"])
    assert kept.all_of([1], 0) == [b"x"]
    kept.keep([2], 0, [b"y"])
    assert kept.all_of([1], 0) is None
    assert kept.all_of([2], 0) == [b"y"]
