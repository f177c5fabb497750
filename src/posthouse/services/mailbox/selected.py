# SPDX-License-Identifier: Apache-2.0
"""The mailbox that one session has selected: its place, what the client was told, what has happened since.

Invariant: no letter is read until somebody asks for one: many programs select a mailbox to look at the figures alone.
From then on the arrays are those that all sessions of the mailbox share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from posthouse.mail.number_set import NumberSet
from posthouse.ports import Change, ChangeBus, Database, Reader, Transaction
from posthouse.services.mailbox import resync
from posthouse.services.mailbox.ahead import Ahead
from posthouse.services.mailbox.arrays import OpenMailbox, OpenMailboxes
from posthouse.services.mailbox.flag_words import FlagWords
from posthouse.services.mailbox.places import Place
from posthouse.services.mailbox.resync import Missed
from posthouse.services.mailbox.search import visible
from posthouse.services.mailbox.view import SelectedView
from posthouse.store import catalogue, keywords, messages, rights, uidset, visitors
from posthouse.store.catalogue import Head, Letters
from posthouse.store.refusal import MailboxRefusal, Reason
from posthouse.store.uidset import Ranges
from posthouse.store.visitors import SeenRow

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Figures:
    """What SELECT tells. `first_unseen`: the number of that letter, None where all are seen or nobody asked."""

    head: Head
    unseen: int
    recent: int
    first_unseen: int | None
    spellings: dict[str, str]


class SelectedMailbox:
    def __init__(
        self,
        desk: SelectDesk,
        place: Place,
        figures: Figures,
        *,
        is_read_only: bool,
        recent: Ranges,
        wants_recent: bool,
    ) -> None:
        self.place = place
        self.is_read_only = is_read_only
        self.head = figures.head  # as it was told to the client, until there is a view
        self.recent = recent
        self.words = FlagWords(figures.spellings)
        self.keywords = sorted(figures.spellings.values())
        self._told_keywords = self.keywords
        self.uses_vanished = False
        self.on_change: Callable[[], None] = lambda: None
        self.ahead = Ahead()  # rows that this session will ask for
        self._desk = desk
        self._wants_recent = wants_recent
        self._opened: OpenMailbox | None = None
        self._view: SelectedView | None = None
        self._is_stale = False
        self._is_gone = False  # for this person, or before anybody asked for a letter
        self._texts: list[str] | None = None  # sets of keywords that the words are known of
        self._known_texts = 1  # how many they were: "" alone
        self._seen: list[SeenRow] = []  # by a visitor
        self._seen_modseq = 0
        self._own_letters: Letters | None = None  # as a visitor sees them
        self._own_modseq = 0  # of the mailbox when they were put together
        self._unsubscribe = desk.bus.subscribe("account", place.owner, self._changed)

    # --- what the client knows ------------------------------------------------------------------------

    @property
    def is_gone(self) -> bool:
        """Deleted, or another one has its place."""
        return self._is_gone or (self._opened is not None and self._opened.is_gone)

    @property
    def known_view(self) -> SelectedView | None:
        """None until somebody asks for letters."""
        return self._view

    async def view(self) -> SelectedView:
        """Raises StoreFault; MailboxRefusal where the mailbox has gone."""
        if self._view is None:
            opened = await self._desk.open_mailboxes.open(self.place.id)
            view = await opened.select_as_of(self.head, recent=self.recent, uses_vanished=self.uses_vanished)
            view.marks_recent = self._wants_recent
            self._opened, self._view = opened, view
            await self._look_again()
        return self._view

    @property
    def letters(self) -> Letters:
        """The whole mailbox as it was at the last refresh, with this person's flags. Only after `view`."""
        assert self._opened is not None, "somebody has asked for the view before"
        if self.place.is_own:
            return self._opened.letters
        if self._own_letters is None or self._own_modseq != self._opened.head.modseq:
            # Other sessions may have taken in more between the pieces of an answer.
            self._own_letters = visitors.as_seen_by(self._opened.letters, self._seen)
            self._own_modseq = self._opened.head.modseq
        return self._own_letters

    @property
    def visible(self) -> Letters:
        """Of those what the client was told of."""
        assert self._view is not None, "as above"
        return visible(self.letters, self._view)

    @property
    def modseq(self) -> int:
        """HIGHESTMODSEQ that the client may be told (RFC 7162 §3.1.2.1)."""
        return self.head.modseq if self._view is None else self._view.told_modseq

    # --- what happens -----------------------------------------------------------------------------

    @property
    def is_stale(self) -> bool:
        """Something has happened in this account since the last refresh."""
        return self._is_stale

    def _changed(self, _change: Change) -> None:
        self._is_stale = True
        self.on_change()

    async def refresh(self) -> None:
        """Learn what has happened. Where no letter was ever asked for and nothing happened, one row is read."""
        self._is_stale = False
        try:
            await self._learn()
        except BaseException:
            self._is_stale = True  # what has happened is still to be learned
            raise

    async def _learn(self) -> None:
        if not self.place.is_own:
            await self._look_at_rights()
        if self._view is None:
            head = await self._desk.database.read(partial(catalogue.head, mailbox=self.place.id))
            if head is None or head.uid_validity != self.head.uid_validity:
                self._is_gone = True
            elif head.modseq != self.head.modseq:
                await self.view()
            return
        assert self._opened is not None
        await self._opened.refresh()
        await self._look_again()  # also where another session of the mailbox has learned of it before

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        """A unit of work in this mailbox, and `refresh` right behind it: in one's own one visit to the database."""
        if self._opened is None or not self.place.is_own:
            done = await self._desk.database.write(unit)
            await self.refresh()
            return done
        self._is_stale = False
        try:
            done = await self._opened.write(unit)
            await self._look_again()
        except BaseException:
            self._is_stale = True  # nobody has looked, or not at all of it
            raise
        return done

    async def _look_at_rights(self) -> None:
        """The owner may have changed them. A mailbox that the person may not look up and read is gone for that one."""
        allowed = await self._desk.database.read(
            partial(rights.of_person, mailbox=self.place.id, person=self.place.person)
        )
        self._is_gone = self._is_gone or not {"l", "r"} <= set(allowed)
        self.place = replace(self.place, rights=allowed)

    async def _look_again(self) -> None:
        """What belongs to the letters: new keywords, and what a visitor has seen."""
        assert self._opened is not None
        opened = self._opened
        texts = opened.letters.texts
        if len(texts) != self._known_texts or (len(texts) > 1 and texts is not self._texts):
            self._texts, self._known_texts = texts, len(texts)
            spellings = await self._desk.database.read(partial(keywords.spellings, account=self.place.owner))
            self.words = FlagWords(spellings)
            self.keywords = sorted({*spellings.values(), *map(self.words.spelled, opened.words())})
        if not self.place.is_own:
            await self._look_at_seen(opened)

    async def _look_at_seen(self, opened: OpenMailbox) -> None:
        """By the visitor. What others take in while the rows are read may be newer than the rows."""
        while self._seen_modseq != opened.head.modseq:
            modseq = opened.head.modseq
            self._seen = await self._desk.database.read(
                partial(visitors.seen, mailbox=self.place.id, person=self.place.person)
            )
            self._seen_modseq = modseq
            self._own_letters = None
            if self._view is not None:
                self._view.flags_modseq = modseq

    def new_keywords(self) -> list[str] | None:
        """All keywords, where there are some that the client was not told of; from now on it is."""
        if self.keywords is self._told_keywords or self.keywords == self._told_keywords:
            return None
        self._told_keywords = self.keywords
        return self.keywords

    def settle(self) -> None:
        """After the client was told."""
        if self._view is not None and self._opened is not None:
            self._opened.settle(self._view)

    def leave(self) -> None:
        """Safe to call twice."""
        self._unsubscribe()
        if self._opened is not None and self._view is not None:
            self._desk.open_mailboxes.close(self._opened, self._view)


