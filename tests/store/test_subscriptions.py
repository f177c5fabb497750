# SPDX-License-Identifier: Apache-2.0
"""Names that people are subscribed to, whatever becomes of the mailboxes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from posthouse.store import clearing, integrity, mailboxes, rights, rules, subscriptions
from posthouse.store.refusal import MailboxRefusal, Reason
from tests.store.letterbox import NOW, Box, new_account
from tests.store.plain_database import PlainDatabase


@pytest.fixture
def box() -> Iterator[Box]:
    box = new_account(PlainDatabase())
    yield box
    for rule in rules.RULES:
        assert box.db.look(lambda reader, rule=rule: rules.look(reader, rule, 0, NOW)).wrong == (), rule.says


@pytest.fixture
def carol(box: Box) -> int:
    return new_account(box.db, "carol@bob.test").account


def names(box: Box, person: int) -> list[tuple[str, str]]:
    found = box.db.look(lambda reader: subscriptions.names(reader, person))
    return [(each.owner, each.name) for each in found]


def make(box: Box, name: str, *, is_subscribed: bool = False) -> int:
    return box.db.run(lambda tx: mailboxes.create(tx, box.account, name, NOW, is_subscribed=is_subscribed)).id


def delete(box: Box, name: str) -> None:
    mailbox = box.id(name)
    box.db.run(lambda tx: mailboxes.delete(tx, box.account, mailbox, NOW))


def rename(box: Box, name: str, new: str) -> None:
    mailbox = box.id(name)
    box.db.run(lambda tx: mailboxes.rename(tx, box.account, mailbox, new, NOW))


def test_a_name_stays_subscribed_when_its_mailbox_goes_and_comes_again(box: Box) -> None:
    """RFC 9051 §6.3.7: alerts may be made anew when there are some."""
    make(box, "Alerts", is_subscribed=True)
    make(box, "Plain")
    delete(box, "Alerts")
    delete(box, "Plain")
    assert names(box, box.account) == [("bob@bob.test", "Alerts")]
    make(box, "Alerts/Below")
    assert box.mailbox("Alerts").is_subscribed, "also as a superior of another"
    assert not box.mailbox("Alerts/Below").is_subscribed
    assert names(box, box.account) == []


def test_a_mailbox_that_gets_a_subscribed_name_is_subscribed(box: Box) -> None:
    make(box, "Alerts", is_subscribed=True)
    delete(box, "Alerts")
    make(box, "Plain")
    rename(box, "Plain", "Alerts")
    assert box.mailbox("Alerts").is_subscribed
    assert names(box, box.account) == []


def test_those_who_read_it_too_follow_a_mailbox_to_its_new_name(box: Box, carol: int) -> None:
    make(box, "Work")
    box.db.run(lambda tx: rights.grant(tx, box.account, box.id("Work"), carol, "lr", NOW))
    make(box, "Work/Plans")
    for name in ("Work", "Work/Plans", "Gone"):
        box.db.run(lambda tx, name=name: subscriptions.add(tx, carol, box.account, name))
    rename(box, "Work", "Gone")  # one of them was subscribed under that name, too
    assert names(box, carol) == [("bob@bob.test", "Gone"), ("bob@bob.test", "Gone/Plans")]
    assert names(box, box.account) == []


@pytest.mark.parametrize("negative", ["", "l"])
def test_the_new_name_of_a_mailbox_was_told_to_those_who_may_not_look_it_up(
    box: Box, carol: int, negative: str
) -> None:
    """A subscription followed its mailbox also where its person had lost right l: LSUB told a name that was nothing to
    that person any more."""
    mailbox = make(box, "Plans")
    box.db.run(lambda tx: rights.grant(tx, box.account, mailbox, rights.EVERYBODY, "rl" if negative else "rs", NOW))
    box.db.run(lambda tx: rights.grant(tx, box.account, mailbox, carol, negative, NOW, is_negative=True))
    box.db.run(lambda tx: subscriptions.add(tx, carol, box.account, "Plans"))
    rename(box, "Plans", "Without Carol")
    assert names(box, carol) == [("bob@bob.test", "Plans")]
    box.db.run(lambda tx: rights.grant(tx, box.account, mailbox, carol, "", NOW, is_negative=True))
    box.db.run(lambda tx: rights.grant(tx, box.account, mailbox, rights.EVERYBODY, "rl", NOW))
    rename(box, "Without Carol", "Plans")
    rename(box, "Plans", "For all")
    assert names(box, carol) == [("bob@bob.test", "For all")]


def test_names_go_with_their_person_and_with_the_owner(box: Box, carol: int) -> None:
    box.db.run(lambda tx: subscriptions.add(tx, carol, box.account, "INBOX"))
    box.db.run(lambda tx: subscriptions.add(tx, box.account, carol, "INBOX"))
    box.db.run(lambda tx: clearing.delete_account_mailboxes(tx, carol))
    assert names(box, carol) == names(box, box.account) == []


def test_there_are_not_more_names_than_can_be_listed(box: Box, carol: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "MAX_NAMES", 2)
    for name in ("a", "b"):
        box.db.run(lambda tx, name=name: subscriptions.add(tx, carol, box.account, name))
    with pytest.raises(MailboxRefusal) as refused:
        box.db.run(lambda tx: subscriptions.add(tx, carol, box.account, "c"))
    assert refused.value.reason is Reason.LIMIT
    assert box.db.run(lambda tx: subscriptions.remove(tx, carol, box.account, "a"))
    assert not box.db.run(lambda tx: subscriptions.remove(tx, carol, box.account, "a"))
    monkeypatch.setattr(subscriptions, "MAX_NAMES", 0)
    make(box, "Alerts", is_subscribed=True)
    delete(box, "Alerts")
    assert names(box, box.account) == [], "a deletion does not fail for that"


def test_a_new_mailbox_has_the_rights_of_the_one_above(box: Box, carol: int) -> None:
    """RFC 4314 §4."""
    make(box, "Work")
    box.db.run(lambda tx: rights.grant(tx, box.account, box.id("Work"), carol, "lrk", NOW))
    box.db.run(lambda tx: rights.grant(tx, box.account, box.id("Work"), rights.EVERYBODY, "l", NOW, is_negative=True))
    make(box, "Work/A/B")
    make(box, "Other")
    above = box.db.look(lambda reader: rights.grants(reader, box.id("Work")))
    assert len(above) == 2
    for name in ("Work/A", "Work/A/B"):
        assert box.db.look(lambda reader, name=name: rights.grants(reader, box.id(name))) == above
    assert box.db.look(lambda reader: rights.grants(reader, box.id("Other"))) == []
    assert box.db.look(integrity.check_rest) == []
