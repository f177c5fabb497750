# SPDX-License-Identifier: Apache-2.0
"""APPEND, MULTIAPPEND and REPLACE with the whole server, over TLS."""

from __future__ import annotations

import asyncio
import errno
import re
from functools import partial

import pytest

from posthouse.ports import Reader, Row
from posthouse.services.incoming import SPOOL_ABOVE
from posthouse.services.mailbox import appending
from posthouse.store import integrity, mailboxes, rights
from tests.system.imap import BOB, Imap
from tests.system.post import Post

ALICE = "alice@alice.test"
LETTER = b"From: bob@bob.test\r\nSubject: Draft\r\n\r\nHello.\r\n"
ANSWERS = re.compile(r"OK \[APPENDUID (\d+) ([\d:,]+)\]")


def appended(answer: str) -> str:
    """The UIDs."""
    found = ANSWERS.match(answer)
    assert found is not None, answer
    return found[2]


async def mailbox_id(post: Post, name: str, owner: str = BOB) -> int:
    account = await post.house.directory.account(owner)
    assert account is not None
    found = await post.house.database.read(partial(mailboxes.by_name, account=account.id, name=name))
    assert found is not None
    return found.id


async def rows(post: Post, name: str, owner: str = BOB) -> list[Row]:
    """(UID, flags, keywords, received at) of each letter, as they are kept."""
    mailbox = await mailbox_id(post, name, owner)
    return await post.house.database.read(
        lambda reader: reader.rows(
            "SELECT p.uid, p.flags, p.keywords, e.received_at FROM placement AS p JOIN email AS e ON e.id = p.email"
            " WHERE p.mailbox = :mailbox ORDER BY p.uid",
            mailbox=mailbox,
        )
    )


async def share(post: Post, name: str, given: str, *, owner: str = ALICE, person: str = BOB) -> str:
    """Let somebody into a mailbox; the name that it has for that person."""
    mailbox = await mailbox_id(post, name, owner)
    accounts = [await post.house.directory.account(each) for each in (owner, person)]
    assert accounts[0] is not None
    assert accounts[1] is not None
    owner_id, person_id = accounts[0].id, accounts[1].id
    await post.house.database.write(lambda tx: rights.grant(tx, owner_id, mailbox, person_id, given, 0.0))
    return f'"Other Users/{owner}/{name}"'


async def check(post: Post) -> None:
    """Every counter says what is there."""

    def look(reader: Reader) -> list[integrity.Difference]:
        found = [each for account in integrity.accounts(reader) for each in integrity.check_account(reader, account)]
        return found + integrity.check_rest(reader)

    assert await post.house.database.read(look) == []


# --- APPEND ---------------------------------------------------------------------------------------


async def test_a_letter_is_there_with_flags_and_date(post: Post) -> None:
    async with await Imap.open(post) as bob:
        answer = await bob.append("Drafts", LETTER, before='(\\Draft \\seen $Work) "17-Jul-1996 02:44:25 -0700" ')
        assert appended(answer) == "1"
        told = b"".join((await bob.tell("SELECT Drafts"))[0])
        found = ANSWERS.match(answer)
        assert found is not None
        assert f"[UIDVALIDITY {found[1]}]".encode() in told
        assert b"* FLAGS (\\Seen \\Answered \\Flagged \\Deleted \\Draft $Work)" in told
    assert await rows(post, "Drafts") == [(1, 17, "$work", 837596665.0)]
    assert (await post.contents())[-1] == LETTER
    await check(post)


@pytest.mark.parametrize(
    ("date", "kept"),
    [
        ('" 1-Jan-0001 00:00:00 +1400"', appending.EARLIEST),
        ('"31-Dec-9999 23:59:59 -1200"', appending.LATEST),
        ('" 1-Jan-1969 00:00:00 +0000"', -31_536_000),
    ],
)
async def test_dates_far_away_can_still_be_shown(post: Post, date: str, kept: float) -> None:
    async with await Imap.open(post) as bob:
        appended(await bob.append("Drafts", LETTER, before=f"{date} "))
    assert [row[3] for row in await rows(post, "Drafts")] == [kept]


