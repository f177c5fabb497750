# SPDX-License-Identifier: Apache-2.0
"""DKIM keys of the domains and of the host's own name (RFC 6376, RFC 8463), private halves sealed.

A key is published, then active, then retired, then withdrawn, and never goes back. Several may be active, one for each
algorithm: a letter is signed with each of them.

Invariant: where a key becomes active, those before it of the same name and algorithm retire in the same unit of work,
so that no moment is without a key that signs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from posthouse.outcome import BAD_DOMAIN, Refusal
from posthouse.ports import Reader, Row, Transaction
from posthouse.store.sealing import SealBroken, SecretKey

Algorithm = Literal["rsa", "ed25519"]


class KeyState(StrEnum):
    PUBLISHED = "published"
    ACTIVE = "active"
    RETIRED = "retired"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key on its way in. `private_key` is PKCS #8 DER, `public_key` the base64 text for the p= tag."""

    selector: str
    algorithm: Algorithm
    private_key: bytes = field(repr=False)
    public_key: str
    nonce: bytes  # fresh, from Entropy: seals the private key


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What everybody may know of a key. `changed_at`: since when it is in its state. `seen_at`: since when DNS shows
    the record of a published one, None where it does not. `is_own`: of the host's own name, not of a domain here."""

    id: int
    domain: str
    selector: str
    algorithm: Algorithm
    public_key: str
    state: KeyState
    created_at: float
    changed_at: float
    seen_at: float | None
    is_own: bool

    @property
    def is_active(self) -> bool:
        return self.state is KeyState.ACTIVE

    @property
    def record_name(self) -> str:
        return f"{self.selector}._domainkey.{self.domain}"

    @property
    def record(self) -> str:
        """The value of the TXT record (RFC 6376 §3.6.1)."""
        return f"v=DKIM1; k={self.algorithm}; p={self.public_key}"


@dataclass(frozen=True, slots=True)
class DkimKey(KeyInfo):
    """`private_key` is PKCS #8 DER; the RSA key of RFC 6376 §3.6.1 or the Ed25519 key of RFC 8463 §4."""

    private_key: bytes = field(repr=False)


_INSERT = (
    "INSERT INTO dkim_key (id, domain, name, selector, algorithm, private_key, public_key, state, created_at,"
    " changed_at) VALUES (:id, :domain, :name, :selector, :algorithm, :private_key, :public_key, :state, :now, :now)"
)
_COLUMNS = "id, name, selector, algorithm, public_key, state, created_at, changed_at, seen_at, domain IS NULL"


def add_key(
    tx: Transaction, key: SecretKey, domain: int, new: NewKey, now: float, *, state: KeyState = KeyState.ACTIVE
) -> int:
    """Of a domain by its id. The selector is new within the domain."""
    row = tx.row("SELECT name FROM domain WHERE id = :domain", domain=domain)
    if row is None:
        raise Refusal(BAD_DOMAIN, "the domain was removed at this moment")
    return _insert(tx, key, domain, row[0], new, now, state)


def add_own_key(tx: Transaction, key: SecretKey, hostname: str, new: NewKey, now: float) -> int:
    """Of the host's own name; it waits until DNS shows it."""
    return _insert(tx, key, None, hostname, new, now, KeyState.PUBLISHED)


def _insert(
    tx: Transaction, key: SecretKey, domain: int | None, name: str, new: NewKey, now: float, state: KeyState
) -> int:
    row = tx.new_id()
    tx.run(
        _INSERT,
        id=row,
        domain=domain,
        name=name,
        selector=new.selector,
        algorithm=new.algorithm,
        private_key=key.seal(new.private_key, context=_context(row), nonce=new.nonce),
        public_key=new.public_key,
        state=state.value,
        now=now,
    )
    return row


def list_keys(
    reader: Reader,
    key: SecretKey,
    domain: str,
    *,
    only_active: bool = False,
    on_broken: Callable[[SealBroken], None] | None = None,
) -> list[DkimKey]:
    """The keys of a name, oldest first, with their private halves. Raises SealBroken; with `on_broken` that is told,
    and the key left out."""
    rows = reader.rows(
        f"SELECT {_COLUMNS}, private_key FROM dkim_key"  # noqa: S608 - a constant
        " WHERE name = :domain AND (state = 'active' OR :all = 1) ORDER BY id",
        domain=domain,
        all=0 if only_active else 1,
    )
    found = []
    for row in rows:
        try:
            found.append(_key(key, row))
        except SealBroken as broken:
            if on_broken is None:
                raise
            on_broken(broken)
    return found


def infos(reader: Reader, domain: str | None = None) -> list[KeyInfo]:
    """The keys of a name, or all of them, oldest first."""
    rows = reader.rows(
        f"SELECT {_COLUMNS} FROM dkim_key WHERE name = :domain OR :all = 1 ORDER BY id",  # noqa: S608 - a constant
        domain=domain or "",
        all=1 if domain is None else 0,
    )
    return [_info(row) for row in rows]


def note_seen(tx: Transaction, key_id: int, at: float | None) -> None:
    """Since when DNS shows the record of a published key; None: it does not (any more)."""
    tx.run("UPDATE dkim_key SET seen_at = :at WHERE id = :id AND state = 'published'", id=key_id, at=at)


def activate_key(tx: Transaction, key_id: int, now: float) -> bool:
    """It signs from now on, and what has signed before it by the same algorithm retires. False: it does not wait."""
    row = tx.row(
        "UPDATE dkim_key SET state = 'active', changed_at = :now WHERE id = :id AND state = 'published'"
        " RETURNING name, algorithm",
        id=key_id,
        now=now,
    )
    if row is None:
        return False
    tx.run(
        "UPDATE dkim_key SET state = 'retired', changed_at = :now WHERE name = :name AND algorithm = :algorithm"
        " AND state = 'active' AND id <> :id",
        id=key_id,
        name=row[0],
        algorithm=row[1],
        now=now,
    )
    return True


def retire_key(tx: Transaction, key_id: int, now: float) -> bool:
    sql = "UPDATE dkim_key SET state = 'retired', changed_at = :now WHERE id = :id AND state IN ('published', 'active')"
    return tx.run(sql, id=key_id, now=now) > 0


def withdraw_key(tx: Transaction, key_id: int, now: float) -> bool:
    """Nobody needs the record of a retired key any more."""
    sql = "UPDATE dkim_key SET state = 'withdrawn', changed_at = :now WHERE id = :id AND state = 'retired'"
    return tx.run(sql, id=key_id, now=now) > 0


def forget_key(tx: Transaction, key_id: int) -> bool:
    """Of one that does not sign."""
    return tx.run("DELETE FROM dkim_key WHERE id = :id AND state <> 'active'", id=key_id) > 0


def remove_keys(tx: Transaction, domain: int) -> None:
    tx.run("DELETE FROM dkim_key WHERE domain = :domain", domain=domain)


def _info(row: Row) -> KeyInfo:
    return KeyInfo(*_values(row))


def _key(key: SecretKey, row: Row) -> DkimKey:
    private_key = key.open(bytes(row[-1]), context=_context(row[0]))
    return DkimKey(*_values(row), private_key=private_key)  # type: ignore[misc]  # mypy cannot count the values


def _values(row: Row) -> Row:
    return (*row[:5], KeyState(row[5]), *row[6:9], bool(row[9]))


def _context(row: int) -> str:
    return f"dkim_key/{row}"
