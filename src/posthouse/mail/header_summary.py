# SPDX-License-Identifier: Apache-2.0
"""The header of a letter as IMAP's ENVELOPE tells it (RFC 9051 §7.5.2): octets as written, addresses in four fields.

Reading never fails. Nothing is decoded: encoded words stay for the client. Every value can stand on one line: no
NUL, CR or LF is left in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from posthouse.mail.address_list import MAX_COMMENT_DEPTH, MAX_LIST, MAX_MEMBERS

_CACHED = 400  # octets; longer lists seldom come twice, and the cache shall stay small
_CACHE = 2_000  # lists: the correspondents of a mailbox
MAX_PIECES = 60_000  # words and marks of one list: 5,000 recipients with quoted names have 45,000

_ATOMS = rb"[^\x00-\x20\"(),:;<>@\[\\\]\x7f]+"
# One member with its comma, in the common forms: `a@b`, `<a@b>`, `Name <a@b>`, `"Name" <a@b>`, or nothing. The last
# branch takes all the rest: a list with anything else in it is read piece by piece.
_MEMBER = re.compile(
    rb"(?:(?:[ \t]*\"([^\"\\]*)\"[ \t]*|([^\"(),:;<>@\[\\\]]*))<(" + _ATOMS + rb")@(" + _ATOMS + rb")>"
    rb"|[ \t]*(" + _ATOMS + rb")@(" + _ATOMS + rb")|)[ \t]*(?:,|\Z)|([\s\S]+)"
)
# Every branch ends at the next octet it could begin with again, or takes all the rest: linear in any text.
_PIECE = re.compile(
    rb"""(?P<blank>[ \t]+)
      | (?P<quoted>"(?:[^"\\]|\\.)*")
      | (?P<unclosed>".*)
      | (?P<literal>\[[^\[\]]*\])
      | (?P<special>[,;:<>@()])
      | (?P<word>[^ \t",;:<>@()\[]+|\[)
    """,
    re.VERBOSE | re.DOTALL,
)
_IN_COMMENT = re.compile(rb"\\.|[()]", re.DOTALL)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_ONE_LINE = bytes.maketrans(b"\0\r\n", b"   ")


class SummaryAddress(NamedTuple):
    """One address structure. A group is one without `host` and with its name as `mailbox`, its members, and one
    with neither; `host` is b"" where an address has none, since None would make it a group.
    """

    name: bytes | None
    route: bytes | None
    mailbox: bytes | None
    host: bytes | None


Addresses = tuple[SummaryAddress, ...]
END_OF_GROUP = SummaryAddress(None, None, None, None)


class HeaderSummary(NamedTuple):
    """ENVELOPE. A field that is absent is None; so is a list without an address in it."""

    date: bytes | None
    subject: bytes | None
    from_: Addresses | None
    sender: Addresses | None
    reply_to: Addresses | None
    to: Addresses | None
    cc: Addresses | None
    bcc: Addresses | None
    in_reply_to: bytes | None
    message_id: bytes | None


def summarise(values: Sequence[bytes | None]) -> HeaderSummary:
    """From the unfolded values of ENVELOPE_FIELDS in their order: a Summary of a structure, an unpacked envelope.

    Sender and Reply-To without an address are From's.
    """
    date, subject, from_, sender, reply_to, to, cc, bcc, in_reply_to, message_id = values
    author = address_structures(from_)
    return HeaderSummary(
        None if date is None else date.translate(_ONE_LINE),
        None if subject is None else subject.translate(_ONE_LINE),
        author,
        author if sender is None else address_structures(sender) or author,
        author if reply_to is None else address_structures(reply_to) or author,
        None if to is None else address_structures(to),
        None if cc is None else address_structures(cc),
        None if bcc is None else address_structures(bcc),
        None if in_reply_to is None else in_reply_to.translate(_ONE_LINE),
        None if message_id is None else message_id.translate(_ONE_LINE),
    )


def one_line(value: bytes) -> bytes:
    return value.translate(_ONE_LINE)


def address_structures(value: bytes | None) -> Addresses | None:
    """The addresses of a list, None where it has none."""
    if not value:
        return None
    return _read_again(value) if len(value) <= _CACHED else _read(value[:MAX_LIST])


def _read(value: bytes) -> Addresses | None:
    value = value.translate(_ONE_LINE)
    found: list[SummaryAddress] = []
    for match in _MEMBER.finditer(value):
        quoted, phrase, mailbox, host, bare_mailbox, bare_host, rest = match.groups()
        if mailbox is not None:
            name = b" ".join(phrase.split()) if quoted is None else quoted.strip()
            found.append(SummaryAddress(name or None, None, mailbox, host))
        elif bare_mailbox is not None:
            found.append(SummaryAddress(None, None, bare_mailbox, bare_host))
        elif rest is not None:
            return _ListReader(value).read()
        if len(found) >= MAX_MEMBERS:
            break
    return tuple(found) or None


_read_again = lru_cache(maxsize=_CACHE)(_read)


class _ListReader:
    """Any list: groups, comments, routes, obsolete blanks, and what is none of them."""

    def __init__(self, value: bytes) -> None:
        self._value = value
        self._found: list[SummaryAddress] = []
        self._left = MAX_MEMBERS
        self._pieces_left = MAX_PIECES
        self._in_group = False
        self._start_member()

    def _start_member(self) -> None:
        self._words: list[bytes] = []  # what stands before an angle bracket, or without one
        self._angle: list[bytes] | None = None  # what stands within
        self._is_open = False  # between < and >
        self._comment = b""
        self._after_blank = False

    def read(self) -> Addresses | None:
        position, value = 0, self._value
        while position < len(value) and self._left > 0 and self._pieces_left > 0:
            self._pieces_left -= 1
            match = _PIECE.match(value, position)
            assert match is not None  # the branches cover every octet
            position = match.end()
            kind, piece = match.lastgroup, match.group()
            if piece == b"(":
                position = self._skip_comment(position)
                self._after_blank = True
            elif kind == "blank":
                self._after_blank = True
            elif kind == "special" and piece in b",;:<>":
                self._on_mark(piece)
            else:
                self._on_word(piece)
        self._finish_member()
        self._finish_group()
        return tuple(self._found) or None

    def _skip_comment(self, position: int) -> int:
        """From just past a `(` to just past its `)`; an unclosed one ends with the list."""
        depth, value = 1, self._value
        for match in _IN_COMMENT.finditer(value, position):
            if match.group() == b"(":
                depth += 1
                if depth > MAX_COMMENT_DEPTH:
                    break
            elif match.group() == b")":
                depth -= 1
                if depth == 0:
                    self._comment = _QUOTED_PAIR.sub(rb"\1", value[position : match.start()]).strip()
                    return match.end()
        return len(value)

    def _on_word(self, piece: bytes) -> None:
        if self._is_open and self._angle is not None:
            self._angle.append(piece)
        else:
            self._words.append(b" " + piece if self._after_blank and self._words else piece)
        self._after_blank = False

    def _on_mark(self, mark: bytes) -> None:
        if mark == b"<":
            if self._angle is not None:  # a second one without a comma: an address of its own
                self._finish_member()
            self._angle, self._is_open = [], True
        elif mark == b">":
            self._is_open = False
        elif self._is_open and self._angle is not None and (mark == b":" or self._angle[:1] == [b"@"]):
            self._angle.append(mark)  # a route: <@a,@b:c@d>
        elif mark == b":":
            if self._words and self._angle is None and not self._in_group and not _has_at(self._words):
                self._found.append(SummaryAddress(None, None, _phrase(self._words) or b"", None))
                self._in_group = True
                self._start_member()
            else:
                self._on_word(mark)
        else:
            self._finish_member()
            if mark == b";":
                self._finish_group()

    def _finish_member(self) -> None:
        if self._angle is not None:
            self._add(_phrase(self._words) or self._comment, b"".join(self._angle))
        elif self._words:
            name, text = _split_bare(self._words)
            self._add(_phrase(name) or self._comment, text)
        self._start_member()

    def _add(self, name: bytes, text: bytes) -> None:
        if not name and not text:
            return
        route: bytes | None = None
        if text.startswith(b"@") and b":" in text:  # RFC 5322 §4.4: obs-route
            route, _, text = text.partition(b":")
        mailbox, at, host = text.rpartition(b"@")
        if not at:
            mailbox, host = host, b""
        self._left -= 1
        self._found.append(SummaryAddress(name or None, route, mailbox, host))

    def _finish_group(self) -> None:
        if self._in_group:
            self._found.append(END_OF_GROUP)
            self._in_group = False


def _has_at(words: list[bytes]) -> bool:
    return b"@" in words or b" @" in words


def _phrase(words: list[bytes]) -> bytes:
    """The words with their quotes taken off, one blank where there were some."""
    shown: list[bytes] = []
    for word in words:
        blank = b" " if word.startswith(b" ") else b""
        text = word[len(blank) :]
        if text.startswith(b'"'):
            closed = text[1:-1] if len(text) > 1 and text.endswith(b'"') else text[1:]
            text = _QUOTED_PAIR.sub(rb"\1", closed)
        shown.append(blank + text)
    return b"".join(shown).strip()


def _split_bare(words: list[bytes]) -> tuple[list[bytes], bytes]:
    """A member without angle brackets: the words of its name (wrong, but seen), and its address.

    The address runs to both sides of the last @ while no blank separates, or one that stands beside `.` or `@`.
    """
    plain = [word.strip() for word in words]
    at = next((i for i in range(len(plain) - 1, -1, -1) if plain[i] == b"@"), -1)
    if at < 0:
        return [], _phrase(words)
    first = last = at
    joins = (b"@", b".")
    while first > 0 and (
        not words[first].startswith(b" ") or plain[first].startswith(joins) or plain[first - 1].endswith(b".")
    ):
        first -= 1
    while last + 1 < len(words) and (
        not words[last + 1].startswith(b" ") or plain[last + 1].startswith(joins) or plain[last].endswith(joins)
    ):
        last += 1
    return words[:first] + words[last + 1 :], b"".join(plain[first : last + 1])
