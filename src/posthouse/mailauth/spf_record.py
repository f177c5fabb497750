# SPDX-License-Identifier: Apache-2.0
"""SPF records and their macro strings as values (RFC 7208 §12).

Invariant: a record is read whole before any of it counts; one wrong term and there is no record (§4.6).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

VERSION = b"v=spf1"
MAX_RECORD = 8192  # octets; RFC 7208 §3.4 wants 450, and reading costs time in proportion
MAX_CACHED = 1024  # octets of a record whose reading is kept; real ones are shorter

# RFC 7208 §7.1. A token is a macro, one of %% %_ %-, or a run of literals.
_TOKEN = re.compile(r"%\{([slodiphcrtvSLODIPHCRTV])([0-9]*)([rR]?)([-.+,/_=]*)\}|%([%_-])|([!-$&-~]+)")
_EXPLAIN_TOKEN = re.compile(_TOKEN.pattern.replace("[!-$", "[ !-$"))  # explain-string: blanks, too
_ESCAPED = {"%": "%", "_": " ", "-": "%20"}
_IN_EXPLANATIONS = frozenset("crt")  # §7.2: letters "allowed only in exp text"
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=(.*)")
_MECHANISM = re.compile(r"([-+?~]?)([A-Za-z][A-Za-z0-9]*)([:/].*)?")
_PREFIX = re.compile(r"(?:/(0|[1-9][0-9]?))?(?://(0|[1-9][0-9]{0,2}))?\Z")
_NETWORK = re.compile(r":([0-9A-Fa-f.:]+)(?:/(0|[1-9][0-9]{0,2}))?")


class SpfResult(StrEnum):
    """RFC 7208 §2.6."""

    NONE = "none"
    NEUTRAL = "neutral"
    PASS = "pass"  # noqa: S105 - the result's name
    FAIL = "fail"
    SOFTFAIL = "softfail"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


_QUALIFIERS = {
    "": SpfResult.PASS,
    "+": SpfResult.PASS,
    "-": SpfResult.FAIL,
    "~": SpfResult.SOFTFAIL,
    "?": SpfResult.NEUTRAL,
}


class SpfSyntaxError(ValueError):
    """The text is no SPF record, or no macro string; the message says why."""


class Macro(NamedTuple):
    """`%{letter…}`. `keep` right-hand parts, 0 for all; split at any of `delimiters`."""

    letter: str
    keep: int
    is_reversed: bool
    delimiters: str
    is_escaped: bool


MacroString = tuple[str | Macro, ...]


@dataclass(frozen=True, slots=True)
class All:
    """§5.1."""


@dataclass(frozen=True, slots=True)
class Include:
    """§5.2."""

    domain: MacroString


@dataclass(frozen=True, slots=True)
class Hosts:
    """`a` (§5.3) or, with `by_mx`, `mx` (§5.4). `domain` () is the current one."""

    by_mx: bool
    domain: MacroString
    prefix4: int
    prefix6: int


@dataclass(frozen=True, slots=True)
class Ptr:
    """§5.5."""

    domain: MacroString


@dataclass(frozen=True, slots=True)
class Network:
    """`ip4` or `ip6` (§5.6): the address's high-order bits and how many of the low ones do not count."""

    version: int
    bits: int
    ignored: int


@dataclass(frozen=True, slots=True)
class Exists:
    """§5.7."""

    domain: MacroString


Mechanism = All | Include | Hosts | Ptr | Network | Exists


@dataclass(frozen=True, slots=True)
class Directive:
    """What a match of the mechanism means, and the term as it is written."""

    result: SpfResult
    mechanism: Mechanism
    text: str


@dataclass(frozen=True, slots=True)
class SpfRecord:
    """Directives up to the first `all`: what follows it is never looked at (§5.1), nor is redirect (§6.1)."""

    directives: tuple[Directive, ...]
    redirect: MacroString | None
    explanation: MacroString | None


def is_spf(text: bytes) -> bool:
    """§4.5: exactly v=spf1, then a blank or the end."""
    return text[:6].lower() == VERSION and text[6:7] in (b"", b" ")


def parse_record(text: bytes) -> SpfRecord:
    """Read a record for which `is_spf` holds. Raises SpfSyntaxError."""
    if len(text) > MAX_RECORD:
        raise SpfSyntaxError(f"the record has more than {MAX_RECORD} octets")
    return _parse_cached(text) if len(text) <= MAX_CACHED else _parse(text)


@lru_cache(maxsize=512)  # the records of the large providers are met in every second letter; 4 KB each
def _parse_cached(text: bytes) -> SpfRecord:
    return _parse(text)


