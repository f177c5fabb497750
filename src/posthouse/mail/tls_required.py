# SPDX-License-Identifier: Apache-2.0
"""What a letter asks of its way: REQUIRETLS of its envelope, or TLS-Required of its header (RFC 8689 §3, §4.1)."""

from __future__ import annotations

from posthouse.mail.envelope import ReversePath, TlsWish
from posthouse.mail.header import HeaderScan

FIELD = b"tls-required"


def wish_of(path: ReversePath, scan: HeaderScan) -> TlsWish:
    """The envelope goes before the header. Of several fields none counts: there must not be more than one (§3)."""
    if path.wish is not TlsWish.USUAL:
        return path.wish
    value = scan.get(FIELD)
    if value is None or scan.count(FIELD) != 1:
        return TlsWish.USUAL
    # requiretls-field = "TLS-Required:" [FWS] "No" CRLF
    return TlsWish.OPTIONAL if value.strip().lower() == b"no" else TlsWish.USUAL
