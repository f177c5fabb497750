# SPDX-License-Identifier: Apache-2.0
"""Who may stay: sessions end with their account's welcome, they have a limit, and the server's stop is polite."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import structlog.testing

from posthouse.protocol.imap.limits import MAX_BAD_IN_A_ROW
from tests.system.imap import BOB, Imap
from tests.system.post import PASSWORD, Post

LETTER = b"Subject: x\r\n\r\nHello.\r\n"
DISMISSED = b"* BYE [EXPIRED] "
Act = Callable[[Post], Any]


async def _revoke(post: Post) -> None:
    made = await post.house.administration.add_app_password(BOB, "telephone")
    await post.house.administration.revoke_app_password(BOB, made.id)


ENDINGS: dict[str, Act] = {
    "disabled": lambda post: post.house.administration.disable(BOB),
    "removed": lambda post: post.house.administration.remove_account(BOB),
    "password": lambda post: post.house.administration.set_password(BOB, "another"),
    "app password": _revoke,
}


@pytest.mark.parametrize("act", ENDINGS.values(), ids=ENDINGS)
async def test_sessions_end_when_their_owner_may_not_stay(post: Post, act: Act) -> None:
    """One between commands, one in IDLE, one within a letter."""
    waiting, idling = await Imap.open(post), await Imap.open(post, mailbox="INBOX")
    writing, other = await Imap.open(post), await Imap.open(post, "carol@bob.test")
    await idling.idle()
    await writing.say("APPEND INBOX {1000}")
    assert (await writing.response()).startswith(b"+")
    await writing.wire.send(b"half")
    await act(post)
    for session in (waiting, idling, writing):
        while not (last := await session.response()).startswith(b"* BYE"):
            assert last, "closed without a word"
        assert last.startswith(DISMISSED)
        assert await session.response() == b""
    assert (await other.ask("NOOP")).startswith("OK")
    for session in (waiting, idling, writing, other):
        await session.wire.hang_up()


@pytest.mark.parametrize(
    "act",
    [
        lambda post: post.house.administration.set_quota(BOB, 10**9),
        lambda post: post.house.administration.add_app_password(BOB, "telephone"),
        lambda post: post.house.administration.set_password("carol@bob.test", "another"),
    ],
)
async def test_other_changes_disturb_nobody(post: Post, act: Act) -> None:
    async with await Imap.open(post) as bob:
        await act(post)
        assert (await bob.ask("NOOP")).startswith("OK")


async def test_what_is_piped_in_after_the_dismissal_is_not_done(post: Post) -> None:
    async with await Imap.open(post) as bob:
        await post.house.administration.disable(BOB)
        await asyncio.sleep(0)  # the bus has told
        await bob.wire.send(b"a CREATE One\r\nb CREATE Two\r\n")
        assert (await bob.response()).startswith(DISMISSED)
        assert await bob.response() == b""


async def test_an_account_has_so_many_sessions_at_once(opener: Callable[..., Any]) -> None:
    post = await opener(imap={"max_sessions_per_account": 2})
    async with await Imap.open(post), await Imap.open(post) as second, await Imap.open(post, "carol@bob.test"):
        late = Imap(await post.connect("imaps"))
        await late.response()
        assert (await late.ask(f"LOGIN {BOB} {PASSWORD}")).startswith("NO [LIMIT]")
        assert (await second.ask("UNAUTHENTICATE")).startswith("OK")
        assert (await late.ask(f"LOGIN {BOB} {PASSWORD}")).startswith("OK")
        assert (await second.ask(f"LOGIN {BOB} {PASSWORD}")).startswith("NO [LIMIT]")
        await late.wire.hang_up()
    await post.is_quiet()
    async with await Imap.open(post), await Imap.open(post):
        pass


async def test_who_knows_no_imap_is_sent_away(post: Post) -> None:
    async with await Imap.open(post) as bob:
        for _ in range(MAX_BAD_IN_A_ROW):
            assert (await bob.ask("NONSENSE")).startswith("BAD")
        assert (await bob.response()).startswith(b"* BYE")
        assert await bob.response() == b""


# --- the server's stop ----------------------------------------------------------------------------


async def test_at_the_stop_idle_sessions_hear_bye_and_running_commands_are_answered(post: Post) -> None:
    waiting, idling, writing = await Imap.open(post), await Imap.open(post, mailbox="INBOX"), await Imap.open(post)
    stranger = Imap(await post.connect("imaps"))
    await stranger.response()
    await idling.idle()
    await writing.say(f"APPEND INBOX {{{len(LETTER)}}}")
    assert (await writing.response()).startswith(b"+")
    stopping = asyncio.ensure_future(asyncio.gather(*(each.stop(10) for each in post.server.listeners)))
    for session in (waiting, idling, stranger):
        while not (last := await session.response()).startswith(b"* BYE [UNAVAILABLE]"):
            assert last, "closed without a word"
        assert await session.response() == b""
    await writing.wire.send(LETTER + b"\r\n")
    assert (await writing.answer())[1].startswith("OK [APPENDUID")
    assert (await writing.response()).startswith(b"* BYE [UNAVAILABLE]")
    await stopping
    for session in (waiting, idling, stranger, writing):
        await session.wire.hang_up()
    assert len(await post.letters(BOB)) == 1


# --- log and metrics ------------------------------------------------------------------------------


async def test_a_session_is_two_lines_of_the_log(post: Post) -> None:
    with structlog.testing.capture_logs() as entries:
        async with await Imap.open(post, mailbox="INBOX") as bob:
            await bob.append("INBOX", LETTER, LETTER)
            await bob.ask("NOOP")
            await bob.ask("NONSENSE")
        await post.is_quiet()
    first, last = [entry for entry in entries if entry.get("part") == "imap"]
    assert first["event"] == "logged in"
    assert (last["event"], last["commands"], last["appended"]) == ("session ended", 5, 2)


async def test_commands_are_counted_by_name(post: Post) -> None:
    async with await Imap.open(post, mailbox="INBOX") as bob:
        await bob.append("INBOX", LETTER, LETTER)
        await bob.done(await bob.idle())
        page = post.house.metrics.page().decode()
    for name, count in {"login": 1, "select": 1, "append": 1, "idle": 1}.items():
        assert f'posthouse_imap_commands_total{{command="{name}"}} {count}.0' in page
    assert 'posthouse_open_sessions{protocol="imap"} 1.0' in page
    await post.is_quiet()
    assert 'posthouse_open_sessions{protocol="imap"} 0.0' in post.house.metrics.page().decode()
