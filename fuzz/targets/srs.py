# SPDX-License-Identifier: Apache-2.0
"""Rewritten senders: everybody is found again, whatever he is called, and what was not made here is refused.

The input is a sender's address; where it is none, a local part that somebody made up.
"""

from __future__ import annotations

import hashlib

from fuzz.choices import Choices
from posthouse.mail.address import MAX_LOCAL_PART, Address, AddressError, Domain, parse_address
from posthouse.mail.srs import DAY, LetterReference, Srs, SrsFault

DICTIONARY = "srs.dict"
MAX_SIZE = 300
LETTER = 1 << 62


def _keyed(octets: bytes) -> bytes:
    return hashlib.blake2b(octets, key=b"fuzz").digest()


def target(data: bytes) -> None:
    choices = Choices(data)
    now = choices.number(40_000) * DAY
    at, other = choices.number(256), chr(choices.number(256))
    text = choices.rest.decode("utf-8", "replace")
    srs = Srs(_keyed, Domain("mail.example.test"))
    try:
        sender = parse_address(text)
    except AddressError:
        try:
            srs.restore(text, now)
        except SrsFault:
            return
        raise AssertionError("a made-up address is taken") from None
    made = srs.rewrite(sender, now, LETTER)
    assert len(made.local_part.encode()) <= MAX_LOCAL_PART
    assert parse_address(str(made)) == made, "it cannot be written"
    _check_found(srs, made.local_part, sender, now)
    changed = made.local_part[:at] + other + made.local_part[at + 1 :]
    if changed.casefold() != made.local_part.casefold() and changed[:4].upper() == made.local_part[:4]:
        try:
            found = srs.restore(changed, now)
        except SrsFault:
            return
        # Three separators are one to those who read: which of them stands there is no part of what is said.
        is_same = changed[5:] == made.local_part[5:] and changed[4] in "=+-"
        assert is_same, f"{changed} is taken for {found}"


def _check_found(srs: Srs, local_part: str, sender: Address, now: float) -> None:
    found = srs.restore(local_part, now)
    if isinstance(found, LetterReference):
        assert found.letter == LETTER
        return
    if local_part.startswith("SRS0"):
        assert found == sender, "it stands for another one"
    else:  # the first host that has rewritten him
        assert found.local_part[:4].upper() == "SRS0"
