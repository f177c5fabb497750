# SPDX-License-Identifier: Apache-2.0
"""Login: the same answer to every stranger, limits against guessing, all mechanisms, upgrades, the cache."""

from __future__ import annotations

import asyncio
from base64 import b64encode

import pytest

from posthouse.outcome import (
    AUTH_FAILED,
    ENCRYPTION_REQUIRED,
    INVALID_ARGUMENTS,
    MAILBOX_DISABLED,
    NOT_AUTHORIZED,
    RATE_LIMITED,
    SECURITY_TRANSIENT,
    Refusal,
    Status,
)
from posthouse.ports import Peer, StoreFault, TlsInfo
from posthouse.protocol.sasl import Challenge, ClientExchange, client_exchange
from posthouse.services import guard, login
from posthouse.services.guard import place_of
from posthouse.services.login import Success
from posthouse.store import credentials
from posthouse.store.sealing import SecretKey
from tests.services.world import EDGE, LOOPBACK, OTHER_EDGE, World

TLS = TlsInfo("TLSv1.3", "TLS_AES_128_GCM_SHA256")
NAME = "alice@example.test"
PASSWORD = "correct horse"


async def settle(world: World) -> World:
    await world.administration.add_domain("example.test")
    await world.administration.add_account(NAME, PASSWORD)
    return world


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return await settle(make_world(monkeypatch))


def make_world(monkeypatch: pytest.MonkeyPatch, **options: int) -> World:
    world = World(**options)
    monkeypatch.setattr(asyncio, "sleep", world.sleep)
    return world


async def enter(
    world: World, name: str = NAME, password: str = PASSWORD, scope: str = "smtp", peer: Peer = EDGE
) -> str:
    """The account's name, or the status of the refusal."""
    try:
        return (await world.login.with_password(name, password, scope=scope, peer=peer)).name
    except Refusal as refusal:
        return str(refusal.status)


async def exchange(world: World, client: ClientExchange, scope: str = "smtp", *, send_initial: bool = True) -> str:
    """Run a whole SASL exchange; as `enter`."""
    try:
        server = world.login.start(client.mechanism, scope=scope, peer=EDGE, tls=TLS)
        answer = await world.login.step(server, client.initial() if send_initial else None)
        while isinstance(answer, Challenge):
            answer = await world.login.step(server, client.respond(answer.data))
        assert isinstance(answer, Success)
    except Refusal as refusal:
        return str(refusal.status)
    assert client.is_complete
    return answer.account.name


def client(mechanism: str, name: str = NAME, password: str = PASSWORD) -> ClientExchange:
    made = client_exchange([mechanism], name, password, "clientnonce", is_protected=True)
    assert made is not None
    return made


FAILED, DISABLED, LIMITED = str(AUTH_FAILED), str(MAILBOX_DISABLED), str(RATE_LIMITED)


# --- names and passwords -------------------------------------------------------------------------------


async def test_the_right_password_opens_and_any_other_does_not(world: World) -> None:
    assert await enter(world) == NAME
    assert await enter(world, "ALICE@Example.TEST") == NAME
    assert await enter(world, password="wrong") == FAILED
    assert await enter(world, "nobody@example.test") == FAILED
    assert await enter(world, "alice@elsewhere.test") == FAILED
    assert await enter(world, "alice") == FAILED


@pytest.mark.parametrize("name", ["", "\0", "a\0b@example.test", "x" * 1000, "a b@example.test", "\udcff@example.test"])
async def test_names_that_are_none_fail_alike(world: World, name: str) -> None:
    assert await enter(world, name) == FAILED


@pytest.mark.parametrize("password", ["", "a\0b", "p" * 1025, "\udcff", PASSWORD + "\0"])
async def test_passwords_that_are_none_fail_alike(world: World, password: str) -> None:
    assert await enter(world, password=password) == FAILED


