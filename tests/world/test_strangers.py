# SPDX-License-Identifier: Apache-2.0
"""Alice's server sends to a stranger with each of the manners that remote servers have, and does what the
standard says: it tries again, tells Alice, or delivers; it loses nothing, and delivers twice only where nobody
could know better."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from posthouse.sim.strangers_manners import GOOD, GREYLIST_SECONDS, Habit, Manners, Say, Stage, Trick, Wait, draw
from posthouse.sim.world import DAY, HOUR, MINUTE
from tests.world.odd import ODD, OLIVER, Odd, play

# Seconds that an attempt may be late, as in test_two_days.py, and what a session with delays takes.
SLACK = 5.0
# A letter above 256 KiB goes with BDAT where the host offers CHUNKING.
LONG = "".join(f"Line {number} of a letter that is too long for DATA\r\n" for number in range(7000))
REPLIED = tuple(Stage(each) for each in (Stage.GREETING, Stage.EHLO, Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.END))
WRONG = tuple(
    trick
    for trick in Trick
    if trick not in (Trick.DROP, Trick.CLOSE, Trick.IGNORE, Trick.KEEP_AND_DROP, Trick.KEEP_AND_CLOSE)
)


async def _delivered_once(odd: Odd, sent_text: str = "Hello Oliver\r\n") -> None:
    assert [(each.recipients, each.content.partition(b"\r\n\r\n")[2].decode()) for each in odd.stranger.kept] == [
        ((OLIVER,), sent_text)
    ]
    assert await odd.queued() == 0
    assert await odd.alice.read() == []
    assert odd.network.connections(ODD) == 0


# --- replies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", REPLIED, ids=lambda stage: stage.name)
@pytest.mark.parametrize("reply", ["450 4.2.0 not now", "421 4.3.2 closing", "451 no status"])
def test_a_temporary_refusal_is_tried_again_after_a_minute(stage: Stage, reply: str) -> None:
    """RFC 5321 §4.2.1: 4yz, "the client should try again later"; its words are kept."""

    async def script(odd: Odd) -> None:
        sent = await odd.submit()
        await asyncio.sleep(10 * MINUTE)
        (_, first), *_, (second_at, _) = await odd.attempts(sent)  # 421 is said to the destination too
        assert reply in first
        assert MINUTE < second_at < MINUTE + SLACK
        await _delivered_once(odd)

    play(Habit(stage, Say(reply), times=1), script)


@pytest.mark.parametrize("stage", REPLIED, ids=lambda stage: stage.name)
def test_a_permanent_refusal_is_told_to_the_sender_at_once(stage: Stage) -> None:
    """RFC 5321 §6.1: the sender is told with the host's own words; a refused EHLO is tried as HELO first."""

    async def script(odd: Odd) -> None:
        await odd.submit()
        await asyncio.sleep(MINUTE)
        assert await odd.reports() == [("failed", "5.7.1", "554 5.7.1 go away")]
        assert odd.stranger.kept == []
        assert await odd.queued() == 0

    play(Habit(stage, Say("554 5.7.1 go away")), script)


def test_one_refused_recipient_does_not_keep_the_letter_from_the_others() -> None:
    async def script(odd: Odd) -> None:
        await odd.submit("Hello\r\n", OLIVER, "nobody@odd.test", "olga@odd.test")
        await asyncio.sleep(MINUTE)
        assert [each.recipients for each in odd.stranger.kept] == [(OLIVER, "olga@odd.test")]
        assert await odd.reports() == [("failed", "5.1.1", "550 5.1.1 nobody of that name")]

    play(GOOD, script)


def test_greylisting_is_passed_at_the_next_try_of_the_schedule() -> None:
    """RFC 6647: put off for five minutes; the schedule tries after one, and after five more."""

    async def script(odd: Odd) -> None:
        sent = await odd.submit()
        await asyncio.sleep(HOUR)
        times = [at for at, _ in await odd.attempts(sent)]
        assert [round(at / MINUTE) for at in times] == [0, 1, 6]
        await _delivered_once(odd)

    play(Manners(greylist=GREYLIST_SECONDS), script)


