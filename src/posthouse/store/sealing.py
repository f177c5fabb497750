# SPDX-License-Identifier: Apache-2.0
"""Secrets at rest: sealed with a key that lies beside the database, never in it.

A stolen copy of the database alone gives no SCRAM secret, no DKIM key and no app password. Each sealed value
is bound to where it stands (`context`), so that one cannot be put in another's place.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_OCTETS = 32
NONCE_OCTETS = 12  # NIST SP 800-38D §5.2.1.1; random, from Entropy: far fewer than 2^32 values are ever sealed
_FORMAT = b"\x01"  # AES-256-GCM under the key derived for "seal": format octet, nonce, ciphertext with tag


class SealBroken(Exception):  # noqa: N818 - the house names what happened, not a class of errors
    """A sealed value does not open: another key file, or the row was changed by hand."""


class SecretKey:
    """The house's master secret (32 octets) and everything derived from it."""

    __slots__ = ("_cipher", "_master")

    def __init__(self, master: bytes) -> None:
        if len(master) != KEY_OCTETS:
            raise ValueError(f"the secret key has {len(master)} octets, it needs {KEY_OCTETS}")
        self._master = master
        self._cipher = AESGCM(self.keyed_hash("seal", b"", size=32))

    def seal(self, plain: bytes, *, context: str, nonce: bytes) -> bytes:
        """`nonce`: 12 fresh octets from Entropy."""
        return _FORMAT + nonce + self._cipher.encrypt(nonce, plain, context.encode())

    def open(self, sealed: bytes, *, context: str) -> bytes:
        """Raises SealBroken."""
        nonce, body = sealed[1 : 1 + NONCE_OCTETS], sealed[1 + NONCE_OCTETS :]
        if sealed[:1] != _FORMAT or len(nonce) != NONCE_OCTETS:
            raise SealBroken(f"{context}: the sealed value has an unknown format")
        try:
            return self._cipher.decrypt(nonce, body, context.encode())
        except InvalidTag:
            raise SealBroken(f"{context}: sealed with another key, or changed") from None

    def keyed_hash(self, purpose: str, data: bytes, *, size: int = 32) -> bytes:
        """BLAKE2b keyed with the master secret, a world of its own per purpose (at most 16 octets of ASCII)."""
        return hashlib.blake2b(data, key=self._master, person=purpose.encode("ascii"), digest_size=size).digest()
