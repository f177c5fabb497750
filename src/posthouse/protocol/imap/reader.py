# SPDX-License-Identifier: Apache-2.0
"""CommandInbox: the octets of a client, given out as lines and as contents of literals.

Invariant: memory is bounded by the longest line; only CRLF ends one. A line is searched once, however it is cut.
"""

from __future__ import annotations

from posthouse.protocol.imap import limits
from posthouse.protocol.inbox import Inbox, Line

_CRLF = b"\r\n"


class CommandInbox(Inbox):
    """As its parent, with longer lines; `long_line` is the beginning of the one that was too long."""

    __slots__ = ("_searched", "long_line")

    def __init__(self) -> None:
        super().__init__(limits.MAX_LINE)
        self._searched = 0  # octets from `start` on that hold no CRLF
        self.long_line = b""

    def line(self) -> bytes | Line | None:
        self.gather()
        start, octets = self.start, self.octets
        end = octets.find(_CRLF, start + self._searched)
        # Half of a CRLF may be at the end: a line is too long once it is so without it.
        size = end + 2 - start if end >= 0 else len(octets) - start
        if size > self._max_line and not self._in_long_line:
            self._in_long_line = True
            self._discarded = 0
            self.long_line = octets[start : start + 2 * limits.MAX_TAG]
        if end >= 0:
            self.start = end + 2
            self._searched = 0
            return self._given_up(end - start) if self._in_long_line else octets[start:end]
        if self._in_long_line:
            self.start = len(octets) - octets.endswith(b"\r", start)
            self._searched = 0
            self._discarded += self.start - start
            if self._discarded + 2 > limits.MAX_LINE_DISCARD:
                return self._given_up(0)
            return None
        self._searched = max(len(octets) - start - 1, 0)
        return None

    def _given_up(self, more: int) -> Line:
        size = self._discarded + more + 2
        self._in_long_line = False
        self._discarded = 0
        return Line.TOO_LONG if size <= limits.MAX_LINE_DISCARD else Line.ENDLESS

    def take(self, count: int) -> bytes:
        """Up to `count` octets, as many as are here."""
        self.gather()
        start = self.start
        end = min(start + count, len(self.octets))
        self.start = end
        self._searched = 0
        return self.octets if start == 0 and end == len(self.octets) else self.octets[start:end]

    def skip(self, count: int) -> int:
        self._searched = 0
        return super().skip(count)

    def take_all(self) -> bytes:
        return self.take(self.unread)

    def clear(self) -> None:
        super().clear()
        self._searched = 0
        self.long_line = b""
