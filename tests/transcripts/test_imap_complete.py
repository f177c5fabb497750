# SPDX-License-Identifier: Apache-2.0
"""Every command of IMAP and every capability has its transcript: nothing is promised that was not tried."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from posthouse.protocol.imap.capabilities import capabilities
from posthouse.protocol.imap.table import COMMANDS
from tests.transcripts.imap_dialogue import Dialogue, load

DIALOGUES = {dialogue.name: dialogue for dialogue in load(Path(__file__).parent / "imap")}
MECHANISMS = ("SCRAM-SHA-256", "PLAIN", "LOGIN")
NEVER_DONE = {"SETQUOTA"}  # limits are the administrator's to set, and QUOTASET is not offered
_RFC = re.compile(r"RFC \d+|draft-[a-z0-9-]+")


def words() -> list[str]:
    """Whatever the server may say that it can do, by any setting and in any state."""
    said: dict[str, None] = {}
    for is_logged_in in (False, True):
        for literal_minus in (False, True):
            for is_protected in (False, True):
                said |= dict.fromkeys(
                    capabilities(
                        is_logged_in=is_logged_in,
                        is_protected=is_protected,
                        offers_tls=not is_protected,
                        mechanisms=MECHANISMS if is_protected else (),
                        append_limit=1000,
                        literal_minus=literal_minus,
                    )
                )
    return list(said)


def file_of(word: str) -> str:
    """THREAD=REFERENCES: thread_references; APPENDLIMIT and RIGHTS have values that are none of their names."""
    name = word.partition("=")[0] if word.startswith(("APPENDLIMIT=", "RIGHTS=")) else word
    return {"LITERAL+": "literal_plus", "LITERAL-": "literal_minus"}.get(name, name.lower().replace("=", "_"))


def found(name: str) -> Dialogue:
    assert name in DIALOGUES, f"there is no transcript {name}.txt"
    return DIALOGUES[name]


@pytest.mark.parametrize("verb", sorted(verb.decode() for verb in COMMANDS))
def test_every_command_has_a_transcript(verb: str) -> None:
    """It is said there, answered OK and refused, and its head names the section that the table names."""
    dialogue = found(verb.lower().replace(" ", "_"))
    answers = dialogue.answers()
    kinds = {answers.get(tag) for tag, said in dialogue.commands() if said == verb}
    assert ("OK" in kinds) == (verb not in NEVER_DONE), "it is never done"
    assert kinds & {"NO", "BAD"}, "it is never refused"
    assert COMMANDS[verb.encode()].rfc.split(",")[0] in dialogue.head


@pytest.mark.parametrize("word", words())
def test_every_capability_has_a_transcript(word: str) -> None:
    dialogue = found(file_of(word))
    assert dialogue.steps
    assert _RFC.search(dialogue.head), "its head names no RFC"


def test_every_transcript_is_of_a_command_or_a_capability() -> None:
    """A name with a slip in it would be missed by nobody."""
    named = {verb.decode().lower().replace(" ", "_") for verb in COMMANDS} | {file_of(word) for word in words()}
    assert sorted(DIALOGUES.keys() - named) == []


def test_sessions_meet() -> None:
    """IMAP is about several sessions: half of the transcripts and more have them."""
    several = [dialogue for dialogue in DIALOGUES.values() if len({step.session for step in dialogue.steps} - {0}) > 1]
    assert len(several) > len(DIALOGUES) // 2
