# SPDX-License-Identifier: Apache-2.0
"""Modified UTF-7 (RFC 3501 §5.1.3): how IMAP4rev1 writes names of mailboxes beyond ASCII.

Invariant: `decode` takes only what `encode` gives, so that one mailbox has one name: no superfluous shifts, no
printable ASCII in base64, no half characters.
"""

from __future__ import annotations

import base64
import binascii
import re

_OTHERS = re.compile("[^\x20-\x25\x27-\x7e]+")  # what does not stand for itself, with "&"
_SHIFTED = re.compile(rb"&([A-Za-z0-9+,]*)-")


def encode(name: str) -> bytes:
    """Any text; lone surrogates are no characters and become U+FFFD."""
    if name.isascii() and name.isprintable() and "&" not in name:
        return name.encode("ascii")
    return _OTHERS.sub(_shift, name).encode("ascii")


def _shift(found: re.Match[str]) -> str:
    pieces: list[str] = []
    # "&" stands in the middle of other characters as "&-", never inside base64.
    for index, run in enumerate(found[0].split("&")):
        if index:
            pieces.append("&-")
        if run:
            octets = run.encode("utf-16-be", "replace" if run.isascii() else "surrogatepass")
            octets = octets.decode("utf-16-be", "replace").encode("utf-16-be")
            pieces.append(f"&{base64.b64encode(octets, b'+,').rstrip(b'=').decode('ascii')}-")
    return "".join(pieces)


def decode(octets: bytes) -> str | None:
    """None where it is not well formed."""
    try:
        text = _SHIFTED.sub(_unshift, octets)
        name = text.decode("utf-8")
    except (ValueError, binascii.Error):
        return None
    return name if encode(name) == octets else None


def _unshift(found: re.Match[bytes]) -> bytes:
    inside = found[1]
    if not inside:
        return b"&"
    padded = inside + b"=" * (-len(inside) % 4)
    return base64.b64decode(padded, b"+,", validate=True).decode("utf-16-be").encode("utf-8")
