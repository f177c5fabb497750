# SPDX-License-Identifier: Apache-2.0
"""APPEND with several messages, REPLACE and UID REPLACE (RFC 9051 §6.3.12, RFC 3502, RFC 8508).

Invariant: what can be refused before a message comes is refused then; whatever ends early leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from posthouse.edges.imap.here import Handlers, Here
from posthouse.edges.imap.storing import is_refused, where_it_is
from posthouse.mail.number_set import NumberSet
from posthouse.protocol.imap import codes, events, responses
from posthouse.services.mailbox import flag_words
from posthouse.services.mailbox.appending import Batch, Coming
from posthouse.services.mailbox.places import Place
from posthouse.store.appending import Appended
from posthouse.store.refusal import MailboxRefusal, Reason

T = TypeVar("T")

# Octets of a message that comes without leave and is not looked after before it is there: a letter without
# attachments. To say no before it comes is too late, and a look costs as much as half of putting it in.
MAX_UNSEEN = 64 * 1024


async def start(here: Here, event: events.MessageStart) -> None:
    """A message is about to come: go on, or say why not while it still lies with the client."""
    if event.replaces is not None and is_refused(here):
        return
    try:
        if not event.index:
            replaced = None if event.replaces is None else await _replaced(here, *event.replaces)
            here.incoming = here.terms.append_desk.begin(
                here.account, event.mailbox, here.peer.trace, replaced=replaced
            )
        flags, keywords = flag_words.read(event.flags)
        when = event.internal_date
        coming = Coming(
            event.size,
            flags,
            keywords,
            None if when is None else when.timestamp(),
            may_hold_nul=event.is_binary,
        )
        looks = here.engine.is_held_back or event.size > MAX_UNSEEN or event.replaces is not None
        await _said(here, event.mailbox, _batch(here).start(coming, looks=looks))
    except BaseException:
        await _discard(here)
        raise
    here.engine.go_on()


async def _said(here: Here, name: str, work: Awaitable[T]) -> T:
    """TRYCREATE where the mailbox is not there and could be made (RFC 9051 §6.3.12)."""
    try:
        return await work
    except MailboxRefusal as refusal:
        is_missing = refusal.reason is Reason.NONEXISTENT
        if is_missing and await here.terms.places.may_create(here.account, name):
            raise MailboxRefusal(Reason.TRYCREATE, "there is no such mailbox, create it first") from refusal
        raise


async def _replaced(here: Here, number: NumberSet, by_uid: bool) -> tuple[Place, int]:
    """Where the message lies that is to be replaced. Raises MailboxRefusal, and Refusal for a wrong number."""
    selected = here.selected
    selected.place.check("te")  # RFC 8508 §4.1: those of STORE \Deleted and of EXPUNGE
    uids = await here.named(number, by_uid=by_uid)
    if not uids or (await here.view()).is_gone(uids[0]):
        raise MailboxRefusal(
            Reason.EXPUNGEISSUED if uids else Reason.NONEXISTENT,
            "the message that is to be replaced is not there any more",
        )
    return selected.place, uids[0]


async def chunk(here: Here, event: events.MessageChunk) -> None:
    await _batch(here).add(event.data)


async def append_end(here: Here, event: events.AppendEnd) -> None:
    try:
        place, done = await _said(here, event.mailbox, _batch(here).finish())
    finally:
        await _discard(here)
    await _news(here, place)
    here.appended += event.count
    here.engine.ok("Stored", _append_uid(place, done))


async def replace_end(here: Here, event: events.ReplaceEnd) -> None:
    try:
        place, done = await _said(here, event.mailbox, _batch(here).finish())
    finally:
        await _discard(here)
    here.appended += 1
    if code := _append_uid(place, done):
        # RFC 8508 §4.3: before it is told what has gone, the client knows what has come.
        here.engine.tell([responses.ok("It has come", code)])
    await here.news(is_asked=True)
    here.engine.ok("Replaced", where_it_is(here))


def _append_uid(place: Place, done: Appended) -> str:
    """For those who may look into the mailbox."""
    return codes.append_uid(done.uid_validity, done.uids) if place.may("r") else ""


async def _news(here: Here, place: Place) -> None:
    """RFC 9051 §6.3.12: who looks at the mailbox is told at once."""
    await here.news(is_asked=here.is_selected and here.selected.place.id == place.id)


def _batch(here: Here) -> Batch:
    batch = here.incoming
    assert isinstance(batch, Batch), "the engine knows that a message has begun"
    return batch


async def _discard(here: Here) -> None:
    if here.incoming is not None:
        incoming, here.incoming = here.incoming, None
        await incoming.discard()


HANDLERS: Handlers = {
    events.MessageStart: start,
    events.MessageChunk: chunk,
    events.AppendEnd: append_end,
    events.ReplaceEnd: replace_end,
}
