# SPDX-License-Identifier: Apache-2.0
"""Accepting letters: one blob, exact rows and counters, promises kept; and reading them back."""

from __future__ import annotations

import pytest

from posthouse.mail.address import parse_address
from posthouse.mail.envelope import ForwardPath, Notify, ReversePath
from posthouse.outcome import MAILBOX_FULL, MAILBOX_TOO_SMALL, Refusal
from posthouse.ports import BlobLocation, Content
from posthouse.store import integrity, journal, letters, mailboxes, messages, notes
from posthouse.store.flags import FLAGGED, SEEN
from posthouse.store.journal import Kind
from posthouse.store.letters import Place
from posthouse.store.queue import QueuedLetter, QueuedRecipient
from tests.store.letterbox import NOW, PREFIX, Box, letter, new_account
from tests.store.plain_database import PlainDatabase


@pytest.fixture
def box() -> Box:
    return new_account(PlainDatabase())


def queued_letter() -> QueuedLetter:
    return QueuedLetter(
        reverse_path=ReversePath(parse_address("alice@alice.test")),
        prefix=b"Received: x\r\n",
        account=None,
        language="en",
        message_id="a@alice.test",
        size=9,
        needs_eight_bit=False,
        needs_smtputf8=False,
        received_at=NOW,
        trace="00ff",
        recipients=(
            QueuedRecipient(
                ForwardPath(parse_address("zoe@example.test"), Notify.FAILURE), "example.test", NOW, NOW + 9
            ),
        ),
    )


def test_one_letter_into_one_mailbox_is_eight_statements(box: Box) -> None:
    """The hot path: at most ten (the plan), eight as measured. A ninth costs about five microseconds."""
    place = Place(box.account, box.id("INBOX"), PREFIX)
    accepted = box.db.run(lambda tx: letters.accept(tx, letter(message_id=b"a@alice.test"), [place]))
    assert box.db.last_statements == 8
    placed = accepted.placed[0]
    assert (placed.account, placed.mailbox, placed.uid) == (box.account, box.id("INBOX"), 1)
    assert placed.size == len(PREFIX) + 9
    inbox = box.mailbox("INBOX")
    assert (inbox.uid_next, inbox.total, inbox.unseen, inbox.octets) == (2, 1, 1, placed.size)
    assert inbox.modseq == placed.modseq == 2
    assert box.db.look(lambda reader: letters.usage(reader, box.account)) == (placed.size, 1, None)
    assert box.db.look(lambda reader: integrity.check_account(reader, box.account)) == []


def test_what_was_stored_is_read_back(box: Box) -> None:
    octets = b"Subject: x\r\n\r\nHello\r\n.dot\r\n"
    placed = box.deliver(octets=octets, has_dot_lines=True, envelope_summary=b"\x91\xc0")
    stored = box.db.look(lambda reader: letters.retrieve(reader, placed.email))
    assert stored is not None
    assert stored.prefix + bytes(box.db.blobs.contents[stored.location]) == PREFIX + octets
    assert stored.size == len(PREFIX) + len(octets)
    assert stored.header_size == octets.index(b"Hello")
    assert stored.has_dot_lines
    assert stored.received_at == NOW
    assert box.db.look(lambda reader: letters.summary(reader, placed.email)) == b"\x91\xc0"
    assert box.db.look(lambda reader: letters.retrieve(reader, 99)) is None
    assert box.db.look(lambda reader: letters.summary(reader, 99)) is None
    both = box.db.look(lambda reader: letters.retrieve_some(reader, [99, placed.email]))
    assert both == [None, stored]


def test_a_letter_for_many_is_one_blob_and_a_fixed_number_of_inserts() -> None:
    db = PlainDatabase()
    boxes = [new_account(db, f"user{number}@bob.test") for number in range(20)]
    places = [Place(each.account, each.id("INBOX"), b"X-To: %d\r\n" % each.account) for each in reversed(boxes)]
    accepted = db.run(lambda tx: letters.accept(tx, letter(), places))
    assert db.last_statements == 2 * 20 + 5, "two counters per recipient, and one statement per table"
    assert len(db.blobs.contents) == 1
    assert [placed.account for placed in accepted.placed] == sorted(each.account for each in boxes)
    assert len({placed.email for placed in accepted.placed}) == 20
    for each in boxes:
        assert each.mailbox("INBOX").total == 1
        assert db.look(lambda reader, account=each.account: integrity.check_account(reader, account)) == []


def test_two_mailboxes_of_one_account_share_the_email(box: Box) -> None:
    places = [
        Place(box.account, box.id("INBOX"), PREFIX, SEEN | FLAGGED, ("$Work", "b")),
        Place(box.account, box.id("Archive"), PREFIX),
        Place(box.account, box.id("Archive"), PREFIX),
    ]
    accepted = box.db.run(lambda tx: letters.accept(tx, letter(), places))
    assert len({placed.email for placed in accepted.placed}) == 1
    assert len(accepted.placed) == 2, "the same email twice in one mailbox is one placement"
    assert len({placed.modseq for placed in accepted.placed}) == 1
    assert box.db.look(lambda reader: letters.usage(reader, box.account)) == (accepted.placed[0].size, 1, None)
    view = box.db.look(lambda reader: messages.view(reader, box.id("INBOX")))
    assert view is not None
    assert (view.flags[0], view.keywords) == (SEEN | FLAGGED, ["$work b"])
    assert box.mailbox("INBOX").unseen == 0
    assert box.db.look(lambda reader: integrity.check_account(reader, box.account)) == []


