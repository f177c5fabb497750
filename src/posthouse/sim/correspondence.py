# SPDX-License-Identifier: Apache-2.0
"""What the people of a world do, and the strangers who write to them: letters out, letters in, letters away.

Invariant: whoever was told "later", or nothing, tries again for a while and then gives up, as people do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from posthouse.ports import ConnectFault
from posthouse.sim.people import MailboxFault, Person, Sent
from posthouse.sim.play import Play
from posthouse.sim.strangers import Stranger
from posthouse.sim.strangers_client import Call

TRIES = 12  # times that a person tries to submit one letter
PAUSE = 600.0  # seconds between them
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
    await _submit(play, author, letter)


def text(lines: int, recipients: Sequence[str]) -> str:
    """With dots at the beginning of lines, that must not vanish on the way."""
    return "".join(f"{'.' * (number % 3)}Line {number}, for {recipients[0]}\r\n" for number in range(lines))


async def _submit(play: Play, author: Person, letter: Sent) -> None:
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


async def write_strangely(play: Play, stranger: Stranger, at: float) -> None:
    """A letter from outside to somebody here, politely or not."""
    chance = play.chance
    to = chance.choice(play.people).name
    call = Call.POLITE if chance.random() < 0.4 else chance.choice(list(Call))
    await play.sleep_until(at)
    await stranger.write(to, call=call)
    play.ledger.survived[f"a stranger's {call.name.lower().replace('_', ' ')} call"] += 1
