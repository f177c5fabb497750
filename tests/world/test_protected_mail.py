# SPDX-License-Identifier: Apache-2.0
"""Letters in a world whose DNS is signed: DANE holds, breaks, is mended; letters that demand more, and less."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.ports import TlsaRecord
from posthouse.sim.station import certificate_of
from posthouse.sim.world import MINUTE
from tests.world.story import BOB, Story, play

HOST = BOB.hostname
RIGHT = TlsaRecord(3, 1, 1, certificate_of(BOB).key)
WRONG = TlsaRecord(3, 1, 1, bytes(32))


async def begin(story: Story, *records: TlsaRecord) -> None:
    story.world.dns.is_signed = True
    for each in records:
        story.world.dns.add_tlsa(HOST, each)
    await story.alices.start()
    await story.bobs.start()


async def send(story: Story, text: str = "Hello Bob\r\n") -> str:
    letter = story.alice.letter(["bob@bob.test"], text)
    await story.alice.submit(letter)
    return letter.message_id


async def told(story: Story, message_id: str) -> list[tuple[str, str]]:
    """(how the session was protected, status) of each attempt at the letter."""
    (found,) = await story.alices.inside(story.alices.house.queue_desk.trace(message_id))
    return [(each.tls, str(each.results[0][0].status)) for each in found.attempts if each.letter is not None]


@pytest.mark.parametrize(
    ("records", "words"),
    [((RIGHT,), "TLSv1.3 (DANE-EE)"), ((WRONG, RIGHT), "TLSv1.3 (DANE-EE)"), ((), "TLSv1.3")],
)
def test_trace_tells_by_what_a_session_was_authenticated(records: tuple[TlsaRecord, ...], words: str) -> None:
    async def script(story: Story) -> list[tuple[str, str]]:
        await begin(story, *records)
        ident = await send(story)
        await asyncio.sleep(10)
        assert len(await story.bob.read()) == 1
        return await told(story, ident)

    assert play(script) == [(words, "2.0.0")]


def test_a_record_that_is_wrong_keeps_letters_until_it_is_mended() -> None:
    async def script(story: Story) -> None:
        await begin(story, WRONG)
        ident = await send(story)
        await asyncio.sleep(60 * MINUTE)
        assert await story.bob.read() == []
        assert await told(story, ident) == []
        story.world.dns.of(f"_25._tcp.{HOST}").tlsa[:] = [RIGHT]
        await asyncio.sleep(60 * MINUTE)
        assert len(await story.bob.read()) == 1

    play(script)


def test_tlsa_that_fails_keeps_letters_too() -> None:
    """RFC 7672 §2.1.2: no word of DNS is no permission."""

    async def script(story: Story) -> None:
        await begin(story, RIGHT)
        story.world.dns.fail(f"_25._tcp.{HOST}")
        await send(story)
        await asyncio.sleep(60 * MINUTE)
        assert await story.bob.read() == []
        story.world.dns.clear(f"_25._tcp.{HOST}")
        await asyncio.sleep(60 * MINUTE)
        assert len(await story.bob.read()) == 1

    play(script)


def test_a_server_that_crashes_between_goes_on() -> None:
    async def script(story: Story) -> None:
        await begin(story, WRONG)
        await send(story)
        await asyncio.sleep(10 * MINUTE)
        story.alices.crash()
        story.world.dns.of(f"_25._tcp.{HOST}").tlsa[:] = [RIGHT]
        await story.alices.start()
        await asyncio.sleep(60 * MINUTE)
        assert len(await story.bob.read()) == 1

    play(script)
