# SPDX-License-Identifier: Apache-2.0
"""The harness of the IMAP transcripts itself: it must notice what is wrong, or they prove nothing."""

from __future__ import annotations

import pytest

from tests.transcripts.imap_dialogue import Dialogue, parse, run
from tests.transcripts.transcript import TranscriptError


class Parrot:
    """A server that greets, and then says what it was told to say for each line that it hears."""

    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self._answers = answers
        self._out = b"* OK ready\r\n"
        self.heard = b""

    async def send(self, octets: bytes) -> None:
        self.heard += octets
        for line in octets.split(b"\r\n"):
            self._out += self._answers.get(line, b"")

    async def read(self) -> bytes:
        out, self._out = self._out, b""
        if not out:
            raise TranscriptError("the server says nothing")
        return out

    async def is_silent(self) -> bool:
        return not self._out

    async def close(self) -> None:
        return

    async def start_tls(self) -> None:
        return


class ParrotWorld:
    def __init__(self, **answers: str) -> None:
        self._answers = {word.encode(): text.encode() for word, text in answers.items()}
        self.parrots: list[Parrot] = []
        self.waited = 0.0

    async def open(self, *, is_plain: bool) -> Parrot:
        self.parrots.append(Parrot(self._answers))
        return self.parrots[-1]

    async def deliver(self, person: str, octets: bytes) -> None:
        raise AssertionError(f"nothing comes for {person}")

    async def wait(self, seconds: float) -> None:
        self.waited += seconds


def of(text: str) -> Dialogue:
    return parse("t", "OPEN 1\nS1: * OK...\n" + text)


def test_lines_of_sessions_letters_and_the_head() -> None:
    dialogue = parse(
        "t", "# RFC 1\nLETTER a: x\\r\\n\nSERVER imap.literal_minus=true\nC1: a1 NOOP\nC1: a2 NOOP\nS2: *\n"
    )
    assert dialogue.head == "RFC 1"
    assert dialogue.letters == {"a": b"x\r\n"}
    assert dialogue.settings == {"imap.literal_minus": "true"}
    assert [(step.verb, step.session, step.text) for step in dialogue.steps] == [
        ("C", 1, "a1 NOOP\r\na2 NOOP"),
        ("S", 2, "*"),
    ]
    assert dialogue.commands() == [("a1", "NOOP"), ("a2", "NOOP")]


@pytest.mark.parametrize("line", ["X1: a", "C1-shout: a", "S: a", "CHECKS a < b", "C: a"])
def test_unknown_lines_are_errors(line: str) -> None:
    with pytest.raises(ValueError, match="t:1: unknown line"):
        parse("t", line)


async def test_names_are_bound_and_used() -> None:
    world = ParrotWorld(a="* [UIDNEXT 7] (x)\r\n", b="* 7 EXISTS\r\n")
    await run(
        of("C1: a\nS1: * [UIDNEXT <next>] (<_>)\nC1: b\nS1: * <next> EXISTS\nC1: c <next>\nCHECK next < 8"), world
    )
    assert world.parrots[0].heard.endswith(b"c 7\r\n")


async def test_letters_are_literals() -> None:
    world = ParrotWorld(a="* 1 FETCH (BODY[] {5}\r\nhi\r\n! SIZE 5)\r\n")
    text = "LETTER hi: hi\\r\\n!\nC1: a\nS1: * 1 FETCH (BODY[] {hi} SIZE {#hi})\nC1: b {hi+}\nC1: c {hi}\nC1: {=hi}"
    await run(of(text), world)
    assert world.parrots[0].heard == b"a\r\nb {5+}\r\nhi\r\n!\r\nc {5}\r\nhi\r\n!\r\n"


async def test_any_order_and_lines_that_are_passed_over() -> None:
    world = ParrotWorld(a="* 1\r\n* 2\r\n* 3\r\n* 4\r\n")
    await run(of("C1: a\nS1-among: * 2\nS1-among: * 1\nS1-until: * 4"), world)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("C1: a\nS1: * 1", "t:4: expected '* 1', got b'* 2'"),
        ("C1: a\nS1: *", "t:4: expected '*', got b'* 2'"),
        ("C1: a\nS1-among: * 1\nS1-among: * 3", "t:4: expected one of"),
        ("C1: a\nS1-until: * 1", "t:4: the server says nothing"),
        ("C1: a\nC1: a", "t: session 1, at the end: the server says more"),
        ("C1: a\nS1: * 2\nC1: a", "t: session 1, at the end: the server says more: b'* 2'"),
        ("C1: a\nAFTER 1\nC1: b", "t:5: the server says more: b'* 2'"),
        ("C1: a\nS1-silent", "t:4: the server says more"),
        ("C1: a\nS1-close", "t:4: expected the end"),
        ("S1: * 1", "t:3: the server says nothing"),
        ("C1: a\nS1: * <n>\nC1: b\nS1: * <n>", "t:6: expected '* 2', got b'* 3'"),
        ("C1: a\nS1: * <n>\nCHECK n < 2", "t:5: it is not so: 2 < 2"),
        ("C1: a {nothing+}", "t:3: there is no letter nothing"),
    ],
)
async def test_a_dialogue_that_goes_another_way_fails(text: str, reason: str) -> None:
    with pytest.raises(TranscriptError) as caught:
        await run(of(text), ParrotWorld(a="* 2\r\n", b="* 3\r\n"))
    assert str(caught.value).startswith(reason)
