# SPDX-License-Identifier: Apache-2.0
"""STORE, EXPUNGE, COPY and MOVE with the whole server and several sessions, over TLS."""

from __future__ import annotations

import re
from functools import partial

import pytest

from posthouse.store import integrity, mailboxes, rights
from tests.system.imap import BOB, Imap
from tests.system.post import Post

LETTER = b"From: bob@bob.test\r\nSubject: Hello\r\n\r\nHello.\r\n"
ALICE = "alice@alice.test"


async def fill(session: Imap, count: int = 3, mailbox: str = "INBOX") -> None:
    assert (await session.append(mailbox, *[LETTER] * count)).startswith("OK")


async def told(session: Imap, command: str) -> list[str]:
    """Untagged responses, and the tagged answer without its text."""
    untagged, answer = await session.tell(command)
    return [each.decode() for each in untagged] + [_short(answer)]


def _short(answer: str) -> str:
    found = re.match(r"(OK|NO|BAD)(?: (\[[^\]]*\]))?", answer)
    assert found is not None, answer
    return " ".join(filter(None, found.groups()))


async def share(post: Post, mailbox: str, letters: str, *, owner: str = ALICE, person: str = BOB) -> str:
    """Give a person rights; the mailbox's name for that person."""
    one, other = await post.house.directory.account(owner), await post.house.directory.account(person)
    assert one is not None
    assert other is not None

    def unit(tx: object) -> None:
        found = mailboxes.by_name(tx, one.id, mailbox)  # type: ignore[arg-type]
        assert found is not None
        rights.grant(tx, one.id, found.id, other.id, letters, 0.0)  # type: ignore[arg-type]

    await post.house.database.write(unit)
    return f'"Other Users/{owner}/{mailbox}"'


async def is_whole(post: Post) -> None:
    """Counters, quota and rows agree, in every account."""
    for account in await post.house.database.read(integrity.accounts):
        assert not await post.house.database.read(partial(integrity.check_account, account=account))
    assert not await post.house.database.read(integrity.check_rest)


# --- STORE ----------------------------------------------------------------------------------------


async def test_flags_are_set_added_and_removed_and_told(post: Post) -> None:
    async with await Imap.open(post) as bob:
        await fill(bob)
        await bob.ask("ENABLE IMAP4rev2")
        await bob.ask("SELECT INBOX")
        assert await told(bob, r"STORE 1:2 FLAGS (\Seen \Draft)") == [
            r"* 1 FETCH (FLAGS (\Seen \Draft))",
            r"* 2 FETCH (FLAGS (\Seen \Draft))",
            "OK",
        ]
        assert await told(bob, r"STORE 2:3 +FLAGS \Flagged") == [
            r"* 2 FETCH (FLAGS (\Seen \Flagged \Draft))",
            r"* 3 FETCH (FLAGS (\Flagged))",
            "OK",
        ]
        assert await told(bob, r"UID STORE 1:* -FLAGS (\Seen \Flagged)") == [
            r"* 1 FETCH (UID 1 FLAGS (\Draft))",
            r"* 2 FETCH (UID 2 FLAGS (\Draft))",
            r"* 3 FETCH (UID 3 FLAGS ())",
            "OK",
        ]
        assert await told(bob, r"STORE 1 FLAGS.SILENT ()") == ["OK"]
        assert await told(bob, "NOOP") == ["OK"]
        await is_whole(post)


async def test_another_session_learns_of_flags_and_keywords(post: Post) -> None:
    async with await Imap.open(post) as bob, await Imap.open(post) as other:
        await fill(bob)
        for session in (bob, other):
            await session.ask("ENABLE IMAP4rev2")
            await session.ask("SELECT INBOX")
        keywords = [
            r"* FLAGS (\Seen \Answered \Flagged \Deleted \Draft $Work)",
            r"* OK [PERMANENTFLAGS (\Seen \Answered \Flagged \Deleted \Draft $Work \*)] What may be changed",
        ]
        row = r"* 2 FETCH (FLAGS (\Seen $Work))"
        assert await told(bob, r"STORE 2 +FLAGS ($Work \Seen)") == [*keywords, row, "OK"]
        assert await told(other, "NOOP") == [*keywords, row, "OK"]
        # Silence is about what was asked for, not about what another session did meanwhile.
        await other.ask(r"STORE 2 +FLAGS.SILENT (\Draft)")
        assert await told(bob, r"STORE 3 +FLAGS.SILENT ($work)") == [r"* 2 FETCH (FLAGS (\Seen \Draft $Work))", "OK"]
        assert await told(other, "NOOP") == ["* 3 FETCH (FLAGS ($Work))", "OK"]


