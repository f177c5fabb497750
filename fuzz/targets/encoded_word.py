# SPDX-License-Identifier: Apache-2.0
"""Encoded words: text without line ends from any octets, and what we encode reads back."""

from __future__ import annotations

from fuzz.choices import Choices
from posthouse.mail.compose import field
from posthouse.mail.encoded_word import decode_charset, decode_header_text, encode_header_text

DICTIONARY = "header.dict"


def target(data: bytes) -> None:
    choices = Choices(data)
    label = choices.octets(20).decode("latin-1")
    octets = choices.rest
    text = decode_header_text(octets)
    _check(text)
    decode_charset(octets[:200], label).encode()
    _check(decode_header_text(octets.decode("utf-8", "surrogateescape")), errors="surrogateescape")
    encoded = encode_header_text(text)
    assert encoded.isascii()
    if "=?" not in text:
        shown = text.replace("\t", " ").strip()  # controls become blanks
        assert decode_header_text(encoded) == shown, "text changes when it is encoded and decoded"
    line = field("Subject", text)
    assert line.isascii()
    assert line.endswith(b"\r\n")
    assert b"\r\n\r\n" not in line, "a field ends the header"
    assert all(part.startswith(b" ") for part in line.split(b"\r\n")[1:-1]), "a field becomes two"


def _check(text: str, errors: str = "strict") -> None:
    text.encode("utf-8", errors)
    assert "\n" not in text
    assert "\r" not in text, "header text of several lines"
