# SPDX-License-Identifier: Apache-2.0
"""A client that fetches each letter by itself, as mbsync does: what is read ahead for it is never what it is not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest

from posthouse.services.mailbox import ahead
from posthouse.store import reading
from posthouse.store.uidset import EVERY_UID
from tests.system.imap import BOB, Imap
from tests.system.post import Post
from tests.system.test_damage import hurt

COUNT = 12


def letter(uid: int) -> bytes:
    return b"Subject: %d\r\n\r\nletter number %d, and no other\r\n" % (uid, uid)


@pytest.fixture
async def sessions(post: Post) -> AsyncIterator[tuple[Imap, Imap]]:
    """Two of Bob's, in an INBOX of COUNT letters."""
    one = await Imap.open(post, BOB, mailbox="", enable="IMAP4rev2")
    assert (await one.append("INBOX", *map(letter, range(1, COUNT + 1)))).startswith("OK")
    await one.ask("SELECT INBOX")
    other = await Imap.open(post, BOB, mailbox="INBOX", enable="IMAP4rev2")
    yield one, other
    for each in (one, other):
        await each.wire.hang_up()


async def fetched(session: Imap, uid: int, number: int = 0) -> None:
    """The letter is told, whole."""
    responses, answer = await session.tell(f"UID FETCH {uid} (UID BODY.PEEK[])")
    octets = letter(uid)
    assert (responses, answer[:2]) == (
        [b"* %d FETCH (UID %d BODY[] {%d}\r\n%b)" % (number or uid, uid, len(octets), octets)],
        "OK",
    )


@pytest.mark.parametrize("uids", [range(1, COUNT + 1), range(COUNT, 0, -1)], ids=["growing", "falling"])
@pytest.mark.parametrize("window", [2, 5, ahead.LETTERS])
async def test_each_letter_is_told_whole(
    sessions: tuple[Imap, Imap], uids: range, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "LETTERS", window)
    for uid in uids:
        await fetched(sessions[0], uid)
    for uid in uids:
        await fetched(sessions[0], uid)


async def test_a_letter_that_another_session_has_removed_is_not_told(sessions: tuple[Imap, Imap]) -> None:
    one, other = sessions
    for uid in (1, 2, 3):
        await fetched(one, uid)
    await other.ask("UID STORE 4,5 +FLAGS.SILENT (\\Deleted)")
    await other.ask("UID EXPUNGE 4:5")
    responses, answer = await one.tell("FETCH 4 (BODY.PEEK[])")
    assert (responses, answer.split("]")[0]) == ([], "NO [EXPUNGEISSUED")
    responses, answer = await one.tell("UID FETCH 5 (BODY.PEEK[])")
    assert (responses, answer[:2]) == ([b"* 5 EXPUNGE", b"* 4 EXPUNGE"], "OK")
    for uid in range(6, COUNT + 1):
        await fetched(one, uid, uid - 2)


async def test_letters_that_come_meanwhile_are_read_too(sessions: tuple[Imap, Imap]) -> None:
    one, other = sessions
    for uid in range(1, COUNT + 1):
        await fetched(one, uid)
    await other.append("INBOX", letter(COUNT + 1), letter(COUNT + 2))
    assert f"* {COUNT + 2} EXISTS".encode() in (await one.tell("NOOP"))[0]
    await fetched(one, COUNT + 1)
    await fetched(one, COUNT + 2)


async def test_a_hurt_letter_is_told_to_nobody(post: Post, sessions: tuple[Imap, Imap]) -> None:
    one, _ = sessions
    hurt(post, letter(4)[14:])
    for uid in (1, 2, 3):
        await fetched(one, uid)
    responses, answer = await one.tell("UID FETCH 4 (UID BODY.PEEK[])")
    assert (responses, answer.split("]")[0]) == ([], "NO [CONTACTADMIN")
    for uid in range(5, COUNT + 1):
        await fetched(one, uid)


async def test_a_letter_that_is_hurt_on_the_way_is_told_to_nobody(post: Post, sessions: tuple[Imap, Imap]) -> None:
    one, _ = sessions
    for uid in (1, 2, 3):
        await fetched(one, uid)
    hurt(post, letter(5)[14:])
    await fetched(one, 4)
    responses, answer = await one.tell("UID FETCH 5 (UID BODY.PEEK[])")
    assert (responses, answer.split("]")[0]) == ([], "NO [CONTACTADMIN")


async def test_letters_that_compaction_has_moved_on_the_way_are_told(opener: Callable[..., Any]) -> None:
    post: Post = await opener(store={"reserve": 0, "pack_size": "1M"})
    one = await Imap.open(post, BOB, mailbox="", enable="IMAP4rev2")
    letters = {uid: b"Subject: %d\r\n\r\n" % uid + b"%d, again and again\r\n" % uid * 2_000 for uid in range(1, 61)}
    for octets in letters.values():
        await one.append("INBOX", octets)
    await one.ask("SELECT INBOX")
    left = [*range(1, 10), *range(40, 61)]

    async def tell(uid: int) -> None:
        [response], answer = await one.tell(f"UID FETCH {uid} (BODY.PEEK[])")
        assert (response.split(b"\r\n", 1)[1], answer[:2]) == (letters[uid] + b")", "OK")

    async def packs() -> dict[int, int]:
        [(mailbox,)] = await post.house.database.read(
            lambda reader: reader.rows("SELECT mailbox FROM placement GROUP BY mailbox HAVING MAX(uid) = 60")
        )
        rows = await post.house.database.read(partial(reading.places, mailbox=mailbox, uids=EVERY_UID))
        return {row[0]: row[3] for row in rows}

    await one.ask("UID STORE 10:39 +FLAGS.SILENT (\\Deleted)")
    await one.ask("EXPUNGE")
    for uid in (1, 2, 3):
        await tell(uid)
    before = await packs()
    await post.server._housekeeping._compaction.run()
    after = await packs()
    assert any(before[uid] != after[uid] for uid in range(4, 10)), "nothing was moved"
    for uid in left[3:]:
        await tell(uid)
    await one.wire.hang_up()
