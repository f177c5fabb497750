# SPDX-License-Identifier: Apache-2.0
"""What a server has promised up to a point of a disk's log: the notes in the log, and what they add up to.

Invariant: a promise is noted after the server gave it, so whatever is promised at a cut must be there after it;
what is only begun may be there or not, but wholly.
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass, field

from posthouse.mail.dsn import Action
from posthouse.mail.dsn_reader import parse_dsn
from posthouse.ports import Buffer

# A thing in a mailbox: a letter by its number, or a report (DSN) about that letter: that it failed, or waits.
Thing = tuple[str, int]
LETTER = "letter"
REPORT = "report"
WARNING = "warning"

_NUMBER = re.compile(rb"Message-ID: <(\d+)\.letter@")


def letter_number(octets: bytes) -> int | None:
    """Of the letter that this is, or that a report quotes; None for what nobody here wrote."""
    found = _NUMBER.search(octets)
    return None if found is None else int(found[1])


def thing_of(prefix: bytes, content: Buffer) -> Thing | None:
    """What a letter of a mailbox is."""
    number = letter_number(bytes(content))
    if number is None:
        return None
    if not prefix.startswith(b"Return-Path: <>\r\n"):
        return LETTER, number
    return (REPORT if given_up(content) else WARNING), number


def given_up(report: Buffer) -> frozenset[str]:
    """The recipients whom a report says that the letter will never reach."""
    read = parse_dsn(bytes(report))
    groups = read.recipients if read is not None else ()
    return frozenset(each.final_recipient for each in groups if each.action is Action.FAILED)


@dataclass(frozen=True, slots=True)
class Begun:
    """A letter is on its way in. `digest`: SHA-256 of its content. `sender`: the account of a submitter, or ""."""

    letter: int
    digest: bytes
    sender: str
    accounts: tuple[str, ...]
    remote: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The 250 was given."""

    letter: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A 4yz or 5yz was given."""

    letter: int


@dataclass(frozen=True, slots=True)
class Removing:
    account: str
    things: tuple[Thing, ...]


@dataclass(frozen=True, slots=True)
class Removed:
    account: str
    things: tuple[Thing, ...]


@dataclass(frozen=True, slots=True)
class NotRemoved:
    account: str
    things: tuple[Thing, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """Another server said 250 for this recipient."""

    letter: int
    recipient: str


@dataclass(frozen=True, slots=True)
class Joined:
    """An account was added, and the operator told so."""

    account: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What clients could see: (mailbox, UIDVALIDITY, UID) and the email's id."""

    placements: tuple[tuple[tuple[int, int, int], int], ...]


Note = Begun | Accepted | Refused | Removing | Removed | NotRemoved | Taken | Joined | Seen


@dataclass(slots=True)
class Promises:
    letters: dict[int, Begun] = field(default_factory=dict)
    accepted: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    removing: dict[tuple[str, Thing], int] = field(default_factory=dict)  # in which removal, not answered yet
    removed: set[tuple[str, Thing]] = field(default_factory=set)
    taken: set[tuple[int, str]] = field(default_factory=set)
    accounts: set[str] = field(default_factory=set)
    seen: dict[tuple[int, int, int], int] = field(default_factory=dict)
    _removals: int = 0

    def copy(self) -> Promises:
        return deepcopy(self)

    def apply(self, note: Note) -> None:
        match note:
            case Begun(letter):
                self.letters[letter] = note
            case Accepted(letter):
                self.accepted.add(letter)
            case Refused(letter):
                self.refused.add(letter)
            case Removing(account, things):
                self._removals += 1
                self.removing.update({(account, thing): self._removals for thing in things})
            case Removed(account, things):
                self._end_removal(account, things)
                self.removed.update((account, thing) for thing in things)
            case NotRemoved(account, things):
                self._end_removal(account, things)
            case Taken(letter, recipient):
                self.taken.add((letter, recipient))
            case Joined(account):
                self.accounts.add(account)
            case Seen(placements):
                self.seen.update(placements)

    def _end_removal(self, account: str, things: tuple[Thing, ...]) -> None:
        for thing in things:
            self.removing.pop((account, thing), None)
