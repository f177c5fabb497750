# SPDX-License-Identifier: Apache-2.0
"""The MTA-STS policy of our own domains (RFC 8461): its text, its id, and the record that announces it.

Invariant: equal policies have equal ids and different ones different ids, so that nobody must remember to change one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Mode = Literal["off", "none", "testing", "enforce"]

ID_DIGITS = 20  # of at most 32 (RFC 8461 §3.1); 80 bits of a digest are unique enough
WELL_KNOWN_PATH = "/.well-known/mta-sts.txt"


@dataclass(frozen=True, slots=True)
class OwnPolicy:
    """`mx`: host names and patterns ("*.example.net") of all that take mail for our domains, this host among them."""

    mode: Mode
    max_age: int
    mx: tuple[str, ...]

    @property
    def is_published(self) -> bool:
        return self.mode != "off"

    @property
    def text(self) -> str:
        """RFC 8461 §3.2. Mode "none" needs no hosts; those who ignore the mode find them all the same."""
        lines = ["version: STSv1", f"mode: {self.mode}", *(f"mx: {host}" for host in self.mx)]
        return "".join(f"{line}\r\n" for line in [*lines, f"max_age: {self.max_age}"])

    @property
    def id(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:ID_DIGITS]

    @property
    def record(self) -> str:
        """RFC 8461 §3.1: the TXT record at _mta-sts."""
        return f"v=STSv1; id={self.id};"

    def covers(self, host: str) -> bool:
        """Whether a host may take mail for our domains (RFC 8461 §4.1): a wildcard stands for one label."""
        host = host.lower().removesuffix(".")
        return any(
            pattern[2:] == host.partition(".")[2] if pattern.startswith("*.") else pattern == host
            for pattern in self.mx
        )


def own_policy(hostname: str, mode: Mode, max_age: float, others: Sequence[str]) -> OwnPolicy:
    return OwnPolicy(mode, int(max_age), tuple(dict.fromkeys((hostname, *others))))


def policy_host(domain: str) -> str:
    """RFC 8461 §3.2: the Policy Host."""
    return f"mta-sts.{domain}"


class PolicyDesk:
    """Keeps the present policy, which a reload of the settings may replace while it is asked for."""

    def __init__(self, policy: OwnPolicy) -> None:
        self.policy = policy
