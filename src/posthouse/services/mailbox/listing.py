# SPDX-License-Identifier: Apache-2.0
"""Which names LIST, LSUB and STATUS tell, with what is known of each (RFC 9051 §6.3.9, RFC 5258, RFC 3501 §6.3.9).

Invariant: one question is one visit to the database, whatever the number of mailboxes: all that is told is one moment.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from posthouse.mail.name_pattern import name_pattern
from posthouse.ports import Database, Reader
from posthouse.services.directory import Account
from posthouse.services.mailbox.places import Place, Places
from posthouse.store import catalogue, status, subscriptions, visitors
from posthouse.store.mailboxes import INBOX, SEPARATOR, Mailbox
from posthouse.store.refusal import MailboxRefusal, Reason


@dataclass(frozen=True, slots=True)
class Wanted:
    r"""Figures that cost a look at the letters themselves; the others are in the mailbox's row."""

    recent: bool = False
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Figures:
    """What STATUS tells. `recent`, `deleted` and `deleted_octets` are 0 where they were not wanted."""

    mailbox: Mailbox
    unseen: int
    recent: int
    deleted: int
    deleted_octets: int


@dataclass(frozen=True, slots=True)
class Question:
    """`patterns` are whole ones, the reference before them. `only_…`, `recursive_match`: selection options.
    `figures` None: nobody wants to know."""

    patterns: tuple[str, ...]
    only_subscribed: bool = False
    only_special_use: bool = False
    recursive_match: bool = False
    figures: Wanted | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """`place` None: there is no such mailbox, but it is subscribed to, or there is one below. `has_matching_child`:
    one below it meets the selection options (CHILDINFO)."""

    name: str
    place: Place | None
    is_subscribed: bool
    has_children: bool
    has_matching_child: bool
    figures: Figures | None


@dataclass(frozen=True, slots=True)
class _Known:
    """All names that there are for one person. `parents`: every level that has a mailbox below it."""

    places: dict[str, Place]
    subscribed: frozenset[str]
    parents: frozenset[str]


class Listing:
    def __init__(self, database: Database, places: Places) -> None:
        self._database = database
        self._places = places

    async def names(self, account: Account, question: Question) -> list[Listed]:
        """Raises StoreFault."""
        return await self._database.read(partial(self._list, account=account, question=question))

    async def list_subscribed(self, account: Account, pattern: str) -> list[Listed]:
        """LSUB: a level with subscribed names below it stands for them where the pattern ends before them (with `%`);
        `place` is None there."""
        return await self._database.read(partial(self._list_subscribed, account=account, pattern=pattern))

    async def status(self, account: Account, name: str, wanted: Wanted) -> tuple[Place, Figures]:
        """Raises MailboxRefusal NONEXISTENT, NOPERM; StoreFault."""
        return await self._database.read(partial(self._status, account=account, name=name, wanted=wanted))

    # --- queries ----------------------------------------------------------------------------------

    def _know(self, reader: Reader, account: Account) -> _Known:
        places = {place.name: place for place in self._places.list_all(reader, account)}
        subscribed = {name for name, place in places.items() if place.is_own and place.mailbox.is_subscribed}
        for each in subscriptions.names(reader, account.id):
            subscribed.add(self._places.called(account, each.owner, each.name))
        return _Known(places, frozenset(subscribed), frozenset(_levels_above(places)))

    def _list(self, reader: Reader, account: Account, question: Question) -> list[Listed]:
        known = self._know(reader, account)
        chosen = _chosen(known, question)
        figures: dict[str, Figures] = {}
        if question.figures is not None:
            asked = [known.places[name] for name in chosen if name in known.places and known.places[name].may("r")]
            figures = _figures_of_all(reader, account.id, asked, question.figures)
        return [
            Listed(
                name,
                known.places.get(name),
                name in known.subscribed,
                name in known.parents,
                has_matching_child,
                figures.get(name),
            )
            for name, has_matching_child in chosen.items()
        ]

    def _list_subscribed(self, reader: Reader, account: Account, pattern: str) -> list[Listed]:
        known = self._know(reader, account)
        matches = _matcher((pattern,))
        names = [name for name in sorted(known.subscribed) if matches(name)]
        listed = [
            Listed(name, known.places.get(name), True, name in known.parents, has_matching_child=False, figures=None)
            for name in names
        ]
        if pattern.endswith("%"):  # RFC 3501 §6.3.9
            above = sorted(_levels_above(known.subscribed) - known.subscribed)
            listed += [Listed(name, None, False, True, True, None) for name in above if matches(name)]
        return listed

    def _status(self, reader: Reader, account: Account, name: str, wanted: Wanted) -> tuple[Place, Figures]:
        place = self._places.look(reader, account, name)
        if place is None:
            raise MailboxRefusal(Reason.NONEXISTENT, "there is no such mailbox")
        place.check("r")
        return place, _figures(reader, place, wanted)


