# SPDX-License-Identifier: Apache-2.0
"""The account's key, and requests signed with it: JSON Web Signatures as ACME wants them (RFC 8555 §6.2).

Invariant: one signature, everything but the payload in the protected header, and never `jwk` and `kid` together.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from posthouse.ports import Entropy

COORDINATE = 32  # octets of a coordinate and of each half of a signature on P-256 (RFC 7518 §3.4, §6.2.1)
# The order of the group P-256 (FIPS 186-4 D.1.2.3).
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
# FIPS 186-4 B.4.1: 64 bits more than the order has, so that the remainder favours no number that anybody could tell.
KEY_CHANCE = 40


def encode(octets: bytes) -> str:
    """base64url without padding (RFC 7515 §2)."""
    return urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Raises ValueError, also for padding, which RFC 8555 §6.1 forbids."""
    if "=" in text:
        raise ValueError("base64url with padding")
    return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))


def load_key(pem: bytes) -> PrivateKeyTypes:
    """Raises ValueError, also for a key that needs a password or a library that knows more."""
    try:
        return load_pem_private_key(pem, None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from None


def make_ec_key(entropy: Entropy) -> ec.EllipticCurvePrivateKey:
    """A key on P-256 whose chance comes from the port."""
    chance = int.from_bytes(entropy.octets(KEY_CHANCE), "big")
    return ec.derive_private_key(chance % (P256_ORDER - 1) + 1, ec.SECP256R1())


@dataclass(frozen=True, slots=True, repr=False)
class AccountKey:
    """ES256, which every authority must know (RFC 8555 §6.2)."""

    private: ec.EllipticCurvePrivateKey

    @classmethod
    def from_pem(cls, pem: bytes) -> AccountKey:
        """Raises ValueError."""
        return cls.of(load_key(pem))

    @classmethod
    def of(cls, private: PrivateKeyTypes) -> AccountKey:
        """Raises ValueError."""
        if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
            raise ValueError("not a key on P-256")
        return cls(private)

    @property
    def pem(self) -> bytes:
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def jwk(self) -> dict[str, str]:
        """The public half (RFC 7517 §4, RFC 7518 §6.2)."""
        numbers = self.private.public_key().public_numbers()
        x, y = (encode(each.to_bytes(COORDINATE, "big")) for each in (numbers.x, numbers.y))
        return {"crv": "P-256", "kty": "EC", "x": x, "y": y}

    @property
    def thumbprint(self) -> str:
        """RFC 7638 §3: the required members in the order of their names, without blanks."""
        return encode(hashlib.sha256(_json(dict(sorted(self.jwk.items())))).digest())

    def authorization(self, token: str) -> str:
        """RFC 8555 §8.1: what proves that a challenge's token and this account belong together."""
        return f"{token}.{self.thumbprint}"

    def sign(self, payload: bytes, header: Mapping[str, Any]) -> bytes:
        """A flattened JWS (RFC 7515 §7.2.2)."""
        protected, body = encode(_json({"alg": "ES256", **header})), encode(payload)
        r, s = decode_dss_signature(self.private.sign(f"{protected}.{body}".encode(), ec.ECDSA(hashes.SHA256())))
        signature = encode(r.to_bytes(COORDINATE, "big") + s.to_bytes(COORDINATE, "big"))
        return _json({"protected": protected, "payload": body, "signature": signature})


def bind_account(key: AccountKey, *, url: str, key_id: str, mac_key: bytes) -> dict[str, str]:
    """RFC 8555 §7.3.4: the account's key, vouched for with a secret that the authority gave to a customer."""
    protected = encode(_json({"alg": "HS256", "kid": key_id, "url": url}))
    body = encode(_json(key.jwk))
    signature = hmac.new(mac_key, f"{protected}.{body}".encode(), hashlib.sha256).digest()
    return {"protected": protected, "payload": body, "signature": encode(signature)}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
