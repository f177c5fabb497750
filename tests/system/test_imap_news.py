# SPDX-License-Identifier: Apache-2.0
"""A session in IDLE hears of every way in which a letter enters, changes or leaves its mailbox."""

from __future__ import annotations

from posthouse.mail.envelope import Notify
from posthouse.office import office_of, store_check_of
from posthouse.services.letterbox import Letterbox, NewLetter
from posthouse.store.queue_admin import Selection
from tests.system.imap import BOB, Imap
from tests.system.post import Post
from tests.system.test_waiting import hold

ALICE = "alice@alice.test"
LETTER = b"From: alice@alice.test\r\nTo: bob@bob.test\r\nSubject: news\r\n\r\nHello.\r\n"


def letterbox_of(post: Post) -> Letterbox:
    return office_of(post.house, lambda: None, is_serving=True).letterbox


class Listener:
    """Somebody who waits for news of the INBOX, as clients do all day."""

    def __init__(self, session: Imap, tag: str) -> None:
        self.session = session
        self._tag = tag

    @classmethod
    async def of(cls, post: Post, name: str) -> Listener:
        session = await Imap.open(post, name, mailbox="INBOX")
        return cls(session, await session.idle())

    async def hears(self, *expected: str) -> None:
        """These responses and no others, without a word of the client."""
        for each in expected:
            assert (await self.session.response()).decode() == each
        assert await self.session.done(self._tag) == []
        await self.session.wire.hang_up()


async def test_of_a_letter_from_elsewhere(post: Post) -> None:
    bob = await Listener.of(post, BOB)
    async with await post.smtp() as stranger:
        assert (await stranger.letter("x@elsewhere.test", [BOB], LETTER)).startswith("250")
    await bob.hears("* 1 EXISTS", "* 1 RECENT")


async def test_of_a_letter_by_lmtp_and_of_one_by_submission(post: Post) -> None:
    bob, carol = await Listener.of(post, BOB), await Listener.of(post, "carol@bob.test")
    async with await post.submission() as alice:
        assert (await alice.letter(ALICE, ["sales@bob.test"], LETTER)).startswith("250")
    await bob.hears("* 1 EXISTS", "* 1 RECENT")
    await carol.hears("* 1 EXISTS", "* 1 RECENT")


async def test_of_the_report_about_a_letter_that_was_delivered_at_once(post: Post) -> None:
    """Only the relay was told of it: a session of the sender saw it at the next change in the mailbox."""
    alice = await Listener.of(post, ALICE)
    async with await post.submission() as sender:
        assert (await sender.say(f"MAIL FROM:<{ALICE}>")).startswith("250")
        assert (await sender.say(f"RCPT TO:<{BOB}> NOTIFY=SUCCESS")).startswith("250")
        assert (await sender.say("DATA")).startswith("354")
        await sender.send(LETTER + b".\r\n")
        assert (await sender.reply()).startswith("250")
    await alice.hears("* 1 EXISTS", "* 1 RECENT")


async def test_of_the_report_about_a_letter_that_failed_in_the_queue(post: Post) -> None:
    """As above: the report was posted in the unit that ended the recipient, and nobody told of it."""
    async with await post.submission() as sender:
        assert (await sender.letter(ALICE, ["x@elsewhere.test"], LETTER)).startswith("250")
    await post.house.queue_desk.hold(Selection())
    alice = await Listener.of(post, ALICE)
    await post.house.queue_desk.drop(Selection(), tell_sender=True)
    await alice.hears("* 1 EXISTS", "* 1 RECENT")


async def test_of_a_letter_that_waited_in_the_queue(post: Post) -> None:
    """As above: the queue's letters for people here came in silence."""
    await hold(post, BOB, notify=Notify.SUCCESS)
    bob, alice = await Listener.of(post, BOB), await Listener.of(post, ALICE)
    await post.house.queue_desk.release(Selection())
    await bob.hears("* 1 EXISTS", "* 1 RECENT")
    await alice.hears("* 1 EXISTS", "* 1 RECENT")


async def test_of_letters_that_the_administrator_puts_in(post: Post) -> None:
    bob = await Listener.of(post, BOB)
    letterbox = letterbox_of(post)
    await letterbox.add(BOB, NewLetter(LETTER))
    assert await bob.session.response() == b"* 1 EXISTS"
    assert await bob.session.response() == b"* 1 RECENT"
    assert await letterbox.add_all(BOB, [NewLetter(LETTER), NewLetter(LETTER, "Archive"), NewLetter(LETTER)]) == [
        2,
        1,
        3,
    ]
    await bob.hears("* 3 EXISTS", "* 3 RECENT")


async def test_of_letters_that_pop3_takes_away(post: Post) -> None:
    letterbox = letterbox_of(post)
    await letterbox.add_all(BOB, [NewLetter(LETTER)] * 3)
    bob = await Listener.of(post, BOB)
    async with await post.connect("pop3s") as wire:
        assert (await wire.maildrop(BOB)).startswith("+OK")
        for number in (1, 3):
            assert (await wire.ask(f"DELE {number}")).startswith("+OK")
        assert (await wire.ask("QUIT")).startswith("+OK")
    await bob.hears("* 3 EXPUNGE", "* 1 EXPUNGE")


async def test_of_letters_that_another_session_puts_in_and_takes_away(post: Post) -> None:
    bob = await Listener.of(post, BOB)
    async with await Imap.open(post, mailbox="INBOX") as other:
        await other.append("INBOX", LETTER, LETTER, before="(\\Deleted) ")
        assert await bob.session.response() == b"* 2 EXISTS"
        assert await bob.session.response() == b"* 2 RECENT"
        await other.append("INBOX", LETTER, verb="REPLACE 1")
        for expected in ("* 1 EXPUNGE", "* 2 EXISTS", "* 2 RECENT"):
            assert (await bob.session.response()).decode() == expected
        await other.ask("CLOSE")
    await bob.hears("* 1 EXPUNGE")


async def test_of_what_a_repair_takes_away_and_brings_back(post: Post) -> None:
    """What was mended row by row was told to nobody."""
    letterbox = letterbox_of(post)
    await letterbox.add_all(BOB, [NewLetter(LETTER)] * 2)
    await letterbox.add(ALICE, NewLetter(LETTER))
    bob = await Listener.of(post, BOB)
    await post.house.database.write(
        lambda tx: tx.run("UPDATE placement SET email = (SELECT MAX(id) FROM email) WHERE uid = 2")
    )
    found = await store_check_of(post.house).run(repair=True)
    assert any("shows somebody else's letter" in each.text for each in found), found
    await bob.hears("* 2 EXPUNGE", "* 2 EXISTS", "* 2 RECENT")
