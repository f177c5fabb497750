# SPDX-License-Identifier: Apache-2.0
"""Reading ahead for a client that copies a mailbox letter by letter: rows of the letters that it will ask for next.

Invariant: what is kept is given out once, for the same question, within seconds. It holds no content: whoever opens
what a row names is told if that has moved or is damaged. A letter that has gone is in no array, so nobody asks for it.
"""

from __future__ import annotations

from bisect import bisect_left

from posthouse.services.mailbox.pages import Rows, Wants
from posthouse.store.catalogue import Letters

# Letters read with one that is asked for alone. A visit to the reader thread costs as much as thirty rows; here it is
# a thirtieth of what a letter costs, and a session that stops halfway keeps some twenty kilobytes.
LETTERS = 32
# Seconds: a client that copies a mailbox takes that long for as many letters on a slow line.
LASTS = 30.0


class Ahead:
    """Of one session in one mailbox. Times are monotonic."""

    __slots__ = ("_last", "_rows", "_until", "_wants")

    def __init__(self) -> None:
        self._rows: dict[int, Rows] = {}  # by UID
        self._wants = Wants()  # what they are rows for
        self._until = 0.0
        self._last = 0  # UID of the letter that was asked for last

    def take(self, uid: int, wants: Wants, now: float) -> Rows | None:
        """What was read of this letter; None: nothing, or for another question."""
        rows = self._rows.pop(uid, None)
        if rows is None:
            return None
        if now > self._until or wants != self._wants:
            self._rows.clear()
            return None
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

    def keep(self, rows: dict[int, Rows], wants: Wants, now: float) -> None:
        self._rows, self._wants, self._until = rows, wants, now + LASTS
