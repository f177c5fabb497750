# SPDX-License-Identifier: Apache-2.0
"""Garbage: content goes when, and only when, nothing refers to it; packs are emptied without losing a letter."""

from __future__ import annotations

import hashlib

import pytest

from posthouse.ports import BlobLocation, Content
from posthouse.store import garbage, integrity, letters, messages
from posthouse.store.letters import Place
from posthouse.store.uidset import EVERY_UID
from tests.store.letterbox import NOW, PREFIX, Box, letter, new_account
from tests.store.plain_database import PlainDatabase
from tests.store.test_letters import queued_letter


@pytest.fixture
def box() -> Box:
    return new_account(PlainDatabase())


def expunge(box: Box) -> None:
    box.db.run(lambda tx: messages.expunge(tx, box.account, box.id("INBOX"), EVERY_UID, now=NOW))


def collect(box: Box, now: float = NOW) -> garbage.Collected:
    found = box.db.look(lambda reader: garbage.find(reader, now))
    return box.db.run(lambda tx: garbage.collect(tx, found.blobs, now))


def pack(box: Box, number: int, state: int, size: int) -> None:
    box.db.run(
        lambda tx: tx.run(
            "INSERT INTO pack (number, kind, state, size) VALUES (:number, 1, :state, :size)",
            number=number,
            state=state,
            size=size,
        )
    )


def test_a_blob_goes_with_its_last_email(box: Box) -> None:
    other = new_account(box.db, "carol@bob.test")
    places = [Place(each.account, each.id("INBOX"), PREFIX) for each in (box, other)]
    box.db.run(lambda tx: letters.accept(tx, letter(), places))
    expunge(box)
    assert collect(box) == garbage.Collected(0, 0, ())
    expunge(other)
    assert collect(box) == garbage.Collected(1, 9, ((1, 9),))
    assert box.db.look(lambda reader: reader.rows("SELECT * FROM blob")) == []
    assert box.db.look(lambda reader: reader.rows("SELECT pack, octets FROM dead_octets")) == [(1, 9)]


def test_the_queue_keeps_a_blob(box: Box) -> None:
    accepted = box.db.run(lambda tx: letters.accept(tx, letter(), [], queued_letter()))
    assert collect(box).blobs == 0
    box.db.run(lambda tx: tx.run("DELETE FROM queue_letter WHERE id = :id", id=accepted.queue_id))
    assert collect(box).blobs == 1


def test_retention_keeps_a_blob_until_its_time(box: Box) -> None:
    box.deliver()
    blob = box.db.look(lambda reader: reader.row("SELECT id FROM blob"))[0]
    box.db.run(lambda tx: garbage.retain(tx, blob, "undelete", NOW + 10))
    box.db.run(lambda tx: garbage.retain(tx, blob, "hold", None))
    expunge(box)
    assert collect(box, NOW + 11).blobs == 0
    box.db.run(lambda tx: garbage.release(tx, blob, "hold"))
    assert collect(box, NOW + 9).blobs == 0
    assert collect(box, NOW + 10).blobs == 1
    assert box.db.look(lambda reader: reader.rows("SELECT * FROM retention")) == []


def test_a_reference_made_after_the_search_counts(box: Box) -> None:
    box.deliver()
    expunge(box)
    found = box.db.look(lambda reader: garbage.find(reader, NOW))
    box.db.run(lambda tx: garbage.retain(tx, found.blobs[0], "hold", None))
    assert box.db.run(lambda tx: garbage.collect(tx, found.blobs, NOW)).blobs == 0


def test_the_search_goes_in_pages(box: Box) -> None:
    for _ in range(5):
        box.deliver()
    expunge(box)
    first = box.db.look(lambda reader: garbage.find(reader, NOW, page=3))
    assert len(first.blobs) == 3
    assert first.after is not None
    second = box.db.look(lambda reader: garbage.find(reader, NOW, after=first.after, page=3))
    assert (len(second.blobs), second.after) == (2, None)


def test_packs_are_chosen_by_how_much_is_dead_and_how_long(box: Box) -> None:
    for number, state, size in ((1, 2, 18), (2, 1, 18), (3, 2, 1_000)):
        pack(box, number, state, size)
    box.deliver()
    expunge(box)
    collect(box)
    box.db.run(
        lambda tx: tx.run("INSERT INTO dead_octets (pack, octets, since) VALUES (2, 9, 0.0), (3, 1, :now)", now=NOW)
    )
    found = box.db.look(lambda reader: garbage.candidates(reader, NOW))
    assert found == [garbage.Candidate(1, 18, 9, NOW)]
    later = box.db.look(lambda reader: garbage.candidates(reader, NOW + 30 * 86_400))
    assert [each.pack for each in later] == [1, 3], "never the pack that still grows"