LARGE = b"x" * 70 + b"\r\n"
BYTE_FOR_BYTE = {
    "bare LF": b"Subject: x\n\nBody \xc3\xa4\xff\nand on\n",
    "bare CR": b"Subject: x\r\rBody\r",
    "no header": b"only a body\xff\r\n",
    "no body": b"Subject: x\r\n",
    "empty header": b"\r\nBody\r\n",
    "one octet": b"x",
    "dots": b"Subject: x\r\n\r\n.\r\n..\r\n",
    "8-bit body": b"Subject: x\r\n\r\n\xff\xfe\x80\r\n",
    "large": b"Subject: x\r\n\r\n" + LARGE * 8_000,
    "large with bare LF": b"Subject: x\n\n" + b"x\xff\n" * 200_000,
    "large header": b"".join(b"X-%d: y\r\n" % number for number in range(40_000)) + b"\r\nBody\xff\r\n",
}


@pytest.mark.parametrize("kind", list(BYTE_FOR_BYTE))
async def test_what_comes_is_kept_octet_by_octet(post: Post, kind: str) -> None:
    octets = BYTE_FOR_BYTE[kind]
    async with await Imap.open(post) as bob:
        appended(await bob.append("Drafts", octets))
    assert (await post.contents())[-1] == octets
    await check(post)


async def test_the_body_of_a_large_header_is_found(post: Post) -> None:
    """A header beyond what is scanned had no end: where the letter has a body could not be said."""
    octets = BYTE_FOR_BYTE["large header"]
    assert octets.index(b"\r\n\r\n") > SPOOL_ABOVE
    async with await Imap.open(post) as bob:
        await bob.append("Drafts", octets)
        await bob.append("Drafts", BYTE_FOR_BYTE["large with bare LF"])
    sizes = await post.house.database.read(lambda reader: reader.rows("SELECT header_size FROM email ORDER BY id"))
    assert [size for (size,) in sizes[-2:]] == [octets.index(b"\r\n\r\n") + 4, 600_012]


async def test_nul_comes_as_binary_or_not_at_all(post: Post) -> None:
    """RFC 9051 §9: a literal has no NUL in it; RFC 3516 §4.4: a literal8 may."""
    octets = b"Subject: x\r\n\r\na\0b\r\n"
    async with await Imap.open(post) as bob:
        assert (await bob.append("Drafts", octets)).startswith("NO [CANNOT] A message with NUL")
        assert await rows(post, "Drafts") == []
        assert appended(await bob.append("Drafts", octets, before="~")) == "1"
    assert (await post.contents())[-1] == octets


async def test_8_bit_headers_are_kept_as_they_are_whoever_brings_them(post: Post) -> None:
    """mbsync could not bring old mail along: RFC 6855 §4 has it refused where UTF-8 was not enabled (see ADR 6)."""
    octets = "Subject: Grüße\r\n\r\nx\r\n".encode()
    latin = b"Subject: Gr\xfc\xdfe\r\n\r\nx\r\n"
    async with await Imap.open(post) as bob:
        for number, taken in enumerate((octets, latin), 1):
            assert appended(await bob.append("Drafts", taken)) == str(number)
        assert (await bob.ask("ENABLE UTF8=ACCEPT")).startswith("OK")
        await bob.say(f"APPEND Drafts UTF8 (~{{{len(octets)}+}}")
        await bob.wire.send(octets + b")\r\n")
        assert appended((await bob.answer())[1]) == "3"
    assert (await post.contents())[-3:] == [octets, latin, octets]


