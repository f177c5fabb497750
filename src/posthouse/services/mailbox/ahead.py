# SPDX-License-Identifier: Apache-2.0
"""Reading ahead for a client that copies a mailbox letter by letter: rows of the letters that it will ask for next.

Invariant: what is kept is given out once, for the same question, within seconds. It holds no content: whoever opens
what a row names is told if that has moved or is damaged. Of a letter that has gone, and is known to have, nobody asks.
"""

from __future__ import annotations

from bisect import bisect_left

from posthouse.services.mailbox.pages import Rows, Wants
from posthouse.store.catalogue import Letters

# Letters read with one that is asked for alone: a visit to the reader thread costs as much as thirty rows. A session
# that stops halfway keeps some twenty kilobytes.
LETTERS = 32
# Seconds: a client that copies a mailbox takes less for as many letters on a slow line.
LASTS = 30.0
# Different questions about letter after letter, in turns: some programs ask for the size or the date, then for the
# letter.
WALKS = 3


class Ahead:
    """Of one session in one mailbox."""

    __slots__ = ("_walks",)

    def __init__(self) -> None:
        self._walks: dict[Wants, Walk] = {}

    def walk(self, wants: Wants) -> Walk:
        found = self._walks.get(wants)
        if found is None:
            if len(self._walks) == WALKS:
                del self._walks[next(iter(self._walks))]
            found = self._walks[wants] = Walk()
        return found


class Walk:
    """One question about one letter after the other. Times are monotonic."""

    __slots__ = ("_last", "_rows", "_until")

    def __init__(self) -> None:
        self._rows: dict[int, Rows] = {}  # by UID
        self._until = 0.0
        self._last = 0  # UID of the letter that was asked for last

    def take(self, uid: int, now: float) -> Rows | None:
        """What was read of this letter, if anything was."""
        if now > self._until:
            self._rows.clear()
        rows = self._rows.pop(uid, None)
        if rows is not None:
            self._last = uid
        return rows

    def with_next(self, letters: Letters, uid: int) -> list[int]:
        """UIDs to be read for this one, growing: with those behind it, or before it, where the client goes that way."""
        uids = letters.uids
        here = bisect_left(uids, uid)
        before = uids[here - 1] if here else 0
        behind = uids[here + 1] if here + 1 < len(uids) else 0
        last, self._last = self._last, uid
        if last and last == before:
            return list(uids[here : here + LETTERS])
        if last and last == behind:
            return list(uids[max(here + 1 - LETTERS, 0) : here + 1])
        return [uid]

    def keep(self, rows: dict[int, Rows], now: float) -> None:
        self._rows, self._until = rows, now + LASTS
