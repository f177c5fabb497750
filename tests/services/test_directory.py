# SPDX-License-Identifier: Apache-2.0
"""The cached directory: cheap when nothing changed, right as soon as something did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from posthouse.mail.address import Address, parse_address
from posthouse.outcome import BAD_MAILBOX
from posthouse.ports import Change, Reader
from posthouse.services import directory
from posthouse.services.bounded import Bounded
from posthouse.services.directory import Directory
from tests.services.world import World

ALICE = parse_address("alice@example.test")


@pytest.fixture
async def world() -> World:
    world = World()
    await world.administration.add_domain("example.test")
    await world.administration.add_account("alice@example.test", is_admin=True)
    await world.administration.add_account("bob@example.test")
    return world


async def may_send(world: World, name: str, text: str, office: Directory | None = None) -> bool:
    account = await world.directory.account(name)
    assert account is not None
    return await (office or world.directory).may_send_as(account, parse_address(text))


def finish(coroutine: Any) -> Any:
    """Run a coroutine that must not suspend."""
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)
    return done.value.value


async def test_the_second_look_up_asks_no_database_and_does_not_suspend(world: World) -> None:
    for text in ("alice@example.test", "nobody@example.test", "x@elsewhere.test"):
        address = parse_address(text)
        first = await world.directory.resolve(address)
        before = world.database.reads
        assert finish(world.directory.resolve(address)) == first
        assert world.database.reads == before
    account = await world.directory.account("alice@example.test")
    assert finish(world.directory.account("alice@example.test")) == account
    assert finish(world.directory.is_local_domain("example.test")) is True
    assert await world.directory.may_send_as(account, ALICE)
    assert finish(world.directory.may_send_as(account, ALICE)) is True


async def test_the_answer_names_the_address_as_it_was_asked(world: World) -> None:
    await world.directory.resolve(ALICE)
    asked = Address("Alice", ALICE.domain)
    found = await world.directory.resolve(asked)
    assert found.address == asked
    assert found.accounts[0].name == "alice@example.test"


async def test_every_verb_is_seen_at_once(world: World) -> None:
    do, resolve = world.administration, world.directory.resolve

    async def reaches(text: str) -> list[str] | str:
        found = await resolve(parse_address(text))
        return str(found.status) if found.status else [each.name for each in found.accounts]

    assert await reaches("carol@example.test") == "5.1.1"
    await do.add_account("carol@example.test")
    assert await reaches("carol@example.test") == ["carol@example.test"]
    await do.disable("carol@example.test")
    assert await reaches("carol@example.test") == "5.2.1"
    await do.enable("carol@example.test")
    assert await reaches("carol@example.test") == ["carol@example.test"]
    assert await reaches("team@example.test") == "5.1.1"
    await do.add_alias("team@example.test", ["carol@example.test", "bob@example.test"])
    assert await reaches("team@example.test") == ["carol@example.test", "bob@example.test"]
    await do.remove_account("carol@example.test")
    assert await reaches("team@example.test") == ["bob@example.test"]
    await do.set_catch_all("example.test", "bob@example.test")
    assert await reaches("carol@example.test") == ["bob@example.test"]
    assert not (await resolve(parse_address("bob@example.net"))).domain_is_local
    await do.add_domain("example.net", alias_of="example.test")
    assert await reaches("bob@example.net") == ["bob@example.test"]
    await do.set_quota("bob@example.test", 10)
    account = await world.directory.account("bob@example.test")
    assert account is not None
    assert account.quota == 10
    await do.remove_domain("example.net")
    assert not await world.directory.is_local_domain("example.net")


async def test_an_answer_older_than_a_change_is_not_kept(world: World) -> None:
    """The reader thread answers after the change was published: the next question asks again."""
    read = world.database.read

    async def overtaken(query: Callable[[Reader], Any]) -> Any:
        answer = await read(query)
        await world.administration.disable("alice@example.test")
        return answer

    assert await world.directory.is_local_domain("example.test")
    world.database.read = overtaken  # type: ignore[method-assign]  # stands in between
    old = await world.directory.resolve(ALICE)
    assert old.status is None
    world.database.read = read  # type: ignore[method-assign]  # as it was
    assert (await world.directory.resolve(ALICE)).status is not None


async def test_a_closed_directory_no_longer_listens(world: World) -> None:
    await world.directory.resolve(ALICE)
    world.directory.close()
    world.bus.publish(Change("directory"))
    finish(world.directory.resolve(ALICE))


async def test_postmaster_without_a_domain_is_the_servers(world: World) -> None:
    found = await world.directory.postmaster()
    assert [each.name for each in found.accounts] == ["alice@example.test"]
    assert await world.directory.is_local_domain("mail.example.test")
    other = await world.directory.resolve(parse_address("alice@mail.example.test"))
    assert other.status == BAD_MAILBOX


async def test_login_names(world: World) -> None:
    assert (await world.directory.account("ALICE@example.test")) is not None
    assert (await world.directory.account("alice+x@example.test")) is None
    assert (await world.directory.account("alice")) is None
    assert (await world.directory.account("not an address@")) is None
    short = Directory(world.database, world.bus, hostname="mail.example.test", default_domain="example.test")
    found = await short.account("alice")
    assert found is not None
    assert found.name == "alice@example.test"


async def test_who_may_send_as_what(world: World) -> None:
    await world.administration.add_domain("example.net", alias_of="example.test")
    await world.administration.add_alias("team@example.test", ["alice@example.test", "x@elsewhere.test"])
    assert await may_send(world, "alice@example.test", "Alice+list@example.net")
    assert not await may_send(world, "alice@example.test", "bob@example.test")
    assert not await may_send(world, "alice@example.test", "x@elsewhere.test")
    assert await may_send(world, "alice@example.test", "team@example.test")
    assert not await may_send(world, "bob@example.test", "team@example.test")
    strict = Directory(world.database, world.bus, hostname="mail.example.test", alias_may_send=False)
    assert not await may_send(world, "alice@example.test", "team@example.test", strict)
    assert await may_send(world, "alice@example.test", "alice@example.test", strict)


async def test_strangers_cannot_make_the_cache_grow(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "MAX_CACHED_ADDRESSES", 10)
    small = Directory(world.database, world.bus, hostname="mail.example.test")
    for number in range(50):
        await small.resolve(parse_address(f"n{number}@example.test"))
    assert len(small._resolutions) == 10


async def test_made_up_names_of_a_large_list_do_not_fill_the_memory(world: World) -> None:
    """list+1@, list+2@ … each hold all members: they must not take the ten thousand places of single addresses."""
    members = [f"u{number}@elsewhere.test" for number in range(directory.SMALL + 1)]
    await world.administration.add_alias("list@example.test", members)
    for number in range(directory.MAX_CACHED_LISTS + 20):
        found = await world.directory.resolve(parse_address(f"list+{number}@example.test"))
        assert len(found.remote) == len(members)
    assert len(world.directory._resolutions) == 0
    assert len(world.directory._lists) == directory.MAX_CACHED_LISTS
    before = world.database.reads
    assert (await world.directory.resolve(found.address)) == found
    assert world.database.reads == before
    await world.administration.remove_alias("list@example.test")
    assert (await world.directory.resolve(found.address)).status == BAD_MAILBOX


def test_a_bounded_dict_lets_the_oldest_unused_entry_go() -> None:
    bounded: Bounded[str, int] = Bounded(2)
    bounded.put("a", 1)
    bounded.put("b", 2)
    assert bounded.get("a") == 1
    bounded.put("c", 3)
    assert (bounded.get("a"), bounded.get("b"), bounded.get("c")) == (1, None, 3)
    bounded.put("c", 4)
    assert len(bounded) == 2
    bounded.drop("a")
    bounded.drop("missing")
    assert bounded.get("a") is None
    bounded.clear()
    assert len(bounded) == 0


async def test_detail_forms_of_a_list_share_its_members(world: World) -> None:
    """A stranger who writes to list+1@, list+2@, … had a thousand members looked up anew for each."""
    do, resolve = world.administration, world.directory.resolve
    names = [f"m{number}@example.test" for number in range(40)]
    for name in names:
        await do.add_account(name)
    await do.add_alias("list@example.test", names)
    whole = await resolve(parse_address("list@example.test"))
    assert [each.name for each in whole.accounts] == names
    before = world.database.reads
    for number in range(10):
        found = await resolve(parse_address(f"list+{number}@example.test"))
        assert found == replace(whole, address=parse_address(f"list+{number}@example.test"))
        assert world.database.last_statements <= 2
    assert world.database.reads - before == 10
    await do.add_alias("list+own@example.test", names[:1])
    assert len((await resolve(parse_address("list+own@example.test"))).accounts) == 1, "a row of its own decides"


async def test_a_list_is_looked_up_with_one_statement_for_each_member(world: World) -> None:
    names = [f"m{number}@example.test" for number in range(30)]
    for name in names:
        await world.administration.add_account(name)
    await world.administration.add_alias("list@example.test", names)
    assert len((await world.directory.resolve(parse_address("list@example.test"))).accounts) == 30
    assert world.database.last_statements <= len(names) + 5
