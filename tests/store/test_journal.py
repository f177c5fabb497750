# SPDX-License-Identifier: Apache-2.0
"""The journal: complete, in order, forgotten after its time together with the tombstones."""

from __future__ import annotations

import pytest

from posthouse.store import journal, mailboxes, messages, uidset
from posthouse.store.journal import Kind
from tests.store.letterbox import NOW, Box, new_account
from tests.store.plain_database import PlainDatabase

DAY = 86_400


@pytest.fixture
def box() -> Box:
    return new_account(PlainDatabase())


def test_pages_never_tear_a_unit_apart(box: Box) -> None:
    """The first unit made six mailboxes: six entries with one mod-sequence."""
    page = box.db.look(lambda reader: journal.entries_after(reader, box.account, 0, limit=2))
    assert [entry.modseq for entry in page.entries] == [1] * 6
    assert not page.has_more
    box.deliver()
    page = box.db.look(lambda reader: journal.entries_after(reader, box.account, 0, limit=2))
    assert page.has_more
    page = box.db.look(lambda reader: journal.entries_after(reader, box.account, 1, limit=2))
    assert [(entry.kind, entry.uids, entry.at) for entry in page.entries] == [(Kind.ADDED, ((1, 1),), NOW)]
    assert (page.modseq, page.has_more) == (2, False)
    assert box.db.look(lambda reader: journal.entries_after(reader, box.account, 2)).entries == ()


def test_an_account_that_is_not_there_has_no_journal(box: Box) -> None:
    assert not box.db.look(lambda reader: journal.entries_after(reader, 9, 0)).is_complete
    assert box.db.look(lambda reader: journal.state(reader, 9)) == 0
    assert not box.db.run(lambda tx: journal.purge(tx, 9, NOW))


def test_what_is_forgotten_makes_only_those_resynchronise_who_missed_it(box: Box) -> None:
    """RFC 7162 §3.2.5: a floor per mailbox; a mailbox that lost nothing needs no full resynchronisation."""
    inbox, sent = box.id("INBOX"), box.id("Sent")
    box.deliver()
    box.deliver("Sent")
    before = box.db.look(lambda reader: journal.state(reader, box.account))
    old = box.db.run(lambda tx: messages.expunge(tx, box.account, inbox, ((1, 1),), now=NOW)).modseq
    box.deliver(received_at=NOW + 60 * DAY)
    new = box.db.run(lambda tx: messages.expunge(tx, box.account, inbox, ((2, 2),), now=NOW + 60 * DAY)).modseq
    assert not box.db.run(lambda tx: journal.purge(tx, box.account, NOW + 30 * DAY))
    assert box.mailbox("INBOX").tombstone_floor == old
    missed = box.db.look(lambda reader: messages.changes_since(reader, inbox, before))
    assert missed is not None
    assert not missed.is_complete
    known = box.db.look(lambda reader: messages.changes_since(reader, inbox, old))
    assert known == messages.Changes(new, is_complete=True, changed=(), vanished=((2, 2),))
    untouched = box.db.look(lambda reader: messages.changes_since(reader, sent, before))
    assert untouched is not None
    assert untouched.is_complete
    assert not box.db.look(lambda reader: journal.entries_after(reader, box.account, old - 1)).is_complete
    page = box.db.look(lambda reader: journal.entries_after(reader, box.account, old))
    assert page.is_complete
    assert [entry.kind for entry in page.entries] == [Kind.ADDED, Kind.EXPUNGED]


def test_a_deleted_mailbox_is_forgotten_whole(box: Box) -> None:
    made = box.db.run(lambda tx: mailboxes.create(tx, box.account, "Work", NOW)).id
    box.deliver("Work")
    box.db.run(lambda tx: mailboxes.delete(tx, box.account, made, NOW))
    box.db.run(lambda tx: journal.purge(tx, box.account, NOW + DAY))
    for table in ("tombstone", "journal", "retired_name"):
        assert box.db.look(lambda reader, table=table: reader.rows(f"SELECT * FROM {table}")) == []


def test_forgetting_goes_in_pages(box: Box) -> None:
    for _ in range(5):
        box.deliver()
    assert box.db.run(lambda tx: journal.purge(tx, box.account, NOW + 1, page=4))
    assert not box.db.run(lambda tx: journal.purge(tx, box.account, NOW + 1, page=4))
    assert box.db.look(lambda reader: reader.rows("SELECT * FROM journal")) == []
    assert box.deliver().modseq == 7, "mod-sequences go on"


def test_many_tombstones_are_forgotten_in_many_units(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that one unit removed, a million letters perhaps, went in one unit again. In between nobody is told half."""
    monkeypatch.setattr(journal, "TOMBSTONES_AT_ONCE", 3)
    for _ in range(8):
        box.deliver()
    before = box.db.look(lambda reader: journal.state(reader, box.account))
    gone = box.db.run(lambda tx: messages.expunge(tx, box.account, box.id("INBOX"), uidset.EVERY_UID, now=NOW))
    left = []
    while box.db.run(lambda tx: journal.purge(tx, box.account, NOW + 1)):
        left.append(box.db.look(lambda reader: reader.row("SELECT COUNT(*) FROM tombstone"))[0])
        missed = box.db.look(lambda reader: messages.changes_since(reader, box.id("INBOX"), before))
        assert missed is not None
        assert not missed.is_complete
        assert box.mailbox("INBOX").tombstone_floor == gone.modseq
    assert left == [5, 2]
    for table in ("tombstone", "journal"):
        assert box.db.look(lambda reader, table=table: reader.rows(f"SELECT * FROM {table}")) == []


def test_tombstones_to_forget_are_found_by_the_primary_key(box: Box) -> None:
    cursor = box.db.connection.cursor()  # this is about SQLite itself
    names = dict.fromkeys(("cut", "account", "expunged", "deleted", "limit"), 1)
    steps = [step for *_, step in cursor.execute("EXPLAIN QUERY PLAN " + journal._FORGET_TOMBSTONES, names)]
    assert "SEARCH tombstone USING PRIMARY KEY (mailbox=? AND modseq=? AND uid=?)" in steps, steps
    assert not any(step.startswith("SCAN") for step in steps), steps
