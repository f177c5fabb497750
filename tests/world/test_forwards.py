# SPDX-License-Identifier: Apache-2.0
"""Letters that are passed on from server to server; servers that do it badly are found out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from posthouse.mail.envelope import ReversePath
from posthouse.services.forwarding import Forwarding
from posthouse.services.host_signing import HostSigning
from posthouse.sim import small
from posthouse.sim.accounting import Account
from posthouse.sim.forwards import servers
from posthouse.sim.ledger import Ledger
from posthouse.sim.play import Play
from posthouse.sim.results import Player
from posthouse.sim.world import HOUR, World, run
from tests.world.planted import player, problems_of

__all__ = ["player"]

LEADS = {
    "pair@bob.test": ("ben@bob.test", "round@bob.test"),
    "round@bob.test": ("away@alice.test",),
    "away@alice.test": ("anna@alice.test",),
    "circle@alice.test": ("circle@bob.test",),
    "circle@bob.test": ("circle@alice.test",),
}


@pytest.mark.parametrize(
    ("recipient", "ways"),
    [
        ("ben@bob.test", [("ben@bob.test",)]),
        (
            "pair@bob.test",
            [
                ("pair@bob.test", "ben@bob.test"),
                ("pair@bob.test", "round@bob.test", "away@alice.test", "anna@alice.test"),
            ],
        ),
        ("circle@bob.test", [("circle@bob.test", "circle@alice.test")]),
    ],
)
def test_ways_lead_to_the_last_address(recipient: str, ways: list[tuple[str, ...]]) -> None:
    assert list(Ledger({}, {}, LEADS).ways(recipient)) == ways


def test_a_way_passes_servers() -> None:
    assert servers(("a@x", "b@x", "c@y", "d@x")) == ["x", "y", "x"]


def test_every_way_ends_in_a_mailbox_or_in_one_report() -> None:
    """Without any misfortune: by one server or two, around for ever, to nobody at the end, and to a stranger."""

    async def script(world: World) -> Account:
        play = Play(world, small.PLANS, [small.STRANGER])
        await play.begin()
        for person in play.people:
            for address in play.ledger.forwards:
                letter = person.letter([address], "Hello\r\n")
                play.ledger.write(letter)
                await person.submit(letter)
        await asyncio.sleep(HOUR)
        return await play.end()

    _, account = run(1, script)
    assert account.findings == []
    assert (account.accepted, account.delivered, account.reported) == (44, 24, 20)


@pytest.mark.slow
def test_ways_back_that_lead_nowhere_are_found_out(player: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    async def forget(_forwarding: Forwarding, *_arguments: Any) -> None:
        return None

    monkeypatch.setattr(Forwarding, "resolve", forget)
    assert problems_of(player, range(3), " is refused: ")


@pytest.mark.slow
def test_a_sender_who_is_not_rewritten_is_found_out(player: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    async def leave(_forwarding: Forwarding, letter: Any) -> ReversePath:
        path: ReversePath = letter.reverse_path
        return path

    monkeypatch.setattr(Forwarding, "reverse_path", leave)
    assert problems_of(player, range(3), "was passed on by")


@pytest.mark.slow
def test_a_letter_that_is_passed_on_without_a_seal_is_found_out(
    player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People's letters are signed; those of strangers are believed for the seal alone."""

    async def forget(_signing: HostSigning, *_arguments: Any) -> bytes:
        return b""

    monkeypatch.setattr(HostSigning, "seal", forget)
    assert problems_of(player, range(1, 4), "and is not believed")
