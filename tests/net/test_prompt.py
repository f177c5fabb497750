# SPDX-License-Identifier: Apache-2.0
"""Answers begun where the octets arrive: the same answers in the same order, with the task only where it is needed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from posthouse.net import connection
from posthouse.net.prompt import Begun, begin
from tests.net.echo import EchoSession, House, within

ON_BOTH_LOOPS = True


async def test_an_answer_that_needs_no_waiting_does_not_wake_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[str] = []
    wait = connection.Connection._wait

    async def counted(self: connection.Connection) -> bool:
        waits.append("begins")
        return await wait(self)

    monkeypatch.setattr(connection.Connection, "_wait", counted)
    async with House() as house:
        client = await house.connect()
        await client.line()
        for word in (b"one", b"two", b"three"):
            assert await client.say(word) == word + b"\r\n"
        assert len(waits) == 1, "the task sleeps on"
        await client.say(b"QUIT")
        await client.close()


async def test_an_answer_that_waits_is_finished_by_the_task_and_what_comes_after_it_waits() -> None:
    async with House() as house:
        client = await house.connect()
        await client.line()
        client.write(b"one", b"wait", b"two")
        await within(house.reached.wait)
        client.write(b"three")
        house.gate.set()
        words = (b"one", b"waited", b"two", b"three")
        assert [await client.line() for _ in words] == [word + b"\r\n" for word in words]
        await client.say(b"QUIT")
        await client.close()


async def test_a_group_longer_than_one_turn_is_answered_whole_and_in_order() -> None:
    words = [b"word %d" % number for number in range(10 * connection.AT_ONCE)]
    async with House() as house:
        client = await house.connect()
        await client.line()
        client.write(*words)
        assert [await client.line() for _ in words] == [word + b"\r\n" for word in words]
        await client.say(b"QUIT")
        await client.close()


async def test_a_session_that_knows_its_task_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio.timeout asks for the current task, before the first wait already."""
    tasks: list[asyncio.Task[Any] | None] = []

    async def answer(self: EchoSession, event: Any) -> None:
        tasks.append(asyncio.current_task())
        async with asyncio.timeout(60):
            await asyncio.sleep(0)
        tasks.append(asyncio.current_task())
        self.engine.send(event.text + b"\r\n")
        self.engine.is_over = event.text == b"end"

    monkeypatch.setattr(EchoSession, "answer", answer)
    async with House() as house:
        client = await house.connect()
        await client.line()
        await client.say(b"one")
        await client.say(b"end")
        assert len(set(tasks)) == 1
        assert tasks[0] is not None
        await client.close()


async def test_a_defect_in_an_answer_on_the_spot_ends_the_connection_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with House() as house:
        client, other = await house.connect(), await house.connect()
        await client.line()
        await other.line()
        with contextlib.suppress(ConnectionError):
            assert await client.say(b"bad") == b""
        assert await other.say(b"still here") == b"still here\r\n"
        await client.close()
        await other.say(b"QUIT")
        await other.close()
    assert house.sessions[0].ends == 1


async def test_what_was_begun_is_ended_with_its_task_when_that_is_cancelled() -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    steps: list[str] = []

    async def work() -> None:
        try:
            await future
        finally:
            await asyncio.sleep(0)
            steps.append("cleaned up")

    async def sleeper() -> None:
        await asyncio.sleep(3600)

    task = asyncio.create_task(sleeper())
    own = asyncio.current_task()
    assert own is not None
    asyncio.tasks._leave_task(loop, own)
    try:
        begun = begin(work(), loop, task)
    finally:
        asyncio.tasks._enter_task(loop, own)
    assert isinstance(begun, Begun)
    with pytest.raises(asyncio.CancelledError):
        await begun.cancel()
    assert steps == ["cleaned up"]
    assert future.cancelled()
    task.cancel()


async def test_what_the_future_ends_with_comes_out_where_it_was_awaited() -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[str] = loop.create_future()
    seen: list[str] = []

    async def work() -> None:
        try:
            await future
        except ValueError as error:
            seen.append(str(error))

    own = asyncio.current_task()
    assert own is not None
    asyncio.tasks._leave_task(loop, own)
    try:
        begun = begin(work(), loop, own)
    finally:
        asyncio.tasks._enter_task(loop, own)
    assert begun is not None
    loop.call_soon(future.set_exception, ValueError("told"))
    await begun
    assert seen == ["told"]
