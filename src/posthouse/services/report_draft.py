# SPDX-License-Identifier: Apache-2.0
"""A report on its way out: what it says, who gets it, who does not and why.

Invariant: a draft changes nothing; `posthouse report send --dry-run` shows the very one that would be sent.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from posthouse.mail.address import Address
from posthouse.ports import Transaction

DAY = 86400
# Octets of a compressed report: in base64, with its letter, it stays under the ten million that RFC 8460 §5.2 has seen
# refused.
MAX_DOCUMENT = 7 << 20


@dataclass(frozen=True, slots=True)
class Sender:
    """From whom reports come. `is_signed`: its domain has keys."""

    address: Address
    organization: str
    is_signed: bool

    @property
    def domain(self) -> str:
        return self.address.domain.name


@dataclass(frozen=True, slots=True)
class Draft:
    """`text` is the document, `document` the same in gzip. `refused`: targets that get none, each with why. `skipped`:
    why nobody gets it, "" where somebody does. `is_asked_for`: the domain wants reports; else nobody need know that
    there was one. `forget` removes what was counted."""

    kind: str  # "dmarc", "tls"
    domain: str
    day: int
    forget: Callable[[Transaction], None]
    report_id: str = ""
    text: bytes = b""
    document: bytes = b""
    addresses: tuple[Address, ...] = ()
    urls: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    records: int = 0
    letters: int = 0
    skipped: str = ""
    is_asked_for: bool = True

    @property
    def begin(self) -> int:
        return self.day * DAY

    @property
    def end(self) -> int:
        """Inclusive."""
        return self.begin + DAY - 1


class Reporter(Protocol):
    """One kind of report."""

    kind: str

    async def days(self, before: int, after: tuple[int, str]) -> list[tuple[int, str]]:
        """A page of (day, domain) that something is counted for, oldest first, behind `after`."""

    async def draft(self, day: int, domain: str, sender: Sender) -> Draft:
        """Raises ResolverFault: nobody knows yet who wants it."""

    def forget(self, tx: Transaction, day: int, domain: str) -> None: ...


def compressed(text: bytes) -> bytes:
    """The same octets for the same text: a report that is sent again is the same file."""
    return gzip.compress(text, mtime=0)


def report_id(date: str, domain: str, earlier: int, submitter: str) -> str:
    """RFC 9990 §3.5.1: unique among reports to the same domain. `earlier`: how many there were about that day."""
    again = f".{earlier + 1}" if earlier else ""
    return f"{date}_{domain}{again}@{submitter}"
