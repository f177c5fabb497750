# SPDX-License-Identifier: Apache-2.0
"""Small worlds: two servers, four people, some letters, outages and crashes by chance; and the account at the end.

Invariant checked: every accepted letter is, for each of its recipients, in the mailbox (or taken from it), in a
report in the sender's mailbox, or visible in a queue. None is lost, and no letter changes on its way.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from posthouse.mail.dsn import Action
from posthouse.mail.dsn_reader import parse_dsn
from posthouse.ports import ConnectFault
from posthouse.sim.people import MailboxFault, Person, Sent, message_id_of
from posthouse.sim.station import Plan, Station
from posthouse.sim.world import DAY, HOUR, MINUTE, World
from posthouse.store.queue_admin import QueueDetail, Selection

PLANS = (
    Plan(
        "alice",
        "alice.test",
        "192.0.2.1",
        {"alice@alice.test": "Alice's own words", "anna@alice.test": "Anna's own words"},
    ),
    Plan("bob", "bob.test", "192.0.2.2", {"bob@bob.test": "Bob's own words", "ben@bob.test": "Ben's own words"}),
)
NOBODY = ("nobody@alice.test", "nobody@bob.test")
LETTERS = (6, 14)
OUTAGES = (1, 4)
BUSY = 2 * DAY  # seconds in which letters are written and outages begin
# Seconds that an outage lasts at most. Beyond the five days of the queue, so that some letters come back.
LONGEST_OUTAGE = 6 * DAY
ON_ITS_WAY = 4.0  # seconds that a letter needs from its writer's program into the mailbox, about
# After the last outage: the longest retry interval, and the reports on their own way.
SETTLED = 2 * HOUR
RETRIES = 12  # times that a person tries to submit one letter, ten minutes apart
LARGEST = 400_000  # octets; above 256 KiB content is spooled


@dataclass(slots=True)
class Account:
    """What became of a small world. `lost`: the faults found; empty is good."""

    letters: int = 0
    accepted: int = 0
    delivered: int = 0
    reported: int = 0
    waiting: int = 0
    days: float = 0.0
    lost: list[str] = field(default_factory=list)


async def small_world(world: World) -> Account:
    """The script."""
    for plan in PLANS:
        await world.add(plan).start()
    sent: list[Sent] = []
    chance = world.chance
    people = list(world.people.values())
    async with asyncio.TaskGroup() as group:
        times = [chance.uniform(0, BUSY) for _ in range(chance.randint(*LETTERS))]
        for at in times:
            group.create_task(_write(world, chance.choice(people), sent, at))
        for _ in range(chance.randint(*OUTAGES)):
            # Half of them in the seconds in which a letter is on its way.
            at = (
                chance.choice(times) + chance.uniform(0, ON_ITS_WAY)
                if chance.random() < 0.5
                else chance.uniform(0, BUSY)
            )
            group.create_task(_outage(world, at))
        for person in people:
            group.create_task(_read_now_and_then(world, person))
    for station in world.stations.values():
        if not station.is_up:
            await station.start()
    await asyncio.sleep(SETTLED)
    return await _account(world, sent)


# --- what people do ---------------------------------------------------------------------------------


async def _write(world: World, author: Person, sent: list[Sent], at: float) -> None:
    chance = world.chance
    others = [name for name in (*world.people, NOBODY[chance.randrange(2)]) if name != author.name]
    recipients = chance.sample(others, chance.choice((1, 1, 1, 2, 3)))
    lines = int(chance.choice((1, 10, 100, LARGEST / 60)) * chance.random()) + 1
    text = "".join(f"{'.' * (number % 3)}Line {number} of {lines}, for {recipients[0]}\r\n" for number in range(lines))
    await asyncio.sleep(at)
    letter = author.letter(recipients, text)
    sent.append(letter)
    for _ in range(RETRIES):
        try:
            await author.submit(letter)
        except ConnectFault as fault:
            world.note(f"{author.name} cannot send {letter.message_id}: {fault}")
        else:
            outcomes = letter.outcomes or []
            world.note(f"{author.name} sent {letter.message_id}: {', '.join(str(each.status) for each in outcomes)}")
            if any(not each.is_deferred for each in outcomes):
                return
        await asyncio.sleep(10 * MINUTE)


async def _read_now_and_then(world: World, person: Person) -> None:
    chance = world.chance
    for _ in range(chance.randint(1, 4)):
        await asyncio.sleep(chance.uniform(0, DAY))
        is_removing = chance.random() < 0.5
        try:
            found = await person.read(is_removing=is_removing)
        except MailboxFault as fault:
            world.note(f"{person.name} cannot read: {fault}")
        else:
            world.note(f"{person.name} read {len(found)} letters{' and took them' if is_removing else ''}")


# --- what happens to servers ------------------------------------------------------------------------


async def _outage(world: World, at: float) -> None:
    chance = world.chance
    await asyncio.sleep(at)
    station = chance.choice(list(world.stations.values()))
    length = chance.choice((MINUTE, HOUR, DAY, LONGEST_OUTAGE)) * chance.random()
    kind = chance.choice(("stop", "crash", "crash", "cut"))
    if kind == "cut":
        await _cut(world, length)
        return
    if not station.is_up:
        return  # another outage has it
    world.note(f"{station.plan.name}: {kind}")
    if kind == "stop":
        world.faults += await station.stop()
    else:
        station.crash()
    await asyncio.sleep(length)
    world.note(f"{station.plan.name} starts")
    await station.start()


async def _cut(world: World, length: float) -> None:
    """The line between the two servers is down; each is there for its own people."""
    here, there = (station.plan.address for station in world.stations.values())
    world.note("the line is cut")
    world.network.cut(here, there)
    await asyncio.sleep(length)
    world.note("the line is mended")
    world.network.mend(here, there)


# --- the account ------------------------------------------------------------------------------------


async def _account(world: World, sent: list[Sent]) -> Account:
    account = Account(letters=len(sent), days=world.now / DAY)
    mail = {name: [*person.taken, *await person.read()] for name, person in world.people.items()}
    queue = [detail for station in world.stations.values() for detail in await station.inside(_queue(station))]
    for station in world.stations.values():
        account.lost += await station.findings()
    for letter in sent:
        for recipient in letter.accepted:
            account.accepted += 1
            copies = [each for each in mail.get(recipient, ()) if message_id_of(each) in letter.message_id]
            if copies:
                account.delivered += 1
                if not all(copy.endswith(b"\r\n\r\n" + letter.body) for copy in copies):
                    account.lost.append(f"{letter.message_id} is not what was written in {recipient}'s mailbox")
            elif any(_reports(each, letter, recipient) for each in mail[letter.sender]):
                account.reported += 1
            elif any(_waits(each, letter, recipient) for each in queue):
                account.waiting += 1
            else:
                account.lost.append(f"{letter.message_id} from {letter.sender} to {recipient} is lost")
    return account


async def _queue(station: Station) -> list[QueueDetail]:
    desk = station.house.queue_desk
    entries, _ = await desk.list_letters(Selection())
    details = [await desk.show(entry.id) for entry in entries]
    return [each for each in details if each is not None]


def _reports(mail: bytes, letter: Sent, recipient: str) -> bool:
    report = parse_dsn(mail)
    return (
        report is not None
        and report.original_message_id.decode() in letter.message_id
        and any(each.final_recipient == recipient and each.action is Action.FAILED for each in report.recipients)
    )


def _waits(detail: QueueDetail, letter: Sent, recipient: str) -> bool:
    return detail.entry.message_id.strip("<>") in letter.message_id and any(
        each.address == recipient for each in detail.recipients
    )
