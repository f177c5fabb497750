# SPDX-License-Identifier: Apache-2.0
"""Streams: octets from and to the client, through compression once it has begun (RFC 4978).

Invariant: what was said before the layer began or after it ended goes out as it is, in its order.
"""

from __future__ import annotations

from collections.abc import Iterable

from posthouse.protocol.imap import limits
from posthouse.protocol.imap.deflate import Deflater, Inflater
from posthouse.protocol.imap.reader import CommandInbox


class Streams:
    __slots__ = ("_deflater", "_ending", "_inflater", "_out", "_plain", "inbox")

    def __init__(self) -> None:
        self.inbox = CommandInbox()
        self._out: list[bytes | memoryview] = []
        self._plain: list[bytes | memoryview] = []  # ready to go as it is, before `_out`
        self._deflater: Deflater | None = None
        self._inflater: Inflater | None = None
        self._ending: Inflater | None = None  # the end of its stream is still to come

    @property
    def is_compressed(self) -> bool:
        return self._deflater is not None

    @property
    def has_more(self) -> bool:
        """Whether `let_in` may have something without new octets."""
        return self._inflater is not None and self._inflater.has_more

    def feed(self, data: bytes) -> None:
        """b"" is the end of the stream."""
        if data and self._inflater is not None:
            self._inflater.feed(data)
        elif data and self._ending is not None:
            self._end(self._ending, data)
        else:
            self.inbox.feed(data)

    def let_in(self) -> bool:
        """Inflate what can be used next. False: it is no deflate stream."""
        if self._inflater is None or self.inbox.unread > limits.MAX_LINE:
            return True
        try:
            piece = self._inflater.read()
        except ValueError:
            return False
        if piece:
            self.inbox.feed(piece)
        return True

    def say(self, octets: bytes) -> None:
        self._out.append(octets)

    def say_all(self, pieces: Iterable[bytes | memoryview]) -> None:
        self._out.extend(pieces)

    def take_out(self) -> list[bytes | memoryview]:
        out = self._out
        if out:
            self._out = []
            if self._deflater is not None:
                out = self._deflater.pack(out)
        if self._plain:
            out, self._plain = self._plain + out, []
        return out

    def compress(self) -> None:
        """From behind what was said last."""
        self._plain, self._out = self._plain + self._out, []
        self._deflater = Deflater()
        self._inflater = Inflater()
        early = self.inbox.take_all()
        if early:
            self._inflater.feed(early)

    def end_compression(self) -> None:
        """RFC 8437 §4.1: behind what was said last, and behind the command that ended it."""
        if self._deflater is None or self._inflater is None:
            return
        self._plain += self._deflater.pack(self._out, is_last=True)
        self._out = []
        self._end(self._inflater, b"")
        self._deflater = self._inflater = None

    def _end(self, inflater: Inflater, data: bytes) -> None:
        rest = inflater.end(data)
        self._ending = inflater if rest is None else None
        if rest:
            self.inbox.feed(rest)
