# SPDX-License-Identifier: Apache-2.0
"""Who is logged in: dismissed when the account's welcome ends, also in the middle of a login; never too many."""

from __future__ import annotations

import pytest

from posthouse.mail.address import parse_address
from posthouse.outcome import Refusal
from posthouse.ports import Change
from posthouse.services.presence import Presence
from posthouse.store.lookup import Account
from posthouse.store.refusal import MailboxRefusal, Reason
from tests.fakes import FakeBus


def account(number: int) -> Account:
    address = parse_address(f"a{number}@bob.test")
    return Account(number, str(address), address, is_active=True, quota=None, language="en", is_admin=False, inbox=1)


async def test_every_session_of_the_account_is_told_once_and_no_other() -> None:
    bus, told = FakeBus(), []
    presence = Presence(bus, per_account=5)
    for name, number in (("a", 1), ("b", 1), ("c", 2)):
        presence.enter(account(number), presence.mark, lambda name=name: told.append(name))
    bus.publish(Change("credentials", 1))
    assert told == ["a", "b"]
    bus.publish(Change("directory"))
    bus.publish(Change("credentials", 3))
    assert told == ["a", "b"]


async def test_who_has_left_is_not_told() -> None:
    bus, told = FakeBus(), []
    presence = Presence(bus, per_account=5)
    leave = presence.enter(account(1), presence.mark, lambda: told.append(1))
    leave()
    leave()
    bus.publish(Change("credentials", 1))
    assert (told, presence.of(1)) == ([], 0)


async def test_a_password_that_changes_while_it_is_checked_lets_nobody_in() -> None:
    """The old one was right when it was looked at, and the session would have stayed for ever."""
    bus = FakeBus()
    presence = Presence(bus, per_account=5)
    mark = presence.mark
    bus.publish(Change("credentials", 1))
    with pytest.raises(Refusal) as refused:
        presence.enter(account(1), mark, lambda: None)
    assert refused.value.status.is_transient
    presence.enter(account(2), mark, lambda: None)
    presence.enter(account(1), presence.mark, lambda: None)
    assert (presence.of(1), presence.of(2)) == (1, 1)


async def test_there_are_never_too_many() -> None:
    presence = Presence(FakeBus(), per_account=2)
    leave = presence.enter(account(1), 0, lambda: None)
    presence.enter(account(1), 0, lambda: None)
    with pytest.raises(MailboxRefusal) as refused:
        presence.enter(account(1), 0, lambda: None)
    assert refused.value.reason is Reason.LIMIT
    leave()
    presence.enter(account(1), 0, lambda: None)
    assert presence.of(1) == 2
