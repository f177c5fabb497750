# SPDX-License-Identifier: Apache-2.0
"""What may be asked of a mailbox: search keys, how a result is ordered, threaded and told. Values only.

Invariant: a key says one thing. What a protocol has several words for (SEEN, UNSEEN, KEYWORD; NEW, OLD) is told
with few kinds of keys, so whoever answers a search has few cases. Text is text: charsets end at the protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from enum import Enum, auto

from posthouse.mail.number_set import NumberSet


@dataclass(frozen=True, slots=True)
class All:
    """Every message."""


@dataclass(frozen=True, slots=True)
class HasFlag:
    r"""A system flag (`\Seen`, in RFC 9051's spelling) or a keyword as the client spelled it."""

    flag: str


@dataclass(frozen=True, slots=True)
class IsRecent:
    r"""\Recent, which RFC 3501 has and RFC 9051 has not."""


class AddressField(Enum):
    BCC = "Bcc"
    CC = "Cc"
    FROM = "From"
    TO = "To"


@dataclass(frozen=True, slots=True)
class InAddress:
    """The text occurs in the envelope structure's addresses (RFC 9051 §6.4.4: BCC, CC, FROM, TO)."""

    field: AddressField
    text: str


@dataclass(frozen=True, slots=True)
class InSubject:
    text: str


@dataclass(frozen=True, slots=True)
class InHeader:
    """The text occurs in a field of this name; "" matches every message that has the field."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class InBody:
    text: str


@dataclass(frozen=True, slots=True)
class InText:
    """Header or body."""

    text: str


class DateKind(Enum):
    RECEIVED = auto()  # the internal date
    SENT = auto()  # the Date field
    SAVED = auto()  # when the message came into this mailbox (RFC 8514 §4.3)


class Relation(Enum):
    BEFORE = auto()  # earlier than the day
    ON = auto()  # within it
    SINCE = auto()  # within or later


@dataclass(frozen=True, slots=True)
class DateIs:
    """Time and zone are disregarded (RFC 9051 §6.4.4)."""

    kind: DateKind
    relation: Relation
    day: date


@dataclass(frozen=True, slots=True)
class HasSaveDate:
    """Every message of a mailbox that knows when they came (RFC 8514 §4.3: SAVEDATESUPPORTED)."""


@dataclass(frozen=True, slots=True)
class Larger:
    octets: int


@dataclass(frozen=True, slots=True)
class Smaller:
    octets: int


@dataclass(frozen=True, slots=True)
class Older:
    """Internal date at least so long ago (RFC 5032 §2)."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Younger:
    """Internal date at most so long ago."""

    seconds: int


class EntryType(Enum):
    """Whose value of a flag is meant (RFC 7162 §3.1.5)."""

    ALL = "all"
    PRIVATE = "priv"
    SHARED = "shared"


@dataclass(frozen=True, slots=True)
class ModSeqSince:
    """Mod-sequence of at least `minimum`; `flag` where that of one flag is meant, which a server may widen."""

    minimum: int
    flag: str | None = None
    entry_type: EntryType = EntryType.ALL


@dataclass(frozen=True, slots=True)
class EmailIdIs:
    """RFC 8474 §6."""

    value: str


@dataclass(frozen=True, slots=True)
class ThreadIdIs:
    value: str


@dataclass(frozen=True, slots=True)
class InSequence:
    """Message sequence numbers, as this session was told."""

    numbers: NumberSet


@dataclass(frozen=True, slots=True)
class InUids:
    numbers: NumberSet


@dataclass(frozen=True, slots=True)
class Not:
    key: SearchKey


@dataclass(frozen=True, slots=True)
class And:
    """At least two keys, all of which must hold."""

    keys: tuple[SearchKey, ...]


@dataclass(frozen=True, slots=True)
class Or:
    first: SearchKey
    second: SearchKey


SearchKey = (
    All
    | HasFlag
    | IsRecent
    | InAddress
    | InSubject
    | InHeader
    | InBody
    | InText
    | DateIs
    | HasSaveDate
    | Larger
    | Smaller
    | Older
    | Younger
    | ModSeqSince
    | EmailIdIs
    | ThreadIdIs
    | InSequence
    | InUids
    | Not
    | And
    | Or
)


def keys_of(key: SearchKey) -> Iterator[SearchKey]:
    """The key and every key inside it. Depth is bounded where programs are read."""
    waiting = [key]
    while waiting:
        here = waiting.pop()
        yield here
        match here:
            case Not(inner):
                waiting.append(inner)
            case And(inner):
                waiting.extend(reversed(inner))
            case Or(first, second):
                waiting += (second, first)
            case _:
                pass


def asks_sequence(key: SearchKey) -> bool:
    """Whether message sequence numbers are in it: no expunge may be told while it runs (RFC 9051 §7.5.1)."""
    return any(isinstance(one, InSequence) for one in keys_of(key))


def asks_modseq(key: SearchKey) -> bool:
    """Whether the answer tells the highest mod-sequence found (RFC 7162 §3.1.5)."""
    return any(isinstance(one, ModSeqSince) for one in keys_of(key))


def asks_saved(key: SearchKey) -> bool:
    """Whether `$` is in it (RFC 5182 §2.1)."""
    return any(isinstance(one, InSequence | InUids) and one.numbers.has_saved for one in keys_of(key))


class SortCriterion(Enum):
    ARRIVAL = "ARRIVAL"
    CC = "CC"
    DATE = "DATE"
    FROM = "FROM"
    SIZE = "SIZE"
    SUBJECT = "SUBJECT"
    TO = "TO"
    DISPLAY_FROM = "DISPLAYFROM"  # RFC 5957 §3
    DISPLAY_TO = "DISPLAYTO"


@dataclass(frozen=True, slots=True)
class SortKey:
    criterion: SortCriterion
    is_reverse: bool = False


class ThreadAlgorithm(Enum):
    ORDERED_SUBJECT = "ORDEREDSUBJECT"
    REFERENCES = "REFERENCES"


@dataclass(frozen=True, slots=True)
class PartialRange:
    """A window of a result by position, both ends within it, from 1; negative: from the end (RFC 9394 §3.1).

    Both ends have the same sign. The order of the ends says nothing.
    """

    first: int
    last: int

    def window(self, count: int) -> tuple[int, int]:
        """(start, stop) for a slice of a result of `count` items, in ascending order."""
        low, high = sorted((abs(self.first), abs(self.last)))
        if self.first > 0:
            return min(low - 1, count), min(high, count)
        return max(count - high, 0), max(count - low + 1, 0)


class ReturnOption(Enum):
    """RFC 9051 §6.4.4; PARTIAL is told by its range."""

    MIN = "MIN"
    MAX = "MAX"
    ALL = "ALL"
    COUNT = "COUNT"
    SAVE = "SAVE"
