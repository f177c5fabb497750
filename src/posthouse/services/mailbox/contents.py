# SPDX-License-Identifier: Apache-2.0
"""A stored letter as whoever reads it sees it: the fields that delivery put before it, then its content.

Invariant: nothing is copied but what is cut out of the header; all sections together are exactly the letter's octets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from posthouse.mail import decoding, sections
from posthouse.mail.preview import preview
from posthouse.mail.sections import Kind
from posthouse.mail.structure import Part, Span, parse

Buffer = bytes | memoryview

_EMPTY_HEADER = b"\r\n"


class Extract(NamedTuple):
    """Octets of a letter: `before`, then `rest`."""

    before: bytes
    rest: Buffer

    @property
    def size(self) -> int:
        return len(self.before) + len(self.rest)

    def cut(self, offset: int, count: int) -> Extract:
        """At most so many octets from there; none behind the end."""
        known = len(self.before)
        end = offset + count
        return Extract(self.before[offset:end], self.rest[max(offset - known, 0) : max(end - known, 0)])


class Letter:
    """`content` may be its header alone, where nobody asks for more. `structure`: of the content; needed for sections
    with a part number."""

    __slots__ = ("content", "email", "header_size", "prefix", "structure")

    def __init__(
        self, email: int, prefix: bytes, content: memoryview, header_size: int, structure: Part | None = None
    ) -> None:
        self.email = email
        self.prefix = prefix
        self.content = content
        self.header_size = header_size
        self.structure = structure

    @property
    def header(self) -> bytes:
        return self.prefix + bytes(self.content[: self.header_size])

    def parse(self) -> Part:
        """Never fails. See `lacks_header`."""
        return parse(_EMPTY_HEADER + self.content if self.lacks_header else self.content)

    def preview(self) -> str:
        """The structure must be known. Never fails."""
        return preview(self._root, _EMPTY_HEADER + self.content if self.lacks_header else self.content)

    @property
    def lacks_header(self) -> bool:
        """A body alone came; the whole header, with its empty line, is what was put before it. The structure is of the
        content behind an empty line of its own, and is not to be kept: it says nothing but where it ends."""
        return self.header_size == 0

    # --- sections ---------------------------------------------------------------------------------

    def section(self, path: Sequence[int], kind: Kind) -> Extract | None:
        """None: the letter has no such section."""
        if not path:
            match kind:
                case Kind.WHOLE:
                    return Extract(self.prefix, self.content)
                case Kind.HEADER:
                    return Extract(self.header, b"")
                case Kind.TEXT:
                    return Extract(b"", self.content[self.header_size :])
                case Kind.MIME:
                    return None
        root = self._root
        found = sections.span(root, path, kind)
        if found is None:
            return None
        if kind is Kind.MIME and sections.find(root, path) is root:
            return Extract(self.header, b"")  # the only part of a letter: its header is the letter's
        return Extract(b"", self._cut(found))

    def fields(self, path: Sequence[int], names: Iterable[bytes], *, others: bool) -> bytes | None:
        """Fields of the header by their names, or all others; None: no such header."""
        header = self.section(path, Kind.HEADER)
        if header is None:
            return None
        return sections.header_fields(header.before or bytes(header.rest), names, others=others)

    def decoded(self, path: Sequence[int]) -> Extract | None:
        """A part without its transfer encoding; None: no such part. Raises UnknownEncodingError.

        Of the letter itself, a multipart or a letter inside it, there is nothing to be undone.
        """
        if not path:
            return Extract(self.prefix, self.content)
        part = sections.find(self._root, path)
        if part is None:
            return None
        if part.children:
            return Extract(b"", self._cut(part.body))
        if part.encoding in decoding.PLAIN:
            return Extract(b"", self._cut(part.body))
        content: Buffer = _EMPTY_HEADER + self.content if self.lacks_header else self.content
        return Extract(b"", decoding.decoded(part, content))

    def encoded_size(self, path: Sequence[int]) -> int:
        """Octets that `decoded` has to look at, and to make."""
        part = sections.find(self._root, path) if path else None
        return 0 if part is None or part.children or part.encoding in decoding.PLAIN else part.octets

    @property
    def _root(self) -> Part:
        assert self.structure is not None, "whoever asks for parts reads the structure first"
        return self.structure

    def _cut(self, span: Span) -> memoryview:
        if self.lacks_header:
            shift = len(_EMPTY_HEADER)
            return self.content[max(span.start - shift, 0) : max(span.end - shift, 0)]
        return self.content[span.start : span.end]
