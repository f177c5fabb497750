# SPDX-License-Identifier: Apache-2.0
"""Submitted letters that wait for people here (held, or sent for later): queued as `local`, delivered when released."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.mail.address import parse_address
from posthouse.mail.envelope import ForwardPath, Notify, ReversePath
from posthouse.services.delivery import Origin, finished
from posthouse.services.transaction import Recipient
from posthouse.store.queue_admin import Selection
from tests.system.post import Post

CONTENT = b"From: alice@alice.test\r\nSubject: later\r\n\r\n.x\r\n"
TRACE = b"Received: by mail.example.test\r\n"
ME = ReversePath(parse_address("alice@alice.test"))


async def hold(post: Post, *recipients: str, content: bytes = CONTENT, notify: Notify | None = None) -> None:
    """What a submission with a hold does."""
    house = post.house
    account = await house.directory.account("alice@alice.test")
    paths = [ForwardPath(parse_address(each), notify) for each in recipients]
    chosen = [Recipient(path, await house.directory.resolve(path.address)) for path in paths]
    origin = Origin("t1", house.machine.clock.wall(), TRACE, "alice", account=account, is_held=True)
    plan = house.delivery.plan(finished(content), ME, chosen, origin)
    assert not plan.places
    await house.database.write(plan.run)
    house.delivery.announce(plan)


async def release(post: Post) -> None:
    """Release all that is held and wait until it is done."""
    changed = asyncio.Event()
    post.house.bus.subscribe("queue", 0, lambda _: changed.set())
    await post.house.queue_desk.release(Selection())
    async with asyncio.timeout(20):
        while any(hop == "local" and state in ("due", "claimed") for _, hop, state in await post.queued()):
            await changed.wait()
            changed.clear()


async def test_a_held_letter_reaches_nobody_until_it_is_released(post: Post) -> None:
    await hold(post, "bob@bob.test", "sales@bob.test", "x@elsewhere.test")
    assert await post.letters("bob@bob.test") == []
    assert {(hop, state) for _, hop, state in await post.queued()} == {("local", "held"), ("elsewhere.test", "held")}
    await release(post)
    (letter,) = await post.letters("bob@bob.test")
    assert letter == b"Return-Path: <alice@alice.test>\r\nDelivered-To: bob@bob.test\r\n" + TRACE + CONTENT
    assert len(await post.letters("carol@bob.test")) == 1


@pytest.mark.parametrize("size", [100, 300_000])
async def test_content_is_the_same_whatever_its_size(post: Post, size: int) -> None:
    content = CONTENT + b"0123456789abcdef\r\n" * (size // 18)
    await hold(post, "bob@bob.test", content=content)
    await release(post)
    (letter,) = await post.letters("bob@bob.test")
    assert letter.endswith(TRACE + content)


async def test_who_is_gone_meanwhile_is_told_to_the_sender(post: Post) -> None:
    await hold(post, "bob@bob.test", "carol@bob.test")
    await post.house.administration.disable("carol@bob.test")
    await release(post)
    assert len(await post.letters("bob@bob.test")) == 1
    (report,) = await post.letters("alice@alice.test")
    assert b"Action: failed" in report
    assert b"Final-Recipient: rfc822; carol@bob.test" in report
    assert b"Status: 5.2.1" in report


async def test_an_alias_may_lead_away_by_then(post: Post) -> None:
    await hold(post, "both@bob.test")
    await release(post)
    assert len(await post.letters("bob@bob.test")) == 1
    assert ("bob@elsewhere.test", "elsewhere.test", "due") in await post.queued()


async def test_success_is_reported_once_when_it_is_true(post: Post) -> None:
    await hold(post, "bob@bob.test", notify=Notify.SUCCESS)
    assert await post.letters("alice@alice.test") == []
    await release(post)
    (report,) = await post.letters("alice@alice.test")
    assert b"Action: delivered" in report


async def test_a_letter_has_one_history_row(post: Post) -> None:
    await hold(post, "bob@bob.test", "carol@bob.test")
    await release(post)
    rows = await post.house.database.read(lambda reader: reader.rows("SELECT id, trace FROM history"))
    assert [trace for _, trace in rows if trace == "t1"] == ["t1"]
