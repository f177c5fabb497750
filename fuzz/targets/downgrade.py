# SPDX-License-Identifier: Apache-2.0
"""Surrogates of international headers: ASCII, still a header, and no address in them that was not there."""

from __future__ import annotations

from posthouse.mail.address_list import addresses
from posthouse.mail.downgrade import surrogate
from posthouse.mail.header import scan_header

DICTIONARY = "header.dict"
_NOBODY = "internationalized-address.invalid"


def target(data: bytes) -> None:
    scan = scan_header(data)
    header = data[: scan.header_size]
    made = surrogate(header)
    assert made.isascii(), "a surrogate is not ASCII"
    again = scan_header(made)
    if scan.is_well_formed:
        assert again.is_well_formed, "a surrogate is no header"
        assert len(again.fields) <= len(scan.fields), "a surrogate has more fields"
    for name in (b"from", b"to", b"sender"):
        before = {str(address) for value in scan.all(name) for address in addresses(value)}
        for value in again.all(name):
            for address in addresses(value):
                assert str(address) in before or address.domain.name == _NOBODY, "an address comes from nowhere"
