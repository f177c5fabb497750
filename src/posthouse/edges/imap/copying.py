# SPDX-License-Identifier: Apache-2.0
"""COPY and MOVE (RFC 9051 §6.4.7, §6.4.8).

Invariant: COPY does all or nothing; a letter that MOVE has moved is told with its new UID before it is told as gone.
"""

from __future__ import annotations

from posthouse.edges.imap.here import Handlers, Here
from posthouse.edges.imap.storing import is_refused, where_it_is
from posthouse.protocol.imap import codes, events, responses
from posthouse.services.mailbox.places import Place
from posthouse.store import uidset
from posthouse.store.messages import Copied


async def copy(here: Here, event: events.Copy) -> None:
    target = await here.target(event.mailbox, "i")
    uids = await here.named(event.numbers, by_uid=event.by_uid)
    code, text = "", "Nothing was copied"
    if uids:
        ranges = uidset.from_uids(uids)
        # A UID of nothing is passed over, a number of nothing is a letter that should have been copied.
        done = await here.terms.storing.copy(here.selected.place, ranges, target, needs_all=not event.by_uid)
        code, text = _copy_uid(done, target), "Copied" if done.source else text
    await here.news(is_asked=target.id == here.selected.place.id)
    here.engine.ok(text, code)


async def move(here: Here, event: events.Move) -> None:
    if is_refused(here):
        return
    target = await here.target(event.mailbox, "i")
    here.selected.place.check("te")  # RFC 6851 §4.2
    uids = await here.named(event.numbers, by_uid=event.by_uid)
    if not uids:
        await here.news()
        here.engine.ok("Nothing was moved")
        return
    done = await here.terms.storing.move(here.selected.place, uidset.from_uids(uids), target)
    code = _copy_uid(done, target)
    if code:
        here.engine.tell([responses.ok("Moved", code)])
    await here.news(is_asked=True)
    if not event.by_uid and uidset.size(done.source) < len(uids):
        here.engine.no("Some of the messages were not there any more", codes.EXPUNGEISSUED)
    else:
        here.engine.ok("Done", where_it_is(here) if done.source else "")


def _copy_uid(done: Copied, target: Place) -> str:
    """RFC 4315 §4: not told to those who may not look into the target."""
    return codes.copy_uid(done.uid_validity, done.source, done.target) if done.source and target.may("r") else ""


HANDLERS: Handlers = {
    events.Copy: copy,
    events.Move: move,
}
