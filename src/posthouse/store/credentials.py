# SPDX-License-Identifier: Apache-2.0
"""What proves who somebody is: one password (hashed), its SCRAM secrets (sealed), any number of app passwords.

The SCRAM secrets always belong to the present password: they are written and dropped together with it.
Nothing here computes a slow hash; `services.passwords` does, outside of the unit of work.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from posthouse.outcome import BAD_MAILBOX, INVALID_ARGUMENTS, Refusal
from posthouse.ports import Reader, Transaction
from posthouse.protocol.sasl import ScramSecrets
from posthouse.protocol.sasl.scram import ITERATIONS, SALT_OCTETS, digest_size
from posthouse.store.sealing import SecretKey

PASSWORD = "password"  # noqa: S105 - the name of a kind
APP_PASSWORD = "app-password"  # noqa: S105 - the name of a kind
SCRAM_KINDS: Mapping[str, str] = {"SCRAM-SHA-256": "scram-sha-256", "SCRAM-SHA-1": "scram-sha-1"}

SCOPES = ("smtp", "pop3", "imap")  # what an app password may be good for
MAX_APP_PASSWORDS = 50  # per account: one per device and program, and a list that a person can still read
MAX_LABEL = 100  # characters

# Crockford's base 32: no i, l, o, u, so nothing looks like something else when typed from paper.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PREFIX_LENGTH = 6  # characters, 30 bits: public, finds the row
_SECRET_LENGTH = 26  # characters, 130 bits: 128 are random
_GROUP = 4
APP_PASSWORD_OCTETS = 20  # from Entropy: 4 for the prefix, 16 for the secret
_DAY = 86_400.0  # last_used_at is exact to a day, so that a login costs no commit


@dataclass(frozen=True, slots=True)
class SealedNonce:
    """SCRAM secrets on their way in, with the fresh nonce that will seal them."""

    mechanism: str
    secrets: ScramSecrets
    nonce: bytes


@dataclass(frozen=True, slots=True)
class NewPassword:
    """A password in the forms in which it is kept."""

    hash: str = field(repr=False)
    scram: tuple[SealedNonce, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredPassword:
    hash: str = field(repr=False)
    scram_kinds: frozenset[str]  # mechanisms for which secrets are there


@dataclass(frozen=True, slots=True)
class AppPassword:
    id: int
    account: int
    prefix: str
    label: str
    scopes: tuple[str, ...]
    created_at: float
    last_used_at: float | None
    hash: bytes = field(repr=False)


# --- the password and its SCRAM secrets -------------------------------------------------------------


def set_password(tx: Transaction, key: SecretKey, account: int, new: NewPassword, now: float) -> None:
    """Replace the password. App passwords stay."""
    tx.run(
        "DELETE FROM credential WHERE account = :account AND kind <> :app_password",
        account=account,
        app_password=APP_PASSWORD,
    )
    _insert(tx, account, PASSWORD, new.hash.encode(), now)
    for each in new.scram:
        kind = SCRAM_KINDS[each.mechanism]
        sealed = key.seal(_pack(each.secrets), context=_context(kind, account), nonce=each.nonce)
        _insert(tx, account, kind, sealed, now)


def upgrade_password(
    tx: Transaction, key: SecretKey, account: int, new: NewPassword, now: float, *, old_hash: str
) -> bool:
    """Keep the same password in better forms; False when it was changed meanwhile (and nothing is done)."""
    stored = load_password(tx, account)
    if stored is None or stored.hash != old_hash:
        return False
    set_password(tx, key, account, new, now)
    return True


def load_password(reader: Reader, account: int) -> StoredPassword | None:
    rows = reader.rows(
        "SELECT kind, secret FROM credential WHERE account = :account AND kind <> :app_password ORDER BY id",
        account=account,
        app_password=APP_PASSWORD,
    )
    kinds: dict[str, bytes] = dict(rows)
    if PASSWORD not in kinds:
        return None
    there = frozenset(mechanism for mechanism, kind in SCRAM_KINDS.items() if kind in kinds)
    return StoredPassword(bytes(kinds[PASSWORD]).decode(), there)


def load_scram(reader: Reader, key: SecretKey, account: int, mechanism: str) -> ScramSecrets | None:
    """Raises SealBroken when the key file is not the one that they were sealed with."""
    kind = SCRAM_KINDS[mechanism]
    row = reader.row(
        "SELECT secret FROM credential WHERE account = :account AND kind = :kind", account=account, kind=kind
    )
    return None if row is None else _unpack(key.open(bytes(row[0]), context=_context(kind, account)))


def fake_scram(key: SecretKey, mechanism: str, name: str, *, iterations: int = ITERATIONS) -> ScramSecrets:
    """Secrets for a name that has none: the same on every day, so that asking twice tells nothing (RFC 5802 §9)."""
    seed = f"{mechanism}\0{name}".encode()
    salt = key.keyed_hash("scram-salt", seed, size=SALT_OCTETS)
    size = digest_size(mechanism)
    stored_key = key.keyed_hash("scram-stored", seed, size=size)
    return ScramSecrets(salt, iterations, stored_key, key.keyed_hash("scram-server", seed, size=size))


def _insert(tx: Transaction, account: int, kind: str, secret: bytes, now: float) -> None:
    tx.run(
        "INSERT INTO credential (id, account, kind, secret, created_at) VALUES (:id, :account, :kind, :secret, :now)",
        id=tx.new_id(),
        account=account,
        kind=kind,
        secret=secret,
        now=now,
    )


def _context(kind: str, account: int) -> str:
    return f"credential/{kind}/{account}"


def _pack(secrets: ScramSecrets) -> bytes:
    head = struct.pack(">IBB", secrets.iterations, len(secrets.salt), len(secrets.stored_key))
    return head + secrets.salt + secrets.stored_key + secrets.server_key


def _unpack(octets: bytes) -> ScramSecrets:
    iterations, salt_size, key_size = struct.unpack_from(">IBB", octets)
    salt_end, stored_end = 6 + salt_size, 6 + salt_size + key_size
    return ScramSecrets(octets[6:salt_end], iterations, octets[salt_end:stored_end], octets[stored_end:])


# --- app passwords ----------------------------------------------------------------------------------


def make_app_password(octets: bytes) -> str:
    """20 random octets as text in groups: `k7x2-9mpq-…`, the first six characters being the public prefix."""
    prefix = _base32(octets[:4], _PREFIX_LENGTH)
    text = prefix + _base32(octets[4:APP_PASSWORD_OCTETS], _SECRET_LENGTH)
    return "-".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))


def read_app_password(text: str) -> tuple[str, bytes] | None:
    """(prefix, the whole in its comparable form) of what may be an app password; None for other passwords."""
    if len(text) > 64:  # twice its length leaves room for any grouping
        return None
    plain = text.replace("-", "").replace(" ", "").lower()
    if len(plain) != _PREFIX_LENGTH + _SECRET_LENGTH or plain.strip(_ALPHABET):
        return None
    return plain[:_PREFIX_LENGTH], plain.encode("ascii")


def add_app_password(
    tx: Transaction, key: SecretKey, account: int, text: str, *, label: str, scopes: Iterable[str], now: float
) -> int | None:
    """Keep an app password's keyed hash; None when its prefix is taken: make another. Raises Refusal."""
    given = frozenset(scopes)
    wanted = tuple(scope for scope in SCOPES if scope in given)
    if len(wanted) != len(given) or not wanted:
        raise Refusal(INVALID_ARGUMENTS, f"the scopes of an app password are among {', '.join(SCOPES)}")
    if not label.strip() or len(label) > MAX_LABEL or not label.isprintable():
        raise Refusal(INVALID_ARGUMENTS, f"an app password needs a label of 1 to {MAX_LABEL} characters")
    if len(list_app_passwords(tx, account)) >= MAX_APP_PASSWORDS:
        raise Refusal(INVALID_ARGUMENTS, f"an account has at most {MAX_APP_PASSWORDS} app passwords; revoke one")
    read = read_app_password(text)
    assert read is not None, "made by make_app_password"
    prefix, secret = read
    if tx.row("SELECT id FROM credential WHERE prefix = :prefix", prefix=prefix):
        return None
    credential = tx.new_id()
    tx.run(
        "INSERT INTO credential (id, account, kind, prefix, secret, scopes, label, created_at)"
        " VALUES (:id, :account, :kind, :prefix, :secret, :scopes, :label, :now)",
        id=credential,
        account=account,
        kind=APP_PASSWORD,
        prefix=prefix,
        secret=key.keyed_hash("app-password", secret),
        scopes=" ".join(wanted),
        label=label.strip(),
        now=now,
    )
    return credential


