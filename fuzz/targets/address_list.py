# SPDX-License-Identifier: Apache-2.0
"""Address lists of header fields: never an exception, and a clean list names what is in it."""

from __future__ import annotations

from posthouse.mail.address_list import MAX_MEMBERS, addresses, parse_address_list
from posthouse.mail.compose import address_field

DICTIONARY = "header.dict"


def target(data: bytes) -> None:
    found = parse_address_list(data)
    flat = list(found.flat())
    assert len(flat) <= MAX_MEMBERS
    for member in flat:
        member.name.encode()
        assert "\n" not in member.name
        assert "\r" not in member.name, "a name of several lines"
        assert member.address is not None or not found.is_clean, "a clean list has an address nobody can read"
    assert addresses(data) == [member.address for member in flat if member.address is not None]
    named = [(member.name, member.address) for member in flat if member.address is not None]
    if not named:
        return
    written = address_field("To", named)
    again = parse_address_list(written.partition(b":")[2].removesuffix(b"\r\n"))
    assert [member.address for member in again.flat()] == [address for _, address in named], "a list changes"
    assert again.is_clean, "what we write is not clean"
