# SPDX-License-Identifier: Apache-2.0
"""Passwords, SCRAM secrets, app passwords and DKIM keys at rest."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail.address import Domain, parse_address
from posthouse.outcome import Refusal
from posthouse.protocol.sasl import ScramSecrets
from posthouse.store import credentials, directory, keys
from posthouse.store.credentials import NewPassword, SealedNonce
from posthouse.store.keys import NewKey
from posthouse.store.sealing import SealBroken, SecretKey
from tests.store.plain_database import PlainDatabase

KEY = SecretKey(b"k" * 32)
NOW = 1_700_000_000.0
DAY = 86_400.0
NOBODY = 1
SECRETS = ScramSecrets(b"salt" * 4, 10_000, b"stored" * 5 + b"ke", b"server" * 5 + b"ke")


@pytest.fixture
def database() -> PlainDatabase:
    database = PlainDatabase()
    database.run(lambda tx: directory.add_domain(tx, Domain("example.test"), NOW))
    return database


@pytest.fixture
def account(database: PlainDatabase) -> int:
    return add(database, "a@example.test")


def add(database: PlainDatabase, address: str) -> int:
    return database.run(lambda tx: directory.add_account(tx, parse_address(address), NOW))


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(Refusal) as caught:
        act()
    return caught.value.text


# --- sealing -------------------------------------------------------------------------------------------


@given(plain=st.binary(max_size=300), context=st.text(max_size=20), nonce=st.binary(min_size=12, max_size=12))
def test_what_is_sealed_opens_in_its_place(plain: bytes, context: str, nonce: bytes) -> None:
    sealed = KEY.seal(plain, context=context, nonce=nonce)
    assert KEY.open(sealed, context=context) == plain
    with pytest.raises(SealBroken):
        KEY.open(sealed, context=context + "x")


@pytest.mark.parametrize("spoil", [lambda s: s[:-1], lambda s: b"\x02" + s[1:], lambda s: s[:9], lambda s: b""])
def test_what_was_changed_does_not_open(spoil: Callable[[bytes], bytes]) -> None:
    sealed = KEY.seal(b"secret", context="c", nonce=b"n" * 12)
    with pytest.raises(SealBroken):
        KEY.open(spoil(sealed), context="c")
    with pytest.raises(SealBroken):
        SecretKey(b"x" * 32).open(sealed, context="c")


def test_a_key_of_the_wrong_size_is_an_error() -> None:
    with pytest.raises(ValueError, match="31 octets"):
        SecretKey(b"k" * 31)


def test_keyed_hashes_differ_by_purpose_and_key() -> None:
    made = {
        KEY.keyed_hash("one", b"data"),
        KEY.keyed_hash("two", b"data"),
        SecretKey(b"x" * 32).keyed_hash("one", b"data"),
    }
    assert len(made) == 3


# --- the password ----------------------------------------------------------------------------------------


def test_the_password_and_its_scram_secrets_are_replaced_together(database: PlainDatabase, account: int) -> None:
    both = NewPassword("$argon2id$1", (SealedNonce("SCRAM-SHA-256", SECRETS, b"n" * 12),))
    database.run(lambda tx: credentials.set_password(tx, KEY, account, both, NOW))
    stored = database.look(lambda reader: credentials.load_password(reader, account))
    assert stored is not None
    assert (stored.hash, stored.scram_kinds) == ("$argon2id$1", {"SCRAM-SHA-256"})

    def scram(mechanism: str = "SCRAM-SHA-256") -> ScramSecrets | None:
        return database.look(lambda reader: credentials.load_scram(reader, KEY, account, mechanism))

    assert scram() == SECRETS
    assert scram("SCRAM-SHA-1") is None
    database.run(lambda tx: credentials.set_password(tx, KEY, account, NewPassword("$6$x"), NOW))
    assert scram() is None
    assert database.look(lambda reader: credentials.load_password(reader, NOBODY)) is None


def test_secrets_lie_sealed_in_the_database(database: PlainDatabase, account: int) -> None:
    both = NewPassword("$argon2id$1", (SealedNonce("SCRAM-SHA-256", SECRETS, b"n" * 12),))
    database.run(lambda tx: credentials.set_password(tx, KEY, account, both, NOW))
    image = database.connection.serialize("main")
    assert SECRETS.stored_key not in image
    assert SECRETS.server_key not in image
    other = SecretKey(b"x" * 32)
    with pytest.raises(SealBroken):
        database.look(lambda reader: credentials.load_scram(reader, other, account, "SCRAM-SHA-256"))


def test_secrets_of_one_account_are_of_no_use_in_another(database: PlainDatabase, account: int) -> None:
    other = add(database, "b@example.test")
    both = NewPassword("$argon2id$1", (SealedNonce("SCRAM-SHA-256", SECRETS, b"n" * 12),))
    database.run(lambda tx: credentials.set_password(tx, KEY, account, both, NOW))
    database.run(lambda tx: tx.run("UPDATE credential SET account = :other", other=other))
    with pytest.raises(SealBroken):
        database.look(lambda reader: credentials.load_scram(reader, KEY, other, "SCRAM-SHA-256"))


def test_an_upgrade_never_undoes_a_change_of_password(database: PlainDatabase, account: int) -> None:
    def upgrade(old: str, new: str) -> bool:
        return database.run(
            lambda tx: credentials.upgrade_password(tx, KEY, account, NewPassword(new), NOW, old_hash=old)
        )

    assert not upgrade("$6$old", "$argon2id$1")
    database.run(lambda tx: credentials.set_password(tx, KEY, account, NewPassword("$6$old"), NOW))
    assert upgrade("$6$old", "$argon2id$1")
    assert not upgrade("$6$old", "$argon2id$2")
    stored = database.look(lambda reader: credentials.load_password(reader, account))
    assert stored is not None
    assert stored.hash == "$argon2id$1"


def test_fake_secrets_are_stable_and_look_like_real_ones() -> None:
    fake = credentials.fake_scram(KEY, "SCRAM-SHA-256", "nobody@example.test")
    assert fake == credentials.fake_scram(KEY, "SCRAM-SHA-256", "nobody@example.test")
    assert (len(fake.salt), fake.iterations, len(fake.stored_key)) == (16, 10_000, 32)
    assert fake.salt != credentials.fake_scram(KEY, "SCRAM-SHA-256", "other@example.test").salt
    assert fake.salt != credentials.fake_scram(SecretKey(b"x" * 32), "SCRAM-SHA-256", "nobody@example.test").salt
    assert len(credentials.fake_scram(KEY, "SCRAM-SHA-1", "nobody@example.test").stored_key) == 20


# --- app passwords -----------------------------------------------------------------------------------------


@given(st.binary(min_size=20, max_size=20))
def test_an_app_password_is_readable_and_is_read_however_it_is_typed(octets: bytes) -> None:
    text = credentials.make_app_password(octets)
    assert [len(group) for group in text.split("-")] == [4] * 8
    read = credentials.read_app_password(text)
    assert read is not None
    assert read[0] == text.replace("-", "")[:6]
    assert credentials.read_app_password(text.upper().replace("-", " ")) == read
    assert credentials.read_app_password(text.replace("-", "")) == read


def test_all_128_bits_are_in_an_app_password() -> None:
    octets = bytearray(20)
    seen = {credentials.make_app_password(bytes(octets))}
    for bit in range(32, 160):
        octets[bit // 8] ^= 1 << (bit % 8)
        seen.add(credentials.make_app_password(bytes(octets)))
        octets[bit // 8] ^= 1 << (bit % 8)
    assert len(seen) == 129


@pytest.mark.parametrize("text", ["", "secret", "u" * 32, "k7x2" * 7, "k7x2" * 9, "k7x2-" * 40, "爱" * 32])
def test_other_passwords_are_no_app_passwords(text: str) -> None:
    assert credentials.read_app_password(text) is None


def make(database: PlainDatabase, account: int, seed: int, **more: object) -> int | None:
    text = credentials.make_app_password(bytes([seed]) * 20)
    options: dict[str, object] = {"label": "phone", "scopes": ["imap", "smtp"], "now": NOW} | more
    return database.run(lambda tx: credentials.add_app_password(tx, KEY, account, text, **options))  # type: ignore[arg-type]  # keyword pass-through


def test_app_passwords_are_found_by_their_text_and_only_for_their_account(
    database: PlainDatabase, account: int
) -> None:
    other = add(database, "b@example.test")
    number = make(database, account, 1)
    text = credentials.make_app_password(bytes([1]) * 20)

    def find(text: str, who: int = account, key: SecretKey = KEY) -> int | None:
        found = database.look(lambda reader: credentials.find_app_password(reader, key, text, who))
        return None if found is None else found.id

    assert find(text) == number
    assert find(text, other) is None
    assert find(text[:-1] + ("0" if text[-1] != "0" else "1")) is None
    assert find("0" + text[1:]) is None
    assert find("secret") is None
    assert find(text, key=SecretKey(b"x" * 32)) is None
    (listed,) = database.look(lambda reader: credentials.list_app_passwords(reader, account))
    assert (listed.label, listed.scopes, listed.prefix, listed.last_used_at) == (
        "phone",
        ("smtp", "imap"),
        text[:4] + text[5:7],
        None,
    )
    assert text.replace("-", "").encode() not in database.connection.serialize("main")


def test_last_use_is_kept_to_the_day(database: PlainDatabase, account: int) -> None:
    number = make(database, account, 1)
    assert number is not None

    def listed() -> credentials.AppPassword:
        return database.look(lambda reader: credentials.list_app_passwords(reader, account))[0]

    assert credentials.wants_touch(listed(), NOW)
    database.run(lambda tx: credentials.touch(tx, number, NOW))
    assert not credentials.wants_touch(listed(), NOW + DAY - 1)
    assert credentials.wants_touch(listed(), NOW + DAY)


def test_a_password_change_keeps_app_passwords_and_revoking_takes_one(database: PlainDatabase, account: int) -> None:
    first, second = make(database, account, 1), make(database, account, 2)
    assert first is not None
    assert second is not None
    database.run(lambda tx: credentials.set_password(tx, KEY, account, NewPassword("$argon2id$1"), NOW))
    database.run(lambda tx: credentials.revoke_app_password(tx, account, first))
    assert [each.id for each in database.look(lambda r: credentials.list_app_passwords(r, account))] == [second]
    assert "no such app password" in refused(
        lambda: database.run(lambda tx: credentials.revoke_app_password(tx, account, first))
    )
    other = add(database, "b@example.test")
    refused(lambda: database.run(lambda tx: credentials.revoke_app_password(tx, other, second)))


def test_what_an_app_password_may_be(database: PlainDatabase, account: int) -> None:
    for scopes in ([], ["admin"], ["smtp", "web"], ["smtp", "smtp", "x"]):
        assert "scopes" in refused(lambda scopes=scopes: make(database, account, 1, scopes=scopes))
    for label in ("", "  ", "x" * 101, "two\nlines"):
        assert "label" in refused(lambda label=label: make(database, account, 1, label=label))
    for seed in range(credentials.MAX_APP_PASSWORDS):
        assert make(database, account, seed) is not None
    assert "at most" in refused(lambda: make(database, account, 200))


def test_a_prefix_that_is_taken_asks_for_another(database: PlainDatabase, account: int) -> None:
    other = add(database, "b@example.test")
    assert make(database, account, 1) is not None
    assert make(database, other, 1) is None


# --- DKIM keys ---------------------------------------------------------------------------------------------


def test_dkim_keys_are_sealed_listed_and_retired(database: PlainDatabase) -> None:
    row = database.look(lambda reader: reader.row("SELECT id FROM domain"))
    assert row is not None
    new = NewKey("ph202311-ed25519", "ed25519", b"the private half", "cHVibGlj", b"n" * 12)
    number = database.run(lambda tx: keys.add_key(tx, KEY, row[0], new, NOW))
    (key,) = database.look(lambda reader: keys.list_keys(reader, KEY, "example.test"))
    assert (key.id, key.private_key, key.is_active) == (number, b"the private half", True)
    assert key.record_name == "ph202311-ed25519._domainkey.example.test"
    assert key.record == "v=DKIM1; k=ed25519; p=cHVibGlj"
    assert b"the private half" not in database.connection.serialize("main")
    with pytest.raises(SealBroken):
        database.look(lambda reader: keys.list_keys(reader, SecretKey(b"x" * 32), "example.test"))
    assert database.run(lambda tx: keys.retire_key(tx, number, NOW))
    assert not database.run(lambda tx: keys.retire_key(tx, number + 1, NOW))
    assert database.look(lambda reader: keys.list_keys(reader, KEY, "example.test", only_active=True)) == []
    assert len(database.look(lambda reader: keys.list_keys(reader, KEY, "example.test"))) == 1
    database.run(lambda tx: directory.remove_domain(tx, Domain("example.test")))
    assert database.look(lambda reader: reader.row("SELECT COUNT(*) FROM dkim_key")) == (0,)
