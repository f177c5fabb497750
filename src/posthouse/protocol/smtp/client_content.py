# SPDX-License-Identifier: Apache-2.0
"""The content of a letter on its way out: dot-stuffed for DATA, counted for BDAT, slice by slice.

Invariant: what the receiver stores is octet for octet the content (plus a final CRLF where it had none).
All work is on whole slices; memory is one slice, however large the letter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from posthouse.ports import Buffer

# One write to the socket: large enough that calls do not count, small enough that thousands of
# connections together hold little (a slice is copied once for DATA).
CONTENT_SLICE = 64 * 1024
# A BDAT chunk: at 100 ms round-trip time waiting for each chunk's reply still lets 40 MiB/s through.
BDAT_CHUNK = 4 * 1024 * 1024
# Where BDAT begins to pay: below, DATA costs as many round trips and is what every server knows best.
BDAT_WORTHWHILE = 256 * 1024


class UncleanContent(Exception):  # noqa: N818 - a property of the letter, not of the program
    """The content has a bare CR or LF: no two servers agree where its lines end (RFC 5321 §2.3.8)."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What a plan needs to know of content. `size` counts the final CRLF that is added where it is missing."""

    size: int
    is_ascii: bool
    has_ascii_header: bool
    lacks_final_crlf: bool


def look_at(content: Sequence[Buffer]) -> Traits:
    """One pass over the content (30 GB/s: ASCII is a question for the machine's widest registers)."""
    size = 0
    is_ascii = has_ascii_header = True
    is_in_header = True
    tail = b"\r\n"  # the last octets: an empty line may lie across two slices, or stand first
    for piece in _slices(content):
        if is_in_header:
            joined = tail + piece
            end = joined.find(b"\r\n\r\n")
            is_in_header = end < 0
            has_ascii_header = has_ascii_header and (joined if end < 0 else joined[:end]).isascii()
        is_ascii = is_ascii and piece.isascii()
        size += len(piece)
        tail = (tail + piece)[-3:] if len(piece) < 3 else piece[-3:]
    lacks_final_crlf = size > 0 and tail[-2:] != b"\r\n"
    return Traits(size + 2 * lacks_final_crlf, is_ascii, has_ascii_header, lacks_final_crlf)


def stuffed(content: Sequence[Buffer]) -> Iterator[bytes]:
    """For DATA (RFC 5321 §4.5.2): each line that starts with a dot gets another; then the final dot.

    Raises UncleanContent, possibly after some slices: whoever sends then never sends the final dot.
    """
    checker = _LineEnds()
    starts_line = True
    for piece in _slices(content):
        checker.check(piece)
        # Bare LF is excluded, so "\n." finds what "\r\n." would, also where a slice ends between CR and LF.
        text = piece.replace(b"\n.", b"\n..")
        if starts_line and text.startswith(b"."):
            text = b"." + text
        starts_line = piece.endswith(b"\n")
        yield text
    checker.finish()
    yield b".\r\n" if starts_line else b"\r\n.\r\n"


def chunks(content: Sequence[Buffer], *, size: int, is_binary: bool) -> Iterator[Iterator[bytes | memoryview]]:
    """For BDAT (RFC 3030 §2): one iterator of buffers per chunk, command line first.

    `size` as in `Traits`; the missing final CRLF is added unless `is_binary` (then it is not in `size` either).
    """
    source = _wire_slices(content, size, is_binary=is_binary)
    left = size
    while True:
        count = min(left, BDAT_CHUNK)
        left -= count
        yield _chunk(source, count, is_last=left == 0)
        if left == 0:
            return


def _chunk(source: _Source, count: int, *, is_last: bool) -> Iterator[bytes | memoryview]:
    yield b"BDAT %d LAST\r\n" % count if is_last else b"BDAT %d\r\n" % count
    while count:
        piece = source.take(min(count, CONTENT_SLICE))
        count -= len(piece)
        yield piece


class _Source:
    """The wire form of the content, taken in pieces of at most so many octets."""

    def __init__(self, views: Iterator[memoryview], checker: _LineEnds | None) -> None:
        self._views = views
        self._view = memoryview(b"")
        self._checker = checker

    def take(self, at_most: int) -> memoryview:
        while not self._view:
            self._view = next(self._views)
        piece, self._view = self._view[:at_most], self._view[at_most:]
        if self._checker is not None:
            self._checker.check(bytes(piece))
        return piece


def _wire_slices(content: Sequence[Buffer], size: int, *, is_binary: bool) -> _Source:
    views = [memoryview(buffer).cast("B") for buffer in content]
    present = sum(len(view) for view in views)
    if present < size:
        views.append(memoryview(b"\r\n"))
    return _Source(iter(views), None if is_binary else _LineEnds())


class _LineEnds:
    """Counts: as many CR as LF as CRLF means that each stands in a pair. No loop over lines."""

    def __init__(self) -> None:
        self._open_cr = False  # the last slice ended with CR

    def check(self, piece: bytes) -> None:
        if not piece:
            return
        pairs = piece.count(b"\r\n")
        closes = self._open_cr and piece.startswith(b"\n")
        opens = piece.endswith(b"\r")
        if self._open_cr != closes or piece.count(b"\n") != pairs + closes or piece.count(b"\r") != pairs + opens:
            raise UncleanContent("the content has a bare CR or LF")
        self._open_cr = opens

    def finish(self) -> None:
        if self._open_cr:
            raise UncleanContent("the content ends with a bare CR")


def _slices(content: Sequence[Buffer]) -> Iterator[bytes]:
    for buffer in content:
        view = memoryview(buffer).cast("B")
        for start in range(0, len(view), CONTENT_SLICE):
            yield bytes(view[start : start + CONTENT_SLICE])
