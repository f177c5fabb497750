# SPDX-License-Identifier: Apache-2.0
"""Strangers write to Alice in all the ways in which clients do: what was answered with 250 is in her mailbox once,
octet for octet; what was refused or broken off is not."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.sim.people import message_id_of
from posthouse.sim.strangers_client import SMUGGLED_ID, Call, SentLetter
from posthouse.sim.strangers_manners import GOOD
from posthouse.sim.world import MINUTE
from tests.world.odd import ODD, Odd, play

ALICE = "alice@alice.test"
ACCEPTED = (
    Call.POLITE,
    Call.HELO,
    Call.PIPELINED,
    Call.EARLY,
    Call.BDAT,
    Call.TYPED,
    Call.NO_QUIT,
    Call.RESET,
    Call.STAY,
    Call.SMALL_SIZE,
    Call.NONSENSE,
    Call.STARTTLS,
)
UNCERTAIN = (Call.GONE_AFTER_DOT, Call.CLOSE_AFTER_DOT)
REFUSED = tuple(call for call in Call if call not in ACCEPTED + UNCERTAIN)


async def _write(odd: Odd, call: Call, to: str = ALICE) -> tuple[SentLetter, list[bytes]]:
    """What the stranger knows, and what Alice has."""
    sent = await odd.stranger.write(to, call=call)
    await asyncio.sleep(15 * MINUTE)
    assert odd.network.connections(ODD) == 0
    return sent, await odd.alice.read()


@pytest.mark.parametrize("call", ACCEPTED, ids=lambda call: call.name)
def test_a_letter_that_was_answered_is_there(call: Call) -> None:
    async def script(odd: Odd) -> None:
        sent, (letter,) = await _write(odd, call)
        assert (sent.is_acknowledged, sent.is_uncertain) == (True, False)
        assert letter.endswith(sent.octets)

    play(GOOD, script)


@pytest.mark.parametrize("call", REFUSED, ids=lambda call: call.name)
def test_a_letter_that_was_refused_or_broken_off_is_not(call: Call) -> None:
    """RFC 5321 §4.1.1.4: without the final dot there is no letter."""

    async def script(odd: Odd) -> None:
        sent, letters = await _write(odd, call)
        assert (sent.is_acknowledged, sent.is_uncertain) == (False, False)
        assert letters == []

    play(GOOD, script)


@pytest.mark.parametrize("call", UNCERTAIN, ids=lambda call: call.name)
def test_a_letter_whose_answer_nobody_hears_is_there_once_or_not_at_all(call: Call) -> None:
    async def script(odd: Odd) -> None:
        sent, letters = await _write(odd, call)
        assert (sent.is_acknowledged, sent.is_uncertain) == (False, True)
        assert len(letters) <= 1
        assert all(letter.endswith(sent.octets) for letter in letters)

    play(GOOD, script)


def test_no_letter_hides_in_another() -> None:
    async def script(odd: Odd) -> None:
        sent, letters = await _write(odd, Call.SMUGGLE)
        assert "550 5.6.0" in " ".join(sent.replies)
        assert SMUGGLED_ID not in [message_id_of(letter) for letter in letters]

    play(GOOD, script)


def test_nobody_of_that_name_is_refused_at_once() -> None:
    async def script(odd: Odd) -> None:
        sent, letters = await _write(odd, Call.POLITE, "nobody@alice.test")
        assert any(reply.startswith("550 5.1.1") for reply in sent.replies)
        assert letters == []

    play(GOOD, script)


@pytest.mark.parametrize("call", [Call.POLITE, Call.BDAT])
def test_a_server_that_dies_under_a_stranger_breaks_no_promise(call: Call) -> None:
    """The crash comes later and later in the session."""

    async def script(odd: Odd) -> None:
        for step in range(12):
            writing = asyncio.create_task(odd.stranger.write(ALICE, call=call))
            await asyncio.sleep(0.2 * step)
            odd.alices.crash()
            await writing
            await odd.alices.start()
        found = [message_id_of(letter) for letter in await odd.alice.read()]
        for sent in odd.stranger.sent:
            copies = sum(each in sent.message_id for each in found)
            assert copies == 1 if sent.is_acknowledged else copies <= sent.is_uncertain, sent
        assert any(sent.is_acknowledged for sent in odd.stranger.sent)
        assert not all(sent.is_acknowledged for sent in odd.stranger.sent)

    play(GOOD, script)


def test_writing_ends_whatever_the_network_does() -> None:
    async def script(odd: Odd) -> None:
        odd.network.silence("192.0.2.1")
        assert "(TimeoutError)" in (await odd.stranger.write(ALICE)).replies
        odd.network.unsilence("192.0.2.1")
        odd.world.dns.fail("alice.test", "timeout")
        assert "(ResolverFault)" in (await odd.stranger.write(ALICE)).replies

    play(GOOD, script)


def test_a_strangers_line_is_slow() -> None:
    """Slower than 91 octets a second nobody is, says net/connection.py: at 120 a letter still comes in."""

    async def script(odd: Odd) -> None:
        odd.network.slow(ODD, 120)
        letter = odd.alice.letter([ALICE], "A line of a letter\r\n" * 3000).octets
        sent = await odd.stranger.write(ALICE, letter)
        assert sent.is_acknowledged
        assert odd.world.now > 450

    play(GOOD, script)
