# SPDX-License-Identifier: Apache-2.0
"""Compaction on the real store: what lives stays readable whatever happens, what is dead goes, and only that."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from posthouse.mail.address import parse_address
from posthouse.ports import BlobLocation, Content, StoreFault
from posthouse.services import compaction
from posthouse.services.compaction import Compaction
from posthouse.services.directory import Account
from posthouse.services.maildrop import Maildrops
from posthouse.store import letters, mailboxes, messages, notes
from posthouse.store.blobs.packs import PackStore
from posthouse.store.blobs.record import Record, RecordKind
from posthouse.store.databases.sqlite import SqliteDatabase, open_sqlite
from posthouse.store.letters import LetterIn, Place
from posthouse.store.settings import StoreSettings
from tests.services.world import InstantBus
from tests.store.letterbox import NOW, PREFIX
from tests.store.machine import FaultyDisk, InlineWorkers, SeededEntropy, SetClock

SEAL = 3_000  # octets: some six letters fill a pack
SPOOLED = b"Subject: large\r\n\r\n" + b"0123456789abcdef\r\n" * 200


class Store:
    """The store of one account, to be crashed and opened again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.disk = FaultyDisk()
        self.clock = SetClock(NOW)
        self.workers = InlineWorkers()
        self.database: SqliteDatabase
        self.packs: PackStore
        self.account = 0
        self.inbox = 0

    async def open(self) -> Store:
        self.database, self.packs = open_sqlite(
            self.folder,
            self.disk,
            self.workers,
            self.clock,
            SeededEntropy(),
            settings=StoreSettings(seal_octets=SEAL, reserve_octets=1_000),
        )
        if not self.account:
            self.account = await self.database.write(_new_account)
            found = await self.database.read(lambda reader: mailboxes.by_name(reader, self.account, "INBOX"))
            assert found is not None
            self.inbox = found.id
        return self

    async def close(self) -> None:
        await self.database.close()
        await self.packs.close()

    async def again(self) -> Store:
        await self.close()
        return await self.open()

    def compaction(self, **parts: Any) -> Compaction:
        made = {"database": self.database, "packs": self.packs, "workers": self.workers, "clock": self.clock, **parts}
        return Compaction(**made, days=30)

    async def put(self, content: Content, octets: bytes) -> int:
        """Deliver; the email's id."""
        letter = LetterIn(content, NOW, "00ff", "alice@alice.test", b"\x90", header_size=2, has_dot_lines=False)
        place = Place(self.account, self.inbox, PREFIX)
        accepted = await self.database.write(lambda tx: letters.accept(tx, letter, [place]))
        return accepted.placed[0].email

    async def deliver(self, count: int, word: str = "letter") -> dict[int, bytes]:
        """Small letters; email id to octets."""
        put = {}
        for number in range(count):
            octets = f"\r\n{word} {number} ".encode().ljust(400, b".")
            put[await self.put(Content(len(octets), sha256(octets).digest(), octets=octets), octets)] = octets
        return put

    async def spool(self, octets: bytes = SPOOLED) -> int:
        spool = self.packs.spool()
        await spool.write(octets)
        sealed = await spool.seal()
        return await self.put(Content(len(octets), sha256(octets).digest(), sealed=sealed), octets)

    async def expunge(self, *emails: int) -> None:
        rows = await self.database.read(lambda reader: reader.rows("SELECT uid, email FROM placement"))
        uids = tuple((uid, uid) for uid, email in sorted(rows) if email in emails)
        await self.database.write(lambda tx: messages.expunge(tx, self.account, self.inbox, uids, now=self.clock.now))

    async def contents(self) -> dict[int, bytes]:
        """Every letter there is, read through its rows."""
        rows = await self.database.read(
            lambda reader: reader.rows(
                "SELECT email.id, pack, pack_offset, length, hash FROM email JOIN blob ON blob.id = email.blob"
            )
        )
        found = {}
        for email, pack, offset, length, digest in rows:
            octets = bytes(await self.packs.open(BlobLocation(pack, offset, length)))
            assert sha256(octets).digest() == digest
            found[email] = octets
        return found

    def records(self) -> list[Record]:
        found = [record for number in self.packs.numbers() for record in self.packs.records(number)]
        assert all(isinstance(record, Record) for record in found)
        return [record for record in found if isinstance(record, Record)]

    async def check_notes(self) -> None:
        """Every living letter is named by a note that says where its content lies: what a rebuild needs."""
        rows = await self.database.read(
            lambda reader: reader.rows("SELECT id, pack, pack_offset, length FROM blob ORDER BY id")
        )
        noted = {(notes.decode(each.note).blob, each.location) for each in self.records() if each.note}
        for blob, *place in rows:
            assert (blob, BlobLocation(*place)) in noted

    @property
    def octets_on_disk(self) -> bytes:
        return b"".join(path.read_bytes() for path in sorted((self.folder / "packs").glob("*.pack")))


