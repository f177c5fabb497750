# SPDX-License-Identifier: Apache-2.0
r"""STORE and EXPUNGE (RFC 9051 §6.4.3, §6.4.6, §6.4.9; RFC 7162 §3.1.3).

Invariant: the flags that a STORE answers with are those that the letters have after it; what could not be done to a
letter that has gone is said, and the rest is done.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator

from posthouse.edges.imap import telling
from posthouse.edges.imap.here import Handlers, Here, Pieces
from posthouse.protocol.imap import codes, events
from posthouse.protocol.imap.events import StoreMode
from posthouse.services.mailbox import flag_words
from posthouse.services.mailbox.view import SelectedView
from posthouse.store import uidset
from posthouse.store.flagging import Change, Stored

# Letters answered for in one piece: some three milliseconds, after which others have their turn.
PAGE = 4_000

_CHANGES = {StoreMode.SET: Change.REPLACE, StoreMode.ADD: Change.ADD, StoreMode.REMOVE: Change.REMOVE}


def is_refused(here: Here) -> bool:
    """Whether the mailbox is open for reading only: the command is answered then."""
    if here.selected.is_read_only:
        here.engine.no("This mailbox is open for reading only", codes.READ_ONLY)
    return here.selected.is_read_only


# --- STORE ----------------------------------------------------------------------------------------


async def store(here: Here, event: events.Store) -> None:
    if is_refused(here):
        return
    flags, keywords = flag_words.read(event.flags)
    uids = await here.named(event.numbers, by_uid=event.by_uid)
    if event.unchanged_since is not None:
        here.want_modseq()
    if not uids:
        await here.news()
        here.engine.ok("There is no such message")
        return
    done = await here.terms.storing.store(
        here.selected.place,
        uidset.from_uids(uids),
        _CHANGES[event.mode],
        flags,
        keywords,
        unchanged_since=event.unchanged_since,
        looking=here.selected,
    )
    view = await here.view()
    view.did(done.modseq)
    here.engine.tell(telling.keywords(here.selected))
    gone = array("I", filter(view.is_gone, uids)) if view.has_gone else array("I")
    pages = _pages(here, view, event, done, uids)

    async def ending() -> None:
        code = _modified(view, done, by_uid=event.by_uid)
        here.tell()
        if gone and not event.by_uid:
            here.engine.no("Some of the messages are not there any more", code or codes.EXPUNGEISSUED)
        else:
            here.engine.ok("Not all was as you thought" if code else "Done", code)

    if len(uids) > PAGE:
        await here.stream(pages, ending)
        return
    async for page in pages:
        here.engine.tell(page)
    await ending()


def _modified(view: SelectedView, done: Stored, *, by_uid: bool) -> str:
    """MODIFIED: what changed after the moment that the client named (RFC 7162 §3.1.3)."""
    if not done.stale:
        return ""
    return codes.modified(done.stale if by_uid else uidset.from_uids(view.numbers(view.within(done.stale))))


async def _pages(
    here: Here, view: SelectedView, event: events.Store, done: Stored, uids: array[int]
) -> AsyncIterator[Pieces]:
    """FETCH responses, page by page."""
    has_modseq = "CONDSTORE" in here.engine.enabled
    if event.is_silent and not has_modseq:
        return
    stale = set(uidset.expand(done.stale))
    answered = uids
    if event.is_silent and event.unchanged_since is None:
        # Without the new mod-sequences the client's next conditional STORE would fail because of its own change.
        answered = view.within(done.changed)
    for start in range(0, len(answered), PAGE):
        page = answered[start : start + PAGE]
        silent = page if event.is_silent else array("I")
        full = page if not event.is_silent else array("I")
        if stale and event.is_silent:
            # RFC 7162 §3.1.3: what the client did not know of is told with its flags.
            full = array("I", filter(stale.__contains__, page))
            silent = array("I", (uid for uid in page if uid not in stale))
        written: Pieces = []
        if silent:
            written.append(
                telling.flags(here.selected, view, here.engine, silent, with_uid=event.by_uid, with_flags=False)
            )
        if full:
            written.append(telling.flags(here.selected, view, here.engine, full, with_uid=event.by_uid))
            view.told_flags(full)
        yield written


# --- EXPUNGE --------------------------------------------------------------------------------------


async def expunge(here: Here, event: events.Expunge) -> None:
    if is_refused(here):
        return
    place = here.selected.place
    place.check("e")
    uids = uidset.EVERY_UID
    if event.uids is not None:
        uids = uidset.from_uids(await here.named(event.uids, by_uid=True))
    done = await here.terms.storing.expunge_deleted(place, uids)
    await here.news(is_asked=bool(done.uids))
    here.engine.ok("Done", where_it_is(here) if done.uids else "")


def where_it_is(here: Here) -> str:
    """HIGHESTMODSEQ after letters have gone (RFC 7162 §3.2.7), for clients that know of it."""
    return codes.highest_modseq(here.selected.modseq) if "CONDSTORE" in here.engine.enabled else ""


HANDLERS: Handlers = {
    events.Store: store,
    events.Expunge: expunge,
}
