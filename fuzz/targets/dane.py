# SPDX-License-Identifier: Apache-2.0
"""DANE with any chain and any records: a verdict or DaneFault, and never a pass without a record that matches.

The input is the certificates of the chain, `<next>` between them; the last piece is the data of the records.
"""

from __future__ import annotations

import hashlib

from fuzz.choices import Choices
from posthouse.mailauth.dane import END_ENTITY, MAX_CHAIN, DaneFault, authenticate, usable
from posthouse.mailauth.der import subject_public_key_info
from posthouse.ports import TlsaRecord

DICTIONARY = "dane.dict"
NOW = 1_800_000_000.0


def _key(der: bytes) -> bytes:
    try:
        found = subject_public_key_info(der)
    except ValueError:
        return b""
    assert found in der
    return found


def target(data: bytes) -> None:
    choices = Choices(data)
    usage, selector, matching = choices.number(5), choices.number(3), choices.number(4)
    names_itself = choices.flag()
    *chain, octets = choices.rest.split(b"<next>")
    if names_itself and chain:
        octets = _key(chain[-1]) if selector == 1 else chain[-1]
        octets = {1: hashlib.sha256, 2: hashlib.sha512}[matching](octets).digest() if matching in (1, 2) else octets
    records = usable([TlsaRecord(usage, selector, matching, octets)])
    assert len(records) <= 1
    if records:
        assert usage in (2, 3)
        assert selector in (0, 1)
    try:
        trust = authenticate(chain, records, ("mx.bob.test",), NOW)
    except DaneFault:
        return
    assert records, "a pass without a record"
    if usage == END_ENTITY:
        whole = chain[0] if selector == 0 else _key(chain[0])
        digests = {0: whole, 1: hashlib.sha256(whole).digest(), 2: hashlib.sha512(whole).digest()}
        assert digests[matching] == octets, "a pass for another certificate"
    assert trust == ("DANE-EE" if usage == END_ENTITY else "DANE-TA")
    assert len(chain[:MAX_CHAIN]) >= 1
