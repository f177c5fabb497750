# SPDX-License-Identifier: Apache-2.0
"""Pending: one command while its lines and literals come (RFC 9051 §4.3, RFC 7888).

Invariant: it holds at most what its row allows; the messages of APPEND and REPLACE never pass through it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from posthouse.protocol.imap import limits
from posthouse.protocol.imap.parse_message import Appending, Coming, parse_message
from posthouse.protocol.imap.table import Command
from posthouse.protocol.imap.tokens import CommandFault, Cursor, LiteralMissing

# The head of a literal stands at the end of its line. A client that ends a line so without meaning a literal
# (within quotes that it does not close) says nothing well formed.
_HEAD = re.compile(rb"\{([0-9]+)(\+?)\}")


@dataclass(frozen=True, slots=True)
class Head:
    """`{size}`: the client waits for leave if `waits`."""

    size: int
    waits: bool


def literal_head(line: bytes) -> Head | None:
    if not line.endswith(b"}"):
        return None
    found = _HEAD.fullmatch(line, max(line.rfind(b"{"), 0))
    if found is None:
        return None
    # What has more digits than any size of RFC 9051 is larger than any limit.
    return Head(int(found[1]) if len(found[1]) <= 19 else limits.MAX_NUMBER64, not found[2])


class Pending:
    """`fault` once it is refused: the rest is only waited for. `answer` where the refusal is written already."""

    __slots__ = (
        "answer", "appending", "by_uid", "coming", "count", "fault", "literals", "row", "size", "skipped", "tag",
        "text",
    )  # fmt: skip

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.row: Command | None = None
        self.by_uid = False
        self.text = b""
        self.literals: list[bytes] = []
        self.size = 0  # octets of lines and literals, without messages that have come
        self.skipped = 0  # octets of literals that are thrown away
        self.fault: CommandFault | None = None
        self.answer = b""
        self.appending: Appending | None = None
        self.coming: Coming | None = None  # the message that comes now, or came last
        self.count = 0  # messages that came

    def cursor(self, *, is_utf8: bool) -> Cursor:
        return Cursor(self.text, self.literals, is_utf8=is_utf8, by_uid=self.by_uid)

    def add_line(self, line: bytes, *, is_open: bool) -> None:
        """`is_open`: a literal follows."""
        self.size += len(line)
        self.text += line + b"\r\n" if is_open else line

    def next_message(self, *, is_utf8: bool) -> Coming | None:
        """The line ends with a literal's head: what message it announces; None where it is an argument."""
        cursor = self.cursor(is_utf8=is_utf8)
        if self.appending is None:
            assert self.row is not None
            try:
                found = self.row.parse(cursor)
            except LiteralMissing:
                return None
            assert isinstance(found, Appending)
            self.appending = found
        else:
            self._after_message(cursor)
            if self.appending.replaces is not None:
                cursor.fail("REPLACE takes one message")
            if self.count >= limits.MAX_MESSAGES:
                raise CommandFault(f"At most {limits.MAX_MESSAGES} messages at once", "LIMIT", is_no=True)
        coming = parse_message(cursor)
        if not cursor.is_at_end:
            cursor.fail("expected the message")
        self.text = b""
        self.literals = []
        self.size = 0
        self.coming = coming
        return coming

    def finish_messages(self, *, is_utf8: bool) -> Appending:
        """The line without a literal that ends APPEND or REPLACE."""
        cursor = self.cursor(is_utf8=is_utf8)
        assert self.appending is not None, "a message has come"
        self._after_message(cursor)
        cursor.end()
        return self.appending

    def _after_message(self, cursor: Cursor) -> None:
        if self.coming is not None and self.coming.is_utf8:
            cursor.expect(b")")
