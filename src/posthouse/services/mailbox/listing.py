# SPDX-License-Identifier: Apache-2.0
"""Which names LIST, LSUB and STATUS tell, with what is known of each (RFC 9051 §6.3.9, RFC 5258, RFC 3501 §6.3.9).

Invariant: one question is one visit to the database, whatever the number of mailboxes: all that is told is one moment.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from posthouse.mail.name_pattern import name_pattern
from posthouse.ports import Database, Reader
from posthouse.services.directory import Account
from posthouse.services.mailbox.places import Place, Places
from posthouse.store import catalogue, status, subscriptions, visitors
from posthouse.store.mailboxes import INBOX, SEPARATOR, Mailbox
from posthouse.store.refusal import MailboxRefusal, Reason

PAGE = 250  # names told in one piece: about two milliseconds with their figures
STEPS = 10_000  # of matching without a pause: about two milliseconds


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
    """All names that there are for one person. `parents`: every level that has a mailbox below it. `recent`,
    `deleted`, `seen`: by mailbox, where they were wanted (store/status.py)."""

    person: int
    places: dict[str, Place]
    subscribed: frozenset[str]
    parents: frozenset[str]
    recent: dict[int, int]
    deleted: dict[int, tuple[int, int]]
    seen: dict[int, int]

    def figures(self, place: Place) -> Figures:
        mailbox = place.mailbox
        unseen = mailbox.unseen if place.is_own else mailbox.total - self.seen.get(mailbox.id, 0)
        return Figures(mailbox, unseen, self.recent.get(mailbox.id, 0), *self.deleted.get(mailbox.id, (0, 0)))


class Listing:
    def __init__(self, database: Database, places: Places) -> None:
        self._database = database
        self._places = places

    async def pages(self, account: Account, question: Question) -> AsyncIterator[list[Listed]]:
        """Some names at a time. Raises StoreFault with the first ones."""
        wanted = question.figures
        known = await self._database.read(partial(self._know, account=account, wanted=wanted))
        chosen = list((await _chosen(known, question)).items())
        for start in range(0, len(chosen), PAGE):
            yield [
                _listed(known, name, has_matching_child=child, with_figures=wanted is not None)
                for name, child in chosen[start : start + PAGE]
            ]

    async def subscribed(self, account: Account, pattern: str) -> list[Listed]:
        """LSUB: a level with subscribed names below it stands for them where the pattern ends before them (with `%`);
        such a one is not subscribed itself. Raises StoreFault."""
        known = await self._database.read(partial(self._know, account=account))
        names = await _matching(sorted(known.subscribed), (pattern,))
        if pattern.endswith("%"):  # RFC 3501 §6.3.9
            names += await _matching(sorted(_levels_above(known.subscribed) - known.subscribed), (pattern,))
        return [_listed(known, name) for name in names]

    async def status(self, account: Account, name: str, wanted: Wanted) -> tuple[Place, Figures]:
        """Raises MailboxRefusal NONEXISTENT, NOPERM; StoreFault."""
        return await self._database.read(partial(self._status, account=account, name=name, wanted=wanted))

    # --- queries ----------------------------------------------------------------------------------

    def _know(self, reader: Reader, account: Account, wanted: Wanted | None = None) -> _Known:
        person = account.id
        places = {place.name: place for place in self._places.list_all(reader, account)}
        subscribed = {name for name, place in places.items() if place.is_own and place.mailbox.is_subscribed}
        for each in subscriptions.names(reader, person):
            subscribed.add(self._places.called(account, each.owner, each.name))
        return _Known(
            person,
            places,
            frozenset(subscribed),
            frozenset(_levels_above(places)),
            recent=status.recent(reader, person) if wanted is not None and wanted.recent else {},
            deleted=status.deleted(reader, person) if wanted is not None and wanted.deleted else {},
            seen={} if wanted is None else status.seen(reader, person),
        )

    def _status(self, reader: Reader, account: Account, name: str, wanted: Wanted) -> tuple[Place, Figures]:
        place = self._places.look(reader, account, name)
        if place is None:
            raise MailboxRefusal(Reason.NONEXISTENT, "there is no such mailbox")
        place.check("r")
        return place, _figures(reader, place, wanted)


def _listed(known: _Known, name: str, *, has_matching_child: bool = False, with_figures: bool = False) -> Listed:
    place = known.places.get(name)
    figures = known.figures(place) if with_figures and place is not None and place.may("r") else None
    return Listed(name, place, name in known.subscribed, name in known.parents, has_matching_child, figures)


# --- which names ----------------------------------------------------------------------------------


async def _chosen(known: _Known, question: Question) -> dict[str, bool]:
    """Names in the order in which they are told, and whether one below meets the selection options."""
    patterns = question.patterns
    if not (question.only_subscribed or question.only_special_use):
        names = await _matching(known.places, patterns)
        # RFC 9051 §6.3.9: levels that are no mailboxes are told only where the pattern ends at them.
        ends = tuple(pattern for pattern in patterns if pattern.endswith("%"))
        names += await _matching(sorted(known.parents - known.places.keys()), ends)
        return dict.fromkeys(names, False)
    selected = list(_selected(known, question))
    told = dict.fromkeys(await _matching(selected, patterns), False)
    if question.recursive_match:
        with_child = _levels_above(selected)
        for name in told:
            told[name] = name in with_child
        # RFC 9051 §6.3.9.6: one that does not meet them itself is told of for the sake of those that are not told.
        hidden = _levels_above(name for name in selected if name not in told) - told.keys()
        told.update(dict.fromkeys(await _matching(sorted(hidden), patterns), True))
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


async def _matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """Those that match one of the patterns. Others have their turn meanwhile: it takes a step for each character of
    each name and each pattern, and people may have thousands of names as long as they please."""
    ready = [_canonical(pattern) for pattern in patterns if pattern]
    if "*" in ready:
        return list(names)
    matchers = [name_pattern(pattern).matches for pattern in ready]
    # RFC 9051 §6.3.9: INBOX in any case.
    with_inbox = any(name_pattern(pattern.upper()).matches(INBOX) for pattern in ready)
    found = []
    steps = 0
    for name in names if ready else ():
        if any(matches(name) for matches in matchers) or (with_inbox and name == INBOX):
            found.append(name)
        steps += len(name) * len(ready)
        if steps > STEPS:
            steps = 0
            await asyncio.sleep(0)
    return found


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
