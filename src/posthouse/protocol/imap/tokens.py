# SPDX-License-Identifier: Apache-2.0
"""Cursor: reads the tokens of one whole command (RFC 9051 §9). The rules of the grammar that all commands share.

Invariant: a method either takes exactly what its rule says and moves on, or raises CommandFault; text is never
scanned octet by octet in Python.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Sequence
from typing import Never, TypeVar

from posthouse.mail.number_set import STAR, NumberSet
from posthouse.mail.search import PartialRange
from posthouse.protocol.imap import limits, utf7

T = TypeVar("T")

# ATOM-CHAR: what is not ( ) { SP CTL % * " \ ] and not above ASCII.
_ATOM = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\\]]+')
_ASTRING = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\]+')
NO_NAME = "//"  # matches nothing: no level of a name is empty
_LIST_MAILBOX = re.compile(rb'[^\x00-\x20\x7f-\xff(){"\\]+')
# Without its end it is found too, so that no text is looked at twice.
_QUOTED = re.compile(rb'"([^"\\\x00\r\n]*(?:\\["\\][^"\\\x00\r\n]*)*)("?)')
_ESCAPED = re.compile(rb'\\(["\\])')
_LITERAL = re.compile(rb"~?\{\d+\+?\}\r\n")
_DIGITS = re.compile(rb"[0-9]{1,20}")
_SET = re.compile(rb"[0-9*:,$]+")
_FLAG = re.compile(rb'\\?[^\x00-\x20\x7f-\xff(){%*"\\\]]+')
_LABEL = re.compile(rb"[A-Za-z\-_.][A-Za-z\-_.0-9:]*")  # tagged-ext-label
_TAG = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\+]{1,64}')  # limits.MAX_TAG
_PARTIAL = re.compile(rb"(-?)([0-9]{1,10}):(-?)([0-9]{1,10})")
_OBJECT_ID = re.compile(rb"[A-Za-z0-9_\-]{1,255}")
_DATE = re.compile(rb'("?)([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})\1')
_DATE_TIME = re.compile(
    rb'"([ 0-9][0-9])-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+\-])([0-9]{2})([0-9]{2})"'
)
_MONTHS = {
    name: number
    for number, name in enumerate(
        (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"), 1
    )
}
# RFC 9051 §2.3.2 spells them so; whatever case a client uses, they are the same flags.
SYSTEM_FLAGS = {
    "\\answered": "\\Answered",
    "\\flagged": "\\Flagged",
    "\\deleted": "\\Deleted",
    "\\seen": "\\Seen",
    "\\draft": "\\Draft",
}
# Net-Unicode without controls and separators of lines (RFC 6855 §3, RFC 9051 §5.1).
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class CommandFault(Exception):  # noqa: N818 - an answer to the client, not a defect
    """The command cannot be taken: the text and response code of its BAD, or NO where it is well formed."""

    def __init__(self, text: str, code: str = "", *, is_no: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.is_no = is_no
        self.forgets_saved = False  # of a search that should have been saved


class LiteralMissing(Exception):  # noqa: N818 - not a fault of anybody: the command is not here yet
    """The next token is a literal that has not come."""


class Cursor:
    """`text` is the command's lines joined, a CRLF behind each literal's head; `literals` their contents in order."""

    __slots__ = ("_taken", "by_uid", "is_utf8", "literals", "position", "text")

    def __init__(
        self, text: bytes, literals: Sequence[bytes] = (), *, is_utf8: bool = False, by_uid: bool = False
    ) -> None:
        self.text = text
        self.literals = literals
        self.position = 0
        self.is_utf8 = is_utf8  # mailbox names are UTF-8, not modified UTF-7
        self.by_uid = by_uid  # the command was said behind UID
        self._taken = 0

    # --- structure --------------------------------------------------------------------------------

    @property
    def is_at_end(self) -> bool:
        return self.position == len(self.text)

    def looks_at(self, octets: bytes) -> bool:
        return self.text.startswith(octets, self.position)

    def accept(self, octets: bytes) -> bool:
        """Take these octets if they are next."""
        if self.text.startswith(octets, self.position):
            self.position += len(octets)
            return True
        return False

    def expect(self, octets: bytes) -> None:
        if not self.accept(octets):
            self.fail(f"expected {octets.decode('ascii')!r}")

    def space(self) -> None:
        if not self.accept(b" "):
            self.fail("expected one space")

    def end(self) -> None:
        """Nothing may follow. Blanks at the end of a line are nobody's argument: several clients leave one."""
        text = self.text
        if self.position != len(text) and text[self.position :].strip(b" "):
            self.fail("arguments too many")

    def fail(self, text: str) -> Never:
        raise CommandFault(f"{text[0].upper()}{text[1:]} at octet {self.position + 1} of the arguments", "CLIENTBUG")

    def in_list(self, item: Callable[[], T], limit: int, *, may_be_empty: bool = False) -> list[T]:
        """ "(" item *(SP item) ")"."""
        self.expect(b"(")
        found: list[T] = []
        if may_be_empty and self.accept(b")"):
            return found
        while True:
            found.append(item())
            if self.accept(b")"):
                return found
            if len(found) >= limit:
                raise CommandFault(f"A list here has at most {limit} items", "LIMIT")
            self.space()

    def _match(self, pattern: re.Pattern[bytes], what: str) -> re.Match[bytes]:
        found = pattern.match(self.text, self.position)
        if found is None:
            self.fail(f"expected {what}")
        self.position = found.end()
        return found

    # --- words ------------------------------------------------------------------------------------

    def tag(self) -> str:
        return self._match(_TAG, "a tag")[0].decode("ascii")

    def atom(self) -> str:
        return self._match(_ATOM, "an atom")[0].decode("ascii")

    def keyword(self) -> str:
        """An atom that is the same in any case: upper case."""
        return self._match(_ATOM, "a word")[0].decode("ascii").upper()

    def label(self) -> str:
        """tagged-ext-label, upper case."""
        return self._match(_LABEL, "a word")[0].decode("ascii").upper()

    def flag(self) -> str:
        r"""System flags in their own spelling; `\Recent` is the server's to set."""
        word = self._match(_FLAG, "a flag")[0].decode("ascii")
        if len(word) > limits.MAX_FLAG:
            raise CommandFault(f"A keyword has at most {limits.MAX_FLAG} octets", "LIMIT", is_no=True)
        if word.startswith("\\"):
            known = SYSTEM_FLAGS.get(word.lower())
            if known is None:
                raise CommandFault(f"There is no flag {word} that a client may set", "CLIENTBUG")
            return known
        return word

    def flag_list(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.in_list(self.flag, limits.MAX_FLAGS, may_be_empty=True)))

    # --- strings ----------------------------------------------------------------------------------

    def astring(self) -> bytes:
        found = _ASTRING.match(self.text, self.position)
        if found is not None:
            self.position = found.end()
            return found[0]
        return self.string()

    def string(self) -> bytes:
        """Quoted or a literal, without its dress."""
        found = _QUOTED.match(self.text, self.position)
        if found is not None and found[2]:
            self.position = found.end()
            inside = found[1]
            return _ESCAPED.sub(rb"\1", inside) if b"\\" in inside else inside
        return self.literal()

    def literal(self) -> bytes:
        found = _LITERAL.match(self.text, self.position)
        if found is None:
            self.fail("expected a string")
        if self._taken == len(self.literals):
            raise LiteralMissing
        if self.looks_at(b"~"):
            self.fail("no literal8")
        content = self.literals[self._taken]
        if b"\0" in content:
            self.fail("no NUL")  # RFC 9051 §9, CHAR8
        self._taken += 1
        self.position = found.end()
        return content

    def nstring(self) -> bytes | None:
        if self.text[self.position : self.position + 3].upper() == b"NIL":
            self.position += 3
            return None
        return self.string()

    def text_of(self, octets: bytes) -> str:
        """RFC 6855 §3: octets above ASCII that are not UTF-8 are refused with BAD."""
        try:
            return octets.decode("utf-8")
        except UnicodeDecodeError:
            raise CommandFault("Text is UTF-8", "CLIENTBUG") from None

    def astring_text(self) -> str:
        return self.text_of(self.astring())

    def mailbox(self) -> str:
        return self.mailbox_of(self.astring())

    def list_mailbox(self) -> str:
        """A name or pattern of LIST: wildcards may stand in it without quotes. One that can match no name is no error
        (RFC 9051 §6.3.9)."""
        found = _LIST_MAILBOX.match(self.text, self.position)
        if found is not None:
            self.position = found.end()
        try:
            return self.mailbox_of(self.string() if found is None else found[0])
        except CommandFault as fault:
            if fault.code == "CANNOT":
                return NO_NAME
            raise

    def mailbox_of(self, octets: bytes) -> str:
        """A name as Unicode; INBOX in any case is INBOX (RFC 9051 §5.1)."""
        if len(octets) > limits.MAX_MAILBOX_NAME:
            raise CommandFault("The name of the mailbox is too long", "LIMIT", is_no=True)
        if b"&" in octets and not self.is_utf8 and octets.isascii():
            decoded = utf7.decode(octets)
            if decoded is None:
                raise CommandFault("The name is not in modified UTF-7 (RFC 3501 section 5.1.3)", "CANNOT", is_no=True)
            name = decoded
        else:
            name = self.text_of(octets)
        if _UNPRINTABLE.search(name):
            raise CommandFault("Control characters have no place in names", "CANNOT", is_no=True)
        return "INBOX" if octets.upper() == b"INBOX" else name

    # --- numbers ----------------------------------------------------------------------------------

    def number(self, largest: int = limits.MAX_NUMBER, smallest: int = 0) -> int:
        value = int(self._match(_DIGITS, "a number")[0])
        if not smallest <= value <= largest:
            self.fail(f"expected a number from {smallest} to {largest}")
        return value

    def number64(self) -> int:
        return self.number(limits.MAX_NUMBER64)

    def nz_number(self) -> int:
        return self.number(limits.MAX_NUMBER, 1)

    def sequence_set(self, *, may_have_star: bool = True, may_be_saved: bool = True) -> NumberSet:
        """sequence-set with `$` (RFC 5182 §3)."""
        words = self._match(_SET, "a set of numbers")[0].split(b",")
        if len(words) > limits.MAX_RANGES:
            raise CommandFault(f"A set has at most {limits.MAX_RANGES} ranges", "LIMIT", is_no=True)
        has_saved = False
        ranges: list[tuple[int, int]] = []
        for word in words:
            if word.isdigit():
                first = last = int(word) if len(word) <= 10 else 0
            elif word == b"*":
                ranges.append((STAR, STAR))
                continue
            elif word == b"$":
                has_saved = True
                continue
            else:
                first, last = self._range(word)
                if STAR in (first, last):
                    ranges.append((first, last))
                    continue
            if not (0 < first <= limits.MAX_NUMBER and 0 < last <= limits.MAX_NUMBER):
                self.fail("numbers of messages are from 1 to 4294967295; none stands")
            ranges.append((first, last))
        found = NumberSet(tuple(ranges), has_saved)
        if (has_saved and not may_be_saved) or (found.has_star and not may_have_star):
            self.fail("only numbers, no * and no $")
        return found

    def _range(self, word: bytes) -> tuple[int, int]:
        first, colon, last = word.partition(b":")
        return (self._end(first), self._end(last)) if colon else self.fail("no set of numbers")

    def _end(self, word: bytes) -> int:
        if word == b"*":
            return STAR
        if not word.isdigit() or len(word) > 10 or not 0 < int(word) <= limits.MAX_NUMBER:
            self.fail("no set of numbers")
        return int(word)

    def partial_range(self) -> PartialRange:
        """partial-range (RFC 9394 §4): both ends from the same side."""
        found = self._match(_PARTIAL, "a range of positions")
        ends = int(found[2]), int(found[4])
        if found[1] != found[3] or min(ends) < 1 or max(ends) > limits.MAX_NUMBER:
            self.fail("no range of positions")
        return PartialRange(-ends[0], -ends[1]) if found[1] else PartialRange(*ends)

    def object_id(self) -> str:
        """objectid (RFC 8474 §7): its case counts."""
        return self._match(_OBJECT_ID, "an object identifier")[0].decode("ascii")

    # --- dates ------------------------------------------------------------------------------------

    def date(self) -> dt.date:
        found = self._match(_DATE, "a date (1-Feb-1994)")
        return self._day(found[4], found[3], found[2])

    def date_time(self) -> dt.datetime:
        """With the zone that was said."""
        found = self._match(_DATE_TIME, 'a time (" 1-Feb-1994 21:52:25 -0800")')
        day = self._day(found[3], found[2], found[1].strip())
        offset = dt.timedelta(hours=int(found[8]), minutes=int(found[9]))
        try:
            zone = dt.timezone(-offset if found[7] == b"-" else offset)
            # A leap second is the last one that there is a number for.
            return dt.datetime(
                day.year, day.month, day.day, int(found[4]), int(found[5]), min(int(found[6]), 59), tzinfo=zone
            )
        except ValueError:
            self.fail("there is no such time")

    def _day(self, year: bytes, month: bytes, day: bytes) -> dt.date:
        try:
            return dt.date(int(year), _MONTHS[month.lower()], int(day))
        except (KeyError, ValueError):
            self.fail("there is no such day")