class SelectDesk:
    """Selects mailboxes for sessions."""

    def __init__(self, database: Database, bus: ChangeBus) -> None:
        self.database = database
        self.bus = bus
        self.open_mailboxes = OpenMailboxes(database)

    async def select(self, place: Place, *, is_read_only: bool, wants_recent: bool) -> tuple[SelectedMailbox, Figures]:
        r"""`wants_recent`: the client knows \Recent (RFC 3501). Raises MailboxRefusal NONEXISTENT, StoreFault."""
        figures = await self.database.read(partial(_figures, place=place, wants_number=wants_recent))
        if figures is None:
            raise MailboxRefusal(Reason.NONEXISTENT, "there is no such mailbox")
        recent: Ranges = ()
        head = figures.head
        if wants_recent and head.recent_from < head.uid_next:
            recent = ((head.recent_from, head.uid_next - 1),)
            if not is_read_only:
                # What came since the figures were read is told as new, and as recent with it.
                recent = await self.database.write(partial(_claim, mailbox=place.id))
        return SelectedMailbox(
            self, place, figures, is_read_only=is_read_only, recent=recent, wants_recent=wants_recent
        ), figures

    async def missed(
        self,
        selected: SelectedMailbox,
        since: int,
        *,
        known: NumberSet | None,
        known_numbers: NumberSet | None,
        known_number_uids: NumberSet | None,
    ) -> Missed:
        """What a client that knows the mailbox as of mod-sequence `since` has missed (QRESYNC). See `resync.missed`.
        Raises MailboxRefusal NONEXISTENT, StoreFault."""
        place = selected.place
        view = await selected.view()
        changes = await self.database.read(partial(messages.changes_since, mailbox=place.id, modseq=since))
        if changes is None:
            raise MailboxRefusal(Reason.NONEXISTENT, "there is no such mailbox")
        if not place.is_own:
            rows = await self.database.read(partial(visitors.seen, mailbox=place.id, person=place.person, after=since))
            seen = uidset.from_uids(row.uid for row in rows)
            changes = replace(changes, changed=uidset.merged((changes.changed, seen)))
        missed = resync.missed(changes, view.uids, selected.head.uid_next, known, known_numbers, known_number_uids)
        # What has gone since SELECT told how many there are is counted by the client: it is told as news, once.
        counted = view.within(missed.vanished)
        if counted:
            missed = replace(missed, vanished=uidset.difference(missed.vanished, uidset.from_uids(counted)))
        return missed


def _claim(tx: Transaction, mailbox: int) -> Ranges:
    return catalogue.claim_recent(tx, mailbox)


def _figures(reader: Reader, place: Place, *, wants_number: bool) -> Figures | None:
    head = catalogue.head(reader, place.id)
    if head is None:
        return None
    unseen = head.unseen if place.is_own else visitors.unseen(reader, place.id, place.person)
    first: int | None = None
    if wants_number and place.is_own and unseen:
        uid = catalogue.first_unseen(reader, place.id)
        first = None if uid is None else catalogue.number_of(reader, head, uid)
    recent = catalogue.recent(reader, place.id, head.recent_from) if wants_number else 0
    return Figures(head, unseen, recent, first, keywords.spellings(reader, place.owner))
