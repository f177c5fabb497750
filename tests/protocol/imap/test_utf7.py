# SPDX-License-Identifier: Apache-2.0
"""Modified UTF-7: one name, one spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocol.imap.utf7 import decode, encode


@pytest.mark.parametrize(
    ("name", "octets"),
    [
        ("", b""),
        ("INBOX", b"INBOX"),
        ("Sent Items", b"Sent Items"),
        ("R&D", b"R&-D"),
        ("&", b"&-"),
        ("&&", b"&-&-"),
        ("~peter/mail/台北/日本語", b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
        ("Entw\u00fcrfe", b"Entw&APw-rfe"),
        ("\u00e9&\u00e9", b"&AOk-&-&AOk-"),
        ("a\U0001f600b", b"a&2D3eAA-b"),
        ("\t", b"&AAk-"),
    ],
)
def test_names(name: str, octets: bytes) -> None:
    assert encode(name) == octets
    assert decode(octets) == name


@pytest.mark.parametrize(
    "octets",
    [
        b"R&D",
        b"&",
        b"&Jjo!",  # RFC 3501 §5.1.3: no shift back
        b"&U,BTFw-&ZeVnLIqe-",  # a superfluous shift
        b"&AGE-",  # "a" in base64
        b"&AOk",
        b"&AOl-",  # bits behind the last character
        b"&A-",
        b"&AOk=-",
        b"&2D0-",  # half a character
        b"\xc3\xa9",
        b"&AO/-",
    ],
)
def test_what_no_client_may_send(octets: bytes) -> None:
    assert decode(octets) is None


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_name_comes_back(name: str) -> None:
    octets = encode(name)
    assert octets.isascii()
    assert decode(octets) == name


@given(st.binary(max_size=40))
def test_whatever_is_taken_is_the_only_spelling(octets: bytes) -> None:
    name = decode(octets)
    assert name is None or encode(name) == octets


def test_half_characters_become_a_sign_that_they_are_none() -> None:
    assert decode(encode("a\ud800b")) == "a\ufffdb"
