# SPDX-License-Identifier: Apache-2.0
"""One real house on a recording disk, through its lives: founded, stopped, killed, started again, in virtual time.

Invariant: what outlives a life is its data directory alone; the hosts that it sends to are a script of chance.
"""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from posthouse.app import House, open_house
from posthouse.composing.ground import Machine
from posthouse.config import Settings, from_table
from posthouse.mail.envelope import Envelope, ForwardPath
from posthouse.outcome import DELIVERED, NO_ANSWER_FROM_HOST, Outcome, RemoteReply, Status
from posthouse.ports import (
    Buffer,
    ConnectFault,
    IPAddress,
    MailConnection,
    MxRecord,
    NameNotFound,
    Proven,
    Target,
    TlsaRecord,
    TlsInfo,
    TlsTrouble,
)
from posthouse.serving import Server
from posthouse.sim.disklog import Entry, Tree
from posthouse.sim.image import DiskState
from posthouse.sim.loop import Life, WorldLoop
from posthouse.sim.machine import CHEAP, InlineWorkers, SeededEntropy, WorldClock
from posthouse.sim.promises import Taken, letter_number
from posthouse.sim.recording import Gate, Recorder, adopt
from posthouse.sim.tls import Certificate, WorldTlsUpgrader
from posthouse.sim.web import NoWeb

DOMAIN = "alice.test"
HOSTNAME = f"mail.{DOMAIN}"
PACK_OCTETS = 24 * 1024  # a pack is sealed after a handful of letters
CHECKPOINT_PAGES = 60  # some bursts fill the log so far while they last, others leave it for idle time
DRAIN = 30.0  # seconds that the relay gets at a stop, as process.drain


def settings() -> Settings:
    made = from_table({"hostname": HOSTNAME, "store": {"keep_dead": "2h", "snapshots_kept": 1}}, "the workload")
    return made.model_copy(update={"store": made.store.model_copy(update={"pack_size": PACK_OCTETS})})


# --- the world outside ------------------------------------------------------------------------------


class OutsideResolver:
    """Every domain has one mail host of its own name."""

    async def mx(self, domain: str) -> list[MxRecord]:
        return [MxRecord(10, f"mx.{domain}")]

    async def addresses(self, host: str, version: int = 0) -> list[IPAddress]:
        return [] if version == 6 else [ipaddress.ip_address(f"198.51.100.{sum(host.encode()) % 200 + 1}")]

    async def txt(self, name: str) -> list[bytes]:
        raise NameNotFound(name)

    async def names(self, address: IPAddress) -> list[str]:
        raise NameNotFound(str(address))

    async def proven_mx(self, domain: str) -> Proven[MxRecord]:
        return Proven(tuple(await self.mx(domain)), is_authentic=False, name=domain)

    async def proven_addresses(self, host: str) -> Proven[IPAddress]:
        return Proven(tuple(await self.addresses(host)), is_authentic=False, name=host)

    async def proven_alias(self, host: str) -> Proven[str]:
        return Proven((), is_authentic=False, name=host)

    async def tlsa(self, name: str) -> Proven[TlsaRecord]:
        raise NameNotFound(name)

    async def distrust(self) -> str:
        return "nothing is signed out there"

    async def passed_over(self) -> list[str]:
        return []

    async def records(self, name: str, kind: str) -> list[str]:
        raise NameNotFound(name)


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
        self.trouble: TlsTrouble | None = None
        self._outside = outside
        self._target = target

    @property
    def is_usable(self) -> bool:
        return True

    async def send(self, envelope: Envelope, content: Sequence[Buffer]) -> list[Outcome]:
        await asyncio.sleep(0.1)
        letter = letter_number(b"".join(bytes(part[: 1 << 14]) for part in content))
        if envelope.reverse_path.address is None:
            letter = None  # a report about it
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
        at: float = 0.0,
    ) -> None:
        """Its first start comes `at` so many seconds after the world's beginning. `home` takes the folders of all
        lives; where it has the first one, that is what is found, and `disks` are told of it."""
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
        self._at = at
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
            web=lambda _: NoWeb(),
            vfs=self.recorder.vfs,
            checkpoint_pages=CHECKPOINT_PAGES,
            password_cost=CHEAP,
            dkim_algorithms=("ed25519",),
        )

    async def start(self) -> None:
        """Raises StoreFault, and then it is as if it had not been called."""
        await self.open()
        await self.serve()

    async def open(self) -> None:
        """The store alone, recovery included; nobody works in it yet. Raises as `start`."""
        if not self.starts:
            await asyncio.sleep(self._at)
        self.starts += 1
        self.recorder = Recorder(self.folder, self._sink, self._tree, gate=self._gate)
        outside = Random(f"{self.seed}/{self.starts}/outside")  # noqa: S311 - as above
        self.outside = Outside(outside, self.recorder, self._mood)
        self._life = Life("house", "192.0.2.1")
        await self._guarded(self._open(self.machine(self._life)))

    async def serve(self) -> None:
        """After `open`. Raises as `start`."""
        await self._guarded(self._serve())

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await self.inside(work)
        except BaseException:
            self.kill()
            raise

    async def _open(self, machine: Machine) -> None:
        self.house = open_house(self.folder, settings(), machine)

    async def _serve(self) -> None:
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