_APP_COLUMNS = "id, account, prefix, label, scopes, created_at, last_used_at, secret"


def find_app_password(reader: Reader, key: SecretKey, text: str, account: int) -> AppPassword | None:
    """The account's app password that this text is; None when it is none of them."""
    read = read_app_password(text)
    if read is None:
        return None
    prefix, secret = read
    row = reader.row(f"SELECT {_APP_COLUMNS} FROM credential WHERE prefix = :prefix", prefix=prefix)  # noqa: S608 - a constant
    if row is None:
        return None
    found = _app_password(row)
    is_right = hmac.compare_digest(found.hash, key.keyed_hash("app-password", secret))
    return found if is_right and found.account == account else None


def list_app_passwords(reader: Reader, account: int) -> list[AppPassword]:
    rows = reader.rows(
        f"SELECT {_APP_COLUMNS} FROM credential WHERE account = :account AND kind = :kind ORDER BY id",  # noqa: S608 - a constant
        account=account,
        kind=APP_PASSWORD,
    )
    return [_app_password(row) for row in rows]


def revoke_app_password(tx: Transaction, account: int, credential: int) -> None:
    """Raises Refusal when the account has no such app password."""
    changed = tx.run(
        "DELETE FROM credential WHERE id = :id AND account = :account AND kind = :kind",
        id=credential,
        account=account,
        kind=APP_PASSWORD,
    )
    if not changed:
        raise Refusal(BAD_MAILBOX, "this account has no such app password")


def wants_touch(app_password: AppPassword, now: float) -> bool:
    """Whether its last use is to be written down anew: once a day is enough."""
    return app_password.last_used_at is None or now - app_password.last_used_at >= _DAY


def touch(tx: Transaction, credential: int, now: float) -> None:
    tx.run("UPDATE credential SET last_used_at = :now WHERE id = :id", id=credential, now=now)


def remove_all(tx: Transaction, account: int) -> None:
    tx.run("DELETE FROM credential WHERE account = :account", account=account)


def _app_password(row: tuple[object, ...]) -> AppPassword:
    credential, account, prefix, label, scopes, created_at, last_used_at, secret = row
    assert isinstance(credential, int)
    assert isinstance(account, int)
    assert isinstance(created_at, float)
    assert last_used_at is None or isinstance(last_used_at, float)
    assert isinstance(secret, bytes | memoryview)
    return AppPassword(
        credential,
        account,
        str(prefix),
        str(label),
        tuple(str(scopes).split()),
        created_at,
        last_used_at,
        bytes(secret),
    )


def _base32(octets: bytes, length: int) -> str:
    number = int.from_bytes(octets, "big")
    return "".join(_ALPHABET[(number >> (5 * at)) & 31] for at in range(length))
