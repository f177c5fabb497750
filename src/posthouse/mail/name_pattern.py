# SPDX-License-Identifier: Apache-2.0
"""Patterns of mailbox names (RFC 9051 §6.3.9): `*` stands for anything, `%` for anything within one level.

Invariant: a match takes one step for each character of the name, whatever the pattern: no pattern is slow.
"""

from __future__ import annotations

import re
from functools import lru_cache

DELIMITER = "/"
_WILD_RUN = re.compile(r"[%*]{2,}")


class NamePattern:
    """One pattern, made ready. All places of it that a name may have reached are kept as the bits of one number."""

    __slots__ = ("_all", "_delimiter", "_end", "_literal", "_places", "_wild")

    def __init__(self, pattern: str, delimiter: str = DELIMITER) -> None:
        # A run of wildcards is as wide as its widest.
        text = _WILD_RUN.sub(lambda run: "*" if "*" in run[0] else "%", pattern)
        self._literal = None if "*" in text or "%" in text else text
        self._delimiter = delimiter
        self._all = self._wild = 0
        self._places: dict[str, int] = {}
        for at, character in enumerate(text):
            if character in "%*":
                self._wild |= 1 << at
                self._all |= (character == "*") << at
            else:
                self._places[character] = self._places.get(character, 0) | 1 << at
        self._end = 1 << len(text)

    def matches(self, name: str) -> bool:
        if self._literal is not None:
            return name == self._literal
        places, wild, every = self._places, self._wild, self._all
        delimiter = self._delimiter
        reached = 1
        reached |= (reached & wild) << 1
        for character in name:
            stays = every if character == delimiter else wild
            reached = ((reached & places.get(character, 0)) << 1) | (reached & stays)
            reached |= (reached & wild) << 1
            if not reached:
                return False
        return bool(reached & self._end)


@lru_cache(maxsize=512)  # clients list by the same few patterns
def name_pattern(pattern: str, delimiter: str = DELIMITER) -> NamePattern:
    return NamePattern(pattern, delimiter)
