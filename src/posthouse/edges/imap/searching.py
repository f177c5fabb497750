# SPDX-License-Identifier: Apache-2.0
"""SEARCH, SORT and THREAD (RFC 9051 §6.4.4, RFC 5256, RFC 5267 §3), and what `$` stands for afterwards (RFC 5182).

Invariant: what is found is told by the numbers that the client knows, and nothing is found that it was not told of.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from posthouse.edges.imap.here import Handlers, Here
from posthouse.mail.search import PartialRange, ReturnOption, SearchKey, asks_modseq
from posthouse.protocol.imap import events, search_results
from posthouse.protocol.imap.search_results import Found
from posthouse.services.mailbox.search import highest_modseq, kept
from posthouse.services.mailbox.view import SelectedView
from posthouse.store.catalogue import Letters

_ALL = frozenset({ReturnOption.ALL})
_ENDS = frozenset({ReturnOption.MIN, ReturnOption.MAX})
_SAVE = frozenset({ReturnOption.SAVE})


async def search(here: Here, event: events.Search) -> None:
    returns = event.returns
    if returns is None and here.engine.is_rev2:
        returns = _ALL  # RFC 9051 §6.4.4: the answer is ESEARCH always
    try:
        letters, uids = await _find(here, event.key)
    except BaseException:
        _forget(here, returns)
        raise
    await _answer(here, event, letters, uids, returns)


async def sort(here: Here, event: events.Sort) -> None:
    try:
        letters, found = await _find(here, event.key)
        uids = await here.terms.sorter.sort(here.selected.place.id, letters, found, event.order)
    except BaseException:
        _forget(here, event.returns)
        raise
    await _answer(here, event, letters, uids, event.returns)


async def thread(here: Here, event: events.Thread) -> None:
    _, found = await _find(here, event.key)
    forest, uids = await here.terms.sorter.thread(here.selected.place.id, found, event.algorithm)
    numbers = uids if event.by_uid else _numbers(await here.view(), uids)
    here.engine.tell([search_results.thread(await here.terms.sorter.written(forest, numbers))])
    await _done(here)


async def _find(here: Here, key: SearchKey) -> tuple[Letters, array[int]]:
    """The letters that the client knows, and the UIDs of those that the program finds, growing."""
    if asks_modseq(key):
        here.want_modseq()  # RFC 7162 §3.1
    view = await here.view()
    await here.look()
    letters = here.selected.visible
    return letters, await here.terms.searcher.find(key, letters, view, here.terms.clock.wall())


def _forget(here: Here, returns: frozenset[ReturnOption] | None) -> None:
    """RFC 5182 §2.1: a search that should have been saved and failed leaves `$` empty."""
    if returns is not None and ReturnOption.SAVE in returns:
        forget_saved(here)


def forget_saved(here: Here) -> None:
    known = here.selected.known_view if here.is_selected else None
    if known is not None:
        known.save(())


async def _answer(
    here: Here,
    event: events.Search | events.Sort,
    letters: Letters,
    uids: array[int],
    returns: frozenset[ReturnOption] | None,
) -> None:
    """`uids` in the order of the answer."""
    view = await here.view()
    if returns is not None and ReturnOption.SAVE in returns:
        view.save(kept(uids, returns, event.partial))
    # SAVE alone says nothing (RFC 5182 §1).
    if returns != _SAVE or event.partial is not None:
        modseq = highest_modseq(letters, _told(uids, returns, event.partial)) if asks_modseq(event.key) else None
        found = Found(uids if event.by_uid else _numbers(view, uids), modseq)
        here.engine.tell([_written(here, event, found, returns)])
    await _done(here)


def _written(
    here: Here, event: events.Search | events.Sort, found: Found, returns: frozenset[ReturnOption] | None
) -> bytes:
    if returns is not None:
        return search_results.esearch(here.engine.tag, found, returns, is_uid=event.by_uid, partial=event.partial)
    return search_results.sort(found) if isinstance(event, events.Sort) else search_results.search(found)


def _told(uids: array[int], returns: frozenset[ReturnOption] | None, partial: PartialRange | None) -> Sequence[int]:
    """Those whose mod-sequences count: where only the ends are told, theirs (RFC 4731 §3.2)."""
    only_ends = returns is not None and partial is None and bool(returns & _ENDS) and not returns - _ENDS - _SAVE
    if returns is None or not only_ends or not uids:
        return uids
    return [end for option, end in ((ReturnOption.MIN, uids[0]), (ReturnOption.MAX, uids[-1])) if option in returns]


def _numbers(view: SelectedView, uids: array[int]) -> Sequence[int]:
    """In any order."""
    growing = array("I", sorted(uids))
    numbers = view.numbers(growing)
    if growing == uids:
        return numbers
    by_uid = dict(zip(growing, numbers, strict=True))
    return [by_uid[uid] for uid in uids]


async def _done(here: Here) -> None:
    await here.news()
    here.engine.ok("Done")


HANDLERS: Handlers = {
    events.Search: search,
    events.Sort: sort,
    events.Thread: thread,
}
