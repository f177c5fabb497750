# SPDX-License-Identifier: Apache-2.0
"""CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE.

Invariant: clients of IMAP4rev2 are told the name that a mailbox has where it is not the one they said (OLDNAME).
"""

from __future__ import annotations

from collections.abc import Sequence

from posthouse.edges.imap import telling
from posthouse.edges.imap.here import Handlers, Here
from posthouse.protocol.imap import codes, events, responses
from posthouse.services.mailbox.places import mailbox_id
from posthouse.store.mailboxes import SEPARATOR
from posthouse.store.refusal import MailboxRefusal, Reason


async def create(here: Here, event: events.Create) -> None:
    if len(event.special_uses) > 1:  # RFC 6154 §3: what cannot be combined is refused
        raise MailboxRefusal(Reason.USEATTR, "a mailbox has one special use")
    use = event.special_uses[0] if event.special_uses else None
    place = await here.terms.folders.create(here.account, event.mailbox, use)
    _tell_name(here, event.mailbox, place.name)
    await here.news()
    here.engine.ok(f"{place.name} is there", codes.mailbox_id(mailbox_id(place.id)))  # RFC 8474 §4.1


async def delete(here: Here, event: events.Delete) -> None:
    place = await here.terms.folders.delete(here.account, event.mailbox)
    _tell_name(here, event.mailbox, place.name, ("\\NonExistent",))
    await _look_after_selected(here)
    here.engine.ok(f"{place.name} is gone")


async def rename(here: Here, event: events.Rename) -> None:
    renamed = await here.terms.folders.rename(here.account, event.mailbox, event.new_name)
    if here.engine.is_rev2 and not renamed.old.mailbox.is_inbox:  # RFC 9051 §6.3.6
        _tell_name(here, event.mailbox, renamed.new.name)
    await _look_after_selected(here)
    here.engine.ok(f"It is {renamed.new.name} now")


def _tell_name(here: Here, said: str, name: str, attributes: Sequence[str] = ()) -> None:
    if here.engine.is_rev2 and said.removesuffix(SEPARATOR) != name:
        here.engine.tell([telling.name(here.engine, said, name, attributes)])


async def _look_after_selected(here: Here) -> None:
    """What this very session has selected may be gone: it goes on without, where others are sent away."""
    await here.refresh(is_asked=True)
    if here.is_selected and here.selected.is_gone:
        here.deselect()
        here.engine.deselected()
        here.engine.tell([responses.ok("The mailbox has been deleted", codes.CLOSED)])
        return
    here.tell()


async def subscribe(here: Here, event: events.Subscribe) -> None:
    await here.terms.folders.subscribe(here.account, event.mailbox)
    await here.news()
    here.engine.ok("Subscribed")


async def unsubscribe(here: Here, event: events.Unsubscribe) -> None:
    await here.terms.folders.unsubscribe(here.account, event.mailbox)
    await here.news()
    here.engine.ok("Not subscribed")


HANDLERS: Handlers = {
    events.Create: create,
    events.Delete: delete,
    events.Rename: rename,
    events.Subscribe: subscribe,
    events.Unsubscribe: unsubscribe,
}
