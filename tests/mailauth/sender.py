# SPDX-License-Identifier: Apache-2.0
"""A domain that sends: its records in DNS, its letters, signed and sealed."""

from __future__ import annotations

import base64

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from posthouse.mailauth.arc import ArcCheck
from posthouse.mailauth.arc_seal import seal
from posthouse.mailauth.canonical import BodyHash
from posthouse.mailauth.dkim import DkimSigner
from tests.fakes import FakeResolver

_PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = base64.b64encode(_PRIVATE.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
KEY_RECORD = b"v=DKIM1; k=ed25519; p=" + PUBLIC
_DER = _PRIVATE.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
SELECTOR = "s1"
SIGNED_AT = 1_000_000_000.0  # long ago for every clock


def publish(
    dns: FakeResolver, domain: str, *, spf: bytes = b"v=spf1 ip4:192.0.2.7 -all", policy: bytes = b"p=reject"
) -> None:
    """SPF, a key and a DMARC policy; b"" for none of the first or the last."""
    dns.text(domain, *([spf] if spf else []))
    dns.text(f"{SELECTOR}._domainkey.{domain}", KEY_RECORD)
    if policy:
        dns.text(f"_dmarc.{domain}", b"v=DMARC1; " + policy)


def compose(author: str, *, body: bytes = b"How are you?\r\n", more: bytes = b"") -> bytes:
    return (
        more
        + f"From: {author}\r\nTo: bob@bob.test\r\nSubject: Hello\r\nMessage-ID: <1@{author}>\r\n\r\n".encode()
        + body
    )


def signed(letter: bytes, domain: str) -> bytes:
    header, _, body = letter.partition(b"\r\n\r\n")
    field = DkimSigner(domain, SELECTOR, _DER).sign(header + b"\r\n", _hash_of(body), SIGNED_AT)
    return field + letter


def sealed(letter: bytes, domain: str, results: bytes) -> bytes:
    """One more set, of a hop that has found `results`. The keys of earlier hops are this one too."""
    header, _, body = letter.partition(b"\r\n\r\n")
    check = ArcCheck(header + b"\r\n")
    check.update(body)
    chain = check.judge(dict.fromkeys(check.key_names, KEY_RECORD))
    signer = DkimSigner(domain, SELECTOR, _DER)
    fields = seal(
        signer, header + b"\r\n", _hash_of(body), check=check, chain=chain, results=results, timestamp=SIGNED_AT
    )
    return fields + letter


def _hash_of(body: bytes) -> BodyHash:
    stream = BodyHash()
    stream.update(body)
    return stream
