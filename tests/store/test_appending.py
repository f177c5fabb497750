# SPDX-License-Identifier: Apache-2.0
"""APPEND, MULTIAPPEND and REPLACE; COPY and MOVE between accounts: all or nothing, every counter exact."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from posthouse.mail.header import scan_header
from posthouse.ports import Transaction
from posthouse.store import appending, catalogue, crossing, integrity, keywords, letters, messages, reading, visitors
from posthouse.store.appending import New
from posthouse.store.flags import ALL, DELETED, DRAFT, FLAGGED, SEEN
from posthouse.store.refusal import MailboxRefusal, Reason
from posthouse.store.uidset import EVERY_UID
from tests.store.letterbox import NOW, Box, letter, new_account
from tests.store.plain_database import PlainDatabase

RAW = b"Message-ID: <one@x>\r\nSubject: Hello\r\n\r\nBody\r\n"
SUMMARY = scan_header(RAW).pack_envelope()


@pytest.fixture
def box() -> Iterator[Box]:
    yield from checked(new_account(PlainDatabase(), quota=1_000))


@pytest.fixture
def carol(box: Box) -> Iterator[Box]:
    yield from checked(new_account(box.db, "carol@bob.test", quota=1_000))


def checked(box: Box) -> Iterator[Box]:
    yield box
    assert box.db.look(lambda reader: integrity.check_account(reader, box.account)) == []
    assert box.db.look(integrity.check_rest) == []


def new(size: int = 10, flags: int = 0, words: tuple[str, ...] = ()) -> New:
    return New(letter(b"\r\n" + b"x" * (size - 2), received_at=NOW - 500, saved_at=NOW), flags, words)


def append(box: Box, *what: New, name: str = "Drafts") -> appending.Appended:
    return box.db.run(lambda tx: appending.append(tx, box.account, box.id(name), what))


def replace(tx: Transaction, box: Box, uid: int, target: str, what: New) -> appending.Appended:
    return appending.replace(tx, box.account, box.id("Drafts"), uid, box.account, box.id(target), what, now=NOW)


def usage(box: Box) -> tuple[int, int]:
    used = box.db.look(lambda reader: letters.usage(reader, box.account))
    assert used is not None
    return used[0], used[1]


def shown(box: Box, name: str) -> list[tuple[int, int, str]]:
    page = box.db.look(partial(catalogue.page, mailbox=box.id(name)))
    texts = (page.texts[index] for index in page.keywords)
    return list(zip(page.uids, page.flags, texts, strict=True))


# --- APPEND ---------------------------------------------------------------------------------------


def test_letters_come_in_their_order_with_flags_and_dates(box: Box) -> None:
    done = append(box, new(flags=DRAFT | SEEN), new(20, words=("Work", "a")), new())
    assert (done.uids, done.uid_validity) == (((1, 3),), box.mailbox("Drafts").uid_validity)
    assert done.modseq == box.mailbox("Drafts").modseq
    assert shown(box, "Drafts") == [(1, DRAFT | SEEN, ""), (2, 0, "a work"), (3, 0, "")]
    assert box.db.look(partial(keywords.spellings, account=box.account)) == {"a": "a", "work": "Work"}
    rows = box.db.look(lambda reader: reading.dated(reader, box.id("Drafts"), EVERY_UID))
    assert {(row.received_at, row.saved_at) for row in rows} == {(NOW - 500, NOW)}
    assert usage(box) == (40, 3)


def test_all_or_none_fit_into_the_quota(box: Box) -> None:
    append(box, new(400))
    with pytest.raises(MailboxRefusal) as refused:
        append(box, new(300), new(301))
    assert refused.value.reason is Reason.OVERQUOTA
    assert usage(box) == (400, 1)
    assert len(shown(box, "Drafts")) == 1
    append(box, new(300), new(300))
    assert usage(box) == (1_000, 3)


def test_a_mailbox_that_is_not_there_takes_nothing(box: Box, carol: Box) -> None:
    """Unlike delivery, which has the INBOX to fall back on: a client can create it (TRYCREATE)."""
    for mailbox in (9, carol.id("INBOX")):
        with pytest.raises(MailboxRefusal) as refused:
            box.db.run(lambda tx, m=mailbox: appending.append(tx, box.account, m, [new()]))
        assert refused.value.reason is Reason.NONEXISTENT
    assert usage(box) == (0, 0)


def test_replacing_is_one_unit(box: Box) -> None:
    """RFC 8508 §3.4."""
    append(box, new(), new())
    writes = box.db.writes
    done = box.db.run(lambda tx: replace(tx, box, 1, "Drafts", new(flags=DRAFT)))
    assert box.db.writes == writes + 1
    assert (done.uids, done.vanished) == (((3, 3),), ((1, 1),))
    assert shown(box, "Drafts") == [(2, 0, ""), (3, DRAFT, "")]
    moved = box.db.run(lambda tx: replace(tx, box, 3, "Sent", new()))
    assert (moved.uids, moved.uid_validity) == (((1, 1),), box.mailbox("Sent").uid_validity)
    with pytest.raises(MailboxRefusal) as refused:
        box.db.run(lambda tx: replace(tx, box, 3, "Sent", new()))
    assert refused.value.reason is Reason.EXPUNGEISSUED
    assert len(shown(box, "Sent")) == 1


def test_what_cannot_be_put_in_replaces_nothing(box: Box) -> None:
    append(box, new(900))
    with pytest.raises(MailboxRefusal) as refused:
        box.db.run(lambda tx: replace(tx, box, 1, "Drafts", new(1_001)))
    assert refused.value.reason is Reason.OVERQUOTA
    assert [uid for uid, *_ in shown(box, "Drafts")] == [1]


def test_what_goes_makes_room_for_what_comes(box: Box) -> None:
    """RFC 8508 §3.4: the net consumption counts. The whole size of the new letter did: in an account that was nearly
    full no draft could be changed."""
    append(box, new(900))
    box.db.run(lambda tx: replace(tx, box, 1, "Drafts", new(950)))
    assert usage(box) == (950, 1)


def test_a_letter_that_lies_elsewhere_too_makes_no_room(box: Box) -> None:
    append(box, new(600))
    box.db.run(lambda tx: messages.copy(tx, box.account, box.id("Drafts"), EVERY_UID, box.id("Archive"), now=NOW))
    with pytest.raises(MailboxRefusal) as refused:
        box.db.run(lambda tx: replace(tx, box, 1, "Drafts", new(500)))
    assert refused.value.reason is Reason.OVERQUOTA
    assert usage(box) == (600, 1)


def test_a_letter_of_another_account_is_replaced_in_both(box: Box, carol: Box) -> None:
    append(box, new(300))
    append(carol, new(100))
    done = box.db.run(
        lambda tx: appending.replace(
            tx, box.account, box.id("Drafts"), 1, carol.account, carol.id("Sent"), new(200), now=NOW
        )
    )
    assert done.modseq == box.mailbox("Drafts").modseq
    assert (shown(box, "Drafts"), usage(box)) == ([], (0, 0))
    assert ([uid for uid, *_ in shown(carol, "Sent")], usage(carol)) == ([1], (300, 2))
    with pytest.raises(MailboxRefusal) as refused:  # what goes in one account makes no room in another
        box.db.run(
            lambda tx: appending.replace(
                tx, carol.account, carol.id("Sent"), 1, box.account, box.id("Sent"), new(1_001), now=NOW
            )
        )
    assert refused.value.reason is Reason.OVERQUOTA
    assert len(shown(carol, "Sent")) == 1


def test_what_a_visitor_has_seen_is_the_visitors(box: Box, carol: Box) -> None:
    """The owner finds a letter that somebody else put in unseen."""
    done = box.db.run(
        lambda tx: appending.append(
            tx, box.account, box.id("Drafts"), [new(flags=SEEN | FLAGGED), new()], visitor=carol.account
        )
    )
    assert [flags for _, flags, _ in shown(box, "Drafts")] == [FLAGGED, 0]
    assert box.mailbox("Drafts").unseen == 2
    rows = box.db.look(partial(visitors.seen, mailbox=box.id("Drafts"), person=carol.account))
    assert [(row.uid, row.is_seen) for row in rows] == [(1, True)]
    assert rows[0].modseq == done.modseq - 1, "that of the letter"


# --- between accounts -----------------------------------------------------------------------------


def cross(box: Box, carol: Box, *, moves: bool = False, **how: object) -> messages.Copied:
    work = crossing.move if moves else crossing.copy
    return box.db.run(
        lambda tx: work(tx, box.account, box.id("INBOX"), EVERY_UID, carol.account, carol.id("Archive"), now=NOW, **how)
    )


def fill(box: Box) -> list[letters.Placed]:
    return [
        box.deliver(octets=RAW, flags=flags, envelope_summary=SUMMARY, message_id=b"one@x", subject=b"Hello")
        for flags in (SEEN, FLAGGED, SEEN | DELETED)
    ]


def test_letters_of_another_account_are_new_emails_of_the_same_content(box: Box, carol: Box) -> None:
    placed = fill(box)
    there = carol.deliver(octets=RAW, message_id=b"one@x", subject=b"Hello")
    box.db.run(lambda tx: reading.keep_structures(tx, [(placed[0].email, b"\x07")]))
    copied = cross(box, carol)
    assert (copied.source, copied.target) == (((1, 3),), ((1, 3),))
    assert copied.uid_validity == carol.mailbox("Archive").uid_validity
    assert [flags for _, flags, _ in shown(carol, "Archive")] == [SEEN, FLAGGED, SEEN | DELETED]
    size = placed[0].size
    assert usage(carol) == (3 * size + there.size, 4)
    old = box.db.look(lambda reader: reading.letters(reader, box.id("INBOX"), EVERY_UID))
    new_ = box.db.look(lambda reader: reading.letters(reader, carol.id("Archive"), EVERY_UID))
    assert [each.letter.location for each in new_] == [each.letter.location for each in old]
    assert {each.letter.email for each in new_}.isdisjoint({each.letter.email for each in old})
    thread = box.db.look(lambda reader: letters.retrieve(reader, there.email))
    assert thread is not None
    assert {each.letter.thread for each in new_} == {thread.thread}, "conversations are joined there too"
    parsed = box.db.look(lambda reader: reading.parsed(reader, carol.id("Archive"), EVERY_UID))
    assert [row.structure for row in parsed] == [b"\x07", None, None]
    box.db.run(lambda tx: messages.expunge(tx, box.account, box.id("INBOX"), EVERY_UID, now=NOW))
    assert usage(box) == (0, 0)
    assert len(shown(carol, "Archive")) == 3


def test_flags_are_what_the_person_may_set_there(box: Box, carol: Box) -> None:
    fill(box)
    box.db.run(lambda tx: tx.run("UPDATE placement SET keywords = 'work' WHERE uid = 1"))
    cross(box, carol, seen=((2, 2),), touchable=ALL & ~DELETED, touches_keywords=False)
    assert shown(carol, "Archive") == [(1, 0, ""), (2, SEEN | FLAGGED, ""), (3, 0, "")]
    assert carol.mailbox("Archive").unseen == 2


def test_moving_leaves_nothing_behind(box: Box, carol: Box) -> None:
    placed = fill(box)
    moved = cross(box, carol, moves=True)
    assert moved.modseq == box.mailbox("INBOX").modseq
    assert (usage(box), usage(carol)) == ((0, 0), (3 * placed[0].size, 3))
    assert shown(box, "INBOX") == []


def test_what_does_not_fit_is_not_moved(box: Box, carol: Box) -> None:
    fill(box)
    append(carol, new(950))
    with pytest.raises(MailboxRefusal) as refused:
        cross(box, carol, moves=True)
    assert refused.value.reason is Reason.OVERQUOTA
    assert len(shown(box, "INBOX")) == 3
    assert usage(carol) == (950, 1)


def test_spellings_come_along(box: Box, carol: Box) -> None:
    append(box, new(words=("$Forwarded",)), name="INBOX")
    cross(box, carol)
    assert shown(carol, "Archive") == [(1, 0, "$forwarded")]
    assert box.db.look(partial(keywords.spellings, account=carol.account)) == {"$forwarded": "$Forwarded"}


def test_nothing_from_nowhere(box: Box, carol: Box) -> None:
    assert cross(box, carol).target == ()
    for source, target in ((9, carol.id("INBOX")), (box.id("INBOX"), 9), (carol.id("INBOX"), carol.id("Sent"))):
        with pytest.raises(MailboxRefusal) as refused:
            box.db.run(
                lambda tx, s=source, t=target: crossing.copy(tx, box.account, s, EVERY_UID, carol.account, t, now=NOW)
            )
        assert refused.value.reason is Reason.NONEXISTENT
