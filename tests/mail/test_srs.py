# SPDX-License-Identifier: Apache-2.0
"""Rewritten senders: whom they stand for, how long, and that nobody can make one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from posthouse.mail.address import MAX_LOCAL_PART, Address, AddressError, Domain, parse_address
from posthouse.mail.srs import DAY, MAX_AGE, LetterReference, Srs, SrsFault, is_rewritten

NOW = 20_000 * DAY
HERE = Domain("mail.example.test")
LONG = "x" * 60 + "@a.test"


def keyed(key: bytes) -> Callable[[bytes], bytes]:
    return lambda octets: hashlib.blake2b(octets, key=key).digest()


SRS = Srs(keyed(b"ours"), HERE)


def rewrite(sender: str, letter: int = 7) -> str:
    return SRS.rewrite(parse_address(sender), NOW, letter).local_part


@pytest.mark.parametrize(
    ("sender", "start", "end"),
    [
        ("alice@alice.test", "SRS0=", "=alice.test=alice"),
        ("Alice+List=2@ALICE.test", "SRS0=", "=alice.test=Alice+List=2"),
        ('""@alice.test', "SRS0=", "=alice.test="),
        ('".a"@alice.test', "SRS0=", "=alice.test=.a"),
        ("böb@bob.test", "SRS0=", "=bob.test=böb"),
        ("b@例え.test", "SRS0=", "=xn--r8jz45g.test=b"),
        ("SRS0=abcd=xy=alice.test=alice@first.test", "SRS1=", "=first.test==abcd=xy=alice.test=alice"),
        ("srs0+abcd=xy=alice.test=alice@first.test", "SRS1=", "=first.test=+abcd=xy=alice.test=alice"),
        ("SRS1=wxyz=first.test==abcd=xy=a.test=a@second.test", "SRS1=", "=first.test==abcd=xy=a.test=a"),
        ("SRS1+nonsense@second.test", "SRS0=", "=second.test=SRS1+nonsense"),
    ],
)
def test_the_forms_that_others_know(sender: str, start: str, end: str) -> None:
    made = rewrite(sender)
    assert made.startswith(start)
    assert made.endswith(end)
    found = SRS.restore(made, NOW)
    assert isinstance(found, Address)
    expected = sender if start == "SRS0=" else "SRS0" + end.removeprefix("=first.test=") + "@first.test"
    assert found.key == parse_address(expected).key


@pytest.mark.parametrize(
    "sender",
    [
        "x" * 50 + "@alice.test",
        '"a b"@alice.test',
        "a@[192.0.2.1]",
        "a@[IPv6:2001:db8::1]",
        '"a..b"@a.test',
        '"a."@a.test',
    ],
)
def test_what_does_not_fit_is_the_number_of_the_letter(sender: str) -> None:
    for letter in (0, 1, 31, 32, (1 << 63) - 1):
        made = rewrite(sender, letter)
        assert len(made) <= MAX_LOCAL_PART
        assert SRS.restore(made, NOW) == LetterReference(letter)


@given(st.text(min_size=1, max_size=70), st.sampled_from(["a.test", "long-name.of-a-host.example.test", "[192.0.2.1]"]))
def test_everybody_is_found_again(local_part: str, domain: str) -> None:
    try:
        sender = parse_address(str(Address(local_part, Domain.parse(domain))))
    except AddressError:
        assume(False)
    made = SRS.rewrite(sender, NOW, 99)
    assert parse_address(str(made)) == made
    assert is_rewritten(made.local_part)
    for said in (made.local_part, made.local_part.lower(), made.local_part.swapcase()):
        found = SRS.restore(said, NOW) if said.isascii() or said == made.local_part else LetterReference(99)
        assert found == LetterReference(99) or (isinstance(found, Address) and _folded(found) == _folded(sender))


def _folded(address: Address) -> tuple[str, str]:
    return address.local_part.casefold(), address.domain.name


@pytest.mark.parametrize("sender", ["alice@alice.test", "SRS0=abcd=xy=alice.test=alice@first.test", LONG])
def test_no_character_of_it_can_be_changed(sender: str) -> None:
    made = rewrite(sender)
    for at in range(5, len(made)):
        for other in "a2=":
            changed = made[:at] + other + made[at + 1 :]
            if changed.lower() != made.lower():
                with pytest.raises(SrsFault, match="not made here"):
                    SRS.restore(changed, NOW)


def test_a_letter_s_number_in_another_case_is_the_same_number() -> None:
    """U+017F is an s to whoever folds case, and the hash is of folded text."""
    number = 18 + (18 << 5)  # "ss"
    made = rewrite(LONG, number)
    assert made.endswith("==ss")
    for end in ("SS", "sS", "ſs"):
        assert SRS.restore(made.removesuffix("ss") + end, NOW) == LetterReference(number)


def test_another_house_and_another_kind_do_not_fit() -> None:
    with pytest.raises(SrsFault, match="not made here"):
        Srs(keyed(b"theirs"), HERE).restore(rewrite("alice@alice.test"), NOW)
    made = rewrite("SRS0=abcd=xy=alice.test=alice@first.test")
    with pytest.raises(SrsFault, match="not made here"):
        SRS.restore(made.replace("SRS1", "SRS0"), NOW)


@pytest.mark.parametrize("sender", ["alice@alice.test", "SRS0=abcd=xy=alice.test=alice@first.test", LONG])
@pytest.mark.parametrize(
    ("days", "is_good"), [(-2, False), (-1, True), (0, True), (21, True), (22, False), (800, False)]
)
def test_it_expires(sender: str, days: int, is_good: bool) -> None:
    assert MAX_AGE == 21
    made = rewrite(sender)
    for start in (NOW, NOW + DAY - 1):
        made = SRS.rewrite(parse_address(sender), start, 1).local_part
        if is_good:
            SRS.restore(made, start + days * DAY)
        else:
            with pytest.raises(SrsFault, match="expired"):
                SRS.restore(made, start + days * DAY)


def test_each_try_of_a_letter_leaves_under_the_same_address() -> None:
    assert rewrite("alice@alice.test") == rewrite("alice@alice.test")


@pytest.mark.parametrize(
    "text", ["alice", "srs", "SRS0", "SRS2=a", "xSRS0=a", "SRS0=", "srs0=ſſſſſſſſ=ſſ=a=b", "SRS0=" + "=" * 60]
)
def test_what_looks_like_it_is_refused_in_words(text: str) -> None:
    with pytest.raises(SrsFault):
        SRS.restore(text, NOW)


@given(st.text(max_size=100).map("SRS0=".__add__) | st.from_regex(r"srs[01][=+-][a-z2-7]{8}=?[a-z2-7]{2}=.*=.*"))
def test_nothing_that_is_made_up_is_taken(text: str) -> None:
    with pytest.raises(SrsFault):
        SRS.restore(text, NOW)
