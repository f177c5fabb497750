# SPDX-License-Identifier: Apache-2.0
"""The bus tells those who asked, after the publisher has gone on, each change once per round."""

from __future__ import annotations

import asyncio

from posthouse.ports import Change
from posthouse.store.buses.local import LocalBus


async def test_subscribers_hear_their_topic_and_key_and_key_0_hears_all() -> None:
    bus, heard = LocalBus(), []
    bus.subscribe("account", 1, lambda change: heard.append(("one", change.key)))
    bus.subscribe("account", 0, lambda change: heard.append(("all", change.key)))
    bus.subscribe("queue", 0, lambda change: heard.append(("queue", change.key)))
    for change in (Change("account", 1), Change("account", 2), Change("account", 1), Change("queue")):
        bus.publish(change)
    assert heard == []
    await asyncio.sleep(0)
    assert heard == [("one", 1), ("all", 1), ("all", 2), ("queue", 0)]


async def test_who_unsubscribed_hears_nothing_and_the_rest_go_on() -> None:
    bus, heard = LocalBus(), []
    end = bus.subscribe("queue", 0, lambda change: heard.append("gone"))
    bus.subscribe("queue", 0, lambda change: heard.append("here"))
    bus.publish(Change("queue"))
    end()
    end()
    await asyncio.sleep(0)
    assert heard == ["here"]


async def test_one_subscribers_fault_does_not_hide_the_change_from_the_next() -> None:
    bus, heard = LocalBus(), []

    def broken(change: Change) -> None:
        raise ValueError

    bus.subscribe("queue", 0, broken)
    bus.subscribe("queue", 0, lambda change: heard.append("here"))
    bus.publish(Change("queue"))
    await asyncio.sleep(0)
    assert heard == ["here"]


async def test_a_change_published_while_telling_is_told_in_the_next_round() -> None:
    bus, heard = LocalBus(), []

    def again(change: Change) -> None:
        heard.append(change.key)
        if change.key < 3:
            bus.publish(Change("account", change.key + 1))

    bus.subscribe("account", 0, again)
    bus.publish(Change("account", 1))
    for _ in range(4):
        await asyncio.sleep(0)
    assert heard == [1, 2, 3]
