# SPDX-License-Identifier: Apache-2.0
"""Sessions that work at the same time end up with one truth, in virtual time and in the same order for each seed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from posthouse.protocol.imap.server import ImapServer
from posthouse.services.mailbox.arrays import OpenMailbox
from posthouse.services.mailbox.places import Place
from posthouse.services.mailbox.storing import Storing
from posthouse.services.mailbox.view import SelectedView
from posthouse.store.flagging import Change, Stored
from posthouse.store.journal import Entry, Kind
from posthouse.store.uidset import Ranges
from tests import virtual_loop
from tests.edges.imap.model import ModelError
from tests.edges.imap.small import in_small_pieces
from tests.edges.imap.storm import LaggingWorkers, Storm
from tests.transcripts.imap_house import HouseWorld, furnish

DEEDS = 40  # of each session


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imap") / "template"
    furnish(folder)
    return folder


async def rage(template: Path, folder: Path, seed: int, deeds: int) -> None:
    world = await HouseWorld.opened(template, folder, {}, workers=lambda: LaggingWorkers(Random(seed)))
    storm = Storm(world, seed)
    try:
        await storm.run(deeds)
    except BaseException as error:
        await world.abandon()
        raise ModelError(f"{error!r}, in\n{storm.log}") from error
    await world.close()


@pytest.mark.parametrize("seed", range(6))
def test_storm(template: Path, tmp_path: Path, seed: int) -> None:
    virtual_loop.run(rage(template, tmp_path / "data", seed, DEEDS))


@pytest.mark.parametrize("seed", range(20, 26))
def test_storm_in_small_pieces(template: Path, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others work between the pieces of an answer."""
    in_small_pieces(monkeypatch)
    virtual_loop.run(rage(template, tmp_path / "data", seed, DEEDS))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 108))
def test_long_storm(template: Path, tmp_path: Path, seed: int) -> None:
    virtual_loop.run(rage(template, tmp_path / "data", seed, 4 * DEEDS))


# --- the storm must be able to fail ---------------------------------------------------------------


def takes_other_changes_for_its_own(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SelectedView, "did", lambda self, _: self._changed.clear())


def tells_expunges_anywhere(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ImapServer, "may_tell_expunge", property(lambda _: True))


def lets_others_look_in_between(patch: pytest.MonkeyPatch) -> None:
    """What a session has missed is read, others take in more, and the session believes to have that too."""
    right = OpenMailbox.__init__

    def unlocked(self: OpenMailbox, *some: Any) -> None:
        right(self, *some)
        self._refreshing = contextlib.AsyncExitStack()  # type: ignore[assignment]  # it locks nobody out

    patch.setattr(OpenMailbox, "__init__", unlocked)


def sets_flags_by_what_it_knew(patch: pytest.MonkeyPatch) -> None:
    """What another session has set in the meantime is lost."""
    right = Storing.store

    async def store(self: Storing, place: Place, uids: Ranges, change: Change, *some: Any, **more: Any) -> Stored:
        return await right(self, place, uids, Change.REPLACE if change is Change.ADD else change, *some, **more)

    patch.setattr(Storing, "store", store)


def forgets_what_has_gone(patch: pytest.MonkeyPatch) -> None:
    right = SelectedView.learn

    def learn(self: SelectedView, entries: Iterable[Entry], modseq: int, **how: bool) -> None:
        right(self, [entry for entry in entries if entry.kind is not Kind.EXPUNGED], modseq, **how)

    patch.setattr(SelectedView, "learn", learn)


def promises_what_it_has_held_back(patch: pytest.MonkeyPatch) -> None:
    """HIGHESTMODSEQ of what was learned, though an expunge of it is still to be told."""
    patch.setattr(SelectedView, "told_modseq", SelectedView.learned_modseq)


FAULTS = (
    lets_others_look_in_between,
    promises_what_it_has_held_back,
    takes_other_changes_for_its_own,
    tells_expunges_anywhere,
    sets_flags_by_what_it_knew,
    forgets_what_has_gone,
)
TRIES = 12  # storms in which a fault must show


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found(
    fault: Callable[[pytest.MonkeyPatch], None], template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch)

    def go_on() -> None:
        for seed in range(TRIES):
            virtual_loop.run(rage(template, tmp_path / f"data{seed}", seed, DEEDS))

    with pytest.raises(ModelError):
        go_on()
