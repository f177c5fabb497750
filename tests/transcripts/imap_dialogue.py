# SPDX-License-Identifier: Apache-2.0
"""IMAP transcripts: dialogues of several sessions as data, run in process or over real connections.

One file is one test. Its lines (sessions have numbers, people names):

    # a comment; empty lines count for nothing
    SERVER section.key=value …   keys of posthouse.toml, before the first session; also quota.alice=1000 (octets)
    LETTER name: text            a letter, with Python's escapes; {x*600} is x six hundred times
    OPEN 1                       session 1 begins, over TLS (OPEN 1 plain: without); its greeting is to be read
    LOGIN 1 alice [+QRESYNC …] [INBOX]   session 1 begins, logs in as alice, enables, selects a mailbox; nothing of it
                                 is to be read
    AUTH 1 MECHANISM alice tag   session 1 authenticates with that mechanism; the tagged answer is to be read
    DELIVER alice: text          a letter comes for alice from outside
    PUT alice mailbox (flags): text   a letter is put into a mailbox of alice's, by another session of hers
    AFTER 3600                   so many seconds pass
    C1: text                     client 1 sends text and CRLF; neighbouring lines of one session go out in one piece
    C1-raw: text                 the same with escapes, without CRLF
    C1-tls, C1-deflate, C1-plain, C1-close   both start TLS; deflate; end deflate; the client closes its side
    S1: text                     the server's next line to client 1 is this; with a final ... it begins with this
    S1-among: text               neighbouring ones come in any order
    S1-until: text               lines up to and with this one are read
    S1-silent                    nothing is there to be read
    S1-close                     the server has closed, with nothing left to read
    CHECK a < b                  of two numbers that were bound

In S lines `<name>` stands for a word and binds it: where it stands again it is the same, also in C lines. `<_>` is
anything. `{name}` is the literal of a LETTER, size and octets; in C lines `{name+}` is the same, `{name}` the size
alone for a client that waits, `{=name}` the octets. `{#name}` is the number of octets.

Before a client says something it must have read all there is, and at the end too: whatever a transcript does not
tell, the server must not say.
"""

from __future__ import annotations

import base64
import re
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from posthouse.protocol.sasl import client_exchange
from tests.transcripts.transcript import TranscriptError, unescape

_LINE = re.compile(r"(C|S)(\d+)(-[a-z]+)?(?::(?: (.*))?)?\Z")
_WORLD = re.compile(r"(SERVER|LETTER|OPEN|LOGIN|AUTH|DELIVER|PUT|AFTER|CHECK) (.+)\Z")
_CLIENT = ("", "-raw", "-tls", "-deflate", "-plain", "-close")
_SERVER = ("", "-among", "-until", "-silent", "-close")
_WORD = re.compile(r"<([a-z_][a-z0-9_]*)>")
_LETTER = re.compile(r"\{([=#]?)([a-z][a-z0-9_]*)(\+?)\}")
_COMMAND = re.compile(r"[A-Za-z0-9]+ ((?:UID )?[A-Z]+)\b", re.IGNORECASE)
PASSWORD = "secret"


@dataclass(frozen=True, slots=True)
class Step:
    line: int  # in the file, from 1
    verb: str
    session: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Dialogue:
    name: str
    head: str  # the comments at the top
    settings: dict[str, str]
    letters: dict[str, bytes]
    steps: list[Step] = field(default_factory=list)

    def commands(self) -> list[tuple[str, str]]:
        """Tag and verb of every line that looks like the beginning of a command."""
        lines = [line for step in self.steps if step.verb in ("C", "C-raw") for line in step.text.split("\r\n")]
        return [(line.split()[0], found[1].upper()) for line in lines if (found := _COMMAND.match(line))]

    def answers(self) -> dict[str, str]:
        """OK, NO or BAD by tag."""
        lines = [step.text.split() for step in self.steps if step.verb in ("S", "S-until", "S-among")]
        found = {words[0]: words[1].removesuffix("...") for words in lines if len(words) > 1}
        return {tag: kind for tag, kind in found.items() if kind in ("OK", "NO", "BAD")}


