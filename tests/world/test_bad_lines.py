# SPDX-License-Identifier: Apache-2.0
"""People with bad lines: they get their mail, however long it takes, and what breaks off leaves nothing behind."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from posthouse.sim.people import MailboxFault
from posthouse.sim.strangers import Stranger
from posthouse.sim.strangers_client import Call
from posthouse.sim.strangers_manners import GOOD, Habit, Manners, Say, Stage
from posthouse.sim.world import HOUR, MINUTE
from tests.world.odd import ODD, ODD_DOMAIN, OLIVER, Odd, play

HERS = "192.0.2.1"  # Alice's server
ALICE = "alice@alice.test"


def _letter(odd: Odd, lines: int) -> bytes:
    """The stranger's own: one in Alice's name would go to her junk."""
    octets = odd.alice.letter([ALICE], "A line of a letter that takes its time\r\n" * lines).octets
    own = octets.replace(f"From: {ALICE}".encode(), f"From: somebody@{ODD_DOMAIN}".encode(), 1)
    assert own != octets
    return own


def test_a_reader_on_a_slow_line_gets_a_long_letter() -> None:
    """The limit is for a peer that takes nothing at all; this one takes 700 octets a second."""

    async def script(odd: Odd) -> None:
        octets = _letter(odd, 12_000)
        assert (await odd.stranger.write(ALICE, octets)).is_acknowledged
        odd.network.slow(odd.alice.life.address, 700)
        (letter,) = await odd.alice.read()
        assert letter.endswith(octets)
        assert odd.world.now > len(octets) / 700

    play(GOOD, script)


@pytest.mark.parametrize("after", [0.3, 0.6, 0.9, 5.0])
def test_a_reader_whose_line_dies_can_read_again(after: float) -> None:
    """RFC 1939 §4: the maildrop is locked by the session that nobody ends; it is free again after its time-out."""

    async def script(odd: Odd) -> None:
        octets = _letter(odd, 12_000)
        await odd.stranger.write(ALICE, octets)
        here = odd.alice.life.address
        odd.network.slow(here, 50_000)
        reading = asyncio.create_task(odd.alice.read(is_removing=True))
        await asyncio.sleep(after)
        odd.network.silence(here)
        await asyncio.sleep(MINUTE)
        odd.network.unsilence(here)
        with suppress(MailboxFault):
            await reading
        await asyncio.sleep(15 * MINUTE)
        (letter,) = await odd.alice.read()
        assert letter.endswith(octets)

    play(GOOD, script)


@pytest.mark.parametrize("call", [Call.POLITE, Call.BDAT, Call.TYPED, Call.STARTTLS])
@pytest.mark.parametrize("after", [0.3, 0.8, 1.2])
def test_a_sender_that_falls_silent_leaves_no_session_behind(call: Call, after: float) -> None:
    """RFC 5321 §4.5.3.2.7: five minutes for the next command, three for a block of content."""

    async def script(odd: Odd) -> None:
        writing = asyncio.create_task(odd.stranger.write(ALICE, _letter(odd, 20 if call is Call.TYPED else 2000), call))
        await asyncio.sleep(after)
        odd.network.silence(ODD)
        await asyncio.sleep(20 * MINUTE)
        assert odd.network.connections(HERS) == 0
        odd.network.unsilence(ODD)
        sent = await writing
        copies = len(await odd.alice.read())
        assert copies == 1 if sent.is_acknowledged else copies <= sent.is_uncertain

    play(GOOD, script)


def test_the_second_mail_host_takes_what_the_first_does_not_hear() -> None:
    """RFC 5321 §5.1: the hosts are tried in their order, in the same attempt."""

    async def script(odd: Odd) -> None:
        world = odd.world
        second = Stranger("203.0.113.8", "mx2.odd.test", "odd2.test", network=world.network, dns=world.dns, seed="2")
        second.domain = "odd.test"
        await second.start()
        world.dns.add_mx("odd.test", "mx2.odd.test", 20)
        odd.network.silence(ODD)
        sent = await odd.submit()
        await asyncio.sleep(MINUTE)
        assert [each.recipients for each in second.kept] == [(OLIVER,)]
        assert len(await odd.attempts(sent)) == 1
        odd.network.unsilence(ODD)
        odd.stranger.manners = Manners((Habit(Stage.GREETING, Say("554 5.3.2 no mail here")),))
        await odd.submit()
        await asyncio.sleep(MINUTE)
        assert len(second.kept) == 2
        second.end()

    play(GOOD, script)


def test_many_letters_share_a_line_that_is_slow_for_all_of_them() -> None:
    """Five of 240 KiB to a host that takes 1 KiB a second in all: only progress keeps each of them alive."""

    async def script(odd: Odd) -> None:
        text = "A line of a letter that takes its time\r\n" * 6000
        odd.network.slow(ODD, 1024)
        for _ in range(5):
            await odd.submit(text)
        await asyncio.sleep(2 * HOUR)
        assert len(odd.stranger.kept) == 5
        assert await odd.queued() == 0

    play(GOOD, script)
