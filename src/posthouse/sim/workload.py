# SPDX-License-Identifier: Apache-2.0
"""Some busy days of one server, for its disk: everything that writes happens, by chance, with every promise noted.

Invariant: a run is a function of its seed. The house is the real one, with its relay and its housekeeping, on a
recording disk in virtual time; only the hosts that it sends to are a script. It begins with the founding in an empty
folder; a server is stopped or killed now and then, and started again on what it left.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import re
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from posthouse.app import House, Machine, open_house
from posthouse.config import Settings, from_table
from posthouse.mail.address import parse_address
from posthouse.mail.envelope import Envelope, ForwardPath, ReversePath
from posthouse.outcome import DELIVERED, NO_ANSWER_FROM_HOST, Outcome, Refusal, RemoteReply, Status
from posthouse.ports import (
    Buffer,
    ConnectFault,
    IPAddress,
    MailConnection,
    MxRecord,
    NameNotFound,
    Peer,
    StoreFault,
    Target,
    TlsInfo,
)
from posthouse.services.maildrop import MaildropInUse
from posthouse.services.transaction import Client, MailTransaction
from posthouse.serving import Server
from posthouse.sim.disklog import Entry, Tree
from posthouse.sim.image import DiskState
from posthouse.sim.loop import Life, WorldLoop
from posthouse.sim.machine import CHEAP, InlineWorkers, SeededEntropy, WorldClock
from posthouse.sim.promises import (
    LETTER,
    REPORT,
    Accepted,
    Begun,
    Joined,
    NotRemoved,
    Refused,
    Removed,
    Removing,
    Seen,
    Taken,
    Thing,
)
from posthouse.sim.recording import Gate, Recorder, adopt
from posthouse.sim.tls import Certificate, WorldTlsUpgrader
from posthouse.store.queue_admin import Selection

DOMAIN = "alice.test"
HOSTNAME = f"mail.{DOMAIN}"
ACCOUNTS = tuple(f"{name}@{DOMAIN}" for name in ("alice", "anna", "arthur", "ada"))
LIST = f"all@{DOMAIN}"  # the first three
OUTSIDE = ("bob@bob.test", "ben@bob.test", "carol@carol.test", "dan@dan.test")
PASSWORD = "words of this house"  # noqa: S105 - of a simulated person
PEER = Peer("192.0.2.9", 40_000, "192.0.2.1", 25, "cut")
PACK_OCTETS = 24 * 1024  # a pack is sealed after a handful of letters
CHECKPOINT_PAGES = 60  # some bursts fill the log so far while they last, others leave it for idle time
SPOOLED = (262_145, 290_000)  # octets: just above what is held in memory, to keep images small
BURST = (1, 6)  # things that happen at once
MINUTE, HOUR = 60.0, 3600.0
DRAIN = 30.0
PATIENCE = 200  # times that something is tried while the disk fails

_LETTER = re.compile(rb"Message-ID: <(\d+)\.letter@")


def settings() -> Settings:
    made = from_table({"hostname": HOSTNAME, "store": {"keep_dead": "2h", "snapshots_kept": 1}}, "the workload")
    return made.model_copy(update={"store": made.store.model_copy(update={"pack_size": PACK_OCTETS})})


def thing_of(prefix: bytes, content: Buffer) -> Thing | None:
    """What a letter of a mailbox is; None for what nobody here wrote."""
    octets = bytes(content)
    found = _LETTER.search(octets)
    if found is None:
        return None
    return REPORT if prefix.startswith(b"Return-Path: <>\r\n") else LETTER, int(found[1])


# --- the world outside ------------------------------------------------------------------------------


class OutsideResolver:
    """Every domain has one mail host of its own name."""

    async def mx(self, domain: str) -> list[MxRecord]:
        return [MxRecord(10, f"mx.{domain}")]

    async def addresses(self, host: str) -> list[IPAddress]:
        return [ipaddress.ip_address(f"198.51.100.{sum(host.encode()) % 200 + 1}")]

    async def txt(self, name: str) -> list[bytes]:
        raise NameNotFound(name)

    async def names(self, address: IPAddress) -> list[str]:
        raise NameNotFound(str(address))


class Outside:
    """The other servers: `mood` is the share of what they take at the first try. Implements MailTransport."""

    def __init__(self, chance: Random, recorder: Recorder, mood: float) -> None:
        self.mood = mood
        self._chance = chance
        self._recorder = recorder

    async def connect(self, target: Target) -> MailConnection:
        await asyncio.sleep(0.05)
        if self._chance.random() > self.mood + 0.3:
            raise ConnectFault(Outcome(NO_ANSWER_FROM_HOST, "connection refused", target.host, target.address))
        return _OutsideConnection(self, target)

    def answer(self, path: ForwardPath, letter: int | None) -> RemoteReply:
        draw = self._chance.random()
        if draw < self.mood:
            if letter is not None:
                self._recorder.note(Taken(letter, str(path)))
            return RemoteReply(250, DELIVERED, "taken")
        if draw < self.mood + 0.1:
            return RemoteReply(550, Status(5, 1, 1), "nobody here by that name")
        return RemoteReply(451, Status(4, 3, 0), "not now")


class _OutsideConnection:
    def __init__(self, outside: Outside, target: Target) -> None:
        self.extensions: Mapping[str, str] = {"PIPELINING": "", "8BITMIME": "", "SMTPUTF8": "", "DSN": ""}
        self.tls: TlsInfo | None = None
        self._outside = outside
        self._target = target

    @property
    def is_usable(self) -> bool:
        return True

    async def send(self, envelope: Envelope, content: Sequence[Buffer]) -> list[Outcome]:
        await asyncio.sleep(0.1)
        found = _LETTER.search(b"".join(bytes(part[: 1 << 14]) for part in content))
        letter = int(found[1]) if found and envelope.reverse_path.address is not None else None
        replies = [self._outside.answer(path, letter) for path in envelope.forward_paths]
        target = self._target
        return [
            Outcome(reply.status or DELIVERED, f"{reply.code} {reply.text}", target.host, target.address, "", reply)
            for reply in replies
        ]

    async def close(self) -> None:
        return


# --- one server, through its lives ------------------------------------------------------------------


class Premises:
    """The data directory, from its founding on. Every life after a kill has a folder of its own, a copy: what the
    dead one still closes cannot touch it."""

    def __init__(
        self,
        seed: str,
        home: Path,
        sink: Callable[[Entry], None],
        *,
        disks: Sequence[DiskState] = (),
        gate: Gate | None = None,
        mood: float = 0.6,
    ) -> None:
        """`home` takes the folders of all lives; where it has the first one, that is what is found. `disks` are told
        of what is found there."""
        self.loop = WorldLoop()  # type: ignore[abstract]  # what it lacks nobody in the house asks for
        self.chance = Random(f"{seed}/workload")  # noqa: S311 - reproducible on purpose
        self.seed = seed
        self.folder = home / "1"
        self.house: House
        self.outside: Outside
        self.starts = 0
        self._home = home
        self._sink = sink
        self._gate = gate
        self._mood = mood
        self._tree = Tree()
        self._life: Life | None = None
        self._server: Server | None = None
        self.recorder: Recorder
        self.folder.mkdir(exist_ok=True)
        adopt(self.folder, self._tree, disks)

    def machine(self, life: Life) -> Machine:
        seed = f"{self.seed}/{self.starts}"
        entropy = SeededEntropy(f"{seed}/entropy")
        chance = Random(f"{seed}/workers")  # noqa: S311 - as above
        return Machine(
            clock=WorldClock(self.loop),
            entropy=entropy,
            disk=self.recorder.disk,
            workers=lambda: InlineWorkers(life, self.loop, chance),
            resolver=lambda _settings: OutsideResolver(),
            transport=lambda: self.outside,
            vfs=self.recorder.vfs,
            checkpoint_pages=CHECKPOINT_PAGES,
            password_cost=CHEAP,
            dkim_algorithms=("ed25519",),
        )

    async def start(self) -> None:
        """Raises StoreFault, and then it is as if it had not been called."""
        self.starts += 1
        self.recorder = Recorder(self.folder, self._sink, self._tree, gate=self._gate)
        outside = Random(f"{self.seed}/{self.starts}/outside")  # noqa: S311 - as above
        self.outside = Outside(outside, self.recorder, self._mood)
        self._life = Life("house", "192.0.2.1")
        try:
            await self.inside(self._open(self.machine(self._life)))
        except BaseException:
            self.kill()
            raise

    async def _open(self, machine: Machine) -> None:
        self.house = open_house(self.folder, settings(), machine)
        self._server = Server(self.house, {}, WorldTlsUpgrader(Certificate((HOSTNAME,))))
        await self._server.start()

    async def inside(self, work: Coroutine[Any, Any, Any]) -> Any:
        assert self._life is not None
        return await self.loop.create_task(work, context=self._life.context)

    async def stop(self) -> None:
        assert self._server is not None
        server, self._server = self._server, None
        await self.inside(server.stop(DRAIN))
        self._end()

    def kill(self) -> None:
        """As by kill -9."""
        self._end()
        self._server = None
        new = self._home / str(self.starts + 1)
        shutil.copytree(self.folder, new, ignore=shutil.ignore_patterns("*-shm"))
        self.folder = new

    def _end(self) -> None:
        self.recorder.end()
        if self._life is not None:
            self.loop.end(self._life)
            self._life = None

    def leave(self) -> None:
        """Nobody needs it any more: the power went, or enough was seen."""
        if self._life is not None:
            self._end()
        self.loop.close()

    def note(self, what: Any) -> None:
        self.recorder.note(what)


class Workload:
    """What happens in a house. `count` numbers the letters."""

    def __init__(self, premises: Premises) -> None:
        self.premises = premises
        self.chance = premises.chance
        self.count = 0
        self.accounts: list[str] = []
        self.trouble: list[str] = []

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
                    thing = thing_of(letter.prefix, letter.content[: 1 << 14])
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

    async def run(self, bursts: int) -> None:
        """From the founding to the end of the last life."""
        await self.begin()
        for number in range(bursts):
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


def record(seed: str, folder: Path, *, bursts: int) -> tuple[list[Entry], list[str]]:
    """Play a workload in a folder; its log, and what went wrong that should not have."""
    log: list[Entry] = []
    premises = Premises(seed, folder, log.append)
    workload = Workload(premises)
    try:
        premises.loop.run(workload.run(bursts))
    finally:
        premises.leave()
    return log, [*workload.trouble, *premises.loop.faults]
