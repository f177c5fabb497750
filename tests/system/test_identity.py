# SPDX-License-Identifier: Apache-2.0
"""Nobody sends under another's name: what a logged-in user may try with the fields that say who writes."""

from __future__ import annotations

import pytest

from posthouse.mail.header import MAX_FIELDS
from posthouse.services.incoming import SPOOL_ABOVE
from posthouse.services.submission import MAX_AUTHORS
from tests.system.post import Post

ME = b"From: alice@alice.test\r\n"
OTHER = b"From: bob@bob.test\r\n"
# Together with the Message-ID and the Date that are added it is longer than what is scanned.
ALMOST_TOO_LONG = b"X: y\r\n" + (b" " + b"y" * 900 + b"\r\n") * ((SPOOL_ABOVE - 1200) // 903)

NOT_MINE = "550 5.7.1"
NOT_CLEAR = "550 5.6.0"


@pytest.mark.parametrize(
    ("header", "reply"),
    [
        (b"From:\r\n bob@bob.test\r\n", NOT_MINE),
        (b"From: G:bob@bob.test;\r\n", NOT_MINE),
        (b'From: "alice@alice.test" <"bob@bob.test"@alice.test>\r\n', NOT_MINE),
        # Several authors are all shown, the first one above all.
        (b"From: bob@bob.test, alice@alice.test\r\n", NOT_MINE),
        (b"From: alice@alice.test, bob@bob.test\r\nSender: alice@alice.test\r\n", NOT_MINE),
        (ME + b"Sender: bob@bob.test\r\n", NOT_MINE),
        (ME + b"Resent-From: bob@bob.test\r\n", NOT_MINE),
        (ME + b"Resent-From: alice@alice.test\r\nResent-Sender: bob@bob.test\r\n", NOT_MINE),
        # Fields that are there twice: readers show the first or the last.
        (ME + b"from\t: bob@bob.test\r\n", NOT_CLEAR),
        (ME + b"Sender: alice@alice.test\r\nSender: bob@bob.test\r\n", NOT_CLEAR),
        # What one reader takes for the address and another for the name.
        (b"From: bob@bob.test <alice@alice.test>\r\n", NOT_CLEAR),
        (b"From: <alice@alice.test> bob@bob.test\r\n", NOT_CLEAR),
        (b"From: alice@alice.test, =?utf-8?q?=3Cbob=40bob.test=3E?=\r\n", NOT_CLEAR),
        # A second From where the scan does not look, or does not see a field.
        (ME + b"X: y\r\n" * MAX_FIELDS + OTHER, NOT_CLEAR),
        (ME + ALMOST_TOO_LONG + b"X: " + b"y" * 120 + b"\r\n" + OTHER, NOT_CLEAR),
        (b" " + OTHER + ME, NOT_CLEAR),
        (ME + b"X\r\n " + OTHER, NOT_CLEAR),
        (ME + b"\x0b" + OTHER, NOT_CLEAR),
        (ME + "F\u00adrom: bob@bob.test\r\n".encode(), NOT_CLEAR),
        # Reading a list costs time, and a user's letter must not hold up everybody's.
        (b"From: " + b"alice@alice.test,\r\n " * (MAX_AUTHORS // 17) + b"alice@alice.test\r\n", NOT_CLEAR),
    ],
    ids=lambda value: repr(value[:40]),
)
async def test_a_name_that_is_not_ones_own_is_refused(post: Post, header: bytes, reply: str) -> None:
    async with await post.submission("alice@alice.test") as wire:
        answer = await wire.letter("alice@alice.test", ["carol@bob.test"], header + b"\r\nhello\r\n")
    assert answer.startswith(reply)
    assert await post.letters("carol@bob.test") == []


@pytest.mark.parametrize(
    "header",
    [
        b'From: "bob@bob.test" <ALICE@alice.test>\r\n',
        b"From: alice@alice.test <alice@alice.test>\r\n",
        b"From: Group: alice@alice.test, alice+work@alice.test;\r\n",
        ME + b"Resent-From: alice@alice.test\r\nResent-From: bob@bob.test\r\n",
    ],
)
async def test_ones_own_name_in_its_many_forms_is_taken(post: Post, header: bytes) -> None:
    async with await post.submission("alice@alice.test") as wire:
        answer = await wire.letter("alice@alice.test", ["carol@bob.test"], header + b"\r\nhello\r\n")
    assert answer.startswith("250")


@pytest.mark.parametrize("door", ["smtp", "lmtp"])
@pytest.mark.parametrize("blank", [b" ", b"\t"])
async def test_a_letter_cannot_go_on_with_our_own_trace_field(post: Post, door: str, blank: bytes) -> None:
    """A first line that begins with a blank would become a part of the Received before it (RFC 5322 §2.2.3)."""
    wire = await post.connect(door)
    async with wire:
        await wire.hello(verb="LHLO" if door == "lmtp" else "EHLO")
        answer = await wire.letter("x@example.test", ["bob@bob.test"], blank + b"(by an honest host)\r\n\r\nhello\r\n")
    assert answer.startswith("550 5.6.0")
