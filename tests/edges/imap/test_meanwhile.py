# SPDX-License-Identifier: Apache-2.0
"""What happens while a command is on its way: in the middle of a look, of an answer, of a SELECT that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from posthouse.edges.imap import fetching as fetching_edge
from posthouse.edges.imap import selecting
from posthouse.ports import StoreFault
from posthouse.services.mailbox.selected import SelectedMailbox
from tests import virtual_loop
from tests.transcripts.imap_dialogue import PASSWORD
from tests.transcripts.imap_house import DOMAIN, HouseWire, HouseWorld, furnish

LETTER = b"Subject: one\r\n\r\nHello\r\n"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imap") / "template"
    furnish(folder)
    return folder


Scene = Callable[[HouseWorld], Awaitable[None]]


@pytest.fixture
def play(template: Path, tmp_path: Path) -> Callable[[Scene], None]:
    async def played(scene: Scene) -> None:
        world = await HouseWorld.opened(template, tmp_path / "data", {})
        try:
            await scene(world)
        except BaseException:
            await world.abandon()
            raise
        await world.close()

    return lambda scene: virtual_loop.run(played(scene))


async def logged_in(world: HouseWorld, person: str, *commands: str) -> HouseWire:
    wire = await world.open()
    said = [f"LOGIN {person}@{DOMAIN} {PASSWORD}", *commands]
    await wire.send("".join(f"l{number} {each}\r\n" for number, each in enumerate(said)).encode())
    await wire.read()
    return wire


async def answer(wire: HouseWire, command: str) -> str:
    await wire.send(command.encode() + b"\r\n")
    return (await wire.read()).decode()


class Interrupted:
    """A Database where something happens right behind the first look."""

    def __init__(self, database: Any, meanwhile: Callable[[], Awaitable[None]]) -> None:
        self._database = database
        self._meanwhile = meanwhile
        self._looks = 0

    async def read(self, unit: Any) -> Any:
        found = await self._database.read(unit)
        self._looks += 1
        if self._looks == 1:
            await self._meanwhile()
        return found


@pytest.mark.parametrize("items", ["ENVELOPE", "BODYSTRUCTURE", "BODY.PEEK[]", "INTERNALDATE"])
def test_a_letter_that_came_while_all_others_were_read_was_called_damaged(
    play: Callable[[Scene], None], monkeypatch: pytest.MonkeyPatch, items: str
) -> None:
    """FETCH of the whole mailbox held the arrays that all sessions share, and another session's look let them grow in
    the middle: the rows that had been read were too few, and the answer was NO [CONTACTADMIN]."""

    async def scene(world: HouseWorld) -> None:
        await world.deliver("alice", LETTER)
        one, other = [await logged_in(world, "alice", "SELECT INBOX", "FETCH 1 FLAGS") for _ in range(2)]

        async def meanwhile() -> None:
            await world.deliver("alice", LETTER)
            assert "* 2 EXISTS" in await answer(other, "b NOOP")

        fetching = world.house.mailboxes.fetching
        monkeypatch.setattr(fetching, "_database", Interrupted(fetching._database, meanwhile))
        said = await answer(one, f"a FETCH 1:* ({items})")
        assert "\r\na OK" in said
        assert said.count(" FETCH (") == 1
        assert "* 2 EXISTS" in said

    play(scene)


def test_what_came_while_idle_began_was_not_told(
    play: Callable[[Scene], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look of IDLE and the moment when the session was idle nobody woke it: a letter that came then was
    told with the next one, hours later."""

    async def scene(world: HouseWorld) -> None:
        wire = await logged_in(world, "alice", "SELECT INBOX")
        look = SelectedMailbox.refresh
        looks: list[int] = []

        async def interrupted(self: SelectedMailbox) -> None:
            await look(self)
            looks.append(1)
            if len(looks) == 1:
                await world.deliver("alice", LETTER)
                assert self.is_stale

        monkeypatch.setattr(SelectedMailbox, "refresh", interrupted)
        assert "* 1 EXISTS" in await answer(wire, "a IDLE")
        assert "a OK" in await answer(wire, "DONE")

    play(scene)


def test_a_select_that_failed_in_the_end_left_the_mailbox_selected(
    play: Callable[[Scene], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client was told NO, and then of letters in a mailbox that it had not selected (RFC 9051 §6.3.2)."""

    async def fails(*_: object) -> None:
        raise StoreFault("the disk is full")

    async def scene(world: HouseWorld) -> None:
        wire = await logged_in(world, "alice", "ENABLE QRESYNC")
        monkeypatch.setattr(selecting, "_resynchronize", fails)
        assert "a NO [UNAVAILABLE]" in await answer(wire, "a SELECT INBOX (QRESYNC (1 1))")
        await world.deliver("alice", LETTER)
        assert (await answer(wire, "b NOOP")).startswith("b OK")

    play(scene)


@pytest.mark.parametrize(
    "command", ["FETCH 1 (FLAGS BODY.PEEK[TEXT])", "UID SEARCH TEXT Hello", "SORT (SIZE) UTF-8 ALL", "COPY 1 Archive"]
)
def test_who_had_lost_the_right_to_read_could_read_once_more(play: Callable[[Scene], None], command: str) -> None:
    """However long ago the owner had taken the rights away: the session noticed only behind its next answer."""

    async def scene(world: HouseWorld) -> None:
        await world.deliver("bob", LETTER)
        owner = await logged_in(world, "bob", f"SETACL INBOX alice@{DOMAIN} lr")
        name = f'"Other Users/bob@{DOMAIN}/INBOX"'
        visitor = await logged_in(world, "alice", f"SELECT {name}", "FETCH 1 FLAGS")
        assert "b OK" in await answer(owner, f"b DELETEACL INBOX alice@{DOMAIN}")
        said = await answer(visitor, f"a {command}")
        assert "a OK" not in said
        assert "Hello" not in said
        assert not any(word in said for word in ("FETCH", "ESEARCH", "SORT 1", "SEARCH 1"))
        reader = await logged_in(world, "alice")
        assert "(MESSAGES 0)" in await answer(reader, "a STATUS Archive (MESSAGES)")

    play(scene)


def test_many_sections_of_many_letters_kept_everybody_else_waiting(
    play: Callable[[Scene], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred header sections of each of a thousand small letters were cut out in one go: seconds."""
    turns: list[int] = []

    async def scene(world: HouseWorld) -> None:
        for _ in range(4):
            await world.deliver("alice", LETTER)
        wire = await logged_in(world, "alice", "SELECT INBOX")
        monkeypatch.setattr(fetching_edge, "SECTIONS", 4)

        async def counted(seconds: float) -> None:
            turns.append(1)
            await asyncio.sleep(seconds)

        monkeypatch.setattr(fetching_edge, "asyncio", SimpleNamespace(sleep=counted))
        said = await answer(wire, "a FETCH 1:4 (BODY.PEEK[TEXT] BODY.PEEK[TEXT]<1.1> BODY.PEEK[TEXT]<2.1>)")
        assert said.count("BODY[TEXT]<2>") == 4

    play(scene)
    assert len(turns) == 3