async def test_recent_is_nobodys_to_change(post: Post) -> None:
    async with await Imap.open(post) as bob:
        await fill(bob, 1)
        await bob.ask("SELECT INBOX")
        assert await told(bob, r"STORE 1 -FLAGS (\Recent)") == ["BAD [CLIENTBUG]"]
        assert await told(bob, r"STORE 1 FLAGS (\Seen)") == [r"* 1 FETCH (FLAGS (\Seen \Recent))", "OK"]


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("STORE 4 FLAGS ()", "BAD [CLIENTBUG]"),
        ("STORE 1:9 FLAGS ()", "BAD [CLIENTBUG]"),
        (r"STORE 1 +FLAGS (\Wonderful)", "BAD [CLIENTBUG]"),
        (f"STORE 1 +FLAGS ({'k' * 101})", "NO [LIMIT]"),
        (f"STORE 1 +FLAGS ({' '.join(f'k{number}' for number in range(101))})", "NO [LIMIT]"),
        ("UID STORE 4:9 FLAGS ()", "OK"),
        ("UID EXPUNGE 4:9", "OK"),
        ("UID COPY 4:9 Sent", "OK"),
        ("UID MOVE 4:9 Sent", "OK"),
        ("COPY 4 Sent", "BAD [CLIENTBUG]"),
        ("MOVE 1:4 Sent", "BAD [CLIENTBUG]"),
        ("COPY 1 Nowhere", "NO [TRYCREATE]"),
        ("MOVE 1 Nowhere", "NO [TRYCREATE]"),
        ('COPY 1 "Other Users/alice@alice.test/INBOX"', "NO [NONEXISTENT]"),
        ('COPY 1 "a//b"', "NO [NONEXISTENT]"),
    ],
)
async def test_what_cannot_be_done_changes_nothing(post: Post, command: str, answer: str) -> None:
    async with await Imap.open(post, mailbox="INBOX", enable="IMAP4rev2 CONDSTORE") as bob:
        await fill(bob)
        await bob.ask("NOOP")
        items = "(MESSAGES HIGHESTMODSEQ UNSEEN)"
        before = await told(bob, f"STATUS INBOX {items}") + await told(bob, f"STATUS Sent {items}")
        assert await told(bob, command) == [answer]
        assert await told(bob, f"STATUS INBOX {items}") + await told(bob, f"STATUS Sent {items}") == before


async def test_a_mailbox_that_is_examined_stays_as_it_is(post: Post) -> None:
    async with await Imap.open(post) as bob:
        await fill(bob, 1)
        await bob.ask("EXAMINE INBOX")
        for command in ("STORE 1 +FLAGS (\\Seen)", "EXPUNGE", "UID EXPUNGE 1", "MOVE 1 Sent"):
            assert await told(bob, command) == ["NO [READ-ONLY]"]
        assert (await told(bob, "COPY 1 Sent"))[-1].startswith("OK [COPYUID")


async def test_the_first_thousand_keywords_of_an_account_are_enough(post: Post) -> None:
    async with await Imap.open(post, mailbox="INBOX") as bob:
        await fill(bob, 11)
        for number in range(1, 11):
            some = " ".join(f"k{number}.{each}" for each in range(100))
            assert (await bob.ask(f"STORE {number} +FLAGS.SILENT ({some})")).startswith("OK")
        assert (await bob.ask("STORE 11 +FLAGS.SILENT (another)")).startswith("NO [LIMIT]")


# --- conditional STORE ----------------------------------------------------------------------------


async def modseq(session: Imap, mailbox: str = "INBOX") -> int:
    untagged, _ = await session.tell(f"STATUS {mailbox} (HIGHESTMODSEQ)")
    found = re.search(rb"HIGHESTMODSEQ (\d+)", untagged[0])
    assert found is not None
    return int(found[1])


