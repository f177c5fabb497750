# SPDX-License-Identifier: Apache-2.0
"""Which host names of requests are ours, and what they mean.

Invariant: a name that is none, or nobody's here, is "" or not ours, never an error.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from posthouse.mail.address import AddressError, Domain

# Names below a domain that this server answers for, as `posthouse dns` publishes them.
LABELS = ("mta-sts", "autoconfig", "autodiscover")
# RFC 8555 §8.1: base64url without padding; authorities use 43 characters.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")


def is_challenge_token(text: str) -> bool:
    return _TOKEN.fullmatch(text) is not None


class Names:
    def __init__(self, hostname: str, is_local_domain: Callable[[str], Awaitable[bool]]) -> None:
        self._hostname = hostname
        self._is_local_domain = is_local_domain

    def host_of(self, field: str) -> str:
        """The name in a Host field (RFC 9110 §7.2), in lower case, without port and final dot; "" for anything else."""
        name, colon, port = field.partition(":")
        if colon and not (port.isascii() and port.isdigit()):
            return ""
        try:
            domain = Domain.parse(name)
        except AddressError:
            return ""
        return "" if domain.is_literal or not name.isascii() else domain.name

    def below(self, host: str, label: str) -> str:
        """The domain when the host is this label below one; "" otherwise."""
        return host.removeprefix(label + ".") if host.startswith(label + ".") else ""

    async def is_domain(self, name: str) -> bool:
        return bool(name) and await self._is_local_domain(name)

    async def are_ours(self, host: str) -> bool:
        """The server's own name, a domain served here, or what is published below one."""
        if host == self._hostname or await self.is_domain(host):
            return True
        return any([await self.is_domain(self.below(host, label)) for label in LABELS])
