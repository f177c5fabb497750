# SPDX-License-Identifier: Apache-2.0
"""Sections of a letter by number and name, `1.2`, `3.HEADER`, `HEADER.FIELDS (From)`: RFC 9051 §6.4.5.1.

Invariant: a section is a span of the letter as it lies there, octet by octet; only a choice of header fields is
octets of its own. Nothing here reads a body.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import Enum
from functools import lru_cache

from posthouse.mail.structure import Part, Span

# A whole field with its CRLF, and its name; the same fields as mail/header.py finds.
_FIELD = re.compile(rb"((?:([!-9;-~]+)[ \t]*:|(?=[\s\S]))[^\r]*(?:\r(?!\n(?![ \t]))[^\r]*)*(?:\r\n|\Z))")
_NAME = re.compile(rb"[!-9;-~]+")
_FEW = 32  # names that are looked for one by one; lists of more are those of programs that want nearly everything
_ASKED = 64  # sets of names: each program has its own, and asks for it all day
_IN_ONE_STEP = 256 * 1024  # octets of a header whose fields are made a list of; of longer ones each comes alone


class Kind(Enum):
    """What of a part is meant. WHOLE is what the number alone names: the letter, or a part's body."""

    WHOLE = ""
    HEADER = "HEADER"
    TEXT = "TEXT"
    MIME = "MIME"


def find(root: Part, path: Sequence[int]) -> Part | None:
    """The part that the numbers name; the whole letter for none of them. None where there is no such part."""
    part = root
    is_letter = True  # `part` is a letter's own entity: what is no multipart has itself as its only part
    for number in path:
        if is_letter and not part.is_multipart:
            if number != 1:
                return None
            is_letter = False
            continue
        if not is_letter and part.holds_letter:  # the numbers go on inside the letter
            part = part.children[0]
            if not part.is_multipart:
                if number != 1:
                    return None
                continue
        if not part.is_multipart or not 1 <= number <= len(part.children):
            return None
        part = part.children[number - 1]
        is_letter = False
    return part


def span(root: Part, path: Sequence[int], kind: Kind = Kind.WHOLE) -> Span | None:
    """Where a section lies in the letter; None where the letter has no such section.

    HEADER and TEXT are of the letter, or of one that a part holds; MIME is of a part.
    """
    if not path:
        match kind:
            case Kind.WHOLE:
                return Span(root.header.start, root.body.end)
            case Kind.HEADER:
                return root.header
            case Kind.TEXT:
                return root.body
            case Kind.MIME:
                return None
    part = find(root, path)
    if part is None:
        return None
    match kind:
        case Kind.WHOLE:
            return part.body
        case Kind.MIME:
            return part.header
        case Kind.HEADER:
            return part.children[0].header if part.holds_letter else None
        case Kind.TEXT:
            return part.children[0].body if part.holds_letter else None


def leaf(root: Part, path: Sequence[int]) -> Part | None:
    """The part for BINARY: RFC 9051 §6.4.5 gives it to parts that are neither multiparts nor letters."""
    part = find(root, path) if path else None
    return None if part is None or part.children else part


def header_fields(header: bytes, names: Iterable[bytes], *, others: bool = False) -> bytes:
    """The fields of these names (any case) as they stand, or all `others`, and the empty line if `header` has it.

    What is no field has no name: it is among the others.
    """
    asked = tuple(names)
    has_end = header.endswith(b"\r\n\r\n") or header == b"\r\n"
    block = header[:-2] if has_end else header
    end = b"\r\n" if has_end else b""
    if not others and len(asked) <= _FEW and b"" not in asked and block.endswith(b"\r\n"):
        return b"".join([field + b"\r\n" for field in _some(asked).findall(b"\r\n" + block)]) + end
    wanted = {name.lower() for name in asked}
    if len(block) <= _IN_ONE_STEP:
        found = [field for field, name in _FIELD.findall(block) if (name.lower() in wanted) is not others]
    else:
        found = [match[1] for match in _FIELD.finditer(block) if ((match[2] or b"").lower() in wanted) is not others]
    return b"".join(found) + end


@lru_cache(maxsize=_ASKED)
def _some(names: tuple[bytes, ...]) -> re.Pattern[bytes]:
    """Fields of these names without their last CRLF, each behind a CRLF. It looks at the line ends alone, which takes a
    quarter of the time that taking all fields apart does."""
    words = b"|".join(re.escape(name) for name in names if _NAME.fullmatch(name)) or b"(?!)"
    return re.compile(rb"\n(?<=\r\n)((?:" + words + rb")[ \t]*:[^\r]*(?:\r(?!\n(?![ \t]))[^\r]*)*)", re.IGNORECASE)
