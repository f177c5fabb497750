# SPDX-License-Identifier: Apache-2.0
"""TLSRPT records: does a domain want to hear of failed TLS, and where (RFC 8460 §3).

Invariant: reading never fails; what is not a URI of a known scheme is left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from posthouse.mailauth.report_uri import Target, parse_target

MAX_RECORD = 4096  # octets read of a record; real ones have some sixty
# Of one record. RFC 8460 §3 allows several and asks none of them whether it wants reports: each could be a victim of
# whoever writes the record, once a day. Who collects for a domain is one service, at times a second one.
MAX_URIS = 3

_VERSION = re.compile(rb"v=TLSRPTv1[ \t]*(?:;|\Z)")  # §3: the words are case-sensitive


def record_name(domain: str) -> str:
    return f"_smtp._tls.{domain}"


def targets_of(texts: Sequence[bytes]) -> tuple[Target, ...]:
    """Where the reports go, of all TXT records at the name; () for no record, or several (§3)."""
    records = [text for text in texts if _VERSION.match(text)]
    if len(records) != 1:
        return ()
    found: dict[Target, None] = {}
    for part in records[0][:MAX_RECORD].decode("ascii", "replace").split(";")[1:]:
        name, _, value = part.strip(" \t").partition("=")
        if name.rstrip(" \t") != "rua":
            continue  # §3: unknown fields are ignored
        for uri in value.split(","):
            target = parse_target(uri.strip(" \t"))
            if target is not None:
                found[target] = None
    return tuple(found)[:MAX_URIS]
