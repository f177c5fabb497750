# SPDX-License-Identifier: Apache-2.0
r"""FETCH and UID FETCH (RFC 9051 §6.4.5): which letters, \Seen, and the answer, page by page.

Invariant: each letter is told once, whole, with the number that the client gives it; of a letter that cannot be told
nothing is, and the tagged answer says so.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain, compress

from posthouse.edges.imap import fetching_items, telling
from posthouse.edges.imap.here import Handlers, Here, Pieces
from posthouse.mail.decoding import UnknownEncodingError
from posthouse.outcome import Refusal
from posthouse.ports import StoreFault
from posthouse.protocol.imap import codes, events, fetch_results, responses
from posthouse.protocol.imap.fetch_items import (
    Attribute,
    BinarySection,
    BinarySize,
    BodySection,
    FetchItem,
)
from posthouse.services.mailbox.pages import Page
from posthouse.services.mailbox.view import SelectedView
from posthouse.store import uidset
from posthouse.store.catalogue import Letters

# Letters of one piece of an answer that the arrays have all of: some milliseconds of this thread.
ROWS = 5_000
# Where something is read of each letter: one visit to the database.
PAGE = 1_000
# Where contents are read: octets of one piece, and one letter at least. A millisecond to see whether they are whole.
PIECE = 1024 * 1024
COMPRESSED = 64 * 1024  # the same where they are compressed, which takes two milliseconds
# Sections cut out before others have their turn: of a header some seventy microseconds each where many names are
# asked for, and one FETCH may ask for a hundred of them of a thousand letters.
SECTIONS = 64

# What is kept once it is written, and the form under which it is; those with UTF-8 between quotes are others.
_FORMS: dict[FetchItem, int] = {Attribute.ENVELOPE: 0, Attribute.BODY: 1, Attribute.BODYSTRUCTURE: 2}
_FORMS_UTF8 = 4

_SECTIONS = (BodySection, BinarySection, BinarySize)


async def fetch(here: Here, event: events.Fetch) -> None:
    if event.tell_vanished and "QRESYNC" not in here.engine.enabled:
        here.engine.bad("VANISHED needs ENABLE QRESYNC", codes.CLIENTBUG)  # RFC 7162 §3.2.6
        return
    view = await here.view()
    await here.look(is_asked=event.tell_vanished)
    if event.tell_vanished:
        here.tell()  # what the client counts and what has gone are not to be mixed up
    uids = await here.named(event.numbers, by_uid=event.by_uid)
    if event.changed_since is not None or Attribute.MODSEQ in event.items:
        here.want_modseq()
    if event.tell_vanished and event.changed_since is not None:
        gone = await here.terms.fetching.vanished(here.selected, event.numbers, event.changed_since)
        if gone:
            here.engine.tell([responses.vanished(gone, is_earlier=True)])
    answer = Answer(here, event, view, _chosen(here, event, uids))
    await answer.begin()
    if await answer.is_short():
        await answer.end()
    else:
        await here.stream(answer, answer.end)


def _chosen(here: Here, event: events.Fetch, uids: array[int]) -> array[int]:
    """Those of these letters that are to be told."""
    if event.partial is not None:
        start, stop = event.partial.window(len(uids))
        uids = uids[start:stop]
    if event.changed_since is not None and uids:
        # RFC 9394 §3.4: first the window, then what has changed of it.
        letters = _of(here.selected.letters, uids)
        uids = array("I", compress(letters.uids, map(event.changed_since.__lt__, letters.modseqs)))
    return uids


def _of(letters: Letters, uids: array[int]) -> Letters:
    return letters if letters.uids == uids else letters.within(uidset.from_uids(uids))


def _apart(letters: Letters, uids: array[int]) -> Letters:
    """In arrays of their own: other sessions take in what comes while a page is read."""
    return letters.within(uidset.EVERY_UID if letters.uids == uids else uidset.from_uids(uids))


class Answer:
    """The responses to one FETCH, as pieces."""

    def __init__(self, here: Here, event: events.Fetch, view: SelectedView, uids: array[int]) -> None:
        self._here = here
        self._event = event
        self._view = view
        self._uids = uids
        self._waiting: Iterator[Pieces] | None = None  # written, not told yet
        self._known: dict[FetchItem, list[bytes]] = {}  # columns of this page that were written before
        self._told = 0  # letters so far
        self._seen = array("I")  # what this command has set \Seen of
        self._untold: set[int] = set()  # UIDs of letters that cannot be told
        self._is_short = False
        self._is_damaged = False
        self._is_undecoded = False
        self._arrange(event.items)

    def _arrange(self, items: tuple[FetchItem, ...]) -> None:
        event, engine = self._event, self._here.engine
        found = list(items)
        if event.by_uid and not engine.is_uid_only and Attribute.UID not in found:
            found.insert(0, Attribute.UID)
        if event.changed_since is not None and Attribute.MODSEQ not in found:
            found.append(Attribute.MODSEQ)  # RFC 7162 §3.1.4.1
        self._items = found
        self._wants = self._wants_now = fetching_items.wants_of(found)
        utf8 = _FORMS_UTF8 if engine.is_utf8 else 0
        self._forms = {item: form + utf8 for item, form in _FORMS.items() if item in found}
        self._has_sections = any(isinstance(item, _SECTIONS) for item in found)
        self._tells_flags = Attribute.FLAGS in found

    async def begin(self) -> None:
        r"""Set \Seen of all letters in one unit, before any is told: so each response has the flags as they are then,
        and the client waits for one commit. A store that cannot keep it (a full disk) lets people read all the same.
        """
        selected, event = self._here.selected, self._event
        if not event.sets_seen or selected.is_read_only or not selected.place.may("s") or not self._uids:
            return
        try:
            self._seen = await self._here.terms.fetching.see(selected, self._uids)
        except (StoreFault, Refusal) as fault:
            self._here.terms.log.warning("not marked as seen", trace=self._here.peer.trace, reason=str(fault))
            return
        if not self._seen:
            return
        await self._here.refresh(is_asked=True)
        if not self._tells_flags:
            more: list[FetchItem] = [Attribute.FLAGS]
            if "CONDSTORE" in self._here.engine.enabled and Attribute.MODSEQ not in self._items:
                more.append(Attribute.MODSEQ)
            # Before the contents: they are long, and this belongs to what the client shows first.
            at = next(index for index, item in enumerate(self._items) if isinstance(item, _SECTIONS))
            self._items[at:at] = more
            self._tells_flags = True

    async def is_short(self) -> bool:
        """Tell all of it at once, where one piece is enough: most commands are about a letter or a page of a list, and
        with their tagged answer they are one packet."""
        nothing: Pieces = []
        first = await anext(self, nothing)
        if self._told < len(self._uids) or self._waiting is not None:
            self._waiting = chain((first,), self._waiting or ())
            return False
        self._here.engine.tell(first)
        return True

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> Pieces:
        if self._waiting is not None:
            for pieces in self._waiting:
                return pieces
            self._waiting = None
        while self._told < len(self._uids):
            uids = self._next()
            letters = _apart(self._here.selected.letters, uids)
            self._known = self._recall(letters)
            page = await self._here.terms.fetching.page(
                self._view.mailbox, letters, self._wants_now, self._here.selected
            )
            self._forget(letters, page)
            self._is_short |= page.is_short or len(letters) < len(uids)
            # Flags are those of now, whatever has happened while the page was read; of what has gone those of before.
            now = _of(self._here.selected.letters, page.uids)
            letters = now if len(now) == len(page.uids) else _of(letters, page.uids)
            self._note_damage(page)
            pieces = await self._written(page, letters)
            if pieces:
                limit = COMPRESSED if self._here.engine.is_compressed else PIECE
                if sum(map(len, pieces)) <= limit:
                    return pieces
                self._waiting = cut(pieces, limit)
                return next(self._waiting)
        raise StopAsyncIteration

    def _next(self) -> array[int]:
        """UIDs of the next piece."""
        start = self._told
        size = ROWS if self._wants.is_nothing else PAGE
        if self._wants.letters:
            size = self._fitting(self._uids[start : start + PAGE])
        self._told = start + size
        return self._uids[start : self._told]

    def _fitting(self, uids: array[int]) -> int:
        """How many of these letters are one piece."""
        if len(uids) == 1:
            return 1
        left, count = PIECE, 0
        for size in _of(self._here.selected.letters, uids).sizes:
            left -= size
            count += 1
            if left <= 0:
                break
        return max(count, 1)

    def _recall(self, letters: Letters) -> dict[FetchItem, list[bytes]]:
        """Columns that were written before, for this client or another; what they need is not read again."""
        kept = self._here.terms.fetching.kept
        found = {item: kept.all_of(letters.emails, form) for item, form in self._forms.items()}
        known: dict[FetchItem, list[bytes]] = {item: column for item, column in found.items() if column is not None}
        if known:
            left = [item for item in self._items if item not in known]
            self._wants_now = fetching_items.wants_of(left)
        else:
            self._wants_now = self._wants
        return known

    def _forget(self, letters: Letters, page: Page) -> None:
        """Take from the known columns the letters that the page has not."""
        if self._known and len(page.uids) < len(letters):
            there = frozenset(page.uids)
            for item, column in self._known.items():
                self._known[item] = [value for uid, value in zip(letters.uids, column, strict=True) if uid in there]

    def _note_damage(self, page: Page) -> None:
        if page.damaged:
            self._is_damaged = True
            self._untold.update(page.damaged)
            self._here.terms.log.error(
                "letters damaged", trace=self._here.peer.trace, mailbox=self._view.mailbox, uids=page.damaged
            )

    # --- writing ----------------------------------------------------------------------------------

    async def _written(self, page: Page, letters: Letters) -> Pieces:
        if not len(letters):
            return []
        engine = self._here.engine
        numbers = letters.uids if engine.is_uid_only else self._view.numbers(letters.uids)
        if self._settles_flags:
            self._view.told_flags(letters.uids)
        if self._has_sections:
            return await self._messages(numbers, page, letters)
        columns = [self._column(item, page, letters) for item in self._items]
        form = fetch_results.row_format(self._items, is_uid_only=engine.is_uid_only)
        return [fetch_results.rows(form, numbers, *columns)]

    @property
    def _settles_flags(self) -> bool:
        """Whether what is told of flags leaves nothing to be told. Of a visitor's it is not known which change they
        have taken in, and with CONDSTORE the mod-sequence is news as well."""
        if not self._tells_flags or not self._here.selected.place.is_own:
            return False
        return Attribute.MODSEQ in self._items or "CONDSTORE" not in self._here.engine.enabled

    def _column(self, item: FetchItem, page: Page, letters: Letters) -> Sequence[object]:
        engine = self._here.engine
        if item in self._known:
            return self._known[item]
        if item is Attribute.FLAGS:
            return telling.flag_words(self._here.selected, self._view, letters, engine)
        if item not in self._forms:
            return fetching_items.column(item, page, letters, is_utf8=engine.is_utf8)
        written = fetching_items.written(item, page, is_utf8=engine.is_utf8)
        self._here.terms.fetching.kept.keep(letters.emails, self._forms[item], written)
        return written

    async def _messages(self, numbers: array[int], page: Page, letters: Letters) -> Pieces:
        plain = {item: self._column(item, page, letters) for item in self._items if not isinstance(item, _SECTIONS)}
        pieces: Pieces = []
        sections = sum(isinstance(item, _SECTIONS) for item in self._items)
        left = SECTIONS
        for index, letter in enumerate(page.letters):
            left -= sections
            if left < 0:
                left = SECTIONS - sections
                await asyncio.sleep(0)
            told: list[bytes | Pieces] = []
            try:
                for item in self._items:
                    match item:
                        case BodySection():
                            told.append(fetching_items.section(item, letter))
                        case BinarySection() | BinarySize():
                            found = await self._here.terms.fetching.decoded(letter, item.path)
                            told.append(fetching_items.binary(item, found))
                        case _:
                            told.append(fetch_results.value(item, plain[item][index]))
            except UnknownEncodingError:
                self._is_undecoded = True
                self._untold.add(letters.uids[index])
                continue
            pieces += fetch_results.message(numbers[index], told, is_uid_only=self._here.engine.is_uid_only)
        return pieces

    # --- the end ----------------------------------------------------------------------------------

    async def end(self) -> None:
        here = self._here
        silent = self._view.within(uidset.from_uids(self._untold.intersection(self._seen)))
        if silent:  # marked, but there was nothing to tell it with
            here.engine.tell([telling.flags(here.selected, self._view, here.engine, silent)])
        await here.news()
        if self._is_damaged:
            here.engine.no("Some letters are damaged on the server, tell its postmaster", codes.CONTACTADMIN)
        elif self._is_undecoded:
            here.engine.no("Some parts have an encoding that nobody knows", codes.UNKNOWN_CTE)
        elif self._is_short and not self._event.by_uid:
            here.engine.no("Some of these letters are no longer there", codes.EXPUNGEISSUED)  # RFC 5530 §3
        else:
            here.engine.ok("That is all")


def cut(pieces: Pieces, limit: int) -> Iterator[Pieces]:
    """In parts of no more than so many octets each: what lies in the store is not copied for it."""
    part: Pieces = []
    room = limit
    for piece in pieces:
        if len(piece) <= room:
            part.append(piece)
            room -= len(piece)
            continue
        view = memoryview(piece)
        while view:
            if not room:
                yield part
                part, room = [], limit
            part.append(view[:room])
            view, room = view[room:], room - len(part[-1])
    yield part


HANDLERS: Handlers = {events.Fetch: fetch}
