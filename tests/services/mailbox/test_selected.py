# SPDX-License-Identifier: Apache-2.0
"""A selected mailbox: what its client has missed before, and what happens while that is looked up."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.ports import Change as Hint
from posthouse.ports import StoreFault
from posthouse.services.mailbox.places import Place
from posthouse.services.mailbox.resync import Missed
from posthouse.services.mailbox.selected import SelectDesk, SelectedMailbox
from posthouse.services.mailbox.view import Changed, Told, Vanished
from posthouse.store import messages, rights, visitors
from posthouse.store.flagging import Change
from posthouse.store.flags import SEEN
from posthouse.store.uidset import EVERY_UID, Ranges
from tests.fakes import FakeBus
from tests.store.letterbox import NOW, Box, new_account
from tests.store.plain_database import PlainDatabase


def expunge(box: Box, uids: Ranges) -> None:
    box.db.run(lambda tx: messages.expunge(tx, box.account, box.id("INBOX"), uids, now=NOW))


def test_what_goes_while_a_client_comes_back_was_told_twice() -> None:
    """A letter that SELECT had counted and that went before the journal was read was told as VANISHED (EARLIER), which
    does not count, and then as VANISHED, which does (RFC 7162 §3.2.10): a client that had forgotten it by then could
    not say which number it had."""
    box = new_account(PlainDatabase())
    for _ in range(4):
        box.deliver()
    since = box.mailbox("INBOX").modseq
    expunge(box, ((1, 1),))
    desk = SelectDesk(box.db, FakeBus())
    place = Place(box.mailbox("INBOX"), box.account, "INBOX", rights.EVERY)

    async def come_back() -> tuple[Missed, list[Told]]:
        selected: SelectedMailbox
        selected, _ = await desk.select(place, is_read_only=False, wants_recent=False)
        selected.uses_vanished = True
        view = await selected.view()
        expunge(box, ((3, 3),))
        missed = await desk.missed(selected, since, known=None, known_numbers=None, known_number_uids=None)
        await selected.refresh()
        return missed, view.tell(expunges=True)

    missed, told = asyncio.run(come_back())
    assert missed.vanished == ((1, 1),)
    assert told == [Vanished(((3, 3),))]


@pytest.mark.parametrize("has_view", [False, True])
def test_news_were_forgotten_when_the_look_at_them_failed(monkeypatch: pytest.MonkeyPatch, *, has_view: bool) -> None:
    """The mailbox no longer counted as stale: a letter that had come was not told before the next one came."""
    box = new_account(PlainDatabase())
    bus = FakeBus()
    desk = SelectDesk(box.db, bus)
    place = Place(box.mailbox("INBOX"), box.account, "INBOX", rights.EVERY)

    async def fails(*_: object) -> None:
        raise StoreFault("the disk does not answer")

    async def look() -> None:
        selected, _ = await desk.select(place, is_read_only=False, wants_recent=False)
        if has_view:
            await selected.view()
        bus.publish(Hint("account", box.account))
        for name in ("read", "write"):
            with monkeypatch.context() as patch:
                patch.setattr(box.db, name, fails)
                with pytest.raises(StoreFault):
                    await (selected.refresh() if name == "read" else selected.write(lambda _: None))
            assert selected.is_stale
        await selected.refresh()
        assert not selected.is_stale

    asyncio.run(look())


def test_what_a_visitor_had_seen_elsewhere_was_lost_where_another_session_had_looked_first() -> None:
    r"""The view learned of the change by the other session's look, and the flags that were told were still those of
    the visitor's own last look: the \Seen that another session of the same visitor had set was never told."""
    db = PlainDatabase()
    box, visitor = new_account(db), new_account(db, "carol@bob.test").account
    box.deliver()
    mailbox = box.id("INBOX")
    db.run(lambda tx: rights.grant(tx, box.account, mailbox, visitor, "lrs", NOW))
    desk = SelectDesk(db, FakeBus())
    place = Place(box.mailbox("INBOX"), visitor, "Other Users/bob@bob.test/INBOX", "lrs")

    async def look(*, is_fetched: bool) -> tuple[list[Told], list[Told]]:
        one, other = [
            (await desk.select(place, is_read_only=False, wants_recent=False))[0] for _ in ("here", "elsewhere")
        ]
        view = await one.view()
        await other.view()
        change = Change.REMOVE if is_fetched else Change.ADD
        db.run(lambda tx: visitors.store(tx, box.account, mailbox, visitor, EVERY_UID, change, flags=SEEN, now=NOW))
        await other.refresh()
        if is_fetched:
            view.told_flags(view.uids)  # by a FETCH that had begun before
        before = view.tell(expunges=True)
        await one.refresh()
        return before, view.tell(expunges=True)

    for is_fetched in (False, True):
        before, after = asyncio.run(look(is_fetched=is_fetched))
        assert before == []
        (changed,) = after
        assert isinstance(changed, Changed)
        assert list(changed.uids) == [1]
