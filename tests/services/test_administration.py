# SPDX-License-Identifier: Apache-2.0
"""The administrator's verbs: one unit each (but for what may be large), a hint after it, plain words for refusals."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Awaitable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key

from posthouse.outcome import BAD_ADDRESS_SYNTAX, INVALID_ARGUMENTS, Refusal
from posthouse.ports import Change
from posthouse.services.keys import DomainKeys
from posthouse.store import clearing, directory, letters, mailboxes
from posthouse.store.letters import Place
from tests.services.world import EDGE, World
from tests.store.letterbox import letter


@pytest.fixture
async def world() -> World:
    world = World()
    await world.administration.add_domain("example.test")
    return world


async def refused(act: Awaitable[object]) -> str:
    with pytest.raises(Refusal) as caught:
        await act
    assert caught.value.text.isascii()
    assert caught.value.text.isprintable()
    return caught.value.text


async def test_every_change_is_one_unit_and_one_hint_after_it(world: World) -> None:
    do = world.administration
    units = [
        do.add_domain("example.net", alias_of="example.test"),
        do.add_account("alice@example.test", "secret"),
        do.set_password("alice@example.test", "another"),
        do.set_quota("alice@example.test", 5_000_000),
        do.set_language("alice@example.test", "zh"),
        do.set_admin("alice@example.test", is_admin=True),
        do.add_address("alice@example.test", "al@example.test"),
        do.remove_address("al@example.test", "al@example.test"),
        do.disable("alice@example.test"),
        do.enable("alice@example.test"),
        do.add_alias("team@example.test", ["alice@example.test"]),
        do.remove_alias("team@example.test"),
        do.set_catch_all("example.test", "alice@example.test"),
        do.set_catch_all("example.test", None),
        do.remove_domain("example.net"),
    ]
    for unit in units:
        world.bus.published.clear()
        before = world.database.writes
        await unit
        assert world.database.writes == before + 1
        assert world.bus.published[0] == Change("directory")
        assert len(world.bus.published) == 1 or world.bus.published[1].topic == "credentials"


async def test_those_who_are_logged_in_must_prove_anew_who_they_are_only_where_it_matters(world: World) -> None:
    do = world.administration
    alice = await do.add_account("alice@example.test", "secret")
    made = await do.add_app_password("alice@example.test", "telephone")
    units = {
        do.set_quota("alice@example.test", 5_000_000): False,
        do.add_app_password("alice@example.test", "tablet"): False,
        do.enable("alice@example.test"): False,
        do.set_password("alice@example.test", "another"): True,
        do.revoke_app_password("alice@example.test", made.id): True,
        do.disable("alice@example.test"): True,
        do.remove_account("alice@example.test"): True,
    }
    for unit, ends_sessions in units.items():
        world.bus.published.clear()
        await unit
        assert (Change("credentials", alice) in world.bus.published) is ends_sessions


async def test_an_account_is_disabled_before_its_letters_go_piece_by_piece(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of a million letters in one unit kept everybody's new mail waiting for minutes."""
    monkeypatch.setattr(clearing.clear_account, "__defaults__", (3,))
    account = await world.administration.add_account("alice@example.test", "secret")
    inbox = world.database.look(lambda reader: mailboxes.inbox(reader, account))
    for _ in range(10):
        place = Place(account, inbox, b"")
        world.database.run(lambda tx, place=place: letters.accept(tx, letter(b"\r\nHello\r\n"), [place]))
    states: list[object] = []
    write = world.database.write

    async def watched(unit):
        done = await write(unit)
        row = world.database.look(lambda r: r.row("SELECT state, used_letters FROM account WHERE id = :id", id=account))
        states.append(row)
        return done

    monkeypatch.setattr(world.database, "write", watched)
    await world.administration.remove_account("alice@example.test")
    assert states[:5] == [("disabled", left) for left in (10, 7, 4, 1, 0)]
    assert states[-1] is None
    for table in ("email", "email_detail", "placement", "tombstone", "journal", "thread_reference"):
        assert world.database.look(lambda r, t=table: r.row(f"SELECT COUNT(*) FROM {t}")) == (0,), table


async def test_a_refused_change_gives_no_hint(world: World) -> None:
    world.bus.published.clear()
    assert "add it first" in await refused(world.administration.add_account("a@missing.test", "x"))
    assert world.bus.published == []


async def test_lists(world: World) -> None:
    do = world.administration
    await do.add_domain("other.test")
    await do.add_account("a@example.test", "x", quota=10, display_name="A")
    await do.add_account("b@other.test", "x")
    await do.add_alias("team@other.test", ["b@other.test"])
    assert [row.name for row in await do.list_domains()] == ["example.test", "other.test"]
    assert [row.name for row in await do.list_accounts()] == ["a@example.test", "b@other.test"]
    assert [row.name for row in await do.list_accounts("other.test")] == ["b@other.test"]
    assert [row.address for row in await do.list_aliases()] == ["team@other.test"]
    assert await do.list_aliases("example.test") == []