def test_two_prefixes_in_one_mailbox_are_two_emails_and_one_journal_row(box: Box) -> None:
    inbox = box.id("INBOX")
    places = [Place(box.account, inbox, b"A: 1\r\n"), Place(box.account, inbox, b"B: 22\r\n")]
    accepted = box.db.run(lambda tx: letters.accept(tx, letter(), places))
    assert [placed.uid for placed in accepted.placed] == [1, 2]
    page = box.db.look(lambda reader: journal.entries_after(reader, box.account, 1))
    assert [(entry.kind, entry.uids) for entry in page.entries] == [(Kind.ADDED, ((1, 2),))]


def test_a_mailbox_that_has_gone_becomes_the_inbox(box: Box) -> None:
    """RCPT decided; the commit does not change its mind."""
    gone = box.db.run(lambda tx: mailboxes.create(tx, box.account, "Gone", NOW)).id
    box.db.run(lambda tx: mailboxes.delete(tx, box.account, gone, NOW))
    other = new_account(box.db, "carol@bob.test")
    for wrong in (gone, other.id("Sent")):
        accepted = box.db.run(lambda tx, m=wrong: letters.accept(tx, letter(), [Place(box.account, m, PREFIX)]))
        assert accepted.placed[0].mailbox == box.id("INBOX")
    places = [Place(box.account, box.id("INBOX"), PREFIX), Place(box.account, gone, PREFIX)]
    assert len(box.db.run(lambda tx: letters.accept(tx, letter(), places)).placed) == 1
    places = [Place(box.account, box.id("INBOX"), b"A: 1\r\n"), Place(box.account, gone, PREFIX)]
    assert [placed.uid for placed in box.db.run(lambda tx: letters.accept(tx, letter(), places)).placed] == [4, 5]
    assert box.db.look(lambda reader: integrity.check_account(reader, box.account)) == []


def test_an_account_that_has_gone_is_reported_and_nobody_at_all_is_refused(box: Box) -> None:
    nobody = Place(99, 98, PREFIX)
    accepted = box.db.run(
        lambda tx: letters.accept(tx, letter(), [nobody, Place(box.account, box.id("INBOX"), PREFIX)])
    )
    assert accepted.missing == (nobody,)
    assert len(accepted.placed) == 1
    with pytest.raises(Refusal):
        box.db.run(lambda tx: letters.accept(tx, letter(), [nobody]))
    assert len(box.db.blobs.contents) == 1, "a refused unit leaves no content"


def test_a_letter_goes_into_the_queue_in_the_same_unit(box: Box) -> None:
    place = Place(box.account, box.id("INBOX"), PREFIX)
    accepted = box.db.run(lambda tx: letters.accept(tx, letter(), [place], queued_letter()))
    row = box.db.look(lambda reader: reader.row("SELECT id, blob FROM queue_letter"))
    assert row == (accepted.queue_id, accepted.blob)
    only = box.db.run(lambda tx: letters.accept(tx, letter(), [], queued_letter()))
    assert only.placed == []
    assert only.queue_id is not None


def test_the_note_tells_everything_needed_to_rebuild(box: Box) -> None:
    place = Place(box.account, box.id("INBOX"), PREFIX, FLAGGED, ("work",))
    accepted = box.db.run(lambda tx: letters.accept(tx, letter(), [place], queued_letter()))
    note = notes.decode(next(iter(box.db.blobs.notes.values())))
    placed = accepted.placed[0]
    assert note.version == notes.VERSION
    assert (note.blob, note.received_at, note.reverse_path) == (accepted.blob, NOW, "alice@alice.test")
    assert note.placed == [
        notes.PlacedNote(box.account, placed.mailbox, 1, placed.email, placed.email, FLAGGED, "work", PREFIX)
    ]
    assert note.queued is not None
    assert note.queued.queue_id == accepted.queue_id
    assert [(each.address, each.next_hop) for each in note.queued.recipients] == [("zoe@example.test", "example.test")]


def test_content_in_a_pack_of_its_own_is_referred_to(box: Box) -> None:
    location = box.db.blobs.seal(b"\r\nbig")
    big = letter(b"\r\nbig")
    big = letters.LetterIn(
        Content(5, b"#" * 32, sealed=location), big.received_at, "00ff", "", b"\x90", header_size=2, has_dot_lines=False
    )
    placed = box.db.run(lambda tx: letters.accept(tx, big, [Place(box.account, box.id("INBOX"), PREFIX)])).placed[0]
    stored = box.db.look(lambda reader: letters.retrieve(reader, placed.email))
    assert stored is not None
    assert stored.location == BlobLocation(2, 0, 5)


@pytest.mark.parametrize(
    ("quota", "used", "size", "decision"),
    [
        (None, 10**9, 10**9, None),
        (100, 0, 100, None),
        (100, 1, 100, MAILBOX_FULL),
        (100, 0, 101, MAILBOX_TOO_SMALL),
        (100, 99, None, None),
        (100, 100, None, MAILBOX_FULL),
        (100, 100, 0, MAILBOX_FULL),
        (100, 500, 1, MAILBOX_FULL),
        (0, 0, None, MAILBOX_FULL),
    ],
)
def test_room_is_decided_at_rcpt(quota: int | None, used: int, size: int | None, decision: object) -> None:
    """452 4.2.2 when used space and size pass the quota, 552 5.2.2 when the size alone does."""
    box = new_account(PlainDatabase(), quota=quota)
    box.db.run(lambda tx: tx.run("UPDATE account SET used_octets = :used", used=used))
    assert box.db.look(lambda reader: letters.room(reader, box.account, size)) == decision
    with pytest.raises(Refusal):
        box.db.look(lambda reader: letters.room(reader, 99, 1))


def test_quota_is_not_looked_at_again_after_rcpt() -> None:
    """An accepted RCPT is a promise: a quota passed meanwhile is overdrawn."""
    box = new_account(PlainDatabase(), quota=1)
    assert box.deliver().uid == 1
