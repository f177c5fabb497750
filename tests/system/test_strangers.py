# SPDX-License-Identifier: Apache-2.0
"""What strangers may do, how often and for how long: limits that nobody gets around."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from posthouse.mail.envelope import ReversePath
from posthouse.outcome import RATE_LIMITED, Refusal
from posthouse.ports import Peer
from posthouse.services.transaction import MAX_MEMBERS, Client
from posthouse.store.lookup import MAX_ALIAS_TARGETS
from tests.system.post import Post

ON_BOTH_LOOPS = True

# The beginning of a TLS record that never ends.
HALF_A_HANDSHAKE = b"\x16\x03\x01\x02\x00\x01"


def _client(address: str) -> Client:
    return Client(Peer(address, 40_000, "192.0.2.1", 25, "t"))


async def test_one_network_has_one_rate_whatever_its_addresses(opener: Callable[..., Any]) -> None:
    """An IPv6 customer has 2^64 of them."""
    post = await opener(smtp={"letters_per_minute": 3})
    reception = post.house.reception
    for number in range(3):
        await reception.begin(_client(f"2001:db8::{number:x}"), ReversePath(None))
    with pytest.raises(Refusal) as caught:
        await reception.begin(_client("2001:db8::ffff"), ReversePath(None))
    assert caught.value.status == RATE_LIMITED
    await reception.begin(_client("2001:db8:1::1"), ReversePath(None))


async def test_who_is_stuck_in_a_handshake_does_not_hold_up_the_end(post: Post) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", post.ports["smtp"])
    writer.write(b"EHLO x\r\nSTARTTLS\r\n")
    await reader.readuntil(b"220 2.0.0 Ready to start TLS\r\n")
    writer.write(HALF_A_HANDSHAKE)
    await writer.drain()
    (connection,) = [each for listener in post.server.listeners for each in listener.connections]
    assert connection.task is not None
    connection.abort()
    await asyncio.wait([connection.task], timeout=5)  # far below the limit for the last octets of a session
    assert connection.task.done()
    writer.close()


async def test_a_list_named_again_and_again_is_not_planned_without_end(post: Post) -> None:
    """A thousand forms of one list's address would be a million members: seconds in which nobody else is served."""
    members = [f"u{number}@elsewhere.test" for number in range(MAX_ALIAS_TARGETS)]
    await post.house.administration.add_alias("list@bob.test", members)
    most = MAX_MEMBERS // MAX_ALIAS_TARGETS
    async with await post.smtp() as wire:
        forms = [f"RCPT TO:<list+{number}@bob.test>" for number in range(most + 1)]
        replies = await wire.say_all("MAIL FROM:<x@example.test>", *forms, "RCPT TO:<bob@bob.test>")
    assert [reply[:3] for reply in replies] == ["250"] * (most + 1) + ["452", "250"]
    assert replies[-2].startswith("452 4.5.3")
