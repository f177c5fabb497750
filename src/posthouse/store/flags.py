# SPDX-License-Identifier: Apache-2.0
"""The words for system flags and keywords (RFC 9051 §2.3.2): flags are bits, keywords one sorted text."""

from __future__ import annotations

from collections.abc import Collection

from posthouse.outcome import INVALID_ARGUMENTS, Refusal
from posthouse.store.refusal import MailboxRefusal, Reason

# Stored: the bits never change their meaning. (\Recent is a session's matter, not the store's.)
SEEN = 1
ANSWERED = 2
FLAGGED = 4
DELETED = 8
DRAFT = 16
ALL = SEEN | ANSWERED | FLAGGED | DELETED | DRAFT

MAX_KEYWORDS = 100  # per placement: people use five, a client that writes one per tag of the web must stop somewhere
MAX_KEYWORD = 100  # octets; JMAP allows 255 (RFC 8621 §4.1.1), clients use names of a word or two
_NOT_IN_ATOMS = frozenset('(){ %*"\\]')  # RFC 9051 §9: atom-specials


def pack_keywords(keywords: Collection[str]) -> str:
    """The stored text of a set of keywords. Case makes no difference (RFC 8621 §4.1.1), lower case is kept.

    Raise Refusal 5.5.4 for what is no keyword, `MailboxRefusal` LIMIT for too long ones and for too many.
    """
    if not keywords:
        return ""
    for keyword in keywords:
        is_atom = keyword.isascii() and keyword.isprintable() and _NOT_IN_ATOMS.isdisjoint(keyword)
        if not keyword or not is_atom:
            raise Refusal(INVALID_ARGUMENTS, "this is not a keyword")
        if len(keyword) > MAX_KEYWORD:
            raise MailboxRefusal(Reason.LIMIT, f"a keyword is at most {MAX_KEYWORD} octets long")
    folded = sorted({keyword.lower() for keyword in keywords})
    if len(folded) > MAX_KEYWORDS:
        raise MailboxRefusal(Reason.LIMIT, f"a letter has at most {MAX_KEYWORDS} keywords")
    return " ".join(folded)


def unpack_keywords(text: str) -> tuple[str, ...]:
    return tuple(text.split())
