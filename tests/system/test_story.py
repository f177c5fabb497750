# SPDX-License-Identifier: Apache-2.0
"""A letter's way through the whole server, over real connections."""

from __future__ import annotations

from tests.system.post import Post

LETTER = b"From: someone@example.test\r\nTo: bob@bob.test\r\nSubject: hello\r\n\r\nHow are you?\r\n.\r\n..x\r\n"


async def test_a_letter_is_received_and_read(post: Post) -> None:
    async with await post.smtp() as wire:
        assert (await wire.letter("someone@example.test", ["bob@bob.test"], LETTER)).startswith("250 2.0.0")
    async with await post.connect("pop3s") as reader:
        assert (await reader.maildrop("bob@bob.test")).startswith("+OK 1 ")
        found = await reader.retrieve(1)
    assert found.endswith(LETTER)
    assert found == (await post.letters("bob@bob.test"))[0]
