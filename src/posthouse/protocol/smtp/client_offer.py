# SPDX-License-Identifier: Apache-2.0
"""What a remote server offers: the reply to EHLO as a value (RFC 5321 §4.1.1.1).

Invariant: an offer comes from the latest EHLO alone; what a later EHLO does not say is not offered any more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from posthouse.protocol.smtp.replies import Reply

# RFC 5321 §4.1.1.1: ehlo-keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-"); "AUTH=" is a habit of old servers.
_KEYWORD = re.compile(r"([A-Za-z0-9][A-Za-z0-9\-]*)(=?)(?:[ \t]+([^ \t].*)?)?")
_OLD_AUTH = re.compile(r"AUTH=(.*)", re.IGNORECASE)
# RFC 1870 §3: size-value = 1*20DIGIT
_SIZE = re.compile(r"\d{1,20}")
# RFC 9422 §3 and §4: limit-name ["=" limit-value]; the values of the three known ones are 1 to 999999.
_LIMIT = re.compile(r"([A-Za-z0-9\-_]+)(?:=([!-:<-~]+))?")
_LIMIT_VALUE = re.compile(r"[1-9]\d{0,5}")


@dataclass(frozen=True, slots=True)
class Limits:
    """LIMITS (RFC 9422 §4); None where the server names none."""

    mail_max: int | None = None  # transactions in a session
    rcpt_max: int | None = None  # RCPT commands in a transaction
    rcpt_domain_max: int | None = None  # different recipient domains in a session


@dataclass(frozen=True)  # without slots: the derived values are computed once
class Offer:
    """EHLO keyword in upper case -> its parameters."""

    extensions: Mapping[str, str]

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.extensions

    @cached_property
    def max_size(self) -> int | None:
        """The largest letter taken, octets; None for no limit said (RFC 1870 §4: 0 is none)."""
        size = self.extensions.get("SIZE", "")
        return int(size) or None if _SIZE.fullmatch(size) else None

    @cached_property
    def mechanisms(self) -> tuple[str, ...]:
        return tuple(self.extensions.get("AUTH", "").upper().split())

    @cached_property
    def limits(self) -> Limits:
        return _parse_limits(self.extensions.get("LIMITS", ""))


NOTHING_OFFERED = Offer(MappingProxyType({}))


def parse_offer(reply: Reply) -> Offer:
    """Read a 250 reply to EHLO or LHLO. Lines that are no keyword are passed over."""
    extensions: dict[str, str] = {}
    for line in reply.lines[1:]:
        old_auth = _OLD_AUTH.fullmatch(line)
        if old_auth is not None:
            _add_mechanisms(extensions, old_auth[1])
            continue
        match = _KEYWORD.fullmatch(line)
        if match is None or match[2]:
            continue
        keyword, parameters = match[1].upper(), (match[3] or "").strip()
        if keyword == "AUTH":
            _add_mechanisms(extensions, parameters)
        else:
            extensions.setdefault(keyword, parameters)
    return Offer(MappingProxyType(extensions))


def _add_mechanisms(extensions: dict[str, str], more: str) -> None:
    known = extensions.get("AUTH", "").split()
    known += [name for name in more.upper().split() if name not in known]
    extensions["AUTH"] = " ".join(known)


def _parse_limits(parameters: str) -> Limits:
    # RFC 9422 §3.7: an error in the syntax voids them all, an error in one value that one.
    known: dict[str, int] = {}
    for item in parameters.split():
        match = _LIMIT.fullmatch(item)
        if match is None:
            return Limits()
        if match[2] is not None and _LIMIT_VALUE.fullmatch(match[2]):
            known.setdefault(match[1].upper(), int(match[2]))
    return Limits(known.get("MAILMAX"), known.get("RCPTMAX"), known.get("RCPTDOMAINMAX"))