async def test_a_conditional_store_tells_what_changed_meanwhile(post: Post) -> None:
    async with await Imap.open(post) as bob, await Imap.open(post) as other:
        await fill(bob)
        await bob.ask("ENABLE IMAP4rev2")
        untagged, _ = await bob.tell("SELECT INBOX")
        (known,) = [int(found[1]) for each in untagged if (found := re.search(rb"HIGHESTMODSEQ (\d+)", each))]
        await other.ask("SELECT INBOX")
        await other.ask(r"STORE 2 +FLAGS.SILENT (\Answered)")
        rows = await told(bob, rf"STORE 1:3 (UNCHANGEDSINCE {known}) +FLAGS.SILENT (\Seen \Flagged)")
        new = re.findall(r"MODSEQ \((\d+)\)", "".join(rows[1:]))
        assert new[0] == new[1] > new[2]
        assert rows == [
            # CONDSTORE is enabled by it: where the mailbox stands is told first.
            f"* OK [HIGHESTMODSEQ {known}] The highest mod-sequence",
            f"* 1 FETCH (MODSEQ ({new[0]}))",
            f"* 3 FETCH (MODSEQ ({new[0]}))",
            rf"* 2 FETCH (FLAGS (\Answered) MODSEQ ({new[2]}))",
            "OK [MODIFIED 2]",
        ]


async def test_a_conditional_store_tells_the_modseq_of_what_was_so_already(post: Post) -> None:
    """RFC 7162 §3.1.3: an untagged FETCH with MODSEQ for each letter that passes the test."""
    async with await Imap.open(post, enable="CONDSTORE IMAP4rev2") as bob:
        await fill(bob, 2)
        await bob.ask("SELECT INBOX")
        first = await told(bob, r"STORE 1 +FLAGS.SILENT (\Seen)")
        assert re.fullmatch(r"\* 1 FETCH \(MODSEQ \(\d+\)\)", first[0])
        rows = await told(bob, rf"UID STORE 1:2 (UNCHANGEDSINCE {await modseq(bob)}) +FLAGS.SILENT (\Seen)")
        assert rows[0] == first[0].replace("(MODSEQ", "(UID 1 MODSEQ")
        assert re.fullmatch(r"\* 2 FETCH \(UID 2 MODSEQ \(\d+\)\)", rows[1])
        assert rows[2:] == ["OK"]
        # Nothing changes any more, and a test that every letter fails says so for each.
        assert (await told(bob, r"UID STORE 1:2 (UNCHANGEDSINCE 0) FLAGS.SILENT (\Seen)"))[-1] == "OK [MODIFIED 1:2]"


# --- letters that another session has expunged -------------------------------------------------------


async def test_what_is_left_is_done_and_the_rest_is_said(post: Post) -> None:
    async with await Imap.open(post) as bob, await Imap.open(post) as other:
        await fill(bob)
        for session in (bob, other):
            await session.ask("ENABLE IMAP4rev2")
            await session.ask("SELECT INBOX")
        await other.ask(r"STORE 2 +FLAGS.SILENT (\Deleted)")
        assert (await told(other, "EXPUNGE"))[0] == "* 2 EXPUNGE"
        # No EXPUNGE may be told while numbers are in use (RFC 9051 §7.5.1).
        assert await told(bob, r"STORE 1:3 +FLAGS (\Seen)") == [
            r"* 1 FETCH (FLAGS (\Seen))",
            r"* 3 FETCH (FLAGS (\Seen))",
            "NO [EXPUNGEISSUED]",
        ]
        assert await told(bob, "COPY 1:3 Sent") == ["NO [EXPUNGEISSUED]"]
        assert await told(bob, r"UID STORE 1:3 -FLAGS (\Seen)") == [
            "* 1 FETCH (UID 1 FLAGS ())",
            "* 3 FETCH (UID 3 FLAGS ())",
            "* 2 EXPUNGE",
            "OK",
        ]
        assert await told(bob, "STATUS Sent (MESSAGES)") == ["* STATUS Sent (MESSAGES 0)", "OK"]
        await is_whole(post)