class RawWire(Protocol):
    """The client's end of one session, in octets."""

    async def send(self, octets: bytes) -> None: ...

    async def read(self) -> bytes:
        """What is there, or comes next; b"" when the server has closed. Raises TranscriptError where nothing will."""

    async def is_silent(self) -> bool:
        """Whether nothing is there to be read; True where that cannot be known."""

    async def close(self) -> None: ...

    async def start_tls(self) -> None: ...


class World(Protocol):
    async def open(self, *, is_plain: bool) -> RawWire: ...

    async def deliver(self, person: str, octets: bytes) -> None: ...

    async def wait(self, seconds: float) -> None: ...


def parse(name: str, text: str) -> Dialogue:
    """Raise ValueError with the line's number where the text is no transcript."""
    lines = text.splitlines()
    head = "\n".join(line.lstrip("# ") for line in lines if line.startswith("#"))
    dialogue = Dialogue(name, head, {}, {})
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        said, world = _LINE.match(line), _WORLD.match(line)
        if said is not None and (said[3] or "") in (_CLIENT if said[1] == "C" else _SERVER):
            _add(dialogue, Step(number, said[1] + (said[3] or ""), int(said[2]), said[4] or ""))
        elif world is not None:
            _add_world(dialogue, number, world[1], world[2])
        else:
            raise ValueError(f"{name}:{number}: unknown line {line!r}")
    return dialogue


def _add(dialogue: Dialogue, step: Step) -> None:
    last = dialogue.steps[-1] if dialogue.steps else None
    if last is not None and last.session == step.session and step.verb in ("C", "S-among") and last.verb == step.verb:
        dialogue.steps[-1] = Step(last.line, last.verb, last.session, last.text + "\r\n" + step.text)
    else:
        dialogue.steps.append(step)


def _add_world(dialogue: Dialogue, number: int, verb: str, rest: str) -> None:
    if verb == "SERVER":
        dialogue.settings.update(pair.split("=", 1) for pair in rest.split())
    elif verb == "LETTER":
        name, _, text = rest.partition(": ")
        dialogue.letters[name] = unescape(text)
    else:
        dialogue.steps.append(Step(number, verb, 0, rest))


def load(folder: Path) -> list[Dialogue]:
    return [parse(path.stem, path.read_text("utf-8")) for path in sorted(folder.glob("*.txt"))]


class Talk:
    """One session as its client has it: lines, and compression when it is on."""

    def __init__(self, raw: RawWire) -> None:
        self.raw = raw
        self._buffer = b""
        self._inflater: zlib._Decompress | None = None
        self._deflater: zlib._Compress | None = None

    async def send(self, octets: bytes) -> None:
        if self._deflater is not None:
            octets = self._deflater.compress(octets) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
        await self.raw.send(octets)

    async def line(self) -> bytes | None:
        while b"\r\n" not in self._buffer:
            octets = await self.raw.read()
            if not octets:
                if self._buffer:
                    raise TranscriptError(f"half a line: {self._buffer!r}")
                return None
            self._buffer += octets if self._inflater is None else self._inflater.decompress(octets)
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def give_back(self, line: bytes) -> None:
        self._buffer = line + b"\r\n" + self._buffer

    async def check_silence(self) -> None:
        if self._buffer or not await self.raw.is_silent():
            raise TranscriptError(f"the server says more: {await self.line()!r}")

    def deflate(self) -> None:
        self._inflater, self._deflater = zlib.decompressobj(-15), zlib.compressobj(6, zlib.DEFLATED, -15)

    def end_deflate(self) -> None:
        assert self._inflater is not None
        self._buffer += self._inflater.unused_data
        self._inflater = self._deflater = None


