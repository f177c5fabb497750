# SPDX-License-Identifier: Apache-2.0
"""Mailboxes that several people read: rights, each person's own \\Seen; keywords and what may be changed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from posthouse.outcome import Refusal
from posthouse.store import catalogue, clearing, flagging, integrity, keywords, mailboxes, messages, rights, visitors
from posthouse.store.flagging import Change, Stored
from posthouse.store.flags import ALL, DELETED, FLAGGED, SEEN
from posthouse.store.refusal import MailboxRefusal, Reason
from posthouse.store.rights import EVERY, EVERYBODY, Grant
from posthouse.store.uidset import EVERY_UID, Ranges
from tests.store.letterbox import NOW, Box, new_account
from tests.store.plain_database import PlainDatabase


@pytest.fixture
def box() -> Iterator[Box]:
    box = new_account(PlainDatabase())
    yield box
    assert box.db.look(lambda reader: integrity.check_account(reader, box.account)) == []
    assert box.db.look(integrity.check_rest) == []


@pytest.fixture
def carol(box: Box) -> int:
    return new_account(box.db, "carol@bob.test").account


@pytest.fixture
def dave(box: Box) -> int:
    return new_account(box.db, "dave@bob.test").account


def grant(box: Box, person: int, letters: str, name: str = "INBOX", **how: object) -> str:
    return box.db.run(lambda tx: rights.grant(tx, box.account, box.id(name), person, letters, NOW, **how))


def may(box: Box, person: int, name: str = "INBOX") -> str:
    return box.db.look(partial(rights.of_person, mailbox=box.id(name), person=person))


# --- rights ---------------------------------------------------------------------------------------


def test_rights_are_letters_in_one_order() -> None:
    """RFC 4314 §2.1.1: c and d are taken and told for programs of the time before."""
    assert rights.canonical("rwl") == "lrw"
    assert rights.canonical("dc") == "kxte"
    assert rights.shown("lrt") == "lrtd"
    assert rights.shown("lk") == "lkc"
    assert rights.shown("lr") == "lr"
    with pytest.raises(Refusal):
        rights.canonical("lz")


def test_the_owner_may_do_everything_and_others_nothing(box: Box, carol: int) -> None:
    assert may(box, box.account) == EVERY
    assert may(box, carol) == ""
    assert box.db.look(partial(rights.of_person, mailbox=9, person=carol)) == ""
    with pytest.raises(MailboxRefusal) as refused:
        grant(box, box.account, "l")
    assert refused.value.reason is Reason.CANNOT


def test_rights_are_given_added_and_taken(box: Box, carol: int) -> None:
    assert grant(box, carol, "rl") == "lr"
    assert grant(box, carol, "sr", change=Change.ADD) == "lrs"
    assert grant(box, carol, "r", change=Change.REMOVE) == "ls"
    assert may(box, carol) == "ls"
    before = box.mailbox("INBOX").modseq
    assert grant(box, carol, "") == ""
    assert box.db.look(partial(rights.grants, mailbox=box.id("INBOX"))) == []
    assert box.mailbox("INBOX").modseq == before, "no letter has changed"


def test_what_everybody_may_and_what_is_taken_away(box: Box, carol: int, dave: int) -> None:
    grant(box, EVERYBODY, "lr")
    grant(box, carol, "w")
    grant(box, carol, "r", is_negative=True)
    assert (may(box, carol), may(box, dave)) == ("lw", "lr")
    assert box.db.look(partial(rights.grants, mailbox=box.id("INBOX"))) == [
        Grant(EVERYBODY, False, "lr"),
        Grant(carol, False, "w"),
        Grant(carol, True, "r"),
    ]


def test_who_sees_which_mailboxes_of_others(box: Box, carol: int) -> None:
    grant(box, carol, "lr", "Archive")
    grant(box, carol, "r", "Sent")
    grant(box, EVERYBODY, "l", "Junk")
    found = box.db.look(partial(rights.shared_with, person=carol))
    assert [(each.owner, each.mailbox.name, each.rights) for each in found] == [
        ("bob@bob.test", "Archive", "lr"),
        ("bob@bob.test", "Junk", "l"),
    ]
    assert box.db.look(partial(rights.shared_with, person=box.account)) == []


def test_only_so_many_people(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rights, "MAX_GRANTS", 2)
    grant(box, 1, "l")
    grant(box, 2, "l")
    grant(box, 2, "lr")
    with pytest.raises(MailboxRefusal) as refused:
        grant(box, 3, "l")
    assert refused.value.reason is Reason.LIMIT


def test_nobody_gives_rights_on_others_mailboxes(box: Box, carol: int) -> None:
    with pytest.raises(MailboxRefusal) as refused:
        box.db.run(lambda tx: rights.grant(tx, carol, box.id("INBOX"), box.account, "l", NOW))
    assert refused.value.reason is Reason.NONEXISTENT


def test_rights_end_with_the_mailbox_and_with_the_person(box: Box, carol: int) -> None:
    box.deliver()
    grant(box, carol, "lrs")
    see(box, carol, EVERY_UID)
    made = box.db.run(lambda tx: mailboxes.create(tx, box.account, "Team", NOW))
    grant(box, carol, "lr", "Team")
    box.db.run(lambda tx: mailboxes.delete(tx, box.account, made.id, NOW))
    assert box.db.look(partial(rights.grants, mailbox=made.id)) == []
    box.db.run(lambda tx: clearing.delete_account_mailboxes(tx, carol))
    assert box.db.look(partial(rights.grants, mailbox=box.id("INBOX"))) == []
    assert seen(box, carol) == []


# --- each person's own \Seen ----------------------------------------------------------------------


def see(box: Box, person: int, uids: Ranges, change: Change = Change.ADD, flags: int = SEEN, **how: object) -> Stored:
    return box.db.run(
        lambda tx: visitors.store(tx, box.account, box.id("INBOX"), person, uids, change, flags=flags, now=NOW, **how)
    )


def seen(box: Box, person: int) -> list[tuple[int, bool]]:
    rows = box.db.look(partial(visitors.seen, mailbox=box.id("INBOX"), person=person))
    return [(row.uid, row.is_seen) for row in rows]


def flags_for(box: Box, person: int) -> list[int]:
    inbox = box.id("INBOX")
    page = box.db.look(partial(catalogue.page, mailbox=inbox))
    return list(visitors.as_seen_by(page, box.db.look(partial(visitors.seen, mailbox=inbox, person=person))).flags)


def test_each_person_has_seen_what_that_person_has_seen(box: Box, carol: int, dave: int) -> None:
    for flags in (SEEN, FLAGGED, 0):
        box.deliver(flags=flags)
    assert see(box, carol, ((2, 3),)).changed == ((2, 3),)
    assert flags_for(box, carol) == [0, FLAGGED | SEEN, SEEN]
    assert flags_for(box, dave) == [0, FLAGGED, 0]
    assert box.mailbox("INBOX").unseen == 2, "the owner's count is the owner's"
    inbox = box.id("INBOX")
    assert box.db.look(partial(visitors.unseen, mailbox=inbox, person=carol)) == 1
    assert box.db.look(partial(visitors.unseen, mailbox=inbox, person=dave)) == 3
    assert see(box, carol, EVERY_UID).changed == ((1, 1),)
    assert see(box, carol, ((2, 2),), Change.REMOVE).changed == ((2, 2),)
    assert see(box, dave, EVERY_UID, Change.REMOVE).changed == ()
    assert seen(box, carol) == [(1, True), (2, False), (3, True)]


def test_other_flags_are_everybodys(box: Box, carol: int) -> None:
    box.deliver()
    done = see(box, carol, EVERY_UID, flags=SEEN | FLAGGED, keywords=("work",))
    assert done.changed == ((1, 1),)
    page = box.db.look(partial(catalogue.page, mailbox=box.id("INBOX")))
    assert (list(page.flags), page.texts) == ([FLAGGED], ["", "work"])
    assert flags_for(box, carol) == [FLAGGED | SEEN]
    assert see(box, carol, EVERY_UID, Change.REPLACE, 0).changed == ((1, 1),)
    assert flags_for(box, carol) == [0]


def test_a_visitor_learns_of_it_by_the_mod_sequence(box: Box, carol: int) -> None:
    """One mod-sequence and one row of the journal, above all that was told before."""
    box.deliver()
    box.deliver()
    inbox = box.id("INBOX")
    before = box.mailbox("INBOX")
    done = see(box, carol, ((2, 2),), flags=SEEN | FLAGGED)
    assert box.mailbox("INBOX").modseq == done.modseq > before.modseq
    rows = box.db.look(partial(visitors.seen, mailbox=inbox, person=carol, after=before.modseq))
    assert [(row.uid, row.modseq) for row in rows] == [(2, done.modseq)]
    news = box.db.look(partial(catalogue.news, mailbox=inbox, after=before.modseq, uid_validity=before.uid_validity))
    assert news is not None
    assert [entry.uids for entry in news.entries] == [((2, 2),)]
    page = box.db.look(partial(catalogue.page, mailbox=inbox))
    assert list(visitors.as_seen_by(page, rows).modseqs) == [page.modseqs[0], done.modseq]
    assert see(box, carol, ((2, 2),), flags=SEEN | FLAGGED).changed == ()
    assert box.mailbox("INBOX").modseq == done.modseq


def test_a_visitors_conditional_store(box: Box, carol: int) -> None:
    for _ in range(3):
        box.deliver()
    since = box.mailbox("INBOX").modseq
    see(box, carol, ((2, 2),))
    flagging_done = box.db.run(
        lambda tx: flagging.store(tx, box.account, box.id("INBOX"), ((3, 3),), Change.ADD, flags=FLAGGED, now=NOW)
    )
    assert flagging_done.changed == ((3, 3),)
    done = see(box, carol, EVERY_UID, Change.REPLACE, DELETED, unchanged_since=since)
    assert (done.changed, done.stale) == (((1, 1),), ((2, 3),))
    assert flags_for(box, carol) == [DELETED, SEEN, FLAGGED]


def test_seen_rows_go_with_their_letters(box: Box, carol: int) -> None:
    for _ in range(3):
        box.deliver()
    see(box, carol, EVERY_UID)
    box.db.run(lambda tx: messages.expunge(tx, box.account, box.id("INBOX"), ((1, 2),), now=NOW))
    assert seen(box, carol) == [(3, True)]
    assert box.db.look(partial(visitors.unseen, mailbox=box.id("INBOX"), person=carol)) == 0


# --- what a person may change, and what is stale --------------------------------------------------


def store(box: Box, change: Change, flags: int, **how: object) -> Stored:
    return box.db.run(
        lambda tx: flagging.store(tx, box.account, box.id("INBOX"), EVERY_UID, change, flags=flags, now=NOW, **how)
    )


def state(box: Box) -> list[tuple[int, str]]:
    page = box.db.look(partial(catalogue.page, mailbox=box.id("INBOX")))
    return [(flags, page.texts[index]) for flags, index in zip(page.flags, page.keywords, strict=True)]


def test_only_what_may_be_touched_changes(box: Box) -> None:
    r"""RFC 4314 §4: s for \Seen, t for \Deleted, w for all else."""
    box.deliver(flags=SEEN | FLAGGED)
    store(box, Change.ADD, 0, keywords=("work",))
    store(box, Change.REPLACE, DELETED, touchable=DELETED, touches_keywords=False, keywords=("other",))
    assert state(box) == [(SEEN | FLAGGED | DELETED, "work")]
    store(box, Change.REPLACE, DELETED, touchable=ALL & ~SEEN & ~DELETED)
    assert state(box) == [(SEEN | DELETED, "")]
    store(box, Change.REMOVE, SEEN | DELETED, touchable=SEEN)
    assert state(box) == [(DELETED, "")]
    assert box.mailbox("INBOX").unseen == 1


def test_what_is_as_asked_for_is_not_stale(box: Box) -> None:
    """RFC 7162 §3.1.12: others may have changed it; only who replaces all flags must know them all."""
    for _ in range(3):
        box.deliver()
    since = box.mailbox("INBOX").modseq
    box.db.run(
        lambda tx: flagging.store(
            tx, box.account, box.id("INBOX"), ((1, 1),), Change.ADD, flags=FLAGGED, keywords=("work",), now=NOW
        )
    )
    box.db.run(lambda tx: flagging.store(tx, box.account, box.id("INBOX"), ((2, 2),), Change.ADD, flags=SEEN, now=NOW))
    done = store(box, Change.ADD, FLAGGED, keywords=("Work",), unchanged_since=since)
    assert (done.changed, done.stale) == (((3, 3),), ((2, 2),))
    done = store(box, Change.REMOVE, SEEN, keywords=("nonsense",), unchanged_since=since)
    assert done.stale == ((2, 2),)
    done = store(box, Change.REPLACE, FLAGGED, keywords=("work",), unchanged_since=since)
    assert done.stale == ((1, 3),)


# --- keywords -------------------------------------------------------------------------------------


def test_keywords_are_shown_as_they_were_first_written(box: Box) -> None:
    box.deliver()
    store(box, Change.ADD, 0, keywords=("$Forwarded", "NonJunk"))
    store(box, Change.REPLACE, 0, keywords=("$FORWARDED",))
    store(box, Change.REMOVE, 0, keywords=("Unheard",))
    spelled = box.db.look(partial(keywords.spellings, account=box.account))
    assert spelled == {"$forwarded": "$Forwarded", "nonjunk": "NonJunk"}
    assert state(box) == [(0, "$forwarded")]


def test_an_account_has_so_many_keywords_in_use(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keywords, "MAX_WORDS", 3)
    box.deliver()
    store(box, Change.ADD, 0, keywords=("a", "b", "c"))
    store(box, Change.REMOVE, 0, keywords=("a", "b"))
    store(box, Change.ADD, 0, keywords=("d", "e"))
    assert set(box.db.look(partial(keywords.spellings, account=box.account))) == {"c", "d", "e"}
    with pytest.raises(MailboxRefusal) as refused:
        store(box, Change.ADD, FLAGGED, keywords=("f",))
    assert refused.value.reason is Reason.LIMIT
    assert state(box) == [(0, "c d e")]
