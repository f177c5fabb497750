# SPDX-License-Identifier: Apache-2.0
"""Received, Return-Path, Delivered-To: whatever a client calls itself, one well-formed field comes out."""

from __future__ import annotations

import re

from fuzz.choices import Choices
from posthouse.mail.address import Address, AddressError, parse_address
from posthouse.mail.header import scan_header
from posthouse.mail.trace import Hop, delivered_to, received, return_path, was_delivered_to

DICTIONARY = "address.dict"
MAX_SIZE = 1000
_CLAUSE = re.compile(rb"\bby mail\.example\.test\b")


def target(data: bytes) -> None:
    choices = Choices(data)
    texts = [part.decode("utf-8", "replace") for part in choices.rest.split(b"<next>")]
    texts += [""] * 6
    hop = Hop(
        helo=texts[0],
        peer_address=texts[1] or "192.0.2.1",
        by="mail.example.test",
        protocol="ESMTPS",
        ident=texts[2] or "aabb",
        when=1_700_000_000.0,
        peer_name=texts[3],
        tls_version=texts[4],
        tls_cipher="TLS_AES_128_GCM_SHA256",
    )
    try:
        address: Address | None = parse_address(texts[5])
    except AddressError:
        address = None
    fields = received(hop, address) + return_path(address)
    if address is not None:
        fields += delivered_to(address)
    scan = scan_header(fields + b"\r\n")
    assert scan.is_well_formed, "a trace field is none"
    assert [field.name for field in scan.fields][:2] == [b"Received", b"Return-Path"]
    assert len(scan.fields) == (2 if address is None else 3), "a client adds fields of its own"
    assert all(len(line) <= 998 for line in fields.split(b"\r\n"))
    value = scan.get(b"received") or b""
    assert len(_CLAUSE.findall(value)) >= 1
    assert value.count(b"(") == value.count(b")"), "a client opens a comment"
    assert address is None or was_delivered_to(scan, address)
