# SPDX-License-Identifier: Apache-2.0
"""What an operator asks of a large queue is answered in short visits to the reader, and completely."""

from __future__ import annotations

import pytest

from posthouse.store import queue, queue_admin
from posthouse.store.queue_admin import Selection
from tests.services.queue_world import World, letter_for, put_blob

LETTERS = 23
WINDOW = 5
EVERY_VISIT = LETTERS // WINDOW + 1


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A queue of 23 letters, the 7th and the 20th of which go to dave@rare.test."""
    monkeypatch.setattr(queue_admin, "WINDOW", WINDOW)
    world = World()
    for number in range(LETTERS):
        name = "dave@rare.test" if number in (7, 20) else f"u{number}@bob.test"
        world.database.run(lambda tx, name=name: queue.insert(tx, put_blob(tx), letter_for([name])))
    return world


@pytest.mark.parametrize("what", ["rare.test", "Dave@Rare.test"])
async def test_letters_are_found_in_windows(world: World, what: str) -> None:
    """One question about an address kept everybody else's waiting for a second, with a million letters queued."""
    before = world.database.reads
    found, after = await world.desk.list_letters(Selection.parse(what))
    assert ([entry.states for entry in found], after) == ([{"due": 1}] * 2, None)
    assert world.database.reads - before == EVERY_VISIT


async def test_a_page_is_full_whatever_the_windows_hold(world: World) -> None:
    first, after = await world.desk.list_letters(Selection.parse("bob.test"), limit=12)
    assert (len(first), after is None) == (12, False)
    assert after is not None
    rest, end = await world.desk.list_letters(Selection.parse("bob.test"), after, limit=12)
    assert (len(rest), end) == (9, None)
    assert len({entry.id for entry in first + rest}) == LETTERS - 2


async def test_what_is_done_to_a_selection_reaches_all_of_it(world: World) -> None:
    assert (await world.desk.hold(Selection.parse("rare.test"))).changed == 2
    assert (await world.desk.release(Selection.parse("dave@rare.test"))).changed == 2
    assert (await world.desk.hold(Selection.parse("bob.test"))).changed == LETTERS - 2
    assert (await world.desk.hold(Selection())).changed == 2


async def test_a_trace_looks_through_the_whole_queue(world: World) -> None:
    assert len(await world.desk.trace("dave@rare.test")) == 2
    assert len(await world.desk.trace("<1@alice.test>")) == LETTERS
    (one,) = await world.desk.trace(str((await world.desk.list_letters(Selection()))[0][9].id))
    assert one.message_id == "<1@alice.test>"


def test_a_window_is_a_walk_along_the_primary_key(world: World) -> None:
    """Not along everything that is in a state, or at a destination, to find what lies in the window."""
    cursor = world.database.connection.cursor()  # this is about SQLite itself
    seen: list[str] = []
    world.database.connection.trace_v2(1, lambda event: seen.append(event["sql"]))
    for selection in (Selection(), Selection.parse("rare.test"), Selection.parse("dave@rare.test")):
        world.database.look(lambda r, s=selection: queue_admin.find(r, s, (queue_admin.State.DUE,)))
        world.database.look(lambda r, s=selection: queue_admin.list_letters(r, s))
    world.database.look(lambda r: queue_admin.find_named(r, "x"))
    world.database.connection.trace_v2(0, None)
    names = ("after", "last", "n", "domain", "smart", "at", "address", "id", "bare", "full", "window")
    checked = 0
    for sql in seen:
        if sql.startswith("SELECT"):
            steps = [step for *_, step in cursor.execute("EXPLAIN QUERY PLAN " + sql, dict.fromkeys(names, 1))]
            checked += 1
            assert not any(step.startswith("SCAN") and "looked_at" not in step for step in steps), (sql, steps)
    assert checked >= 8
