# SPDX-License-Identifier: Apache-2.0
"""ResponseReader: a server's octets, cut into responses with their literals, and each read as a tree of values.

Invariant: a value is a str (an atom), bytes (a string), None (NIL) or a tuple (a list); memory has a bound, and
what breaks the grammar raises RemoteProtocolError.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from posthouse.protocol.engine import RemoteProtocolError

Value = str | bytes | None | tuple["Value", ...]

MAX_LINE = 16 * 1024 * 1024  # octets of lines of one response: SEARCH of a million letters has eight
MAX_RESPONSE = 160 * 1024 * 1024  # with its literals: a letter larger than any server accepts by default
MAX_LITERALS = 10_000  # of one response; a large ENVELOPE has one for each name that is not ASCII
MAX_DEPTH = 200  # lists within each other: structures of servers without a bound of their own

_HEAD = re.compile(rb"~?\{([0-9]{1,19})\}\Z")
# What is told in words: no literal stands in it, whatever its end looks like.
_STATUS = re.compile(rb"(?:\+|[^ ]+ (?:OK|NO|BAD|BYE|PREAUTH)(?: |\Z))", re.IGNORECASE)
# One token: a parenthesis, a quoted string, or an atom, which may have a section in brackets with blanks in it. The
# section has a bound, as each bracket that is not closed is looked at to its end.
_TOKEN = re.compile(
    rb'(?:([()])|"((?:[^"\\]|\\.)*)"|([^\x00-\x20()"{\[]*\[[^\]]{0,4000}\](?:<[0-9]{1,20}>)?|[^\x00-\x20()"{]+))'
)
_ESCAPED = re.compile(rb"\\(.)")


@dataclass(frozen=True, slots=True)
class Response:
    """The lines of one response, and the literals that stand between them."""

    lines: tuple[bytes, ...]
    literals: tuple[bytes, ...]


class ResponseReader:
    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._lines: list[bytes] = []
        self._literals: list[bytes] = []
        self._literal: list[bytes] = []  # pieces of the one that comes now
        self._left = -1  # its octets that are to come; -1: a line comes
        self._size = 0

    @property
    def is_empty(self) -> bool:
        return not self._buffer and not self._lines

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def take_all(self) -> bytes:
        """What was not used: it is not a response (TLS, or compression, has begun)."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._searched = 0
        return rest

    def next_response(self) -> Response | None:
        while True:
            if self._left >= 0:
                if not self._take_literal():
                    return None
                continue
            line = self._take_line()
            if line is None:
                return None
            head = None if not self._lines and _STATUS.match(line) else _HEAD.search(line)
            self._count(len(line))
            if head is None:
                response = Response((*self._lines, line), tuple(self._literals))
                self._lines, self._literals, self._size = [], [], 0
                return response
            self._lines.append(line[: head.start()])
            self._left = int(head[1])
            if len(self._literals) >= MAX_LITERALS or self._size + self._left > MAX_RESPONSE:
                raise RemoteProtocolError("the server's response is too long")

    def _take_line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n", self._searched)
        if end < 0:
            self._searched = max(len(self._buffer) - 1, 0)
            if len(self._buffer) > MAX_LINE:
                raise RemoteProtocolError("the server's line does not end")
            return None
        line = bytes(memoryview(self._buffer)[:end])
        del self._buffer[: end + 2]
        self._searched = 0
        return line

    def _take_literal(self) -> bool:
        size = min(self._left, len(self._buffer))
        if size:
            self._literal.append(bytes(memoryview(self._buffer)[:size]))
            del self._buffer[:size]
            self._left -= size
        if self._left:
            return False
        literal = b"".join(self._literal)
        self._literal = []
        self._count(len(literal))
        self._literals.append(literal)
        self._left = -1
        return True

    def _count(self, octets: int) -> None:
        self._size += octets
        if self._size > MAX_RESPONSE:
            raise RemoteProtocolError("the server's response is too long")


def values_of(response: Response, start: int) -> tuple[Value, ...]:
    """The values from octet `start` of the first line on."""
    stack: list[list[Value]] = [[]]
    for index, line in enumerate(response.lines):
        _read(line, start, stack)
        start = 0
        if index < len(response.literals):
            stack[-1].append(response.literals[index])
    if len(stack) != 1:
        raise RemoteProtocolError("the server leaves a list open")
    return tuple(stack[0])


def _read(line: bytes, position: int, stack: list[list[Value]]) -> None:
    while position < len(line):
        if line[position] == 0x20:
            position += 1
            continue
        found = _TOKEN.match(line, position)
        if found is None:
            raise RemoteProtocolError(f"the server says what is no value: {line[position : position + 40]!r}")
        position = found.end()
        parenthesis, quoted, atom = found.groups()
        if parenthesis == b"(":
            if len(stack) > MAX_DEPTH:
                raise RemoteProtocolError("the server nests lists too deep")
            stack.append([])
        elif parenthesis == b")":
            if len(stack) == 1:
                raise RemoteProtocolError("the server closes a list that is not open")
            closed = tuple(stack.pop())
            stack[-1].append(closed)
        elif quoted is not None:
            stack[-1].append(_ESCAPED.sub(rb"\1", quoted) if b"\\" in quoted else quoted)
        else:
            stack[-1].append(None if atom.upper() == b"NIL" else atom.decode("utf-8", "replace"))
