# SPDX-License-Identifier: Apache-2.0
"""Flags as clients say them and are told them."""

from __future__ import annotations

from array import array

import pytest

from posthouse.outcome import Refusal
from posthouse.services.mailbox.flag_words import FlagWords, bit, read
from posthouse.store.catalogue import Letters
from posthouse.store.flags import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN


def test_words_are_bits_and_keywords() -> None:
    assert read(["\\SEEN", "\\draft", "$Forwarded", "work", "\\Recent"]) == (SEEN | DRAFT, ("$Forwarded", "work"))
    assert read([]) == (0, ())
    assert (bit("\\Deleted"), bit("\\answered"), bit("Deleted")) == (DELETED, ANSWERED, None)
    with pytest.raises(Refusal):
        read(["\\Nonsense"])


def test_words_are_told_in_the_accounts_spelling() -> None:
    words = FlagWords({"work": "WoRk", "$junk": "$JUNK"})
    assert words.of(0, "") == b""
    assert words.of(SEEN | FLAGGED | DELETED, "") == b"\\Seen \\Flagged \\Deleted"
    assert words.of(ANSWERED, "$forwarded $junk other work") == b"\\Answered $Forwarded $JUNK other WoRk"
    assert words.of(SEEN, "work", is_recent=True) == b"\\Seen \\Recent WoRk"
    assert words.of(SEEN, "work") == b"\\Seen WoRk"


def test_of_all_letters_at_once() -> None:
    letters = Letters(
        uids=array("I", [1, 2, 3]), flags=array("B", [0, SEEN, SEEN]), keywords=array("I", [1, 0, 1]), texts=["", "a b"]
    )
    assert FlagWords({}).of_all(letters) == [b"a b", b"\\Seen", b"\\Seen a b"]


def test_what_was_read_is_told_again() -> None:
    said = ["\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft", "a", "b"]
    bits, keywords = read(said)
    assert FlagWords({}).of(bits, " ".join(keywords)).decode().split() == said
