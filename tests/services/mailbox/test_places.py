# SPDX-License-Identifier: Apache-2.0
"""Mailboxes by the names that each person has for them."""

from __future__ import annotations

import pytest

from posthouse.mail.address import parse_address
from posthouse.services.directory import Account
from posthouse.services.mailbox.places import Place, Places
from posthouse.store import mailboxes, rights
from posthouse.store.rights import EVERYBODY
from tests.store.letterbox import NOW, new_account
from tests.store.plain_database import PlainDatabase

STRANGE = '"a@b/c"@bob.test'


class World:
    """Three people of one domain, and one whose name looks like a path."""

    def __init__(self) -> None:
        db = PlainDatabase()
        self.boxes = {
            name: new_account(db, name) for name in ("bob@bob.test", "carol@bob.test", "shared@bob.test", STRANGE)
        }
        self.db = db
        self.places = Places(db)  # type: ignore[arg-type]  # only visits within the database are made here

    def account(self, name: str) -> Account:
        number = self.boxes[name].account
        return Account(number, name, parse_address(name), True, None, "en", False, inbox=0)

    def share(self, owner: str, name: str, letters: str, person: str = "") -> None:
        box = self.boxes[owner]
        who = self.boxes[person].account if person else EVERYBODY
        if name != "INBOX":
            self.db.run(lambda tx: mailboxes.create(tx, box.account, name, NOW))
        self.db.run(lambda tx: rights.grant(tx, box.account, box.id(name), who, letters, NOW))

    def look(self, person: str, name: str) -> Place | None:
        account = self.account(person)
        return self.db.look(lambda reader: self.places.look(reader, account, name))

    def all(self, person: str) -> list[str]:
        account = self.account(person)
        return [place.name for place in self.db.look(lambda reader: self.places.list_all(reader, account))]


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("owner", "mailbox", "name"),
    [
        ("bob@bob.test", "Work", "Other Users/bob@bob.test/Work"),
        ("bob@bob.test", "INBOX", "Other Users/bob@bob.test/INBOX"),
        ("bob@bob.test", "A/B", "Other Users/bob@bob.test/A/B"),
        ("shared@bob.test", "Sales/2026", "Shared/Sales/2026"),
        (STRANGE, "Work", f"Other Users/{STRANGE}/Work"),
    ],
)
def test_every_name_that_is_listed_is_found(world: World, owner: str, mailbox: str, name: str) -> None:
    world.share(owner, mailbox, "lr", "carol@bob.test")
    assert world.all("carol@bob.test")[-1] == name
    found = world.look("carol@bob.test", name)
    assert found is not None
    assert (found.name, found.rights, found.mailbox.name) == (name, "lr", mailbox)
    assert found.owner == world.boxes[owner].account
    assert not found.is_own
    assert world.look("bob@bob.test", name) is None, "bob was given nothing"


@pytest.mark.parametrize(
    "name",
    [
        "Other Users/bob@bob.test/inbox",
        "Other Users/bob@bob.test/INBOX/",
    ],
)
def test_inbox_of_others_has_no_case_either(world: World, name: str) -> None:
    world.share("bob@bob.test", "INBOX", "lr")
    found = world.look("carol@bob.test", name)
    assert found is not None
    assert found.name == "Other Users/bob@bob.test/INBOX"


@pytest.mark.parametrize(
    "name",
    [
        "Other Users",
        "Other Users/",
        "Other Users/bob@bob.test",
        "Other Users/bob@bob.test/",
        "Other Users/bob@bob.test/Nothing",
        "Other Users/nobody@bob.test/Work",
        "Other Users/carol@bob.test/INBOX",  # her own has another name
        "Other Users/shared@bob.test/Sales",  # these are under Shared
        "other users/bob@bob.test/Work",
        "Shared",
        "Shared/",
        "Shared/Work",
    ],
)
def test_what_is_not_listed_is_not_found(world: World, name: str) -> None:
    for owner, mailbox in (("bob@bob.test", "Work"), ("shared@bob.test", "Sales")):
        world.share(owner, mailbox, "lr")
    assert world.look("carol@bob.test", name) is None


def test_the_nearest_mailbox_above(world: World) -> None:
    world.share("bob@bob.test", "Work", "lk")
    account = world.account("carol@bob.test")

    def above(name: str) -> str | None:
        found = world.db.look(lambda reader: world.places.above(reader, account, name))
        return None if found is None else found.name

    assert above("Other Users/bob@bob.test/Work/A/B") == "Other Users/bob@bob.test/Work"
    assert above("Other Users/bob@bob.test/Work") is None
    assert above("Shared/A") is None
    assert above("INBOX/A") == "INBOX"
    assert above("A") is None