async def test_what_is_left_is_moved_and_the_rest_is_said(post: Post) -> None:
    async with await Imap.open(post) as bob, await Imap.open(post) as other:
        await fill(bob)
        await bob.ask("ENABLE IMAP4rev2")
        await bob.ask("SELECT INBOX")
        await other.ask("SELECT INBOX")
        await other.ask("MOVE 2 Trash")
        moved = await told(bob, "MOVE 1:3 Sent")
        assert re.fullmatch(r"\* OK \[COPYUID \d+ 1,3 1:2\] Moved", moved[0])
        assert moved[1:] == ["* 3 EXPUNGE", "* 2 EXPUNGE", "* 1 EXPUNGE", "NO [EXPUNGEISSUED]"]
        await is_whole(post)


# --- EXPUNGE --------------------------------------------------------------------------------------


async def test_expunge_tells_numbers_or_uids(post: Post) -> None:
    async with await Imap.open(post, enable="QRESYNC") as bob, await Imap.open(post, mailbox="INBOX") as other:
        await fill(bob, 5)
        await bob.ask("SELECT INBOX")
        await other.ask("NOOP")
        await bob.ask(r"UID STORE 1:2,4,5 +FLAGS.SILENT (\Deleted)")
        rows = await told(bob, "UID EXPUNGE 2:4")
        highest = await modseq(bob)
        assert rows == ["* VANISHED 2,4", f"OK [HIGHESTMODSEQ {highest}]"]
        assert [each for each in await told(other, "NOOP") if "EXPUNGE" in each] == ["* 4 EXPUNGE", "* 2 EXPUNGE"]
        assert (await told(other, "EXPUNGE")) == ["* 3 EXPUNGE", "* 1 EXPUNGE", "OK"]
        assert (await told(bob, "EXPUNGE"))[:1] == ["* VANISHED 1,5"]
        assert await told(bob, "EXPUNGE") == ["OK"]
        await is_whole(post)


async def test_uidonly_moves_and_expunges_by_uid(post: Post) -> None:
    async with await Imap.open(post, enable="UIDONLY") as bob:
        await fill(bob, 3)
        await bob.ask("SELECT INBOX")
        assert await told(bob, "STORE 1 FLAGS ()") == ["BAD [UIDREQUIRED]"]
        assert (await told(bob, r"UID STORE 2 +FLAGS (\Deleted)"))[0].startswith(r"* 2 UIDFETCH (FLAGS (\Deleted")
        assert (await told(bob, "EXPUNGE"))[0] == "* VANISHED 2"
        moved = await told(bob, "UID MOVE 3 INBOX")
        assert re.fullmatch(r"\* OK \[COPYUID \d+ 3 4\] Moved", moved[0])
        assert moved[1:4] == ["* VANISHED 3", "* 2 EXISTS", "* 2 RECENT"]


# --- COPY and MOVE --------------------------------------------------------------------------------


async def test_copies_keep_flags_and_keywords(post: Post) -> None:
    async with await Imap.open(post) as bob:
        await fill(bob)
        await bob.ask("ENABLE IMAP4rev2")
        await bob.ask("SELECT INBOX")
        await bob.ask(r"STORE 1 FLAGS (\Seen $Work)")
        copied = await told(bob, "COPY 1,3 Archive")
        assert re.fullmatch(r"OK \[COPYUID \d+ 1,3 1:2\]", copied[0])
        # Into the mailbox that is selected, too.
        assert re.fullmatch(r"OK \[COPYUID \d+ 2:3 4:5\]", (copied := await told(bob, "UID COPY 2:3 INBOX"))[-1])
        assert copied[0] == "* 5 EXISTS"
        await bob.ask("SELECT Archive")
        assert await told(bob, "STORE 1:2 -FLAGS (nothing)") == [
            r"* 1 FETCH (FLAGS (\Seen $Work))",
            "* 2 FETCH (FLAGS ())",
            "OK",
        ]
        await is_whole(post)


