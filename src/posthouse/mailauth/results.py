# SPDX-License-Identifier: Apache-2.0
"""Authentication-Results fields (RFC 8601): written, read, and taken away where others wrote them in our name.

Invariant: after `remove_claimed` no field is left that a reader could take for one of ours.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from posthouse.mail.address import AddressError, Domain
from posthouse.mail.header import split_fields

NAME = b"authentication-results"
VERSION = "1"  # RFC 8601 §2.2
MAX_VALUE = 64 * 1024  # octets of a field read; real ones have 100 to 2,000
MAX_STATEMENTS = 100  # of one field
MAX_PROPERTIES = 50  # of one statement; DKIM has five
MAX_TEXT = 255  # characters of a value written: a domain name, or a reason of a line or two
_LINE = 78  # RFC 5322 §2.1.1: characters that a line should not exceed

# RFC 2045 §5.1: token, without the tspecials.
_TOKEN = re.compile(r"[!#-'*+.0-9A-Z^-~-]+")
_MAILBOX = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]*@[A-Za-z0-9_.-]+")  # as much of it as needs no quotes
_UNSHOWN = re.compile(r"[^ -~]")

# Reading. Comments are gone by then; a value without quotes may be what others write there without them.
# Quotes that are not closed go to the end: else each of many would be looked at to the end.
_QUOTES_OR_COMMENT = re.compile(r'"(?:[^"\\]|\\.?)*(?:"|\Z)|\(', re.DOTALL)
_IN_COMMENT = re.compile(r"[()]|\\.", re.DOTALL)
_PART = re.compile(r'((?:"(?:[^"\\]|\\.?)*(?:"|\Z)|[^";]+)*)(?:;|\Z)', re.DOTALL)
_ID = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|([!#-'*+.0-9A-Z^-~\u0080-\U0010ffff-]+))(?:\s+([0-9]+))?\s*""")
_METHOD = re.compile(r"([A-Za-z0-9_-]+)\s*(?:/\s*([0-9]+)\s*)?=\s*([A-Za-z0-9_-]+)")
_VALUE = r"""("(?:[^"\\]|\\.)*"(?:@[^\s"]*)?|[^\s"]+)"""
_PROPERTY = re.compile(rf"([A-Za-z0-9_-]+)\s*\.\s*([A-Za-z0-9_-]+)\s*=\s*{_VALUE}")
_REASON = re.compile(rf"[rR][eE][aA][sS][oO][nN]\s*=\s*{_VALUE}")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)


class Property(NamedTuple):
    """`kind.name=value`: what was looked at (RFC 8601 §2.3)."""

    kind: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Statement:
    """`method=result` with what belongs to it: one resinfo of RFC 8601 §2.2."""

    method: str
    result: str
    properties: tuple[Property, ...] = ()
    reason: str = ""

    def get(self, kind: str, name: str) -> str:
        """The first such property's value, "" without."""
        return next((one.value for one in self.properties if (one.kind, one.name) == (kind, name)), "")


@dataclass(frozen=True, slots=True)
class AuthResults:
    """What a field says, and who says it. `is_well_formed`: nothing of it was left out."""

    authserv_id: str
    version: str
    statements: tuple[Statement, ...]
    is_well_formed: bool


# --- writing --------------------------------------------------------------------------------------


def authentication_results(authserv_id: str, statements: Sequence[Statement]) -> bytes:
    """The whole field, folded, with its CRLF. Without statements it says none (RFC 8601 §2.2)."""
    return b"Authentication-Results: " + payload(authserv_id, statements) + b"\r\n"


def payload(authserv_id: str, statements: Sequence[Statement]) -> bytes:
    """authres-payload, without a CRLF at its end: ARC has it in a field of its own (RFC 8617 §4.1.1)."""
    if not statements:
        return f"{_written(authserv_id)}; none".encode("ascii")
    return ";\r\n\t".join([_written(authserv_id), *(_folded(one) for one in statements)]).encode("ascii")


def _folded(statement: Statement) -> str:
    words = [f"{statement.method}={statement.result}"]
    if statement.reason:
        words.append(f"reason={_quoted(statement.reason)}")
    words += [f"{kind}.{name}={_written(value)}" for kind, name, value in statement.properties]
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) + 10 > _LINE:  # a tab counts for eight
            lines.append(word)
        else:
            lines[-1] += f" {word}"
    return "\r\n\t ".join(lines)


def _written(value: str) -> str:
    return (
        value if (_TOKEN.fullmatch(value) or _MAILBOX.fullmatch(value)) and len(value) <= MAX_TEXT else _quoted(value)
    )


def _quoted(text: str) -> str:
    """Without control characters, which could end the line, and without what is not ASCII."""
    clean = _UNSHOWN.sub("?", text[:MAX_TEXT]).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{clean}"'


