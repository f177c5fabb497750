# SPDX-License-Identifier: Apache-2.0
"""What DKIM-Signature, ARC-Message-Signature and ARC-Seal have in common: tag lists, keys in DNS, the signature itself.

Invariant: whatever stands in a field or a key record, the answer is a verdict with a reason; nothing else is raised.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from posthouse.mail.address import AddressError, Domain
from posthouse.mail.header import Field
from posthouse.mailauth.canonical import RELAXED, SIMPLE, relaxed_field

MAX_TAGS = 64  # tags of one signature or key record; RFC 6376 knows fifteen
MIN_RSA_BITS = 1024  # RFC 8301 §3.2: verifiers must not take less
MAX_RSA_BITS = 8192  # a key that takes longer than a few milliseconds to check is an attack
MAX_LENGTH_DIGITS = 76  # of l=, RFC 6376 §3.5

PublicKey = rsa.RSAPublicKey | ed25519.Ed25519PublicKey
KeyRecords = Mapping[str, bytes | None]
"""TXT records by name (`sel._domainkey.example.test`), their strings joined; None: there is none. A name that is
missing could not be looked up."""

_PKCS1 = padding.PKCS1v15()
_SHA256 = hashes.SHA256()
_TAG_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]*")
# RFC 6376 §3.5: b= is taken as empty, blanks included. Two patterns: one that begins with a character is found faster.
_B_VALUE = re.compile(rb"(;\s*b\s*=)[^;]*")
_B_FIRST = re.compile(rb"(\s*b\s*=)[^;]*")


class SignatureResult(StrEnum):
    """RFC 8601 §2.7.1, as one signature gives them."""

    PASS = "pass"  # noqa: S105 - the result's name
    FAIL = "fail"
    POLICY = "policy"  # good, and of a kind that is not believed here
    PERMERROR = "permerror"
    TEMPERROR = "temperror"


class SignatureFault(Exception):  # noqa: N818 - a verdict on what others wrote
    def __init__(self, reason: str, result: SignatureResult = SignatureResult.PERMERROR) -> None:
        super().__init__(reason)
        self.result = result


@dataclass(frozen=True, slots=True)
class BodyForm:
    """How a body is hashed. `limit`: octets of the canonical form (l=)."""

    form: bytes
    limit: int | None = None


def parse_tags(text: bytes) -> dict[bytes, bytes]:
    """A tag list (RFC 6376 §3.2), in its order. Raises SignatureFault when it is none."""
    tags: dict[bytes, bytes] = {}
    specs = text.strip().removesuffix(b";")
    for spec in specs.split(b";", MAX_TAGS) if specs else []:
        name, equals, value = spec.partition(b"=")
        name = name.strip()
        if not equals or name in tags or len(tags) >= MAX_TAGS or not _TAG_NAME.fullmatch(name):
            raise SignatureFault("the tag list is not well formed")
        tags[name] = value.strip()
    return tags


def text_of(tags: Mapping[bytes, bytes], name: bytes) -> str:
    """In lower case; "" where the tag is missing."""
    return tags.get(name, b"").decode("utf-8", "replace").lower()


def domain_of(tags: Mapping[bytes, bytes], name: bytes) -> str:
    """A domain name, or what stands behind the @ of i=, in A-labels (RFC 8616 §3): U-labels are for people, and for
    what the signature is over."""
    text = text_of(tags, name)
    if name == b"i":
        text = text.rpartition("@")[2]
    if text.isascii():
        return text
    try:
        return Domain.parse(text).name
    except AddressError:
        raise SignatureFault(f"{name.decode('ascii')}= is no domain name") from None


def need(tags: Mapping[bytes, bytes], names: Iterable[bytes]) -> None:
    for name in names:
        if not tags.get(name):
            raise SignatureFault(f"tag {name.decode('ascii')}= is missing")


def key_name(tags: Mapping[bytes, bytes]) -> str:
    """Where the key is published (RFC 6376 §3.6.2.1)."""
    return f"{domain_of(tags, b's')}._domainkey.{domain_of(tags, b'd')}"


def names_of(tags: Mapping[bytes, bytes]) -> list[bytes]:
    """h=, in lower case."""
    return [name.strip().lower() for name in tags.get(b"h", b"").split(b":")]


# --- forms ----------------------------------------------------------------------------------------


def forms(tags: Mapping[bytes, bytes]) -> tuple[bytes, BodyForm]:
    """Of header and body (c=, l=). Raises SignatureFault for an unknown one."""
    header, _, body = tags.get(b"c", b"simple/simple").lower().partition(b"/")
    body = body or SIMPLE
    if {header, body} - {RELAXED, SIMPLE}:
        raise SignatureFault("unknown canonicalization")
    if b"l" not in tags:
        return header, BodyForm(body)
    length = tags[b"l"]
    if not length.isdigit() or len(length) > MAX_LENGTH_DIGITS:
        raise SignatureFault("l= is no length within the body")
    return header, BodyForm(body, int(length))


def canonical_field(header: bytes, field: Field, form: bytes) -> bytes:
    """One field of a header, without its CRLF."""
    if form == RELAXED:
        return relaxed_field(field.name, header[field.value_start : field.end])
    return header[field.start : field.end].removesuffix(b"\r\n")


def unsigned_field(header: bytes, field: Field, form: bytes) -> bytes:
    """A field that holds a signature, with b= taken as empty (RFC 6376 §3.7)."""
    value = header[field.value_start : field.end].removesuffix(b"\r\n")
    found = _B_FIRST.match(value) or _B_VALUE.search(value)
    if found is not None:
        value = value[: found.end(1)] + value[found.end() :]
    if form == RELAXED:
        return relaxed_field(field.name, value)
    return header[field.start : field.value_start] + value


def signed_octets(
    header: bytes, fields: Iterable[Field], signature: Field, form: bytes, tags: Mapping[bytes, bytes]
) -> bytes:
    """RFC 6376 §3.7: each name in h= takes the lowest field of that name not taken yet, or nothing."""
    waiting: dict[bytes, list[Field]] = {}
    for field in fields:
        if field != signature:
            waiting.setdefault(field.name.lower(), []).append(field)
    names = [name for name in names_of(tags) if name]
    pieces = [canonical_field(header, waiting[name].pop(), form) for name in names if waiting.get(name)]
    return b"\r\n".join([*pieces, unsigned_field(header, signature, form)])


# --- keys and signatures --------------------------------------------------------------------------


def public_key(records: KeyRecords, tags: Mapping[bytes, bytes]) -> PublicKey:
    """RFC 6376 §3.6.1 and §6.1.2, RFC 8463 §4. Raises SignatureFault."""
    name = key_name(tags)
    if name not in records:
        raise SignatureFault("the key could not be looked up", SignatureResult.TEMPERROR)
    record = records[name]
    if record is None:
        raise SignatureFault("no key for the signature")
    key = parse_tags(record)
    kind, _, digest = tags[b"a"].lower().partition(b"-")
    if key.get(b"v", b"DKIM1") != b"DKIM1" or (b"v" in key and next(iter(key)) != b"v") or b"p" not in key:
        raise SignatureFault("the key record is not well formed")
    if not key[b"p"]:
        raise SignatureFault("the key was revoked")
    if key.get(b"k", b"rsa").lower() != kind:
        raise SignatureFault("the key is for another algorithm")
    if digest != b"sha256" or (b"h" in key and digest not in _words(key[b"h"])):
        raise SignatureFault("the hash algorithm is not allowed")  # RFC 8301 §3.1: SHA-1 is over
    if b"s" in key and not {b"*", b"email"} & set(_words(key[b"s"])):
        raise SignatureFault("the key is not for mail")
    is_strict = b"s" in _words(key.get(b"t", b""))
    if is_strict and b"@" in tags.get(b"i", b"") and domain_of(tags, b"i") != domain_of(tags, b"d"):
        raise SignatureFault("the key is for its very domain only")
    return _load(kind, base64_of(key[b"p"]))


def _words(text: bytes) -> list[bytes]:
    return _without_blanks(text).split(b":")


@lru_cache(maxsize=256)  # to read a key costs as much as to check with it; up to 4 KB each, and faults are not kept
def _load(kind: bytes, octets: bytes) -> PublicKey:
    try:
        if kind == b"ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(octets)
        public = load_der_public_key(octets)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SignatureFault("the key is damaged") from None
    if not isinstance(public, rsa.RSAPublicKey) or public.key_size < MIN_RSA_BITS:
        raise SignatureFault("the key is too short")
    if public.key_size > MAX_RSA_BITS:
        raise SignatureFault("the key is too long")
    return public


def check_signature(key: PublicKey, tags: Mapping[bytes, bytes], signed: bytes) -> None:
    """Raises SignatureFault unless `signed` bears the signature in b=."""
    signature = base64_of(tags[b"b"])
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, _PKCS1, _SHA256)
        else:
            key.verify(signature, hashlib.sha256(signed).digest())  # RFC 8463 §3
    except InvalidSignature:
        raise SignatureFault("the header was changed, or signed with another key", SignatureResult.FAIL) from None


def base64_of(text: bytes) -> bytes:
    try:
        return base64.b64decode(_without_blanks(text), validate=True)
    except binascii.Error:
        raise SignatureFault("not base64") from None


def _without_blanks(text: bytes) -> bytes:
    return b"".join(text.split())
