# SPDX-License-Identifier: Apache-2.0
"""Encoded words: every charset of the data set, broken words, and no line of ours too long."""

from __future__ import annotations

import base64
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail.encoded_word import (
    MAX_ENCODED_WORD,
    codec_name,
    decode_charset,
    decode_header_text,
    encode_header_text,
)
from tests.mail.data import DATA

LABELS = {"hz": "hz-gb-2312", "iso2022_jp": "iso-2022-jp", "euc_jp": "euc-jp", "cp949": "ks_c_5601-1987"}
CHARSETS = sorted(path.name.removesuffix("-utf8.txt") for path in (DATA / "charsets").glob("*-utf8.txt"))


@pytest.mark.parametrize("name", CHARSETS)
def test_charsets_under_the_labels_of_mail(name: str) -> None:
    octets = (DATA / "charsets" / f"{name}.txt").read_bytes()
    expected = (DATA / "charsets" / f"{name}-utf8.txt").read_bytes().decode()
    assert decode_charset(octets, LABELS.get(name, name)) == expected


@pytest.mark.parametrize("name", CHARSETS)
def test_charsets_in_words_that_cut_characters_in_two(name: str) -> None:
    octets = b" ".join((DATA / "charsets" / f"{name}.txt").read_bytes().split())
    expected = (DATA / "charsets" / f"{name}-utf8.txt").read_bytes().decode()
    label = LABELS.get(name, name)
    words = [
        f"=?{label}?b?{base64.b64encode(octets[start : start + 45]).decode()}?=" for start in range(0, len(octets), 45)
    ]
    assert decode_header_text("\r\n ".join(words)).split() == expected.split()


@pytest.mark.parametrize(
    "case", json.loads((DATA / "mime/fields/unstructured.json").read_bytes()), ids=lambda c: c["header"][:25]
)
def test_unstructured_fields_of_the_data_set(case: dict[str, str]) -> None:
    header = re.split(r"\r?\n(?![ \t])", case["header"])[0].replace("\r\n", "\n").replace("\n", "\r\n")
    # The set puts a blank where an encoded word touches text; RFC 2047 §6 has no such rule.
    expected = case["expected"].replace("SPAM] ", "SPAM]") if "SPAM]=" in header else case["expected"]
    assert decode_header_text(header).split() == expected.split()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),
        (b"=?utf-8?q?a?=\r\n\t=?utf-8?q?b?=", "ab"),
        (b"=?utf-8?q?a?= x =?utf-8?q?b?=", "a x b"),
        (b"=?utf-8*en?Q?caf=C3=A9?=", "caf\u00e9"),  # RFC 2231 §5
        (b"=?no-such-charset?q?caf=C3=A9?=", "caf\u00e9"),
        (b"=?us-ascii?q?caf=E9?=", "caf\u00e9"),
        (b"=?utf-8?b?4?=", ""),
        (b"=?utf-8?b?Y2Fm?=", "caf"),
        (b"=?utf-8?b?Y2F?=", "ca"),
        (b"=?utf-8?x?a?=", "=?x?a?=".replace("=?x", "=?utf-8?x")),
        (b"=?utf-8?q?a=0D=0ABcc:_x?=", "aBcc: x"),  # nothing decoded can end a line
        (b"caf\xe9", "caf\u00e9"),
        ("caf\u00e9".encode(), "caf\u00e9"),
    ],
)
def test_odd_words(value: bytes, expected: str) -> None:
    assert decode_header_text(value) == expected


@pytest.mark.parametrize(
    "label", ["base64", "zlib", "rot13", "idna", "punycode", "unicode_escape", "", "\u00e9", "undefined"]
)
def test_codecs_that_are_no_charset_are_refused(label: str) -> None:
    assert codec_name(label) is None


@given(st.text(max_size=300))
def test_round_trip_in_words_of_allowed_length(text: str) -> None:
    clean = (
        "".join(char if char >= " " and char != "\x7f" else " " for char in text).encode("utf-8", "replace").decode()
    )
    encoded = encode_header_text(text)
    assert encoded.isascii()
    assert "\r" not in encoded
    if encoded != clean:
        assert all(len(word) <= MAX_ENCODED_WORD for word in encoded.split(" "))
    assert decode_header_text(encoded) == "".join(c for c in clean if c >= " ").strip()


@given(st.binary(max_size=200))
def test_reading_never_fails(octets: bytes) -> None:
    decode_header_text(octets)
    decode_header_text(b"=?iso-2022-jp?b?" + base64.b64encode(octets) + b"?=")
    for label in ("utf-7", "utf-16", "hz", "gb2312", "shift_jis", "big5"):
        decode_charset(octets, label)
