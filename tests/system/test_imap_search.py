# SPDX-License-Identifier: Apache-2.0
"""SEARCH, SORT and THREAD with the whole server and several sessions, over TLS."""

from __future__ import annotations

import pytest

from posthouse.ports import StoreFault
from posthouse.services.mailbox.search import Searcher
from tests.system.imap import BOB, Imap
from tests.system.post import Post
from tests.system.test_imap_store import ALICE, share, told


def letter(name: str, day: int, number: int, more: str = "") -> bytes:
    head = f"From: {name} <{name}@x.test>\r\nSubject: {name}\r\nDate: {day} Feb 1994 21:52:25 +0000\r\n"
    return f"{head}Message-ID: <{number}@x.test>\r\n{more}\r\nText of {name}.\r\n".encode()


LETTERS = (
    letter("bertha", 7, 1),
    letter("anton", 8, 2),
    letter("caesar", 6, 3, "References: <1@x.test>\r\n"),
)


async def opened(post: Post, enable: str = "") -> Imap:
    bob = await Imap.open(post, enable=enable)
    assert (await bob.append("INBOX", *LETTERS)).startswith("OK")
    await bob.ask("SELECT INBOX")
    return bob


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("SEARCH ALL", "* SEARCH 1 2 3"),
        ("UID SEARCH TEXT anton", "* SEARCH 2"),
        ("SEARCH FLAGGED", "* SEARCH"),
        ("SEARCH RETURN () ALL", '* ESEARCH (TAG "t4") ALL 1:3'),
        ("SEARCH RETURN (MIN MAX COUNT) NOT 2", '* ESEARCH (TAG "t4") MIN 1 MAX 3 COUNT 2'),
        ("UID SEARCH RETURN (MIN COUNT) FLAGGED", '* ESEARCH (TAG "t4") UID COUNT 0'),
        ("SEARCH RETURN (PARTIAL -1:-2) ALL", '* ESEARCH (TAG "t4") PARTIAL (-1:-2 2:3)'),
        ("SEARCH RETURN (PARTIAL 7:9 COUNT) ALL", '* ESEARCH (TAG "t4") COUNT 3 PARTIAL (7:9 NIL)'),
        ("SORT (SUBJECT) UTF-8 ALL", "* SORT 2 1 3"),
        ("UID SORT (REVERSE DATE) UTF-8 ALL", "* SORT 2 1 3"),
        ("SORT RETURN (MIN MAX ALL) (SUBJECT) UTF-8 ALL", '* ESEARCH (TAG "t4") MIN 2 MAX 3 ALL 2,1,3'),
        ("SORT RETURN (PARTIAL 1:2) (SUBJECT) UTF-8 ALL", '* ESEARCH (TAG "t4") PARTIAL (1:2 2,1)'),
        ("SORT (DISPLAYFROM) UTF-8 ALL", "* SORT 2 1 3"),
        ("THREAD REFERENCES UTF-8 ALL", "* THREAD (1 3)(2)"),
        ("UID THREAD ORDEREDSUBJECT UTF-8 ALL", "* THREAD (3)(1)(2)"),
        ("THREAD REFERENCES UTF-8 FLAGGED", "* THREAD"),
        ("SEARCH YOUNGER 1000 SAVEDSINCE 1-Jan-2020 SAVEDATESUPPORTED", "* SEARCH 1 2 3"),
        ("SEARCH 9", "* SEARCH"),
    ],
)
async def test_each_question_has_its_kind_of_answer(post: Post, command: str, answer: str) -> None:
    async with await opened(post) as bob:
        assert await told(bob, command) == [answer, "OK"]


async def test_rev2_answers_with_esearch_always(post: Post) -> None:
    async with await opened(post, "IMAP4rev2") as bob:
        assert await told(bob, "SEARCH ALL") == ['* ESEARCH (TAG "t5") ALL 1:3', "OK"]
        assert await told(bob, "UID SEARCH UID 2:9 SUBJECT caesar") == ['* ESEARCH (TAG "t6") UID ALL 3', "OK"]
        assert await told(bob, "SEARCH FLAGGED") == ['* ESEARCH (TAG "t7")', "OK"]


