# SPDX-License-Identifier: Apache-2.0
"""Sessions that believe what they are told always know what is there; and each fault planted in the server is found."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from posthouse.edges.imap import telling
from posthouse.edges.imap.here import Here
from posthouse.protocol.imap import codes, responses
from posthouse.protocol.imap.server import ImapServer
from posthouse.services.mailbox import resync
from posthouse.services.mailbox.selected import SelectedMailbox
from posthouse.services.mailbox.storing import Storing
from posthouse.services.mailbox.view import Exists, SelectedView, Told
from posthouse.store import visitors
from posthouse.store.flagging import Stored
from posthouse.store.journal import Entry, Kind
from tests import virtual_loop
from tests.edges.imap.model import ModelError
from tests.edges.imap.small import in_small_pieces
from tests.edges.imap.walk import Walk
from tests.transcripts.imap_house import HouseWorld, furnish

STEPS = 150


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imap") / "template"
    furnish(folder)
    return folder


@pytest.fixture
def walk(template: Path, tmp_path: Path) -> Callable[[int, int], None]:
    async def walked(seed: int, steps: int) -> None:
        world = await HouseWorld.opened(template, tmp_path / f"data{seed}", {})
        try:
            await Walk(world, seed).run(steps)
        except BaseException:
            await world.abandon()
            raise
        await world.close()

    return lambda seed, steps: virtual_loop.run(walked(seed, steps))


@pytest.mark.parametrize("seed", range(8))
def test_walk(walk: Callable[[int, int], None], seed: int) -> None:
    walk(seed, STEPS)


@pytest.mark.parametrize("seed", range(20, 26))
def test_walk_in_small_pieces(walk: Callable[[int, int], None], seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    in_small_pieces(monkeypatch)
    walk(seed, STEPS)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 112))
def test_long_walk(walk: Callable[[int, int], None], seed: int) -> None:
    walk(seed, 4 * STEPS)


# --- the walk must be able to fail ----------------------------------------------------------------


def tells_expunges_anywhere(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ImapServer, "may_tell_expunge", property(lambda _: True))


def tells_numbers_to_clients_of_qresync(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Here, "count_vanished", lambda _: None)


def tells_expunges_in_the_wrong_order(patch: pytest.MonkeyPatch) -> None:
    right = responses.expunges
    patch.setattr(responses, "expunges", lambda numbers: right(tuple(sorted(numbers))))


def loses_changes_of_flags(patch: pytest.MonkeyPatch) -> None:
    right = SelectedView.learn

    def learn(self: SelectedView, entries: Iterable[Entry], modseq: int, **how: bool) -> None:
        right(self, [entry for entry in entries if entry.kind is not Kind.CHANGED], modseq, **how)

    patch.setattr(SelectedView, "learn", learn)


def takes_other_changes_for_its_own(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SelectedView, "did", lambda self, _: self._changed.clear())


def forgets_what_is_new(patch: pytest.MonkeyPatch) -> None:
    right = SelectedView.tell

    def tell(self: SelectedView, *, expunges: bool) -> list[Told]:
        return [each for each in right(self, expunges=expunges) if not isinstance(each, Exists)]

    patch.setattr(SelectedView, "tell", tell)


def pairs_uids_of_copies_wrongly(patch: pytest.MonkeyPatch) -> None:
    right = codes.copy_uid
    patch.setattr(codes, "copy_uid", lambda validity, source, target: right(validity, target, source))


def tells_another_uid_of_what_is_appended(patch: pytest.MonkeyPatch) -> None:
    right = codes.append_uid
    patch.setattr(
        codes,
        "append_uid",
        lambda validity, uids: right(validity, tuple((first + 1, last + 1) for first, last in uids)),
    )


def forgets_what_has_vanished(patch: pytest.MonkeyPatch) -> None:
    right = resync.missed
    patch.setattr(resync, "missed", lambda *some, **more: replace(right(*some, **more), vanished=()))


def promises_what_it_has_held_back(patch: pytest.MonkeyPatch) -> None:
    """HIGHESTMODSEQ of what was learned, though an expunge of it is still to be told."""
    patch.setattr(SelectedView, "told_modseq", SelectedView.learned_modseq)


def shows_visitors_what_the_owner_has_seen(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(visitors, "as_seen_by", lambda letters, _: letters)


def overwrites_what_the_client_did_not_know(patch: pytest.MonkeyPatch) -> None:
    right = Storing.store

    async def store(self: Storing, *some: Any, **more: Any) -> Stored:
        return await right(self, *some, **{**more, "unchanged_since": None})

    patch.setattr(Storing, "store", store)


def keeps_mod_sequences_to_itself(patch: pytest.MonkeyPatch) -> None:
    right = telling.flags

    def flags(selected: Any, view: Any, engine: Any, uids: Any, **how: Any) -> bytes:
        return re.sub(rb"MODSEQ \(\d+\)", b"MODSEQ (1)", right(selected, view, engine, uids, **how))

    patch.setattr(telling, "flags", flags)


def finds_letters_that_the_client_was_not_told_of(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SelectedMailbox, "visible", SelectedMailbox.letters)


FAULTS = (
    tells_expunges_anywhere,
    tells_numbers_to_clients_of_qresync,
    tells_expunges_in_the_wrong_order,
    loses_changes_of_flags,
    takes_other_changes_for_its_own,
    forgets_what_is_new,
    pairs_uids_of_copies_wrongly,
    tells_another_uid_of_what_is_appended,
    forgets_what_has_vanished,
    promises_what_it_has_held_back,
    shows_visitors_what_the_owner_has_seen,
    overwrites_what_the_client_did_not_know,
    keeps_mod_sequences_to_itself,
    finds_letters_that_the_client_was_not_told_of,
)
TRIES = 12  # walks in which a fault must show


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found(
    fault: Callable[[pytest.MonkeyPatch], None],
    walk: Callable[[int, int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model that finds nothing wrong with a server that is would prove nothing."""
    fault(monkeypatch)

    def walk_on() -> None:
        for seed in range(TRIES):
            walk(seed, STEPS)

    with pytest.raises(ModelError):
        walk_on()
