# SPDX-License-Identifier: Apache-2.0
"""Transcripts: dialogues as data, run against an engine alone or over a real connection.

One file is one test. Its lines:

    # a comment; empty lines count for nothing
    SERVER key=value …      settings for whoever opens the sessions; before the first session
    SESSION 2               the lines that follow are of this session; it is opened at its first mention (1 needs none)
    C: text                 the client sends text and CRLF; neighbouring C lines go out in one piece
    C-raw: text             it sends text with Python's escapes and no CRLF; {x*600} is x six hundred times
    C-close                 it closes its side
    TLS                     both start TLS now
    S: text                 the server's next line is this; with a final ... it begins with this
    S-close                 the server has closed, with nothing left to read
    S-silent                nothing is there to be read (checked where that can be known at once)
    LETTER: text            the next letter that the server took has this content (escapes as in C-raw),
                            checked where the world can show its letters

A `World` opens sessions; `run` knows no protocol.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

_REPEAT = re.compile(r"\{([^{}]+?)\*(\d+)\}")
_VERBS = ("C", "C-raw", "C-close", "TLS", "S", "S-close", "S-silent", "LETTER", "SESSION", "SERVER")


@dataclass(frozen=True, slots=True)
class Step:
    line: int  # in the file, from 1
    session: int
    verb: str
    octets: bytes = b""
    is_prefix: bool = False


@dataclass(frozen=True, slots=True)
class Transcript:
    name: str
    settings: dict[str, str]
    steps: list[Step] = field(default_factory=list)


class Wire(Protocol):
    """The client's end of one session."""

    async def send(self, octets: bytes) -> None: ...

    async def line(self) -> bytes | None:
        """The server's next line without CRLF; None when it has closed."""

    async def is_silent(self) -> bool:
        """Whether nothing is there to be read; True where that cannot be known."""

    async def close(self) -> None: ...

    async def start_tls(self) -> None: ...


class World(Protocol):
    async def open(self, settings: dict[str, str]) -> Wire: ...

    async def take_letter(self) -> bytes | None:
        """The content of the oldest letter that was taken and not asked for yet; None where that is not known."""


class TranscriptError(AssertionError):
    """The dialogue went another way than the file says."""


def unescape(text: str) -> bytes:
    repeated = _REPEAT.sub(lambda match: match[1] * int(match[2]), text)
    return (
        repeated.encode("utf-8")
        .decode("latin-1")
        .encode("ascii", "backslashreplace")
        .decode("unicode_escape")
        .encode("latin-1")
    )


def parse(name: str, text: str) -> Transcript:
    """Raise ValueError with the line's number where the text is no transcript."""
    transcript = Transcript(name, {})
    session = 1
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.rstrip("\n")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        verb, _, rest = line.partition(" ")
        verb = verb.removesuffix(":")
        if verb not in _VERBS:
            raise ValueError(f"{name}:{number}: unknown line {line!r}")
        match verb:
            case "SERVER":
                for pair in rest.split():
                    key, _, value = pair.partition("=")
                    transcript.settings[key] = value
            case "SESSION":
                session = int(rest)
            case "C":
                _add_sent(transcript, number, session, rest.encode() + b"\r\n")
            case "C-raw":
                _add_sent(transcript, number, session, unescape(rest))
            case "S":
                is_prefix = rest.endswith("...")
                expected = rest.removesuffix("...").encode()
                transcript.steps.append(Step(number, session, verb, expected, is_prefix))
            case _:
                transcript.steps.append(Step(number, session, verb, unescape(rest)))
    return transcript


def _add_sent(transcript: Transcript, number: int, session: int, octets: bytes) -> None:
    last = transcript.steps[-1] if transcript.steps else None
    if last is not None and last.verb == "C" and last.session == session:
        transcript.steps[-1] = Step(last.line, session, "C", last.octets + octets)
    else:
        transcript.steps.append(Step(number, session, "C", octets))


def load(folder: Path) -> list[Transcript]:
    return [parse(path.stem, path.read_text("utf-8")) for path in sorted(folder.glob("*.txt"))]


async def run(transcript: Transcript, world: World) -> None:
    wires: dict[int, Wire] = {}
    for step in transcript.steps:
        if step.session not in wires:
            wires[step.session] = await world.open(transcript.settings)
        try:
            await _perform(step, wires[step.session], world)
        except TranscriptError as error:
            raise TranscriptError(f"{transcript.name}:{step.line}: {error}") from None


async def _perform(step: Step, wire: Wire, world: World) -> None:
    match step.verb:
        case "C":
            await wire.send(step.octets)
        case "C-close":
            await wire.close()
        case "TLS":
            await wire.start_tls()
        case "S":
            line = await wire.line()
            if line is None or not (line.startswith(step.octets) if step.is_prefix else line == step.octets):
                raise TranscriptError(f"expected {step.octets!r}, got {line!r}")
        case "S-close":
            line = await wire.line()
            if line is not None:
                raise TranscriptError(f"expected the end, got {line!r}")
        case "S-silent":
            if not await wire.is_silent():
                raise TranscriptError("expected silence")
        case "LETTER":
            letter = await world.take_letter()
            if letter is not None and letter != step.octets:
                raise TranscriptError(f"expected the letter {step.octets!r}, got {letter!r}")
