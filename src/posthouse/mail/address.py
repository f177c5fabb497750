# SPDX-License-Identifier: Apache-2.0
"""Addresses as the envelope knows them: local-part, domain, address-literal (RFC 5321 §4.1.2, RFC 6531).

An `Address` cannot be wrong: `parse_address` and `Domain.parse` are the only ways in. A domain is kept in
its A-label form in lower case (what DNS and comparison need); `Domain.unicode` gives the U-label form.
Local parts are kept as said, without needless quotes; `Address.key` folds case for look-ups here at home.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache

import idna

MAX_LOCAL_PART = 64  # octets, RFC 5321 §4.5.3.1.1
MAX_DOMAIN = 255  # octets, RFC 5321 §4.5.3.1.2
MAX_PATH = 254  # octets between the angle brackets, RFC 5321 §4.5.3.1.3 (256 with them)
MAX_LABEL = 63  # octets, RFC 1035 §2.3.4

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-]"
_UTEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\ud7ff\ue000-\U0010ffff]"
_DOT_STRING = re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*")
_DOT_STRING_UTF8 = re.compile(rf"{_UTEXT}+(?:\.{_UTEXT}+)*")
# quoted-string of RFC 5321 §4.1.2: qtextSMTP or quoted-pairSMTP, no control characters.
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~\u0080-\ud7ff\ue000-\U0010ffff]|\\[ -~])*)"')
_QUOTED_PAIR = re.compile(r"\\(.)")
# sub-domain = Let-dig [Ldh-str]; underscores occur in real host names and are let through on the right of @.
_LDH_DOMAIN = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_\-]{0,61}[a-z0-9_])?)(?:\.[a-z0-9_](?:[a-z0-9_\-]{0,61}[a-z0-9_])?)*")
_GENERAL_LITERAL = re.compile(r"[A-Za-z0-9\-]*[A-Za-z0-9]:[!-Z^-~]+")


class AddressError(ValueError):
    """The text is not an address; the message says why, in words a sender understands."""


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain name in A-label form, lower case, without the final dot; or an address-literal `[192.0.2.1]`."""

    name: str

    @classmethod
    def parse(cls, text: str) -> Domain:
        """Raise `AddressError` unless text is a domain name or an address-literal."""
        if len(text) > MAX_DOMAIN:  # before the cache, which would keep it
            raise AddressError(f"the domain is longer than {MAX_DOMAIN} octets")
        return _parse_domain(text)

    @property
    def is_literal(self) -> bool:
        return self.name.startswith("[")

    @property
    def ip_address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The address inside an address-literal; None for names."""
        if not self.is_literal:
            return None
        inner = self.name[1:-1]
        return ipaddress.ip_address(inner[5:] if inner.lower().startswith("ipv6:") else inner)

    @property
    def unicode(self) -> str:
        """The U-label form where there is one (RFC 5890 §2.3.2.1)."""
        if "xn--" not in self.name:
            return self.name
        try:
            return idna.decode(self.name)
        except idna.IDNAError:
            return self.name

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Address:
    """`local-part@domain`; `local_part` is unquoted text."""

    local_part: str
    domain: Domain

    @property
    def is_ascii(self) -> bool:
        """Whether it can be said without SMTPUTF8 (RFC 6531 §3.3)."""
        return self.local_part.isascii()

    @property
    def key(self) -> tuple[str, str]:
        """(folded local-part, domain): equal keys are one mailbox here. Elsewhere local parts keep their case."""
        return self.local_part.casefold(), self.domain.name

    @property
    def quoted_local_part(self) -> str:
        return _quoted(self.local_part)

    @property
    def unicode(self) -> str:
        """For people: the domain in its U-label form."""
        return f"{self.quoted_local_part}@{self.domain.unicode}"

    def __str__(self) -> str:
        return _address_text(self.local_part, self.domain.name)


@lru_cache(maxsize=4096)  # an address is written some six times while its letter passes
def _address_text(local_part: str, domain: str) -> str:
    return f"{_quoted(local_part)}@{domain}"


def _quoted(local_part: str) -> str:
    if _DOT_STRING_UTF8.fullmatch(local_part):
        return local_part
    escaped = local_part.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@lru_cache(maxsize=4096)  # a busy server meets the same few thousand domains all day
def _parse_domain(text: str) -> Domain:
    if text.startswith("[") and text.endswith("]"):
        return _parse_literal(text)
    name = text[:-1] if text.endswith(".") else text
    if not name:
        raise AddressError("the domain is empty")
    if name.isascii():
        name = name.lower()
    else:
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError) as error:
            raise AddressError(f"the domain is not a valid international name: {error}") from None
    if len(name) > MAX_DOMAIN:
        raise AddressError(f"the domain is longer than {MAX_DOMAIN} octets")
    if not _LDH_DOMAIN.fullmatch(name):
        raise AddressError("the domain has a character or a label that DNS names cannot have")
    return Domain(name)


def _parse_literal(text: str) -> Domain:
    # RFC 5321 §4.1.3: IPv4 bare, IPv6 behind a tag, anything else behind another tag (which nobody can route).
    inner = text[1:-1]
    try:
        if "%" in inner:  # a zone means something on one machine alone, and Python takes any character in it
            raise ValueError
        if inner.lower().startswith("ipv6:"):
            return Domain(f"[IPv6:{ipaddress.IPv6Address(inner[5:])}]")
        return Domain(f"[{ipaddress.IPv4Address(inner)}]")
    except ValueError:
        if _GENERAL_LITERAL.fullmatch(inner):
            raise AddressError("this kind of address literal is not known here") from None
        raise AddressError("the address literal holds no IP address") from None


def parse_address(text: str, *, smtputf8: bool = True) -> Address:
    """Read `local-part@domain`, the local-part bare or quoted. Raise `AddressError` with the reason.

    With `smtputf8` False non-ASCII text anywhere is an error (the client did not ask for SMTPUTF8).
    """
    if not smtputf8 and not text.isascii():
        raise AddressError("non-ASCII address without SMTPUTF8")
    if len(text.encode("utf-8", "replace")) > MAX_PATH:
        raise AddressError(f"the address is longer than {MAX_PATH} octets")
    written, local, domain_text = _split(text)
    if len(written.encode("utf-8", "replace")) > MAX_LOCAL_PART:
        raise AddressError(f"the local part is longer than {MAX_LOCAL_PART} octets")
    if domain_text.endswith("."):
        raise AddressError("the domain ends with a dot")
    address = Address(local, _parse_domain(domain_text))
    # An A-label may be four times as long as what was said. What `str` gives must be readable here again: it is
    # what the queue keeps, and one letter with an address that nobody can read would stop all behind it.
    if not domain_text.isascii() and len(str(address).encode("utf-8", "replace")) > MAX_PATH:
        raise AddressError(f"the address is longer than {MAX_PATH} octets in its ASCII form")
    return address


def _split(text: str) -> tuple[str, str, str]:
    """The local-part as written and unquoted, and the domain."""
    if text.startswith('"'):
        quoted = _QUOTED.match(text)
        if quoted is None or text[quoted.end() : quoted.end() + 1] != "@":
            raise AddressError("the quoted local part is not well formed")
        return quoted[0], _QUOTED_PAIR.sub(r"\1", quoted[1]), text[quoted.end() + 1 :]
    local, at, domain = text.rpartition("@")
    if not at:
        raise AddressError("an address needs an @ and a domain")
    if not local:
        raise AddressError("the local part is empty")
    if not _DOT_STRING_UTF8.fullmatch(local):
        raise AddressError("the local part has a character that needs quoting, or a stray dot")
    return local, local, domain
