# SPDX-License-Identifier: Apache-2.0
"""What listing costs others; what it tells: tests/system/test_imap_listing.py."""

from __future__ import annotations

import asyncio
from functools import partial

from posthouse.services.mailbox import listing
from posthouse.store import letters, status
from posthouse.store.flagging import Change
from posthouse.store.flags import DELETED, SEEN
from posthouse.store.letters import Place
from posthouse.store.rights import grant
from posthouse.store.visitors import store
from tests.store.letterbox import NOW, PREFIX, Box, letter, new_account
from tests.store.plain_database import PlainDatabase


async def test_others_have_their_turn_while_thousands_of_names_are_matched() -> None:
    """One LIST with 64 patterns over 5,000 names of a thousand characters took minutes in one piece."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    names = [f"{number:03}{'x' * 997}" for number in range(100)]
    patterns = ("%y", "*y*", "00%")
    assert await listing._matching(names, patterns) == names[:10]
    assert turns >= 100 * 1_000 * len(patterns) // (listing.STEPS + 3_000)
    task.cancel()


def test_figures_of_many_mailboxes_are_those_of_each() -> None:
    bob = new_account(PlainDatabase())
    carol = new_account(bob.db, "carol@bob.test")
    _put(bob, "INBOX", DELETED, 0, SEEN)
    _put(bob, "Archive", SEEN | DELETED)
    _put(carol, "INBOX", 0)
    bob.db.run(lambda tx: grant(tx, bob.account, bob.id("INBOX"), carol.account, "lrs", NOW))
    bob.db.run(
        lambda tx: store(tx, bob.account, bob.id("INBOX"), carol.account, ((1, 2),), Change.ADD, flags=SEEN, now=NOW)
    )
    size = len(PREFIX) + letter().content.size
    inbox, archive, hers = bob.id("INBOX"), bob.id("Archive"), carol.id("INBOX")
    look = bob.db.look
    assert look(lambda reader: status.recent(reader, bob.account)) == {inbox: 3, archive: 1}
    assert look(lambda reader: status.recent(reader, carol.account)) == {inbox: 3, hers: 1}
    assert look(lambda reader: status.deleted(reader, bob.account)) == {inbox: (1, size), archive: (1, size)}
    assert look(lambda reader: status.deleted(reader, carol.account)) == {inbox: (1, size)}
    assert look(lambda reader: status.seen(reader, carol.account)) == {inbox: 2}
    assert look(lambda reader: status.seen(reader, bob.account)) == {}


def _put(box: Box, mailbox: str, *flags: int) -> None:
    for each in flags:
        place = Place(box.account, box.id(mailbox), PREFIX, each)
        box.db.run(partial(letters.accept, letter=letter(), places=[place]))
