# SPDX-License-Identifier: Apache-2.0
"""ENVELOPE of many letters: what is written of a page is what is written of each letter alone."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posthouse.mail.header import ENVELOPE_FIELDS
from posthouse.mail.header_summary import summarise
from posthouse.protocol.imap.envelope_results import envelopes
from posthouse.protocol.imap.strings import MAX_QUOTED
from posthouse.protocol.imap.structure_results import envelope

Row = tuple[bytes | None, ...]

TEXTS = st.one_of(
    st.none(),
    st.just(b""),
    st.binary(max_size=12),
    st.text('ab "\\%{}\n\r\0é', max_size=8).map(str.encode),
    st.sampled_from([b"Hello", b"Re: a\nb", b'say "x"', b"x" * MAX_QUOTED, b"x" * (MAX_QUOTED + 1), b"100%"]),
)
LISTS = st.one_of(
    TEXTS,
    st.sampled_from(
        [
            b"Alice <alice@alice.test>",
            b"a@b.test, Bob <b@b.test>",
            b"undisclosed-recipients:;",
            b"friends: a@b.test, c@d.test;",
            b"nobody",
            b"@a,@b:c@d.test",
            b", ".join(b"person%d@b.test" % number for number in range(40)),
            b"()",
        ]
    ),
)
FORMS = {b"date": TEXTS, b"subject": TEXTS, b"in-reply-to": TEXTS, b"message-id": TEXTS}
ROWS = st.tuples(*(FORMS.get(name, LISTS) for name in ENVELOPE_FIELDS))


@given(st.lists(ROWS, max_size=6), st.booleans())
@example([(None,) * 10, (b"x",) * 10, (b"",) * 10], False)
@example([(b"a\nb",) + (None,) * 9, (b"c",) + (None,) * 9], False)
@example([(None, None, b"a@b.test", b"()", b"") + (None,) * 5], False)
def test_each_is_written_as_it_would_be_alone(rows: list[Row], is_utf8: bool) -> None:
    alone = [envelope(summarise(row), is_utf8=is_utf8) for row in rows]
    assert envelopes(rows, is_utf8=is_utf8) == alone


@pytest.mark.parametrize("count", [0, 1, 500])
def test_a_page_of_common_letters(count: int) -> None:
    row = (b"Mon, 1 Jan 2024 00:00:00 +0000", b"Hi", b"A <a@b.test>", *[None] * 2, b"b@b.test", *[None] * 3, b"<1@b>")
    author = b'(("A" NIL "a" "b.test"))'
    recipient = b'((NIL NIL "b" "b.test"))'
    form = b'("Mon, 1 Jan 2024 00:00:00 +0000" "Hi" %b %b %b %b NIL NIL NIL "<1@b>")'
    assert envelopes([row] * count) == [form % (author, author, author, recipient)] * count