def _new_account(tx: Any) -> int:
    account: int = tx.new_id()
    tx.run(
        "INSERT INTO account (id, tenant, name, state, created_at) VALUES (:id, 1, 'bob@bob.test', 'active', :now)",
        id=account,
        now=NOW,
    )
    mailboxes.create_account_mailboxes(tx, account, NOW)
    return account


@pytest.fixture
async def store(tmp_path: Path) -> Any:
    opened = await Store(tmp_path).open()
    yield opened
    await opened.close()


def halves(put: dict[int, bytes]) -> tuple[dict[int, bytes], dict[int, bytes]]:
    """Every third letter lives."""
    emails = list(put)
    return {e: put[e] for e in emails[::3]}, {e: put[e] for e in emails if e not in emails[::3]}


async def test_the_living_survive_and_the_dead_are_gone(store: Store) -> None:
    living, dead = halves(await store.deliver(30))
    await store.expunge(*dead)
    before = len(store.packs.numbers())
    assert await store.compaction().run() == sum(len(octets) for octets in dead.values())
    assert await store.contents() == living
    await store.check_notes()
    assert len(store.packs.numbers()) < before
    kept = store.octets_on_disk
    growing = set(list(dead.values())[-6:])  # the pack that still grows is left alone
    assert not [octets for octets in dead.values() if octets in kept and octets not in growing]
    await store.again()
    assert store.packs.recovery.findings == []
    assert await store.contents() == living


async def test_it_comes_to_an_end(store: Store) -> None:
    """Two runs, since the first one sealed the pack that was growing; the third has nothing to do."""
    _, dead = halves(await store.deliver(30))
    await store.expunge(*dead)
    await store.compaction().run()
    await store.compaction().run()
    files = store.octets_on_disk
    assert await store.compaction().run() == 0
    assert store.octets_on_disk == files


async def test_what_is_dead_too_long_goes_however_little_it_is(store: Store) -> None:
    put = await store.deliver(13)
    first = next(iter(put))
    await store.expunge(first)
    await store.compaction().run()
    assert put[first] in store.octets_on_disk
    store.clock.now += 30 * 86_400 + 1
    await store.compaction().run()
    assert put.pop(first) not in store.octets_on_disk
    assert await store.contents() == put


@pytest.mark.parametrize("is_done", [True, False])
@pytest.mark.parametrize("step", range(12))
async def test_a_crash_between_two_steps_loses_nothing_and_the_next_run_ends_it(
    store: Store, step: int, is_done: bool
) -> None:
    """The process ends at unit number `step`, before it or right after its commit; then it starts again."""
    large = await store.spool()
    living, dead = halves(await store.deliver(30))
    living[large] = SPOOLED
    await store.expunge(*dead)

    class Dying:
        units = 0

        async def write(self, unit: Callable[[Any], Any]) -> Any:
            self.units += 1
            if self.units <= step:
                return await store.database.write(unit)
            if is_done and self.units == step + 1:
                await store.database.write(unit)
            raise KeyboardInterrupt

        async def read(self, query: Callable[[Any], Any]) -> Any:
            return await store.database.read(query)

    try:
        await store.compaction(database=Dying()).run()
    except KeyboardInterrupt:
        pass
    else:
        assert step > 4, "it should have died before its end"
    await store.again()
    assert store.packs.recovery.findings == []
    assert await store.contents() == living
    await store.check_notes()
    await store.compaction().run()
    assert await store.contents() == living
    await store.check_notes()
    assert not [octets for octets in list(dead.values())[:-6] if octets in store.octets_on_disk]


