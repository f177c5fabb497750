# SPDX-License-Identifier: Apache-2.0
"""Open mailboxes: the arrays that all sessions of a mailbox share, and what each of them is to learn.

Invariant: the arrays and what the views have learned are one moment of the mailbox; whoever refreshes does it for all.
Views that have not told their clients yet are not disturbed: arrays only grow at their end, and where letters go they
are replaced by others.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TypeVar
from weakref import WeakValueDictionary

from posthouse.ports import Database, Transaction
from posthouse.services.mailbox.view import SelectedView
from posthouse.store import catalogue, uidset
from posthouse.store.catalogue import Head, Letters, News
from posthouse.store.flags import unpack_keywords
from posthouse.store.journal import Entry, Kind
from posthouse.store.refusal import MailboxRefusal, Reason
from posthouse.store.uidset import Ranges

# Letters of closed mailboxes whose arrays are kept, at 33 octets each: clients that look every few minutes into a
# large mailbox cost what is new in it. 33 MB of the 2 GB that a small machine has.
KEPT_LETTERS = 1_000_000
ENTRY = 60  # letters that a mailbox counts for by itself: some two kilobytes
# Sets of keywords that no letter has any more, and that are kept all the same: a set may be ten kilobytes, and a client
# that gives a letter another set again and again would fill the memory with them.
UNUSED_TEXTS = 200

T = TypeVar("T")


class OpenMailbox:
    """One mailbox that sessions have selected, or had a while ago."""

    def __init__(self, database: Database, head: Head) -> None:
        self._database = database
        self._views: list[SelectedView] = []
        self._refreshing = asyncio.Lock()
        self.head = head
        self.letters = Letters()
        self._most_texts = UNUSED_TEXTS  # sets of keywords; then those that no letter has are forgotten
        self.is_gone = False  # deleted, or another one has its place: nothing can be done with it any more

    def select(self, *, recent: Ranges = (), uses_vanished: bool = False) -> SelectedView:
        """A view for one more session, of the mailbox as it is known."""
        view = SelectedView(
            self.head.mailbox, self.letters.uids, self.head.modseq, recent=recent, uses_vanished=uses_vanished
        )
        self._views.append(view)
        return view

    async def select_as_of(self, head: Head, *, recent: Ranges = (), uses_vanished: bool = False) -> SelectedView:
        """A view for a session that was told `head` a while ago and has asked for no letter until now: many programs
        select a mailbox to look at the figures alone, and for them no letter is read.

        What happened since is learned, and still to be told. Raises MailboxRefusal where that cannot be known.
        """
        await self.refresh()
        async with self._refreshing:
            # Nobody takes in anything between what is read here and the moment when this view is one of those that
            # are taught: it would miss that for ever.
            news = None if self.is_gone else await self._news(head)
            if news is None or not news.is_complete:
                raise MailboxRefusal(Reason.NONEXISTENT, "the mailbox is another one now")
            view = self._view_as_of(head, news, recent=recent, uses_vanished=uses_vanished)
            self._views.append(view)
            return view

    def _view_as_of(self, head: Head, news: News, *, recent: Ranges, uses_vanished: bool) -> SelectedView:
        # What came after the last refresh is not in the arrays: it is learned with the next one.
        entries = [entry for entry in news.entries if entry.modseq <= self.head.modseq]
        gone = uidset.merged([entry.uids for entry in entries if entry.kind is Kind.EXPUNGED])
        there = uidset.below(uidset.merged((uidset.from_uids(self.letters.uids), gone)), head.uid_next)
        told = (
            self.letters.uids if len(self.letters) == head.total and not entries else array("I", uidset.expand(there))
        )
        view = SelectedView(head.mailbox, told, head.modseq, recent=recent, uses_vanished=uses_vanished)
        view.learn(entries, self.head.modseq)
        return view

    def leave(self, view: SelectedView) -> None:
        """Safe to call twice."""
        if view in self._views:
            self._views.remove(view)

    @property
    def is_used(self) -> bool:
        return bool(self._views)

    def words(self) -> list[str]:
        """Keywords in use, in lower case and in order (untagged FLAGS)."""
        used = {self.letters.texts[index] for index in set(self.letters.keywords)}
        return sorted({word for text in used for word in unpack_keywords(text)})

    async def refresh(self) -> None:
        """Take in what has happened, for all views. Costs one row where nothing has. Raises StoreFault."""
        async with self._refreshing:
            if self.is_gone:
                return
            await self._take_in(await self._news(self.head))

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        """A unit of work in this mailbox, and `refresh` right behind it, in one visit to the database. Raises as the
        unit does."""
        before = self.head
        done, news = await self._database.write(partial(_with_news, unit=unit, head=before))
        async with self._refreshing:
            is_next = self.head.modseq == before.modseq and not self.is_gone
            if is_next:
                await self._take_in(news)
        if not is_next:  # others have taken in what came meanwhile: what was read is not the whole
            await self.refresh()
        return done

    async def _take_in(self, news: News | None) -> None:
        """What happened since `head`."""
        if news is None or news.head.uid_validity != self.head.uid_validity:
            self.is_gone = True
        elif news.is_complete:
            self.letters = _applied(self.letters, news)
            if len(self.letters.texts) > self._most_texts:
                self.letters = _tidied(self.letters)
                self._most_texts = 2 * len(self.letters.texts) + UNUSED_TEXTS
            self._teach(news.entries, news.head)
        else:
            await self._read_again(news.head)

    async def _news(self, head: Head) -> News | None:
        return await self._database.read(
            partial(catalogue.news, mailbox=head.mailbox, after=head.modseq, uid_validity=head.uid_validity)
        )

    def _teach(self, entries: tuple[Entry, ...], head: Head, *, is_difference: bool = False) -> None:
        self.head = head
        for view in self._views:
            view.learn(entries, head.modseq, is_difference=is_difference)

    async def load(self) -> None:
        """Read all letters for the first time. Raises StoreFault."""
        async with self._refreshing:
            read = await self._read_all(self.head)
            if read is None:
                self.is_gone = True
            else:
                self.letters, self.head = read

    async def _read_all(self, head: Head) -> tuple[Letters, Head] | None:
        """All letters, page by page, so that a huge mailbox keeps nobody else waiting, and then what happened since
        `head` was read. None: the mailbox has gone."""
        while True:
            letters = Letters()
            while True:
                after = letters.uids[-1] if len(letters) else 0
                page = await self._database.read(
                    partial(catalogue.page, mailbox=head.mailbox, after=after, limit=catalogue.PAGE)
                )
                letters.take_in(page)
                if len(page) < catalogue.PAGE:
                    break
            news = await self._news(head)
            if news is None or news.head.uid_validity != head.uid_validity:
                return None
            if news.is_complete:
                return _applied(letters, news), news.head
            head = news.head

    async def _read_again(self, head: Head) -> None:
        """Nobody knows what happened: the difference between what was and what is."""
        read = await self._read_all(head)
        if read is None:
            self.is_gone = True
            return
        old, (new, head) = self.letters, read
        before, now = uidset.from_uids(old.uids), uidset.from_uids(new.uids)
        added, gone = uidset.difference(now, before), uidset.difference(before, now)
        stayed, same = old.within(now), new.within(before)
        changed = uidset.from_uids(
            uid for uid, one, other in zip(same.uids, stayed.modseqs, same.modseqs, strict=True) if one != other
        )
        kinds = ((Kind.ADDED, added), (Kind.CHANGED, changed), (Kind.EXPUNGED, gone))
        self.letters = new
        entries = tuple(Entry(head.modseq, head.mailbox, kind, uids, 0.0) for kind, uids in kinds if uids)
        self._teach(entries, head, is_difference=True)

    def settle(self, view: SelectedView) -> None:
        """After its client was told: let it use the arrays that all share, where they are the same."""
        view.share(self.letters.uids)


def _applied(letters: Letters, news: News) -> Letters:
    """The same object, unless letters went."""
    if len(news.letters):
        letters.take_in(news.letters)
    gone = uidset.merged([entry.uids for entry in news.entries if entry.kind is Kind.EXPUNGED])
    return letters.without(gone) if gone else letters


def _tidied(letters: Letters) -> Letters:
    """The same letters without texts that none of them has, in arrays of their own."""
    tidied = letters.within(uidset.EVERY_UID)
    used = sorted({0, *tidied.keywords})  # the first is that of letters without keywords, always
    places = {old: new for new, old in enumerate(used)}
    tidied.keywords = array("I", map(places.__getitem__, tidied.keywords))
    tidied.texts = [letters.texts[index] for index in used]
    return tidied


def _with_news(tx: Transaction, unit: Callable[[Transaction], T], head: Head) -> tuple[T, News | None]:
    done = unit(tx)
    return done, catalogue.news(tx, head.mailbox, head.modseq, head.uid_validity)


class OpenMailboxes:
    """Hands out open mailboxes, one object for each mailbox."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open: OrderedDict[int, OpenMailbox] = OrderedDict()  # the one not asked for the longest first
        self._loading: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()  # as long as somebody waits

    async def open(self, mailbox: int) -> OpenMailbox:
        """As it is now. Raises MailboxRefusal NONEXISTENT, StoreFault."""
        lock = self._loading.setdefault(mailbox, asyncio.Lock())
        async with lock:
            return await self._opened(mailbox)

    async def _opened(self, mailbox: int) -> OpenMailbox:
        found = self._open.get(mailbox)
        if found is not None:
            await found.refresh()
            if not found.is_gone:
                self._open[mailbox] = found  # it may have been let go of meanwhile, as nobody used it
                self._open.move_to_end(mailbox)
                return found
            self._open.pop(mailbox, None)  # its sessions keep it, and learn that it is gone
        head = await self._database.read(partial(catalogue.head, mailbox=mailbox))
        if head is None:
            raise MailboxRefusal(Reason.NONEXISTENT, "there is no such mailbox")
        found = OpenMailbox(self._database, head)
        await found.load()
        if found.is_gone:
            raise MailboxRefusal(Reason.NONEXISTENT, "there is no such mailbox")
        self._open[mailbox] = found
        return found

    def close(self, opened: OpenMailbox, view: SelectedView) -> None:
        """A session is done with it."""
        opened.leave(view)
        self._forget()

    def _forget(self) -> None:
        """Let go of mailboxes that nobody uses, the oldest first, until what is kept is not too much."""
        idle = [(mailbox, opened) for mailbox, opened in self._open.items() if not opened.is_used]
        kept = sum(len(opened.letters) + ENTRY for _, opened in idle)
        for mailbox, opened in idle:
            if kept <= KEPT_LETTERS:
                return
            kept -= len(opened.letters) + ENTRY
            del self._open[mailbox]
