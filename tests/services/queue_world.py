# SPDX-License-Identifier: Apache-2.0
"""A relay with everything around it faked but the database: letters in, mail hosts by script, virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from posthouse.mail.address import parse_address
from posthouse.mail.envelope import ForwardPath, Notify, ReversePath
from posthouse.outcome import DELIVERED, Outcome
from posthouse.ports import Change, Content, StoreFault, Transaction
from posthouse.services.bounce import Bounce
from posthouse.services.carrier import Carrier, LocalPlan
from posthouse.services.queue_desk import QueueDesk
from posthouse.services.relay import Relay
from posthouse.services.routing import Routing, StaticRoute
from posthouse.services.schedule import Schedule, Schedules
from posthouse.services.settle import Settler
from posthouse.store import queue
from posthouse.store.queue_rows import ClaimedLetter, ClaimedRecipient, QueuedLetter
from tests.fakes import (
    EPOCH,
    FakeBus,
    FakeClock,
    FakeEntropy,
    FakeHost,
    FakePoster,
    FakePosting,
    FakeResolver,
    FakeTransport,
)
from tests.store.plain_database import PlainDatabase

CONTENT = b"Subject: news\r\nFrom: alice@alice.test\r\n\r\nGood morning, Bob.\r\n"
PREFIX = b"Received: from client by alice.test\r\n"


def path(text: str, notify: Notify | None = None) -> ForwardPath:
    return ForwardPath(parse_address(text), notify)


def reverse(text: str = "alice@alice.test") -> ReversePath:
    return ReversePath(parse_address(text) if text else None)


def put_blob(tx: Transaction, octets: bytes = CONTENT) -> int:
    location = tx.append(Content(len(octets), b"", octets=octets), b"")
    blob = tx.new_id()
    tx.run(
        "INSERT INTO blob (id, pack, pack_offset, length, hash) VALUES (:id, :pack, :offset, :length, :hash)",
        id=blob,
        pack=location.pack,
        offset=location.offset,
        length=location.length,
        hash=b"",
    )
    return blob


def letter_for(
    recipients: Sequence[str | ForwardPath],
    *,
    now: float = EPOCH,
    sender: str = "alice@alice.test",
    schedules: Schedules | None = None,
    next_hop: str = "",
    not_before: float | None = None,
    is_held: bool = False,
) -> QueuedLetter:
    schedules = schedules or Schedules()
    paths = [path(each) if isinstance(each, str) else each for each in recipients]
    return QueuedLetter(
        reverse_path=reverse(sender),
        prefix=PREFIX,
        account=1,
        language="en",
        message_id="<1@alice.test>",
        size=len(CONTENT),
        needs_eight_bit=False,
        needs_smtputf8=False,
        received_at=now,
        trace="0011223344556677",
        recipients=tuple(
            schedules.recipient(
                each, next_hop or each.address.domain.name, now=now, not_before=not_before, is_held=is_held
            )
            for each in paths
        ),
    )


class FakeLocal:
    """Mailboxes here: delivers in the unit, or says no."""

    def __init__(self) -> None:
        self.delivered: list[str] = []
        self.refuses: Outcome | None = None

    async def prepare(
        self, letter: ClaimedLetter, recipients: Sequence[ClaimedRecipient], content: memoryview
    ) -> LocalPlan:
        names = [str(recipient.path) for recipient in recipients]
        outcome = self.refuses or Outcome(DELIVERED, "in the mailbox")

        def accept(tx: Transaction) -> None:
            if self.refuses is None:
                self.delivered += names

        return LocalPlan([outcome] * len(names), FakePosting(accept))


@dataclass
class World:
    """Use inside a running (virtual) loop."""

    schedules: Schedules = field(default_factory=lambda: Schedules(Schedule()))
    connections: int = 20
    routes: dict[str, StaticRoute] = field(default_factory=dict)
    database: PlainDatabase = field(default_factory=PlainDatabase)
    owner: str = "first"

    def __post_init__(self) -> None:
        self.clock, self.entropy, self.bus = FakeClock(), FakeEntropy(), FakeBus()
        self.resolver, self.transport, self.poster, self.local = (
            FakeResolver(),
            FakeTransport(),
            FakePoster(),
            FakeLocal(),
        )
        self.build()

    def build(self) -> None:
        """The process starts (again): new services on the same database."""
        self.routing = Routing(self.resolver, self.entropy, "alice.test", routes=self.routes)
        self.bounce = Bounce(self.database.blobs, self.poster, self.clock, self.entropy, "alice.test")
        self.settler = Settler(
            self.database, self.clock, self.bus, bounce=self.bounce, schedules=self.schedules, owner=self.owner
        )
        self.carrier = Carrier(
            self.database,
            self.database.blobs,
            self.transport,
            self.clock,
            routing=self.routing,
            settler=self.settler,
            local=self.local,
        )
        self.relay = Relay(
            self.database, self.carrier, self.settler, self.clock, self.bus, connections=self.connections
        )
        self.desk = QueueDesk(self.database, self.settler, self.clock, self.bus)

    def host(self, domain: str = "bob.test", address: str = "192.0.2.1", **fields: object) -> FakeHost:
        """A domain with one mail host."""
        name = f"mx.{domain}"
        self.resolver.domain(domain, (10, name))
        self.resolver.host(name, address)
        host = FakeHost(**fields)  # type: ignore[arg-type]  # a test names the fields that it wants
        self.transport.hosts[address] = host
        return host

    def put(self, *recipients: str | ForwardPath, octets: bytes = CONTENT, **fields: object) -> int:
        """A letter into the queue, and the hint."""
        wording = {key: fields.pop(key) for key in list(fields) if key in QueuedLetter.__slots__}
        letter = letter_for(recipients, now=self.clock.wall(), schedules=self.schedules, **fields)  # type: ignore[arg-type]
        letter = replace(letter, **wording)  # type: ignore[arg-type]
        queue_id = self.database.run(lambda tx: queue.insert(tx, put_blob(tx, octets), letter))
        self.bus.publish(Change("queue"))
        return queue_id

    def states(self) -> dict[str, int]:
        """Recipients in the queue, by state."""
        sql = "SELECT state, COUNT(*) FROM queue_recipient GROUP BY state ORDER BY state"
        return dict(self.database.look(lambda reader: reader.rows(sql)))

    def is_empty(self) -> bool:
        sql = (
            "SELECT (SELECT COUNT(*) FROM queue_letter) + (SELECT COUNT(*) FROM queue_recipient)"
            " + (SELECT COUNT(*) FROM queue_destination)"
        )
        row = self.database.look(lambda reader: reader.row(sql))
        return row == (0,)

    async def crash(self) -> None:
        """The process dies: nothing more is written. The next `build` is another incarnation."""
        self.database.fault = StoreFault("the process is dead")
        await self.relay.stop(grace=0)
        self.database.fault = None
        self.owner += "+"
        self.build()

    async def after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
