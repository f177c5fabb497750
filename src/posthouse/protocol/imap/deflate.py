# SPDX-License-Identifier: Apache-2.0
"""COMPRESS=DEFLATE (RFC 4978): raw deflate streams in both directions, in bounded pieces.

Invariant: a small input never becomes a large memory: what is inflated is given out piece by piece.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

# RFC 4978 §4: -15 is the largest window without a zlib header.
_WINDOW = -15
# The fastest level gives most of the gain on what IMAP says, at a third of the time of the usual one.
_LEVEL = 1
# zlib's memory for a stream that sends: 128 KiB instead of 256 for a level that hardly uses it.
_MEMORY = 7
# Octets inflated at once: a bomb grows to this much and then waits for the engine to use it.
PIECE = 128 * 1024
_FLUSHED = b"\x00\x00\xff\xff"  # what Z_SYNC_FLUSH ends with
# Octets that may come behind a client's last word to end its stream: a flush, or the last block.
_MAX_TRAILER = 16


class Deflater:
    """What we say."""

    def __init__(self) -> None:
        self._stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW, _MEMORY)

    def pack(self, pieces: Iterable[bytes | memoryview], *, is_last: bool = False) -> list[bytes | memoryview]:
        """Everything, flushed, so that the client can read it; `is_last` ends the stream."""
        packed: list[bytes | memoryview] = [self._stream.compress(piece) for piece in pieces]
        packed.append(self._stream.flush(zlib.Z_FINISH if is_last else zlib.Z_SYNC_FLUSH))
        return [piece for piece in packed if piece]


class Inflater:
    """What the client says."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_WINDOW)
        self._waiting: list[bytes] = []
        self._is_over = False  # the client has ended its stream
        self._tail = b""  # of what was inflated
        self._trailer = 0

    def feed(self, data: bytes) -> None:
        self._waiting.append(data)

    @property
    def has_more(self) -> bool:
        return bool(self._waiting) and not self._is_over

    def read(self) -> bytes:
        """The next piece; b"" when there is none yet. Raises ValueError for what is not deflate."""
        if self._is_over and sum(map(len, self._waiting)) > PIECE:
            raise ValueError("octets behind the end of the stream")
        if not self.has_more:
            return b""
        data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
        try:
            piece = self._stream.decompress(data, PIECE)
        except zlib.error as error:
            raise ValueError(str(error)) from None
        self._is_over = self._stream.eof
        rest = self._stream.unused_data if self._is_over else self._stream.unconsumed_tail
        used = len(data) - len(rest)
        self._tail = (self._tail + data[max(used - 4, 0) : used])[-4:]
        # A full piece may have more behind it although all input is taken.
        self._waiting = [rest] if rest or (len(piece) == PIECE and not self._is_over) else []
        return piece

    def end(self, data: bytes = b"") -> bytes | None:
        """The layer is over behind what was read last (RFC 8437 §4.1): plain octets that follow it.

        None while the end of the client's stream (its last block, or a flush) has not come whole.
        """
        data = b"".join(self._waiting) + data
        self._waiting = []
        if self._is_over or self._tail == _FLUSHED:
            return data
        looked_at = min(len(data), _MAX_TRAILER - self._trailer)
        for index in range(looked_at):
            octet = data[index : index + 1]
            try:
                self._stream.decompress(octet)
            except zlib.error:
                return data[index:]
            self._tail = (self._tail + octet)[-4:]
            self._trailer += 1
            if self._stream.eof or self._tail == _FLUSHED:
                return self._stream.unused_data + data[index + 1 :]
        return None if self._trailer < _MAX_TRAILER else data[looked_at:]