def test_compaction_copies_what_lives_and_then_the_pack_goes(box: Box) -> None:
    pack(box, 2, 2, 100)
    pack(box, 1, 1, 0)
    kept = []
    for text in (b"\r\none", b"\r\ntwo"):
        location = box.db.blobs.seal(text)
        inside = BlobLocation(2, location.pack * 10, location.length)
        box.db.blobs.contents[inside] = text
        into = letters.LetterIn(
            Content(5, b"#" * 32, sealed=inside), NOW, "00ff", "", b"\x90", header_size=2, has_dot_lines=False
        )
        kept += box.db.run(
            lambda tx, into=into: letters.accept(tx, into, [Place(box.account, box.id("INBOX"), PREFIX)])
        ).placed
    plan = box.db.look(lambda reader: garbage.plan_compaction(reader, 2, limit=1))
    plan += box.db.look(lambda reader: garbage.plan_compaction(reader, 2, after=plan[-1].location.offset))
    assert len(plan) == 2
    assert not box.db.run(lambda tx: garbage.forget_pack(tx, 2))
    for live in plan:
        octets = box.db.blobs.contents[live.location]
        content = Content(len(octets), hashlib.sha256(octets).digest(), octets=octets)
        moved = box.db.run(lambda tx, b=live, c=content: garbage.relocate(tx, b, c, b"note", NOW))
        assert moved is not None
        assert moved.pack == 1
        assert box.db.run(lambda tx, b=live, c=content: garbage.relocate(tx, b, c, b"note", NOW)) is None
    assert box.db.look(garbage.empty_packs) == [2]
    assert box.db.run(lambda tx: garbage.forget_pack(tx, 2))
    assert not box.db.run(lambda tx: garbage.forget_pack(tx, 1)), "it grows"
    assert box.db.look(lambda reader: reader.rows("SELECT * FROM dead_octets")) == []
    stored = box.db.look(lambda reader: letters.retrieve(reader, kept[1].email))
    assert stored is not None
    assert box.db.blobs.contents[stored.location] == b"\r\ntwo"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE account SET used_octets = used_octets + 1", "account {account}: used_octets is 43, should be 42"),
        ("UPDATE account SET used_letters = 9", "account {account}: used_letters is 9, should be 1"),
        ("UPDATE account SET modseq = 0", "account {account}: modseq is 0, should be 2"),
        ("UPDATE mailbox SET total = 5 WHERE name = 'INBOX'", "mailbox {inbox}: total is 5, should be 1"),
        ("UPDATE mailbox SET unseen = 0 WHERE name = 'INBOX'", "mailbox {inbox}: unseen is 0, should be 1"),
        ("UPDATE mailbox SET octets = 0 WHERE name = 'INBOX'", "mailbox {inbox}: octets is 0, should be 42"),
        ("UPDATE mailbox SET uid_next = 1 WHERE name = 'INBOX'", "mailbox {inbox}: uid_next is 1, should be 2"),
        ("UPDATE mailbox SET modseq = 1 WHERE name = 'INBOX'", "mailbox {inbox}: modseq is 1, should be 2"),
    ],
)
def test_wrong_counters_are_found_and_mended(box: Box, damage: str, said: str) -> None:
    box.deliver()
    assert box.db.look(integrity.accounts) == [box.account]
    inbox = box.id("INBOX")
    box.db.run(lambda tx: tx.run(damage))
    found = box.db.look(lambda reader: integrity.check_account(reader, box.account))
    assert said.format(account=box.account, inbox=inbox) in [str(each) for each in found]
    box.db.run(lambda tx: integrity.mend_counters(tx, box.account))
    assert box.db.look(lambda reader: integrity.check_account(reader, box.account)) == []


@pytest.mark.parametrize(
    ("damage", "table", "field"),
    [
        ("DELETE FROM email", "placement", "email"),
        ("DELETE FROM placement", "email", "placement"),
        ("DELETE FROM email_detail", "email", "email_detail"),
        ("DELETE FROM blob", "email", "blob"),
        ("DELETE FROM email", "email_detail", "email"),
        ("UPDATE placement SET mailbox = 7", "placement", "mailbox"),
        ("UPDATE email SET account = 7", "email", "account"),
        ("UPDATE mailbox SET name = 'x' WHERE name = 'INBOX'", "account", "INBOX"),
    ],
)
def test_broken_references_are_found(box: Box, damage: str, table: str, field: str) -> None:
    box.deliver()
    box.db.run(lambda tx: tx.run(damage))
    found = box.db.look(lambda reader: integrity.check_account(reader, box.account) + integrity.check_rest(reader))
    assert (table, field) in [(each.table, each.field) for each in found]
    assert box.db.look(lambda reader: integrity.check_account(reader, 9)) == []
