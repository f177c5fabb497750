# SPDX-License-Identifier: Apache-2.0
"""A play in a world: servers, strangers and people, the ledger, and the checks at every start and at the end.

Invariant: the checks look at one instant of the whole world; whatever they find is kept with the time at which it
was found, and found once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from posthouse.sim import mail_program, possessions, punctuality, records, report_facts
from posthouse.sim.accounting import Account, Accountant
from posthouse.sim.books import Books
from posthouse.sim.devices import Device
from posthouse.sim.ledger import Finding, Ledger, bare
from posthouse.sim.machine import EPOCH
from posthouse.sim.people import MailboxFault, Person
from posthouse.sim.plan import Plan
from posthouse.sim.punctuality import Watch
from posthouse.sim.records import Records
from posthouse.sim.report_audit import Audit
from posthouse.sim.report_facts import ask
from posthouse.sim.station import DRAIN, Station, StationDown
from posthouse.sim.strangers import Stranger
from posthouse.sim.world import DAY, World

# Seconds in which an idle server comes to rest at some moment, looked at so many times: letters that are still
# retried take minutes of every half hour, a session that is lost ends with its longest time-out.
REST = 3600.0
RESTS = 120

GRAIN = 0.01  # seconds before the end of a drain at which what is still being sent is looked at

READS_WITH_IMAP = 0.5  # the share of people
KNOWS_SCRAM = 0.1  # the share of people whose mail programs know more than PLAIN: it costs 3 ms for each login


class Play:
    def __init__(self, world: World, plans: Sequence[Plan], strangers: Sequence[tuple[str, str]] = ()) -> None:
        """`strangers`: address and domain of each server that is not posthouse."""
        self.world = world
        self.chance = world.chance
        self.stations = [world.add(plan) for plan in plans]
        self.people: list[Person] = list(world.people.values())
        for person in self.people:
            if self.chance.random() < KNOWS_SCRAM:
                person.mechanisms = ()
            person.uses_imap = self.chance.random() < READS_WITH_IMAP
        aliases = {address: targets for plan in plans for address, targets in plan.aliases.items()}
        forwards = {address: targets for plan in plans for address, targets in plan.forwards.items()}
        self.ledger = Ledger(world.people, aliases, forwards)
        self.ledger.strangers += [self._stranger(*each) for each in strangers]
        # Domains that ask for reports, and their servers.
        self._asking = {plan.domain: plan.name for plan in plans if plan.asks_for_reports}
        if self._asking:
            self._asking |= {each.domain: "" for each in self.ledger.strangers}
            for each in self.ledger.strangers:
                ask(world.dns, each.domain)
        self.findings: list[Finding] = []
        self._accountant = Accountant(self.ledger)
        self._books = {station.plan.name: Books(station.plan.name) for station in self.stations}
        self._down: dict[str, Records] = {}  # what the rows of servers that are down said
        for station in self.stations:
            station.before_end = lambda station=station: self._before_end(station)  # type: ignore[misc]  # a default

    def _stranger(self, address: str, domain: str) -> Stranger:
        world = self.world
        return Stranger(
            address,
            f"mx.{domain}",
            domain,
            network=world.network,
            dns=world.dns,
            seed=str(world.seed),
            note=world.note,
        )

    # --- servers up and down ----------------------------------------------------------------------

    async def begin(self) -> None:
        for stranger in self.ledger.strangers:
            await stranger.start()
        for station in self.stations:
            await station.start()

    async def start(self, station: Station) -> None:
        """Start it again, and look at everything."""
        self.world.note(f"{station.plan.name} starts")
        self._down.pop(station.plan.name, None)
        await station.start()
        await self.check(f"after a start of {station.plan.name}")
        try:
            self._find([Finding(text) for text in await station.findings()], "after a start")
        except StationDown:
            return

    async def stop(self, station: Station) -> None:
        """As by SIGTERM. What it is sending it finishes, unless that takes longer than it has: only then a letter may
        have arrived without its knowing."""
        last_moment = self.world.loop.call_later(DRAIN - GRAIN, self._doubt, station)
        try:
            self.world.faults += await station.stop()
        finally:
            last_moment.cancel()

    def _before_end(self, station: Station) -> None:
        """What it has counted may be lost."""
        if not station.is_over:
            self.world.witness.ended(station.plan.name)
            self._doubt(station)

    def _doubt(self, station: Station) -> None:
        """What it is sending now may have arrived without its knowing."""
        if not station.is_over:
            self.ledger.doubt(records.claimed(station.folder, is_up=station.is_up))

    # --- looking ----------------------------------------------------------------------------------

    async def check(self, when: str) -> Account:
        """The account of this instant; what is wrong goes to `findings`."""
        rows = {station.plan.name: self._rows(station) for station in self.stations}
        account = self._accountant.account(rows)
        found = list(account.findings)
        for station in self.stations:
            found += self._check(station, rows[station.plan.name])
        self._find(found, when)
        return account

    def _rows(self, station: Station) -> Records:
        name = station.plan.name
        if station.is_up:
            return records.read(station.folder, is_up=True)
        if name in self._down:
            return self._down[name]
        rows = records.read(station.folder, is_up=False)
        if station.is_over:
            self._down[name] = rows
        return rows

    def _check(self, station: Station, rows: Records) -> list[Finding]:
        name, now = station.plan.name, self.world.now
        owner = station.house.settler.owner if station.is_up else None
        texts = self._books[name].check(rows, owner, EPOCH + now)
        retried = self.ledger.retried.get(name, [])
        busy: tuple[str, ...] = ()
        if station.is_up:
            busy = tuple(station.house.relay.state().destinations)
        watch = Watch(now, station.started_at, busy, retried)
        if station.is_up:
            texts += [f"{name}: {text}" for text in punctuality.lateness(rows, watch)]
        texts += [f"{name}: {text}" for text in punctuality.haste(rows, watch)]
        found = [Finding(text, _letter_in(text)) for text in texts]
        for person in self.people:
            if person.home == station.plan.hostname:
                found += possessions.check(person.name, person.holdings, rows)
        return found

    def find(self, text: str) -> None:
        self._find([Finding(text)], "on the way")

    def _find(self, found: Sequence[Finding], when: str) -> None:
        known = {each.text for each in self.findings}
        for each in found:
            if each.text not in known:
                self.world.note(f"WRONG {when}: {each.text}")
                self.findings.append(each)

    # --- the end ----------------------------------------------------------------------------------

    async def end(self) -> Account:
        """Everything is up and has settled: the last account, and what is left open."""
        for station in self.stations:
            await self._comes_to_rest(station)
        account = await self.check("at the end")
        for station in self.stations:
            self._find([Finding(text) for text in await station.findings()], "at the end")
        self._find(list(self._audit()), "at the end")
        await self._compare_with_pop3()
        for person in self.people:
            if person.uses_imap:
                await self._compare_with_imap(person)
        for stranger in self.ledger.strangers:
            stranger.end()
        account.days = self.world.now / DAY
        account.survived, account.deeds = self.ledger.survived, self.ledger.deeds
        account.findings = self.findings
        return account

    def _audit(self) -> Iterator[Finding]:
        """Of the reports that servers owe each other."""
        rows = {station.plan.name: self._rows(station) for station in self.stations}
        audit = Audit(
            self.world.witness,
            self.ledger,
            rows,
            {station.plan.name: report_facts.read(station.folder) for station in self.stations},
            domains=self._asking,
            arrived=self._accountant.copies,
            waiting=self._accountant.waiting,
        )
        return audit.findings(self.world.now)

    async def _comes_to_rest(self, station: Station) -> None:
        """With nobody to serve and nothing due a server has nothing open and nothing running: else it has forgotten
        something, and would do so again and again."""
        going_on: list[str] = []
        for _ in range(RESTS):
            going_on = station.going_on() or _claims(station)
            if not going_on:
                return
            await asyncio.sleep(REST / RESTS)
        self._find([Finding(f"{station.plan.name} does not come to rest: {'; '.join(going_on)}")], "at the end")

    async def _compare_with_pop3(self) -> None:
        """What a person is shown is what lies on the disk."""
        for person in self.people:
            try:
                found = await person.visit(lambda _: False)
            except MailboxFault as fault:
                self._find([Finding(f"{person.name} cannot read: {fault}")], "at the end")
                continue
            rows = self._rows_at_home(person)
            inbox = {
                f"e{each.email:x}": each.prefix + rows.octets(each.place)
                for each in rows.placements
                if rows.accounts[each.account].name == person.name and rows.mailboxes[each.mailbox].name == "INBOX"
            }
            shown = {each.unique_id: each.octets for each in found}
            if shown != inbox:
                self._find([Finding(f"POP3 shows {person.name} something else than lies in the mailbox")], "at the end")

    async def _compare_with_imap(self, person: Person) -> None:
        """The same for all mailboxes; and what each device has in mind of what it was told over the days, after a last
        look, is what a new one is shown."""
        rows = self._rows_at_home(person)
        mailboxes = possessions.mailboxes(person.name, rows)

        async def look(program: mail_program.MailProgram) -> None:
            if await program.names() != sorted(mailboxes):
                self.find(f"IMAP lists {person.name} other mailboxes than there are")
            for name in mailboxes if program.device is fresh else sorted(program.device.boxes):
                shown = await program.open(name)
                if shown.box.letters != mailboxes[name]:
                    who = "" if program.device is fresh else ", who has looked before,"
                    self.find(f"IMAP shows {person.name}{who} something else in {name} than lies there")

        fresh = Device(knows_qresync=False)
        for device in (fresh, *person.devices):
            try:
                await mail_program.visit(person, device, look)
            except MailboxFault as fault:
                self._find([Finding(f"{person.name} cannot read: {fault}")], "at the end")
        self._find(list(possessions.check(person.name, person.holdings, rows)), "at the end")

    def _rows_at_home(self, person: Person) -> Records:
        station = next(each for each in self.stations if each.plan.hostname == person.home)
        return records.read(station.folder, is_up=True)

    async def sleep_until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - self.world.now))


def _claims(station: Station) -> list[str]:
    """What is claimed where nothing is at work: nobody will ever send it."""
    claimed = records.claimed(station.folder, is_up=True)
    return [f"{address} of {message_id} is claimed" for message_id, address in claimed]


def _letter_in(text: str) -> str:
    """The Message-ID that a sentence names, if it does."""
    inner, bracket, _ = text.partition("<")[2].partition(">")
    return bare(inner) if bracket else ""
