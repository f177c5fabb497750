# SPDX-License-Identifier: Apache-2.0
"""Checks DKIM signatures (RFC 6376 §6) of a letter that is in memory, with keys from a look-up it is given.

A signature either passes or says why it does not; nothing here decides what that means for the letter.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from posthouse.mail.header import Field, split_fields
from posthouse.mailauth.canonical import relaxed_body, relaxed_field, simple_body

MAX_SIGNATURES = 10  # checked per letter: each costs a DNS query and a public-key operation
MAX_TAGS = 64  # tags of one signature or key record; RFC 6376 knows fifteen
MIN_RSA_BITS = 1024  # RFC 8301 §3.2: verifiers must not take less
CLOCK_SKEW = 300.0  # seconds that a signer's clock may be ahead

KeyLookup = Callable[[str], bytes | None]
"""TXT record of a name such as `sel._domainkey.example.test`, its strings joined; None where there is none."""

_TAG_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]*")
MAX_LENGTH_DIGITS = 76  # of l=, RFC 6376 §3.5
_B_VALUE = re.compile(rb"((?:\A|;)\s*b\s*=)[^;]*")  # RFC 6376 §3.5: b= is taken as empty, blanks included
_SPACE = re.compile(rb"\s+")


class DkimResult(StrEnum):
    """RFC 8601 §2.7.1, as far as one signature and a key look-up without faults can give them."""

    PASS = "pass"  # noqa: S105 - the result's name
    FAIL = "fail"
    PERMERROR = "permerror"


@dataclass(frozen=True, slots=True)
class Verification:
    """What became of one DKIM-Signature field: `reason` is one line, "" for a pass."""

    result: DkimResult
    domain: str
    selector: str
    algorithm: str
    reason: str = ""


class _Bad(Exception):  # noqa: N818 - how the steps below say permerror or fail
    def __init__(self, reason: str, result: DkimResult = DkimResult.PERMERROR) -> None:
        super().__init__(reason)
        self.result = result


def verify(header: bytes, body: bytes, lookup: KeyLookup, *, now: float | None = None) -> list[Verification]:
    """Check the first MAX_SIGNATURES signatures of a letter, from the top. `body` follows the empty line.

    Without `now` no signature expires. Lines end in CRLF. What `lookup` raises passes through.
    """
    fields = split_fields(header)
    signatures = [field for field in fields if field.name.lower() == b"dkim-signature"]
    return [_verify_one(header, fields, one, body, lookup, now) for one in signatures[:MAX_SIGNATURES]]


def _verify_one(
    header: bytes, fields: list[Field], field: Field, body: bytes, lookup: KeyLookup, now: float | None
) -> Verification:
    tags: dict[bytes, bytes] = {}
    try:
        tags = parse_tags(header[field.value_start : field.end])
        _check_tags(tags, now)
        key = _public_key(lookup(f"{_text(tags, b's')}._domainkey.{_text(tags, b'd')}"), tags)
        header_form, _, body_form = tags.get(b"c", b"simple/simple").partition(b"/")
        _check_body(body, body_form or b"simple", tags)
        signed = _signed_octets(header, fields, field, header_form, tags)
        _check_signature(key, tags, signed)
        result, reason = DkimResult.PASS, ""
    except _Bad as bad:
        result, reason = bad.result, str(bad)
    return Verification(result, _text(tags, b"d"), _text(tags, b"s"), _text(tags, b"a"), reason)


def parse_tags(text: bytes) -> dict[bytes, bytes]:
    """A tag list (RFC 6376 §3.2). Raises the signature's permerror when it is none."""
    tags: dict[bytes, bytes] = {}
    specs = text.strip().removesuffix(b";")
    for spec in specs.split(b";", MAX_TAGS) if specs else []:
        name, equals, value = spec.partition(b"=")
        name = name.strip()
        if not equals or name in tags or len(tags) >= MAX_TAGS or not _TAG_NAME.fullmatch(name):
            raise _Bad("the tag list is not well formed")
        tags[name] = value.strip()
    return tags


def _text(tags: dict[bytes, bytes], name: bytes) -> str:
    return tags.get(name, b"").decode("utf-8", "replace").lower()


def _check_tags(tags: dict[bytes, bytes], now: float | None) -> None:
    # RFC 6376 §6.1.1
    missing = [name.decode() for name in (b"v", b"a", b"b", b"bh", b"d", b"h", b"s") if not tags.get(name)]
    if missing:
        raise _Bad(f"tag {missing[0]}= is missing")
    if tags[b"v"] != b"1":
        raise _Bad("unknown version")
    if b"from" not in _names(tags):
        raise _Bad("From is not signed")
    domain, agent = _text(tags, b"d"), _text(tags, b"i").rpartition("@")[2]
    if agent and agent != domain and not agent.endswith("." + domain):
        raise _Bad("i= is not within d=")
    if b"q" in tags and b"dns/txt" not in tags[b"q"]:
        raise _Bad("no known way to get the key")
    try:
        signed_at, expires = (int(tags[name]) if name in tags else None for name in (b"t", b"x"))
    except ValueError:
        raise _Bad("t= or x= is no number") from None
    if now is not None and expires is not None and now > expires:
        raise _Bad("the signature has expired", DkimResult.FAIL)
    if now is not None and signed_at is not None and signed_at > now + CLOCK_SKEW:
        raise _Bad("the signature comes from the future", DkimResult.FAIL)


