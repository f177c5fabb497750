# SPDX-License-Identifier: Apache-2.0
"""SELECT, EXAMINE, CLOSE, UNSELECT, and IDLE: which mailbox the session looks at, and for how long.

Invariant: what SELECT tells is one moment of the mailbox; what happens after it is told as news.
"""

from __future__ import annotations

from posthouse.edges.imap import telling
from posthouse.edges.imap.here import Handlers, Here
from posthouse.outcome import Refusal
from posthouse.protocol.imap import codes, events, responses
from posthouse.services.mailbox.flag_words import SYSTEM_FLAGS
from posthouse.services.mailbox.listing import special_use
from posthouse.services.mailbox.places import mailbox_id
from posthouse.services.mailbox.selected import Figures, SelectedMailbox
from posthouse.store.catalogue import Head
from posthouse.store.refusal import MailboxRefusal, Reason


async def select(here: Here, event: events.Select) -> None:
    if here.is_selected:
        # RFC 9051 §7.1: from here on what is told belongs to the next mailbox. A SELECT that fails leaves none.
        here.deselect()
        here.engine.tell([responses.ok("The mailbox before is closed", codes.CLOSED)])
    if event.condstore or event.qresync is not None:
        here.want_modseq()
    place = await here.place(event.mailbox, "r")
    is_read_only = event.is_read_only or not any(map(place.may, "swtei"))
    selected, figures = await here.terms.desk.select(
        place, is_read_only=is_read_only, wants_recent=not here.engine.is_rev2
    )
    here.select(selected)
    here.engine.tell(_told(here, selected, figures, event.mailbox))
    if event.qresync is not None:
        try:
            await _resynchronize(here, event.qresync, figures.head)
        except BaseException:
            here.deselect()
            raise
    code = codes.READ_ONLY if is_read_only else codes.READ_WRITE
    here.engine.ok(f"{place.name} is selected", code)


def _told(here: Here, selected: SelectedMailbox, figures: Figures, said: str) -> list[bytes]:
    """RFC 9051 §6.3.2, RFC 3501 §6.3.1."""
    head, place = figures.head, selected.place
    told = [responses.flags((*SYSTEM_FLAGS, *selected.keywords)), responses.exists(head.total)]
    if not here.engine.is_rev2:
        told.append(responses.recent(figures.recent))
    if figures.first_unseen is not None:
        told.append(responses.ok("The first that is not seen", codes.unseen(figures.first_unseen)))
    permanent = telling.permanent_flags(place, selected.keywords, is_read_only=selected.is_read_only)
    told += [
        responses.ok("What may be changed", codes.permanent_flags(permanent)),
        responses.ok("UIDs are valid", codes.uid_validity(head.uid_validity)),
        responses.ok("The next UID", codes.uid_next(head.uid_next)),
        responses.ok("The highest mod-sequence", codes.highest_modseq(head.modseq)),
        responses.ok("For ever", codes.mailbox_id(mailbox_id(place.id))),
    ]
    if here.engine.is_rev2:
        use = special_use(place)
        told.append(telling.name(here.engine, said, place.name, () if use is None else (use,)))
    return told


async def _resynchronize(here: Here, known: events.Qresync, head: Head) -> None:
    """What the client has missed (RFC 7162 §3.2.5); nothing where its UIDs are of another time."""
    if known.uid_validity != head.uid_validity:
        return
    view = await here.view()
    missed = await here.terms.desk.missed(
        here.selected,
        known.mod_sequence,
        known=known.known_uids,
        known_numbers=known.known_numbers,
        known_number_uids=known.known_number_uids,
    )
    if missed.vanished:
        here.engine.tell([responses.vanished(missed.vanished, is_earlier=True)])
    changed = view.within(missed.changed)
    if changed:
        here.engine.tell([telling.flags(here.selected, view, here.engine, changed, with_uid=True, with_modseq=True)])
        view.told_flags(changed)


# --- leaving --------------------------------------------------------------------------------------


async def close(here: Here, _event: events.Close) -> None:
    """Expunge without a word, and leave (RFC 9051 §6.4.1)."""
    selected = here.selected
    place = selected.place
    if not selected.is_read_only and place.may("e"):
        try:
            await here.terms.storing.expunge_deleted(place)
        except MailboxRefusal as refusal:
            if refusal.reason is not Reason.NONEXISTENT:  # it has gone with all its letters: the client leaves it
                raise
    here.deselect()
    here.engine.ok("The mailbox is closed")


async def unselect(here: Here, _event: events.Unselect) -> None:
    here.deselect()
    here.engine.ok("No mailbox is selected")


# --- idling ---------------------------------------------------------------------------------------


async def idle(here: Here, _event: events.Idle) -> None:
    await here.refresh(is_asked=True)
    here.engine.idle()
    here.tell()
    if here.is_selected and here.selected.is_stale:
        here.wake()  # it happened during that look, when the session was not idle yet and nobody woke it


async def idle_done(here: Here, _event: events.IdleDone) -> None:
    await here.news()
    here.engine.ok("Idle no more")


async def woken(here: Here) -> None:
    """Something has happened while the client is idle."""
    try:
        await here.news()
    except Refusal:
        here.engine.bye("The mailbox has been deleted")


HANDLERS: Handlers = {
    events.Select: select,
    events.Close: close,
    events.Unselect: unselect,
    events.Idle: idle,
    events.IdleDone: idle_done,
}