async def test_what_cannot_be_asked_is_refused(post: Post) -> None:
    async with await opened(post) as bob:
        charsets = "NO [BADCHARSET (UTF-8 US-ASCII ISO-8859-1)]"
        assert await told(bob, "SEARCH CHARSET X-UNKNOWN TEXT a") == [charsets]
        assert await told(bob, "SORT (SUBJECT) X-UNKNOWN TEXT a") == [charsets]
        assert await told(bob, "THREAD REFERENCES X-UNKNOWN TEXT a") == [charsets]
        assert await told(bob, "SEARCH WONDERFUL") == ["BAD [CLIENTBUG]"]
        await bob.ask("ENABLE UIDONLY")
        for command in ("SEARCH ALL", "UID SEARCH 1", "SORT (SUBJECT) UTF-8 ALL", "UID THREAD REFERENCES UTF-8 1:*"):
            assert await told(bob, command) == ["BAD [UIDREQUIRED]"]
        assert await told(bob, "UID SEARCH UID 1:2") == ["* SEARCH 1 2", "OK"]


async def test_modseq_is_told_of_what_is_told(post: Post) -> None:
    """RFC 7162 §3.1.5, RFC 4731 §3.2."""
    async with await opened(post) as bob:
        first = await told(bob, "SEARCH MODSEQ 1")
        assert first[0].startswith("* OK [HIGHESTMODSEQ ")  # CONDSTORE is enabled by it
        high = int(first[1].removeprefix("* SEARCH 1 2 3 (MODSEQ ").removesuffix(")"))
        row = (await told(bob, r"STORE 2 +FLAGS (\Flagged)"))[0]
        changed = int(row.partition("MODSEQ (")[2].rstrip(")"))
        assert changed > high
        assert await told(bob, f"SEARCH MODSEQ {changed}") == [f"* SEARCH 2 (MODSEQ {changed})", "OK"]
        assert await told(bob, f"SEARCH MODSEQ {changed + 1}") == ["* SEARCH", "OK"]
        rows = [
            ("SEARCH RETURN (MAX) MODSEQ 1", f"MAX 3 MODSEQ {high}"),
            ("SEARCH RETURN (COUNT) MODSEQ 1", f"COUNT 3 MODSEQ {changed}"),
            ("SEARCH RETURN (MAX COUNT) MODSEQ 1", f"MAX 3 COUNT 3 MODSEQ {changed}"),
            ("SORT RETURN (MIN) (SUBJECT) UTF-8 MODSEQ 1", f"MIN 2 MODSEQ {changed}"),
        ]
        for command, answer in rows:
            assert (await told(bob, command))[0].partition(") ")[2] == answer
        assert (await told(bob, "SORT (SUBJECT) UTF-8 MODSEQ 1"))[0] == f"* SORT 2 1 3 (MODSEQ {changed})"


# --- the saved result -----------------------------------------------------------------------------


async def test_what_was_saved_stands_for_letters_until_the_next_mailbox(post: Post) -> None:
    async with await opened(post) as bob, await Imap.open(post, mailbox="INBOX") as other:
        assert await told(bob, "SEARCH $") == ["* SEARCH", "OK"]
        assert await told(bob, "COPY $ Sent") == ["OK"]
        # SAVE alone says nothing (RFC 5182 §1).
        assert await told(bob, "SEARCH RETURN (SAVE) NOT SUBJECT anton") == ["OK"]
        assert await told(bob, "UID SEARCH UID $") == ["* SEARCH 1 3", "OK"]
        assert await told(bob, "SEARCH OR $ 2") == ["* SEARCH 1 2 3", "OK"]
        assert (await told(bob, r"STORE $ +FLAGS.SILENT (\Seen)")) == ["OK"]
        assert await told(bob, "SEARCH SEEN") == ["* SEARCH 1 3", "OK"]
        # What is expunged belongs to it no more, and the others keep their place.
        await other.ask(r"STORE 1 +FLAGS.SILENT (\Deleted)")
        await other.ask("EXPUNGE")
        assert (await told(bob, "NOOP"))[0] == "* 1 EXPUNGE"
        assert await told(bob, "SEARCH $") == ["* SEARCH 2", "OK"]
        assert await told(bob, "UID SEARCH RETURN (MIN SAVE) ALL") == ['* ESEARCH (TAG "t13") UID MIN 2', "OK"]
        assert await told(bob, "SEARCH $") == ["* SEARCH 1", "OK"]
        await bob.ask("SELECT INBOX")
        assert await told(bob, "SEARCH $") == ["* SEARCH", "OK"]


