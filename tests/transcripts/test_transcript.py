# SPDX-License-Identifier: Apache-2.0
"""The harness itself: it must notice what is wrong, or the transcripts prove nothing."""

from __future__ import annotations

import pytest

from tests.transcripts.engine_world import EngineWorld
from tests.transcripts.smtp_session import SmtpScript
from tests.transcripts.transcript import TranscriptError, parse, run, unescape


def test_escapes_and_repeats() -> None:
    assert unescape(r"a\r\n\x00{ab*3}é") == b"a\r\n\0ababab\xc3\xa9"


def test_neighbouring_client_lines_are_one_piece() -> None:
    steps = parse("t", "C: a\n\n# between\nC-raw: b\nS: x...\nC: c\nSESSION 2\nC: d\n").steps
    assert [(step.session, step.verb, step.octets) for step in steps] == [
        (1, "C", b"a\r\nb"),
        (1, "S", b"x"),
        (1, "C", b"c\r\n"),
        (2, "C", b"d\r\n"),
    ]


def test_unknown_lines_are_errors() -> None:
    with pytest.raises(ValueError, match="t:2: unknown line"):
        parse("t", "C: a\nX: b\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("S: 221...", "t:1: expected b'221'"),
        ("S: 220", "t:1: expected b'220'"),
        ("S: 220...\nS: 250...", "t:2: expected a line"),
        ("S-close", "t:1: expected the end"),
        ("S-silent", "t:1: expected silence"),
        ("S: 220...\nC: QUIT\nS: 221...\nS: 250...", "t:4: expected b'250', got None"),
        ("S: 220...\nLETTER: a", "t:2: no letter was taken"),
    ],
)
async def test_a_dialogue_that_goes_another_way_fails(text: str, reason: str) -> None:
    with pytest.raises(TranscriptError) as caught:
        await run(parse("t", text), EngineWorld(SmtpScript))
    assert str(caught.value).startswith(reason)
