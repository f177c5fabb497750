# SPDX-License-Identifier: Apache-2.0
"""The disk is nearly full: new mail is put off with 452 4.3.1, reading and deleting go on, and it ends by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from posthouse.services import limits
from tests.system.post import Post

RESERVE = 50 << 20
LETTER = b"From: alice@alice.test\r\nSubject: x\r\n\r\nhello\r\n"
LARGE = LETTER + b"0123456789abcdef\r\n" * 40_000


@pytest.fixture(autouse=True)
def looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server asks the system at every letter, not once a second."""
    monkeypatch.setattr(limits, "ROOM_CHECK", 0.0)


@pytest.fixture
async def full(opener: Callable[..., Any]) -> Post:
    """One letter for Bob, then the space is gone."""
    post: Post = await opener(store={"reserve": RESERVE})
    post.disk.free = 2 * RESERVE
    async with await post.smtp() as wire:
        assert (await wire.letter("a@b.test", ["bob@bob.test"], LETTER)).startswith("250")
    post.disk.free = RESERVE - 1
    return post


async def test_mail_is_put_off_by_every_door_and_then_taken(full: Post) -> None:
    for service in ("smtp", "lmtp", "submissions"):
        async with await full.connect(service) as wire:
            await wire.hello(verb="LHLO" if service == "lmtp" else "EHLO")
            if service == "submissions":
                assert (await wire.log_in("alice@alice.test")).startswith("235")
            full.disk.free = RESERVE - 1
            assert (await wire.say("MAIL FROM:<alice@alice.test>")).startswith("452 4.3.1"), service
            full.disk.free = RESERVE
            assert (await wire.letter("alice@alice.test", ["bob@bob.test"], LETTER)).startswith("250"), service
    assert len(await full.letters("bob@bob.test")) == 4


@pytest.mark.parametrize("content", [LETTER, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("command", ["DATA", "BDAT"])
async def test_space_that_ends_within_a_letter_is_452_at_its_end(full: Post, content: bytes, command: str) -> None:
    before = await full.contents()
    files = sorted((full.house.folder / "packs").iterdir())
    async with await full.smtp() as wire:
        for free, reply in ((RESERVE - 1, "452 4.3.1"), (RESERVE, "250 2.0.0")):
            full.disk.free = RESERVE
            await wire.say_all("MAIL FROM:<a@b.test>", "RCPT TO:<bob@bob.test>", "RCPT TO:<sales@bob.test>")
            if command == "DATA":
                assert (await wire.say("DATA")).startswith("354")
            full.disk.free = free
            whole = content + b".\r\n" if command == "DATA" else f"BDAT {len(content)} LAST\r\n".encode() + content
            await wire.send(whole)
            assert (await wire.reply()).startswith(reply)
            if free < RESERVE:
                assert await full.contents() == before
                assert sorted((full.house.folder / "packs").iterdir()) == files
    assert len(await full.letters("bob@bob.test")) == 2


async def test_reading_and_deleting_go_on(full: Post) -> None:
    async with await full.connect("pop3s") as wire:
        assert (await wire.maildrop("bob@bob.test")).startswith("+OK 1 ")
        assert (await wire.retrieve(1)).endswith(LETTER)
        assert (await wire.ask("DELE 1")).startswith("+OK")
        assert (await wire.ask("QUIT")).startswith("+OK")
    assert await full.letters("bob@bob.test") == []


async def test_a_full_disk_does_not_count_as_the_clients_errors(opener: Callable[..., Any]) -> None:
    """A relay that keeps its connection and tries again is not sent away for our trouble."""
    post = await opener(store={"reserve": RESERVE}, smtp={"tarpit_after": 1, "close_after": 2})
    post.disk.free = 0
    async with await post.smtp() as wire:
        for _ in range(10):
            assert (await wire.say("MAIL FROM:<a@b.test>")).startswith("452 4.3.1")
        post.disk.free = RESERVE
        assert (await wire.letter("a@b.test", ["bob@bob.test"], LETTER)).startswith("250")
