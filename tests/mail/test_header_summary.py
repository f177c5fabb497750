# SPDX-License-Identifier: Apache-2.0
"""ENVELOPE: addresses in their four fields, groups, obsolete and broken forms (RFC 9051 §7.5.2)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail.address_list import MAX_MEMBERS, parse_address_list
from posthouse.mail.header import scan_header, unpack_envelope
from posthouse.mail.header_summary import (
    END_OF_GROUP,
    MAX_PIECES,
    HeaderSummary,
    SummaryAddress,
    address_structures,
    summarise,
)
from tests.mail.data import DATA

Row = tuple[bytes | None, bytes | None, bytes | None, bytes | None]


def summary_of(header: bytes) -> HeaderSummary:
    return summarise(tuple(unpack_envelope(scan_header(header).pack_envelope()).values()))


def test_the_example_of_the_rfc() -> None:
    """RFC 9051 §8."""
    summary = summary_of(
        b"Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\n"
        b"From: Terry Gray <gray@cac.washington.edu>\r\n"
        b"Subject: IMAP4rev2 WG mtg summary and minutes\r\n"
        b"To: imap@cac.washington.edu\r\n"
        b"cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\r\n"
        b"Message-Id: <B27397-0100000@cac.washington.edu>\r\n\r\n"
    )
    author = (SummaryAddress(b"Terry Gray", None, b"gray", b"cac.washington.edu"),)
    assert summary == HeaderSummary(
        date=b"Wed, 17 Jul 1996 02:23:25 -0700 (PDT)",
        subject=b"IMAP4rev2 WG mtg summary and minutes",
        from_=author,
        sender=author,
        reply_to=author,
        to=(SummaryAddress(None, None, b"imap", b"cac.washington.edu"),),
        cc=(
            SummaryAddress(None, None, b"minutes", b"CNRI.Reston.VA.US"),
            SummaryAddress(b"John Klensin", None, b"KLENSIN", b"MIT.EDU"),
        ),
        bcc=None,
        in_reply_to=None,
        message_id=b"<B27397-0100000@cac.washington.edu>",
    )


def test_nothing_is_told_of_a_header_without_fields() -> None:
    assert summary_of(b"\r\n") == HeaderSummary(*[None] * 10)


def test_present_but_empty_fields() -> None:
    """Texts are the empty string, lists are not there, Sender and Reply-To are From's."""
    summary = summary_of(b"Date:\r\nSubject: \r\nFrom: a@b\r\nSender:\r\nReply-To: ,\r\nTo:\r\nMessage-ID:\r\n\r\n")
    assert (summary.date, summary.subject, summary.message_id, summary.in_reply_to) == (b"", b"", b"", None)
    assert summary.sender == summary.reply_to == summary.from_ == (SummaryAddress(None, None, b"a", b"b"),)
    assert summary.to is None


def test_sender_and_reply_to_of_their_own() -> None:
    summary = summary_of(b"From: a@b\r\nSender: c@d\r\nReply-To: e@f, g@h\r\n\r\n")
    assert [address.mailbox for address in summary.sender or ()] == [b"c"]
    assert [address.mailbox for address in summary.reply_to or ()] == [b"e", b"g"]


