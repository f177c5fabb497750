# SPDX-License-Identifier: Apache-2.0
"""LIST in all its forms, LSUB, STATUS (RFC 9051 §6.3.9, RFC 5258, RFC 5819, RFC 6154, RFC 8440).

Invariant: the names of one answer are one moment; how many there are does not matter to others, who have their turn
between pages of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable

from posthouse.edges.imap.here import Handlers, Here
from posthouse.protocol.imap import events, responses
from posthouse.protocol.imap.events import StatusItem
from posthouse.services.mailbox.listing import Figures, Listed, Question, Wanted, special_use
from posthouse.services.mailbox.places import mailbox_id
from posthouse.store import rights

ROOT = ""

_Told = list[tuple[StatusItem, Callable[[Figures], int | str]]]


async def list_names(here: Here, event: events.List) -> None:
    if not event.is_extended and event.patterns == (ROOT,):
        # RFC 9051 §6.3.9: what stands between levels, and where names begin.
        here.engine.tell([responses.list_row(ROOT, ("\\Noselect",))])
        await _end(here)
        return
    if StatusItem.HIGHESTMODSEQ in event.status:
        here.want_modseq()
    question = Question(
        patterns=tuple(event.reference + pattern for pattern in event.patterns if pattern),
        only_subscribed=event.only_subscribed,
        only_special_use=event.only_special_use,
        recursive_match=event.recursive_match,
        figures=_wanted(event.status) if event.status else None,
    )
    await _tell(here, here.terms.listing.pages(here.account, question), event)


async def _tell(here: Here, listed: AsyncIterator[list[Listed]], event: events.List) -> None:
    told = _told(here, event.status)

    async def pages() -> AsyncIterator[list[bytes | memoryview]]:
        async for page in listed:
            yield [row for each in page for row in _rows(here, each, event, told)]

    async def ending() -> None:
        await _end(here)

    await here.stream(pages(), ending)


async def _end(here: Here) -> None:
    await here.news()
    here.engine.ok("That is all")


def _rows(here: Here, listed: Listed, event: events.List, told: _Told) -> Iterable[bytes]:
    is_utf8 = here.engine.is_utf8
    words: list[str] = []
    if listed.place is None:
        # RFC 9051 §7.3.1: the first means the second, which older clients know.
        words += ("\\NonExistent", "\\Noselect") if event.is_extended or here.engine.is_rev2 else ("\\Noselect",)
    words.append("\\HasChildren" if listed.has_children else "\\HasNoChildren")
    if listed.is_subscribed and (event.tell_subscribed or event.only_subscribed):
        words.append("\\Subscribed")
    use = None if listed.place is None else special_use(listed.place)
    if use is not None:
        words.append(use)  # RFC 6154 §2: also to those that did not ask
    extended = []
    if listed.has_matching_child:
        options = ("SUBSCRIBED", event.only_subscribed), ("SPECIAL-USE", event.only_special_use)
        extended.append(responses.child_info(option for option, is_said in options if is_said))
    yield responses.list_row(listed.name, words, is_utf8=is_utf8, extended=extended)
    if event.tell_my_rights and listed.place is not None:  # RFC 8440 §3
        yield responses.my_rights(listed.name, rights.shown(listed.place.rights), is_utf8=is_utf8)
    if listed.figures is not None:  # RFC 5819 §2: not of what cannot be selected
        yield _status_row(here, listed.name, told, listed.figures)


async def lsub(here: Here, event: events.Lsub) -> None:
    """RFC 3501 §6.3.9."""
    if not event.pattern:
        here.engine.tell([responses.lsub_row(ROOT, ("\\Noselect",))])
        await _end(here)
        return
    listed = await here.terms.listing.subscribed(here.account, event.reference + event.pattern)
    is_utf8 = here.engine.is_utf8
    here.engine.tell(
        responses.lsub_row(each.name, () if each.is_subscribed else ("\\Noselect",), is_utf8=is_utf8) for each in listed
    )
    await _end(here)


# --- STATUS ---------------------------------------------------------------------------------------


async def status(here: Here, event: events.Status) -> None:
    if StatusItem.HIGHESTMODSEQ in event.items:
        here.want_modseq()
    place, figures = await here.terms.listing.status(here.account, event.mailbox, _wanted(event.items))
    here.engine.tell([_status_row(here, place.name, _told(here, event.items), figures)])
    await _end(here)


def _wanted(items: tuple[StatusItem, ...]) -> Wanted:
    return Wanted(
        recent=StatusItem.RECENT in items,
        deleted=StatusItem.DELETED in items or StatusItem.DELETED_STORAGE in items,
    )


_FIGURES: dict[StatusItem, Callable[[Figures], int | str]] = {
    StatusItem.MESSAGES: lambda figures: figures.mailbox.total,
    StatusItem.RECENT: lambda figures: figures.recent,
    StatusItem.UIDNEXT: lambda figures: figures.mailbox.uid_next,
    StatusItem.UIDVALIDITY: lambda figures: figures.mailbox.uid_validity,
    StatusItem.UNSEEN: lambda figures: figures.unseen,
    StatusItem.DELETED: lambda figures: figures.deleted,
    StatusItem.DELETED_STORAGE: lambda figures: figures.deleted_octets,
    StatusItem.SIZE: lambda figures: figures.mailbox.octets,
    StatusItem.HIGHESTMODSEQ: lambda figures: figures.mailbox.modseq,
    StatusItem.MAILBOXID: lambda figures: mailbox_id(figures.mailbox.id),
}


def _told(here: Here, items: tuple[StatusItem, ...]) -> _Told:
    """In the order in which they were asked for."""
    limit = here.terms.append_limit
    return [(item, _FIGURES.get(item, lambda _figures: limit)) for item in items]


def _status_row(here: Here, name: str, told: _Told, figures: Figures) -> bytes:
    return responses.status(name, {item: of(figures) for item, of in told}, is_utf8=here.engine.is_utf8)


HANDLERS: Handlers = {
    events.List: list_names,
    events.Lsub: lsub,
    events.Status: status,
}