@pytest.mark.parametrize("extensions", [(), ("PIPELINING",)], ids=["one-by-one", "pipelined"])
def test_a_host_that_takes_data_for_nobody_gets_no_letter(extensions: tuple[str, ...]) -> None:
    """RFC 2920 §3.1: a lone dot at most, where DATA was accepted though no recipient was."""

    async def script(odd: Odd) -> None:
        await odd.submit("Hello\r\n", "nobody@odd.test")
        await asyncio.sleep(MINUTE)
        assert [each.content for each in odd.stranger.kept] in ([], [b""])
        assert [status for _, status, _ in await odd.reports()] == ["5.1.1"]

    play(Manners(extensions=extensions, takes_data_for_nobody=True), script)


def test_a_letter_too_long_for_a_host_is_told_to_the_sender() -> None:
    """RFC 1870 §6.2: it need not even be sent."""

    async def script(odd: Odd) -> None:
        await odd.submit(LONG)
        await asyncio.sleep(MINUTE)
        assert [(action, status) for action, status, _ in await odd.reports()] == [("failed", "5.3.4")]
        assert odd.stranger.kept == []

    play(Manners(extensions=("SIZE 10000",)), script)


# --- broken connections -----------------------------------------------------------------------------


@pytest.mark.parametrize("trick", [Trick.DROP, Trick.CLOSE], ids=lambda trick: trick.name)
@pytest.mark.parametrize("stage", [*REPLIED, Stage.CONTENT], ids=lambda stage: stage.name)
@pytest.mark.parametrize("text", ["Hello Oliver\r\n", LONG], ids=["short", "long"])
def test_a_connection_that_breaks_before_the_end_costs_one_attempt(stage: Stage, trick: Trick, text: str) -> None:
    """RFC 5321 §3.8: a lost connection is a transient failure."""
    extensions = tuple(each for each in GOOD.extensions if each != "CHUNKING" or stage is not Stage.DATA)

    async def script(odd: Odd) -> None:
        sent = await odd.submit(text)
        await asyncio.sleep(10 * MINUTE)
        assert len(await odd.attempts(sent)) == 2
        await _delivered_once(odd, text)

    play(Manners((Habit(stage, trick, times=1),), extensions), script)


@pytest.mark.parametrize("trick", [Trick.KEEP_AND_DROP, Trick.KEEP_AND_CLOSE], ids=lambda trick: trick.name)
def test_a_reply_to_the_final_dot_that_is_lost_means_a_second_copy_and_never_a_loss(trick: Trick) -> None:
    """RFC 5321 §4.5.4.1 and RFC 1047: nobody can know, so the letter is sent again; the first copy is known to be
    unanswered. Alice hears nothing of it."""

    async def script(odd: Odd) -> None:
        sent = await odd.submit()
        await asyncio.sleep(10 * MINUTE)
        (_, first), _ = await odd.attempts(sent)
        assert "it may arrive twice" in first
        assert [each.was_answered for each in odd.stranger.kept] == [False, True]
        assert odd.stranger.kept[0].content == odd.stranger.kept[1].content
        assert await odd.alice.read() == []

    play(Habit(Stage.END, trick, times=1), script)


@pytest.mark.parametrize("stage", [Stage.QUIT, Stage.RSET], ids=lambda stage: stage.name)
@pytest.mark.parametrize("trick", list(Trick), ids=lambda trick: trick.name)
def test_what_happens_after_the_letter_changes_nothing(stage: Stage, trick: Trick) -> None:
    async def script(odd: Odd) -> None:
        await odd.submit()
        await asyncio.sleep(10 * MINUTE)
        await _delivered_once(odd)

    play(Habit(stage, trick), script)


# --- wrong replies ----------------------------------------------------------------------------------


