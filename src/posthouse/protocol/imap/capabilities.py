# SPDX-License-Identifier: Apache-2.0
"""What the server says it can do (RFC 9051 §6.1.1), by the state of the session.

Invariant: a word stands here only if the engine takes what it promises.
"""

from __future__ import annotations

from collections.abc import Iterable

# Before login: what a client needs to log in, and nothing that strangers could use.
_ALWAYS = ("IMAP4rev1", "IMAP4rev2", "SASL-IR", "ENABLE", "ID")
# After it. RIGHTS= names the rights that RFC 2086 did not know (RFC 4314 §2.2).
_INSIDE = (
    "ACL",
    "BINARY",
    "CHILDREN",
    "COMPRESS=DEFLATE",
    "CONDSTORE",
    "CREATE-SPECIAL-USE",
    "ESEARCH",
    "ESORT",
    "IDLE",
    "LIST-EXTENDED",
    "LIST-MYRIGHTS",
    "LIST-STATUS",
    "MOVE",
    "MULTIAPPEND",
    "NAMESPACE",
    "OBJECTID",
    "PARTIAL",
    "PREVIEW",
    "QRESYNC",
    "QUOTA",
    "QUOTA=RES-MESSAGE",
    "QUOTA=RES-STORAGE",
    "REPLACE",
    "RIGHTS=texk",
    "SAVEDATE",
    "SEARCHRES",
    "SORT",
    "SORT=DISPLAY",
    "SPECIAL-USE",
    "STATUS=SIZE",
    "THREAD=ORDEREDSUBJECT",
    "THREAD=REFERENCES",
    "UIDONLY",
    "UIDPLUS",
    "UNAUTHENTICATE",
    "UNSELECT",
    "UTF8=ACCEPT",
    "WITHIN",
)
# Words that ENABLE takes, in upper case, and what each of them brings: QRESYNC is CONDSTORE too (RFC 7162 §3.2.3).
ENABLES: dict[str, tuple[str, ...]] = {
    "CONDSTORE": ("CONDSTORE",),
    "QRESYNC": ("QRESYNC", "CONDSTORE"),
    "IMAP4REV2": ("IMAP4rev2",),
    "UTF8=ACCEPT": ("UTF8=ACCEPT",),
    "UIDONLY": ("UIDONLY",),
}


def capabilities(
    *,
    is_logged_in: bool,
    is_protected: bool,
    offers_tls: bool,
    mechanisms: Iterable[str],
    append_limit: int | None,
    literal_minus: bool = False,
) -> list[str]:
    """In a fixed order; `mechanisms` are those that may be used now."""
    words = [*_ALWAYS, "LITERAL-" if literal_minus else "LITERAL+"]  # RFC 7888 §5: never both
    if not is_logged_in:
        if offers_tls:
            words.append("STARTTLS")
        if not is_protected:
            words.append("LOGINDISABLED")
        words += (f"AUTH={mechanism}" for mechanism in mechanisms)
        return words
    words += _INSIDE
    if append_limit is not None:
        words.append(f"APPENDLIMIT={append_limit}")  # RFC 7889 §2
    return words


def enabling(words: Iterable[str], already: frozenset[str]) -> list[str]:
    """What ENABLED tells: of the words said (in upper case) those that are known and new (RFC 5161 §3.2)."""
    found: dict[str, None] = {}
    for word in words:
        for capability in ENABLES.get(word, ()):
            if capability.upper() not in already:
                found[capability] = None
    return list(found)
