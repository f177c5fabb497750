# SPDX-License-Identifier: Apache-2.0
"""Which addresses here take reports of other servers, and which letters may be such reports.

Invariant: both questions are answered from memory, in a microsecond: they are asked for every letter.
"""

from __future__ import annotations

from collections.abc import Iterable

from posthouse.mail.address import Address
from posthouse.mail.header import HeaderScan

TOPIC = "reports"  # of changes: letters wait to be read

# RFC 9990 §3.5.2 prescribes a type for the part, and none for the letter; RFC 8460 §5.3 multipart/report.
_TYPES = (b"multipart/", b"application/", b"text/xml")


class ReportAddresses:
    def __init__(self, names: Iterable[str] = ()) -> None:
        """`names`: addresses, or local parts alone, which mean that one at every domain here."""
        wanted = {name.casefold() for name in names}
        self._addresses = frozenset(name for name in wanted if "@" in name)
        self._local_parts = frozenset(wanted - self._addresses)

    def has(self, address: Address) -> bool:
        """Of an address at a domain here."""
        local_part = address.local_part.casefold()
        return local_part in self._local_parts or (
            bool(self._addresses) and f"{local_part}@{address.domain.name}" in self._addresses
        )


def may_be_report(scan: HeaderScan) -> bool:
    """Whether it is worth looking for a report in it."""
    kind = scan.get(b"content-type")
    return kind is not None and kind.strip().lower().startswith(_TYPES)
