# SPDX-License-Identifier: Apache-2.0
"""Inbox: octets from the peer until they are used, cut into lines or given out as one buffer.

Only CRLF ends a line. A line longer than its limit is thrown away while it comes, so memory stays bounded; one
that does not end within MAX_DISCARD is given up, so a peer cannot make us read for ever.
"""

from __future__ import annotations

from enum import Enum, auto

_CRLF = b"\r\n"

# Octets of one line that are read in the hope of its end, so that a command that is too long gets its answer and
# the session goes on. Five times the longest line that any command may have.
MAX_DISCARD = 64 * 1024


class Line(Enum):
    TOO_LONG = auto()  # a line beyond the limit has ended; none of it was kept
    ENDLESS = auto()  # a line has not ended within MAX_DISCARD: what follows cannot be told from it, so close


class Inbox:
    """`octets[start:]` is what is not used up yet; readers of content move `start` themselves."""

    __slots__ = ("_discarded", "_in_long_line", "_incoming", "_max_line", "is_eof", "octets", "start")

    def __init__(self, max_line: int) -> None:
        self._max_line = max_line  # octets with the CRLF
        self._incoming: list[bytes] = []  # fed since the last `gather`: joining once costs less than each time
        self._in_long_line = False
        self._discarded = 0  # octets of the long line that are gone already
        self.octets = b""
        self.start = 0
        self.is_eof = False

    def feed(self, data: bytes) -> None:
        """b"" is the end of the stream."""
        if data:
            self._incoming.append(data)
        else:
            self.is_eof = True

    @property
    def unread(self) -> int:
        return len(self.octets) - self.start + sum(map(len, self._incoming))

    def gather(self) -> None:
        """Join what came in to what is left."""
        if self._incoming:
            if self.start < len(self.octets):
                self._incoming.insert(0, self.octets[self.start :])
            self.octets = self._incoming[0] if len(self._incoming) == 1 else b"".join(self._incoming)
            self._incoming = []
            self.start = 0
        elif self.start and self.start == len(self.octets):
            self.octets = b""  # an idle connection holds no memory for what was once said
            self.start = 0

    def line(self) -> bytes | Line | None:
        """The next line without its CRLF; None while that is not here."""
        self.gather()
        start = self.start
        end = self.octets.find(_CRLF, start)
        if end >= 0:
            self.start = end + 2
            if self._in_long_line or end + 2 - start > self._max_line:
                return self._given_up(end - start)
            return self.octets[start:end]
        if self._in_long_line or len(self.octets) - start > self._max_line:
            self._in_long_line = True
            # A CR at the very end may be half of the CRLF that we wait for.
            self.start = len(self.octets) - self.octets.endswith(b"\r", start)
            self._discarded += self.start - start
            if self._discarded + 2 > MAX_DISCARD:
                return self._given_up(0)
        return None

    def _given_up(self, more: int) -> Line:
        """The verdict on a long line: the same, however the network has cut it."""
        size = self._discarded + more + 2  # with its CRLF
        self._in_long_line = False
        self._discarded = 0
        return Line.TOO_LONG if size <= MAX_DISCARD else Line.ENDLESS

    def skip(self, count: int) -> int:
        """Throw away up to `count` octets; return how many are still to come."""
        self.gather()
        here = min(count, len(self.octets) - self.start)
        self.start += here
        return count - here

    def clear(self) -> None:
        self._discarded = 0
        self.octets = b""
        self.start = 0
        self._incoming = []
        self._in_long_line = False
