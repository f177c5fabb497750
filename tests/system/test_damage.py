# SPDX-License-Identifier: Apache-2.0
"""The disk lied: what readers and other servers get of a hurt letter is a clear word, never its octets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posthouse.edges.control.api import control_app
from posthouse.office import office_of, store_check_of
from posthouse.store.queue_admin import Selection
from tests.store.drill import flip
from tests.system.post import Post
from tests.system.sink import Sink
from tests.system.test_waiting import hold

LARGE = b"0123456789abcdef" * 20


def letter(number: int, *, lines: int = 3) -> bytes:
    head = f"From: alice@alice.test\r\nSubject: number {number}\r\nMessage-ID: <{number}@alice.test>\r\n\r\n".encode()
    return head + (LARGE + f" hello {number}\r\n".encode()) * lines


def hurt(post: Post, octets: bytes) -> None:
    """Flip a bit of the letter that holds these octets."""
    for path in sorted((post.house.folder / "packs").glob("*.pack")):
        place = path.read_bytes().find(octets)
        if place >= 0:
            flip(path, place + len(octets) // 2)
            post.house.blobs.forget_checked()
            return
    raise AssertionError("not in the packs")


async def deliver(post: Post, *letters: bytes) -> None:
    async with await post.smtp() as wire:
        for each in letters:
            assert (await wire.letter("alice@alice.test", ["bob@bob.test"], each)).startswith("250")


async def release(post: Post) -> None:
    await post.house.queue_desk.release(Selection())


async def until(post: Post, state: str) -> None:
    """Wait until what is left in the queue was tried, and is in this state. Every change is a unit of work, so one
    unit after another is waited for."""
    sql = "SELECT state, attempts > 0 FROM queue_recipient"
    async with asyncio.timeout(20):
        while True:
            rows = await post.house.database.write(lambda tx: tx.rows(sql))
            if rows == [(state, 1)]:
                return


@pytest.mark.parametrize("lines", [3, 1_500], ids=["small", "large"])
async def test_pop3_refuses_a_hurt_letter_for_good_and_gives_the_others(post: Post, lines: int) -> None:
    """RFC 3206 §4: SYS/PERM needs somebody's hand. The letter stays, and may be deleted."""
    await deliver(post, letter(1), letter(2, lines=lines), letter(3))
    hurt(post, letter(2, lines=lines)[-200:])
    async with await post.connect("pop3s") as wire:
        await wire.maildrop("bob@bob.test")
        assert letter(1) in await wire.retrieve(1)
        for command in ("RETR 2", "TOP 2 1", "RETR 2"):
            answer = await wire.ask(command)
            assert answer.startswith("-ERR [SYS/PERM] This letter is damaged"), answer
        assert letter(3) in await wire.retrieve(3)
        assert (await wire.ask("DELE 2")).startswith("+OK")
        assert (await wire.ask("QUIT")).startswith("+OK")
    assert [each[-40:] for each in await post.letters("bob@bob.test")] == [letter(1)[-40:], letter(3)[-40:]]


async def test_pop3_says_that_a_letter_of_a_lost_pack_is_damaged_not_removed(post: Post) -> None:
    await deliver(post, letter(1))
    for path in (post.house.folder / "packs").glob("*.pack"):
        path.unlink()
    post.house.blobs.forget_checked()
    post.house.blobs._maps.clear()
    async with await post.connect("pop3s") as wire:
        await wire.maildrop("bob@bob.test")
        assert (await wire.ask("RETR 1")).startswith("-ERR [SYS/PERM]")


async def test_pop3_says_that_a_letter_whose_rows_are_lost_is_damaged_not_removed(post: Post) -> None:
    await deliver(post, letter(1), letter(2))
    await post.house.database.write(lambda tx: tx.run("DELETE FROM blob WHERE id = (SELECT MAX(id) FROM blob)"))
    async with await post.connect("pop3s") as wire:
        await wire.maildrop("bob@bob.test")
        assert (await wire.ask("RETR 2")).startswith("-ERR [SYS/PERM]")
        assert letter(1) in await wire.retrieve(1)


