# SPDX-License-Identifier: Apache-2.0
"""A mailbox as arrays, kept up to date by the journal; the figures of STATUS; \\Recent; rows in pages."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from posthouse.store import catalogue, flagging, integrity, journal, letters, messages, reading, uidset
from posthouse.store.catalogue import Letters
from posthouse.store.flagging import Change
from posthouse.store.flags import DELETED, FLAGGED, SEEN
from posthouse.store.journal import Kind
from posthouse.store.uidset import EVERY_UID
from tests.store.letterbox import NOW, PREFIX, Box, letter, new_account
from tests.store.plain_database import PlainDatabase


@pytest.fixture
def box() -> Iterator[Box]:
    box = new_account(PlainDatabase())
    yield box
    assert box.db.look(lambda reader: integrity.check_account(reader, box.account)) == []


def store(box: Box, uids: uidset.Ranges, change: Change, flags: int = 0, **how: object) -> flagging.Stored:
    return box.db.run(
        lambda tx: flagging.store(tx, box.account, box.id("INBOX"), uids, change, flags=flags, now=NOW, **how)
    )


def expunge(box: Box, *uids: int) -> None:
    box.db.run(lambda tx: messages.expunge(tx, box.account, box.id("INBOX"), uidset.from_uids(uids), now=NOW))


def shown(page: Letters) -> list[tuple[int, int, str]]:
    texts = [page.texts[index] for index in page.keywords]
    return list(zip(page.uids, page.flags, texts, strict=True))


def test_pages_are_arrays_of_what_is_there(box: Box) -> None:
    placed = [box.deliver(flags=SEEN if number % 2 else 0) for number in range(5)]
    store(box, ((2, 2), (5, 5)), Change.ADD, keywords=("work", "$Junk"))
    store(box, ((3, 3),), Change.ADD, keywords=("work",))
    expunge(box, 4)
    inbox = box.id("INBOX")
    page = box.db.look(partial(catalogue.page, mailbox=inbox))
    assert shown(page) == [(1, 0, ""), (2, SEEN, "$junk work"), (3, 0, "work"), (5, 0, "$junk work")]
    assert len(page.texts) == 3
    assert list(page.emails) == [placed[index].email for index in (0, 1, 2, 4)]
    assert list(page.sizes) == [placed[index].size for index in (0, 1, 2, 4)]
    view = box.db.look(lambda reader: messages.view(reader, inbox))
    assert view is not None
    assert (view.modseqs, list(view.uids)) == (page.modseqs, list(page.uids))
    second = box.db.look(partial(catalogue.page, mailbox=inbox, after=1, limit=2))
    assert shown(second) == [(2, SEEN, "$junk work"), (3, 0, "work")]
    assert len(box.db.look(partial(catalogue.page, mailbox=inbox, after=5))) == 0
    some = box.db.look(partial(catalogue.some, mailbox=inbox, uids=((1, 1), (3, 9))))
    assert shown(some) == [(1, 0, ""), (3, 0, "work"), (5, 0, "$junk work")]


def test_news_are_what_happened_since(box: Box) -> None:
    for _ in range(4):
        box.deliver()
    inbox = box.id("INBOX")
    head = box.db.look(partial(catalogue.head, mailbox=inbox))
    assert head is not None
    assert (head.account, head.total, head.unseen, head.uid_next) == (box.account, 4, 4, 5)
    first = box.db.look(partial(catalogue.news, mailbox=inbox, after=head.modseq, uid_validity=head.uid_validity))
    assert first is not None
    assert (first.entries, first.is_complete, len(first.letters)) == ((), True, 0)
    assert box.db.last_statements == 1, "who asks in vain costs one row"
    box.deliver("Archive")
    store(box, ((1, 2),), Change.ADD, FLAGGED)
    expunge(box, 2, 4)
    box.deliver(flags=SEEN)
    news = box.db.look(partial(catalogue.news, mailbox=inbox, after=head.modseq, uid_validity=head.uid_validity))
    assert news is not None
    assert [(entry.kind, entry.uids) for entry in news.entries] == [
        (Kind.CHANGED, ((1, 2),)),
        (Kind.EXPUNGED, ((2, 2), (4, 4))),
        (Kind.ADDED, ((5, 5),)),
    ]
    assert shown(news.letters) == [(1, FLAGGED, ""), (5, SEEN, "")]
    assert (news.head.total, news.is_complete) == (3, True)
    assert news.head.modseq == box.mailbox("INBOX").modseq


def test_news_of_what_nobody_knows_any_more_are_incomplete(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox = box.id("INBOX")
    validity = box.mailbox("INBOX").uid_validity
    for _ in range(3):
        box.deliver()
    ask = partial(catalogue.news, mailbox=inbox, after=1, uid_validity=validity)
    whole = box.db.look(ask)
    assert whole is not None
    assert whole.is_complete
    monkeypatch.setattr(catalogue, "MAX_ENTRIES", 2)
    long = box.db.look(ask)
    assert long is not None
    assert not long.is_complete
    monkeypatch.undo()
    other = box.db.look(partial(catalogue.news, mailbox=inbox, after=10**6, uid_validity=validity - 1))
    assert other is not None
    assert not other.is_complete, "another mailbox has this name now"
    box.db.run(lambda tx: journal.purge(tx, box.account, NOW + 1))
    late = box.db.look(ask)
    assert late is not None
    assert not late.is_complete
    assert box.db.look(partial(catalogue.news, mailbox=9, after=0, uid_validity=1)) is None
    assert box.db.look(partial(catalogue.head, mailbox=9)) is None


def test_figures_of_status(box: Box) -> None:
    sizes = [box.deliver(octets=b"\r\n" + b"x" * size, flags=SEEN).size for size in (5, 10, 20)]
    inbox = box.id("INBOX")
    store(box, ((1, 1), (3, 3)), Change.ADD, DELETED)
    assert box.db.look(partial(catalogue.deleted, mailbox=inbox)) == (2, sizes[0] + sizes[2])
    assert box.db.look(partial(catalogue.deleted, mailbox=box.id("Sent"))) == (0, 0)
    assert box.db.look(partial(catalogue.first_unseen, mailbox=inbox)) is None
    store(box, ((2, 3),), Change.REMOVE, SEEN)
    assert box.db.look(partial(catalogue.first_unseen, mailbox=inbox)) == 2


def test_recent_is_claimed_once(box: Box) -> None:
    """RFC 3501 §2.3.2: one session alone is told."""
    inbox = box.id("INBOX")
    claim = partial(catalogue.claim_recent, mailbox=inbox)
    assert box.db.run(claim) == ()
    box.deliver()
    box.deliver()
    head = box.db.look(partial(catalogue.head, mailbox=inbox))
    assert head is not None
    assert box.db.look(partial(catalogue.recent, mailbox=inbox, recent_from=head.recent_from)) == 2
    assert box.db.run(claim) == ((1, 2),)
    assert box.db.run(claim) == ()
    box.deliver()
    assert box.db.run(claim) == ((3, 3),)
    assert box.db.run(partial(catalogue.claim_recent, mailbox=9)) == ()


def test_a_letter_is_saved_when_it_comes_into_its_mailbox(box: Box) -> None:
    """RFC 8514 §3: COPY and MOVE give a new save date, and a client cannot set it."""
    old = letter(received_at=NOW - 10**6, saved_at=NOW)
    place = letters.Place(box.account, box.id("INBOX"), PREFIX)
    box.db.run(lambda tx: letters.accept(tx, old, [place]))
    inbox, archive = box.id("INBOX"), box.id("Archive")
    box.db.run(lambda tx: messages.copy(tx, box.account, inbox, EVERY_UID, archive, now=NOW + 50))
    (first,) = box.db.look(partial(reading.dated, mailbox=inbox, uids=EVERY_UID))
    (second,) = box.db.look(partial(reading.dated, mailbox=archive, uids=EVERY_UID))
    assert (first.received_at, first.saved_at) == (NOW - 10**6, NOW)
    assert (second.received_at, second.saved_at) == (NOW - 10**6, NOW + 50)
    entry = box.db.look(lambda reader: journal.entries_after(reader, box.account, 0)).entries[-2]
    assert (entry.kind, entry.at) == (Kind.ADDED, NOW), "the journal tells when it happened"
    box.db.run(lambda tx: tx.run("UPDATE placement SET saved_at = 0"))
    (before,) = box.db.look(partial(reading.dated, mailbox=inbox, uids=EVERY_UID))
    assert before.saved_at == NOW - 10**6, "of letters from before this was kept, the time of arrival"


def test_rows_come_in_order_and_only_of_what_is_there(box: Box) -> None:
    placed = [
        box.deliver(octets=b"A: b\r\n\r\n%d" % number, envelope_summary=b"s%d" % number, references=refs)
        for number, refs in enumerate([(), (b"a@x",), (b"a@x", b"b@x")])
    ]
    expunge(box, 2)
    inbox = box.id("INBOX")
    wanted = ((1, 2), (3, 900))
    summed = box.db.look(partial(reading.summed, mailbox=inbox, uids=wanted))
    assert [(each.uid, each.email, each.summary, each.ancestors) for each in summed] == [
        (1, placed[0].email, b"s0", ()),
        (3, placed[2].email, b"s2", (b"a@x", b"b@x")),
    ]
    stored = box.db.look(partial(reading.letters, mailbox=inbox, uids=wanted))
    assert [each.uid for each in stored] == [1, 3]
    alone = box.db.look(lambda reader: letters.retrieve(reader, placed[2].email))
    assert stored[1].letter == alone
    assert [each.uid for each in box.db.look(partial(reading.dated, mailbox=inbox, uids=wanted))] == [1, 3]
    parts = list(reading.pages(((1, 3),), 2))
    assert parts == [((1, 2),), ((3, 3),)]


def test_what_was_found_out_is_kept(box: Box) -> None:
    first, second = box.deliver(), box.deliver()
    inbox = box.id("INBOX")

    def known() -> list[tuple[int, bytes | None, str | None]]:
        rows = box.db.look(partial(reading.parsed, mailbox=inbox, uids=EVERY_UID))
        return [(row.uid, row.structure, row.preview) for row in rows]

    assert known() == [(1, None, None), (2, None, None)]
    box.db.run(lambda tx: reading.keep_structures(tx, [(first.email, b"\x01"), (second.email, b"\x02")]))
    box.db.run(lambda tx: reading.keep_previews(tx, [(second.email, "Grüße")]))
    assert known() == [(1, b"\x01", None), (2, b"\x02", "Grüße")]
    box.db.run(lambda tx: tx.run("UPDATE email_detail SET ancestors = NULL"))
    box.db.run(lambda tx: reading.keep_ancestors(tx, [(first.email, (b"a@x", b"b@x"))]))
    rows = box.db.look(partial(reading.summed, mailbox=inbox, uids=EVERY_UID))
    assert [row.ancestors for row in rows] == [(b"a@x", b"b@x"), None]


def test_a_change_of_everything_is_few_statements(box: Box) -> None:
    for _ in range(60):
        box.deliver()
    assert store(box, EVERY_UID, Change.ADD, SEEN).changed == ((1, 60),)
    assert box.db.last_statements <= 6
    box.db.look(partial(reading.summed, mailbox=box.id("INBOX"), uids=EVERY_UID))
    assert box.db.last_statements == 1
