# SPDX-License-Identifier: Apache-2.0
"""Some busy days of one server, for its disk: everything that writes happens, by chance, with every promise noted.

Invariant: a run is a function of its seed. It begins with the founding in an empty folder; the server is stopped or
killed now and then, and started again on what it left.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posthouse.app import House
from posthouse.mail.address import parse_address
from posthouse.mail.envelope import ForwardPath, ReversePath
from posthouse.outcome import Refusal
from posthouse.ports import Peer, StoreFault
from posthouse.services.maildrop import MaildropInUse
from posthouse.services.transaction import Client, MailTransaction, store_refusal
from posthouse.sim.disklog import Entry, FolderSynced, Synced
from posthouse.sim.premises import DOMAIN, Premises
from posthouse.sim.promises import (
    Accepted,
    Begun,
    Joined,
    NotRemoved,
    Refused,
    Removed,
    Removing,
    Seen,
    Thing,
    thing_of,
)
from posthouse.store.queue_admin import Selection

ACCOUNTS = tuple(f"{name}@{DOMAIN}" for name in ("alice", "anna", "arthur", "ada"))
LIST = f"all@{DOMAIN}"  # the first three
OUTSIDE = ("bob@bob.test", "ben@bob.test", "carol@carol.test", "dan@dan.test")
PASSWORD = "words of this house"  # noqa: S105 - of a simulated person
PEER = Peer("192.0.2.9", 40_000, "192.0.2.1", 25, "cut")
SPOOLED = (262_145, 290_000)  # octets: just above what is held in memory, to keep images small
BURST = (1, 6)  # things that happen at once
MINUTE, HOUR = 60.0, 3600.0
PATIENCE = 200  # times that something is tried while the disk fails


class Workload:
    """What happens in a house. `count` numbers the letters. `trouble`: whatever did not go well."""

    def __init__(self, premises: Premises) -> None:
        self.premises = premises
        self.chance = premises.chance
        self.count = 0
        self.accounts: list[str] = []
        self.trouble: list[str] = []
        self.refusals: list[Refusal] = []  # of letters

    @property
    def house(self) -> House:
        return self.premises.house

    # --- founding ---------------------------------------------------------------------------------

    async def found(self) -> None:
        await self.insist(lambda: self.house.administration.add_domain(DOMAIN))
        for address in ACCOUNTS[:3]:
            await self.join(address)
        await self.insist(lambda: self.house.administration.add_alias(LIST, ACCOUNTS[:3]))

    async def join(self, address: str) -> None:
        await self.insist(lambda: self.house.administration.add_account(address, PASSWORD))
        self.premises.note(Joined(address))
        self.accounts.append(address)

    async def insist(self, deed: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Where the disk fails, the operator tries again. What was refused must not be there already."""
        for _ in range(PATIENCE):
            try:
                await deed()
            except StoreFault as fault:
                self.trouble.append(f"the operator: {fault}")
                await asyncio.sleep(1)
            else:
                return
        raise StoreFault(f"refused {PATIENCE} times")

    # --- letters ----------------------------------------------------------------------------------

    def compose(self, sender: str, recipients: Sequence[str], size: int) -> bytes:
        self.count += 1
        head = (
            f"From: {sender}\r\nTo: {', '.join(recipients)}\r\nDate: Fri, 15 Jan 2027 08:00:00 +0000\r\n"
            f"Message-ID: <{self.count}.letter@power.test>\r\nSubject: letter {self.count}\r\n\r\n"
        ).encode()
        line = self.chance.randbytes(30).hex().encode() + b"\r\n"
        return head + b".%d\r\n" % self.count + line * max((size - len(head)) // len(line), 1)

    def size(self) -> int:
        draw = self.chance.random()
        return (
            self.chance.randint(*SPOOLED) if draw < 0.08 else self.chance.randint(200, 6000 if draw < 0.9 else 30_000)
        )

    async def arrive(self) -> None:
        """A letter from outside, for one, several or a list."""
        recipients = [LIST] if self.chance.random() < 0.2 else self._some(self.accounts, 3)
        accounts = tuple(ACCOUNTS[:3]) if recipients == [LIST] else tuple(recipients)
        client = Client(PEER, hello="mail.bob.test", is_extended=True, protocol="ESMTP")
        sender = self.chance.choice(OUTSIDE)
        letter = self.compose(sender, recipients, self.size())
        number = self._begin(letter, "", accounts, ())
        await self._send(lambda path: self.house.reception.begin(client, path), sender, recipients, letter, number)

    async def submit(self) -> None:
        """A letter from a user, to the outside and sometimes to others here too."""
        sender = self.chance.choice(self.accounts)
        remote = self._some(OUTSIDE, 3)
        local = self._some(self.accounts, 2) if self.chance.random() < 0.3 else []
        account = await self.house.directory.account(sender)
        assert account is not None
        client = Client(PEER, hello="laptop", is_extended=True, protocol="ESMTPSA", account=account)
        letter = self.compose(sender, [*remote, *local], self.size())
        number = self._begin(letter, sender, tuple(local), tuple(remote))
        await self._send(
            lambda path: self.house.submission.begin(client, path), sender, [*remote, *local], letter, number
        )

    def _some(self, of: Sequence[str], most: int) -> list[str]:
        return self.chance.sample(of, self.chance.randint(1, min(most, len(of))))

    def _begin(self, letter: bytes, sender: str, accounts: tuple[str, ...], remote: tuple[str, ...]) -> int:
        digest = hashlib.sha256(letter).digest()
        self.premises.note(Begun(self.count, digest, sender, accounts, remote))
        return self.count

    async def _send(self, begin: Any, sender: str, recipients: Sequence[str], letter: bytes, number: int) -> None:
        transaction: MailTransaction | None = None
        try:
            transaction = await begin(ReversePath(parse_address(sender), size=len(letter)))
            for recipient in recipients:
                await transaction.add_recipient(ForwardPath(parse_address(recipient)))
            await transaction.begin_content()
            for start in range(0, len(letter), 1 << 16):
                await transaction.add_content(letter[start : start + (1 << 16)])
            await transaction.finish()
        except (Refusal, StoreFault) as refusal:
            self.premises.note(Refused(number))
            self.refusals.append(store_refusal(refusal) if isinstance(refusal, StoreFault) else refusal)
            self.trouble.append(f"letter {number}: {refusal}")
        else:
            self.premises.note(Accepted(number))
        finally:
            if transaction is not None:
                await transaction.discard()

    # --- reading ----------------------------------------------------------------------------------

    async def read(self) -> None:
        """Somebody reads the mail and takes some of it away."""
        name = self.chance.choice(self.accounts)
        try:
            async with self._maildrop(name) as drop:
                things = {}
                for number in drop.numbers():
                    letter = await drop.retrieve(number)
                    thing = thing_of(letter.prefix, letter.content)
                    if thing is not None and self.chance.random() < 0.6:
                        things[number] = thing
                if things:
                    await self._remove(name, drop, things)
        except MaildropInUse:
            return
        except Refusal as refusal:
            self.trouble.append(f"{name} reads: {refusal}")

    @asynccontextmanager
    async def _maildrop(self, name: str) -> AsyncIterator[Any]:
        account = await self.house.directory.account(name)
        assert account is not None
        drop = await self.house.maildrops.open(account)
        try:
            yield drop
        finally:
            drop.release()

    async def _remove(self, name: str, drop: Any, things: dict[int, Thing]) -> None:
        all_of_it = tuple(things.values())
        for number in things:
            drop.delete(number)
        self.premises.note(Removing(name, all_of_it))
        try:
            await drop.commit()
        except StoreFault:
            self.premises.note(NotRemoved(name, all_of_it))
            raise
        self.premises.note(Removed(name, all_of_it))

    async def look(self) -> None:
        """What clients see now."""
        statement = (
            "SELECT placement.mailbox, mailbox.uid_validity, placement.uid, placement.email FROM placement"
            " JOIN mailbox ON mailbox.id = placement.mailbox"
        )
        rows = await self.house.database.read(lambda reader: reader.rows(statement))
        self.premises.note(Seen(tuple(((row[0], row[1], row[2]), row[3]) for row in rows)))

    # --- the operator -----------------------------------------------------------------------------

    async def operate(self) -> None:
        desk, everything = self.house.queue_desk, Selection()
        match self.chance.randrange(5):
            case 0:
                await desk.hold(everything)
            case 1 | 2:
                await desk.release(everything)
            case 3:
                await desk.retry_now(everything)
            case _:
                await desk.drop(Selection.parse(self.chance.choice(OUTSIDE).partition("@")[2]), tell_sender=True)

    # --- days -------------------------------------------------------------------------------------

    async def burst(self) -> None:
        """Some things at once."""
        deeds = (self.arrive, self.arrive, self.arrive, self.submit, self.submit, self.read, self.operate)
        chosen = [self.chance.choice(deeds) for _ in range(self.chance.randint(*BURST))]
        await self.premises.inside(self._together([deed() for deed in chosen]))

    async def _together(self, deeds: Sequence[Coroutine[Any, Any, None]]) -> None:
        async with asyncio.TaskGroup() as group:
            for deed in deeds:
                group.create_task(self._try(deed))
        await self._try(self.look())

    async def _try(self, deed: Coroutine[Any, Any, None]) -> None:
        try:
            await deed
        except StoreFault as fault:
            self.trouble.append(f"somebody: {fault}")

    async def run(self, bursts: int, is_enough: Callable[[], bool] = lambda: False) -> None:
        """From the founding to the end of the last life. `is_enough` may end it earlier."""
        await self.begin()
        for number in range(bursts):
            if is_enough():
                break
            await self.day(number, bursts)
        await self.premises.stop()

    async def begin(self) -> None:
        await self.insist(self.premises.start)
        await self.premises.inside(self.found())

    async def day(self, number: int, bursts: int) -> None:
        """One of so many bursts, and the time after it."""
        await self.burst()
        await asyncio.sleep(self.chance.choice((0.001, 0.3, 2.0, 10 * MINUTE, 3 * HOUR)))
        if number == bursts // 3:
            await self.premises.inside(self.join(ACCOUNTS[3]))
        if self.chance.random() < 0.15:
            await self.restart()

    async def restart(self) -> None:
        if self.chance.random() < 0.5:
            await self.premises.stop()
        else:
            await self.premises.inside(self._interrupted())
            self.premises.kill()
        await asyncio.sleep(self.chance.choice((1.0, HOUR)))
        await self.insist(self.premises.start)

    async def _interrupted(self) -> None:
        """Things are under way when the kill comes."""
        for deed in (self.arrive, self.submit, self.read):
            asyncio.create_task(deed())  # noqa: RUF006 - it dies with this life
        await asyncio.sleep(self.chance.uniform(0, 0.05))


@dataclass(slots=True)
class Played:
    """A workload's log, with the time of each entry, and what went wrong that should not have."""

    log: list[Entry] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)


def record(seed: str, folder: Path, *, bursts: int, enough_syncs: int) -> Played:
    """Play a workload in a folder, of so many bursts, or fewer when it has had enough sync points."""
    played = Played()
    syncs = 0

    def listen(entry: Entry) -> None:
        nonlocal syncs
        played.log.append(entry)
        played.times.append(premises.loop.time())
        syncs += isinstance(entry, Synced | FolderSynced)

    premises = Premises(seed, folder, listen)
    workload = Workload(premises)
    try:
        premises.loop.run(workload.run(bursts, lambda: syncs >= enough_syncs))
    finally:
        premises.leave()
    played.trouble += [*workload.trouble, *premises.loop.faults]
    return played
