# SPDX-License-Identifier: Apache-2.0
"""SEARCH without an index: every key, every combination, and no look at what is decided already."""

from __future__ import annotations

import asyncio
from array import array
from base64 import b64encode
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.mail.needle import Needle
from posthouse.mail.number_set import STAR, NumberSet
from posthouse.mail.search import (
    AddressField,
    All,
    And,
    DateIs,
    DateKind,
    EmailIdIs,
    HasFlag,
    HasSaveDate,
    InAddress,
    InBody,
    InHeader,
    InSequence,
    InSubject,
    InText,
    InUids,
    IsRecent,
    Larger,
    ModSeqSince,
    Not,
    Older,
    Or,
    PartialRange,
    Relation,
    ReturnOption,
    SearchKey,
    Smaller,
    ThreadIdIs,
    Younger,
)
from posthouse.mail.structure import parse
from posthouse.services.mailbox import search as search_module
from posthouse.services.mailbox.search import Searcher, highest_modseq, kept, visible
from posthouse.services.mailbox.view import SelectedView
from posthouse.store import messages, reading
from posthouse.store.flags import FLAGGED, SEEN
from posthouse.store.messages import thread_id, unique_id
from posthouse.store.uidset import EVERY_UID
from tests.services.world import InlineWorkers
from tests.store.letterbox import NOW, Box, new_account
from tests.store.plain_database import PlainDatabase

from .post import CountedBlobs, all_of, post, view_of

DAY = 86_400

PLAIN = b"""From: Alice <alice@alice.test>
To: Bob <bob@bob.test>, carol@bob.test
Cc: dave@bob.test
Subject: Hello World
Date: Mon, 1 Jan 2024 23:30:00 -0500
Message-ID: <one@alice.test>

Good morning, Bob. A fine day.
"""
ENCODED = (
    b"""From: =?utf-8?q?J=C3=BCrgen?= <j@koeln.test>
To: bob@bob.test
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= aus
 =?utf-8?b?S8O2bG4=?=
Date: Tue, 2 Jan 2024 00:30:00 +0900
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: base64

"""
    + b64encode("Die Straße nach Köln".encode())
    + b"\n"
)
MIXED = b"""From: carol@bob.test
Bcc: secret@bob.test
Subject: Re: Hello World
X-Topic: first
 second
Date: nonsense
References: <one@alice.test>
Content-Type: multipart/mixed; boundary=b

preamble
--b
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

caf=E9 au la=
it
--b
Content-Type: application/pdf; name=invoice.pdf
Content-Transfer-Encoding: base64

bW9ybmluZw==
--b
Content-Type: message/rfc822

Subject: inner words

nested body
--b--
"""
ESCAPED = b"""Subject: =?iso-2022-jp?b?GyRCRnxLXBsoQg==?=
Content-Type: text/plain; charset=iso-2022-jp

\x1b$BF|K\\\x1b(B
"""
BARE = b"no header at all, but a word: lonely\n"


@pytest.fixture(scope="module")
def box() -> Box:
    box = new_account(PlainDatabase())
    post(box, PLAIN, flags=SEEN, received_at=NOW - 3 * DAY)
    post(box, ENCODED, flags=FLAGGED, keywords=("work",), received_at=NOW - 2 * DAY, saved_at=NOW)
    post(box, MIXED, flags=SEEN | FLAGGED, keywords=("$junk", "work"), received_at=NOW - DAY)
    post(box, ESCAPED)
    post(box, BARE, header_size=0)
    return box


def search(box: Box, key: SearchKey, view: SelectedView | None = None) -> list[int]:
    view = view or view_of(box)
    searcher = Searcher(box.db, box.db.blobs, InlineWorkers())
    return list(asyncio.run(searcher.find(key, visible(all_of(box), view), view, NOW)))


def numbers(*pairs: tuple[int, int], saved: bool = False) -> NumberSet:
    return NumberSet(pairs, saved)


