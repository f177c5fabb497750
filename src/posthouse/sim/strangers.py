# SPDX-License-Identifier: Apache-2.0
"""Strangers: mail servers of the world that are not posthouse, and have manners of their own.

Invariant: a stranger shares no code of protocols with the servers that it meets, and knows for itself what it
kept and what it was promised: `kept` and `sent` are the evidence at the end of a world.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from posthouse.mail.dates import format_date
from posthouse.sim.dns import WorldDns, WorldResolver
from posthouse.sim.loop import Life
from posthouse.sim.network import Network
from posthouse.sim.strangers_client import EPOCH, Call, Conversation, Guise, SentLetter, compose
from posthouse.sim.strangers_manners import GOOD, Act, Manners, Stage
from posthouse.sim.strangers_server import KeptLetter, StrangeSession
from posthouse.sim.strangers_wire import Wire

SMTP_PORT = 25


class Stranger:
    """`hostname` is in DNS at `address`, and the MX of `domain`, from the beginning."""

    def __init__(
        self,
        address: str,
        hostname: str,
        domain: str,
        *,
        network: Network,
        dns: WorldDns,
        seed: str,
        manners: Manners = GOOD,
        note: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """`note` is told of each thing that goes wrong here, for the world's log."""
        self.address = address
        self.hostname = hostname
        self.domain = domain
        self.kept: list[KeptLetter] = []
        self.sent: list[SentLetter] = []
        self.forwards: dict[str, str] = {}  # a recipient here -> where their mail goes on to
        self.passed_on: list[SentLetter] = []  # by a forward, and the bounces that came of it
        self.note = note
        self.visits = 0  # connections that its server accepted
        self._network = network
        self._loop = network.loop
        self._resolver = WorldResolver(dns)
        self._chance = Random(f"{seed}/{hostname}")  # noqa: S311 - reproducible on purpose
        self._life: Life | None = None
        # Letters are written by a program of its own, which a stop of the server does not end.
        self._writer = Life(f"{hostname} (writing)", address)
        self._written = 0
        self._passing: dict[asyncio.Task[None], None] = {}
        self._greylist: dict[tuple[str, str, str], float] = {}  # when first seen
        self._times: dict[int, int] = {}  # habit, by its number -> how often it has come
        self._manners = manners
        dns.add_host(hostname, address)
        dns.add_mx(domain, hostname)
        dns.add_txt(domain, b"v=spf1 mx -all")
        dns.add_txt(hostname, b"v=spf1 a -all")
        # It signs nothing, and its letters are passed on by others: it cannot ask for more.
        dns.add_txt(f"_dmarc.{domain}", b"v=DMARC1; p=none")

    # --- as a server ------------------------------------------------------------------------------

    @property
    def manners(self) -> Manners:
        return self._manners

    @manners.setter
    def manners(self, manners: Manners) -> None:
        """From now on, also in sessions that are open."""
        self._manners = manners
        self._times.clear()

    @property
    def is_up(self) -> bool:
        return self._life is not None

    @property
    def now(self) -> float:
        return self._loop.time()

    async def start(self) -> None:
        assert self._life is None, f"{self.hostname} is up"
        self._life = Life(self.hostname, self.address)
        listening = self._loop.create_server(self._welcome, self.address, SMTP_PORT)
        await self._loop.create_task(listening, context=self._life.context)

    def stop(self) -> None:
        """At once, whatever it is doing; what it kept it keeps."""
        life, self._life = self._life, None
        if life is not None:
            self._loop.end(life)
            self._network.end(life)

    def end(self) -> None:
        """The end of the world: nothing of it runs any more."""
        self.stop()
        self._loop.end(self._writer)
        self._network.end(self._writer)

    def _welcome(self) -> Wire:
        self.visits += 1
        return _Door(self)

    def act(self, stage: Stage) -> Act | None:
        for number, habit in enumerate(self._manners.habits):
            times = self._times.get(number, 0)
            if habit.stage is not stage or (habit.times is not None and times >= habit.times):
                continue
            if habit.chance >= 1.0 or self._chance.random() < habit.chance:
                self._times[number] = times + 1
                return habit.act
        return None

    def is_greylisted(self, client: str, reverse_path: str, recipient: str) -> bool:
        if self._manners.greylist is None:
            return False
        first = self._greylist.setdefault((client, reverse_path, recipient), self.now)
        return self.now - first < self._manners.greylist

    # --- as a client ------------------------------------------------------------------------------

    async def write(
        self, to: str, letter: bytes | None = None, call: Call = Call.POLITE, guise: Guise = Guise.HONEST
    ) -> SentLetter:
        """Send a letter (None: one of its own) to the mail host of that address, and remember what came of it.
        Whatever the host does, this ends, at the latest some minutes after its last word."""
        self._written += 1
        octets = compose(self._written, self.domain, to, guise) if letter is None else letter
        sent = SentLetter(to, octets, call, at=self.now, reverse_path=f"somebody@{self.domain}", guise=guise)
        self.sent.append(sent)
        await self._loop.create_task(self._send(sent), context=self._writer.context)
        return sent

    async def _send(self, sent: SentLetter) -> None:
        await Conversation(sent, self.hostname, self._resolver, self._chance).run()
        self.note(f"{self.hostname} sent {sent}")

    # --- passing on -------------------------------------------------------------------------------

    def keep(self, letter: KeptLetter) -> None:
        """It took responsibility for this one, or behaves so."""
        self.kept.append(letter)
        for recipient in letter.recipients:
            if recipient in self.forwards:
                passing = self._loop.create_task(self._pass_on(letter, recipient), context=self._writer.context)
                self._passing[passing] = None
                passing.add_done_callback(lambda done: self._passing.pop(done, None))

    async def _pass_on(self, letter: KeptLetter, recipient: str) -> None:
        """Once, with a trace of its own; what is not taken goes back to its sender."""
        trace = f"Received: by {self.hostname} for <{recipient}>; {format_date(EPOCH + self.now)}\r\n".encode()
        to = self.forwards[recipient]
        sent = SentLetter(to, trace + letter.content, Call.POLITE, self.now, reverse_path=letter.reverse_path)
        self.passed_on.append(sent)
        await self._send(sent)
        if sent.is_acknowledged or not letter.reverse_path:
            return
        self._written += 1
        words = compose(self._written, self.domain, letter.reverse_path) + b"\r\n".join((b"", letter.content))
        bounce = SentLetter(letter.reverse_path, words, Call.POLITE, self.now, reverse_path="")
        self.passed_on.append(bounce)
        await self._send(bounce)


class _Door(Wire):
    """A connection to a stranger, with the task that serves it."""

    def __init__(self, stranger: Stranger) -> None:
        super().__init__()
        self._stranger = stranger
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # Kept, since the loop alone does not keep tasks from the garbage collector.
        self._task = asyncio.get_running_loop().create_task(StrangeSession(self._stranger, self).run())
