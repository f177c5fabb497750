# SPDX-License-Identifier: Apache-2.0
r"""Flags as clients say them and are told them: `\Seen`, `$Forwarded` (RFC 9051 §2.3.2).

Invariant: what was said is told again, in the spelling that the account has for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from posthouse.outcome import INVALID_ARGUMENTS, Refusal
from posthouse.store.catalogue import Letters
from posthouse.store.flags import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN, unpack_keywords

# In the order of RFC 9051 §2.3.2, in which they are told.
SYSTEM_FLAGS = {"\\Seen": SEEN, "\\Answered": ANSWERED, "\\Flagged": FLAGGED, "\\Deleted": DELETED, "\\Draft": DRAFT}
RECENT = "\\Recent"
_BITS = {name.lower(): bit for name, bit in SYSTEM_FLAGS.items()}

# Keywords with a meaning for several programs (RFC 9051 §2.3.2, RFC 5788 §4.2), as all of them write them: delivery
# may have set one before any client of the account spelled it.
_WELL_KNOWN = ("$Forwarded", "$MDNSent", "$Junk", "$NotJunk", "$Phishing", "$Important", "$SubmitPending", "$Submitted")
_SPELLINGS = {word.lower(): word for word in _WELL_KNOWN}


def bit(flag: str) -> int | None:
    """Of a system flag in any case; None for a keyword."""
    return _BITS.get(flag.lower())


def read(words: Iterable[str]) -> tuple[int, tuple[str, ...]]:
    r"""(bits, keywords as they are spelled). \Recent is nobody's to change (RFC 3501 §2.3.2) and is passed over.

    Raise Refusal 5.5.4 for another word with a backslash.
    """
    bits = 0
    keywords: list[str] = []
    for word in words:
        here = bit(word)
        if here is not None:
            bits |= here
        elif not word.startswith("\\"):
            keywords.append(word)
        elif word.lower() != RECENT.lower():
            raise Refusal(INVALID_ARGUMENTS, "there is no such system flag")
    return bits, tuple(keywords)


class FlagWords:
    """Words for flags. Letters of a mailbox share a handful of sets, so each is put together once."""

    def __init__(self, spellings: Mapping[str, str]) -> None:
        self._spellings = {**_SPELLINGS, **spellings}
        self._known: dict[tuple[int, str, bool], bytes] = {}

    def spelled(self, keyword: str) -> str:
        return self._spellings.get(keyword, keyword)

    def of(self, flags: int, keywords: str, *, is_recent: bool = False) -> bytes:
        """`keywords` as placements have them; the words with blanks between them."""
        key = (flags, keywords, is_recent)
        words = self._known.get(key)
        if words is None:
            names = [name for name, mask in SYSTEM_FLAGS.items() if flags & mask]
            names += [RECENT] if is_recent else []
            names += map(self.spelled, unpack_keywords(keywords))
            words = self._known[key] = " ".join(names).encode()
        return words

    def of_all(self, letters: Letters) -> list[bytes]:
        """Of each letter, in order."""
        if not letters.keywords.tobytes().strip(b"\0"):  # none has a keyword, as in most mailboxes
            plain = {flags: self.of(flags, letters.texts[0]) for flags in set(letters.flags)}
            return list(map(plain.__getitem__, letters.flags))
        pairs = list(zip(letters.flags, letters.keywords, strict=True))
        words = {pair: self.of(pair[0], letters.texts[pair[1]]) for pair in set(pairs)}
        return [words[pair] for pair in pairs]
