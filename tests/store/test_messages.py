# SPDX-License-Identifier: Apache-2.0
"""Placements: flags, expunge, COPY, MOVE, arrays, changes; each keeps every counter exact."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from posthouse.outcome import Refusal
from posthouse.store import flagging, integrity, journal, letters, messages, uidset
from posthouse.store.flagging import Change
from posthouse.store.flags import ANSWERED, DELETED, FLAGGED, MAX_KEYWORDS, SEEN, pack_keywords, unpack_keywords
from posthouse.store.journal import Kind
from posthouse.store.messages import unique_id
from posthouse.store.refusal import MailboxRefusal, Reason
from posthouse.store.uidset import EVERY_UID
from tests.store.letterbox import NOW, Box, new_account
from tests.store.plain_database import PlainDatabase


@pytest.fixture
def box() -> Iterator[Box]:
    box = new_account(PlainDatabase())
    yield box
    assert box.db.look(lambda reader: integrity.check_account(reader, box.account)) == []
    assert box.db.look(integrity.check_rest) == []


def store(box: Box, uids: uidset.Ranges, change: Change, flags: int = 0, **how: object) -> flagging.Stored:
    return box.db.run(
        lambda tx: flagging.store(tx, box.account, box.id("INBOX"), uids, change, flags=flags, now=NOW, **how)
    )


def shown(box: Box, name: str = "INBOX") -> list[tuple[int, int, str]]:
    view = box.db.look(lambda reader: messages.view(reader, box.id(name)))
    assert view is not None
    return list(zip(view.uids, view.flags, view.keywords, strict=True))


# --- flags ----------------------------------------------------------------------------------------


def test_flags_are_added_removed_and_replaced(box: Box) -> None:
    for _ in range(3):
        box.deliver()
    assert store(box, ((1, 2),), Change.ADD, SEEN | FLAGGED).changed == ((1, 2),)
    assert box.mailbox("INBOX").unseen == 1
    assert store(box, ((2, 3),), Change.REMOVE, SEEN).changed == ((2, 2),), "3 was unseen: nothing changed there"
    assert store(box, EVERY_UID, Change.REPLACE, ANSWERED).changed == ((1, 3),)
    assert shown(box) == [(1, ANSWERED, ""), (2, ANSWERED, ""), (3, ANSWERED, "")]
    assert box.mailbox("INBOX").unseen == 3
    assert store(box, EVERY_UID, Change.REPLACE, SEEN | ANSWERED, keywords=("Work",)).changed == ((1, 3),)
    assert box.mailbox("INBOX").unseen == 0


def test_keywords_are_sets_without_case(box: Box) -> None:
    for _ in range(3):
        box.deliver()
    store(box, ((1, 1),), Change.ADD, keywords=("$Junk", "work"))
    store(box, ((2, 2),), Change.ADD, keywords=("$junk",))
    assert store(box, EVERY_UID, Change.ADD, keywords=("WORK",)).changed == ((2, 3),)
    assert [row[2] for row in shown(box)] == ["$junk work", "$junk work", "work"]
    assert store(box, EVERY_UID, Change.REMOVE, SEEN, keywords=("$JUNK",)).changed == ((1, 2),)
    assert [row[2] for row in shown(box)] == ["work"] * 3
    assert unpack_keywords(pack_keywords(["b", "a", "A"])) == ("a", "b")


@pytest.mark.parametrize("keyword", ["", "a b", "a(b", "\\Seen", "x]", 'a"', "a\x01", "é", "x" * 101])
def test_what_is_no_keyword_is_refused(box: Box, keyword: str) -> None:
    box.deliver()
    with pytest.raises(Refusal):
        store(box, EVERY_UID, Change.ADD, keywords=(keyword,))


def test_keywords_of_a_letter_are_limited(box: Box) -> None:
    box.deliver()
    store(box, EVERY_UID, Change.ADD, keywords=[f"k{number}" for number in range(MAX_KEYWORDS)])
    with pytest.raises(Refusal):
        store(box, EVERY_UID, Change.ADD, keywords=("one-more",))


def test_only_what_changes_gets_the_new_mod_sequence(box: Box) -> None:
    box.deliver(flags=SEEN)
    box.deliver()
    done = store(box, EVERY_UID, Change.ADD, SEEN)
    view = box.db.look(lambda reader: messages.view(reader, box.id("INBOX")))
    assert view is not None
    assert list(view.modseqs) == [2, done.modseq]
    assert box.mailbox("INBOX").modseq == done.modseq
    again = store(box, EVERY_UID, Change.ADD, SEEN)
    assert again.changed == ()
    assert box.mailbox("INBOX").modseq == done.modseq


def test_unchanged_since_leaves_later_changes_alone(box: Box) -> None:
    """RFC 7162 §3.1.3."""
    box.deliver()
    first = box.mailbox("INBOX").modseq
    box.deliver()
    done = store(box, EVERY_UID, Change.ADD, SEEN, unchanged_since=first)
    assert (done.changed, done.stale) == (((1, 1),), ((2, 2),))
    assert box.mailbox("INBOX").unseen == 1


# --- expunge --------------------------------------------------------------------------------------


def test_expunge_leaves_tombstones_and_gives_the_quota_back(box: Box) -> None:
    placed = [box.deliver(flags=flags) for flags in (0, SEEN, 0, 0)]
    gone = box.db.run(lambda tx: messages.expunge(tx, box.account, box.id("INBOX"), ((2, 3), (9, 99)), now=NOW))
    assert gone.uids == ((2, 3),)
    assert box.uids("INBOX") == [1, 4]
    assert box.mailbox("INBOX").uid_next == 5
    assert box.db.look(lambda reader: letters.usage(reader, box.account)) == (2 * placed[0].size, 2, None)
    assert box.db.look(lambda reader: letters.retrieve(reader, placed[1].email)) is None
    changes = box.db.look(lambda reader: messages.changes_since(reader, box.id("INBOX"), placed[3].modseq))
    assert changes == messages.Changes(gone.modseq, is_complete=True, changed=(), vanished=((2, 3),))
    assert box.deliver().uid == 5


def test_expunge_of_nothing_changes_nothing(box: Box) -> None:
    box.deliver()
    before = box.mailbox("INBOX")
    assert box.db.run(lambda tx: messages.expunge(tx, box.account, box.id("INBOX"), ((7, 8),), now=NOW)).uids == ()
    assert box.mailbox("INBOX") == before


def test_expunge_can_take_the_deleted_only(box: Box) -> None:
    for _ in range(3):
        box.deliver()
    store(box, ((1, 1), (3, 3)), Change.ADD, DELETED)
    assert box.db.look(lambda reader: messages.existing(reader, box.id("INBOX"), EVERY_UID, only_deleted=True)) == [
        1,
        3,
    ]
    unit = box.db.run(
        lambda tx: messages.expunge(tx, box.account, box.id("INBOX"), EVERY_UID, now=NOW, only_deleted=True)
    )
    assert unit.uids == ((1, 1), (3, 3))
    assert box.uids("INBOX") == [2]


# --- COPY and MOVE --------------------------------------------------------------------------------


def test_copy_adds_placements_of_the_same_email_and_costs_nothing(box: Box) -> None:
    first = box.deliver(flags=FLAGGED)
    box.deliver("Archive")
    box.deliver()
    used = box.db.look(lambda reader: letters.usage(reader, box.account))
    copied = box.db.run(
        lambda tx: messages.copy(tx, box.account, box.id("INBOX"), EVERY_UID, box.id("Archive"), now=NOW)
    )
    assert (copied.source, copied.target) == (((1, 2),), ((2, 3),))
    assert copied.uid_validity == box.mailbox("Archive").uid_validity
    drop = box.db.look(lambda reader: messages.maildrop(reader, box.id("Archive")))
    assert drop is not None
    assert drop.emails[1] == first.email
    assert shown(box, "Archive")[1] == (2, FLAGGED, "")
    assert box.db.look(lambda reader: letters.usage(reader, box.account)) == used
    box.db.run(lambda tx: messages.expunge(tx, box.account, box.id("INBOX"), EVERY_UID, now=NOW))
    assert box.db.look(lambda reader: letters.usage(reader, box.account)) == used, "Archive still shows them"
    box.db.run(lambda tx: messages.expunge(tx, box.account, box.id("Archive"), EVERY_UID, now=NOW))
    assert box.db.look(lambda reader: letters.usage(reader, box.account)) == (0, 0, None)


@pytest.mark.parametrize("limit", ["MAX_CARRIED", "MAX_PLACES"])
def test_copies_without_end_filled_the_disk(box: Box, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """Copies within an account cost no quota: each COPY of a mailbox into itself doubled it."""
    for _ in range(3):
        box.deliver()
    monkeypatch.setattr(messages, limit, 5)
    inbox = box.id("INBOX")

    def copy_all() -> None:
        box.db.run(lambda tx: messages.copy(tx, box.account, inbox, EVERY_UID, inbox, now=NOW))

    if limit == "MAX_CARRIED":  # it stops at what is copied, not at what is there
        copy_all()
    with pytest.raises(MailboxRefusal) as refused:
        copy_all()
    assert refused.value.reason is Reason.LIMIT
    assert len(box.uids("INBOX")) == (6 if limit == "MAX_CARRIED" else 3)


def test_copy_pairs_uids_in_order_over_gaps(box: Box) -> None:
    for _ in range(6):
        box.deliver()
    box.db.run(lambda tx: messages.expunge(tx, box.account, box.id("INBOX"), ((2, 2), (4, 4)), now=NOW))
    copied = box.db.run(
        lambda tx: messages.copy(tx, box.account, box.id("INBOX"), ((1, 3), (5, 9)), box.id("Sent"), now=NOW)
    )
    assert (copied.source, copied.target) == (((1, 1), (3, 3), (5, 6)), ((1, 4),))


def test_move_replaces_placements_in_one_unit(box: Box) -> None:
    """RFC 6851: flags and email ids stay; one mod-sequence, one journal row per mailbox."""
    placed = box.deliver(flags=SEEN)
    box.deliver()
    moved = box.db.run(lambda tx: messages.move(tx, box.account, box.id("INBOX"), ((1, 1),), box.id("Trash"), now=NOW))
    assert (moved.source, moved.target) == (((1, 1),), ((1, 1),))
    drop = box.db.look(lambda reader: messages.maildrop(reader, box.id("Trash")))
    assert drop is not None
    assert list(drop.emails) == [placed.email]
    page = box.db.look(lambda reader: journal.entries_after(reader, box.account, moved.modseq - 1))
    assert {(entry.mailbox, entry.kind, entry.modseq) for entry in page.entries} == {
        (box.id("INBOX"), Kind.EXPUNGED, moved.modseq),
        (box.id("Trash"), Kind.ADDED, moved.modseq),
    }


def test_moving_and_copying_within_a_mailbox_gives_new_uids(box: Box) -> None:
    box.deliver()
    box.deliver()
    inbox = box.id("INBOX")
    moved = box.db.run(lambda tx: messages.move(tx, box.account, inbox, EVERY_UID, inbox, now=NOW))
    assert (moved.source, moved.target) == (((1, 2),), ((3, 4),))
    box.db.run(lambda tx: messages.copy(tx, box.account, inbox, EVERY_UID, inbox, now=NOW))
    assert box.uids("INBOX") == [3, 4, 5, 6]
    assert box.mailbox("INBOX").total == 4
    box.db.run(lambda tx: messages.expunge(tx, box.account, inbox, ((3, 4),), now=NOW))
    assert box.mailbox("INBOX").total == 2


def test_nothing_is_copied_from_nowhere_or_across_accounts(box: Box) -> None:
    other = new_account(box.db, "carol@bob.test")
    box.deliver()
    for source, target in ((box.id("INBOX"), other.id("INBOX")), (other.id("INBOX"), box.id("INBOX")), (9, 9)):
        with pytest.raises(MailboxRefusal):
            box.db.run(lambda tx, s=source, t=target: messages.copy(tx, box.account, s, EVERY_UID, t, now=NOW))
    empty = box.db.run(lambda tx: messages.copy(tx, box.account, box.id("Sent"), EVERY_UID, box.id("INBOX"), now=NOW))
    assert (empty.source, empty.target) == ((), ())


# --- reading --------------------------------------------------------------------------------------


def test_the_maildrop_is_read_as_arrays(box: Box) -> None:
    placed = [box.deliver(octets=b"\r\n" + b"x" * size) for size in (1, 5, 9)]
    drop = box.db.look(lambda reader: messages.maildrop(reader, box.id("INBOX")))
    assert drop is not None
    assert len(drop) == 3
    assert box.db.last_statements == 2
    assert list(drop.uids) == [1, 2, 3]
    assert list(drop.sizes) == [each.size for each in placed]
    assert list(drop.emails) == [each.email for each in placed]
    assert box.db.look(lambda reader: messages.maildrop(reader, 9)) is None
    empty = box.db.look(lambda reader: messages.maildrop(reader, box.id("Sent")))
    assert empty is not None
    assert len(empty) == 0


def test_a_missing_mailbox_has_no_view_and_no_changes(box: Box) -> None:
    assert box.db.look(lambda reader: messages.view(reader, 9)) is None
    assert box.db.look(lambda reader: messages.changes_since(reader, 9, 1)) is None


def test_unique_ids_suit_pop3_and_jmap() -> None:
    """RFC 1939 §7: 1 to 70 characters of 0x21 to 0x7E; RFC 8620 §1.2: letters, digits, - and _."""
    assert unique_id(1) != unique_id(2)
    longest = unique_id(2**63 - 1)
    assert len(longest) <= 70
    assert longest.isalnum()
