# SPDX-License-Identifier: Apache-2.0
"""Mailboxes: names, hierarchy, special uses, UIDVALIDITY."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from posthouse.outcome import Refusal
from posthouse.store import clearing, integrity, journal, mailboxes, messages
from posthouse.store.journal import Kind
from posthouse.store.mailboxes import MAX_DEPTH, MAX_NAME, canonical_name
from posthouse.store.refusal import MailboxRefusal, Reason
from tests.store.letterbox import NOW, Box, new_account
from tests.store.plain_database import PlainDatabase


@pytest.fixture
def box() -> Box:
    return new_account(PlainDatabase())


def refused(box: Box, reason: Reason, unit: Callable[[Any], object]) -> None:
    with pytest.raises(MailboxRefusal) as refusal:
        box.db.run(unit)
    assert refusal.value.reason is reason


def names(box: Box) -> list[str]:
    return [each.name for each in box.db.look(lambda reader: mailboxes.list_all(reader, box.account))]


def test_a_new_account_has_its_inbox_and_the_special_mailboxes(box: Box) -> None:
    found = box.db.look(lambda reader: mailboxes.list_all(reader, box.account))
    assert {each.name: each.special_use for each in found} == dict(mailboxes.FIRST_MAILBOXES)
    assert all(each.is_subscribed and each.uid_next == 1 and each.total == 0 for each in found)
    assert len({each.uid_validity for each in found}) == len(found)
    assert {each.modseq for each in found} == {1}, "one unit, one mod-sequence"
    assert box.mailbox("inbox").is_inbox
    assert box.db.look(lambda reader: mailboxes.inbox(reader, box.account)) == box.id("INBOX")


@pytest.mark.parametrize(
    ("said", "stored"),
    [
        ("Work", "Work"),
        ("iNbOx", "INBOX"),
        ("inbox/Sub", "INBOX/Sub"),
        ("Work/Inbox", "Work/Inbox"),
        ("Work/", "Work"),
        ("Cafe\u0301", "Caf\u00e9"),
        ("驿站", "驿站"),
        ("a b", "a b"),
    ],
)
def test_names_have_one_form(said: str, stored: str) -> None:
    assert canonical_name(said) == stored


@pytest.mark.parametrize(
    "name",
    [
        *("", "/", "a//b", "/a", " a", "a ", "a/ b", "a%", "a*", "a\0b", "a\r\nb", "\ud800", "#news", "a\u2028b"),
        "x" * (MAX_NAME + 1),
        "/".join("a" * (MAX_DEPTH + 1)),
    ],
)
def test_what_cannot_be_a_name_is_refused(box: Box, name: str) -> None:
    refused(box, Reason.CANNOT, lambda tx: mailboxes.create(tx, box.account, name, NOW))
    assert box.db.look(lambda reader: mailboxes.by_name(reader, box.account, name)) is None


def test_creating_makes_superiors_too(box: Box) -> None:
    made = box.db.run(lambda tx: mailboxes.create(tx, box.account, "a/b/c", NOW))
    assert made.superior == "a/b"
    assert {"a", "a/b", "a/b/c"} <= set(names(box))
    page = box.db.look(lambda reader: journal.entries_after(reader, box.account, 1))
    assert [entry.kind for entry in page.entries] == [Kind.CREATED] * 3


def test_a_name_is_taken_once(box: Box) -> None:
    refused(box, Reason.ALREADYEXISTS, lambda tx: mailboxes.create(tx, box.account, "inbox", NOW))
    refused(box, Reason.ALREADYEXISTS, lambda tx: mailboxes.create(tx, box.account, "Sent", NOW))


def test_the_number_of_mailboxes_is_limited(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailboxes, "MAX_MAILBOXES", 7)
    box.db.run(lambda tx: mailboxes.create(tx, box.account, "one", NOW))
    refused(box, Reason.LIMIT, lambda tx: mailboxes.create(tx, box.account, "two", NOW))


def test_special_uses_are_one_per_account(box: Box) -> None:
    refused(box, Reason.USEATTR, lambda tx: mailboxes.create(tx, box.account, "Spam", NOW, special_use="\\Junk"))
    refused(box, Reason.USEATTR, lambda tx: mailboxes.create(tx, box.account, "All", NOW, special_use="\\All"))
    work = box.db.run(lambda tx: mailboxes.create(tx, box.account, "Spam", NOW)).id
    refused(box, Reason.USEATTR, lambda tx: mailboxes.set_special_use(tx, box.account, work, "\\Junk", NOW))
    refused(box, Reason.CANNOT, lambda tx: mailboxes.set_special_use(tx, box.account, box.id("INBOX"), None, NOW))
    box.db.run(lambda tx: mailboxes.set_special_use(tx, box.account, box.id("Junk"), None, NOW))
    box.db.run(lambda tx: mailboxes.set_special_use(tx, box.account, work, "\\Junk", NOW))
    found = box.db.look(lambda reader: mailboxes.by_special_use(reader, box.account, "\\Junk"))
    assert found is not None
    assert found.name == "Spam"


def test_subscription_is_kept_and_journaled(box: Box) -> None:
    box.db.run(lambda tx: mailboxes.subscribe(tx, box.account, box.id("Sent"), NOW, is_subscribed=False))
    assert not box.mailbox("Sent").is_subscribed


def test_deleting_takes_the_letters_that_lie_nowhere_else(box: Box) -> None:
    made = box.db.run(lambda tx: mailboxes.create(tx, box.account, "Work", NOW)).id
    box.deliver("Work")
    kept = box.deliver("Work")
    box.db.run(lambda tx: messages.copy(tx, box.account, made, ((2, 2),), box.id("Archive"), now=NOW))
    box.db.run(lambda tx: mailboxes.delete(tx, box.account, made, NOW))
    assert "Work" not in names(box)
    used = box.db.look(lambda reader: reader.row("SELECT used_octets, used_letters FROM account"))
    assert used == (kept.size, 1)
    page = box.db.look(lambda reader: journal.entries_after(reader, box.account, 4))
    assert [entry.kind for entry in page.entries] == [Kind.ADDED, Kind.EXPUNGED, Kind.DELETED]
    assert len({entry.modseq for entry in page.entries[1:]}) == 1
    assert box.db.look(lambda reader: integrity.check_account(reader, box.account)) == []


def test_the_inbox_and_mailboxes_with_inferiors_stay(box: Box) -> None:
    refused(box, Reason.CANNOT, lambda tx: mailboxes.delete(tx, box.account, box.id("INBOX"), NOW))
    box.db.run(lambda tx: mailboxes.create(tx, box.account, "Work/One", NOW))
    refused(box, Reason.HASCHILDREN, lambda tx: mailboxes.delete(tx, box.account, box.id("Work"), NOW))
    refused(box, Reason.NONEXISTENT, lambda tx: mailboxes.delete(tx, box.account, 99, NOW))


def test_another_account_cannot_touch_a_mailbox(box: Box) -> None:
    other = new_account(box.db, "carol@bob.test")
    sent = box.id("Sent")
    refused(box, Reason.NONEXISTENT, lambda tx: mailboxes.delete(tx, other.account, sent, NOW))
    refused(box, Reason.NONEXISTENT, lambda tx: mailboxes.rename(tx, other.account, sent, "x", NOW))
    refused(box, Reason.NONEXISTENT, lambda tx: messages.expunge(tx, other.account, sent, ((1, 9),), now=NOW))


def test_uid_validity_grows_though_the_clock_does_not(box: Box) -> None:
    """RFC 9051 §2.3.1.1: a name never gets a UIDVALIDITY it had before."""
    seen = 0
    for _ in range(3):
        made = box.db.run(lambda tx: mailboxes.create(tx, box.account, "Work", NOW - 500))
        assert made.uid_validity > seen
        seen = made.uid_validity
        box.db.run(lambda tx, work=made.id: mailboxes.delete(tx, box.account, work, NOW - 500))


def test_renaming_moves_inferiors_and_keeps_uid_validity(box: Box) -> None:
    box.db.run(lambda tx: mailboxes.create(tx, box.account, "a/b", NOW))
    box.db.run(lambda tx: mailboxes.create(tx, box.account, "ab", NOW))
    before = box.mailbox("a/b")
    renamed = box.db.run(lambda tx: mailboxes.rename(tx, box.account, box.id("a"), "new/place", NOW))
    assert renamed.name == "new/place"
    assert {"new", "new/place", "new/place/b", "ab"} <= set(names(box))
    assert "a" not in names(box)
    after = box.mailbox("new/place/b")
    assert (after.id, after.uid_validity) == (before.id, before.uid_validity)


def test_a_name_used_before_by_a_younger_mailbox_changes_uid_validity(box: Box) -> None:
    old = box.db.run(lambda tx: mailboxes.create(tx, box.account, "old", NOW))
    young = box.db.run(lambda tx: mailboxes.create(tx, box.account, "young", NOW))
    box.db.run(lambda tx: mailboxes.delete(tx, box.account, young.id, NOW))
    renamed = box.db.run(lambda tx: mailboxes.rename(tx, box.account, old.id, "young", NOW))
    assert renamed.uid_validity > young.uid_validity
    back = box.db.run(lambda tx: mailboxes.rename(tx, box.account, old.id, "old", NOW))
    assert back.uid_validity == renamed.uid_validity


def test_renaming_refuses_what_cannot_be(box: Box) -> None:
    box.db.run(lambda tx: mailboxes.create(tx, box.account, "a", NOW))
    refused(box, Reason.ALREADYEXISTS, lambda tx: mailboxes.rename(tx, box.account, box.id("a"), "Sent", NOW))
    refused(box, Reason.CANNOT, lambda tx: mailboxes.rename(tx, box.account, box.id("a"), "a/b", NOW))


def test_renaming_the_inbox_moves_its_letters_and_leaves_it(box: Box) -> None:
    """RFC 9051 §6.3.6."""
    box.db.run(lambda tx: mailboxes.create(tx, box.account, "INBOX/Sub", NOW))
    box.deliver()
    box.deliver()
    made = box.db.run(lambda tx: mailboxes.rename(tx, box.account, box.id("INBOX"), "Old mail", NOW))
    assert (made.name, made.total) == ("Old mail", 2)
    assert box.mailbox("INBOX").total == 0
    assert box.mailbox("INBOX").uid_next == 3
    assert box.mailbox("INBOX/Sub").superior == "INBOX"
    assert box.db.look(lambda reader: integrity.check_account(reader, box.account)) == []


def test_renewal_after_a_restore_makes_clients_start_again(box: Box) -> None:
    before = {each.id: each for each in box.db.look(lambda reader: mailboxes.list_all(reader, box.account))}
    email = box.deliver().email
    state = box.db.look(lambda reader: journal.state(reader, box.account))
    box.db.run(lambda tx: mailboxes.renew_uid_validity(tx, box.account, NOW))
    for mailbox in box.db.look(lambda reader: mailboxes.list_all(reader, box.account)):
        assert mailbox.uid_validity > before[mailbox.id].uid_validity
        assert mailbox.modseq > state + 1_000
    assert not box.db.look(lambda reader: journal.entries_after(reader, box.account, state)).is_complete
    drop = box.db.look(lambda reader: messages.maildrop(reader, box.id("INBOX")))
    assert drop is not None
    assert list(drop.emails) == [email]


def test_removing_an_account_leaves_no_row_behind(box: Box) -> None:
    other = new_account(box.db, "carol@bob.test")
    other.deliver()
    box.deliver(message_id=b"a@alice.test")
    box.db.run(lambda tx: messages.expunge(tx, box.account, box.id("INBOX"), ((1, 1),), now=NOW))
    box.deliver()
    box.db.run(lambda tx: clearing.delete_account_mailboxes(tx, box.account))
    box.db.run(lambda tx: tx.run("DELETE FROM account WHERE id = :id", id=box.account))
    for table in ("mailbox", "email", "journal", "thread_reference", "retired_name"):
        rows = box.db.look(lambda reader, table=table: reader.rows(f"SELECT DISTINCT account FROM {table}"))
        assert rows in ([], [(other.account,)]), table
    assert box.db.look(integrity.check_rest) == []
    assert box.db.look(lambda reader: reader.rows("SELECT * FROM tombstone")) == []
    with pytest.raises(Refusal):
        box.db.run(lambda tx: mailboxes.create(tx, box.account, "x", NOW))
