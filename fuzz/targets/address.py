# SPDX-License-Identifier: Apache-2.0
"""Addresses and domains: read or refused, and what was read is written so that it reads the same."""

from __future__ import annotations

import re

from fuzz.choices import Choices
from posthouse.mail.address import MAX_DOMAIN, MAX_LOCAL_PART, MAX_PATH, Address, AddressError, Domain, parse_address

DICTIONARY = "address.dict"
MAX_SIZE = 600
# What may stand between angle brackets and in a Received field without opening or closing anything.
_DOMAIN = re.compile(r"[a-z0-9_.\-]+|\[(?:[0-9.]+|IPv6:[0-9a-f:.]+)\]")


def target(data: bytes) -> None:
    choices = Choices(data)
    kind = choices.number(3)
    text = choices.rest.decode("utf-8", "surrogateescape" if kind == 2 else "replace")
    try:
        _check_domain(Domain.parse(text))
    except AddressError as error:
        str(error).encode("utf-8", "surrogateescape")
    try:
        address = parse_address(text, smtputf8=kind != 1)
    except AddressError as error:
        str(error).encode("utf-8", "surrogateescape")
        return
    _check_domain(address.domain)
    assert not any(char in str(address) for char in "\r\n\0"), "an address of several lines"
    assert len(str(address).encode()) <= MAX_PATH, "an address longer than a path"
    assert parse_address(str(address)) == address, "an address changes when it is written and read"
    if len(address.local_part.encode()) < MAX_LOCAL_PART // 2 and len(str(address).encode()) < MAX_PATH // 2:
        quoted = parse_address(f'"{_escaped(address)}"@{address.domain}')
        assert quoted == address, "quotes make another address of it"
    address.unicode.encode()
    assert address.key[0] == address.local_part.casefold()


def _escaped(address: Address) -> str:
    return address.local_part.replace("\\", "\\\\").replace('"', '\\"')


def _check_domain(domain: Domain) -> None:
    assert _DOMAIN.fullmatch(domain.name), f"{domain.name!r} is no domain"
    assert len(domain.name) <= MAX_DOMAIN
    assert Domain.parse(domain.name) == domain, "a domain changes when it is written and read"
    domain.unicode.encode()
    assert domain.is_literal == (domain.ip_address is not None)
