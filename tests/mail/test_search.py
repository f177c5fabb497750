# SPDX-License-Identifier: Apache-2.0
"""What a search program asks for, found at any depth."""

from __future__ import annotations

import pytest

from posthouse.mail.number_set import NumberSet
from posthouse.mail.search import (
    All,
    And,
    HasFlag,
    InSequence,
    InUids,
    ModSeqSince,
    Not,
    Or,
    SearchKey,
    asks_modseq,
    asks_saved,
    asks_sequence,
    keys_of,
)

SAVED = NumberSet((), has_saved=True)
ONE = NumberSet(((1, 1),))


@pytest.mark.parametrize(
    ("key", "sequence", "modseq", "saved"),
    [
        (All(), False, False, False),
        (InSequence(ONE), True, False, False),
        (Not(And((All(), Or(All(), InSequence(SAVED))))), True, False, True),
        (Or(InUids(SAVED), ModSeqSince(1)), False, True, True),
        (And((InUids(ONE), Not(ModSeqSince(1)))), False, True, False),
    ],
)
def test_what_is_asked(key: SearchKey, sequence: bool, modseq: bool, saved: bool) -> None:
    assert (asks_sequence(key), asks_modseq(key), asks_saved(key)) == (sequence, modseq, saved)


def test_keys_come_each_before_its_own() -> None:
    seen, every = HasFlag("\\Seen"), All()
    inner = Or(seen, every)
    key = And((Not(inner), every))
    assert list(keys_of(key)) == [key, Not(inner), inner, seen, every, every]
