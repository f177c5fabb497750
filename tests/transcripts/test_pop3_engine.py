# SPDX-License-Identifier: Apache-2.0
"""The POP3 transcripts against the engine alone, whole and cut into pieces: the dialogue must be the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.transcripts.engine_world import EngineWorld
from tests.transcripts.pop3_session import Pop3Script
from tests.transcripts.transcript import Transcript, load, run

TRANSCRIPTS = load(Path(__file__).parent / "pop3")


@pytest.mark.parametrize("piece", [0, 1, 2, 7])
@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda transcript: transcript.name)
async def test_transcript(transcript: Transcript, piece: int) -> None:
    """What the server says does not depend on how the network cut what the client said."""
    await run(transcript, EngineWorld(Pop3Script, piece))
