# SPDX-License-Identifier: Apache-2.0
"""A letter's content while it arrives: small letters stay in memory, large ones go to the spool chunk by chunk.

Invariant: whatever the letter's size, one session holds no more than SPOOL_ABOVE octets plus one chunk.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from posthouse.mail.header import HeaderScan, scan_header
from posthouse.outcome import BAD_CONTENT, Refusal
from posthouse.ports import BlobStore, Content, Spool

# Letters up to this many octets join the shared pack; larger ones get a pack of their own (DESIGN §5). It is also
# the bound of a header: whoever sends more than 256 KiB of header fields does not send mail.
SPOOL_ABOVE = 256 * 1024
# Pieces of a small letter that are kept apart. Each costs some 50 octets beside its own: sent in BDAT chunks of two
# octets a letter of 256 KiB would take 6 MB. A letter that comes at the speed of today's lines has a handful.
MAX_PIECES = 256


_FIELD_NAME = re.compile(rb"[!-9;-~]+[ \t]*:")  # RFC 5322 §3.6.8, with the blanks of its obsolete form


class BodyListener(Protocol):
    """Wants the body octets as they pass (the body hash of a signature)."""

    def update(self, chunk: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class FinishedLetter:
    """Content ready for the store, with what was learnt on the way."""

    content: Content
    scan: HeaderScan
    has_dot_lines: bool
    is_ascii: bool

    @property
    def size(self) -> int:
        return self.content.size

    @property
    def lacks_header(self) -> bool:
        """The first line is neither a field nor the empty line: what came is a body alone, and fields that are put
        before it need an empty line behind them. (`From ` is how some programs begin a copied mailbox file.)"""
        block = self.scan.block
        return bool(block) and not block.startswith(b"From ") and _FIELD_NAME.match(block) is None


class IncomingLetter:
    """Collects chunks. `edit_header` may rewrite the header block (submission); `body_listener` sees the body.
    `foresee` is shown what looks like the header as soon as it is there, while the rest may still be on its way.

    `takes_any_header`: a large letter without an empty line in its first SPOOL_ABOVE octets is no reason to refuse it
    (a file of a program that ends lines with LF alone, put into a mailbox by its owner).
    """

    def __init__(
        self,
        blobs: BlobStore,
        *,
        edit_header: Callable[[bytes], bytes] | None = None,
        body_listener: BodyListener | None = None,
        foresee: Callable[[bytes], None] | None = None,
        takes_any_header: bool = False,
    ) -> None:
        self._blobs = blobs
        self._edit_header = edit_header
        self._body_listener = body_listener
        self._foresee = foresee
        self._seen = b""  # the last three octets in which the empty line may begin
        self._takes_any_header = takes_any_header
        self._header_is_open = False  # the empty line is still to come, if there is one
        self._chunks: list[bytes] = []
        self._held = 0
        self._scan: HeaderScan | None = None
        self._spool: Spool | None = None
        self._digest: hashlib._Hash | None = None  # of a spooled letter
        self._size = 0
        self._tail = b"\r\n"  # the last three octets seen: a dot line, or the body, may begin at a chunk's start
        self._has_dot_lines = False
        self._is_ascii = True

    async def add(self, chunk: bytes) -> None:
        """Take the next octets. Raises Refusal (header too large) and StoreFault (spool)."""
        if self._spool is None:
            self._chunks.append(chunk)
            self._held += len(chunk)
            if self._foresee is not None:
                self._look_ahead(chunk)
            if self._held > SPOOL_ABOVE:
                await self._start_spool()
            elif len(self._chunks) > MAX_PIECES:
                self._chunks = [b"".join(self._chunks)]
            return
        if self._header_is_open:
            self._look_for_body(chunk)
        if self._body_listener is not None:
            self._body_listener.update(chunk)
        await self._write(chunk)

    def _look_ahead(self, chunk: bytes) -> None:
        assert self._foresee is not None
        known = self._seen
        found = (known + chunk).find(b"\r\n\r\n")
        if found < 0:
            self._seen = (known + chunk[-3:])[-3:]
            return
        end = self._held - len(chunk) - len(known) + found + 4
        self._foresee(b"".join(self._chunks)[:end])
        self._foresee = None

    async def spool(self) -> None:
        """Put what is held into the spool, however little it is: other letters wait for the same unit of work."""
        if self._spool is None:
            await self._start_spool()

    async def finish(self) -> FinishedLetter:
        """The whole letter; for spooled ones durable on return."""
        if self._spool is not None:
            assert self._digest is not None
            location = await self._spool.seal()
            content = Content(self._size, self._digest.digest(), sealed=location)
        else:
            octets = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
            self._chunks = []
            octets = self._take_header(octets)
            self._look(octets)
            # The unit of work computes the digest: hashing gives up the interpreter, and under load the loop's thread
            # waits for it longer than the hash takes.
            content = Content(len(octets), b"", octets=octets)
        assert self._scan is not None
        return FinishedLetter(content, self._scan, self._has_dot_lines, self._is_ascii)

    async def discard(self) -> None:
        """Let go of what no unit of work has taken, also after `finish`: a letter that was refused at its end."""
        self._chunks = []
        if self._spool is not None:
            spool, self._spool = self._spool, None
            await spool.discard()

    async def _start_spool(self) -> None:
        octets = b"".join(self._chunks)
        self._chunks = []
        if not self._takes_any_header and scan_header(octets[:SPOOL_ABOVE]).header_size >= SPOOL_ABOVE:
            raise Refusal(BAD_CONTENT, f"The header is larger than {SPOOL_ABOVE} octets")
        octets = self._take_header(octets)
        assert self._scan is not None
        size = self._scan.header_size
        self._header_is_open = size == len(octets) and not octets.endswith(b"\r\n\r\n")
        self._spool = self._blobs.spool()
        self._digest = hashlib.sha256()
        await self._write(octets)

    def _take_header(self, octets: bytes) -> bytes:
        """Scan and edit the header; return the octets with the edited one. The listener gets the body."""
        scan = scan_header(octets)
        if self._edit_header is not None:
            size = scan.header_size
            edited = self._edit_header(octets[:size])
            if edited != octets[:size]:
                octets = edited + octets[size:]
                scan = scan_header(octets)
        if self._body_listener is not None:
            self._body_listener.update(octets[scan.header_size :])
        self._scan = scan
        return octets

    def _look_for_body(self, chunk: bytes) -> None:
        assert self._scan is not None
        found = (self._tail + chunk).find(b"\r\n\r\n")
        self._header_is_open = found < 0
        self._scan.header_size = self._size + (len(chunk) if found < 0 else found - len(self._tail) + 4)

    async def _write(self, chunk: bytes) -> None:
        assert self._spool is not None
        assert self._digest is not None
        self._look(chunk)
        self._digest.update(chunk)
        self._size += len(chunk)
        await self._spool.write(chunk)

    def _look(self, chunk: bytes) -> None:
        if not self._has_dot_lines:
            self._has_dot_lines = b"\r\n." in self._tail + chunk[:2] or b"\r\n." in chunk
        if self._is_ascii:
            self._is_ascii = chunk.isascii()
        self._tail = (self._tail + chunk[-3:])[-3:]
