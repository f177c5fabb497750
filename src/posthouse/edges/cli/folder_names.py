# SPDX-License-Identifier: Apache-2.0
"""Mailbox names as folder names of other programs: Maildir++ (`.Archive.2026`), modified UTF-7 (RFC 3501 §5.1.3).

Invariant: what is written reads back as the same name, and no name leads out of its folder.
"""

from __future__ import annotations

import re
from binascii import Error, a2b_base64, b2a_base64

SEPARATOR = "/"
_ENCODED = re.compile(r"&([A-Za-z0-9+,]*)-")
# What is no printable ASCII, and the two separators, so that a name is one level of a folder.
_WILD = re.compile(r"&|(?:[^ -~]|[./])+")


def to_folder(name: str) -> str:
    """`Archive/2026` → `.Archive.2026`; the inbox is the maildir itself, ""."""
    if name == "INBOX":
        return ""
    return "".join(f".{encode(part)}" for part in name.split(SEPARATOR))


def from_folder(folder: str) -> str:
    """`.Archive.2026` → `Archive/2026`."""
    parts = folder.removeprefix(".").split(".")
    return SEPARATOR.join(decode(part) for part in parts if part) or "INBOX"


def encode(text: str) -> str:
    return _WILD.sub(_encode, text)


def _encode(run: re.Match[str]) -> str:
    if run[0] == "&":
        return "&-"
    coded = b2a_base64(run[0].encode("utf-16-be"), newline=False).decode().rstrip("=").replace("/", ",")
    return f"&{coded}-"


def decode(text: str) -> str:
    """What is not well formed stays as it is: it is a folder's name after all."""
    return _ENCODED.sub(_decode, text)


def _decode(run: re.Match[str]) -> str:
    if not run[1]:
        return "&"
    coded = run[1].replace(",", "/")
    try:
        return a2b_base64(coded + "=" * (-len(coded) % 4)).decode("utf-16-be")
    except (Error, UnicodeDecodeError):
        return run[0]