def test_encoded_words_stay_and_values_stand_on_one_line() -> None:
    assert summary_of(b"Subject: =?utf-8?q?caf=C3=A9?=\r\n\r\n").subject == b"=?utf-8?q?caf=C3=A9?="
    summary = summary_of(b'Subject: a\rb\nc\0d\r\n e\r\nFrom: "a\0\rb" <c@d>\r\n\r\n')
    assert summary.subject == b"a b c d e"
    assert summary.from_ == (SummaryAddress(b"a  b", None, b"c", b"d"),)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"a@b.test", [(None, None, b"a", b"b.test")]),
        (b"<a@b.test>", [(None, None, b"a", b"b.test")]),
        (b"Alice  A. <a@b>", [(b"Alice A.", None, b"a", b"b")]),
        (b'"Alice, A." <a@b> , c@d', [(b"Alice, A.", None, b"a", b"b"), (None, None, b"c", b"d")]),
        (b'"Big \\"Al\\"" <a@b>', [(b'Big "Al"', None, b"a", b"b")]),
        (b'"A" =?utf-8?q?B?= C <a@b>', [(b"A =?utf-8?q?B?= C", None, b"a", b"b")]),
        (b"caf\xc3\xa9 <\xc3\xa9@b.test>", [(b"caf\xc3\xa9", None, b"\xc3\xa9", b"b.test")]),
        (b"a@b (Alice)", [(b"Alice", None, b"a", b"b")]),
        (b"(x) Alice (y (z)) <a@b>", [(b"Alice", None, b"a", b"b")]),
        (b"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", [(b"Pete", None, b"pete", b"silly.test")]),
        (b"<@a.test,@b.test:c@d.test>", [(None, b"@a.test,@b.test", b"c", b"d.test")]),
        (b"A <@a.test:c@d.test>, , e@f", [(b"A", b"@a.test", b"c", b"d.test"), (None, None, b"e", b"f")]),
        (b'"john doe"@x.test', [(None, None, b'"john doe"', b"x.test")]),
        (b'<"a@b"@x.test>', [(None, None, b'"a@b"', b"x.test")]),
        (b"a@[127.0.0.1]", [(None, None, b"a", b"[127.0.0.1]")]),
        (b"a @ b . test", [(None, None, b"a", b"b.test")]),
        (b"jdoe@test  . example", [(None, None, b"jdoe", b"test.example")]),
        (b"Alice a@b", [(b"Alice", None, b"a", b"b")]),
        (b"ceo@x.test <me@y.test>", [(b"ceo@x.test", None, b"me", b"y.test")]),
        (b"a@b c@d", [(b"a@b", None, b"c", b"d")]),
        (b"<a@b> <c@d>", [(None, None, b"a", b"b"), (None, None, b"c", b"d")]),
        (b"Alice", [(None, None, b"Alice", b"")]),
        (b"Alice <>", [(b"Alice", None, b"", b"")]),
        (b"<a@b", [(None, None, b"a", b"b")]),
        (b"a@b>, c@d", [(None, None, b"a", b"b"), (None, None, b"c", b"d")]),
        (b"root", [(None, None, b"root", b"")]),
        (b"a;b@c", [(None, None, b"a", b""), (None, None, b"b", b"c")]),
        (b"[", [(None, None, b"[", b"")]),
        (b"", None),
        (b" , ,", None),
        (b"<>", None),
        (b"(nobody)", None),
        (b"(never (closed) a@b", None),
    ],
)
def test_addresses(value: bytes, expected: list[Row] | None) -> None:
    assert address_structures(value) == (None if expected is None else tuple(expected))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"undisclosed-recipients:;", [(None, None, b"undisclosed-recipients", None), END_OF_GROUP]),
        (
            b"A Group:Ed <c@a>,joe@w;, last@x",
            [(None, None, b"A Group", None), (b"Ed", None, b"c", b"a"), (None, None, b"joe", b"w"), END_OF_GROUP,
             (None, None, b"last", b"x")],
        ),
        (b'"A: b": c@d', [(None, None, b"A: b", None), (None, None, b"c", b"d"), END_OF_GROUP]),  # never closed
        (
            b"a:b@c;d:;",
            [(None, None, b"a", None), (None, None, b"b", b"c"), END_OF_GROUP, (None, None, b"d", None), END_OF_GROUP],
        ),
        (b":;", [(None, None, b":", b"")]),
    ],
)  # fmt: skip
def test_groups(value: bytes, expected: list[Row]) -> None:
    assert address_structures(value) == tuple(expected)


def test_limits_of_a_list() -> None:
    assert len(address_structures(b"a@b," * (MAX_MEMBERS + 100)) or ()) == MAX_MEMBERS
    assert len(address_structures(b'"a\\b" <a@b>,' * (MAX_MEMBERS + 100)) or ()) <= MAX_PIECES // 7
    assert address_structures(b"(" * 100_000) is None
    assert address_structures(b"(" * 3 + b")" * 3 + b"a@b") == (SummaryAddress(b"(())", None, b"a", b"b"),)


def test_the_same_list_is_read_once() -> None:
    assert address_structures(b"Alice <once@b.test>") is address_structures(b"Alice <once@b.test>")


def test_addresses_that_are_certain_are_those_of_the_other_reader() -> None:
    compared = 0
    for case in json.loads((DATA / "mime" / "fields" / "address.json").read_text("utf-8")):
        value = b" ".join(case["header"].encode().split())
        other = parse_address_list(value)
        if other.is_clean:
            mine = [each for each in address_structures(value) or () if each.host is not None]
            assert [b"%b@%b" % (each.mailbox, each.host) for each in mine] == [
                each.text.encode() for each in other.flat()
            ]
            compared += 1
    assert compared > 20


@given(st.lists(st.sampled_from(list(b'a@.,:;<>()[]"\\ \t\r\n\0\xe9')), max_size=60).map(bytes))
def test_any_value_is_a_list_of_one_form(value: bytes) -> None:
    is_open = False
    for address in address_structures(value) or ():
        assert isinstance(address, SummaryAddress)
        for field in address:
            assert field is None or not set(b"\r\n\0") & set(field)
        if address.host is None:
            assert is_open is (address.mailbox is None), "groups begin and end in turn"
            is_open = not is_open
        else:
            assert address.mailbox is not None
    assert not is_open
