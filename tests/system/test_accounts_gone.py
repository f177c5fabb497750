# SPDX-License-Identifier: Apache-2.0
"""Between RCPT and the commit the directory may change: nobody who was promised a letter is left out in silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from posthouse.services.letterbox import Letterbox, NewLetter
from tests.system.post import Post

LETTER = b"From: alice@alice.test\r\nTo: bob@bob.test\r\nSubject: hello\r\n\r\nhello\r\n"
LARGE = LETTER + b"0123456789abcdef\r\n" * 20_000


async def remove_within_the_commit(post: Post, *names: str) -> None:
    """The accounts go when the next letter's unit is about to run: nobody has looked since."""
    database, remove = post.house.database, post.house.administration.remove_account
    write = database.write

    async def late(unit: Callable[[Any], Any]) -> Any:
        database.write = write  # type: ignore[method-assign]
        for name in names:
            await remove(name)
        return await write(unit)

    database.write = late  # type: ignore[method-assign]


async def test_the_only_recipient_goes_and_the_letter_is_refused(post: Post) -> None:
    async with await post.smtp() as wire:
        await wire.say_all("MAIL FROM:<x@elsewhere.test>", "RCPT TO:<bob@bob.test>")
        assert (await wire.say("DATA")).startswith("354")
        await remove_within_the_commit(post, "bob@bob.test")
        await wire.send(LETTER + b".\r\n")
        assert (await wire.reply()).startswith("550 5.1.1")
    assert await post.queued() == []


async def test_one_of_two_goes_and_its_sender_is_told(post: Post) -> None:
    for octets in (LETTER, LARGE):
        async with await post.submission() as wire:
            name = "bob@bob.test" if octets is LETTER else "a@bob.test"
            await wire.say_all("MAIL FROM:<alice@alice.test>", f"RCPT TO:<{name}>", "RCPT TO:<carol@bob.test>")
            assert (await wire.say("DATA")).startswith("354")
            await remove_within_the_commit(post, name)
            await wire.send(octets + b".\r\n")
            assert (await wire.reply()).startswith("250")
            report = (await post.letters("alice@alice.test"))[-1]
            assert f"Final-Recipient: rfc822;{name}".encode() in report.replace(b"rfc822; ", b"rfc822;")
            assert b"Status: 5.1.1" in report
            assert b"carol@bob.test" not in report
    assert len(await post.letters("carol@bob.test")) == 2
    assert len(await post.letters("alice@alice.test")) == 2


async def test_one_of_a_list_goes_and_the_others_have_it(post: Post) -> None:
    """The list was the recipient, and it still leads to somebody."""
    async with await post.smtp() as wire:
        await wire.say_all("MAIL FROM:<alice@alice.test>", "RCPT TO:<sales@bob.test>")
        assert (await wire.say("DATA")).startswith("354")
        await remove_within_the_commit(post, "carol@bob.test")
        await wire.send(LETTER + b".\r\n")
        assert (await wire.reply()).startswith("250")
    assert len(await post.letters("bob@bob.test")) == 1
    assert await post.letters("alice@alice.test") == []


async def test_the_sender_goes_whose_report_of_success_was_due(post: Post) -> None:
    """The letter is delivered all the same; the postmaster has the report."""
    async with await post.smtp() as wire:
        await wire.say_all("MAIL FROM:<a@bob.test>", "RCPT TO:<bob@bob.test> NOTIFY=SUCCESS")
        assert (await wire.say("DATA")).startswith("354")
        await remove_within_the_commit(post, "a@bob.test")
        await wire.send(LETTER + b".\r\n")
        assert (await wire.reply()).startswith("250")
    assert len(await post.letters("bob@bob.test")) == 1
    assert b"Action: delivered" in (await post.letters("alice@alice.test"))[-1]


async def test_a_large_letter_can_be_imported(post: Post) -> None:
    """Its spool is let go of after the unit, not before."""
    house = post.house
    box = Letterbox(house.directory, house.database, house.blobs, house.bus, house.machine.clock, house.machine.entropy)
    await box.add("bob@bob.test", NewLetter(LARGE))
    assert (await post.letters("bob@bob.test"))[-1].endswith(LARGE)


async def test_an_address_that_grows_in_its_ascii_form_is_refused_at_once(post: Post) -> None:
    """Accepted, it could not be read back from the queue: no letter for that next hop would go any more."""
    name = "x" * 50 + "@" + ".".join(["é"] * 31)
    async with await post.submission() as wire:
        assert (await wire.say("MAIL FROM:<alice@alice.test> SMTPUTF8")).startswith("250")
        assert (await wire.say(f"RCPT TO:<{name}>")).startswith("5")
    async with await post.smtp() as wire:
        assert (await wire.say(f"MAIL FROM:<{name}> SMTPUTF8")).startswith("5")
