# SPDX-License-Identifier: Apache-2.0
"""A mailbox letter by letter, in pages, with what an export or an import wants to know of each.

Invariant: a page costs what is on it, wherever in the mailbox it begins.
"""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.ports import Reader

PAGE = 1000  # letters; a page of JSON stays under some 300 KB


@dataclass(frozen=True, slots=True)
class Listed:
    """One letter. `digest`: SHA-256 of its content, without this recipient's own fields; times as in email."""

    uid: int
    email: int
    received_at: float
    size: int
    flags: int
    keywords: str
    digest: bytes


_LETTERS = (
    "SELECT p.uid, p.email, e.received_at, p.size, p.flags, p.keywords, b.hash FROM placement AS p"
    " JOIN email AS e ON e.id = p.email JOIN blob AS b ON b.id = e.blob"
    " WHERE p.mailbox = :mailbox AND p.uid > :after ORDER BY p.uid LIMIT :n"
)


def page(reader: Reader, mailbox: int, after: int = 0, limit: int = PAGE) -> list[Listed]:
    """The letters behind UID `after`, in order."""
    rows = reader.rows(_LETTERS, mailbox=mailbox, after=after, n=limit)
    return [
        Listed(uid, email, received_at, size, flags, keywords, bytes(digest))
        for uid, email, received_at, size, flags, keywords, digest in rows
    ]
