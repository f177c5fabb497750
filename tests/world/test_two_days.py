# SPDX-License-Identifier: Apache-2.0
"""The story of the project on virtual time: whole servers of the real code, outages of days."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from posthouse.mail.dsn import Action
from posthouse.mail.dsn_reader import parse_dsn
from posthouse.sim.people import MailboxFault, message_id_of
from posthouse.sim.world import DAY, HOUR, MINUTE
from posthouse.store.queue_admin import Selection
from tests.world.story import Story, play

EVERYTHING = Selection()
# Seconds that an attempt may be late: connecting, the group commits and the look of the dispatcher.
SLACK = 2.0
# Crashes, one per start, so many seconds apart: as long as two group commits may take, and around the answer.
STEPS, STEP = 40, 0.0015


def test_a_letter_arrives() -> None:
    async def script(story: Story) -> list[bytes]:
        await story.alices.start()
        await story.bobs.start()
        await story.alice.submit(story.alice.letter(["bob@bob.test"], "Hello Bob\r\n"))
        await asyncio.sleep(10)
        return await story.bob.read()

    (letter,) = play(script)
    assert letter.startswith(b"Return-Path: <alice@alice.test>\r\nDelivered-To: bob@bob.test\r\n")
    assert letter.endswith(b"\r\n\r\nHello Bob\r\n")


def test_two_days_of_outage() -> None:
    """DESIGN §1: kept in the queue, tried soon at first, then every 30 minutes, the sender told after four hours."""

    async def script(story: Story) -> None:
        await story.alices.start()
        sent = await story.alice.submit(story.alice.letter(["bob@bob.test"], "Hello Bob\r\n"))
        assert sent.accepted == ["bob@bob.test"]

        await asyncio.sleep(sent.at + 4 * HOUR - MINUTE - story.world.now)
        assert await story.alice.read() == []
        await asyncio.sleep(MINUTE + SLACK)
        (warning,) = await story.alice.read()
        report = parse_dsn(warning)
        assert report is not None
        assert report.original_message_id.decode() in sent.message_id
        assert [(each.final_recipient, each.action) for each in report.recipients] == [("bob@bob.test", Action.DELAYED)]

        await asyncio.sleep(2 * DAY - story.world.now)
        times = await story.attempts(story.alices, sent.message_id)
        waits = [later - earlier for earlier, later in pairwise(times)]
        wanted = [1 * MINUTE, 5 * MINUTE, 15 * MINUTE] + [30 * MINUTE] * (len(waits) - 3)
        assert len(waits) > 90
        assert all(0 <= wait - want < SLACK for wait, want in zip(waits, wanted, strict=True)), waits

        await story.bobs.start()
        await asyncio.sleep(30 * MINUTE + SLACK)
        (letter,) = await story.bob.read()
        assert letter.endswith(b"Hello Bob\r\n")
        assert len(await story.alice.read()) == 1  # the warning, and nothing else

    play(script)


def test_six_days_of_outage_end_in_a_report() -> None:
    """DESIGN §1: after five days the letter leaves the queue and Alice is told with another letter."""

    async def script(story: Story) -> None:
        await story.alices.start()
        sent = await story.alice.submit(story.alice.letter(["bob@bob.test"], "Hello Bob\r\n"))
        await asyncio.sleep(sent.at + 5 * DAY - MINUTE - story.world.now)
        assert len(await story.alice.read()) == 1
        await asyncio.sleep(MINUTE + SLACK)
        _, last_word = await story.alice.read()
        report = parse_dsn(last_word)
        assert report is not None
        assert report.original_message_id.decode() in sent.message_id
        assert [(each.final_recipient, each.action) for each in report.recipients] == [("bob@bob.test", Action.FAILED)]
        assert last_word.startswith(b"Return-Path: <>\r\n")

        await asyncio.sleep(1 * DAY)
        await story.bobs.start()
        await asyncio.sleep(1 * HOUR)
        assert await story.bob.read() == []
        totals = await story.alices.inside(story.alices.house.queue_desk.totals())
        assert totals.letters == 0

    play(script)


@pytest.mark.parametrize("after", [0.0, 0.02, 0.3, 0.75, 1.0, 20 * MINUTE, 1 * DAY])
def test_a_crash_loses_nothing(after: float) -> None:
    """DESIGN §2: a crash at any point may duplicate a delivery, never lose one. `after`: seconds since Bob's
    server is there to take the letters, or since the outage began."""

    async def script(story: Story) -> None:
        await story.alices.start()
        written = [story.alice.letter(["bob@bob.test"], f"Letter {number}\r\n") for number in range(5)]
        for each in written:
            await story.alice.submit(each)
        if after < 5:
            await story.bobs.start()
            await story.alices.inside(story.alices.house.queue_desk.retry_now(EVERYTHING))
        await asyncio.sleep(after)
        story.alices.crash()
        await asyncio.sleep(MINUTE)
        if not story.bobs.is_up:
            await story.bobs.start()
        await story.alices.start()
        await asyncio.sleep(HOUR)
        arrived = {message_id_of(letter) for letter in await story.bob.read()}
        assert arrived == {each.message_id.strip("<>") for each in written}
        assert await story.alices.findings() == []

    play(script)


def test_a_crash_at_any_moment_of_a_submission() -> None:
    """DESIGN §2: no 250 before the commit. The server dies later and later in the session; what it had accepted
    until then arrives, each time, with what it accepts after its next start."""

    async def script(story: Story) -> None:
        await story.alices.start()
        await story.bobs.start()
        sent = await story.alice.submit(story.alice.letter(["bob@bob.test"], "In peace\r\n"))
        (line,) = [each for each in story.world.log if " alice: accepted " in each]
        moment = float(line.split()[0]) - sent.at  # of the answer, from the beginning of the session
        written = [sent]
        for step in range(STEPS):
            letter = story.alice.letter(["bob@bob.test"], f"Step {step}\r\n")
            written.append(letter)
            submitting = asyncio.create_task(story.alice.submit(letter))
            await asyncio.sleep(moment + (step - STEPS / 2) * STEP)
            story.alices.crash()
            await asyncio.gather(submitting, return_exceptions=True)
            await story.alices.start()
        await asyncio.sleep(HOUR)
        accepted = {each.message_id.strip("<>") for each in written if each.accepted}
        arrived = {message_id_of(letter) for letter in await story.bob.read()}
        assert 1 < len(accepted) < len(written)
        assert accepted <= arrived
        assert await story.alices.findings() == []

    play(script)


def test_bob_is_refused_with_a_wrong_password() -> None:
    async def script(story: Story) -> None:
        await story.bobs.start()
        with pytest.raises(MailboxFault, match="AUTH"):
            await story.bob.read(password="not his")
        assert await story.bob.read() == []

    play(script)
