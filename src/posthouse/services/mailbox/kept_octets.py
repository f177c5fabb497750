# SPDX-License-Identifier: Apache-2.0
"""What was written of letters a while ago, for the next client that asks for the same: an email never changes.

Invariant: no more octets are kept than the limit; what was written the longest ago goes first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

# For the whole house: envelopes of 100,000 letters, of the 2 GB that a small machine has. The clients of a person each
# look through the same mailbox; from here a letter takes a third of the time.
LIMIT = 64 * 1024 * 1024
ENTRY = 170  # octets that an entry takes beside what it keeps: its key, its place, and what every `bytes` has
FORMS = 8  # of an email that can be told apart


class KeptOctets:
    """By email and form, a small number."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._kept: dict[int, bytes] = {}
        self._pages: deque[tuple[list[int], int]] = deque()  # keys and size of what was kept at once, the oldest first
        self._size = 0

    def all_of(self, emails: Iterable[int], form: int) -> list[bytes] | None:
        """Of each of these; None unless all are there."""
        kept = self._kept
        try:
            return [kept[FORMS * email + form] for email in emails]
        except KeyError:
            return None

    def keep(self, emails: Iterable[int], form: int, written: Sequence[bytes]) -> None:
        keys = [FORMS * email + form for email in emails]
        size = sum(map(len, written)) + ENTRY * len(keys)
        if size > self._limit:
            return
        self._kept.update(zip(keys, written, strict=True))
        self._pages.append((keys, size))
        self._size += size
        while self._size > self._limit:
            keys, size = self._pages.popleft()
            self._size -= size
            for key in keys:
                self._kept.pop(key, None)
