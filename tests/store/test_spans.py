# SPDX-License-Identifier: Apache-2.0
"""Sets of UIDs in statements: every UID once, in order, in few statements; the same result as one range at a time."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from posthouse.store import flagging, messages, spans, uidset
from posthouse.store.flagging import Change
from posthouse.store.flags import FLAGGED, SEEN
from posthouse.store.uidset import Ranges
from tests.store.letterbox import NOW, Box, new_account
from tests.store.plain_database import PlainDatabase

SETS = st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 40)), max_size=60).map(
    lambda pairs: uidset.from_ranges((first, first + more) for first, more in pairs)
)
SCATTERED = uidset.from_uids(range(1, 1200, 2))


def covered(piece: spans.Piece) -> list[int]:
    values: Any = piece.parameters
    if piece.is_list:
        assert len(values) == spans.LIST_SIZE
        return list(dict.fromkeys(values.values()))
    return list(range(values["first"], values["last"] + 1))


@given(SETS)
def test_pieces_cover_the_set_exactly_and_in_order(uids: Ranges) -> None:
    assert [uid for piece in spans.pieces(uids) for uid in covered(piece)] == uidset.expand(uids)


@given(SETS)
def test_pieces_of_narrow_ranges_are_few(uids: Ranges) -> None:
    narrow = tuple((first, last) for first, last in uids if last - first < spans.NARROW)
    few = uidset.size(narrow) // spans.LIST_SIZE + 1 + spans.FEW
    assert len(list(spans.pieces(narrow))) <= few


def test_a_range_that_is_wide_is_never_written_out() -> None:
    """`1:*` names four thousand million UIDs."""
    assert [piece.is_list for piece in spans.pieces(uidset.EVERY_UID)] == [False]


@given(SETS, st.integers(1, 50))
def test_parts_are_the_set_in_order_and_none_is_too_large(uids: Ranges, limit: int) -> None:
    parts = list(uidset.parts(uids, limit))
    assert [uid for part in parts for uid in uidset.expand(part)] == uidset.expand(uids)
    assert all(uidset.size(part) == limit for part in parts[:-1])
    assert all(0 < uidset.size(part) <= limit for part in parts)


def filled(count: int) -> Box:
    box = new_account(PlainDatabase())
    for _ in range(count):
        box.deliver()
    return box


def test_scattered_letters_are_expunged_by_few_statements() -> None:
    """One statement for each UID kept the committer for seconds when a client removed 50,000 scattered letters."""
    box = filled(600)
    odd = uidset.from_uids(range(1, 600, 2))
    gone = box.db.run(lambda tx: messages.expunge(tx, box.account, box.id("INBOX"), odd, now=NOW))
    pieces = 2  # 300 UIDs
    assert box.db.last_statements <= 3 * pieces + 10
    assert gone.uids == odd
    assert box.uids("INBOX") == list(range(2, 601, 2))
    assert box.mailbox("INBOX").total == 300


def test_scattered_letters_are_flagged_copied_and_moved_by_few_statements() -> None:
    box = filled(500)
    odd = uidset.from_uids(range(1, 500, 2))
    inbox, sent = box.id("INBOX"), box.id("Sent")
    done = box.db.run(lambda tx: flagging.store(tx, box.account, inbox, odd, Change.ADD, flags=SEEN | FLAGGED, now=NOW))
    assert (done.changed, box.db.last_statements <= 10) == (odd, True)
    assert box.mailbox("INBOX").unseen == 250
    words = box.db.run(lambda tx: flagging.store(tx, box.account, inbox, odd, Change.ADD, keywords=("a",), now=NOW))
    assert (words.changed, box.db.last_statements <= 12) == (odd, True)
    copied = box.db.run(lambda tx: messages.copy(tx, box.account, inbox, odd, sent, now=NOW))
    assert (copied.source, copied.target, box.db.last_statements <= 15) == (odd, ((1, 250),), True)
    moved = box.db.run(lambda tx: messages.move(tx, box.account, inbox, odd, sent, now=NOW))
    assert (moved.source, moved.target, box.db.last_statements <= 24) == (odd, ((251, 500),), True)
    assert box.uids("INBOX") == list(range(2, 501, 2))
    assert box.db.look(lambda reader: messages.existing(reader, inbox, odd)) == []


def test_lists_find_their_rows_by_the_primary_key() -> None:
    """A list of UIDs is looked up one by one; nobody walks the mailbox for it."""
    box = filled(1)
    cursor = box.db.connection.cursor()  # this is about SQLite itself
    wanted = next(spans.pieces(SCATTERED))
    for statement in (messages._WEIGH, messages._BURY, messages._UNPLACE, messages._EXISTING, flagging._FLAGS):
        names = {"mailbox": 1, "wanted": 0, "modseq": 1, "keep": 1, "put": 1, "unchanged_since": 1}
        plan = cursor.execute("EXPLAIN QUERY PLAN " + wanted.of(statement), {**names, **wanted.parameters})
        steps = [step for *_, step in plan]
        assert any("PRIMARY KEY (mailbox=? AND uid=?)" in step for step in steps), steps
        assert not any(step.startswith("SCAN") for step in steps), steps
