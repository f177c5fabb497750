# SPDX-License-Identifier: Apache-2.0
"""Letters that show what a server or client changes on their way."""

from __future__ import annotations

import base64
import random
from datetime import UTC, datetime
from email.utils import format_datetime, make_msgid

ATTACHMENT = 5 << 20  # octets
_WHEN = format_datetime(datetime(2024, 2, 29, 8, 30, tzinfo=UTC))

# What transports get wrong: lines of dots, empty lines, blanks at a line's end, 8-bit text, a line that looks like
# the envelope of an mbox, the longest line that RFC 5321 §4.5.3.1.6 allows.
BODY = "\r\n".join(
    (
        "驿站：一封信的旅程。",
        ".",
        "..",
        ".one dot, then text",
        "...three dots, then text",
        "",
        "From the post house, a line that begins with From and a blank.",
        "blanks and a tab at the end  \t",
        "ü" * 499,
        "= =20 =3D equals signs",
        "",
        ".",
        "最后一行。",
        "",
    )
)


def letter(subject: str, sender: str, to: str, *, attachment: int = 0, message_id: str = "") -> bytes:
    """A letter with CRLF lines. `attachment`: octets of a binary file beside the text."""
    fields = (
        f"From: Alice <{sender}>",
        f"To: Bob <{to}>",
        f"Subject: {subject}",
        f"Date: {_WHEN}",
        f"Message-ID: {message_id or make_msgid(domain='letters.test')}",
        "MIME-Version: 1.0",
        "X-Folded: a field that goes on",
        "\tin a second line",
    )
    head = "\r\n".join(fields).encode() + b"\r\n"
    text = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + BODY.encode()
    if not attachment:
        return head + text
    file = base64.encodebytes(random.Random(attachment).randbytes(attachment)).replace(b"\n", b"\r\n")
    return (
        head
        + b'Content-Type: multipart/mixed; boundary="=-cut-here-="\r\n\r\n--=-cut-here-=\r\n'
        + text
        + b"--=-cut-here-=\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
        + b'Content-Disposition: attachment; filename="data.bin"\r\n\r\n'
        + file
        + b"--=-cut-here-=--\r\n"
    )


def body_of(octets: bytes) -> bytes:
    """What follows the header, with CRLF lines."""
    return octets.replace(b"\r\n", b"\n").partition(b"\n\n")[2].replace(b"\n", b"\r\n")


def field(octets: bytes, name: str) -> str:
    """The first field of that name, unfolded; "" when there is none."""
    head = octets.replace(b"\r\n", b"\n").partition(b"\n\n")[0].replace(b"\n\t", b" ").replace(b"\n ", b" ")
    for line in head.split(b"\n"):
        start, _, value = line.partition(b":")
        if start.lower() == name.lower().encode():
            return value.strip().decode("utf-8", "replace")
    return ""


def assert_carries(found: bytes, sent: bytes) -> None:
    """`found` is `sent` octet for octet, with fields of those on the way before it."""
    assert difference(found, sent) == ""


def difference(found: bytes, sent: bytes) -> str:
    """Where they differ; "" when they do not."""
    start = len(found) - len(sent)
    if start >= 0 and found[start:] == sent and (start == 0 or found[:start].endswith(b"\n")):
        return ""
    ours, theirs = body_of(sent), body_of(found)
    if ours == theirs:
        return f"the header was changed: {found[:4000]!r}"
    at = next((n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    return f"sent {len(ours)} octets of body, found {len(theirs)}; from {at}: {ours[at:][:80]!r}, {theirs[at:][:80]!r}"