def _names(tags: dict[bytes, bytes]) -> list[bytes]:
    return [name.strip().lower() for name in tags[b"h"].split(b":")]


def _public_key(record: bytes | None, tags: dict[bytes, bytes]) -> rsa.RSAPublicKey | ed25519.Ed25519PublicKey:
    """RFC 6376 §3.6.1 and §6.1.2, RFC 8463 §4."""
    if record is None:
        raise _Bad("no key for the signature")
    key = parse_tags(record)
    kind, _, digest = tags[b"a"].partition(b"-")
    if key.get(b"v", b"DKIM1") != b"DKIM1" or (b"v" in key and next(iter(key)) != b"v") or b"p" not in key:
        raise _Bad("the key record is not well formed")
    if not key[b"p"]:
        raise _Bad("the key was revoked")
    if key.get(b"k", b"rsa") != kind:
        raise _Bad("the key is for another algorithm")
    if digest != b"sha256" or (b"h" in key and digest not in _SPACE.sub(b"", key[b"h"]).split(b":")):
        raise _Bad("the hash algorithm is not allowed")  # RFC 8301 §3.1: SHA-1 is over
    if b"s" in key and not {b"*", b"email"} & set(_SPACE.sub(b"", key[b"s"]).split(b":")):
        raise _Bad("the key is not for mail")
    is_strict = b"s" in _SPACE.sub(b"", key.get(b"t", b"")).split(b":")
    if is_strict and b"i" in tags and _text(tags, b"i").rpartition("@")[2] != _text(tags, b"d"):
        raise _Bad("the key is for its very domain only")
    octets = _base64(key[b"p"])
    try:
        if kind == b"ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(octets)
        public = load_der_public_key(octets)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _Bad("the key is damaged") from None
    if not isinstance(public, rsa.RSAPublicKey) or public.key_size < MIN_RSA_BITS:
        raise _Bad("the key is too short")
    return public


def _check_body(body: bytes, form: bytes, tags: dict[bytes, bytes]) -> None:
    if form not in (b"relaxed", b"simple"):
        raise _Bad("unknown canonicalization")
    canonical = relaxed_body(body) if form == b"relaxed" else simple_body(body)
    if b"l" in tags:
        length = tags[b"l"]
        if not length.isdigit() or len(length) > MAX_LENGTH_DIGITS or int(length) > len(canonical):
            raise _Bad("l= is no length within the body")
        canonical = canonical[: int(length)]
    if not hmac.compare_digest(hashlib.sha256(canonical).digest(), _base64(tags[b"bh"])):
        raise _Bad("the body was changed", DkimResult.FAIL)


def _signed_octets(
    header: bytes, fields: list[Field], signature: Field, form: bytes, tags: dict[bytes, bytes]
) -> bytes:
    """RFC 6376 §3.7: each name in h= takes the lowest field of that name not taken yet, or nothing."""
    if form not in (b"relaxed", b"simple"):
        raise _Bad("unknown canonicalization")
    waiting: dict[bytes, list[Field]] = {}
    for field in fields:
        if field != signature:
            waiting.setdefault(field.name.lower(), []).append(field)
    names = [name for name in _names(tags) if name]
    pieces = [_canonical_field(header, waiting[name].pop(), form) for name in names if waiting.get(name)]
    value = header[signature.value_start : signature.end].removesuffix(b"\r\n")
    value = _B_VALUE.sub(rb"\1", value, count=1)
    if form == b"relaxed":
        pieces.append(relaxed_field(signature.name, value))
    else:
        pieces.append(header[signature.start : signature.value_start] + value)
    return b"\r\n".join(pieces)


def _canonical_field(header: bytes, field: Field, form: bytes) -> bytes:
    if form == b"relaxed":
        return relaxed_field(field.name, header[field.value_start : field.end])
    return header[field.start : field.end].removesuffix(b"\r\n")


def _check_signature(key: rsa.RSAPublicKey | ed25519.Ed25519PublicKey, tags: dict[bytes, bytes], signed: bytes) -> None:
    signature = _base64(tags[b"b"])
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
        else:
            key.verify(signature, hashlib.sha256(signed).digest())
    except InvalidSignature:
        raise _Bad("the header was changed, or signed with another key", DkimResult.FAIL) from None


def _base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(_SPACE.sub(b"", text), validate=True)
    except binascii.Error:
        raise _Bad("not base64") from None
