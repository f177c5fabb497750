# SPDX-License-Identifier: Apache-2.0
"""DKIM keys of the domains (RFC 6376, RFC 8463), private halves sealed.

Several keys may be active: a letter is signed with each of them. A retired key signs no more, but its record
is still shown while letters signed with it may be on their way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from posthouse.ports import Reader, Row, Transaction
from posthouse.store.sealing import SecretKey

Algorithm = Literal["rsa", "ed25519"]


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key on its way in. `private_key` is PKCS #8 DER, `public_key` the base64 text for the p= tag."""

    selector: str
    algorithm: Algorithm
    private_key: bytes = field(repr=False)
    public_key: str
    nonce: bytes  # fresh, from Entropy: seals the private key


@dataclass(frozen=True, slots=True)
class DkimKey:
    """`private_key` is PKCS #8 DER; the RSA key of RFC 6376 §3.6.1 or the Ed25519 key of RFC 8463 §4."""

    id: int
    domain: str
    selector: str
    algorithm: Algorithm
    private_key: bytes = field(repr=False)
    public_key: str
    is_active: bool
    created_at: float

    @property
    def record_name(self) -> str:
        return f"{self.selector}._domainkey.{self.domain}"

    @property
    def record(self) -> str:
        """The value of the TXT record (RFC 6376 §3.6.1)."""
        return f"v=DKIM1; k={self.algorithm}; p={self.public_key}"


def add_key(tx: Transaction, key: SecretKey, domain: int, new: NewKey, now: float) -> int:
    """Insert an active key. The selector is new within the domain."""
    row = tx.new_id()
    tx.run(
        "INSERT INTO dkim_key (id, domain, selector, algorithm, private_key, public_key, state, created_at)"
        " VALUES (:id, :domain, :selector, :algorithm, :private_key, :public_key, 'active', :now)",
        id=row,
        domain=domain,
        selector=new.selector,
        algorithm=new.algorithm,
        private_key=key.seal(new.private_key, context=_context(row), nonce=new.nonce),
        public_key=new.public_key,
        now=now,
    )
    return row


def list_keys(reader: Reader, key: SecretKey, domain: str, *, only_active: bool = False) -> list[DkimKey]:
    """The keys of a domain by name, oldest first. Raises SealBroken."""
    rows = reader.rows(
        "SELECT k.id, d.name, k.selector, k.algorithm, k.private_key, k.public_key, k.state, k.created_at"
        " FROM dkim_key k JOIN domain d ON d.id = k.domain"
        " WHERE d.name = :domain AND (k.state = 'active' OR :all = 1) ORDER BY k.id",
        domain=domain,
        all=0 if only_active else 1,
    )
    return [_key(key, row) for row in rows]


def retire_key(tx: Transaction, key_id: int) -> bool:
    return tx.run("UPDATE dkim_key SET state = 'retired' WHERE id = :id", id=key_id) > 0


def remove_keys(tx: Transaction, domain: int) -> None:
    tx.run("DELETE FROM dkim_key WHERE domain = :domain", domain=domain)


def _key(key: SecretKey, row: Row) -> DkimKey:
    row_id, domain, selector, algorithm, sealed, public_key, state, created_at = row
    private_key = key.open(bytes(sealed), context=_context(row_id))
    return DkimKey(row_id, domain, selector, algorithm, private_key, public_key, state == "active", created_at)


def _context(row: int) -> str:
    return f"dkim_key/{row}"
