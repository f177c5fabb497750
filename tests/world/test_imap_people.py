# SPDX-License-Identifier: Apache-2.0
"""People who read with IMAP: what they hold against the disk can fail, and so can what a server tells their devices."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from posthouse.protocol.imap.client import Event, Fetched, Status, Untagged
from posthouse.services.mailbox import resync
from posthouse.services.mailbox.appending import AppendDesk, Target
from posthouse.services.mailbox.places import Place
from posthouse.services.mailbox.resync import Missed
from posthouse.services.mailbox.view import Expunged, SelectedView, Vanished
from posthouse.sim import mail_program
from posthouse.sim.devices import Box, Device, Letter, Shown
from posthouse.sim.holdings import Holdings
from posthouse.sim.ledger import bare
from posthouse.sim.mail_program import MailProgram
from posthouse.sim.people import message_id_of
from posthouse.sim.results import SEEDS, Player
from posthouse.store.appending import Appended
from tests.world.planted import player, problems_of
from tests.world.test_accounting import Scene, after, change

__all__ = ["player"]

# --- what a device makes of what it is told ---------------------------------------------------------


def shown(*order: int, known: tuple[int, ...] = ()) -> tuple[Shown, Holdings]:
    """A mailbox that was selected, with these UIDs."""
    holdings = Holdings()
    box = Box(7, 1, {uid: Letter(f"e{uid}") for uid in known or order})
    found = Shown("INBOX", box, holdings)
    found.hear(Status(None, "OK", "UIDVALIDITY 7", ""))
    found.hear(Untagged("EXISTS", (), len(order)))
    found.selected(is_resynchronized=True)
    return found, holdings


def fetched(number: int, uid: int, *flags: str) -> Fetched:
    return Fetched(number, {"UID": str(uid), "FLAGS": flags, "EMAILID": (f"e{uid}",)})


def test_numbers_are_counted_as_the_server_counts_them() -> None:
    box, holdings = shown(3, 5, 8)
    for event in (
        Untagged("EXPUNGE", (), 2),
        Untagged("EXISTS", (), 4),
        fetched(3, 9, "\\Seen", "\\Recent"),
        Untagged("EXPUNGE", (), 4),
        Untagged("VANISHED", ("3",)),
    ):
        box.hear(event)
    assert box.order == [8, 9]
    assert set(box.box.letters) == {8, 9}
    assert box.box.letters[9].flags == {"\\seen"}
    assert not holdings.complaints


def test_what_vanished_before_it_was_known_is_one_letter_less() -> None:
    box, holdings = shown(3)
    box.hear(Untagged("EXISTS", (), 3))
    box.hear(Untagged("VANISHED", ("4",)))
    assert (box.order, box.has_news) == ([3, 0], True)
    assert not holdings.complaints


WRONG: dict[str, Event] = {
    "fewer exist": Untagged("EXISTS", (), 2),
    "nobody expunged": Untagged("EXPUNGE", (), 4),
    "unknown vanished": Untagged("VANISHED", ("4",)),
    "of no number": fetched(4, 9),
    "of another number": fetched(1, 5),
    "another letter": Fetched(1, {"UID": "3", "EMAILID": ("e9",)}),
    "found less": Untagged("SEARCH", ("3", "5")),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_is_a_complaint(what: str) -> None:
    box, holdings = shown(3, 5, 8)
    box.hear(WRONG[what])
    assert len(holdings.complaints) == 1


def test_another_validity_and_missing_letters_are_complaints() -> None:
    _, holdings = shown(3, known=(3, 5))
    assert list(holdings.complaints) == ["INBOX: 2 letters are known, and 1 exist"]
    box = Shown("INBOX", Box(6), holdings)
    box.hear(Status(None, "OK", "UIDVALIDITY 7", ""))
    box.selected(is_resynchronized=False)
    assert "INBOX: UIDVALIDITY went from 6 to 7" in holdings.complaints


# --- what a person holds against the disk -----------------------------------------------------------

Break = Callable[[Scene], Awaitable[None]]


async def furnish(scene: Scene) -> None:
    """Bob has marked one of his letters, copied the other, kept what he sent, and written on a draft."""
    bob = scene.bob
    device = Device(knows_qresync=True)
    bob.devices.append(device)

    async def work(program: MailProgram) -> None:
        await program.open("INBOX")
        await program.mark([1])
        await program.copy([2], "Archive")
        sent = bob.letter(["alice@alice.test"], "Hello\r\n")
        await program.keep(sent.octets, "Sent", ("\\Seen",))
        versions = [bob.letter([bob.name], text) for text in ("One\r\n", "Two\r\n")]
        bob.holdings.drafts.append([bare(each.message_id) for each in versions])
        await program.keep(versions[0].octets, "Drafts", ("\\Draft",))
        await program.open("Drafts")
        await program.replace(1, versions[1].octets)
        await program.open("INBOX")

    await mail_program.visit(bob, device, work)
    assert await scene.findings() == []


IN = "(SELECT id FROM mailbox WHERE name = '{}')"
BROKEN: dict[str, tuple[str, str]] = {
    "what was seen is gone": (
        f"DELETE FROM placement WHERE uid = 1 AND mailbox = {IN.format('INBOX')}",
        "in UID 1 of INBOX, and it is not there any more",
    ),
    "what was copied is gone": (
        f"DELETE FROM placement WHERE mailbox = {IN.format('Archive')}",
        "in UID 1 of Archive, and it is not there any more",
    ),
    "what was put in is gone": (
        f"DELETE FROM placement WHERE mailbox = {IN.format('Sent')}",
        "had a letter in UID 1 of Sent, and it is not there any more",
    ),
    "it is another letter": (
        (
            f"UPDATE placement SET email = (SELECT email FROM placement WHERE uid = 2) WHERE uid = 1"
            f" AND mailbox = {IN.format('INBOX')}"
        ),
        "in UID 1 of INBOX, and there is",
    ),
    "a mark is gone": ("UPDATE placement SET keywords = ''", "marked UID 1 of INBOX with k"),
    "what was put in is there twice": (
        (
            f"UPDATE placement SET email = (SELECT email FROM placement WHERE mailbox = {IN.format('Sent')})"
            f" WHERE mailbox = {IN.format('Drafts')}"
        ),
        "2 times, it was put in 1 times at most",
    ),
    "a draft is gone": (f"DELETE FROM placement WHERE mailbox = {IN.format('Drafts')}", "has 0 versions of the draft"),
    "a copy that nobody made": (
        "UPDATE placement SET email = (SELECT MIN(email) FROM placement) WHERE flags = 0",
        "has 3 UIDs",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_not_as_its_owner_knows_it_is_found(what: str) -> None:
    statement, words = BROKEN[what]

    async def breaking(scene: Scene) -> None:
        await furnish(scene)
        change(scene.bobs, statement)

    found = after(breaking)
    assert any(words in each for each in found), found


def test_what_was_removed_and_is_there_is_found() -> None:
    async def breaking(scene: Scene) -> None:
        await furnish(scene)
        scene.bob.holdings.gone["INBOX", 1] = None

    assert any("was told that UID 1 of INBOX is gone, and it is there" in each for each in after(breaking))


def test_what_was_put_in_and_changed_is_found() -> None:
    async def breaking(scene: Scene) -> None:
        await furnish(scene)
        for known in scene.bob.holdings.appended.values():
            known.octets += b"!"

    assert any("bob@bob.test has put in nothing like" in each for each in after(breaking))


def test_two_versions_of_a_draft_are_found() -> None:
    async def breaking(scene: Scene) -> None:
        await furnish(scene)
        scene.bob.holdings.drafts.append(list(scene.bob.holdings.appended))

    assert any("has 2 versions of the draft" in each for each in after(breaking))


def test_what_is_taken_away_was_delivered_and_stays_away() -> None:
    async def breaking(scene: Scene) -> None:
        await furnish(scene)
        bob = scene.bob

        async def work(program: MailProgram) -> None:
            await program.open("INBOX")
            await program.remove([1], "EXPUNGE")
            await program.move([2], "Trash")
            await program.open("Archive")
            await program.remove([1], "CLOSE")

        await mail_program.visit(bob, bob.devices[0], work)
        assert sorted(bob.holdings.gone) == [("Archive", 1), ("Drafts", 1), ("INBOX", 1), ("INBOX", 2)]
        assert next(message_id_of(octets) for octets in bob.taken.values()) == "letter-1.alice@alice.test"

    assert after(breaking) == []


def test_a_device_that_is_wrong_at_the_end_is_found() -> None:
    async def breaking(scene: Scene) -> None:
        await furnish(scene)
        device = scene.bob.devices[0]
        device.boxes["INBOX"].letters[1].flags = frozenset()
        device.boxes["INBOX"].modseq += 100
        await scene.play._compare_with_imap(scene.bob)

    words = "IMAP shows bob@bob.test, who has looked before, something else in INBOX than lies there"
    assert words in after(breaking)


# --- servers with a fault ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_server_that_forgets_to_say_what_is_gone_is_found_out(
    player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    missed = resync.missed

    def forget(*arguments: Any) -> Missed:
        return replace(missed(*arguments), vanished=())

    monkeypatch.setattr(resync, "missed", forget)
    assert problems_of(player, range(40), "letters are known, and")


@pytest.mark.slow
def test_a_server_that_counts_wrongly_is_found_out(player: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sequence numbers from the first to the last, where each that goes shifts those behind it."""
    drop = SelectedView._drop

    def confuse(view: SelectedView) -> Expunged | Vanished:
        told = drop(view)
        return Expunged(tuple(sorted(told.numbers))) if isinstance(told, Expunged) else told

    monkeypatch.setattr(SelectedView, "_drop", confuse)
    assert problems_of(player, range(40), "is UID") or problems_of(player, range(40), "is expunged")


@pytest.mark.slow
def test_a_server_that_puts_letters_in_twice_is_found_out(player: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    put = AppendDesk.put

    async def put_twice(desk: AppendDesk, target: Target, new: Any) -> tuple[Place, Appended]:
        if target.replaced is None:
            await put(desk, target, new)
        return await put(desk, target, new)

    monkeypatch.setattr(AppendDesk, "put", put_twice)
    assert problems_of(player, range(40), "was put in 1 times at most")


@pytest.mark.slow
def test_people_read_with_imap_in_small_worlds(player: Player) -> None:
    """Everything that people do with IMAP comes up."""
    deeds = sum((player.play(SEEDS, seed).deeds for seed in range(1000, 1012)), start=player.play(SEEDS, 1012).deeds)
    names = {name for name in deeds if name.startswith("IMAP ")}
    assert names == {f"IMAP {each}" for each in ("mark", "copy", "move", "remove", "wait", "keep", "draft")}
    assert deeds["read with IMAP"] > 30
