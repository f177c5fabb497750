# SPDX-License-Identifier: Apache-2.0
"""TLSRPT records and the URIs in them: few targets, each an address or an https URL with a host. The input is the
records at one name, between `<next>`."""

from __future__ import annotations

from urllib.parse import urlsplit

from posthouse.mail.address import Address, parse_address
from posthouse.mailauth.tlsrpt import MAX_URIS, targets_of

DICTIONARY = "reports.dict"


def target(data: bytes) -> None:
    texts = data.split(b"<next>")
    found = targets_of(texts)
    assert len(found) <= MAX_URIS
    assert not found or sum(text.startswith(b"v=TLSRPTv1") for text in texts) >= 1
    for each in found:
        if isinstance(each, Address):
            assert parse_address(str(each)) == each
        else:
            parts = urlsplit(each)
            assert parts.scheme.lower() == "https"
            assert parts.hostname
            assert parts.username is None
