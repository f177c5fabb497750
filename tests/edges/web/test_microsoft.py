# SPDX-License-Identifier: Apache-2.0
"""Autodiscover requests: what is read of them, and what is refused at once."""

from __future__ import annotations

from html import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.edges.web.microsoft import MAX_BODY, MAX_VALUE, SCHEMA, Asked, NotAutodiscover, read_request

FORMS = {
    "no namespace": "<Autodiscover><Request><EMailAddress>a@b.test</EMailAddress></Request></Autodiscover>",
    "a prefix": '<x:A xmlns:x="urn:x"><x:Request><x:EMailAddress>a@b.test</x:EMailAddress></x:Request></x:A>',
    "blanks": "<A>\n <R>\n  <EMailAddress>\n a@b.test </EMailAddress></R></A>",
    "a comment": "<A><EMailAddress>a@<!-- x -->b.test</EMailAddress></A>",
    "CDATA": "<A><EMailAddress><![CDATA[a@b.test]]></EMailAddress></A>",
    "references": "<A><EMailAddress>a&#64;b.test</EMailAddress></A>",
    "the last one": "<A><EMailAddress>x@y.test</EMailAddress><EMailAddress>a@b.test</EMailAddress></A>",
}


@pytest.mark.parametrize("name", FORMS)
def test_forms(name: str) -> None:
    assert read_request(FORMS[name].encode()) == Asked("a@b.test", "")


def test_utf_16() -> None:
    assert read_request(FORMS["blanks"].encode("utf-16")).address == "a@b.test"


BAD = {
    "nothing": b"",
    "no XML": b"hello",
    "two roots": b"<a/><b/>",
    "no address": b"<A><Request/></A>",
    "an entity": b'<!DOCTYPE a [<!ENTITY x "y">]><A><EMailAddress>&x;</EMailAddress></A>',
    "entities of entities": b'<!DOCTYPE a [<!ENTITY x "y"><!ENTITY z "&x;">]><A><EMailAddress>&z;</EMailAddress></A>',
    "a file": b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><A><EMailAddress>&x;</EMailAddress></A>',
    "a DTD elsewhere": b'<!DOCTYPE a SYSTEM "http://bob.test/a.dtd"><A><EMailAddress>a@b.test</EMailAddress></A>',
    "an unknown entity": b"<A><EMailAddress>&x;</EMailAddress></A>",
    "an unknown encoding": b'<?xml version="1.0" encoding="martian"?><A><EMailAddress>a@b.test</EMailAddress></A>',
    "broken UTF-8": b"<A><EMailAddress>a\xff@b.test</EMailAddress></A>",
    "nesting": b"<A>" * 1000,
    "length": b"<A><EMailAddress>" + b"a" * (MAX_VALUE + 1) + b"</EMailAddress></A>",
    "NUL": b"<A><EMailAddress>a\x00@b.test</EMailAddress></A>",
}


@pytest.mark.parametrize("name", BAD)
def test_no_requests(name: str) -> None:
    with pytest.raises(NotAutodiscover):
        read_request(BAD[name])


TEXT = st.text(
    st.characters(min_codepoint=33, exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=60
)


@given(TEXT)
def test_what_is_said_is_read(text: str) -> None:
    schema = f"<AcceptableResponseSchema>{SCHEMA}</AcceptableResponseSchema>"
    body = f"<A><EMailAddress>{escape(text)}</EMailAddress>{schema}</A>"
    try:
        found = read_request(body.encode())
    except NotAutodiscover:
        assert any(ord(letter) in (0xFFFE, 0xFFFF) for letter in text)  # no characters of XML
    else:
        assert found == Asked(text.strip(), SCHEMA)


@given(st.binary(max_size=MAX_BODY // 16))
def test_anything_is_read_or_refused(body: bytes) -> None:
    try:
        found = read_request(body)
    except NotAutodiscover:
        return
    assert 0 < len(found.address) <= MAX_VALUE
