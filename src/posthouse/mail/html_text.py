# SPDX-License-Identifier: Apache-2.0
"""The beginning of the text of an HTML page, without markup: for previews, not for showing the page.

Never fails and looks at no character twice: what is not closed ends the text.
"""

from __future__ import annotations

import html
import re

MAX_TAGS = 20_000  # of a page without text; a newsletter has some thousand before its first words

_TAG = re.compile(r"<(?:(!--)|(/?)([A-Za-z][A-Za-z0-9]{0,30})|[!?/])")
_CLOSING = re.compile(r"</(script|style|head|title|template|noscript|svg)(?![A-Za-z0-9])", re.IGNORECASE)
_UNSEEN = frozenset(("script", "style", "head", "title", "template", "noscript", "svg"))
# Tags that can stand inside a word; any other one parts two words.
_INLINE = frozenset(
    ("a", "abbr", "b", "bdi", "bdo", "big", "code", "em", "font", "i", "ins", "mark", "s", "small", "span", "strong",
     "sub", "sup", "tt", "u", "wbr")
)  # fmt: skip


def beginning(page: str, most: int) -> str:
    """About the first `most` characters that are seen, blanks as they come."""
    pieces: list[str] = []
    left = most
    position = 0
    for _ in range(MAX_TAGS):
        if left <= 0 or position >= len(page):
            break
        start = page.find("<", position)
        piece = page[position:] if start < 0 else page[position:start]
        if piece:
            pieces.append(piece)
            left -= len(piece.strip())
        if start < 0:
            break
        position = _after_tag(page, start, pieces)
    return html.unescape("".join(pieces))


def _after_tag(page: str, start: int, pieces: list[str]) -> int:
    """Where the text goes on behind the `<` at `start`; the end of the page where it does not."""
    match = _TAG.match(page, start)
    if match is None:
        pieces.append("<")
        return start + 1
    if match[1]:
        return _behind(page, "-->", match.end())
    name = (match[3] or "").lower()
    if name not in _INLINE:
        pieces.append(" ")
    if name not in _UNSEEN or match[2]:
        return _behind(page, ">", match.end())
    closing = _CLOSING.search(page, match.end())
    while closing is not None and closing[1].lower() != name:
        closing = _CLOSING.search(page, closing.end())
    return len(page) if closing is None else _behind(page, ">", closing.end())


def _behind(page: str, mark: str, position: int) -> int:
    at = page.find(mark, position)
    return len(page) if at < 0 else at + len(mark)