@pytest.mark.parametrize("trick", WRONG, ids=lambda trick: trick.name)
@pytest.mark.parametrize("stage", REPLIED, ids=lambda stage: stage.name)
def test_a_wrong_reply_is_a_clear_deferral(stage: Stage, trick: Trick) -> None:
    """Nonsense is no answer: the attempt is over, its record says why, and the next one delivers. The letter is
    never returned for it. Only where the nonsense follows the final dot may there be a second copy. 214 begins
    with a 2: to a command that waits for 2yz it is a success (RFC 5321 §4.2.1)."""

    async def script(odd: Odd) -> None:
        sent = await odd.submit()
        await asyncio.sleep(20 * MINUTE)
        attempts = await odd.attempts(sent)
        assert all(reason and at < 12 * MINUTE for at, reason in attempts)  # a reply without an end is waited for
        copies = len(odd.stranger.kept)
        assert 1 <= copies <= len(attempts) <= 2
        assert copies == 1 or stage is Stage.END
        assert odd.stranger.kept[-1].was_answered or trick in (Trick.TWO_REPLIES, Trick.SUCCESS_OF_NOTHING)
        assert await odd.queued() == 0
        assert await odd.alice.read() == []

    play(Habit(stage, trick, times=1), script)


# --- extensions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["Hello Oliver\r\n", LONG], ids=["short", "long"])
@pytest.mark.parametrize(
    "manners",
    [
        Manners(),
        Manners(has_ehlo=False),
        Manners(extensions=()),
        Manners(extensions=("PIPELINING",)),
        Manners(extensions=("CHUNKING",)),
        Manners(extensions=("STARTTLS",), has_good_tls=False),
        Manners(is_dribbling=True),
        Manners(is_dribbling=True, delay=40.0),
        Manners(delay=100.0),
    ],
    ids=["all", "helo", "none", "pipelining", "chunking", "bad-tls", "dribbling", "dribbling-slowly", "slow"],
)
def test_whatever_is_offered_a_letter_arrives_at_the_first_attempt(manners: Manners, text: str) -> None:
    async def script(odd: Odd) -> None:
        sent = await odd.submit(text)
        await asyncio.sleep(HOUR)
        assert len(await odd.attempts(sent)) == 1
        await _delivered_once(odd, text)

    play(manners, script)


def test_chunking_offered_by_a_host_that_does_not_know_bdat_returns_no_letter() -> None:
    """It takes the chunk for commands, and answers while it still leaves: the next attempt uses DATA."""

    async def script(odd: Odd) -> None:
        sent = await odd.submit(LONG)
        await asyncio.sleep(10 * MINUTE)
        (_, first), _ = await odd.attempts(sent)
        assert "CHUNKING" in first
        await _delivered_once(odd, LONG)

    play(Habit(Stage.BDAT, Say("502")), script)


# --- time -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "minutes"),
    [
        (Stage.GREETING, 5),
        (Stage.EHLO, 5),
        (Stage.MAIL, 5),
        (Stage.RCPT, 5),
        (Stage.DATA, 2),
        (Stage.CONTENT, 3),
        (Stage.END, 10),
    ],
    ids=lambda value: value.name if isinstance(value, Stage) else "",
)
def test_a_silent_host_is_given_up_after_the_time_of_the_standard(stage: Stage, minutes: int) -> None:
    """RFC 5321 §4.5.3.2, and then as after any failed attempt."""

    async def script(odd: Odd) -> None:
        text = "Hello Oliver\r\n" if stage is Stage.DATA else LONG
        sent = await odd.submit(text)
        await asyncio.sleep(30 * MINUTE)
        (first_at, why), (second_at, _) = await odd.attempts(sent)
        assert minutes * MINUTE < first_at < minutes * MINUTE + SLACK
        assert "in time" in why
        assert MINUTE < second_at - first_at < MINUTE + SLACK
        await _delivered_once(odd, text)

    play(Habit(stage, Trick.IGNORE, times=1), script)


@pytest.mark.parametrize("stage", [Stage.GREETING, Stage.MAIL, Stage.RCPT, Stage.END], ids=lambda stage: stage.name)
def test_an_answer_just_in_time_counts(stage: Stage) -> None:
    async def script(odd: Odd) -> None:
        sent = await odd.submit()
        await asyncio.sleep(20 * MINUTE)
        assert len(await odd.attempts(sent)) == 1
        await _delivered_once(odd)

    play(Habit(stage, Wait(295.0 if stage is not Stage.END else 595.0), times=1), script)


