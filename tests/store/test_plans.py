# SPDX-License-Identifier: Apache-2.0
"""What runs for each letter and each login finds its rows by an index, whatever the size of mailboxes and queue."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from posthouse.store import (
    catalogue,
    clearing,
    flagging,
    letters,
    listing,
    mailboxes,
    messages,
    queue,
    reading,
    rights,
    status,
    subscriptions,
    visitors,
)
from posthouse.store.flagging import Change
from posthouse.store.letters import Place
from tests.services.queue_world import letter_for
from tests.store.letterbox import NOW, PREFIX, Box, letter, new_account
from tests.store.plain_database import PlainDatabase


class _Nothing(dict[str, None]):
    def __missing__(self, key: str) -> None:
        return None


@pytest.fixture
def box() -> Box:
    found = new_account(PlainDatabase())
    for number in range(30):
        found.deliver(message_id=b"<%d@x>" % number, subject=b"s")
    return found


def _deliver(box: Box) -> None:
    new = letter(message_id=b"<new@x>", references=(b"<1@x>",), subject=b"Re: s")
    place = Place(box.account, box.id("INBOX"), PREFIX)
    box.db.run(lambda tx: letters.accept(tx, new, [place], letter_for(["u@bob.test"])))


def _open(box: Box) -> None:
    inbox = box.id("INBOX")
    box.db.look(partial(messages.opening, mailbox=inbox, limit=1))
    drop = box.db.look(partial(messages.maildrop, mailbox=inbox, after=1, below=20, limit=10))
    assert drop is not None
    box.db.look(partial(messages.newcomers, known=drop, limit=100))


def _read(box: Box) -> None:
    email = box.deliver().email
    box.db.look(partial(letters.retrieve, email=email))
    box.db.look(partial(letters.room, account=box.account, size=1))
    box.db.look(partial(listing.page, mailbox=box.id("INBOX"), after=3))


def _remove(box: Box) -> None:
    scattered = tuple((uid, uid) for uid in range(1, 30, 2))
    box.db.run(lambda tx: messages.expunge(tx, box.account, box.id("INBOX"), scattered, now=NOW))


def _select(box: Box) -> None:
    inbox = box.id("INBOX")
    validity = box.mailbox("INBOX").uid_validity
    few = ((3, 5), (9, 9))
    for look in (catalogue.head, catalogue.first_unseen, catalogue.page):
        box.db.look(partial(look, mailbox=inbox))
    box.db.look(partial(catalogue.news, mailbox=inbox, after=1, uid_validity=validity))
    for read in (reading.dated, reading.summed, reading.parsed, reading.letters):
        box.db.look(partial(read, mailbox=inbox, uids=few))
    box.db.run(lambda tx: flagging.store(tx, box.account, inbox, few, Change.ADD, keywords=("a",), now=NOW))
    box.db.run(lambda tx: catalogue.claim_recent(tx, inbox))


def _visit(box: Box) -> None:
    inbox, visitor = box.id("INBOX"), new_account(box.db, "carol@bob.test").account
    box.db.run(lambda tx: rights.grant(tx, box.account, inbox, visitor, "lrs", NOW))
    box.db.look(partial(rights.of_person, mailbox=inbox, person=visitor))
    box.db.look(partial(rights.shared_with, person=visitor))
    box.db.run(lambda tx: visitors.store(tx, box.account, inbox, visitor, ((3, 5),), Change.ADD, flags=1, now=NOW))
    box.db.look(partial(visitors.seen, mailbox=inbox, person=visitor))


def _list(box: Box) -> None:
    visitor = new_account(box.db, "dave@bob.test").account
    work = box.db.run(lambda tx: mailboxes.create(tx, box.account, "Work", NOW, is_subscribed=True)).id
    box.db.run(lambda tx: subscriptions.add(tx, visitor, box.account, "Work"))
    box.db.look(partial(mailboxes.list_all, account=box.account))
    for look in (mailboxes.of_others, status.recent, status.deleted, status.seen, subscriptions.names):
        box.db.look(partial(look, person=visitor))
    box.db.run(lambda tx: mailboxes.rename(tx, box.account, work, "Play", NOW))
    box.db.run(lambda tx: mailboxes.delete(tx, box.account, work, NOW))
    box.db.run(lambda tx: clearing.delete_account_mailboxes(tx, visitor))


def _relay(box: Box) -> None:
    _deliver(box)
    claim = partial(queue.claim_due, next_hop="bob.test", owner="me", max_letters=10)
    claimed = box.db.run(lambda tx: claim(tx, now=NOW * 2, leased_until=NOW * 2))
    assert claimed
    box.db.look(partial(queue.location, letter=claimed[0].id))


@pytest.mark.parametrize("work", [_deliver, _open, _read, _remove, _select, _visit, _list, _relay])
def test_what_each_letter_and_each_login_costs_does_not_grow(box: Box, work: Callable[[Box], None]) -> None:
    seen: dict[str, None] = {}
    box.db.connection.trace_v2(1, lambda event: seen.setdefault(event["sql"]))
    work(box)
    box.db.connection.trace_v2(0, None)
    checked = 0
    for sql in seen:
        if not sql.startswith(("SELECT", "UPDATE", "DELETE", "INSERT")):
            continue
        for *_, step in box.db.connection.execute("EXPLAIN QUERY PLAN " + sql, _Nothing()):
            assert not step.startswith("SCAN") or "CONSTANT" in step, (sql, step)
        checked += 1
    assert checked >= 3
