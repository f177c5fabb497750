# SPDX-License-Identifier: Apache-2.0
"""Octets of a letter on their way to a POP3 client (RFC 1939 §3).

Invariant: nothing in a letter can end its own transmission: every line that begins with a dot gets another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

from posthouse.ports import Buffer

# Letters are searched for dots in pieces of this size; only a piece that has some is copied for good.
PIECE = 256 * 1024
# Lines of a listing that are formatted in one go: enough that the interpreter's loop does not count, few enough
# that a maildrop of any size takes some 200 KiB while it is listed.
ROWS = 4096


def numbered(row: bytes, pairs: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    """A line per pair, `row % pair`, and the end mark (RFC 1939 §3). A row does not begin with a dot."""
    left = iter(pairs)
    line = row + b"\r\n"
    while some := tuple(chain.from_iterable(islice(left, ROWS))):
        yield line * (len(some) // 2) % some
    yield b".\r\n"


def stuffed(chunks: Sequence[Buffer], *, has_dot_lines: bool) -> Iterator[bytes | memoryview]:
    """The chunks as one body with dots doubled and the end mark (RFC 1939 §3).

    With `has_dot_lines` False the chunks go out as they are, uncopied: no line of them begins with a dot.
    """
    tail = b"\r\n"  # the last two octets sent: the body begins at the start of a line
    for chunk in chunks:
        if not len(chunk):
            continue
        if not has_dot_lines:
            yield _unchanged(chunk)
            tail = (tail + bytes(chunk[-2:]))[-2:]
            continue
        view = memoryview(chunk)
        for start in range(0, len(view), PIECE):
            piece = view[start : start + PIECE]
            octets = bytes(piece)
            # A dot at the start of a piece counts when the line ended before it; "\r" and "\n" may be parted too.
            joined = tail + octets
            if b"\r\n." in joined:
                yield joined.replace(b"\r\n.", b"\r\n..")[2:]
            else:
                yield piece
            tail = joined[-2:]
    yield b".\r\n" if tail == b"\r\n" else b"\r\n.\r\n"


def _unchanged(chunk: Buffer) -> bytes | memoryview:
    return bytes(chunk) if isinstance(chunk, bytearray) else chunk