async def test_a_copy_beyond_the_quota_is_refused_and_a_move_within_the_account_is_not(post: Post) -> None:
    large = LETTER + b"x" * 700
    async with await Imap.open(post, "small@bob.test") as small, await Imap.open(post, ALICE) as alice:
        assert (await small.append("INBOX", large)).startswith("OK")
        name = await share(post, "Archive", "lrswite", person="small@bob.test")
        await alice.append("Archive", large)
        await small.ask(f"SELECT {name}")
        assert await told(small, "COPY 1 INBOX") == ["NO [OVERQUOTA]"]
        assert await told(small, "MOVE 1 INBOX") == ["NO [OVERQUOTA]"]
        await small.ask("SELECT INBOX")
        assert (await told(small, "COPY 1 Sent"))[-1].startswith("OK [COPYUID")
        assert (await told(small, "MOVE 1 Sent"))[0].startswith("* OK [COPYUID")
        await is_whole(post)


# --- other people's mailboxes ---------------------------------------------------------------------


async def test_a_visitor_changes_what_the_rights_allow(post: Post) -> None:
    async with await Imap.open(post, ALICE, mailbox="Archive", enable="IMAP4rev2") as alice:
        await fill(alice, 2, "Archive")
        name = await share(post, "Archive", "lrs")
        async with await Imap.open(post, BOB, enable="IMAP4rev2") as bob:
            untagged, _ = await bob.tell(f"SELECT {name}")
            assert rb"* OK [PERMANENTFLAGS (\Seen)] What may be changed" in untagged
            # What may be changed is changed, the rest is left (RFC 4314 §4).
            assert await told(bob, r"STORE 1 +FLAGS (\Seen \Flagged \Deleted $Work)") == [
                r"* 1 FETCH (FLAGS (\Seen))",
                "OK",
            ]
            assert await told(bob, r"STORE 1 +FLAGS (\Flagged)") == ["NO [NOPERM]"]
            assert await told(bob, r"STORE 1 +FLAGS ($Work)") == ["NO [NOPERM]"]
            assert await told(bob, "EXPUNGE") == ["NO [NOPERM]"]
            assert await told(bob, "MOVE 1 INBOX") == ["NO [NOPERM]"]
            assert await told(bob, f"COPY 1 {name}") == ["NO [NOPERM]"]
            # Each has an own \\Seen.
            await alice.ask("NOOP")
            assert await told(alice, r"STORE 1:2 +FLAGS (\Answered)") == [
                r"* 1 FETCH (FLAGS (\Answered))",
                r"* 2 FETCH (FLAGS (\Answered))",
                "OK",
            ]
            assert await told(bob, "NOOP") == [
                r"* 1 FETCH (FLAGS (\Seen \Answered))",
                r"* 2 FETCH (FLAGS (\Answered))",
                "OK",
            ]
        await is_whole(post)


async def test_rights_that_were_taken_away_count_at_once(post: Post) -> None:
    async with await Imap.open(post, ALICE) as alice:
        await fill(alice, 1, "Archive")
        name = await share(post, "Archive", "lrswite")
        async with await Imap.open(post, BOB) as bob:
            await bob.ask(f"SELECT {name}")
            await share(post, "Archive", "lr")
            assert await told(bob, r"STORE 1 +FLAGS (\Seen)") == ["NO [NOPERM]"]
            assert await told(bob, "EXPUNGE") == ["NO [NOPERM]"]
            assert await told(bob, "MOVE 1 INBOX") == ["NO [NOPERM]"]


async def test_letters_cross_between_accounts_with_the_persons_own_seen(post: Post) -> None:
    async with await Imap.open(post, ALICE, enable="IMAP4rev2") as alice:
        await fill(alice, 2, "Archive")
        name = await share(post, "Archive", "lrsi")
        async with await Imap.open(post, BOB, enable="IMAP4rev2") as bob:
            await bob.ask(f"SELECT {name}")
            await bob.ask(r"STORE 2 +FLAGS.SILENT (\Seen)")
            assert re.fullmatch(r"OK \[COPYUID \d+ 1:2 1:2\]", (await told(bob, "COPY 1:2 Archive"))[0])
            await bob.ask("SELECT Archive")
            assert await told(bob, r"STORE 1:2 +FLAGS (\Flagged \Deleted)") == [
                r"* 1 FETCH (FLAGS (\Flagged \Deleted))",
                r"* 2 FETCH (FLAGS (\Seen \Flagged \Deleted))",
                "OK",
            ]
            # And back: \\Seen is bob's alone, and the other flags he may not set there.
            moved = await told(bob, f"MOVE 2 {name}")
            assert re.fullmatch(r"\* OK \[COPYUID \d+ 2 3\] Moved", moved[0])
            assert moved[1:] == ["* 2 EXPUNGE", "OK"]
            await bob.ask(f"SELECT {name}")
            assert await told(bob, r"STORE 3 -FLAGS (\Answered \Seen)") == ["* 3 FETCH (FLAGS ())", "OK"]
        await alice.ask("SELECT Archive")
        assert await told(alice, r"STORE 3 -FLAGS (\Answered)") == ["* 3 FETCH (FLAGS ())", "OK"]
        await is_whole(post)


