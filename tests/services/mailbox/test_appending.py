# SPDX-License-Identifier: Apache-2.0
"""Letters that people put in, without sessions: what is decided when, what is held, what a batch leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from posthouse.mail.address import parse_address
from posthouse.outcome import Refusal
from posthouse.ports import BlobLocation, Change, StoreFault
from posthouse.services.incoming import SPOOL_ABOVE
from posthouse.services.mailbox import appending
from posthouse.services.mailbox.appending import AppendDesk, Batch, Coming
from posthouse.services.mailbox.places import Place, Places
from posthouse.store import catalogue, integrity, mailboxes, rights, visitors
from posthouse.store.flags import ALL, DELETED, FLAGGED, SEEN
from posthouse.store.lookup import Account
from posthouse.store.notes import decode
from posthouse.store.refusal import MailboxRefusal, Reason
from tests.fakes import FakeBus
from tests.services.world import HandClock
from tests.store.letterbox import NOW, Box, new_account
from tests.store.plain_database import PlainDatabase, PlainSpool

LETTER = b"Message-ID: <one@x>\r\nSubject: Hello\r\n\r\nBody\r\n"


class House:
    """Bob, who acts; Carol, who shares."""

    def __init__(self) -> None:
        self.db = PlainDatabase()
        self.bob, self.carol = new_account(self.db, quota=1_000_000), new_account(self.db, "carol@bob.test")
        self.bus, self.clock = FakeBus(), HandClock()
        places = Places(self.db)
        self.desk = AppendDesk(places, self.db, self.db.blobs, self.bus, self.clock)
        address = parse_address("bob@bob.test")
        self.account = Account(
            self.bob.account, str(address), address, is_active=True, quota=None, language="en", is_admin=False, inbox=1
        )

    def begin(self, name: str = "Drafts", replaced: tuple[Place, int] | None = None) -> Batch:
        return self.desk.begin(self.account, name, "t1", replaced=replaced)

    async def put(self, *letters: bytes, name: str = "Drafts", looks: bool = True, **how: object) -> Place:
        batch = self.begin(name)
        try:
            for octets in letters:
                await batch.start(Coming(len(octets), **how), looks=looks)  # type: ignore[arg-type]
                for start in range(0, len(octets), 65_536):
                    await batch.add(octets[start : start + 65_536])
            place, _ = await batch.finish()
        finally:
            await batch.discard()
        return place

    def share(self, given: str) -> str:
        mailbox = self.carol.id("Drafts")
        self.db.run(lambda tx: rights.grant(tx, self.carol.account, mailbox, self.bob.account, given, NOW))
        return "Other Users/carol@bob.test/Drafts"

    def shown(self, box: Box, name: str = "Drafts") -> list[tuple[int, int]]:
        page = self.db.look(partial(catalogue.page, mailbox=box.id(name)))
        return list(zip(page.uids, page.flags, strict=True))

    @property
    def contents(self) -> list[bytes]:
        return [bytes(each) for each in self.db.blobs.contents.values()]


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    for box in (made.bob, made.carol):
        assert made.db.look(lambda reader, box=box: integrity.check_account(reader, box.account)) == []
    assert made.db.look(integrity.check_rest) == []


async def test_the_whole_of_a_batch_is_one_unit_and_one_hint(house: House) -> None:
    writes = house.db.writes
    place = await house.put(LETTER, LETTER + b"x", flags=FLAGGED, keywords=("Work",))
    assert (place.name, house.db.writes) == ("Drafts", writes + 1)
    assert house.shown(house.bob) == [(1, FLAGGED), (2, FLAGGED)]
    assert house.bus.published == [Change("account", house.bob.account)]


async def test_a_letter_that_comes_anyway_is_not_looked_after_before(house: House) -> None:
    """A visit to the database less for each letter of a client that does not wait; the answer is the same."""
    reads = house.db.reads
    await house.put(LETTER, looks=False)
    assert house.db.reads == reads
    await house.put(LETTER, LETTER, looks=False)
    assert house.db.reads == reads + 1, "before the second one comes"
    with pytest.raises(MailboxRefusal) as refused:
        await house.put(LETTER, name="Nowhere", looks=False)
    assert refused.value.reason is Reason.NONEXISTENT
    with pytest.raises(MailboxRefusal) as refused:
        await house.put(b"x" * 1_000_001, looks=False)
    assert refused.value.reason is Reason.OVERQUOTA
    assert house.shown(house.bob) == [(1, 0), (2, 0), (3, 0)]


@pytest.mark.parametrize(
    ("coming", "name", "reason"),
    [
        (Coming(10), "Nowhere", Reason.NONEXISTENT),
        (Coming(1_000_001), "Drafts", Reason.OVERQUOTA),
    ],
)
async def test_what_cannot_be_is_said_before_it_comes(house: House, coming: Coming, name: str, reason: Reason) -> None:
    batch = house.begin(name)
    with pytest.raises(MailboxRefusal) as refused:
        await batch.start(coming)
    assert refused.value.reason is reason
    await batch.discard()


async def test_words_that_are_no_keywords_are_refused_before_it_comes(house: House) -> None:
    batch = house.begin()
    with pytest.raises(Refusal):
        await batch.start(Coming(10, keywords=("two words",)))
    await batch.discard()


async def test_what_is_wrong_with_octets_is_said_at_the_end_and_nothing_of_it_is_held(house: House) -> None:
    batch = house.begin()
    await batch.start(Coming(600_000))
    await batch.add(b"\0" * 10)
    await batch.add(b"x" * 599_990)
    assert not batch._kept
    for act in (batch.start(Coming(10)), batch.finish()):
        with pytest.raises(MailboxRefusal) as refused:
            await act
        assert refused.value.reason is Reason.CANNOT
    assert house.shown(house.bob) == []


async def test_a_batch_holds_no_more_than_it_may(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small letters until there are too many of them, then each has a pack of its own; their order stays."""
    monkeypatch.setattr(appending, "MAX_HELD", 100)
    letters = [b"%d: %s\r\n" % (number, b"x" * 30) for number in range(5)]
    await house.put(*letters, b"y" * (SPOOL_ABOVE + 1))
    packs = [location.pack for location in house.db.blobs.contents]
    assert packs.count(1) == 2
    assert len(set(packs)) == 5
    rows = house.db.look(
        lambda reader: reader.rows(
            "SELECT b.pack, b.pack_offset, b.length FROM placement AS p JOIN email AS e ON e.id = p.email"
            " JOIN blob AS b ON b.id = e.blob ORDER BY p.uid"
        )
    )
    contents = house.db.blobs.contents
    assert [bytes(contents[BlobLocation(*row)]) for row in rows] == [*letters, b"y" * (SPOOL_ABOVE + 1)]