def _parse(octets: bytes) -> SpfRecord:
    try:
        text = octets[len(VERSION) :].decode("ascii")
    except UnicodeDecodeError:
        raise SpfSyntaxError("the record is not ASCII") from None
    directives: list[Directive] = []
    modifiers: dict[str, MacroString] = {}
    for term in text.split(" "):
        if not term:
            continue
        if found := _MODIFIER.fullmatch(term):
            name = found[1].lower()
            if name not in ("redirect", "exp"):
                parse_macros(found[2])  # its value is not used, but must be well formed (§4.6.1)
            elif name in modifiers:
                raise SpfSyntaxError(f"{name}= stands there twice")  # §6
            else:
                modifiers[name] = _domain_spec(found[2])
        else:
            directives.append(_directive(term))
    everything = next((at for at, one in enumerate(directives) if isinstance(one.mechanism, All)), None)
    if everything is None:
        return SpfRecord(tuple(directives), modifiers.get("redirect"), modifiers.get("exp"))
    return SpfRecord(tuple(directives[: everything + 1]), None, modifiers.get("exp"))


def _directive(term: str) -> Directive:
    found = _MECHANISM.fullmatch(term)
    if found is None:
        raise SpfSyntaxError(f"{_shown(term)} is no term")
    return Directive(_QUALIFIERS[found[1]], _mechanism(found[2].lower(), found[3] or "", term), term)


def _mechanism(name: str, rest: str, term: str) -> Mechanism:
    match name:
        case "all" if not rest:
            return All()
        case "include" if rest.startswith(":"):
            return Include(_domain_spec(rest[1:]))
        case "exists" if rest.startswith(":"):
            return Exists(_domain_spec(rest[1:]))
        case "ptr" if not rest or rest.startswith(":"):
            return Ptr(_domain_spec(rest[1:]) if rest else ())
        case "a" | "mx":
            return _hosts(name == "mx", rest)
        case "ip4" | "ip6":
            return _network(4 if name == "ip4" else 6, rest)
        case _:
            raise SpfSyntaxError(f"{_shown(term)} is no mechanism")


def _hosts(by_mx: bool, rest: str) -> Hosts:
    # No name can end like a prefix length: it needs a label, or a macro, at its end. So the lengths come off first.
    prefix = _PREFIX.search(rest)
    assert prefix is not None  # it matches the empty end
    name = rest[: prefix.start()]
    prefix4 = 32 if prefix[1] is None else int(prefix[1])
    prefix6 = 128 if prefix[2] is None else int(prefix[2])
    if prefix4 > 32 or prefix6 > 128:
        raise SpfSyntaxError(f"{_shown(rest)}: no such prefix length")
    if name and not name.startswith(":"):
        raise SpfSyntaxError(f"{_shown(rest)} is no name with a prefix length")
    return Hosts(by_mx, _domain_spec(name[1:]) if name else (), prefix4, prefix6)


def _network(version: int, rest: str) -> Network:
    width = 32 if version == 4 else 128
    found = _NETWORK.fullmatch(rest)
    try:
        if found is None:
            raise ValueError
        address = ipaddress.IPv4Address(found[1]) if version == 4 else ipaddress.IPv6Address(found[1])
        ignored = width - int(found[2] or width)
        if ignored < 0:
            raise ValueError
    except ValueError:
        raise SpfSyntaxError(f"{_shown(rest)} is no IPv{version} network") from None
    return Network(version, int(address) >> ignored, ignored)


def _domain_spec(text: str) -> MacroString:
    """domain-spec = macro-string ( "." toplabel [ "." ] / macro-expand )."""
    tokens, tail = _read_macros(text, _TOKEN)
    if any(isinstance(token, Macro) and token.letter in _IN_EXPLANATIONS for token in tokens):
        raise SpfSyntaxError(f"{_shown(text)} has a macro that is for explanations")
    if tail or not tokens:
        _before, dot, label = tail.removesuffix(".").rpartition(".")
        if not dot or not _LABEL.fullmatch(label) or label.isdigit():
            raise SpfSyntaxError(f"{_shown(text)} does not end like a domain name")
    return tokens


def parse_macros(text: str, *, is_explanation: bool = False) -> MacroString:
    """Read a macro-string, or an explain-string. Raises SpfSyntaxError."""
    return _read_macros(text, _EXPLAIN_TOKEN if is_explanation else _TOKEN)[0]


def _read_macros(text: str, token: re.Pattern[str]) -> tuple[MacroString, str]:
    """The tokens, and the run of literals at the end, "" where a macro stands there."""
    tokens: list[str | Macro] = []
    position = 0
    literal = ""
    while position < len(text):
        found = token.match(text, position)
        if found is None:
            raise SpfSyntaxError(f"{_shown(text)}: a character or macro that is none")
        position = found.end()
        letter, digits, reverse, delimiters, escaped, literal = found.groups("")
        if not letter:
            tokens.append(literal or _ESCAPED[escaped])
            continue
        keep = int(digits.lstrip("0")[:5] or 0)  # no value has 10,000 parts
        if digits and not keep:
            raise SpfSyntaxError(f"{_shown(text)}: no parts of a macro are to be kept")  # §7.3
        tokens.append(Macro(letter.lower(), keep, bool(reverse), delimiters or ".", letter.isupper()))
    return tuple(tokens), literal


def _shown(text: str) -> str:
    """For reasons, which stand in logs and header fields."""
    return text if len(text) <= 60 else text[:57] + "..."
