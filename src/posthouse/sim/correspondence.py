# SPDX-License-Identifier: Apache-2.0
"""What the people of a world do, and the strangers who write to them: letters out, letters in, letters away.

Invariant: whoever was told "later", or nothing, tries again for a while and then gives up, as people do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random

from posthouse.ports import ConnectFault
from posthouse.sim import mail_program
from posthouse.sim.devices import Device
from posthouse.sim.ledger import bare
from posthouse.sim.mail_program import MailProgram
from posthouse.sim.people import MailboxFault, Person, Sent, message_id_of
from posthouse.sim.play import Play
from posthouse.sim.strangers import Stranger
from posthouse.sim.strangers_client import Call, Guise

TRIES = 12  # times that a person tries to submit one letter
PAUSE = 600.0  # seconds between them
OPENED = ("INBOX", "INBOX", "INBOX", "Archive", "Trash")  # mailboxes that people look into with IMAP
MOST_DEEDS = 3  # of one session
AT_ONCE = 4  # letters that one deed is about, at most
DEVICES = 2  # of one person, and more where both are in use
KNOWS_QRESYNC = 0.6  # the share of devices
GOES_ON = 0.7  # the share of drafts that were begun before
LONGEST_WAIT = 1_500.0  # seconds of one IDLE: clients begin anew before half an hour is over
LARGEST = 400_000  # octets; above 256 KiB content is spooled
LINE = 30  # octets of one line of a letter, about
# How many recipients a letter has: most have one.
RECIPIENTS = (1, 1, 1, 1, 2, 3)
TO_ALIASES = 0.1  # the share of letters that go to an alias
# Lines of a letter, at most; one in sixteen is long enough to be spooled.
LENGTHS = (1, 1, 5, 5, 10, 10, 10, 30, 30, 30, 100, 100, 300, 300, 1000, LARGEST // LINE)


async def write(play: Play, author: Person, at: float) -> None:
    """One letter, at that time of the world."""
    chance = play.chance
    domains = dict.fromkeys(station.plan.domain for station in play.stations)
    names = [person.name for person in play.people if person is not author]
    names += [f"somebody@{stranger.domain}" for stranger in play.ledger.strangers]
    if chance.random() < 0.2:
        names.append(f"nobody@{chance.choice(list(domains))}")
    recipients = chance.sample(names, min(chance.choice(RECIPIENTS), len(names)))
    if chance.random() < TO_ALIASES:  # alone, so that no target has the letter from elsewhere too
        recipients = [chance.choice(list(play.ledger.aliases))]
    lines = int(chance.choice(LENGTHS) * chance.random()) + 1
    await play.sleep_until(at)
    letter = author.letter(recipients, text(lines, recipients))
    play.ledger.write(letter)
    await submit(play, author, letter)


def text(lines: int, recipients: Sequence[str]) -> str:
    """With dots at the beginning of lines, that must not vanish on the way."""
    return "".join(f"{'.' * (number % 3)}Line {number}, for {recipients[0]}\r\n" for number in range(lines))


async def submit(play: Play, author: Person, letter: Sent) -> None:
    """Until the own server has said yes or no for everybody, or patience is at its end."""
    for _ in range(TRIES):
        try:
            await author.submit(letter)
        except ConnectFault as fault:
            play.world.note(f"{author.name} cannot send {letter.message_id}: {fault}")
        else:
            said = ", ".join(str(each.status) for each in letter.tries[-1].outcomes)
            play.world.note(f"{author.name} sent {letter.message_id} to {', '.join(letter.recipients)}: {said}")
            if not letter.unsettled:
                return
        await asyncio.sleep(PAUSE)


async def read(play: Play, person: Person, at: float) -> None:
    """Look into the mailbox; perhaps take some away."""
    if person.uses_imap:
        await _read_with_imap(play, person, at)
        return
    chance = play.chance
    share = chance.choice((0.0, 0.0, 0.5, 1.0))  # of the letters that are taken away
    await play.sleep_until(at)
    try:
        found = await person.visit(lambda _: chance.random() < share)
    except MailboxFault as fault:
        play.world.note(f"{person.name} cannot read: {fault}")
    else:
        taken = sum(each.unique_id in person.taken for each in found)
        play.world.note(f"{person.name} read {len(found)} letters and took {taken}")
    play.ledger.deeds["read"] += 1


# --- with IMAP ------------------------------------------------------------------------------------

Deed = Callable[[Play, MailProgram, Random], Awaitable[None]]


async def _read_with_imap(play: Play, person: Person, at: float) -> None:
    """Open a mailbox on some device, learn what is new, and do a thing or two."""
    chance = Random(play.chance.getrandbits(64))  # noqa: S311 - reproducible on purpose
    await play.sleep_until(at)
    device = _device(person, chance)
    name = chance.choice(OPENED)

    async def work(program: MailProgram) -> None:
        await program.open(name)
        for deed in chance.choices(list(DEEDS), k=chance.randint(0, MOST_DEEDS)):
            await DEEDS[deed](play, program, chance)
            play.ledger.deeds[f"IMAP {deed}"] += 1

    try:
        await mail_program.visit(person, device, work)
    except MailboxFault as fault:
        play.world.note(f"{person.name} cannot go on with {name}: {fault}")
    else:
        play.world.note(f"{person.name} read {len(device.boxes[name].letters)} letters of {name}")
    play.ledger.deeds["read with IMAP"] += 1


def _device(person: Person, chance: Random) -> Device:
    """One that is not in use: telephone and desk look at the same time now and then."""
    free = [each for each in person.devices if not each.is_busy]
    if free and len(person.devices) >= DEVICES:
        return chance.choice(free)
    person.devices.append(Device(knows_qresync=chance.random() < KNOWS_QRESYNC))
    return person.devices[-1]


def _some(program: MailProgram, chance: Random) -> list[int]:
    uids = program.complete()
    return sorted(chance.sample(uids, min(len(uids), chance.randint(1, AT_ONCE))))


def _elsewhere(program: MailProgram, chance: Random) -> str:
    return chance.choice([each for each in ("INBOX", "Archive", "Trash") if each != program.shown.name])


async def _mark(_play: Play, program: MailProgram, chance: Random) -> None:
    if uids := _some(program, chance):
        await program.mark(uids)


async def _copy(_play: Play, program: MailProgram, chance: Random) -> None:
    if uids := _some(program, chance):
        await program.copy(uids, _elsewhere(program, chance))


async def _move(_play: Play, program: MailProgram, chance: Random) -> None:
    if uids := _some(program, chance):
        await program.move(uids, _elsewhere(program, chance))


async def _remove(_play: Play, program: MailProgram, chance: Random) -> None:
    if uids := _some(program, chance):
        name, how = program.shown.name, chance.choice(("EXPUNGE", "UID EXPUNGE", "CLOSE"))
        await program.remove(uids, how)
        if how == "CLOSE":
            await program.open(name)


async def _wait(_play: Play, program: MailProgram, chance: Random) -> None:
    await program.wait(chance.uniform(1, LONGEST_WAIT))


async def _keep(play: Play, program: MailProgram, chance: Random) -> None:
    """A copy of what was sent."""
    name = program.person.name
    if sent := [each.octets for each in play.ledger.letters.values() if each.sender == name]:
        await program.keep(chance.choice(sent), "Sent", ("\\Seen",))


async def _draft(_play: Play, program: MailProgram, chance: Random) -> None:
    """Begin one, or write on."""
    person, opened = program.person, program.shown.name
    draft = person.letter([person.name], text(chance.randint(1, 50), [person.name]))
    drafts = person.holdings.drafts
    versions = chance.choice(drafts) if drafts and chance.random() < GOES_ON else None
    if versions is None:
        drafts.append([bare(draft.message_id)])
        await program.keep(draft.octets, "Drafts", ("\\Draft", "\\Seen"))
        return
    letters = (await program.open("Drafts")).box.letters
    here = [uid for uid in program.complete() if message_id_of(letters[uid].octets or b"") in versions]
    if here:
        versions.append(bare(draft.message_id))
        await program.replace(here[0], draft.octets)
    await program.open(opened)


DEEDS: Mapping[str, Deed] = {
    "mark": _mark,
    "copy": _copy,
    "move": _move,
    "remove": _remove,
    "wait": _wait,
    "keep": _keep,
    "draft": _draft,
}


# --- strangers ------------------------------------------------------------------------------------


async def write_strangely(play: Play, stranger: Stranger, at: float) -> None:
    """A letter from outside to somebody here, politely or not."""
    chance = play.chance
    to = chance.choice(play.people).name
    call = Call.POLITE if chance.random() < 0.4 else chance.choice(list(Call))
    await play.sleep_until(at)
    # In turn, not by chance: every second letter is honest.
    guise = list(Guise)[len(stranger.sent) // 2 % len(Guise)] if len(stranger.sent) % 2 else Guise.HONEST
    await stranger.write(to, call=call, guise=guise)
    if guise.is_lie:
        play.ledger.survived[f"a stranger's letter in the name of others ({guise.name.lower()})"] += 1
    play.ledger.survived[f"a stranger's {call.name.lower().replace('_', ' ')} call"] += 1
