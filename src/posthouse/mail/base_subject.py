# SPDX-License-Identifier: Apache-2.0
"""The base subject of RFC 5256 §2.1, exactly: what SORT and THREAD compare, so that clients come to the same result.

(Conversations across all mail are joined by `store.threads`, which also knows what other languages write for "Re:".)
"""

from __future__ import annotations

import re
from typing import NamedTuple

from posthouse.mail.encoded_word import decode_header_text

MAX_SUBJECT = 1_000  # octets looked at: nobody tells subjects apart by what comes later, and the loops stay short

_SPACE = re.compile(r"[ \t\r\n]+")
# RFC 5256 §5. subj-refwd = ("re" / ("fw" ["d"])) *WSP [subj-blob] ":". Spaces are single ones by then.
_LEADER = re.compile(r"(?:re|fwd?) ?(?:\[[^\[\]]*\] ?)?:", re.IGNORECASE)
_BLOB = re.compile(r"\[[^\[\]]*\] ?")
_TRAILER = "(fwd)"
# What has none of these at its ends is its own base subject: nearly all that begin a conversation.
_MAY_HAVE_ARTIFACTS = re.compile(r"[ \[]|re|fw|.*\)\Z", re.IGNORECASE | re.DOTALL)


class BaseSubject(NamedTuple):
    """`text` compares without case (see `sorting.collation_key`). `is_reply`: a reply or a forward (RFC 5256 §3)."""

    text: str
    is_reply: bool


def base_subject(subject: bytes | str) -> BaseSubject:
    """Of a raw field value. Never fails: what cannot be decoded stays as it stands."""
    text = decode_header_text(subject[:MAX_SUBJECT])
    if not text.isascii() or "  " in text or "\t" in text:
        text = _SPACE.sub(" ", text)
    text = text.strip(" ")
    if not _MAY_HAVE_ARTIFACTS.match(text):
        return BaseSubject(text, is_reply=False)
    is_reply = False
    while True:
        text, had_trailer = _without_trailers(text)
        text, had_leader = _without_leaders(text)
        is_reply = is_reply or had_trailer or had_leader
        if not (text[:5].lower() == "[fwd:" and text.endswith("]")):
            return BaseSubject(text, is_reply)
        text, is_reply = text[5:-1], True  # step 6, and again from step 2


def _without_trailers(text: str) -> tuple[str, bool]:
    """Step 2."""
    end = len(text)
    had_any = False
    while True:
        while end and text[end - 1] == " ":
            end -= 1
        if text[max(0, end - len(_TRAILER)) : end].lower() != _TRAILER:
            return text[:end], had_any
        end -= len(_TRAILER)
        had_any = True


def _without_leaders(text: str) -> tuple[str, bool]:
    """Steps 3 to 5, at a moving position: the text is copied once."""
    position = 0
    had_any = False
    while True:
        while text.startswith(" ", position):
            position += 1
        # subj-leader = (*subj-blob subj-refwd) / WSP: blobs before a "Re:" go with it, whatever follows.
        last = end = position
        while (blob := _BLOB.match(text, end)) is not None:
            last, end = end, blob.end()
        leader = _LEADER.match(text, end)
        if leader is not None:
            position = leader.end()
            had_any = True
            continue
        # Step 4, for the run of blobs at once: each goes where something is left, which may be the next one.
        return text[end:] if text[end:].strip(" ") else text[last:], had_any
