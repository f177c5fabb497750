# SPDX-License-Identifier: Apache-2.0
"""Threads: base subjects and the joining of letters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.store import messages, threads
from posthouse.store.threads import KEYS, base_subject, keys
from posthouse.store.uidset import EVERY_UID
from tests.store.letterbox import NOW, Box, new_account
from tests.store.plain_database import PlainDatabase


@pytest.fixture
def box() -> Box:
    return new_account(PlainDatabase())


def thread(box: Box, message_id: bytes, *references: bytes, subject: bytes = b"Hello", reply_to: bytes = b"") -> int:
    email = box.deliver(message_id=message_id, references=references, subject=subject, in_reply_to=reply_to).email
    row = box.db.look(lambda reader: reader.row("SELECT thread FROM email WHERE id = :email", email=email))
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize(
    "subject",
    [
        b"Hello  World",
        b" hello world ",
        b"Re: Hello World",
        b"RE: re : Hello World",
        b"Fwd: Hello World (fwd)",
        b"Re[2]: Hello World",
        b"[list] Re: [list] Hello World",
        b"[Fwd: Re: Hello World]",
        b"AW: WG: Hello World",
        "回复：Hello World".encode(),
        "转发: Hello World".encode(),
        b"=?utf-8?q?Re=3A_Hello?= World",
        b"=?UTF-8?B?UmU6IEhlbA==?= =?UTF-8?B?bG8gV29ybGQ=?=",
        b"=?utf-8*en?Q?Hello?= =?utf-8?Q?_World?=",
    ],
)
def test_artifacts_do_not_count(subject: bytes) -> None:
    """RFC 5256 §2.1, RFC 2047 §6.2."""
    assert base_subject(subject) == "helloworld"


@pytest.mark.parametrize(
    ("subject", "base"),
    [
        (b"", ""),
        (b"Re:", ""),
        (b"[list]", "[list]"),
        (b"Re: [list]", "[list]"),
        (b"[a][b] c", "c"),
        (b"[unclosed", "[unclosed"),
        (b"Regards", "regards"),
        (b"rebate: 5", "rebate:5"),
        (b"=?utf-8?b?5L2g?= =?utf-8?b?5aW9?=", "你好"),
        (b"=?utf-8?b?5L0=?= =?utf-8?b?oA==?=", "你"),  # one character cut in two
        (b"=?gb2312?B?xOO6ww==?=", "你好"),
        (b"=?nonsense?Q?caf=E9?=", "café"),
        (b"=?utf-8?B?!!?=", ""),
        (b"caf\xe9", "café"),
        ("驿站".encode(), "驿站"),
        (b"Re: " * 200 + b"x", "re:" * 150 + "x"),
    ],
)
def test_base_subjects(subject: bytes, base: str) -> None:
    assert base_subject(subject) == base


@given(st.binary(max_size=300))
def test_any_octets_have_a_base_subject_without_spaces(octets: bytes) -> None:
    assert not any(character.isspace() for character in base_subject(octets))


def test_keys_are_63_bits_distinct_and_limited() -> None:
    found = keys(b"a", b"b", [b"%d" % number for number in range(20)] + [b"a"], b"x")
    assert len(found) == len(set(found)) <= KEYS
    assert all(0 <= key < 2**63 for key in found)
    assert keys(b"", b"", (), b"x") == ()


def test_an_answer_joins_its_thread(box: Box) -> None:
    first = thread(box, b"1@a")
    assert thread(box, b"2@a", b"1@a", subject=b"Re: Hello") == first
    assert thread(box, b"3@a", b"1@a", b"2@a", subject=b"AW: Hello") == first
    assert thread(box, b"4@a", reply_to=b"3@a", subject=b"Re: hello") == first
    assert thread(box, b"5@a") != first


def test_an_answer_with_another_subject_begins_a_thread(box: Box) -> None:
    """RFC 8621 §3: answering an old letter to find the address is a new conversation."""
    first = thread(box, b"1@a")
    assert thread(box, b"2@a", b"1@a", subject=b"Something else") != first


def test_letters_out_of_order_and_siblings_meet(box: Box) -> None:
    answer = thread(box, b"2@a", b"1@a", subject=b"Re: Hello")
    assert thread(box, b"3@a", b"1@a", subject=b"Re: Hello") == answer
    assert thread(box, b"1@a") == answer
    assert thread(box, b"1@a") == answer, "the same letter twice"


def test_a_letter_between_two_threads_joins_the_older(box: Box) -> None:
    """A thread id never changes (RFC 8621 §3)."""
    older, younger = thread(box, b"1@a"), thread(box, b"2@a")
    assert older != younger
    assert thread(box, b"3@a", b"2@a", b"1@a") == older


def test_letters_without_ids_stand_alone(box: Box) -> None:
    assert thread(box, b"") != thread(box, b"")


def test_accounts_do_not_share_threads(box: Box) -> None:
    other = new_account(box.db, "carol@bob.test")
    assert thread(box, b"1@a") != thread(other, b"1@a")


def test_a_thread_outlives_the_letter_that_began_it_but_not_the_last(box: Box) -> None:
    first = thread(box, b"1@a")
    inbox = box.id("INBOX")
    thread(box, b"2@a", b"1@a")
    thread(box, b"9@a", subject=b"other")
    box.db.run(lambda tx: messages.expunge(tx, box.account, inbox, ((1, 1), (3, 3)), now=NOW))
    position: int | None = -1
    while position is not None:
        position = box.db.run(lambda tx, after=position: threads.purge(tx, box.account, after, page=1))
    assert box.db.look(lambda reader: reader.row("SELECT COUNT(*) FROM thread_reference")) == (2,)
    assert thread(box, b"3@a", b"1@a") == first
    assert len(box.db.look(lambda reader: threads.emails(reader, first))) == 2
    box.db.run(lambda tx: messages.expunge(tx, box.account, inbox, EVERY_UID, now=NOW))
    box.db.run(lambda tx: threads.purge(tx, box.account))
    assert box.db.look(lambda reader: reader.rows("SELECT * FROM thread_reference")) == []