class Play:
    """One run of a dialogue."""

    def __init__(self, dialogue: Dialogue, world: World) -> None:
        self._dialogue = dialogue
        self._world = world
        self._talks: dict[int, Talk] = {}
        self._bound: dict[str, str] = {}
        self._count = 0

    async def run(self) -> None:
        for step in self._dialogue.steps:
            try:
                await self._perform(step)
            except TranscriptError as error:
                raise TranscriptError(f"{self._dialogue.name}:{step.line}: {error}") from None
        for number, talk in self._talks.items():
            try:
                await talk.check_silence()
            except TranscriptError as error:
                raise TranscriptError(f"{self._dialogue.name}: session {number}, at the end: {error}") from None

    async def _perform(self, step: Step) -> None:
        match step.verb:
            case "OPEN":
                number, _, how = step.text.partition(" ")
                self._talks[int(number)] = Talk(await self._world.open(is_plain=how == "plain"))
            case "LOGIN":
                number, person, *mailbox = step.text.split(" ", 2)
                self._talks[int(number)] = await self._log_in(person, *mailbox)
            case "AUTH":
                number, mechanism, person, tag = step.text.split()
                await self._authenticate(self._talks[int(number)], mechanism, person, tag)
            case "DELIVER":
                person, _, text = step.text.partition(": ")
                await self._world.deliver(person, unescape(text))
            case "PUT":
                await self._put(step.text)
            case "AFTER":
                await self._world.wait(float(step.text))
            case "CHECK":
                self._check(step.text)
            case _:
                await self._talk(step, self._talks[step.session])

    async def _talk(self, step: Step, talk: Talk) -> None:
        match step.verb:
            case "C" | "C-raw":
                await talk.check_silence()
                end = b"\r\n" if step.verb == "C" else b""
                await talk.send(self._said(step.text, is_raw=step.verb == "C-raw") + end)
            case "C-tls":
                await talk.raw.start_tls()
            case "C-deflate":
                talk.deflate()
            case "C-plain":
                talk.end_deflate()
            case "C-close":
                await talk.raw.close()
            case "S":
                await self._hear(talk, step.text)
            case "S-among":
                await self._hear_among(talk, step.text.split("\r\n"))
            case "S-until":
                while True:
                    line = await talk.line()
                    if line is None:
                        raise TranscriptError(f"expected {step.text!r}, got the end")
                    if self._matches(step.text, line):
                        return
            case "S-silent":
                await talk.check_silence()
            case "S-close":
                line = await talk.line()
                if line is not None:
                    raise TranscriptError(f"expected the end, got {line!r}")
            case _:
                raise AssertionError(step)

    # --- what the client says ---------------------------------------------------------------------

    def _said(self, text: str, *, is_raw: bool) -> bytes:
        text = _WORD.sub(lambda found: self._bound.get(found[1], found[0]), text)
        pieces = re.split(r"(\{[=#]?[a-z][a-z0-9_]*\+?\})", text)
        return b"".join(self._dressed(piece, is_raw=is_raw) for piece in pieces)

    def _dressed(self, piece: str, *, is_raw: bool) -> bytes:
        found = _LETTER.fullmatch(piece)
        if found is None:
            return unescape(piece) if is_raw else piece.encode()
        kind, name, plus = found.groups()
        octets = self._letter(name)
        match kind, plus:
            case "=", _:
                return octets
            case "#", _:
                return b"%d" % len(octets)
            case _, "+":
                return b"{%d+}\r\n%b" % (len(octets), octets)
            case _:
                return b"{%d}" % len(octets)

    def _letter(self, name: str) -> bytes:
        if name not in self._dialogue.letters:
            raise TranscriptError(f"there is no letter {name}")
        return self._dialogue.letters[name]

    # --- what it hears ----------------------------------------------------------------------------

    async def _hear(self, talk: Talk, expected: str) -> None:
        line = await talk.line()
        count = self._lines(expected)
        while line is not None and count:
            count -= 1
            more = await talk.line()
            if more is None:
                raise TranscriptError(f"expected {expected!r}, got {line!r} and the end")
            line += b"\r\n" + more
        if line is None or not self._matches(expected, line):
            raise TranscriptError(f"expected {self._told(expected)!r}, got {line!r}")

    def _told(self, expected: str) -> str:
        return _WORD.sub(lambda found: self._bound.get(found[1], found[0]), expected)

    async def _hear_among(self, talk: Talk, expected: list[str]) -> None:
        left = list(expected)
        for _ in expected:
            line = await talk.line()
            found = next((each for each in left if line is not None and self._matches(each, line)), None)
            if found is None:
                raise TranscriptError(f"expected one of {[self._told(each) for each in left]}, got {line!r}")
            left.remove(found)

    def _lines(self, expected: str) -> int:
        """How many CRLF are within."""
        return sum(1 + self._letter(found[2]).count(b"\r\n") for found in _LETTER.finditer(expected) if not found[1])

    def _matches(self, expected: str, line: bytes) -> bool:
        """Binds what it finds."""
        is_prefix = expected.endswith("...")
        names: list[str] = []
        pattern = self._pattern(expected.removesuffix("..."), names)
        found = re.compile(pattern + (b"" if is_prefix else rb"\Z"), re.DOTALL).match(line)
        if found is None:
            return False
        self._bound |= {name: found[name].decode("utf-8", "replace") for name in names}
        return True

    def _pattern(self, expected: str, names: list[str]) -> bytes:
        made = b""
        for piece in re.split(r"(<[a-z_][a-z0-9_]*>|\{#?[a-z][a-z0-9_]*\})", expected):
            word, letter = _WORD.fullmatch(piece), _LETTER.fullmatch(piece)
            if word is not None and word[1] == "_":
                made += b".*?"
            elif word is not None and word[1] in self._bound:
                made += re.escape(self._bound[word[1]].encode())
            elif word is not None and word[1] in names:
                made += b"(?P=%b)" % word[1].encode()
            elif word is not None:
                names.append(word[1])
                inside = rb'[^"]+' if made.endswith(b'"') else rb'[^\s()\[\]{}"<>,:]+'
                made += b"(?P<%b>%b)" % (word[1].encode(), inside)
            elif letter is not None:
                octets = self._letter(letter[2])
                made += b"%d" % len(octets) if letter[1] else re.escape(b"{%d}\r\n%b" % (len(octets), octets))
            else:
                made += re.escape(piece.encode())
        return made

    def _check(self, text: str) -> None:
        left, sign, right = (self._bound.get(word, word) for word in text.split())
        if not {"<": int(left) < int(right), "=": left == right}[sign]:
            raise TranscriptError(f"it is not so: {left} {sign} {right}")

    # --- people -----------------------------------------------------------------------------------

    async def _log_in(self, person: str, wanted: str = "") -> Talk:
        """`wanted`: words to enable, each behind a plus, and a mailbox."""
        talk = Talk(await self._world.open(is_plain=False))
        await self._hear(talk, "* OK ...")
        await talk.send(f"login LOGIN {person}@example.test {PASSWORD}\r\n".encode())
        await self._hear(talk, "login OK ...")
        enabled = re.match(r"(?:\+\S+ ?)*", wanted)
        assert enabled is not None
        mailbox = wanted[enabled.end() :]
        if enabled[0]:
            await talk.send(f"enable ENABLE {enabled[0].strip().replace('+', '')}\r\n".encode())
            await self._hear(talk, "* ENABLED ...")
            await self._hear(talk, "enable OK ...")
        if mailbox:
            await talk.send(f'select SELECT "{mailbox}"\r\n'.encode())
            while not ((line := await talk.line()) or b"").startswith(b"select "):
                if line is None:
                    raise TranscriptError("the server closed")
            if not (line or b"").startswith(b"select OK"):
                raise TranscriptError(f"cannot select {mailbox}: {line!r}")
        return talk

    async def _authenticate(self, talk: Talk, mechanism: str, person: str, tag: str) -> None:
        await talk.check_silence()
        exchange = client_exchange([mechanism], f"{person}@example.test", PASSWORD, "nonce", is_protected=True)
        assert exchange is not None, mechanism
        await talk.send(f"{tag} AUTHENTICATE {mechanism}\r\n".encode())
        answer = exchange.initial()
        while (line := await talk.line()) is not None and line.startswith(b"+ "):
            if answer is None:
                answer = exchange.respond(base64.b64decode(line[2:]))
            await talk.send(base64.b64encode(answer) + b"\r\n")
            answer = None
        talk.give_back(line or b"")

    async def _put(self, text: str) -> None:
        found = re.fullmatch(r"(\w+) (.+?) \((.*?)\): (.*)", text)
        if found is None:
            raise TranscriptError("PUT person mailbox (flags): text")
        person, mailbox, flags, octets = found[1], found[2], found[3], unescape(found[4])
        self._count += 1
        talk = await self._log_in(person)
        await talk.send(f'put APPEND "{mailbox}" ({flags}) {{{len(octets)}+}}\r\n'.encode() + octets + b"\r\n")
        await self._hear(talk, "put OK ...")
        await talk.send(b"bye LOGOUT\r\n")
        await self._hear(talk, "* BYE ...")
        await self._hear(talk, "bye OK ...")


async def run(dialogue: Dialogue, world: World) -> None:
    await Play(dialogue, world).run()