# --- reading --------------------------------------------------------------------------------------


def parse_results(value: bytes) -> AuthResults | None:
    """Read a field's value, folded or not. None where not even who says it can be read. Never raises."""
    text = value[:MAX_VALUE].decode("utf-8", "replace").replace("\r\n", "")
    parts = _parts(_without_comments(text))
    named = _ID.fullmatch(next(parts, ""))
    if named is None:
        return None
    authserv_id = named[2] or _QUOTED_PAIR.sub(r"\1", named[1] or "")
    version = named[3] or VERSION
    if version != VERSION:  # RFC 8601 §2.6: what follows may have any form
        return AuthResults(authserv_id, version, (), is_well_formed=False)
    is_good = len(value) <= MAX_VALUE
    statements: list[Statement] = []
    for part in parts:
        stripped = part.strip()
        if stripped.lower() in ("none", ""):
            continue
        statement, is_whole = _statement(stripped)
        is_good = is_good and is_whole
        if len(statements) >= MAX_STATEMENTS:
            is_good = False
            break
        if statement is not None:
            statements.append(statement)
    return AuthResults(authserv_id, version, tuple(statements), is_good)


def _without_comments(text: str) -> str:
    """A blank instead of each; one that is not closed goes to the end."""
    kept: list[str] = []
    start = position = 0
    while (found := _QUOTES_OR_COMMENT.search(text, position)) is not None:
        position = found.end()
        if found[0] == "(":
            kept.append(text[start : found.start()])
            start = position = _comment_end(text, position)
    return " ".join([*kept, text[start:]])


def _comment_end(text: str, position: int) -> int:
    """From just past its parenthesis. Quotes mean nothing within."""
    depth = 1
    while depth and (mark := _IN_COMMENT.search(text, position)) is not None:
        position = mark.end()
        depth += {"(": 1, ")": -1}.get(mark[0], 0)
    return len(text) if depth else position


def _parts(text: str) -> Iterator[str]:
    """At every semicolon that is not quoted."""
    position = 0
    while position <= len(text):
        found = _PART.match(text, position)
        assert found is not None  # it takes what stands there up to a semicolon or the end
        yield found[1]
        if found.end() == len(text) and not text.endswith(";"):
            return
        position = found.end() if found.end() > position else position + 1


def _statement(text: str) -> tuple[Statement | None, bool]:
    """One resinfo without outer blanks, and whether all of it was read."""
    found = _METHOD.match(text)
    # §2.6: of another version of a method nothing is known.
    if found is None or (found[2] or "1") != "1" or not _ends_at(text, found.end()):
        return None, False
    rest = text[found.end() :].lstrip()
    reason = ""
    properties: list[Property] = []
    for _ in range(MAX_PROPERTIES):
        if not rest:
            break
        said = _PROPERTY.match(rest) if reason else _REASON.match(rest) or _PROPERTY.match(rest)
        if said is None or not _ends_at(rest, said.end()):
            break
        if said.re is _REASON:
            reason = _unquoted(said[1])
        else:
            properties.append(Property(said[1].lower(), said[2].lower(), _unquoted(said[3])))
        rest = rest[said.end() :].lstrip()
    return Statement(found[1].lower(), found[3].lower(), tuple(properties), reason), not rest


def _ends_at(text: str, position: int) -> bool:
    return position == len(text) or text[position].isspace()


def _unquoted(value: str) -> str:
    """A quoted string may be the local part of a mailbox."""
    quoted = _QUOTED.match(value)
    return value if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted[1]) + value[quoted.end() :]


# --- taking away ----------------------------------------------------------------------------------


def remove_claimed(header: bytes, own: Collection[str]) -> bytes:
    """The header block without the fields that claim to be from one of our ids (RFC 8601 §5), those of another
    version, and those whose author cannot be read; every other octet as it was."""
    kept: list[bytes] = []
    position = 0
    names = {_comparable(one) for one in own}
    for start, end in _claimed(header, names):
        kept.append(header[position:start])
        position = end
    return header if not kept else b"".join([*kept, header[position:]])


def _claimed(header: bytes, own: set[str]) -> Iterable[tuple[int, int]]:
    if NAME not in header.lower():
        return
    for field in split_fields(header):
        if field.name.lower() == NAME:
            results = parse_results(header[field.value_start : field.end])
            if results is None or results.version != VERSION or _comparable(results.authserv_id) in own:
                yield field.start, field.end


def _comparable(authserv_id: str) -> str:
    """U-labels and A-labels are one (RFC 8601 §5)."""
    try:
        return Domain.parse(authserv_id.strip()).name
    except AddressError:
        return authserv_id.strip().casefold()
