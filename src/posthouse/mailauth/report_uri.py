# SPDX-License-Identifier: Apache-2.0
"""Where reports are wanted: URIs of DMARC and TLSRPT records as values.

Invariant: an address that comes out of here can be mailed to, a URL is https to a host with a name.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes, urlsplit

from posthouse.mail.address import Address, AddressError, Domain, parse_address

MAX_URI = 1000  # characters

# RFC 3986 §2: what else stands there is escaped. Commas, semicolons and exclamation marks must be (RFC 8460 §3).
_CHARACTERS = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@$&'()*+=%]+")

Target = Address | str  # a mailto URI's address, or an https URL


def parse_target(uri: str) -> Target | None:
    """None: neither mailto nor https, or not well formed."""
    if len(uri) > MAX_URI or not _CHARACTERS.fullmatch(uri):
        return None
    scheme, _, rest = uri.partition(":")
    match scheme.lower():
        case "mailto":
            return _address(rest)
        case "https":
            return _url(uri)
        case _:
            return None


def _address(text: str) -> Address | None:
    """RFC 6068 §2, without the header fields behind "?": a stranger does not write our letters."""
    try:
        return parse_address(unquote_to_bytes(text.partition("?")[0]).decode("utf-8"))
    except (AddressError, UnicodeDecodeError):
        return None


def _url(uri: str) -> str | None:
    try:
        parts = urlsplit(uri)
        is_good = _is_named(parts.hostname or "") and parts.username is None and (parts.port is None or parts.port > 0)
    except ValueError:
        return None
    return uri if is_good else None


def _is_named(host: str) -> bool:
    """No number, in whatever form programs read one (0x7f.1, 2130706433), and no word of our own network (localhost):
    strangers choose where our requests go."""
    labels = host.removesuffix(".").split(".")
    try:
        return len(labels) > 1 and not labels[-1][:1].isdigit() and bool(Domain.parse(host.removesuffix(".")))
    except AddressError:
        return False
