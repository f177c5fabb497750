# SPDX-License-Identifier: Apache-2.0
"""Canonical forms: the stream gives what the whole gives, both what a plain model gives; what we sign verifies."""

from __future__ import annotations

import base64
import hashlib
import re

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from fuzz.choices import Choices, pieces
from posthouse.mail.header import insert_fields, scan_header
from posthouse.mailauth.canonical import BodyHash, relaxed_body, simple_body
from posthouse.mailauth.dkim import DkimSigner
from posthouse.mailauth.dkim_verify import DkimResult, verify

DICTIONARY = "dkim.dict"
_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_SIGNER = DkimSigner("alice.test", "fuzz", _KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
_PUBLIC = base64.b64encode(_KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def target(data: bytes) -> None:
    choices = Choices(data)
    chance = choices.chance()
    letter = choices.rest
    size = scan_header(letter).header_size
    header, body = letter[:size], letter[size:]
    _check_body(body)
    stream = BodyHash()
    for piece in pieces(body, chance):
        stream.update(piece)
        if chance.random() < 0.2:
            stream.digest()
    assert stream.digest() == hashlib.sha256(relaxed_body(body)).digest(), "the stream's hash depends on its pieces"
    _sign(header, body, stream)


def _check_body(body: bytes) -> None:
    lines = [re.sub(rb"[ \t]+", b" ", line) for line in body.split(b"\r\n")]
    relaxed = [line.rstrip(b" ") for line in lines[:-1]] + lines[-1:]
    if relaxed[-1] == b" ":
        relaxed[-1] = b""
    relaxed[-1] = relaxed[-1].rstrip(b" ")
    while relaxed and not relaxed[-1]:
        relaxed.pop()
    assert relaxed_body(body) == b"".join(line + b"\r\n" for line in relaxed), "relaxed is not RFC 6376 §3.4.4"
    plain = body.split(b"\r\n")
    while plain and not plain[-1]:
        plain.pop()
    assert simple_body(body) == (b"".join(line + b"\r\n" for line in plain) or b"\r\n"), "simple is not §3.4.3"


def _sign(header: bytes, body: bytes, stream: BodyHash) -> None:
    scan = scan_header(header)
    if not scan.is_well_formed or b"from" not in scan:
        return
    signature = _SIGNER.sign(header, stream, 1_700_000_000.0)
    signed = insert_fields(header, signature)
    verdict = verify(signed, body, lambda _: b"v=DKIM1; k=ed25519; p=" + _PUBLIC)[0]
    assert verdict.result is DkimResult.PASS, f"our own signature does not verify: {verdict.reason}"
