# SPDX-License-Identifier: Apache-2.0
"""A text that is looked for: the quick looks say what folding and decoding everything would say."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posthouse.mail import needle
from posthouse.mail.encoded_word import decode_header_text
from posthouse.mail.needle import Needle, folded
from posthouse.mail.structure import parse

# ASCII in their folds: whole, at one end, in the middle; none at all; more than one character; parts of others.
LETTERS = "aefisz \t.éàßﬁǆÅK½İſΣς漢한\u0301\u0323\u0307ａ𝐚№\ud800"
words = st.text(LETTERS, max_size=4)
texts = st.text(LETTERS, max_size=40)


@given(words, texts)
@example("caf", "café")
@example("cafe", "CAFÉS")
@example("cafes", "cafés")
@example("i", "İ")
@example("e.", "e\u0301.")
def test_a_text_is_found_as_if_all_were_folded(word: str, text: str) -> None:
    assert Needle(word).is_in(text) is (folded(word) in folded(text))


@given(words, texts)
def test_a_text_of_many_different_characters_is_searched_alike(word: str, text: str) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(needle, "FEW", 2)
        assert Needle(word).is_in(text) is (folded(word) in folded(text))


pieces = st.sampled_from(
    [b"a", b"B", b" ", b"\t", b"\r\n ", b"\r\n\t", b"\r\n", b": ", b"=?utf-8?Q?=C3=A9a?=", b"=?", b"\xc3\xa9", b"utf"]
)


@given(st.text("abe \té", max_size=3), st.lists(pieces, max_size=12).map(b"".join))
@example("b a", b"x: b\r\n a")
@example("ba", b"x: b\r\na")
@example("utf", b"x: =?utf-8?Q?a?=")
def test_a_header_is_searched_line_by_line(word: str, block: bytes) -> None:
    lines = re.sub(rb"\r\n(?=[ \t])", b"", block).split(b"\r\n")
    plain = all(line.isascii() and b"=?" not in line for line in lines)
    shown = [line.decode() if plain else _shown(line) for line in lines]
    assert Needle(word).is_in_header(block) is any(folded(word) in folded(line) for line in shown)


def _shown(line: bytes) -> str:
    return line.decode() if line.isascii() and b"=?" not in line else decode_header_text(line)


LETTER = (
    b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: %b\r\n\r\n%b\r\n--b--\r\n"
)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"quoted-printable", b"ca=\r\nf=C3=A9 au lait"),
        (b"base64", b"Y2Fmw6kgYXUgbGFpdA=="),
        (b"8bit", "café au lait".encode()),
    ],
)
def test_a_body_is_searched_decoded(encoding: bytes, body: bytes) -> None:
    content = LETTER % (encoding, body)
    start = content.index(b"\r\n\r\n") + 4
    root = parse(content)
    for word, is_there in (("CAFE", True), ("CAFÉ AU", True), ("cafea", False), ("e au l", False), ("lait", True)):
        found = Needle(word)
        assert found.is_in_body(root, content) is is_there, word
        if is_there:
            assert not found.cannot_be_in(content[:start].lower(), content[start:])


def test_a_text_across_a_fold_of_a_parts_header_is_found() -> None:
    content = LETTER.replace(b"Content-Transfer-Encoding: %b", b"Content-Description: one\r\n two%b") % (b"", b"three")
    for word, is_there in (("one two", True), ("onetwo", False)):
        found = Needle(word)
        assert found.is_in_body(parse(content), content) is is_there


@pytest.mark.parametrize(
    ("word", "body", "is_decided"),
    [
        ("HELLO", b"Hell\r\no", True),
        ("hello", b"Oh, HELLO.", False),
        ("h\u00e9llo", b"Hello", True),
        ("hello", b"Hell\xc3\xb6", False),
    ],
)
def test_one_look_at_a_plain_letter_is_enough(word: str, body: bytes, is_decided: bool) -> None:
    assert Needle(word).cannot_be_in(b"content-type: text/plain\r\n\r\n", body) is is_decided
    for disguise in (b"base64", b"charset=iso-2022-jp", b"multipart/mixed", b"message/rfc822"):
        assert not Needle(word).cannot_be_in(b"x: " + disguise + b"\r\n\r\n", body)