# --- refused before anything comes ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("APPEND Nowhere {310}", "NO [TRYCREATE]"),
        ("APPEND Nowhere/below {310}", "NO [TRYCREATE]"),
        ('APPEND "Other Users/alice@alice.test/INBOX" {310}', "NO [NONEXISTENT]"),
        ('APPEND "Other Users/nobody" {310}', "NO [NONEXISTENT]"),
        ("APPEND &AEE {310}", "NO [CANNOT]"),
        ('APPEND " x" {310}', "NO [NONEXISTENT]"),
        ("APPEND INBOX {104857601}", "NO [TOOBIG]"),
        ("APPEND INBOX {0}", "NO "),
        ("APPEND INBOX (\\Nothing) {310}", "BAD [CLIENTBUG]"),
        ("APPEND INBOX (\\Recent) {310}", "BAD [CLIENTBUG]"),
        (f"APPEND INBOX ({' '.join(f'k{n}' for n in range(101))}) {{310}}", "NO [LIMIT]"),
        ("REPLACE 1 INBOX {310}", "BAD [CLIENTBUG]"),
    ],
)
async def test_refused_while_it_still_lies_with_the_client(post: Post, command: str, answer: str) -> None:
    """No continuation request: the answer is the first that the client hears."""
    async with await Imap.open(post) as bob:
        told, found = await bob.tell(command)
        assert (told, found.startswith(answer)) == ([], True), found
        assert (await bob.ask("NOOP")).startswith("OK")
    await check(post)


async def test_what_is_refused_without_waiting_is_read_over(post: Post) -> None:
    async with await Imap.open(post) as bob:
        assert (await bob.append("Nowhere", LETTER, LETTER)).startswith("NO [TRYCREATE]")
        assert (await bob.ask("NOOP")).startswith("OK")


async def test_a_mailbox_that_is_renamed_meanwhile_is_not_there(post: Post) -> None:
    """The letter went into the mailbox that had had the name when it began to come."""
    async with await Imap.open(post) as bob, await Imap.open(post) as other:
        await bob.say("APPEND Drafts {5}")
        assert (await bob.response()).startswith(b"+")
        assert (await other.ask("RENAME Drafts Old")).startswith("OK")
        await bob.wire.send(b"hello\r\n")
        assert (await bob.answer())[1].startswith("NO [TRYCREATE]")
    assert await rows(post, "Old") == []
    await check(post)


async def test_rights_that_are_taken_away_meanwhile_are_gone(post: Post) -> None:
    name = await share(post, "Drafts", "lri")
    async with await Imap.open(post) as bob:
        await bob.say(f"APPEND {name} {{5}}")
        assert (await bob.response()).startswith(b"+")
        await share(post, "Drafts", "lr")
        await bob.wire.send(b"hello\r\n")
        assert (await bob.answer())[1].startswith("NO [NOPERM]")
        assert (await bob.append(name, b"hello")).startswith("NO [NOPERM]")
    assert await rows(post, "Drafts", ALICE) == []


async def test_the_quota_is_looked_at_before_the_letter_comes(post: Post) -> None:
    async with await Imap.open(post, "small@bob.test") as small:
        told, answer = await small.tell("APPEND INBOX {1001}")
        assert (told, answer.startswith("NO [OVERQUOTA]")) == ([], True)
        assert appended(await small.append("INBOX", b"x" * 600)) == "1"
        told, answer = await small.tell("APPEND INBOX {401}")
        assert (told, answer.startswith("NO [OVERQUOTA]")) == ([], True)
        assert appended(await small.append("INBOX", b"x" * 400)) == "2"
    await check(post)


async def test_the_quota_is_looked_at_again_in_the_end(post: Post) -> None:
    """Two sessions that each have room for theirs, and not both."""
    async with await Imap.open(post, "small@bob.test") as one, await Imap.open(post, "small@bob.test") as other:
        for session in (one, other):
            await session.say("APPEND INBOX {600}")
            assert (await session.response()).startswith(b"+")
        await one.wire.send(b"x" * 600 + b"\r\n")
        appended((await one.answer())[1])
        await other.wire.send(b"x" * 600 + b"\r\n")
        assert (await other.answer())[1].startswith("NO [OVERQUOTA]")
    await check(post)


# --- MULTIAPPEND ----------------------------------------------------------------------------------