async def test_a_password_is_compared_as_saslprep_has_it(world: World) -> None:
    """The same password typed on another system may come in other code points."""
    await world.administration.set_password(NAME, "pa\u00a0ss\u2168\u00e9")
    assert await enter(world, password="pa ssIXe\u0301") == NAME


async def test_additional_addresses_and_domain_aliases_log_in_too(world: World) -> None:
    await world.administration.add_address(NAME, "al@example.test")
    await world.administration.add_domain("example.net", alias_of="example.test")
    assert await enter(world, "al@example.net") == NAME
    await world.administration.add_alias("team@example.test", [NAME])
    assert await enter(world, "team@example.test") == FAILED


async def test_an_unknown_name_costs_the_same_work(world: World) -> None:
    async def work(name: str) -> tuple[list[str], int, float]:
        world.workers.jobs.clear()
        before = world.database.reads
        began = world.clock.now
        assert await enter(world, name, "wrong") == FAILED
        return list(world.workers.jobs), world.database.reads - before, world.clock.now - began

    world.bus.publish(login.Change(login.TOPIC))  # empty caches
    known = await work(NAME)
    assert known[0] == ["hash"]
    assert known[2] == pytest.approx(guard.FAILURE_DELAY)
    assert await work("nobody@example.test") == known


async def test_a_disabled_account_shows_only_to_the_right_password(world: World) -> None:
    await world.administration.disable(NAME)
    assert await enter(world, password="wrong") == FAILED
    assert await enter(world) == DISABLED
    assert await exchange(world, client("SCRAM-SHA-256", password="wrong")) == FAILED
    assert await exchange(world, client("SCRAM-SHA-256")) == DISABLED
    await world.administration.enable(NAME)
    assert await enter(world) == NAME


async def test_the_admin_scope_is_for_administrators(world: World) -> None:
    assert await enter(world, scope="admin") == str(NOT_AUTHORIZED)
    await world.administration.set_admin(NAME, is_admin=True)
    assert await enter(world, scope="admin") == NAME


async def test_a_fault_of_the_store_is_temporary(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(query: object) -> object:
        raise StoreFault("disk gone")

    monkeypatch.setattr(world.database, "read", broken)
    assert await enter(world) == str(SECURITY_TRANSIENT)
    assert await exchange(world, client("SCRAM-SHA-256")) == str(SECURITY_TRANSIENT)


# --- the cache of successes --------------------------------------------------------------------------------


async def test_a_success_is_known_for_a_while_without_the_hash(world: World) -> None:
    assert await enter(world) == NAME
    world.workers.jobs.clear()
    assert await enter(world) == NAME
    assert world.workers.jobs == []
    world.clock.now += login.SUCCESS_PERIOD
    assert await enter(world) == NAME
    assert world.workers.jobs == ["hash"]


async def test_a_cached_login_never_suspends(world: World) -> None:
    await enter(world)
    coroutine = world.login.with_password(NAME, PASSWORD, scope="smtp", peer=EDGE)
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)
    assert done.value.value.name == NAME


async def test_the_cache_forgets_with_the_password(world: World) -> None:
    assert await enter(world) == NAME
    await world.administration.set_password(NAME, "another one")
    assert await enter(world) == FAILED
    assert await enter(world, password="another one") == NAME


async def test_the_cache_is_per_scope(world: World) -> None:
    new = await world.administration.add_app_password(NAME, "phone", ["imap"])
    assert await enter(world, password=new.text, scope="imap") == NAME
    assert await enter(world, password=new.text, scope="smtp") == str(NOT_AUTHORIZED)


async def test_a_password_changed_while_it_is_verified_is_not_cached(world: World) -> None:
    verify = world.passwords.verify

    async def change_meanwhile(stored: str | None, password: str) -> object:
        verdict = await verify(stored, password)
        world.bus.publish(login.Change(login.TOPIC))
        return verdict

    world.passwords.verify = change_meanwhile  # type: ignore[method-assign,assignment]  # stands in between
    assert await enter(world) == NAME
    world.workers.jobs.clear()
    assert await enter(world) == NAME
    assert world.workers.jobs == ["hash"]


