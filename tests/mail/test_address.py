# SPDX-License-Identifier: Apache-2.0
"""Addresses of the envelope and address lists of the header, beside the readings of other projects."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail.address import AddressError, Domain, parse_address
from posthouse.mail.address_list import AddressList, Group, NamedAddress, addresses, parse_address_list
from tests.mail.data import DATA

ENVELOPE_CATEGORIES = ("ISEMAIL_VALID_CATEGORY", "ISEMAIL_DNSWARN", "ISEMAIL_RFC5321")
# "::" for a single group of zeros: RFC 5321 §4.1.3 wants two, RFC 5952 §4.2.2 reads one; harmless, taken.
TAKEN_ALL_THE_SAME = "ISEMAIL_RFC5321_IPV6DEPRECATED"


def _isemail() -> list[tuple[str, str, str]]:
    cases = []
    for test in ElementTree.parse(DATA / "addresses/isemail/tests.xml").getroot().iter("test"):
        text = test.findtext("address") or ""
        text = "".join(chr(ord(char) - 0x2400) if 0x2400 <= ord(char) <= 0x2421 else char for char in text)
        cases.append((text, test.findtext("category") or "", test.findtext("diagnosis") or ""))
    return cases


def _flanker(name: str) -> list[str]:
    lines = (DATA / f"addresses/flanker/mailbox_{name}.txt").read_text(encoding="utf-8").split("\n")
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


@pytest.mark.parametrize(("text", "category", "diagnosis"), _isemail())
def test_the_envelope_takes_what_rfc_5321_takes(text: str, category: str, diagnosis: str) -> None:
    if category in ENVELOPE_CATEGORIES or diagnosis == TAKEN_ALL_THE_SAME:
        address = parse_address(text)
        assert parse_address(str(address)) == address
    else:
        with pytest.raises(AddressError):
            parse_address(text)


@pytest.mark.parametrize(("text", "category", "diagnosis"), _isemail())
def test_a_header_field_takes_comments_and_folding_too(text: str, category: str, diagnosis: str) -> None:
    """Obsolete and broad forms of RFC 5322 that no server takes mail for are read, as members without address."""
    found = parse_address_list(text)
    is_one = found.is_clean and len(list(found.flat())) == 1
    if category in ENVELOPE_CATEGORIES or category == "ISEMAIL_CFWS":
        assert is_one
    elif category == "ISEMAIL_ERR" and "\n" not in text and "\r" not in text:
        assert not is_one  # line ends around a value are the field's own, they are no part of the list


@pytest.mark.parametrize("text", _flanker("valid"))
def test_valid_mailboxes(text: str) -> None:
    if "Micr!osoft99" in text:
        pytest.skip("`!` in a domain: broad RFC 5322 grammar, no domain of SMTP or DNS")
    found = parse_address_list(text)
    assert found.is_clean
    assert len(list(found.flat())) == 1


@pytest.mark.parametrize("text", _flanker("invalid"))
def test_invalid_mailboxes(text: str) -> None:
    if "(hoopla)" in text or "xn--example" in text:
        pytest.skip("comments are RFC 5322; an A-label that decodes to nothing is DNS's matter")
    found = parse_address_list(text)
    assert not (found.is_clean and len(list(found.flat())) == 1)


def _as_data(found: AddressList) -> dict[str, object]:
    def one(member: NamedAddress) -> dict[str, str | None]:
        return {"name": member.name or None, "address": member.text or None}

    if not any(isinstance(member, Group) for member in found.members):
        return {"List": [one(member) for member in found.flat()]}
    groups: list[dict[str, object]] = []
    loose: list[object] = []
    for member in found.members:
        if isinstance(member, Group):
            if loose:
                groups.append({"name": None, "addresses": loose})
                loose = []
            groups.append({"name": member.name or None, "addresses": [one(inner) for inner in member.members]})
        else:
            loose.append(one(member))
    if loose:
        groups.append({"name": None, "addresses": loose})
    return {"Group": groups}


CASES = json.loads((DATA / "mime/fields/address.json").read_bytes())
# Where the set shows comments as part of names, keeps routes and blanks in addresses, or takes NO for an address.
OTHER_TASTE = ("(", "@node.test:", '"  James', "NO ")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["header"][:30])
def test_address_fields_of_the_data_set(case: dict[str, object]) -> None:
    header = re.split(r"\r?\n(?![ \t])", str(case["header"]))[0].replace("\r\n", "\n").replace("\n", "\r\n")
    if _as_data(parse_address_list(header)) != case["expected"]:
        assert any(mark in header for mark in OTHER_TASTE)


@pytest.mark.parametrize(
    ("text", "expected", "clean"),
    [
        ("alice@alice.test", ["alice@alice.test"], True),
        ("Joe Q. Public <joe@x.test>", ["joe@x.test"], True),
        ('"a, b" <c@x.test>, d@x.test', ["c@x.test", "d@x.test"], True),
        ("john . doe @ x . test", ["john.doe@x.test"], True),
        ("<@a.test,@b.test:c@x.test>", ["c@x.test"], True),
        ("undisclosed-recipients:;", [], True),
        ("a: b@x.test, c@x.test; , d@x.test", ["b@x.test", "c@x.test", "d@x.test"], True),
        ("", [], True),
        (" , ,", [], True),
        ("<>", [], True),
        ('"ceo@bank.test" <alice@alice.test>', ["alice@alice.test"], True),
        # Not grammar, but many programs write it, and it names one address only.
        ("alice@alice.test <Alice@alice.test>", ["Alice@alice.test"], True),
        ("\u7528\u6237@\u4f8b\u5b50.test", ["\u7528\u6237@xn--fsqu00a.test"], True),
        # Everything below must not pass for a list that names one sender for certain.
        ("ceo@bank.test <alice@alice.test>", ["alice@alice.test"], False),
        ("<alice@alice.test> ceo@bank.test", ["alice@alice.test"], False),
        ("<alice@alice.test>ceo@bank.test", ["alice@alice.test"], False),
        ("<ceo@bank.test> <alice@alice.test>", ["ceo@bank.test", "alice@alice.test"], True),
        ("ceo@bank.test alice@alice.test", ["alice@alice.test"], False),
        ("alice@alice.test, ceo@@bank.test", ["alice@alice.test"], False),
        ("alice@alice.test (", ["alice@alice.test"], False),
        ('"alice@alice.test', [], False),
        ("<alice@alice.test", ["alice@alice.test"], True),
        ("alice@alice.test\0", [], False),
        ("Alice", [], False),
    ],
)
def test_lists_with_odd_members(text: str, expected: list[str], *, clean: bool) -> None:
    assert [str(address) for address in addresses(text)] == expected
    assert parse_address_list(text).is_clean is clean


@pytest.mark.parametrize(
    "piece", ['"\\', "(", "<", '"', "a:", "<@a:", '<"\\,', "a@b,", "@.", "[,", '"a" ', "=?a?b?a?="]
)
def test_long_hostile_lists_are_read_in_proportion(piece: str) -> None:
    """A regression would take minutes here, not a fraction of a second."""
    parse_address_list(piece * (50_000 // len(piece)))


@given(st.text(alphabet='ab@.,;:<>()"\\ \t\r\n[]=?é', max_size=60))
def test_reading_never_fails(text: str) -> None:
    for member in parse_address_list(text).flat():
        assert member.address is None or parse_address(str(member.address)) == member.address


_LOCAL = st.from_regex(r"[ !#-~]{1,30}", fullmatch=True)


@given(_LOCAL, st.from_regex(r"[ !#-\[\]-~]{0,30}", fullmatch=True))
def test_named_addresses_round_trip(local: str, name: str) -> None:
    escaped = local.replace("\\", "\\\\")
    try:
        address = parse_address(f'"{escaped}"@example.test')
    except AddressError:
        return  # too long once escaped
    assert address.local_part == local
    if "=?" in name or "<" in str(address) or ">" in str(address):
        return  # encoded words are decoded; angle brackets inside quoted local parts are not looked for
    assert parse_address_list(f'"{name}" <{address}>').members == (NamedAddress(name.strip(), str(address), address),)


@pytest.mark.parametrize(
    "text", ["a@x.test.", "\ud800@x.test", '"\udfff"@x.test', "a@" + "x" * 300, "a" * 65 + "@x.test"]
)
def test_what_cannot_go_on_the_wire_is_no_address(text: str) -> None:
    with pytest.raises(AddressError):
        parse_address(text)


def test_a_quoted_local_part_counts_with_its_quotes() -> None:
    """RFC 5321 §4.5.3.1.1 limits the local-part as written."""
    assert parse_address(f'"{"a b" * 20}ab"@x.test').local_part == "a b" * 20 + "ab"
    with pytest.raises(AddressError, match="longer"):
        parse_address(f'"{"a b" * 20}abc"@x.test')


def test_an_endless_domain_is_refused_before_it_is_kept() -> None:
    with pytest.raises(AddressError, match="longer"):
        Domain.parse("x" * 100_000)


@given(st.integers(1, 60), st.integers(1, 40), st.sampled_from(["é", "例え", "a"]))
def test_what_is_taken_can_be_read_back_from_what_is_kept(local: int, labels: int, label: str) -> None:
    """The queue keeps `str(address)`. An A-label may be longer than the U-label that was said."""
    try:
        address = parse_address("x" * local + "@" + ".".join([label] * labels))
    except AddressError:
        return
    assert parse_address(str(address)) == address