async def test_several_letters_at_once(post: Post) -> None:
    large = b"Subject: large\r\n\r\n" + LARGE * 8_000
    async with await Imap.open(post) as bob:
        answer = await bob.append("Drafts", LETTER, large, b"Subject: two\r\n\r\n", before="(\\Flagged) ")
        assert appended(answer) == "1:3"
    assert (await post.contents())[-3:] == [LETTER, large, b"Subject: two\r\n\r\n"]
    assert [row[:2] for row in await rows(post, "Drafts")] == [(1, 4), (2, 4), (3, 4)]
    await check(post)


async def test_many_letters_do_not_stay_in_memory(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand letters of 200 KB each were held until the last had come."""
    monkeypatch.setattr(appending, "MAX_HELD", 2_000)
    letters = [b"Subject: %d\r\n\r\n%b\r\n" % (number, b"x" * 700) for number in range(5)]
    async with await Imap.open(post) as bob:
        packs = set((post.house.folder / "packs").iterdir())
        assert appended(await bob.append("Drafts", *letters)) == "1:5"
        added = set((post.house.folder / "packs").iterdir()) - packs
    assert len(added) == 3, "two are within what may be held, each of the others has a pack of its own"
    assert (await post.contents())[-5:] == letters
    await check(post)


@pytest.mark.parametrize(
    ("second", "answer"),
    [
        ("(\\Nothing) {5+}\r\nhello", "BAD [CLIENTBUG]"),
        ("{104857601}", "NO [TOOBIG]"),
        ("{0+}\r\n", "NO "),
        ("{8+}\r\nx\0y: z\r\n", "NO [CANNOT]"),
        ("nonsense", "BAD "),
        ("{5+}\r\nhello nonsense", "BAD "),
    ],
)
@pytest.mark.parametrize("size", [100, 300_000])
async def test_one_that_is_refused_takes_the_others_with_it(post: Post, second: str, answer: str, size: int) -> None:
    first = b"Subject: first\r\n\r\n" + b"x" * size
    async with await Imap.open(post) as bob:
        await bob.wire.send(b"m1 APPEND Drafts {%d+}\r\n%b %b\r\n" % (len(first), first, second.encode()))
        assert (await bob.answer("m1"))[1].startswith(answer)
        assert await rows(post, "Drafts") == []
        assert appended(await bob.append("Drafts", LETTER)) == "1"
    await check(post)


async def test_all_or_none_fit_into_the_quota(post: Post) -> None:
    async with await Imap.open(post, "small@bob.test") as small:
        assert (await small.append("INBOX", b"x" * 600, b"x" * 401)).startswith("NO [OVERQUOTA]")
        assert await rows(post, "INBOX", "small@bob.test") == []
        assert appended(await small.append("INBOX", b"x" * 600, b"x" * 400)) == "1:2"
    await check(post)


@pytest.mark.parametrize("size", [100, 600_000])
@pytest.mark.parametrize("is_second", [False, True])
async def test_who_goes_in_between_leaves_nothing(post: Post, size: int, is_second: bool) -> None:
    async with await Imap.open(post) as bob:
        begun = b"APPEND Drafts {%d+}\r\n%b" % (size, b"x" * (size if is_second else size - 1))
        await bob.wire.send(b"x " + begun + (b" {10+}\r\nhalf" if is_second else b""))
    await post.is_quiet()
    assert await rows(post, "Drafts") == []
    await check(post)


async def test_a_broken_disk_is_said_at_the_end(post: Post) -> None:
    """The chunks that follow the one that failed have no answer of their own."""
    async with await Imap.open(post) as bob:
        post.disk.fail["write"] = errno.EIO
        answer = await bob.append("Drafts", b"Subject: x\r\n\r\n" + b"x" * 1_000_000)
        assert answer.startswith("NO [UNAVAILABLE]")
        post.disk.fail.clear()
        assert appended(await bob.append("Drafts", LETTER)) == "1"
    await check(post)


# --- who is told ----------------------------------------------------------------------------------


async def test_the_mailbox_that_is_selected_has_grown_before_the_answer(post: Post) -> None:
    async with await Imap.open(post, mailbox="Drafts") as bob, await Imap.open(post, mailbox="Drafts") as other:
        tag = await other.idle()
        told, answer = await bob.append_all("Drafts", LETTER, LETTER)
        assert (told, appended(answer)) == ([b"* 2 EXISTS", b"* 2 RECENT"], "1:2")
        assert await other.response() == b"* 2 EXISTS"
        await other.done(tag)
        told, answer = await bob.append_all("Sent", LETTER)
        assert (told, appended(answer)) == ([], "1")


# --- the mailboxes of others ----------------------------------------------------------------------


async def test_flags_are_those_that_the_person_may_set(post: Post) -> None:
    """RFC 4314 §4; the owner has an own \\Seen."""
    name = await share(post, "Drafts", "lri")
    everything = "(\\Seen \\Deleted \\Flagged \\Draft work) "
    async with await Imap.open(post) as bob:
        for number, given in enumerate(("lri", "lris", "lrit", "lriw", "lriswt"), 1):
            await share(post, "Drafts", given)
            assert appended(await bob.append(name, LETTER, before=everything)) == str(number)
        told = b"".join((await bob.tell(f"SELECT {name}"))[0])
        assert b"* 5 EXISTS" in told
    assert [row[:3] for row in await rows(post, "Drafts", ALICE)] == [
        (1, 0, ""),
        (2, 0, ""),
        (3, 8, ""),
        (4, 20, "work"),
        (5, 28, "work"),
    ]
    bob_account = await post.house.directory.account(BOB)
    assert bob_account is not None
    seen = await post.house.database.read(
        lambda reader: reader.rows("SELECT uid FROM visitor_seen WHERE person = :bob ORDER BY uid", bob=bob_account.id)
    )
    assert seen == [(2,), (5,)]
    await check(post)


async def test_who_may_not_insert_is_told_so(post: Post) -> None:
    name = await share(post, "Drafts", "lrswte")
    async with await Imap.open(post) as bob:
        told, answer = await bob.tell(f"APPEND {name} {{310}}")
        assert (told, answer.startswith("NO [NOPERM]")) == ([], True)


async def test_who_may_insert_and_not_read_is_told_no_uid(post: Post) -> None:
    """RFC 9051 §6.3.12."""
    name = await share(post, "Drafts", "li")
    async with await Imap.open(post) as bob:
        assert await bob.append(name, LETTER) == "OK Stored"
    assert len(await rows(post, "Drafts", ALICE)) == 1


# --- REPLACE --------------------------------------------------------------------------------------


async def test_a_draft_is_replaced(post: Post) -> None:
    """RFC 8508 §3, §4.3: APPENDUID comes before what has gone is told."""
    async with await Imap.open(post) as bob:
        await bob.append("Drafts", LETTER, b"Subject: other\r\n\r\n")
        await bob.ask("SELECT Drafts")
        told, answer = await bob.append_all("Drafts", LETTER + b"More.\r\n", before="(\\Draft) ", verb="REPLACE 1")
        assert told[0].startswith(b"* OK [APPENDUID ")
        assert told[1:] == [b"* 1 EXPUNGE", b"* 2 EXISTS", b"* 2 RECENT"]
        assert answer.startswith("OK")
        told, answer = await bob.append_all("Drafts", LETTER, verb="UID REPLACE 3")
        assert told[1:] == [b"* 2 EXPUNGE", b"* 2 EXISTS", b"* 2 RECENT"]
    assert [row[0] for row in await rows(post, "Drafts")] == [2, 4]
    await check(post)


async def test_a_draft_becomes_a_sent_letter(post: Post) -> None:
    async with await Imap.open(post, enable="QRESYNC") as bob:
        await bob.append("Drafts", LETTER, LETTER)
        await bob.ask("SELECT Drafts")
        told, answer = await bob.append_all("Sent", LETTER, before="(\\Seen) ", verb="UID REPLACE 2")
        assert told[0].startswith(b"* OK [APPENDUID ")
        assert told[1:] == [b"* VANISHED 2"]
        assert answer.startswith("OK [HIGHESTMODSEQ ")
    assert [row[0] for row in await rows(post, "Drafts")] == [1]
    assert [row[:2] for row in await rows(post, "Sent")] == [(1, 1)]
    await check(post)


async def test_what_cannot_be_replaced_stays(post: Post) -> None:
    async with await Imap.open(post) as bob:
        await bob.append("Drafts", LETTER)
        await bob.ask("EXAMINE Drafts")
        assert (await bob.ask("REPLACE 1 Drafts {310}")).startswith("NO [READ-ONLY]")
        await bob.ask("SELECT Drafts")
        assert (await bob.ask("REPLACE 2 Drafts {310}")).startswith("BAD [CLIENTBUG]")
        assert (await bob.ask("UID REPLACE 2 Drafts {310}")).startswith("NO [NONEXISTENT]")
        assert (await bob.ask("UID REPLACE 1 Nowhere {310}")).startswith("NO [TRYCREATE]")
        assert (await bob.append("Drafts", LETTER, LETTER, verb="REPLACE 1")).startswith("BAD ")
        assert (await bob.append("Drafts", b"x\0y", verb="REPLACE 1")).startswith("NO [CANNOT]")
    assert [row[0] for row in await rows(post, "Drafts")] == [1]
    await check(post)


async def test_a_letter_that_went_meanwhile_is_not_replaced(post: Post) -> None:
    async with await Imap.open(post) as bob, await Imap.open(post) as other:
        await bob.append("Drafts", LETTER, before="(\\Deleted) ")
        await bob.ask("SELECT Drafts")
        await bob.say("REPLACE 1 Drafts {5}")
        assert (await bob.response()).startswith(b"+")
        await other.ask("SELECT Drafts")
        await other.ask("CLOSE")  # expunges
        await bob.wire.send(b"hello\r\n")
        assert (await bob.answer())[1].startswith("NO [EXPUNGEISSUED]")
    assert await rows(post, "Drafts") == []
    await check(post)


async def test_a_draft_in_a_full_account_is_replaced(post: Post) -> None:
    """RFC 8508 §3.4: what goes makes room for what comes."""
    async with await Imap.open(post, "small@bob.test", mailbox="Drafts") as small:
        await small.append("Drafts", b"x" * 900)
        assert (await small.append("Drafts", b"x" * 1000, verb="REPLACE 1")).startswith("OK")
        told, answer = await small.tell("REPLACE 1 Drafts {1001}")
        assert (told, answer.startswith("NO [OVERQUOTA]")) == ([], True)
    await check(post)


async def test_the_rights_of_replacing(post: Post) -> None:
    """RFC 8508 §4.1: t and e where it goes, i where it comes."""
    name = await share(post, "Drafts", "lrswite")
    async with await Imap.open(post) as bob:
        await bob.append(name, LETTER)
        await bob.ask(f"SELECT {name}")
        assert (await bob.append("Drafts", LETTER, verb="REPLACE 1")).startswith("OK")
        assert [row[0] for row in await rows(post, "Drafts")] == [1]
        assert await rows(post, "Drafts", ALICE) == []
        await share(post, "Drafts", "lrswit")
        await bob.append(name, LETTER)
        await bob.ask(f"SELECT {name}")
        assert (await bob.ask("REPLACE 1 Drafts {310}")).startswith("NO [NOPERM]")
    await check(post)


# --- many at once ---------------------------------------------------------------------------------


async def test_sessions_share_a_commit(post: Post) -> None:
    sessions = [await Imap.open(post) for _ in range(8)]
    answers = await asyncio.gather(*(session.append("Drafts", LETTER) for session in sessions for _ in range(1)))
    assert sorted(int(appended(answer)) for answer in answers) == list(range(1, 9))
    for session in sessions:
        await session.wire.hang_up()
    await check(post)