# --- app passwords --------------------------------------------------------------------------------------------


async def test_an_app_password_opens_its_scopes_without_a_slow_hash(world: World) -> None:
    new = await world.administration.add_app_password(NAME, "phone", ["imap", "pop3"])
    world.workers.jobs.clear()
    assert await enter(world, password=new.text, scope="pop3") == NAME
    assert await enter(world, password=new.text.upper().replace("-", ""), scope="imap") == NAME
    assert world.workers.jobs == []
    assert await enter(world, password=new.text, scope="smtp") == str(NOT_AUTHORIZED)
    assert await enter(world, password=new.text, scope="admin") == str(NOT_AUTHORIZED)
    await world.administration.revoke_app_password(NAME, new.id)
    assert await enter(world, password=new.text, scope="pop3") == FAILED


async def test_an_app_password_of_somebody_else_opens_nothing(world: World) -> None:
    await world.administration.add_account("bob@example.test")
    new = await world.administration.add_app_password("bob@example.test", "phone")
    assert await enter(world, password=new.text) == FAILED
    assert await enter(world, "bob@example.test", new.text) == "bob@example.test"


async def test_the_use_of_an_app_password_is_written_once_a_day(world: World) -> None:
    new = await world.administration.add_app_password(NAME, "phone")
    before = world.database.writes
    for _ in range(3):
        world.bus.publish(login.Change(login.TOPIC))
        assert await enter(world, password=new.text) == NAME
    assert world.database.writes == before + 1
    (listed,) = await world.administration.list_app_passwords(NAME)
    assert listed.last_used_at == world.clock.now


async def test_a_login_works_while_nothing_can_be_written(world: World) -> None:
    new = await world.administration.add_app_password(NAME, "phone")
    world.database.fault = StoreFault("full", is_full=True)
    assert await enter(world, password=new.text) == NAME


# --- hashes of other servers ----------------------------------------------------------------------------------


async def test_an_imported_hash_is_verified_and_upgraded(world: World) -> None:
    from passlib.hash import ldap_salted_sha1, pbkdf2_sha256, sha256_crypt, sha512_crypt

    made = {
        "crypt": sha512_crypt.using(rounds=1000).hash(PASSWORD),
        "crypt256": "{SHA256-CRYPT}" + sha256_crypt.using(rounds=1000).hash(PASSWORD),
        "ssha": ldap_salted_sha1.hash(PASSWORD),
        "pbkdf2": pbkdf2_sha256.using(rounds=10).hash(PASSWORD),
        "dovecot": dovecot_pbkdf2(PASSWORD),
    }
    for local_part, text in made.items():
        name = f"{local_part}@example.test"
        await world.administration.add_account(name, password_hash=text)
        assert await exchange(world, client("SCRAM-SHA-256", name)) == FAILED, "there are no secrets yet"
        assert await enter(world, name, "wrong") == FAILED
        assert stored_hash(world, name) == text
        assert await enter(world, name) == name
        assert stored_hash(world, name).startswith("$argon2id$")
        assert await exchange(world, client("SCRAM-SHA-256", name)) == name
        assert await enter(world, name, peer=LOOPBACK) == name


def dovecot_pbkdf2(password: str) -> str:
    import hashlib

    digest = hashlib.pbkdf2_hmac("sha1", password.encode(), b"saltsalt", 50)
    return f"{{PBKDF2}}$1$saltsalt$50${digest.hex()}"


def stored_hash(world: World, name: str) -> str:
    rows = world.database.look(
        lambda reader: reader.rows(
            "SELECT c.secret FROM credential c JOIN account a ON a.id = c.account"
            " WHERE a.name = :name AND c.kind = 'password'",
            name=name,
        )
    )
    return bytes(rows[0][0]).decode()


