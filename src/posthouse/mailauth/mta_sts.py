# SPDX-License-Identifier: Apache-2.0
"""MTA-STS as texts and values: the record in DNS, the policy of the web server, which host names it allows (RFC 8461).

Invariant: what is not a valid record or policy is none at all; a policy that was read allows exactly the hosts that
its own text names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

MAX_POLICY = 64 * 1024  # octets: what RFC 8461 §3.3 suggests
MAX_AGE = 31_557_600  # seconds; §3.2: the maximum, a year
MAX_PATTERNS = 1000  # the largest providers name under ten; each host is compared with all

# §3.1: sts-text-record = sts-version 1*(sts-field-delim sts-field) [sts-field-delim]; sts-field-delim = *WSP ";" *WSP
_VERSION = re.compile(rb"v=STSv1[ \t]*;")
_RECORD_FIELD = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.\-]{0,31})=([!-:<>-~]+)")
_ID = re.compile(r"[A-Za-z0-9]{1,32}")
# §3.2: sts-policy-ext-name and sts-policy-ext-value; a blank or tab may stand behind the colon and at the line's end.
_POLICY_FIELD = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.\-]{0,31}):(.*)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SECONDS = re.compile(r"[0-9]{1,10}")
_PATTERN = re.compile(r"(?:\*\.)?[a-z0-9](?:[a-z0-9\-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9\-]*[a-z0-9])?)*")
_PLAIN_TEXT = re.compile(r"[ \t]*text/plain[ \t]*(?:;.*)?", re.IGNORECASE)


class Mode(StrEnum):
    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


class PolicyFault(Exception):  # noqa: N818 - an answer about somebody's text
    """It is no valid policy; the words say why."""


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """`patterns` in lower case; `max_age` in seconds; `lines`: its text as it was declared (RFC 8460 §4.5)."""

    mode: Mode
    patterns: tuple[str, ...]
    max_age: int
    lines: tuple[str, ...]

    def allows(self, host: str) -> bool:
        """Whether mail may go to this host: an A-label name, whatever its case (§4.1)."""
        name = host.lower().removesuffix(".")
        return any(_matches(pattern, name) for pattern in self.patterns)


def record_name(domain: str) -> str:
    return f"_mta-sts.{domain}"


def policy_host(domain: str) -> str:
    return f"mta-sts.{domain}"


def policy_url(domain: str) -> str:
    return f"https://{policy_host(domain)}/.well-known/mta-sts.txt"


def parse_record(texts: Sequence[bytes]) -> str | None:
    """The policy's id; None where the domain does not have exactly one valid record (§3.1)."""
    ours = [text for text in texts if _VERSION.match(text)]
    if len(ours) != 1:
        return None
    try:
        _, *fields = (text.strip(" \t") for text in ours[0].decode("ascii").split(";"))
    except UnicodeDecodeError:
        return None
    if fields[-1] == "":  # the delimiter at the end
        fields.pop()
    ident: str | None = None
    for text in fields:
        field = _RECORD_FIELD.fullmatch(text)
        if field is None:
            return None
        if field[1] == "id" and ident is None:  # §3.2: of a repeated field the first counts
            ident = field[2]
    return ident if ident is not None and _ID.fullmatch(ident) else None


def parse_policy(octets: bytes) -> StsPolicy:
    """Raises PolicyFault. Empty lines are passed over; unknown fields, too (§3.2)."""
    if len(octets) > MAX_POLICY:
        raise PolicyFault(f"the policy has more than {MAX_POLICY} octets")
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise PolicyFault("the policy is not UTF-8") from None
    first: dict[str, str] = {}
    patterns: dict[str, None] = {}
    lines: list[str] = []
    for line in text.split("\n"):
        name, value = _field(line.removesuffix("\r"))
        if not name:
            continue
        lines.append(f"{name}: {value}")
        if name == "mx":
            patterns[_pattern(value)] = None
            if len(patterns) > MAX_PATTERNS:
                raise PolicyFault(f"the policy names more than {MAX_PATTERNS} hosts")
        else:
            first.setdefault(name, value)
    return _policy(first, tuple(patterns), tuple(lines))


def is_policy_type(content_type: str) -> bool:
    """§3.2: parameters do not matter."""
    return _PLAIN_TEXT.fullmatch(content_type) is not None


def _field(line: str) -> tuple[str, str]:
    """(name, value); ("", "") for an empty line."""
    if not line.strip(" \t"):
        return "", ""
    field = _POLICY_FIELD.fullmatch(line)
    value = "" if field is None else field[2].strip(" \t")
    if field is None or not value or _CONTROL.search(value):
        raise PolicyFault("a line is not of the form name: value")
    return field[1], value


def _pattern(value: str) -> str:
    pattern = value.lower()
    # RFC 1035 §2.3.4: 255 octets on the wire, 253 written.
    if len(pattern) > 253 or not _PATTERN.fullmatch(pattern) or any(len(label) > 63 for label in pattern.split(".")):
        raise PolicyFault("an mx line names no host")
    return pattern


def _policy(first: dict[str, str], patterns: tuple[str, ...], lines: tuple[str, ...]) -> StsPolicy:
    if first.get("version") != "STSv1":
        raise PolicyFault("the version is not STSv1")
    try:
        mode = Mode(first.get("mode", ""))
    except ValueError:
        raise PolicyFault("the mode is not enforce, testing or none") from None
    age = first.get("max_age", "")
    if not _SECONDS.fullmatch(age):
        raise PolicyFault("max_age is not a number of seconds")
    if not patterns and mode is not Mode.NONE:
        raise PolicyFault("no mx line")
    return StsPolicy(mode, patterns, min(int(age), MAX_AGE), lines)


def _matches(pattern: str, name: str) -> bool:
    # §4.1: "*" stands for the whole left-most label, and nothing else.
    if pattern.startswith("*."):
        first, dot, rest = name.partition(".")
        return bool(first and dot) and rest == pattern[2:]
    return name == pattern