async def test_a_visitor_moves_letters_between_two_mailboxes_of_the_owner(post: Post) -> None:
    async with await Imap.open(post, ALICE, enable="IMAP4rev2") as alice:
        await fill(alice, 3, "Archive")
        await alice.ask("SELECT Archive")
        await alice.ask(r"STORE 1:2 +FLAGS.SILENT (\Flagged $Work)")
        await alice.ask(r"STORE 3 +FLAGS.SILENT (\Seen)")
        source = await share(post, "Archive", "lrstewi")
        target = await share(post, "Sent", "lrsi")
        async with await Imap.open(post, BOB, enable="IMAP4rev2") as bob:
            await bob.ask(f"SELECT {source}")
            await bob.ask(r"STORE 2 +FLAGS.SILENT (\Seen)")
            moved = await told(bob, f"MOVE 1:3 {target}")
            assert re.fullmatch(r"\* OK \[COPYUID \d+ 1:3 1:3\] Moved", moved[0])
            await bob.ask(f"SELECT {target}")
            assert await told(bob, r"STORE 1:3 +FLAGS ($None \Seen)") == [
                r"* 1 FETCH (FLAGS (\Seen))",
                r"* 2 FETCH (FLAGS (\Seen))",
                r"* 3 FETCH (FLAGS (\Seen))",
                "OK",
            ]
        assert (await told(alice, "STATUS Sent (MESSAGES UNSEEN)"))[0] == "* STATUS Sent (MESSAGES 3 UNSEEN 2)"
        await is_whole(post)


async def test_without_the_right_to_read_no_copyuid_is_told(post: Post) -> None:
    """RFC 4315 §4: it would say something about a mailbox that the person may not open."""
    async with await Imap.open(post, BOB) as bob:
        await fill(bob, 1)
        name = await share(post, "Archive", "li")
        await bob.ask("SELECT INBOX")
        assert (await told(bob, f"COPY 1 {name}"))[-1] == "OK"


async def test_a_mailbox_below_anothers_can_be_made_with_the_right_k_alone(post: Post) -> None:
    async with await Imap.open(post, BOB) as bob:
        await fill(bob, 1)
        await bob.ask("SELECT INBOX")
        name = await share(post, "Archive", "lri")
        below = name[:-1] + '/2026"'
        assert (await told(bob, f"COPY 1 {below}"))[-1] == "NO [NONEXISTENT]"
        await share(post, "Archive", "lrik")
        assert (await told(bob, f"COPY 1 {below}"))[-1] == "NO [TRYCREATE]"


@pytest.mark.slow
async def test_ten_thousand_letters_are_changed_in_one_command(post: Post) -> None:
    async with await Imap.open(post, enable="CONDSTORE IMAP4rev2") as bob:
        for _ in range(20):
            await fill(bob, 500)
        await bob.ask("SELECT INBOX")
        rows = await told(bob, r"STORE 1:* +FLAGS (\Seen)")
        assert len(rows) == 10_001
        assert len({row.split("MODSEQ")[1] for row in rows[:-1]}) == 1  # one unit of work
        assert await told(bob, r"STORE 1:* +FLAGS (\Seen)") == rows
        rows = await told(bob, "MOVE 1:* Archive")
        assert rows[0].endswith("1:10000 1:10000] Moved")
        assert len(rows) == 10_002
        await is_whole(post)