async def test_an_imported_password_that_we_would_not_take_still_opens(world: World) -> None:
    """Emoji are prohibited by SASLprep; another server allowed them."""
    from passlib.hash import ldap_salted_sha1

    text = ldap_salted_sha1.hash("secret \U0001f600")
    await world.administration.add_account("emoji@example.test", password_hash=text)
    assert await enter(world, "emoji@example.test", "secret \U0001f600") == "emoji@example.test"
    assert stored_hash(world, "emoji@example.test") == text


async def test_an_own_hash_of_old_parameters_is_upgraded(world: World) -> None:
    from argon2 import PasswordHasher

    old = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1).hash(PASSWORD)
    await world.administration.set_password(NAME, password_hash=old)
    assert await enter(world) == NAME
    assert stored_hash(world, NAME) != old
    now_stored = stored_hash(world, NAME)
    world.bus.publish(login.Change(login.TOPIC))
    assert await enter(world) == NAME
    assert stored_hash(world, NAME) == now_stored


@pytest.mark.parametrize("text", ["", "plain", "$6$", "{SSHA}x", "$2b$12$short", "{PLAIN}secret", "{PBKDF2}$1$s$x$00"])
async def test_unknown_hashes_are_refused_at_import(world: World, text: str) -> None:
    with pytest.raises(Refusal) as caught:
        await world.administration.set_password(NAME, password_hash=text)
    assert caught.value.status == INVALID_ARGUMENTS


@pytest.mark.parametrize(
    "text",
    [
        "$argon2id$v=19$m=99999999,t=1,p=1$c2FsdHNhbHQ$" + "A" * 43,
        "{ARGON2ID}$argon2id$v=19$m=262144,t=1000,p=1$c2FsdHNhbHQ$" + "A" * 43,
        "$6$rounds=999999999$saltsalt$" + "a" * 86,
        "{SHA256-CRYPT}$5$rounds=999999999$saltsalt$" + "a" * 43,
        "$2b$31$" + "a" * 53,
        "$pbkdf2-sha256$999999999$c2FsdHNhbHQ$" + "A" * 43,
        "{PBKDF2}$1$salt$999999999$" + "00" * 20,
        "{PBKDF2-SHA512}" + "9" * 5000 + "$c2FsdHNhbHQ$" + "A" * 86,
    ],
    ids=lambda text: text[:24],
)
async def test_hashes_that_take_too_long_are_refused_at_import(world: World, text: str) -> None:
    """Whoever tries to log in has the hash verified: it must not cost minutes, nor more memory than there is."""
    with pytest.raises(Refusal, match="too long"):
        await world.administration.set_password(NAME, password_hash=text)


# --- SASL --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256"])
@pytest.mark.parametrize("send_initial", [True, False])
async def test_every_mechanism_opens_with_the_right_password(world: World, mechanism: str, send_initial: bool) -> None:
    assert await exchange(world, client(mechanism), send_initial=send_initial) == NAME
    assert await exchange(world, client(mechanism, password="wrong"), send_initial=send_initial) == FAILED
    assert await exchange(world, client(mechanism, "nobody@example.test"), send_initial=send_initial) == FAILED


