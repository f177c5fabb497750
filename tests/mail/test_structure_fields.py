# SPDX-License-Identifier: Apache-2.0
"""Fields that describe a part: types, parameters with RFC 2231, dispositions, as programs write them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail.structure_fields import (
    MAX_PARAMETERS,
    MAX_VALUE,
    disposition,
    encoding,
    languages,
    location,
    media_type,
    parameters_of,
    text_parameter,
)
from tests.mail.data import DATA


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"text/plain", (b"text", b"plain", ())),
        (b" TEXT / Plain ", (b"text", b"plain", ())),
        (b"text/html charset=utf-8", (b"text", b"html", ((b"charset", b"utf-8"),))),  # the semicolon is missing
        (b"text/html, charset=utf-8", (b"text", b"html", ((b"charset", b"utf-8"),))),
        (b"a/b;CHARSET=UTF-8;Format=Flowed", (b"a", b"b", ((b"charset", b"UTF-8"), (b"format", b"Flowed")))),
        (b'a/b; x = 1 ;; y="2"; ;z', (b"a", b"b", ((b"x", b"1"), (b"y", b"2")))),
        (b'a/b; x="a;b=\\"c\\\\"; y=1', (b"a", b"b", ((b"x", b'a;b="c\\'), (b"y", b"1")))),
        (b'a/b; x="open; y=1', (b"a", b"b", ((b"x", b"open; y=1"),))),
        (b"a/b; x=", (b"a", b"b", ((b"x", b""),))),
        (b"a/b; x=1; X=2", (b"a", b"b", ((b"x", b"1"), (b"x", b"2")))),
        (b"a/b; name=my plan (1).txt; size=3", (b"a", b"b", ((b"name", b"my plan (1).txt"), (b"size", b"3")))),
        (b"a/b; x=1 (one); y=(2)", (b"a", b"b", ((b"x", b"1"), (b"y", b"(2)")))),
        (b"a/b; x=one\r\n y=two; z=3", (b"a", b"b", ((b"x", b"one"), (b"y", b"two"), (b"z", b"3")))),
        (b'a/b; x="1" y="2"', (b"a", b"b", ((b"x", b"1"), (b"y", b"2")))),
        (b"a/b; name=\xc3\xa9", (b"a", b"b", ((b"name", b"\xc3\xa9"),))),
        (b"(a (b (c))) text (d) / (e) plain; x=1", (b"text", b"plain", ((b"x", b"1"),))),
        (b"", None),
        (b"text", None),
        (b"text/", None),
        (b"/plain", None),
        (b"text/plain/format", None),
        (b"t\xe9xt/plain", None),
        (b"a" * 128 + b"/b", None),
    ],
)  # fmt: skip
def test_content_types(value: bytes, expected: object) -> None:
    assert media_type(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # RFC 2231 §3 and §4.1
        (b'URL*0="ftp://"; URL*1="cs.utk.edu/"', ((b"url", b"ftp://cs.utk.edu/"),)),
        (b"title*=us-ascii'en-us'This%20is%20%2A%2A%2Afun", ((b"title*", b"utf-8'en-us'This%20is%20%2A%2A%2Afun"),)),
        (
            b"title*0*=us-ascii'en'This%20is%20; title*1*=%2A%2A; title*2=\"isn't it!\"; x=1",
            ((b"title*", b"utf-8'en'This%20is%20%2A%2Aisn%27t%20it!"), (b"x", b"1")),
        ),
        (b"n*=iso-8859-1''caf%E9", ((b"n*", b"utf-8''caf%C3%A9"),)),
        (b"n*=x-strange'en'caf%E9", ((b"n*", b"x-strange'en'caf%E9"),)),
        (b"n*=caf%C3%A9", ((b"n*", b"utf-8''caf%C3%A9"),)),  # no charset, no language
        (b"n*=\xe9'\xe9'caf%C3%A9", ((b"n*", b"utf-8''caf%C3%A9"),)),  # none that can be told
        (b"n*2=c; n*0=a; n*1=b", ((b"n", b"abc"),)),
        (b"n*0=a; n*0=x; n*1=b", ((b"n", b"ab"),)),
        (b"n*0*=utf-8''%C3; n*1*=%A9", ((b"n*", b"utf-8''%C3%A9"),)),  # a character cut in two
        (b"n=plain; n*=utf-8''better", ((b"n", b"plain"), (b"n*", b"utf-8''better"))),
        (b"n*x=1; n**=2", ((b"n*x", b"1"), (b"n**", b"2"))),
        (b"n*01=1", ((b"n*01", b"1"),)),
    ],
)
def test_sections_and_charsets_of_values(value: bytes, expected: object) -> None:
    """RFC 9051 §7.5.2 wants them decoded and in UTF-8; the extended name stays, and with it the extended form."""
    found = media_type(b"a/b; " + value)
    assert found is not None
    assert found[2] == expected


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (((b"name", b"plan.pdf"),), "plan.pdf"),
        (((b"name*", b"utf-8''caf%C3%A9"),), "café"),
        (((b"name*", b"x-strange''caf%C3%A9"),), "café"),
        (((b"name", b"plain"), (b"name*", b"utf-8''better")), "better"),
        (((b"name", b"first"), (b"name", b"second")), "first"),
        (((b"name", b"=?utf-8?q?caf=C3=A9?="),), "café"),
        (((b"name", b"caf\xc3\xa9"),), "café"),
        (((b"name", b"caf\xe9"),), "café"),
        (((b"name*", b"utf-8''a%0D%0Ab"),), "a  b"),
        (((b"filename", b"x"),), None),
        ((), None),
    ],
)
def test_a_parameter_as_people_see_it(parameters: tuple[tuple[bytes, bytes], ...], expected: str | None) -> None:
    assert text_parameter(parameters, b"name") == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"inline", (b"inline", ())),
        (b"ATTACHMENT; filename=x", (b"attachment", ((b"filename", b"x"),))),
        (b"(no) attachment; filename=x", (b"attachment", ((b"filename", b"x"),))),
        (b"x-own; a=b", (b"x-own", ((b"a", b"b"),))),
        (b"", (b"attachment", ())),
        (b"filename=x", (b"attachment", ((b"filename", b"x"),))),
        (b"; filename=x", (b"attachment", ((b"filename", b"x"),))),
    ],
)
def test_dispositions(value: bytes, expected: object) -> None:
    """RFC 2183 §2.8: what is not understood is an attachment."""
    assert disposition(value) == expected


def test_encodings_languages_and_locations() -> None:
    assert [encoding(value) for value in (b"Base64", b" 8bit ", b"(x) 7BIT (y)", b"", b'"x"', b"base64; x")] == [
        b"base64", b"8bit", b"7bit", b"7bit", b"7bit", b"base64",
    ]  # fmt: skip
    assert languages(b"de, en-GB (British),mi") == (b"de", b"en-GB", b"mi")
    assert languages(b"(any) en") == (b"en",)
    assert languages(b"") == ()
    assert location(b" http://a.test/\r\n b\r\n\tc ") == b"http://a.test/bc"


def test_what_follows_a_type_that_cannot_be_read() -> None:
    assert parameters_of(b"text; charset=utf-8") == ((b"charset", b"utf-8"),)
    assert parameters_of(b"text charset=utf-8") == ()


def test_long_fields_are_cut_and_parameters_counted() -> None:
    many = media_type(b"a/b" + b"".join(b"; p%d=x" % number for number in range(500)))
    assert many is not None
    assert len(many[2]) == MAX_PARAMETERS
    long = media_type(b"a/b; x=" + b"y" * 2 * MAX_VALUE)
    assert long is not None
    assert long[2] == ((b"x", b"y" * (MAX_VALUE - 7)),)


@given(st.lists(st.sampled_from([b"a", b"*", b"0", b"1", b"=", b";", b'"', b"'", b"%", b"\\", b" ", b"(", b")", b"/",
                                 b"\r\n ", b"\0", b"\r", b"\xe9", b"utf-8''", b"%41"]), max_size=40))  # fmt: skip
def test_any_value_is_read_and_stands_on_one_line(pieces: list[bytes]) -> None:
    value = b"".join(pieces)
    told = repr((media_type(b"a/b;" + value), disposition(value), encoding(value), languages(value), location(value)))
    assert "\\x00" not in told
    assert "\\r" not in told
    assert "\\n" not in told
    for name, text in (media_type(b"a/b;" + value) or (b"", b"", ()))[2]:
        assert name.isascii()
        assert not name.endswith(b"*") or text.isascii() or name.count(b"*") > 1 or name == b"*"


# Where mail-parser (tests/data/mime/fields) and this house read differently, by how the values begin.
DIFFERENT = {
    "application/pdf\n   filename*0*": "a charset is said in the first section alone (RFC 2231 §4.1)",
    'image/jpeg;\n   name="=?iso-8859-1?B?4Q==?= =?': "blanks between encoded words are not shown (RFC 2047 §6.2)",
    "á/é": "names are ASCII",
    'inva/lid; name="   \n': "outer blanks of a field are not its value's, an unclosed quotation or not",
    "test/encoded": "NUL becomes a blank",
    "malicious/attempt": "a name with several asterisks is no section",
    "text/plain/format": "a type has one slash (RFC 2045 §5.1)",
}


def test_values_of_mail_parser() -> None:
    used: set[str] = set()
    for case in json.loads((DATA / "mime" / "fields" / "content_type.json").read_text("utf-8")):
        header, expected = case["header"], case["expected"]
        value = header.encode().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        found = media_type(value)
        if expected is None:
            assert found is None, header
            continue
        parameters = disposition(value).parameters if found is None else found[2]
        names = {name: text for name, text in expected.get("attributes") or [] if not name.endswith("-language")}
        is_same = {name: text_parameter(parameters, name.encode()) for name in names} == names
        if expected["c_subtype"] is not None:
            kind = (expected["c_type"].encode(), expected["c_subtype"].encode())
            is_same = is_same and found is not None and found[:2] == kind
        if not is_same:
            reasons = [start for start in DIFFERENT if header.startswith(start)]
            assert reasons, (header, found, expected)
            used.update(reasons)
    assert used == set(DIFFERENT)