# --- which names ----------------------------------------------------------------------------------


def _chosen(known: _Known, question: Question) -> dict[str, bool]:
    """Names in the order in which they are told, and whether one below meets the selection options."""
    matches = _matcher(question.patterns)
    if not (question.only_subscribed or question.only_special_use):
        chosen = [name for name in known.places if matches(name)]
        if any(pattern.endswith("%") for pattern in question.patterns):
            # RFC 9051 §6.3.9: levels that are no mailboxes are told only where the pattern ends at them.
            levels = _matcher([pattern for pattern in question.patterns if pattern.endswith("%")])
            chosen += [name for name in sorted(known.parents) if name not in known.places and levels(name)]
        return dict.fromkeys(chosen, False)
    selected = list(_selected(known, question))
    told = dict.fromkeys((name for name in selected if matches(name)), False)
    if question.recursive_match:
        with_child = _levels_above(selected)
        for name in told:
            told[name] = name in with_child
        # RFC 9051 §6.3.9.6: one that does not meet them itself is told of for the sake of those that are not told.
        hidden = sorted(_levels_above(name for name in selected if name not in told))
        told.update((name, True) for name in hidden if name not in told and matches(name))
    return told


def _selected(known: _Known, question: Question) -> Iterator[str]:
    """Names that meet the selection options, whatever the patterns."""
    names: Iterable[str] = known.places
    if question.only_subscribed:
        gone = sorted(known.subscribed - known.places.keys())
        names = [*(name for name in known.places if name in known.subscribed), *gone]
    for name in names:
        if not question.only_special_use or (name in known.places and special_use(known.places[name])):
            yield name


def special_use(place: Place) -> str | None:
    """Of own mailboxes alone: somebody else's Trash is not where one's own letters go."""
    return place.mailbox.special_use if place.is_own else None


def _levels_above(names: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for name in names:
        level = name.rpartition(SEPARATOR)[0]
        while level and level not in found:
            found.add(level)
            level = level.rpartition(SEPARATOR)[0]
    return found


def _matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    ready = [_canonical(pattern) for pattern in patterns if pattern]
    if "*" in ready:
        return lambda _name: True
    each_name = [name_pattern(pattern).matches for pattern in ready]
    # RFC 9051 §6.3.9: INBOX in any case.
    with_inbox = any(name_pattern(pattern.upper()).matches(INBOX) for pattern in ready)

    def matches(name: str) -> bool:
        return any(match(name) for match in each_name) or (with_inbox and name == INBOX)

    return matches


def _canonical(pattern: str) -> str:
    """As names are kept: NFC, and INBOX as a first level in capitals."""
    first, separator, rest = unicodedata.normalize("NFC", pattern).partition(SEPARATOR)
    return (INBOX if first.upper() == INBOX else first) + separator + rest


# --- figures --------------------------------------------------------------------------------------


def _figures(reader: Reader, place: Place, wanted: Wanted) -> Figures:
    mailbox = place.mailbox
    unseen = mailbox.unseen if place.is_own else visitors.unseen(reader, mailbox.id, place.person)
    head = catalogue.head(reader, mailbox.id) if wanted.recent else None
    recent = 0 if head is None else catalogue.recent(reader, mailbox.id, head.recent_from)
    deleted, octets = catalogue.deleted(reader, mailbox.id) if wanted.deleted else (0, 0)
    return Figures(mailbox, unseen, recent, deleted, octets)


def _figures_of_all(reader: Reader, person: int, places: list[Place], wanted: Wanted) -> dict[str, Figures]:
    owners = {place.owner for place in places}
    recent: dict[int, int] = {}
    deleted: dict[int, tuple[int, int]] = {}
    for owner in owners:
        if wanted.recent:
            recent.update(status.recent(reader, owner))
        if wanted.deleted:
            deleted.update(status.deleted(reader, owner))
    seen = status.seen(reader, person) if owners - {person} else {}
    return {
        place.name: Figures(
            place.mailbox,
            place.mailbox.unseen if place.is_own else place.mailbox.total - seen.get(place.id, 0),
            recent.get(place.id, 0),
            *deleted.get(place.id, (0, 0)),
        )
        for place in places
    }
