# SPDX-License-Identifier: Apache-2.0
"""A few words of a letter for the list of letters (RFC 8970): the beginning of its text, without quotations.

Always the same words for the same letter, one line, at most MAX_PREVIEW characters; "" where there is no text that
people read. Looks at the beginning of a few parts only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from posthouse.mail import html_text
from posthouse.mail.decoding import decoded_text
from posthouse.mail.header import Buffer
from posthouse.mail.structure import Part

MAX_PREVIEW = 200  # characters (RFC 8970 §3.3)
MAX_TEXT = 16 * 1024  # octets of a plain text looked at: many screens of quotation before the first own word
MAX_PAGE = 192 * 1024  # octets of an HTML page: newsletters have 100 KiB of style sheets before their text
MAX_TRIED = 8  # parts looked at until one has text

# Characters that show nothing: newsletters fill the rest of the preview with them. Some matter inside a word.
_JOINERS = "\u200c\u200d\u200e\u200f"
_FILLERS = _JOINERS + "\u061c\u115f\u1160\u17b4\u17b5\u180e\u2800\u3164\uffa0"
_UNSEEN = re.compile("[\u00ad\u034f\u200b\u202a-\u202e\u2060-\u206f\ufeff]+")
_CIPHER = "-----BEGIN PGP MESSAGE-----"
_SIGNED = "-----BEGIN PGP SIGNED MESSAGE-----"
_SIGNATURE = "-----BEGIN PGP SIGNATURE-----"


def preview(part: Part, content: Buffer) -> str:
    """Of the letter `content` with the structure `part`. Never fails."""
    for number, each in enumerate(_readable(part)):
        if number >= MAX_TRIED:
            break
        if each.subtype == b"html":
            page = decoded_text(each, content, most=MAX_PAGE)
            text = html_text.beginning(page, 4 * MAX_PREVIEW)  # entities and blanks become less
        else:
            text = _own_words(decoded_text(each, content, most=MAX_TEXT))
        shown = _one_line(text)
        if shown:
            return shown
    return ""


def _readable(root: Part) -> Iterator[Part]:
    """The parts that have the letter's text, the best first; those of letters inside it at last."""
    waiting = [root]
    later: list[Part] = []
    while waiting or later:
        if not waiting:
            waiting.append(later.pop(0))
        part = waiting.pop()
        if part.disposition is not None and part.disposition.kind == b"attachment" and part is not root:
            continue
        if part.holds_letter:
            later.append(part.children[0])
        elif part.media == b"text" and part.subtype in (b"plain", b"html"):
            yield part
        elif part.subtype == b"alternative":
            # The last of these is looked at first: plain text before anything else, else as they stand.
            waiting += [each for each in reversed(part.children) if not _is_plain(each)]
            waiting += [each for each in reversed(part.children) if _is_plain(each)]
        elif part.subtype != b"encrypted":
            waiting += reversed(part.children)


def _is_plain(part: Part) -> bool:
    return part.media == b"text" and part.subtype == b"plain"


def _own_words(text: str) -> str:
    """Without quoted lines and signature; all of it where nothing else is left."""
    text = text.lstrip()
    if text.startswith(_CIPHER):
        return ""
    if text.startswith(_SIGNED):  # what was signed stands behind the first empty line
        text = text.replace("\r\n", "\n").partition("\n\n")[2]
    own: list[str] = []
    for line in text.splitlines():
        if own and (line == "-- " or line.startswith(_SIGNATURE)):  # RFC 3676 §4.3
            break
        if not line.startswith(">") and line.strip():
            own.append(line)
    return "\n".join(own) or text


def _one_line(text: str) -> str:
    words = (word.strip(_FILLERS) for word in _UNSEEN.sub("", text).split())
    line = " ".join(word for word in words if word)
    if not line.isprintable():
        line = "".join(char for char in line if char.isprintable() or char in _JOINERS)
    return line[:MAX_PREVIEW].strip(_FILLERS + " ")
