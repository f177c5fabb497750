# SPDX-License-Identifier: Apache-2.0
"""The IMAP transcripts on real sessions and a real store without sockets, whole and cut into pieces."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import virtual_loop
from tests.transcripts.imap_dialogue import Dialogue, load, run
from tests.transcripts.imap_house import HouseWorld, furnish

DIALOGUES = load(Path(__file__).parent / "imap")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imap") / "template"
    furnish(folder)
    return folder


async def play(dialogue: Dialogue, template: Path, folder: Path, piece: int) -> None:
    world = await HouseWorld.opened(template, folder, dialogue.settings, piece)
    try:
        await run(dialogue, world)
    except BaseException:
        await world.abandon()
        raise
    await world.close()


@pytest.mark.parametrize("piece", [0, 1, 7])
@pytest.mark.parametrize("dialogue", DIALOGUES, ids=lambda dialogue: dialogue.name)
def test_dialogue(dialogue: Dialogue, piece: int, template: Path, tmp_path: Path) -> None:
    """What the server says does not depend on how the network cut what the clients said."""
    virtual_loop.run(play(dialogue, template, tmp_path / "data", piece))
