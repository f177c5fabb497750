# SPDX-License-Identifier: Apache-2.0
"""Find and count in the octets of a letter, whatever they lie in: a large mapped letter is not copied for it.

Invariant: both kinds give the same answers; a view is looked at through windows of bounded size.
"""

from __future__ import annotations

from posthouse.mail.header import Buffer

COPIED_WHOLE = 256 * 1024  # octets; a copy of a smaller letter costs less than its windows
MAX_WINDOW = 1024 * 1024  # octets copied at a time
_FIRST_WINDOW = 8 * 1024  # what is looked for is mostly near


class Octets:
    """A letter that lies in `bytes`."""

    __slots__ = ("_content", "size")

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)

    def find(self, wanted: bytes, start: int, end: int) -> int:
        return self._content.find(wanted, start, end)

    def count(self, octet: bytes, start: int, end: int) -> int:
        return self._content.count(octet, start, end)

    def cut(self, start: int, end: int) -> bytes:
        return self._content[start:end]


class ViewedOctets(Octets):
    """A letter that lies in a view, of a file mapped into memory for one."""

    __slots__ = ("_view",)

    def __init__(self, view: memoryview) -> None:
        super().__init__(b"")
        self._view = view
        self.size = len(view)

    def find(self, wanted: bytes, start: int, end: int) -> int:
        window = max(_FIRST_WINDOW, 2 * len(wanted))
        while start + len(wanted) <= end:
            piece = bytes(self._view[start : min(start + window, end)])
            at = piece.find(wanted)
            if at >= 0:
                return start + at
            if start + window >= end:
                break
            start += max(len(piece) - len(wanted) + 1, 1)
            window = max(min(window * 2, MAX_WINDOW), 2 * len(wanted))
        return -1

    def count(self, octet: bytes, start: int, end: int) -> int:
        return sum(
            bytes(self._view[at : min(at + MAX_WINDOW, end)]).count(octet) for at in range(start, end, MAX_WINDOW)
        )

    def cut(self, start: int, end: int) -> bytes:
        return bytes(self._view[start:end])


def octets_of(content: Buffer) -> Octets:
    """What finds and counts in it best."""
    if isinstance(content, bytes):
        return Octets(content)
    if len(content) <= COPIED_WHOLE:
        return Octets(bytes(content))
    return ViewedOctets(memoryview(content))
