# SPDX-License-Identifier: Apache-2.0
"""The Sender Rewriting Scheme: reverse-paths of letters that are passed on, written so that what comes back to them
finds the sender. SRS0 holds the sender himself, SRS1 the first host that has rewritten, and a reference the number of a
letter here, where the address would become too long.

Invariant: an address is read back only if it was written here, unchanged, within MAX_AGE days.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass

from posthouse.mail.address import MAX_LOCAL_PART, MAX_PATH, Address, AddressError, Domain, parse_address

# Days in which something may come back: our queue and that of the next host may keep a letter for five days each, and
# people are away. Later, who has read the address in some Return-Path cannot use it any more.
MAX_AGE = 21
# Characters of the keyed hash, five bits each. Others write four of base64, 24 bits; a guess at ours succeeds once in
# 2^40, and gains no more than a letter to one address that nobody knows.
HASH_LENGTH = 8
CYCLE = 1 << 10  # days that two characters of base32 tell apart
DAY = 86400.0

_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_ANY_CASE = re.IGNORECASE | re.ASCII | re.DOTALL
_REWRITTEN = re.compile(r"srs([01])[=+-](.*)", _ANY_CASE)
# What hides behind the first separator of our own: hash, day, and what they are of.
_OURS = re.compile(rf"([a-z2-7]{{{HASH_LENGTH}}})=?([a-z2-7]{{2}})=([^=]*)=(.*)", _ANY_CASE)
_OTHERS_SRS1 = re.compile(r"[^=]*=([^=]+)=([=+-].+)", re.DOTALL)
_PLAIN_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\u0080-\ud7ff\ue000-\U0010ffff-]+")

Keyed = Callable[[bytes], bytes]
"""A keyed hash with HASH_OCTETS octets or more."""
HASH_OCTETS = HASH_LENGTH * 5 // 8


class SrsFault(ValueError):  # noqa: N818 - about what others wrote
    """It looks like a rewritten address and is none of ours, or is too old; the text says which."""


@dataclass(frozen=True, slots=True)
class LetterReference:
    """The reverse-path of the letter with this number."""

    letter: int


def is_rewritten(local_part: str) -> bool:
    """Whether it has the form, by whomever."""
    return _REWRITTEN.fullmatch(local_part) is not None


class Srs:
    """`domain`: where rewritten addresses are."""

    def __init__(self, keyed: Keyed, domain: Domain) -> None:
        self._keyed = keyed
        self.domain = domain

    def rewrite(self, sender: Address, now: float, letter: int) -> Address:
        """An address here for a sender elsewhere. `now`: when the letter came, so that each try says the same;
        `letter`: its number, which finds the sender where his address is too long to be part of one."""
        day = _day(int(now // DAY) % CYCLE)
        local_part = self._srs1(sender, day) or self._srs0(sender, day)
        if not self._fits(local_part):
            number = _number(letter)
            local_part = f"SRS0={self._hash('ref', day, '', number)}={day}=={number}"
        return Address(local_part, self.domain)

    def restore(self, local_part: str, now: float) -> Address | LetterReference:
        """Whom a rewritten address stands for. Raises SrsFault."""
        form = _REWRITTEN.fullmatch(local_part)
        found = None if form is None else _OURS.fullmatch(form[2])
        if form is None or found is None:
            raise SrsFault("that address was not made here")
        said, day, host, rest = found.groups()
        kind = "srs1" if form[1] == "1" else "srs0" if host else "ref"
        if not hmac.compare_digest(said.lower(), self._hash(kind, day, host, rest)):
            raise SrsFault("that address was not made here")
        # One day ahead: two machines' clocks at midnight.
        if (int(now // DAY) + 1 - _value(day)) % CYCLE > MAX_AGE + 1:
            raise SrsFault("that address has expired")
        if kind == "ref":
            return LetterReference(_value(rest))
        try:
            there = Domain.parse(host)
            return parse_address(str(Address(f"SRS0{rest}" if kind == "srs1" else rest, there)))
        except AddressError as error:  # the domains of ten years hence may be others
            raise SrsFault(f"that address stands for none: {error}") from None

    def _srs0(self, sender: Address, day: str) -> str:
        host, local_part = sender.domain.name, sender.local_part
        return f"SRS0={self._hash('srs0', day, host, local_part)}={day}={host}={local_part}"

    def _srs1(self, sender: Address, day: str) -> str:
        """For what another host has rewritten: what comes back goes to the first of them, however many there are
        between. "" for any other sender."""
        form = _REWRITTEN.fullmatch(sender.local_part)
        if form is None:
            return ""
        if form[1] == "0":
            host, rest = sender.domain.name, sender.local_part[len("SRS0") :]
        else:
            found = _OTHERS_SRS1.fullmatch(form[2])
            if found is None:
                return ""
            try:
                host, rest = Domain.parse(found[1]).name, found[2]
            except AddressError:
                return ""
        # The day stands within what others take for the hash: they need not know it.
        return f"SRS1={self._hash('srs1', day, host, rest)}{day}={host}={rest}"

    def _fits(self, local_part: str) -> bool:
        """Whether everybody takes it: RFC 5321 §4.5.3.1.1 allows 64 octets, and quotes or dots in odd places are seldom
        met in a reverse-path."""
        octets = len(local_part.encode())
        whole = octets + 1 + len(self.domain.name)
        is_plain = _PLAIN_LOCAL.fullmatch(local_part) is not None and ".." not in local_part
        return octets <= MAX_LOCAL_PART and whole <= MAX_PATH and is_plain and local_part[-1] != "."

    def _hash(self, kind: str, day: str, host: str, rest: str) -> str:
        """Of the folded text: some hosts return local parts in another case."""
        text = f"{kind}\0{day.lower()}\0{host.lower()}\0{rest.casefold()}"
        octets = self._keyed(text.encode())[:HASH_OCTETS]
        return base64.b32encode(octets).decode("ascii").lower()


def _day(day: int) -> str:
    return _BASE32[day >> 5] + _BASE32[day & 31]


def _number(letter: int) -> str:
    digits = ""
    while letter:
        digits = _BASE32[letter & 31] + digits
        letter >>= 5
    return digits or _BASE32[0]


def _value(digits: str) -> int:
    number = 0
    for digit in digits.casefold():  # as the hash was made
        number = number << 5 | _BASE32.index(digit)
    return number
