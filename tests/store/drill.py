# SPDX-License-Identifier: Apache-2.0
"""A small real store for damage drills: two people, letters of every kind, and a memory of what was acknowledged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import apsw

from posthouse.mail.address import Domain, parse_address
from posthouse.mail.envelope import ForwardPath, ReversePath
from posthouse.mail.header import scan_header
from posthouse.mail.trace import delivered_to, return_path
from posthouse.ports import BlobLocation, Content
from posthouse.store import directory, letters, mailboxes, messages
from posthouse.store.blobs.packs import PackStore
from posthouse.store.databases.sqlite import DATABASE_FILE, SqliteDatabase, open_sqlite
from posthouse.store.letters import LetterIn, Place, Placed
from posthouse.store.queue import QueuedLetter, QueuedRecipient
from posthouse.store.settings import StoreSettings
from tests.store.machine import FaultyDisk, InlineWorkers, SeededEntropy, SetClock

DAY = 86_400.0
SENDER = "alice@alice.test"
BOB, CAROL = "bob@bob.test", "carol@bob.test"


def text(number: int, size: int = 300) -> bytes:
    """A letter of about so many octets, each different."""
    head = (
        f"Date: Mon, 2 Nov 2026 10:00:{number % 60:02} +0000\r\nFrom: Alice <{SENDER}>\r\nTo: {BOB}\r\n"
        f"Subject: letter {number}\r\nMessage-ID: <{number}@alice.test>\r\n\r\n"
    ).encode()
    line = f"This is line of letter {number}, with some words in it.\r\n".encode()
    return head + line * max(1, (size - len(head)) // len(line))


def flip(path: Path, octet: int, bit: int = 0) -> None:
    """One bit, where it is: who has the file mapped sees it too."""
    with path.open("r+b") as file:
        file.seek(octet)
        [old] = file.read(1)
        file.seek(octet)
        file.write(bytes((old ^ 1 << bit,)))


@dataclass
class Drill:
    """The store of bob and carol. `kept`: by email id, what a reader must get; `queued`: by queue id alike."""

    folder: Path
    clock: SetClock = field(default_factory=SetClock)
    disk: FaultyDisk = field(default_factory=FaultyDisk)
    kept: dict[int, bytes] = field(default_factory=dict)
    queued: dict[int, bytes] = field(default_factory=dict)
    placed: dict[int, Placed] = field(default_factory=dict)
    accounts: dict[str, int] = field(default_factory=dict)
    seal_octets: int = 3_000
    count: int = 0

    def __post_init__(self) -> None:
        self.database: SqliteDatabase
        self.packs: PackStore
        self.workers = InlineWorkers()

    async def open(self, **settings: Any) -> Drill:
        given = {"seal_octets": self.seal_octets, "reserve_octets": 1_000, **settings}
        self.workers = InlineWorkers()
        self.database, self.packs = open_sqlite(
            self.folder, self.disk, self.workers, self.clock, SeededEntropy(), settings=StoreSettings(**given)
        )
        if not self.accounts:
            await self.database.write(lambda tx: directory.add_domain(tx, Domain("bob.test"), self.clock.now))
            for name in (BOB, CAROL):
                await self.add_account(name)
        return self

    async def close(self) -> None:
        await self.database.close()
        await self.packs.close()

    async def again(self) -> Drill:
        await self.close()
        return await self.open()

    async def add_account(self, name: str) -> int:
        address = parse_address(name)
        number = await self.database.write(lambda tx: directory.add_account(tx, address, self.clock.now))
        self.accounts[name] = number
        return number

    async def mailbox(self, name: str, box: str = "INBOX") -> int:
        found = await self.database.read(lambda reader: mailboxes.by_name(reader, self.accounts[name], box))
        assert found is not None, box
        return found.id

    # --- letters ----------------------------------------------------------------------------------

    def letter(self, octets: bytes, sealed: BlobLocation | None = None) -> LetterIn:
        scan = scan_header(octets)
        digest = sha256(octets).digest()
        content = Content(len(octets), digest, octets=octets if sealed is None else None, sealed=sealed)
        return LetterIn(
            content=content,
            received_at=self.clock.now,
            trace=f"{self.count:016x}",
            reverse_path=SENDER,
            envelope_summary=scan.pack_envelope(),
            header_size=scan.header_size,
            has_dot_lines=b"\r\n." in octets,
            message_id=scan.message_id,
            in_reply_to=scan.in_reply_to,
            references=tuple(scan.references),
            subject=scan.get(b"subject") or b"",
        )

    async def place(self, name: str, box: str = "INBOX") -> Place:
        prefix = return_path(parse_address(SENDER)) + delivered_to(parse_address(name))
        return Place(self.accounts[name], await self.mailbox(name, box), prefix)

    async def deliver(self, *names: str, octets: bytes = b"", box: str = "INBOX", is_large: bool = False) -> list[int]:
        """One letter for all of them; the ids of their emails."""
        self.count += 1
        self.clock.now += 1
        octets = octets or text(self.count)
        sealed = await self.spool(octets) if is_large else None
        places = [await self.place(name, box) for name in names or (BOB,)]
        letter = self.letter(octets, sealed)
        accepted = await self.database.write(lambda tx: letters.accept(tx, letter, places))
        for placed in accepted.placed:
            prefix = next(place.prefix for place in places if place.account == placed.account)
            self.kept[placed.email] = prefix + octets
            self.placed[placed.email] = placed
        return [placed.email for placed in accepted.placed]

    async def spool(self, octets: bytes) -> BlobLocation:
        spool = self.packs.spool()
        await spool.write(octets)
        return await spool.seal()

    async def submit(self, *addresses: str, name: str = BOB) -> int:
        """One letter into the queue; its queue id."""
        self.count += 1
        self.clock.now += 1
        octets, now = text(self.count), self.clock.now
        recipients = tuple(
            QueuedRecipient(
                ForwardPath(parse_address(address)), address.partition("@")[2], now, now + 5 * DAY, warn_at=now + 14_400
            )
            for address in addresses or ("dave@elsewhere.test",)
        )
        queued = QueuedLetter(
            reverse_path=ReversePath(parse_address(name)),
            prefix=b"Received: by mail.bob.test\r\n",
            account=self.accounts[name],
            language="en",
            message_id=f"<{self.count}@alice.test>",
            size=len(octets),
            needs_eight_bit=False,
            needs_smtputf8=False,
            received_at=now,
            trace=f"{self.count:016x}",
            recipients=recipients,
        )
        letter = self.letter(octets)
        accepted = await self.database.write(lambda tx: letters.accept(tx, letter, [], queued))
        assert accepted.queue_id is not None
        self.queued[accepted.queue_id] = octets
        return accepted.queue_id

    async def expunge(self, *emails: int) -> None:
        for email in emails:
            placed = self.placed[email]
            uids = ((placed.uid, placed.uid),)
            await self.database.write(
                lambda tx, placed=placed, uids=uids: messages.expunge(
                    tx, placed.account, placed.mailbox, uids, now=self.clock.now
                )
            )
            del self.kept[email]

    async def fill(self) -> Drill:
        """Letters of every kind: for one, for two, large, queued, removed."""
        for _ in range(4):
            await self.deliver(BOB)
        await self.deliver(BOB, CAROL)
        await self.deliver(CAROL, box="Junk")
        await self.deliver(BOB, octets=text(99, 5_000), is_large=True)
        [removed] = await self.deliver(CAROL)
        await self.submit("dave@elsewhere.test", "erin@elsewhere.test")
        await self.expunge(removed)
        await self.deliver(CAROL)
        return self

    # --- looking ----------------------------------------------------------------------------------

    async def contents(self) -> dict[int, bytes]:
        """Every letter in a mailbox as a reader gets it; raises DamagedContent."""
        emails = await self.database.read(lambda reader: reader.rows("SELECT DISTINCT email FROM placement ORDER BY 1"))
        found = {}
        for (email,) in emails:
            stored = await self.database.read(lambda reader, email=email: letters.retrieve(reader, email))
            assert stored is not None
            found[email] = stored.prefix + bytes(await self.packs.open(stored.location))
        return found

    async def rows(self, sql: str, **parameters: Any) -> list[Any]:
        return await self.database.read(lambda reader: reader.rows(sql, **parameters))

    async def tell(self, sql: str, **parameters: Any) -> int:
        """Change rows behind everybody's back."""
        return await self.database.write(lambda tx: tx.run(sql, **parameters))

    # --- files ------------------------------------------------------------------------------------

    @property
    def pack_files(self) -> list[Path]:
        return sorted((self.folder / "packs").glob("*.pack"))

    @property
    def database_file(self) -> Path:
        return self.folder / DATABASE_FILE

    def flip(self, path: Path, octet: int, bit: int = 0) -> None:
        """One bit, as a bad disk does it."""
        flip(path, octet, bit)
        self.packs.forget_checked()
        self.packs._maps.clear()

    def find(self, octets: bytes) -> tuple[Path, int]:
        """Where these octets lie in the packs."""
        for path in self.pack_files:
            place = path.read_bytes().find(octets)
            if place >= 0:
                return path, place
        raise AssertionError("not in the packs")

    def sqlite(self, work: Callable[[apsw.Connection], Any]) -> Any:
        """On the closed database file."""
        connection = apsw.Connection(str(self.database_file))
        try:
            return work(connection)
        finally:
            connection.close()

    async def snapshot(self) -> Path:
        path = self.folder / "snapshots" / f"{int(self.clock.now // DAY):06d}.sqlite3"
        await self.database.snapshot(path)
        return path

    def copy_to(self, folder: Path) -> Drill:
        """The same files elsewhere, closed."""
        shutil.copytree(self.folder, folder)
        other = Drill(folder, clock=SetClock(self.clock.now), accounts=dict(self.accounts))
        other.kept, other.queued, other.placed = dict(self.kept), dict(self.queued), dict(self.placed)
        other.count = self.count
        return other