# --- forwarding -------------------------------------------------------------------------------------


def test_a_letter_that_is_forwarded_in_a_circle_ends_with_its_sender() -> None:
    """RFC 5321 §6.3: it comes back to a server that knows it, is refused there, and its sender is told."""

    async def script(odd: Odd) -> None:
        administration = odd.alices.house.administration
        await odd.alices.inside(administration.add_alias("friends@alice.test", [OLIVER]))
        odd.stranger.forwards[OLIVER] = "friends@alice.test"
        await odd.submit("Round and round\r\n", "friends@alice.test")
        await asyncio.sleep(7 * DAY)
        assert 1 <= len(odd.stranger.kept) <= 100
        assert await odd.queued() == 0
        told = await odd.alice.read()
        assert len(told) == 1
        assert b"Round and round" in told[0]

    play(GOOD, script)


def test_a_forwarded_letter_comes_back_once() -> None:
    async def script(odd: Odd) -> None:
        odd.stranger.forwards[OLIVER] = "alice@alice.test"
        sent = await odd.submit("To myself\r\n")
        await asyncio.sleep(HOUR)
        (letter,) = await odd.alice.read()
        assert sent.octets.partition(b"\r\n\r\n")[2] == letter.partition(b"\r\n\r\n")[2]
        assert letter.startswith(b"Return-Path: <alice@alice.test>\r\n")

    play(GOOD, script)


# --- bad lines --------------------------------------------------------------------------------------


@pytest.mark.parametrize("extensions", [("PIPELINING",), ("PIPELINING", "CHUNKING", "STARTTLS")], ids=["data", "bdat"])
@pytest.mark.parametrize("rate", [500, 5_000, 50_000])
def test_a_letter_over_a_slow_line_arrives_however_long_it_takes(rate: int, extensions: tuple[str, ...]) -> None:
    """Time-outs are for hosts that do nothing, RFC 5321 §4.5.3.2.5: here octets leave all the time. A 16 KiB/s line
    with 30 letters at once gives each of them 500 octets a second."""

    async def script(odd: Odd) -> None:
        odd.network.slow(ODD, rate)
        sent = await odd.submit(LONG)
        await asyncio.sleep(HOUR)
        ((at, _),) = await odd.attempts(sent)
        assert at > len(LONG) / rate
        await _delivered_once(odd, LONG)

    play(Manners(extensions=extensions), script)


@pytest.mark.parametrize("after", [0.2, 0.6, 1.0, 1.4])
@pytest.mark.parametrize("silent", [20.0, 20 * MINUTE])
def test_a_half_open_connection_ends_in_a_time_out_and_another_try(after: float, silent: float) -> None:
    async def script(odd: Odd) -> None:
        sent = await odd.submit(LONG)
        await asyncio.sleep(after)
        odd.network.silence(ODD)
        await asyncio.sleep(silent)
        odd.network.unsilence(ODD)
        await asyncio.sleep(2 * HOUR)
        assert 1 <= len(await odd.attempts(sent)) <= 5
        await _delivered_once(odd, LONG)

    play(GOOD, script)


@pytest.mark.parametrize("fault", ["refuse", "unreachable", "reset", "partition"])
def test_a_network_that_fails_for_an_hour(fault: str) -> None:
    async def script(odd: Odd) -> None:
        if fault == "partition":
            odd.network.partition([ODD])
        elif fault != "reset":
            getattr(odd.network, fault)(ODD)
        await odd.submit()
        for _ in range(60):
            if fault == "reset":
                await asyncio.sleep(1)
                odd.network.reset(ODD)
            await asyncio.sleep(MINUTE)
        odd.network.accept(ODD)
        odd.network.heal()
        await asyncio.sleep(HOUR)
        await _delivered_once(odd)

    play(GOOD, script)