async def test_long_lists_come_whole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "PAGE", 2)
    monkeypatch.setitem(directory.list_accounts.__kwdefaults__, "limit", 2)
    for number in range(5):
        await world.administration.add_account(f"a{number}@example.test")
    assert len(await world.administration.list_accounts()) == 5


@pytest.mark.parametrize(
    "text", ["", "alice", "a b@example.test", "@example.test", "a@", "a@exa mple", "\u7528\n@x", "a" * 65 + "@x.test"]
)
async def test_what_is_no_address_is_said_in_plain_words(world: World, text: str) -> None:
    with pytest.raises(Refusal) as caught:
        await world.administration.add_account(text, "secret")
    assert caught.value.status == BAD_ADDRESS_SYNTAX
    assert caught.value.text.isascii()
    assert caught.value.text.isprintable()


async def test_what_is_no_domain_is_said_in_plain_words(world: World) -> None:
    for text in ("", "exa mple", "-x.test", "x..test", "\u2603.test\n"):
        assert await refused(world.administration.add_domain(text))


@pytest.mark.parametrize("password", ["", "a\nb", "\0", "emoji \U0001f600", "p" * 1025])
async def test_passwords_that_nobody_could_type_are_refused(world: World, password: str) -> None:
    with pytest.raises(Refusal) as caught:
        await world.administration.add_account("a@example.test", password)
    assert caught.value.status == INVALID_ARGUMENTS
    assert await world.administration.list_accounts() == []


async def test_verbs_on_accounts_that_are_not_there(world: World) -> None:
    do = world.administration
    for act in (
        do.disable("a@example.test"),
        do.set_password("a@example.test", "x"),
        do.remove_account("a@elsewhere.test"),
        do.list_app_passwords("a@example.test"),
        do.add_app_password("a@example.test", "phone"),
    ):
        assert "there is no account" in await refused(act)
    assert "a password is needed" in await refused(do.set_password("a@example.test"))


async def test_an_account_without_a_password_admits_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncio.sleep", world.sleep)
    await world.administration.add_account("a@example.test")
    await refused(world.login.with_password("a@example.test", "", scope="smtp", peer=EDGE))
    await refused(world.login.with_password("a@example.test", "x", scope="smtp", peer=EDGE))


async def test_an_app_password_whose_prefix_is_taken_is_made_again(world: World) -> None:
    await world.administration.add_account("a@example.test")
    octets, given = world.entropy.octets, []

    def repeating(count: int) -> bytes:
        given.append(count)
        return bytes([1 if len(given) <= 2 else 2]) * count

    world.entropy.octets = repeating  # type: ignore[method-assign]  # the same chance twice
    first = await world.administration.add_app_password("a@example.test", "phone")
    second = await world.administration.add_app_password("a@example.test", "tablet", ["smtp"])
    world.entropy.octets = octets  # type: ignore[method-assign]  # as it was
    assert len(given) == 3
    assert first.text != second.text
    listed = await world.administration.list_app_passwords("a@example.test")
    assert [(each.id, each.label, each.scopes) for each in listed] == [
        (first.id, "phone", ("smtp", "pop3", "imap")),
        (second.id, "tablet", ("smtp",)),
    ]


async def test_a_domain_gets_an_rsa_and_an_ed25519_key(world: World) -> None:
    both = DomainKeys(world.database, world.bus, world.workers, world.entropy, world.key)
    world.administration._domain_keys = both
    await world.administration.add_domain("signed.test")
    rsa, ed25519 = await both.active("signed.test")
    assert (rsa.selector, ed25519.selector) == ("ph202311-rsa", "ph202311-ed25519")
    public = load_der_public_key(b64decode(rsa.public_key))
    assert isinstance(public, RSAPublicKey)
    assert public.key_size == 2048
    private = load_der_private_key(rsa.private_key, None)
    assert private.public_key() == public
    assert load_der_private_key(ed25519.private_key, None).public_key() == Ed25519PublicKey.from_public_bytes(
        b64decode(ed25519.public_key)
    )
    assert await both.records("signed.test") == [
        ("ph202311-rsa._domainkey.signed.test", f"v=DKIM1; k=rsa; p={rsa.public_key}"),
        ("ph202311-ed25519._domainkey.signed.test", f"v=DKIM1; k=ed25519; p={ed25519.public_key}"),
    ]


async def test_keys_are_cached_until_the_directory_changes(world: World) -> None:
    assert len(await world.keys.active("example.test")) == 1
    assert await world.keys.active("missing.test") == ()
    before = world.database.reads
    await world.keys.active("example.test")
    await world.keys.active("missing.test")
    assert world.database.reads == before
    await world.administration.add_domain("missing.test")
    assert len(await world.keys.active("missing.test")) == 1
    await world.administration.remove_domain("missing.test")
    assert await world.keys.active("missing.test") == ()
    world.keys.close()