async def test_the_queue_holds_a_hurt_letter_and_says_why_and_sends_the_others(
    opener: Callable[..., Any],
) -> None:
    async with Sink() as sink:
        post: Post = await opener(routes={"elsewhere.test": f"127.0.0.1:{sink.port}"})
        for number in (1, 2, 3):
            await hold(post, "x@elsewhere.test", content=letter(number))
        hurt(post, letter(2)[-200:])
        await release(post)
        await sink.wait_for(lambda: len(sink.letters) == 2)
        await until(post, "held")
        assert [each for each in sink.letters if b"number 2" in each] == []
        [entry], _ = await post.house.queue_desk.list_letters(Selection())
        detail = await post.house.queue_desk.show(entry.id)
        assert detail is not None
        [recipient] = detail.recipients
        assert recipient.outcome is not None
        assert "damaged on this server's disk; it is held" in recipient.outcome.diagnostic
        assert str(recipient.outcome.status) == "4.3.0"


async def test_a_hurt_letter_for_a_mailbox_here_is_held_too(post: Post) -> None:
    await hold(post, "bob@bob.test", content=letter(1))
    hurt(post, letter(1)[-200:])
    await release(post)
    await until(post, "held")
    assert await post.letters("bob@bob.test") == []


async def test_a_queued_letter_whose_rows_are_lost_is_held_and_not_claimed_for_ever(post: Post) -> None:
    await hold(post, "bob@bob.test", content=letter(1))
    await post.house.database.write(lambda tx: tx.run("DELETE FROM blob WHERE id = (SELECT MAX(id) FROM blob)"))
    await release(post)
    await until(post, "held")
    assert await post.letters("bob@bob.test") == []


async def test_export_says_which_letter_is_hurt(post: Post) -> None:
    import httpx2

    await deliver(post, letter(1))
    hurt(post, letter(1)[-200:])
    app = control_app(office_of(post.house, lambda: None, is_serving=True))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://posthouse") as client:
        [item] = (await client.get("/v1/accounts/bob@bob.test/letters")).json()
        answer = await client.get(f"/v1/accounts/bob@bob.test/letters/{item['letter']}")
        assert answer.status_code == 422
        assert answer.json()["status"] == "5.3.0"
        assert item["letter"] in answer.json()["error"]


async def test_a_check_of_a_server_at_work_finds_nothing_that_is_not_so(opener: Callable[..., Any]) -> None:
    """Letters come, go and are compacted while it reads; a real loss among them is still found."""
    post: Post = await opener(store={"reserve": 0, "pack_size": "1M"})
    await deliver(post, *(letter(number, lines=60) for number in range(60)))
    is_over = asyncio.Event()

    async def come() -> None:
        number = 100
        while not is_over.is_set():
            await deliver(post, letter(number, lines=40))
            number += 1

    async def go() -> None:
        account = await post.house.directory.account("bob@bob.test")
        assert account is not None
        compaction = post.server._housekeeping._compaction
        while not is_over.is_set():
            drop = await post.house.maildrops.open(account)
            for number in list(drop.numbers())[:8]:
                drop.delete(number)
            await drop.commit()
            drop.release()
            await compaction.run()
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        group.create_task(come())
        group.create_task(go())
        check = store_check_of(post.house)
        try:
            for _ in range(8):
                found = await check.run()
                assert [each.text for each in found if each.level != "ok"] == []
        finally:
            is_over.set()
    left = await post.letters("bob@bob.test")
    hurt(post, left[-1][-150:])
    [found] = [each for each in await check.run() if each.level == "error"]
    assert found.letter is not None
    assert found.letter.owner == "bob@bob.test"


async def test_repair_while_serving_gives_the_letter_back(post: Post, tmp_path: Path) -> None:
    import shutil

    await deliver(post, letter(1), letter(2, lines=1_500))
    backup = tmp_path / "backup"
    shutil.copytree(post.house.folder / "packs", backup)
    for each in (letter(1), letter(2, lines=1_500)):
        hurt(post, each[-200:])
    check = store_check_of(post.house)
    assert {each.level for each in await check.run()} == {"error"}
    found = await check.run(repair=True, source=backup)
    assert {each.level for each in found} == {"mended"}
    async with await post.connect("pop3s") as wire:
        await wire.maildrop("bob@bob.test")
        assert letter(1) in await wire.retrieve(1)
        assert letter(2, lines=1_500) in await wire.retrieve(2)
    assert {each.level for each in await check.run()} <= {"ok", "warning"}