async def test_scram_sha_1_is_off_unless_switched_on(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    assert world.login.mechanisms(is_protected=True) == ("SCRAM-SHA-256", "PLAIN", "LOGIN")
    assert await exchange(world, client("SCRAM-SHA-1")) == str(INVALID_ARGUMENTS)
    old = await settle(make_world(monkeypatch, scram_sha_1=True))
    assert "SCRAM-SHA-1" in old.login.mechanisms(is_protected=True)
    assert await exchange(old, client("SCRAM-SHA-1")) == NAME


async def test_nothing_is_offered_without_protection(world: World) -> None:
    assert world.login.mechanisms(is_protected=False) == ()
    with pytest.raises(Refusal) as caught:
        world.login.start("PLAIN", scope="smtp", peer=EDGE, tls=None)
    assert caught.value.status == ENCRYPTION_REQUIRED
    with pytest.raises(Refusal):
        world.login.start("PLAIN", scope="smtp", peer=LOOPBACK, tls=None)
    world.login.start("plain", scope="smtp", peer=EDGE, tls=None, is_protected=True)
    with pytest.raises(Refusal):
        world.login.start("PLAIN", scope="smtp", peer=EDGE, tls=TLS, is_protected=False)


@pytest.mark.parametrize(
    "response", [b"", b"nonsense", b"\0a\0", b"other\0alice@example.test\0correct horse", b"\xff\0\0"]
)
async def test_malformed_responses_fail_like_wrong_passwords(world: World, response: bytes) -> None:
    server = world.login.start("PLAIN", scope="smtp", peer=EDGE, tls=TLS)
    with pytest.raises(Refusal) as caught:
        await world.login.step(server, response)
    assert caught.value.status == AUTH_FAILED


async def first_challenge(world: World, name: str) -> bytes:
    server = world.login.start("SCRAM-SHA-256", scope="smtp", peer=LOOPBACK, tls=TLS)
    answer = await world.login.step(server, f"n,,n={name},r=abc".encode())
    assert isinstance(answer, Challenge)
    return b",".join(part for part in answer.data.split(b",") if not part.startswith(b"r="))


async def test_unknown_names_get_a_stable_salt(world: World) -> None:
    """RFC 5802 §9; every spelling of a name gets the same one, as it would if it existed."""
    fake = await first_challenge(world, "nobody@example.test")
    assert fake == await first_challenge(world, "Nobody@EXAMPLE.test")
    assert fake != await first_challenge(world, "other@example.test")
    real = await first_challenge(world, NAME)
    assert len(real) == len(fake)
    assert real.rpartition(b"i=")[2] == fake.rpartition(b"i=")[2]


async def test_a_lost_key_file_is_a_temporary_failure(world: World) -> None:
    world.login._key = SecretKey(b"x" * 32)
    assert await exchange(world, client("SCRAM-SHA-256")) == str(SECURITY_TRANSIENT)
    assert await enter(world) == NAME


# --- against guessing ---------------------------------------------------------------------------------------------


async def test_failures_from_one_address_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await settle(make_world(monkeypatch, failures_per_address=5))
    for number in range(5):
        assert await enter(world, f"n{number}@example.test", "wrong") == FAILED
    assert await enter(world) == LIMITED
    assert await exchange(world, client("SCRAM-SHA-256")) == LIMITED
    assert await enter(world, peer=OTHER_EDGE) == NAME
    world.clock.now += guard.FAILURE_PERIOD
    assert await enter(world) == NAME


async def test_failures_of_one_account_are_limited_but_do_not_shut_its_owner_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await settle(make_world(monkeypatch, failures_per_address=100, failures_per_account=4))
    assert await enter(world, peer=OTHER_EDGE) == NAME
    for number in range(4):
        assert await enter(world, "alice@EXAMPLE.test", f"wrong {number}") == FAILED
    assert await enter(world) == LIMITED
    world.bus.publish(login.Change(login.TOPIC))
    assert await enter(world, peer=OTHER_EDGE) == NAME


async def test_an_unknown_name_is_limited_like_a_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await settle(make_world(monkeypatch, failures_per_account=3))
    for number in range(3):
        assert await enter(world, "nobody@example.test", f"wrong {number}") == FAILED
    assert await enter(world, "nobody@example.test") == LIMITED


async def test_an_address_that_is_known_has_its_own_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """One device with an old password does not shut out the office behind the same address."""
    world = await settle(make_world(monkeypatch, failures_per_address=3))
    await world.administration.add_account("bob@example.test", "bobs password")
    assert await enter(world) == NAME
    for number in range(3):
        assert await enter(world, password=f"old {number}") == FAILED
    assert await enter(world, password="old 0") == LIMITED
    assert await enter(world, "bob@example.test", "bobs password") == "bob@example.test"


async def test_loopback_is_limited_by_account_only(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await settle(make_world(monkeypatch, failures_per_address=3, failures_per_account=5))
    for number in range(10):
        assert await enter(world, f"n{number}@example.test", peer=LOOPBACK) == FAILED
    for number in range(5):
        assert await enter(world, password=f"wrong {number}", peer=LOOPBACK) == FAILED
    assert await enter(world, peer=LOOPBACK) == LIMITED


async def test_the_cache_helps_nobody_to_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not try any more is refused though the right password is known."""
    world = await settle(make_world(monkeypatch, failures_per_address=3, failures_per_account=3))
    assert await enter(world) == NAME
    for number in range(3):
        assert await enter(world, password=f"wrong {number}", peer=OTHER_EDGE) == FAILED
    assert await enter(world, peer=OTHER_EDGE) == LIMITED
    for number in range(3):
        assert await enter(world, password=f"wrong {number}") == FAILED
    assert await enter(world) == LIMITED


async def test_a_device_with_an_old_password_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await settle(make_world(monkeypatch, failures_per_address=3))
    for _ in range(10):
        assert await enter(world, password="old password") == FAILED
    assert await enter(world) == NAME


async def test_the_delay_of_failures_grows_to_its_most(world: World) -> None:
    for number in range(10):
        await enter(world, password=f"wrong {number}")
    assert world.slept == [0.5, 0.5, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0]


async def test_guesses_in_parallel_get_no_further_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await settle(make_world(monkeypatch, failures_per_address=5))
    yields = world.workers.run

    async def slow(function: object, *, pool: str = "disk") -> object:
        await world.sleep(0)
        return await yields(function, pool=pool)  # type: ignore[arg-type]  # passes through

    world.workers.run = slow  # type: ignore[method-assign,assignment]  # a pool that takes its time
    tries = await asyncio.gather(*(enter(world, password=f"guess {n}") for n in range(60)))
    assert tries.count(FAILED) <= 5 + guard.MAX_AT_ONCE_PER_ADDRESS
    assert tries.count(LIMITED) == 60 - tries.count(FAILED)


async def test_scram_exchanges_in_parallel_get_no_further_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await settle(make_world(monkeypatch, failures_per_address=5))
    begun = []
    for number in range(20):
        guesser = client("SCRAM-SHA-256", password=f"guess {number}")
        server = world.login.start("SCRAM-SHA-256", scope="smtp", peer=EDGE, tls=TLS)
        begun.append((server, guesser, await world.login.step(server, guesser.initial())))

    async def finish(index: int) -> Status:
        server, guesser, answer = begun[index]
        assert isinstance(answer, Challenge)
        with pytest.raises(Refusal) as caught:
            await world.login.step(server, guesser.respond(answer.data))
        return caught.value.status

    ends = await asyncio.gather(*(finish(index) for index in range(20)))
    assert ends.count(AUTH_FAILED) == 5
    assert ends.count(RATE_LIMITED) == 15


async def test_too_many_logins_at_once_are_put_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MAX_AT_ONCE", 0)
    assert await enter(world) == str(SECURITY_TRANSIENT)


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
    ],
)
def test_a_place_is_an_address_or_a_network_of_one_customer(address: str, place: str) -> None:
    assert place_of(Peer(address, 1, "", 25, "t")) == place


async def test_secrets_are_for_nobody_to_read_in_a_representation(world: World) -> None:
    new = await world.administration.add_app_password(NAME, "phone")
    made = await world.passwords.make(PASSWORD)
    stored = world.database.look(
        lambda reader: credentials.load_password(
            reader, world.database.look(lambda r: r.row("SELECT id FROM account"))[0]
        )
    )
    assert new.text not in repr(new)
    assert "argon2" not in repr(made)
    assert "argon2" not in repr(stored)
    assert b64encode(made.scram[0].secrets.stored_key).decode() not in repr(made)