def on(kind: DateKind, relation: Relation, seconds: float) -> DateIs:
    return DateIs(kind, relation, date.fromordinal(date(1970, 1, 1).toordinal() + int(seconds // DAY)))


SENT, RECEIVED, SAVED = DateKind.SENT, DateKind.RECEIVED, DateKind.SAVED
BEFORE, ON, SINCE = Relation.BEFORE, Relation.ON, Relation.SINCE

LEAVES: list[tuple[SearchKey, list[int]]] = [
    (All(), [1, 2, 3, 4, 5]),
    (HasFlag("\\Seen"), [1, 3]),
    (HasFlag("\\FLAGGED"), [2, 3]),
    (HasFlag("\\Deleted"), []),
    (HasFlag("Work"), [2, 3]),
    (HasFlag("$Junk"), [3]),
    (HasFlag("none"), []),
    (IsRecent(), []),
    (HasSaveDate(), [1, 2, 3, 4, 5]),
    (InSequence(numbers((2, 3))), [2, 3]),
    (InSequence(numbers((STAR, STAR))), [5]),
    (InUids(numbers((4, 900))), [4, 5]),
    (InUids(numbers((700, STAR))), [5]),
    (ModSeqSince(0), [1, 2, 3, 4, 5]),
    (InAddress(AddressField.FROM, "ALICE"), [1]),
    (InAddress(AddressField.FROM, "jürgen"), [2]),
    (InAddress(AddressField.FROM, "bob.test"), [3]),
    (InAddress(AddressField.TO, "carol@"), [1]),
    (InAddress(AddressField.CC, "dave"), [1]),
    (InAddress(AddressField.BCC, "secret"), [3]),
    (InSubject("hello"), [1, 3]),
    (InSubject("GRÜSSE AUS KÖLN"), [2]),
    (InSubject("日本"), [4]),
    (InSubject(""), [1, 2, 3, 4]),
    (InHeader("X-Topic", "FIRST SECOND"), [3]),
    (InHeader("x-topic", ""), [3]),
    (InHeader("Message-Id", "one@"), [1]),
    (InHeader("References", "one@alice"), [3]),
    (InHeader("Return-Path", "alice"), [1, 2, 3, 4, 5]),
    (InHeader("Cc", ""), [1]),
    (InHeader("X-None", ""), []),
    (InBody("GOOD morning"), [1]),
    (InBody("straße"), [2]),
    (InBody("STRASSE NACH"), [2]),
    (InBody("café au lait"), [3]),
    (InBody("cafe"), [3]),  # decomposed, its accent follows (RFC 5051 §2)
    (InBody("invoice.pdf"), [3]),
    (InBody("inner words"), [3]),
    (InBody("nested body"), [3]),
    (InBody("日本"), [4]),
    (InBody("lonely"), [5]),
    (InBody("hello world"), []),
    (InBody("preamble"), []),
    (InText("hello world"), [1, 3]),
    (InText("FIRST second"), [3]),
    (InText("köln"), [2]),
    (InText("alice"), [1, 2, 3, 4, 5]),
    (InText("absent"), []),
    (InText("F|K"), []),
    (on(RECEIVED, BEFORE, NOW - DAY), [1, 2]),
    (on(RECEIVED, ON, NOW - DAY), [3]),
    (on(RECEIVED, SINCE, NOW - DAY), [3, 4, 5]),
    (on(SAVED, SINCE, NOW), [2, 4, 5]),
    (DateIs(SENT, ON, date(2024, 1, 1)), [1]),
    (DateIs(SENT, SINCE, date(2024, 1, 2)), [2]),
    (DateIs(SENT, BEFORE, date(2030, 1, 1)), [1, 2]),
    (Older(2 * DAY), [1, 2]),
    (Younger(DAY), [3, 4, 5]),
]


@pytest.mark.parametrize(("key", "uids"), LEAVES, ids=[repr(key)[:60] for key, _ in LEAVES])
def test_each_key(box: Box, key: SearchKey, uids: list[int]) -> None:
    assert search(box, key) == uids


def test_many_keys_over_many_letters_were_told_in_the_thread_of_all_sessions(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand sizes in a mailbox of a hundred thousand letters kept everybody waiting for seconds."""
    keys = [Larger(1), Smaller(10_000), EmailIdIs("e1"), on(RECEIVED, ON, NOW - DAY), InSubject("hello")]
    programs = [And(tuple(keys[:3])), Or(keys[2], keys[3]), Not(Or(keys[0], keys[4])), And((keys[0], keys[4]))]
    before = [search(box, each) for each in programs]
    monkeypatch.setattr(search_module, "STEPS_HERE", 0)
    letters, workers = all_of(box), InlineWorkers()
    searcher = Searcher(box.db, box.db.blobs, workers)
    found = [list(asyncio.run(searcher.find(each, letters, view_of(box), NOW))) for each in programs]
    assert found == before
    assert workers.jobs == ["search"] * len(programs)


def test_a_letter_that_lies_in_a_mailbox_twice_is_found_twice_by_its_id() -> None:
    box = new_account(PlainDatabase())
    for _ in range(3):
        box.deliver()
    letters, inbox = all_of(box), box.id("INBOX")
    box.db.run(lambda tx: messages.copy(tx, box.account, inbox, ((2, 2),), inbox, now=NOW))
    assert search(box, EmailIdIs(unique_id(letters.emails[1]))) == [2, 4]


def test_sizes_ids_and_mod_sequences(box: Box) -> None:
    letters = all_of(box)
    size = sorted(letters.sizes)[2]
    bigger = [uid for uid, each in zip(letters.uids, letters.sizes, strict=True) if each > size]
    smaller = [uid for uid, each in zip(letters.uids, letters.sizes, strict=True) if each < size]
    assert (search(box, Larger(size)), search(box, Smaller(size))) == (bigger, smaller)
    assert len(bigger) == len(smaller) == 2
    assert search(box, EmailIdIs(unique_id(letters.emails[1]))) == [2]
    for nonsense in ("nonsense", "", "e", "e 5", "e-1", "e" + "f" * 16, "E" + unique_id(letters.emails[1])[1:]):
        assert search(box, EmailIdIs(nonsense)) == []
    rows = box.db.look(lambda reader: reading.dated(reader, box.id("INBOX"), EVERY_UID))
    same = [row.uid for row in rows if row.thread == rows[0].thread]
    assert search(box, ThreadIdIs(thread_id(rows[0].thread))) == same == [1, 3]
    assert search(box, ModSeqSince(letters.modseqs[3])) == [4, 5]
    assert highest_modseq(letters, [1, 3]) == letters.modseqs[2]
    assert highest_modseq(letters, []) == 0


programs = st.recursive(
    st.sampled_from(LEAVES).map(lambda leaf: (leaf[0], frozenset(leaf[1]))),
    lambda inner: st.one_of(
        inner.map(lambda one: (Not(one[0]), frozenset(range(1, 6)) - one[1])),
        st.lists(inner, min_size=2, max_size=4).map(
            lambda all_: (And(tuple(key for key, _ in all_)), frozenset.intersection(*(uids for _, uids in all_)))
        ),
        st.tuples(inner, inner).map(lambda two: (Or(two[0][0], two[1][0]), two[0][1] | two[1][1])),
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=150)
@given(program=programs)
def test_combinations_are_sets(box: Box, program: tuple[SearchKey, frozenset[int]]) -> None:
    key, uids = program
    assert search(box, key) == sorted(uids)


def test_only_what_the_client_knows_is_found(box: Box) -> None:
    view = view_of(box, array("I", [2, 3, 5]), recent=((3, 9),))
    assert search(box, All(), view) == [2, 3, 5]
    assert search(box, InSequence(numbers((1, 2))), view) == [2, 3]
    assert search(box, IsRecent(), view) == [3, 5]
    view.save([3])
    assert search(box, InSequence(numbers(saved=True)), view) == [3]
    assert search(box, Not(InUids(numbers(saved=True))), view) == [2, 5]
    assert search(box, InText("hello"), view) == [3]


def test_what_is_decided_is_not_read(box: Box) -> None:
    blobs = CountedBlobs(box.db.blobs)
    view, letters = view_of(box), all_of(box)
    searcher = Searcher(box.db, blobs, InlineWorkers())  # type: ignore[arg-type]

    def cost(key: SearchKey) -> tuple[int, int]:
        reads, blobs.opened = box.db.reads, 0
        asyncio.run(searcher.find(key, letters, view, NOW))
        return box.db.reads - reads, blobs.opened

    assert cost(And((HasFlag("\\Seen"), Not(Larger(9))))) == (0, 0)
    assert cost(InSubject("hello")) == (1, 0)
    assert cost(And((InText("x"), HasFlag("$Junk")))) == (2, 1)
    assert cost(And((InText("x"), HasFlag("\\Deleted")))) == (0, 0)
    assert cost(Or(InText("x"), All())) == (0, 0)
    assert cost(And((InBody("x"), InSubject("hello"), on(RECEIVED, ON, NOW - DAY)))) == (4, 1)
    assert cost(InHeader("X-Topic", "first")) == (1, 5)


def test_letters_that_went_meanwhile_are_not_found() -> None:
    box = new_account(PlainDatabase())
    for _ in range(3):
        post(box, PLAIN)
    view, letters = view_of(box), all_of(box)
    box.db.run(lambda tx: messages.expunge(tx, box.account, box.id("INBOX"), ((2, 2),), now=NOW))
    searcher = Searcher(box.db, box.db.blobs, InlineWorkers())
    for key in (InSubject("hello"), InBody("fine"), Younger(DAY), InHeader("X", ""), Not(InBody("absent"))):
        found = list(asyncio.run(searcher.find(key, letters, view, NOW)))
        assert found == ([] if key == InHeader("X", "") else [1, 3]), key


def test_pages_are_read_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PAGE", 2)
    box = new_account(PlainDatabase())
    for number in range(7):
        post(box, PLAIN if number % 3 else MIXED)
    assert search(box, InBody("morning, bob")) == [2, 3, 5, 6]
    assert search(box, InSubject("re:")) == [1, 4, 7]


# --- what is kept for $ ---------------------------------------------------------------------------

MIN, MAX, ALL, COUNT, SAVE = (
    ReturnOption.MIN,
    ReturnOption.MAX,
    ReturnOption.ALL,
    ReturnOption.COUNT,
    ReturnOption.SAVE,
)


@pytest.mark.parametrize(
    ("returns", "window", "uids"),
    [
        ({SAVE}, None, [3, 5, 7, 9]),
        ({SAVE, MIN}, None, [3]),
        ({SAVE, MAX}, None, [9]),
        ({SAVE, MIN, MAX}, None, [3, 9]),
        ({SAVE, MIN, COUNT}, None, [3, 5, 7, 9]),
        ({SAVE, MAX, ALL}, None, [3, 5, 7, 9]),
        ({SAVE}, PartialRange(2, 3), [5, 7]),
        ({SAVE, MIN}, PartialRange(2, 3), [3, 5, 7]),
        ({SAVE, MIN, MAX}, PartialRange(-2, -2), [3, 7, 9]),
        ({SAVE, COUNT, MIN}, PartialRange(1, 1), [3, 5, 7, 9]),
    ],
)
def test_what_a_search_saves(returns: set[ReturnOption], window: PartialRange | None, uids: list[int]) -> None:
    """RFC 5182 §2.4, RFC 9394 §3.2."""
    assert list(kept(array("I", [3, 5, 7, 9]), frozenset(returns), window)) == uids
    assert list(kept(array("I"), frozenset(returns), window)) == []


# --- the text that is looked for ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "is_in"),
    [
        ("hello", b"Say HELLO there", True),
        ("", b"", True),
        ("a b", b"a\r\n b", True),
        ("grüße", "Viele GRÜSSE".encode(), True),
        ("grüße", b"=?iso-8859-1?q?Gr=FC=DFe?=", True),
        ("=?iso", b"=?iso-8859-1?q?Gr=FC=DFe?=", False),
        ("ü", b"u", False),
        ("é", "cafe\u0301".encode(), True),
    ],
)
def test_texts_in_values(text: str, value: bytes, is_in: bool) -> None:
    assert Needle(text).is_in_value(value) is is_in


def test_nothing_is_found_across_two_fields() -> None:
    block = b"Subject: one\r\nTo: two\r\n"
    assert Needle("subject: one").is_in_header(block)
    assert not Needle("oneto").is_in_header(block)
    folded = b"Subject: =?utf-8?q?=C3=BC?=\r\n =?utf-8?q?b?=\r\nTo: two\r\n"
    assert Needle("üb").is_in_header(folded)
    assert not Needle("bto").is_in_header(folded)


HEADERS = [
    b"Subject: a\r\n b\r\n\r\n",
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n",
    b"Content-Type: message/rfc822\r\n\r\n",
    b"Content-Transfer-Encoding: base64\r\n\r\n",
    b"Content-Type: text/plain; charset=iso-2022-jp\r\n\r\n",
]
PIECES = [
    "a",
    "b",
    " ",
    "\r\n",
    "--b\r\n",
    "--b--",
    "A: ",
    "=?utf-8?q?a?=",
    "Content-Transfer-Encoding: base64\r\n",
    "YWI=",
    "ab",
]


@given(
    st.sampled_from(HEADERS), st.lists(st.sampled_from(PIECES), max_size=12), st.text(alphabet="ab \r\nä", max_size=3)
)
def test_a_quick_no_is_right(header: bytes, pieces: list[str], text: str) -> None:
    body = "".join(pieces).encode()
    needle = Needle(text)
    if needle.cannot_be_in(header.lower(), body.lower()):
        assert not needle.is_in_body(parse(header + body), header + body)


def test_a_quick_no_is_said_of_plain_letters() -> None:
    assert Needle("absent").cannot_be_in(b"subject: x\r\n\r\n", b"base64 is a word here\r\n")
    assert Needle("ä").cannot_be_in(b"", b"plain\r\n")
    assert not Needle("a").cannot_be_in(b"content-transfer-encoding: base64\r\n", b"yq==")
    assert not Needle("word").cannot_be_in(b"", b"a word\r\n")
