# SPDX-License-Identifier: Apache-2.0
"""Address lists of header fields (RFC 5322 §3.4): From, Sender, To and their like, read tolerantly.

Reading never fails and nothing that names an address is skipped silently: a member whose address cannot be
read is there with `address` None and makes the list not clean. Obsolete forms (routes, blanks around dots and
@, empty members), comments, groups and encoded words are understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from posthouse.mail.address import Address, AddressError, parse_address
from posthouse.mail.encoded_word import decode_header_text, decode_unlabelled

MAX_LIST = 256 * 1024  # characters read; as much as a header block can hold
MAX_MEMBERS = 10_000  # addresses kept; ten times what one mail transaction may name
MAX_COMMENT_DEPTH = 50  # nested parentheses; deeper ones are text

# Every branch ends at the next character it could begin with again, or takes all the rest: linear in any text.
# (Not with possessive quantifiers: see mail/header.py.)
_PIECE = re.compile(
    r"""(?P<blank>\s+)
      | (?P<quoted>"(?:[^"\\]|\\.)*")
      | (?P<unclosed>".*)
      | (?P<angle><(?:"(?:[^"\\]|\\.)*"|[^"<>])*>)
      | (?P<literal>\[[^\[\]]*\])
      | (?P<special>[,;:<>@.(])
      | (?P<word>[^\s",;:<>@.(\[]+|\[)
    """,
    re.VERBOSE | re.DOTALL,
)
_FOLD = re.compile(r"\r\n(?=[ \t])")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_ROUTE = re.compile(r"@[^:<>]*:")  # obs-route, RFC 5322 §4.4
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class NamedAddress:
    """`name <text>`: the display name decoded ("" for none), the address as written and as a value.

    `address` is None where the text is no address that could be mailed to.
    """

    name: str
    text: str
    address: Address | None


@dataclass(frozen=True, slots=True)
class Group:
    """`name: member, member;` (RFC 5322 §3.4)."""

    name: str
    members: tuple[NamedAddress, ...]


@dataclass(frozen=True, slots=True)
class AddressList:
    """A list as it stands in the field. `is_clean`: every member has one address for certain, nothing was cut
    off, no control characters or unclosed comments are about.
    """

    members: tuple[NamedAddress | Group, ...]
    is_clean: bool

    def flat(self) -> Iterator[NamedAddress]:
        """The members and those of the groups, in order."""
        for member in self.members:
            if isinstance(member, Group):
                yield from member.members
            else:
                yield member


def parse_address_list(value: bytes | str) -> AddressList:
    """Read a field's value (folded or not). Never fails."""
    text = decode_unlabelled(value[:MAX_LIST]) if isinstance(value, bytes) else value[:MAX_LIST]
    text = _FOLD.sub("", text).strip()
    return _ListReader(text, is_clean=len(value) <= MAX_LIST and not _CONTROL.search(text)).read()


def addresses(value: bytes | str) -> list[Address]:
    """The addresses of a list that can be read, in order, groups opened.

    Who decides about ownership must ask `parse_address_list(value).is_clean`, too.
    """
    return [member.address for member in parse_address_list(value).flat() if member.address is not None]


class _Piece(NamedTuple):
    text: str
    is_quoted: bool
    after_blank: bool


class _ListReader:
    def __init__(self, text: str, *, is_clean: bool) -> None:
        self._text = text
        self._members: list[NamedAddress | Group] = []
        self._is_clean = is_clean
        self._left = MAX_MEMBERS
        self._group: str | None = None
        self._group_members: list[NamedAddress] = []
        self._start_member()

    def _start_member(self) -> None:
        self._pieces: list[_Piece] = []
        self._has_at = False
        self._after_blank = False
        self._comment = ""
        self._angle: str | None = None

    def read(self) -> AddressList:
        position = 0
        text = self._text
        while position < len(text) and self._left > 0:
            match = _PIECE.match(text, position)
            assert match is not None  # the branches cover every character
            position = match.end()
            kind, piece = match.lastgroup, match.group()
            if kind == "special" and piece == "(":
                position = self._skip_comment(position)
                self._after_blank = True
            elif kind == "special" and piece in ",;:":
                self._on_separator(piece)
            elif kind == "angle" or piece == "<":
                position = self._on_angle(piece, position)
            elif kind == "unclosed":
                self._is_clean = False
                self._on_word(piece[1:], is_quoted=False)
            elif kind == "blank":
                self._after_blank = True
            elif piece != ">":
                self._on_word(piece, is_quoted=kind == "quoted")
        self._finish_member()
        self._finish_group()
        if position < len(text) and self._left <= 0:
            self._is_clean = False
        return AddressList(tuple(self._members), self._is_clean)

    def _skip_comment(self, position: int) -> int:
        """From just past a `(` to just past its `)`; an unclosed one ends with the list."""
        start, depth = position, 1
        text = self._text
        while position < len(text):
            char = text[position]
            position += 1
            if char == "\\":
                position += 1
            elif char == "(":
                depth += 1
                if depth > MAX_COMMENT_DEPTH:
                    self._is_clean = False
                    return len(text)
            elif char == ")":
                depth -= 1
                if depth == 0:
                    self._comment = _QUOTED_PAIR.sub(r"\1", text[start : position - 1])
                    return position
        self._is_clean = False
        return position

    def _on_separator(self, mark: str) -> None:
        if mark == ":":
            if self._angle is None and self._pieces and self._group is None and not self._has_at:
                self._group = self._phrase(self._pieces)
                self._start_member()
            else:
                self._on_word(mark, is_quoted=False)
            return
        self._finish_member()
        if mark == ";":
            self._finish_group()

    def _on_angle(self, piece: str, position: int) -> int:
        if self._angle is not None:  # a second one without a comma: an address of its own
            self._finish_member()
        if piece == "<":  # unclosed: up to the next comma
            end = self._text.find(",", position)
            end = len(self._text) if end < 0 else end
            self._angle = self._text[position:end]
            return end
        self._angle = piece[1:-1]
        return position

    def _on_word(self, text: str, *, is_quoted: bool) -> None:
        self._pieces.append(_Piece(text, is_quoted, self._after_blank))
        self._has_at = self._has_at or text == "@"
        self._after_blank = False

    @staticmethod
    def _phrase(pieces: list[_Piece]) -> str:
        """The words as people see them, quotes taken off, encoded words decoded."""
        words: list[str] = []
        for piece in pieces:
            if piece.after_blank and words:
                words.append(" ")
            words.append(_QUOTED_PAIR.sub(r"\1", piece.text[1:-1]) if piece.is_quoted else piece.text)
        return decode_header_text("".join(words))

    def _split_bare(self) -> tuple[list[_Piece], str]:
        """A member without angle brackets: the pieces of its name (wrong, but seen) and its address."""
        pieces = self._pieces
        at = next((i for i in range(len(pieces) - 1, -1, -1) if pieces[i].text == "@" and not pieces[i].is_quoted), -1)
        if at < 0:
            return pieces, ""
        # The address runs to both sides while no blank separates, or one that stands beside `.` or `@`.
        first = last = at
        while first > 0 and (
            not pieces[first].after_blank or pieces[first].text in "@." or pieces[first - 1].text == "."
        ):
            first -= 1
        while last + 1 < len(pieces) and (
            not pieces[last + 1].after_blank or pieces[last].text in "@." or pieces[last + 1].text == "."
        ):
            last += 1
        address = "".join(piece.text for piece in pieces[first : last + 1])
        return pieces[:first] + pieces[last + 1 :], address

    def _finish_member(self) -> None:
        if self._angle is not None:
            shown = self._phrase(self._pieces)
            # Neither `ceo@x <me@x>` nor `<me@x> ceo@x` is grammar, and readers disagree about which one is meant.
            if self._has_at and shown.casefold() != self._angle.strip().casefold():
                self._is_clean = False
            self._add(shown or decode_header_text(self._comment), _addr_spec(self._angle))
        elif self._pieces:
            name, text = self._split_bare()
            self._is_clean = self._is_clean and not name  # which of the words is the address is a guess
            self._add(self._phrase(name) or decode_header_text(self._comment), text)
        self._start_member()

    def _add(self, name: str, text: str) -> None:
        if not text and not name:  # `<>`, or nothing but blanks
            return
        try:
            address = parse_address(text)
        except AddressError:
            address = None
            self._is_clean = False
        member = NamedAddress(name, text, address)
        self._left -= 1
        if self._group is None:
            self._members.append(member)
        else:
            self._group_members.append(member)

    def _finish_group(self) -> None:
        if self._group is not None:
            self._members.append(Group(self._group, tuple(self._group_members)))
            self._group, self._group_members = None, []


def _addr_spec(text: str) -> str:
    """Without route, comments and the blanks that obsolete syntax allows; quoted strings stay as they are."""
    text = text.strip()
    if text.startswith("@"):
        route = _ROUTE.match(text)
        text = text if route is None else text[route.end() :]
    if text.isascii() and not any(char in text for char in ' \t\r\n("'):
        return text
    kept: list[str] = []
    depth = 0
    for match in _PIECE.finditer(text):
        kind, piece = match.lastgroup, match.group()
        if piece == "(":
            depth += 1
        elif depth and kind == "word" and ")" in piece:
            depth -= 1
            kept.append(piece.rpartition(")")[2] if not depth else "")
        elif not depth and kind != "blank":
            kept.append(piece.replace("\r\n", "") if kind == "quoted" else piece)
    return "".join(kept)
