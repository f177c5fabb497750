# SPDX-License-Identifier: Apache-2.0
"""DKIM canonicalisation (RFC 6376 §3.4) and the body hash, on whole buffers and as a stream.

`BodyHash` gives the same digest however its input is cut into chunks, in memory for one chunk.
"""

from __future__ import annotations

import hashlib
import re

_ODD_END = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")  # bare CR or LF: content, although it looks like a line's end
RELAXED = b"relaxed"
SIMPLE = b"simple"
# hashlib gives up the interpreter for 2,048 octets and more. In a server under load its thread then waits until others
# let go of it again, for much longer than a usual letter takes to hash.
_STEP = 2047
_MAX_STEPS = 32
_MAX_HELD = 1 << 16  # empty lines hashed at once, so that a body of nothing else costs no memory


def relaxed_field(name: bytes, value: bytes) -> bytes:
    """One field in relaxed form, without a CRLF at its end (RFC 6376 §3.4.2)."""
    value = value.replace(b"\r\n", b"").replace(b"\t", b" ")
    while b"  " in value:  # of a run half goes each time
        value = value.replace(b"  ", b" ")
    return name.lower() + b":" + value.strip(b" ")


def relaxed_body(body: bytes) -> bytes:
    """RFC 6376 §3.4.4."""
    text = _one_blank(body)
    if not text.endswith(b"\r"):  # a bare CR at the very end is content
        text = text[: _content_end(text)]
    return text + b"\r\n" if text else b""


def simple_body(body: bytes) -> bytes:
    """RFC 6376 §3.4.3."""
    end = len(body)
    while body.endswith(b"\r\n\r\n", 0, end):
        end -= 2
    body = body[:end]
    if body == b"\r\n":
        return body
    return body if body.endswith(b"\r\n") else body + b"\r\n"


def _one_blank(text: bytes) -> bytes:
    """Blanks inside lines made one, those at line ends gone. Passes over the buffer at C speed, few of them."""
    if b"\t" in text:
        text = text.replace(b"\t", b" ")
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    if b" \r\n" in text:
        text = text.replace(b" \r\n", b"\r\n")
    return text


def _content_end(text: bytes, ends: bytes = b" \r\n") -> int:
    """Where what may turn out to be empty lines (and blanks, in relaxed form) at the body's end begins."""
    end = len(text.rstrip(ends))
    for odd in _ODD_END.finditer(text, end):
        end = odd.end()
    return end


class BodyHash:
    """SHA-256 over the body in one of the canonical forms, fed in chunks of any size.

    It may be asked for its digest at any time and fed on: one hash serves every key of a domain. `limit`: only so many
    octets of the canonical form count (l=, RFC 6376 §3.5).
    """

    def __init__(self, form: bytes = RELAXED, limit: int | None = None) -> None:
        self._hash = hashlib.sha256()
        self._is_simple = form == SIMPLE
        self._left = limit
        self.is_cut = False  # content has come beyond `limit`
        self._is_empty = True
        self._empty_lines = 0  # CRLFs not hashed yet: they count only if something follows
        self._rest = b""  # what follows them: at most a blank and a CR

    def update(self, chunk: bytes) -> None:
        if not chunk or self.is_cut:
            return
        text = self._rest + chunk
        if self._is_simple:
            end = _content_end(text, b"\r\n")
        else:
            text = _one_blank(text)
            end = _content_end(text)
        if end:
            self._hash_empty_lines()
            self._take(memoryview(text)[:end])
            self._is_empty = False
        last = text.rfind(b"\r\n", end)
        self._empty_lines += text.count(b"\r\n", end)
        self._rest = text[end if last < 0 else last + 2 :]

    def _take(self, octets: bytes | memoryview) -> None:
        if self._left is not None:
            self.is_cut = self.is_cut or len(octets) > self._left
            octets = octets[: self._left]
            self._left -= len(octets)
        if len(octets) > _STEP * _MAX_STEPS:
            self._hash.update(octets)
            return
        for start in range(0, len(octets), _STEP):
            self._hash.update(octets[start : start + _STEP])

    def _hash_empty_lines(self) -> None:
        while self._empty_lines:
            some = min(self._empty_lines, _MAX_HELD)
            self._take(b"\r\n" * some)
            self._empty_lines -= some

    def digest(self) -> bytes:
        """32 octets."""
        return self._end()[0]

    @property
    def is_shorter(self) -> bool:
        """Whether the body so far has fewer octets than `limit` names."""
        return self._end()[1] > 0

    def _end(self) -> tuple[bytes, int]:
        """The digest as if the body ended here, and how many octets are missing to `limit`."""
        end = b""
        if self._rest.endswith(b"\r"):  # a bare CR is content, though nothing follows it
            end = b"\r\n" * self._empty_lines + self._rest + b"\r\n"
        elif self._is_simple or not self._is_empty:
            end = b"\r\n"  # the last line's own end; of an empty body in simple form all there is (§3.4.3)
        last, missing = self._hash.copy(), 0
        if self._left is not None:
            missing = max(0, self._left - len(end))
            end = end[: self._left]
        last.update(end)
        return last.digest(), missing