# --- DNS --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["odd.test", "mx.odd.test"])
@pytest.mark.parametrize("kind", ["servfail", "timeout"])
def test_a_name_that_cannot_be_looked_up_is_tried_again(name: str, kind: str) -> None:
    """RFC 5321 §5.1: a temporary error of DNS is no reason to return a letter."""

    async def script(odd: Odd) -> None:
        odd.world.dns.fail(name, kind, until=HOUR)
        await odd.submit()
        await asyncio.sleep(HOUR)
        assert await odd.queued() == 1
        await asyncio.sleep(HOUR)
        await _delivered_once(odd)

    play(GOOD, script)


def test_a_domain_that_does_not_exist_is_told_to_the_sender() -> None:
    async def script(odd: Odd) -> None:
        odd.world.dns.fail("odd.test", "nxdomain")
        await odd.submit()
        await asyncio.sleep(MINUTE)
        assert [(action, status) for action, status, _ in await odd.reports()] == [("failed", "5.1.2")]

    play(GOOD, script)


def test_mail_follows_its_mx_to_another_host() -> None:
    async def script(odd: Odd) -> None:
        odd.world.dns.replace_mx("odd.test", "gone.odd.test")
        odd.world.dns.add_host("gone.odd.test", "203.0.113.99")
        await odd.submit()
        await asyncio.sleep(10 * MINUTE)
        assert await odd.queued() == 1
        odd.world.dns.replace_mx("odd.test", "mx.odd.test")
        await asyncio.sleep(HOUR)
        await _delivered_once(odd)

    play(GOOD, script)


# --- by chance --------------------------------------------------------------------------------------


def test_manners_are_a_function_of_chance() -> None:
    drawn = [draw(Random(seed)) for seed in range(200)]
    assert drawn == [draw(Random(seed)) for seed in range(200)]
    assert {habit.stage for each in drawn for habit in each.habits} == set(Stage)
    refusals = [habit for seed in range(200) for habit in draw(Random(seed), is_kind=True).habits]
    assert not any(isinstance(each.act, Say) and each.act.reply.startswith("5") for each in refusals)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_a_stranger_does_every_letter_is_accounted_for(seed: int) -> None:
    """Kept by the stranger, or told to Alice as failed: by six days one of the two, and a second copy only beside
    one that was not answered."""
    chance = Random(f"stranger/{seed}")

    async def script(odd: Odd) -> None:
        for _ in range(5):
            await odd.submit(chance.choice(("Hello\r\n", LONG)), OLIVER)
            await asyncio.sleep(chance.choice((1.0, MINUTE, HOUR)))
        odd.stranger.manners = draw(chance)
        await asyncio.sleep(6 * DAY)
        assert await odd.queued() == 0
        told = len([action for action, _, _ in await odd.reports() if action == "failed"])
        by_letter: dict[bytes, list[bool]] = {}
        for each in odd.stranger.kept:
            by_letter.setdefault(each.content.partition(b"Message-ID:")[2][:40], []).append(each.was_answered)
        assert all(sum(answered) <= 1 for answered in by_letter.values())
        assert len(by_letter) <= 5 <= len(by_letter) + told

    play(draw(chance), script)


# --- connections ------------------------------------------------------------------------------------


@pytest.mark.parametrize("habits", [(), (Habit(Stage.MAIL, Trick.DROP),), (Habit(Stage.END, Trick.KEEP_AND_CLOSE),)])
def test_no_connection_is_opened_for_nothing(habits: tuple[Habit, ...]) -> None:
    """One letter, one connection for each attempt: hosts count connections, and refuse who comes too often."""

    async def script(odd: Odd) -> None:
        sent = await odd.submit()
        await asyncio.sleep(20 * MINUTE)
        assert odd.stranger.visits == len(await odd.attempts(sent))

    play(Manners(habits), script)


def test_a_burst_of_letters_shares_connections() -> None:
    """The second connection comes when the first has more than it can carry at once."""

    async def script(odd: Odd) -> None:
        odd.network.refuse(ODD)
        for _ in range(35):
            await odd.submit()
        odd.network.accept(ODD)
        await odd.retry()
        await asyncio.sleep(MINUTE)
        assert len(odd.stranger.kept) == 35
        assert 2 <= odd.stranger.visits <= 5

    play(GOOD, script)