async def test_a_search_that_is_refused_leaves_nothing_saved(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 5182 §2.1: NO to a search with SAVE empties it; BAD, and any search without SAVE, leaves it."""
    async with await opened(post) as bob:
        for command, saved in (
            ("SEARCH RETURN (SAVE) WONDERFUL", "1 2 3"),
            ("SEARCH CHARSET X-UNKNOWN ALL", "1 2 3"),
            ("SEARCH RETURN (COUNT) ALL", "1 2 3"),
            ("SEARCH RETURN (SAVE COUNT) CHARSET X-UNKNOWN ALL", ""),
            ("SORT RETURN (SAVE) (SUBJECT) X-UNKNOWN ALL", ""),
        ):
            await bob.ask("SEARCH RETURN (SAVE) ALL")
            await bob.ask(command)
            assert await told(bob, "SEARCH $") == [f"* SEARCH {saved}".rstrip(), "OK"]
        await bob.ask("SEARCH RETURN (SAVE) ALL")

        async def broken(*_: object) -> None:
            raise StoreFault("the disk is gone")

        with monkeypatch.context() as patched:
            patched.setattr(Searcher, "find", broken)
            assert await told(bob, "SEARCH RETURN (SAVE) ALL") == ["NO [UNAVAILABLE]"]
        assert await told(bob, "SEARCH $") == ["* SEARCH", "OK"]


# --- other sessions, other people --------------------------------------------------------------------


async def test_numbers_stay_as_they_were_told_while_another_session_expunges(post: Post) -> None:
    async with await opened(post) as bob, await Imap.open(post, mailbox="INBOX") as other:
        await bob.ask("SEARCH ALL")
        await other.ask(r"STORE 2 +FLAGS.SILENT (\Deleted)")
        await other.ask("EXPUNGE")
        await other.append("INBOX", letter("dora", 9, 4))
        # No EXPUNGE may be told now, and what is found has the numbers that the client knows (RFC 9051 §7.5.1).
        assert await told(bob, "SEARCH ALL") == ["* SEARCH 1 3", "* 4 EXISTS", "* 4 RECENT", "OK"]
        assert await told(bob, "SEARCH SUBJECT dora") == ["* SEARCH 4", "OK"]
        assert await told(bob, "SORT (REVERSE SUBJECT) UTF-8 ALL") == ["* SORT 4 3 1", "OK"]
        assert await told(bob, "UID SEARCH ALL") == ["* SEARCH 1 3 4", "* 2 EXPUNGE", "OK"]


async def test_a_visitor_searches_what_that_person_has_seen(post: Post) -> None:
    async with await Imap.open(post, ALICE) as alice:
        await alice.append("Archive", *LETTERS)
        await alice.ask("SELECT Archive")
        await alice.ask(r"STORE 1 +FLAGS.SILENT (\Seen)")
        name = await share(post, "Archive", "lrs")
        async with await Imap.open(post, BOB) as bob:
            await bob.ask(f"SELECT {name}")
            await bob.ask(r"STORE 3 +FLAGS.SILENT (\Seen)")
            assert await told(bob, "SEARCH SEEN") == ["* SEARCH 3", "OK"]
            assert await told(bob, "SEARCH UNSEEN") == ["* SEARCH 1 2", "OK"]
        # Regression: a visitor's \\Seen is no news for the owner, whose flags are as they were.
        assert await told(alice, "SEARCH SEEN") == ["* SEARCH 1", "OK"]


async def test_letters_are_found_by_the_ids_that_fetch_tells(post: Post) -> None:
    async with await opened(post) as bob:
        rows = await told(bob, "FETCH 1 (EMAILID THREADID)")
        email, thread = (each.rstrip(")") for each in rows[0].split("(")[2:])
        assert await told(bob, f"SEARCH EMAILID {email.split(')')[0]}") == ["* SEARCH 1", "OK"]
        assert await told(bob, f"SEARCH THREADID {thread}") == ["* SEARCH 1", "OK"]