async def test_the_note_of_a_spooled_letter_moves_on_when_its_pack_goes(store: Store) -> None:
    """It lies in a shared pack, as a record that refers to the letter's own; the rows do not know of it."""
    large = await store.spool()
    put = await store.deliver(12)
    (reference,) = [each for each in store.records() if each.kind is RecordKind.REFERENCE]
    await store.expunge(*put)
    await store.compaction().run()
    (carried,) = [each for each in store.records() if each.kind is RecordKind.REFERENCE]
    assert carried.note == reference.note
    assert carried.location == reference.location
    assert await store.contents() == {large: SPOOLED}
    await store.check_notes()
    await store.again()
    assert await store.contents() == {large: SPOOLED}


async def test_a_dead_spooled_letter_goes_with_its_file_and_its_note(store: Store) -> None:
    large = await store.spool()
    put = await store.deliver(12)
    files = len(store.packs.numbers())
    await store.expunge(large, *put)
    await store.compaction().run()
    assert len(store.packs.numbers()) < files
    assert SPOOLED not in store.octets_on_disk
    assert not [each for each in store.records() if each.kind is RecordKind.REFERENCE]


async def test_a_full_disk_gets_room_from_what_needs_none(store: Store) -> None:
    """Moving letters takes space; removing empty packs does not, and is not kept from it."""
    large = await store.spool()
    living, dead = halves(await store.deliver(30))
    await store.expunge(large, *dead)
    store.disk.free = 10
    await store.compaction().run()
    assert SPOOLED not in store.octets_on_disk
    assert await store.contents() == living
    store.disk.free = None
    await store.compaction().run()
    assert await store.contents() == living
    assert not [octets for octets in list(dead.values())[:-6] if octets in store.octets_on_disk]


async def test_a_damaged_letter_keeps_its_pack_and_no_other_one_from_moving(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "MOVED_AT_ONCE", 2)
    put = await store.deliver(12)
    emails = list(put)
    hurt, others = emails[0], emails[1:3]
    await store.expunge(*emails[3:6])
    first = store.packs.numbers()[0]
    path = store.folder / "packs" / f"{first:015d}.pack"
    path.write_bytes(path.read_bytes().replace(put[hurt], put[hurt].replace(b".", b"!")))
    await store.compaction().run()
    rows = await store.database.read(
        lambda reader: reader.rows("SELECT email.id FROM email JOIN blob ON blob.id = blob WHERE pack = :n", n=first)
    )
    assert rows == [(hurt,)]
    for email in others:
        row = await store.database.read(lambda reader, email=email: letters.retrieve(reader, email))
        assert bytes(await store.packs.open(row.location)) == put[email]


async def test_a_missing_pack_keeps_no_other_from_being_given_back(store: Store) -> None:
    put = await store.deliver(30)
    await store.expunge(*list(put)[:12])
    first = store.packs.numbers()[0]
    (store.folder / "packs" / f"{first:015d}.pack").unlink()
    await store.compaction().run()
    assert not [octets for octets in list(put.values())[6:12] if octets in store.octets_on_disk]


async def test_readers_and_open_maildrops_do_not_notice(store: Store) -> None:
    """A view stays valid when its pack goes, and a row read ahead is read again when its letter has moved."""
    put = await store.deliver(12)
    emails = list(put)
    account = Account(
        store.account,
        "bob@bob.test",
        parse_address("bob@bob.test"),
        True,
        None,
        "en",
        is_admin=False,
        inbox=store.inbox,
    )
    drop = await Maildrops(store.database, store.packs, InstantBus(), store.clock).open(account)
    view = (await drop.retrieve(1)).content
    await store.expunge(*emails[2:6])
    await store.compaction().run()
    assert bytes(view) == put[emails[0]]
    store.packs._maps.clear()
    assert bytes((await drop.retrieve(2)).content) == put[emails[1]]
    with pytest.raises(Exception, match="removed by another program"):
        await drop.retrieve(3)
    drop.release()


async def test_a_store_that_fails_is_told(store: Store) -> None:
    await store.expunge(*await store.deliver(3))

    class Broken:
        async def write(self, unit: Any) -> None:
            raise StoreFault("broken")

        async def read(self, query: Any) -> Any:
            return await store.database.read(query)

    with pytest.raises(StoreFault):
        await store.compaction(database=Broken()).run()