async def test_a_disk_that_fails_is_said_at_the_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_spool: PlainSpool, _chunk: bytes) -> None:
        raise StoreFault("no room")

    monkeypatch.setattr(PlainSpool, "write", fail)
    with pytest.raises(StoreFault):
        await house.put(b"x" * (2 * SPOOL_ABOVE))
    assert house.shown(house.bob) == []


async def test_who_has_no_right_may_not_and_flags_follow_the_rights(house: House) -> None:
    """RFC 4314 §4, decided where the letter is put in."""
    name = house.share("lr")
    for looks in (True, False):
        with pytest.raises(MailboxRefusal) as refused:
            await house.put(LETTER, name=name, looks=looks)
        assert refused.value.reason is Reason.NOPERM
    for given in ("lri", "lris", "lrit", "lriw", "lriswt"):
        house.share(given)
        place = await house.put(LETTER, name=name, flags=ALL, keywords=("work",), looks=False)
        assert (place.owner, place.rights) == (house.carol.account, rights.canonical(given))
    others = ALL & ~(SEEN | DELETED)
    assert house.shown(house.carol) == [(1, 0), (2, 0), (3, DELETED), (4, others), (5, others | DELETED)]
    seen = house.db.look(partial(visitors.seen, mailbox=house.carol.id("Drafts"), person=house.bob.account))
    assert [row.uid for row in seen] == [2, 5]
    assert house.bus.published[-1] == Change("account", house.carol.account)


async def test_replacing_in_two_accounts_is_told_to_both(house: House) -> None:
    name = house.share("lrite")
    place = await house.put(LETTER, name=name)
    batch = house.begin("Drafts", replaced=(place, 1))
    await batch.start(Coming(len(LETTER)))
    await batch.add(LETTER)
    target, done = await batch.finish()
    await batch.discard()
    assert (target.name, done.uids, done.vanished) == ("Drafts", ((1, 1),), ((1, 1),))
    assert (house.shown(house.bob), house.shown(house.carol)) == ([(1, 0)], [])
    assert {change.key for change in house.bus.published[-2:]} == {house.bob.account, house.carol.account}


@pytest.mark.parametrize("left", ["lri", "lrit", "lrie", "i", ""])
async def test_a_letter_was_replaced_by_somebody_who_had_lost_the_right_to_remove_it(house: House, left: str) -> None:
    """The rights on the mailbox of the letter that goes were those of the moment when it was selected."""
    place = await house.put(LETTER, name=house.share("lrite"))
    batch = house.begin("Drafts", replaced=(place, 1))
    await batch.start(Coming(len(LETTER)))
    await batch.add(LETTER)
    house.share(left)
    with pytest.raises(MailboxRefusal) as refused:
        await batch.finish()
    await batch.discard()
    assert refused.value.reason is Reason.NOPERM
    assert (house.shown(house.bob), house.shown(house.carol)) == ([], [(1, 0)])


@pytest.mark.parametrize("received_at", [-1e15, -4e10, 2e11, 1e15])
async def test_a_letter_of_another_century_could_not_be_rebuilt_from_its_pack(house: House, received_at: float) -> None:
    """The note beside its content had a time that reading notes took for damage: without a database the letter was
    lost, and compaction dropped the note of one with a pack of its own."""
    await house.put(LETTER, received_at=received_at)
    (note,) = house.db.blobs.notes.values()
    assert abs(decode(note).received_at) > 1e10


async def test_what_goes_makes_room_before_it_comes(house: House) -> None:
    place = await house.put(b"x" * 900_000)
    batch = house.begin("Drafts", replaced=(place, 1))
    await batch.start(Coming(1_000_000))
    with pytest.raises(MailboxRefusal):
        await house.begin("Drafts", replaced=(place, 1)).start(Coming(1_000_001))
    await batch.discard()


async def test_a_mailbox_that_goes_meanwhile_takes_nothing(house: House) -> None:
    mailbox = house.db.run(lambda tx: mailboxes.create(tx, house.bob.account, "Later", NOW))
    batch = house.begin("Later")
    await batch.start(Coming(len(LETTER)))
    await batch.add(LETTER)
    house.db.run(lambda tx: mailboxes.delete(tx, house.bob.account, mailbox.id, NOW))
    with pytest.raises(MailboxRefusal) as refused:
        await batch.finish()
    assert refused.value.reason is Reason.NONEXISTENT
    await batch.discard()
    assert house.shown(house.bob, "INBOX") == [], "not in the INBOX either, as delivery would do it"
