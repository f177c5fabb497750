# SPDX-License-Identifier: Apache-2.0
"""Letters from other servers through the whole server: who gets them, with which trace fields, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from posthouse.ports import StoreFault
from posthouse.services.incoming import SPOOL_ABOVE
from tests.system.post import Post

LETTER = b"From: someone@example.test\r\nSubject: hello\r\n\r\nHow are you?\r\n"
SENDER = "someone@example.test"


async def send(post: Post, *recipients: str, content: bytes = LETTER, sender: str = SENDER) -> str:
    async with await post.smtp() as wire:
        return await wire.letter(sender, list(recipients), content)


async def test_trace_fields_stand_above_the_letter_as_it_came(post: Post) -> None:
    """RFC 5321 §4.4: Return-Path first, then Delivered-To, then Received; no octet of the letter is changed."""
    reply = await send(post, "bob+lists@bob.test")
    trace = re.fullmatch(r"250 2\.0\.0 Accepted, trace (\S+)", reply)
    assert trace
    (letter,) = await post.letters("bob@bob.test")
    assert letter.endswith(LETTER)
    head = letter.removesuffix(LETTER).decode()
    assert re.fullmatch(
        r"Return-Path: <someone@example\.test>\r\n"
        r"Delivered-To: bob\+lists@bob\.test\r\n"
        r"Received: from client\.example\.test \(\[127\.0\.0\.1\]\)\r\n"
        r"\tby mail\.example\.test \(posthouse\) with ESMTP\r\n"
        rf"\tid {trace[1]} for <bob\+lists@bob\.test>;\r\n"
        r"\t[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d \+0000\r\n",
        head,
    ), head


async def test_the_null_reverse_path_is_an_empty_return_path(post: Post) -> None:
    assert (await send(post, "bob@bob.test", sender="")).startswith("250")
    assert (await post.letters("bob@bob.test"))[0].startswith(b"Return-Path: <>\r\n")


@pytest.mark.parametrize(
    ("content", "gap"),
    [
        (b"just a body\r\n", b"\r\n"),
        (b"two words: not a field\r\n\r\nmore\r\n", b"\r\n"),
        (b"\r\nan empty header\r\n", b""),
        (b"Subject: x\r\nno empty line\r\n", b""),
    ],
)
async def test_a_letter_without_header_does_not_become_one_with_our_trace(
    post: Post, content: bytes, gap: bytes
) -> None:
    """What came as a body stays one: an empty line parts it from the fields that are put before it."""
    assert (await send(post, "bob@bob.test", content=content)).startswith("250")
    (letter,) = await post.letters("bob@bob.test")
    assert letter.endswith(b" +0000\r\n" + gap + content)
    assert letter.partition(b"\r\n\r\n")[0].startswith(b"Return-Path:")


async def test_received_names_no_one_of_several_recipients(post: Post) -> None:
    assert (await send(post, "bob@bob.test", "carol@bob.test")).startswith("250")
    (bobs,), (carols,) = await post.letters("bob@bob.test"), await post.letters("carol@bob.test")
    assert b"Delivered-To: bob@bob.test\r\n" in bobs
    assert b"carol" not in bobs
    assert b"bob@" not in carols.replace(b"@bob.test", b"")
    assert b" for <" not in bobs


async def test_tls_is_told_in_received(post: Post) -> None:
    async with await post.smtp() as wire:
        assert (await wire.say("STARTTLS")).startswith("220")
        await wire.start_tls()
        assert "STARTTLS" not in await wire.say("EHLO client.example.test")
        assert (await wire.letter(SENDER, ["bob@bob.test"], LETTER)).startswith("250")
    (letter,) = await post.letters("bob@bob.test")
    assert b"with ESMTPS (TLSv1.3 TLS_" in letter


@pytest.mark.parametrize(
    ("recipient", "readers"),
    [
        ("BOB@Bob.TEST", ["bob@bob.test"]),
        ("bob+a+b@bob.test", ["bob@bob.test"]),
        ("bob@twin.test", ["bob@bob.test"]),
        ("bob+x@twin.test", ["bob@bob.test"]),
        ("sales@bob.test", ["bob@bob.test", "carol@bob.test"]),
        ("sales+x@twin.test", ["bob@bob.test", "carol@bob.test"]),
        ("whoever@xn--r8jz45g.test", ["bob@bob.test"]),
        ("postmaster", ["alice@alice.test"]),
        ("postmaster@mail.example.test", ["alice@alice.test"]),
        ("Postmaster@alice.test", ["alice@alice.test"]),
        ("abuse@alice.test", ["alice@alice.test"]),
    ],
)
async def test_where_an_address_leads(post: Post, recipient: str, readers: list[str]) -> None:
    assert (await send(post, recipient)).startswith("250")
    for reader in readers:
        assert len(await post.letters(reader)) == 1, reader
    assert len(await post.contents()) == 2  # what filled full@bob.test, and this one, kept once


async def test_a_letter_that_reaches_a_person_twice_is_one_letter(post: Post) -> None:
    assert (await send(post, "sales@bob.test", "bob@bob.test", "bob+x@bob.test", "bob@twin.test")).startswith("250")
    assert len(await post.letters("bob@bob.test")) == 1
    assert len(await post.letters("carol@bob.test")) == 1


async def test_a_forwarding_address_queues_for_the_other_server_and_is_no_open_relay(post: Post) -> None:
    assert (await send(post, "both@bob.test")).startswith("250")
    assert len(await post.letters("bob@bob.test")) == 1
    assert [(to, hop) for to, hop, _ in await post.queued()] == [("bob@elsewhere.test", "elsewhere.test")]


async def test_a_full_mailbox_behind_an_alias_does_not_stop_the_others(post: Post) -> None:
    await post.house.administration.add_alias("mixed@bob.test", ["full@bob.test", "bob@bob.test"])
    await post.house.administration.add_alias("onward@bob.test", ["full@bob.test", "bob@elsewhere.test"])
    assert (await send(post, "mixed@bob.test")).startswith("250")
    assert (await send(post, "onward@bob.test")).startswith("250")
    assert len(await post.letters("full@bob.test")) == 3


# --- loops --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hops", "reply"), [(100, "250"), (101, "554 5.4.6")])
async def test_too_many_received_fields_are_a_loop(post: Post, hops: int, reply: str) -> None:
    """RFC 5321 §6.3: at least 100 must pass."""
    trail = b"Received: from a.example.test by b.example.test; Thu, 1 Jan 2026 00:00:00 +0000\r\n" * hops
    assert (await send(post, "bob@bob.test", content=trail + LETTER)).startswith(reply)


async def test_a_forwarded_letter_that_comes_back_is_a_loop(post: Post) -> None:
    """An address here that forwards to one elsewhere that forwards here: the second round is refused."""
    assert (await send(post, "away@bob.test")).startswith("250")
    prefix = await post.house.database.read(lambda reader: reader.rows("SELECT prefix FROM queue_letter"))
    on_the_wire = prefix[0][0] + LETTER
    assert on_the_wire.startswith(b"Delivered-To: away@bob.test\r\n")
    before = await post.contents()
    assert (await send(post, "away@bob.test", content=on_the_wire)).startswith("554 5.4.6")
    assert await post.contents() == before
    # it may be read here, and others may get it who have not had it yet
    assert (await send(post, "bob@bob.test", content=on_the_wire)).startswith("250")
    assert (await send(post, "away@bob.test", "bob@bob.test", content=on_the_wire)).startswith("250")


async def test_a_letter_that_somebody_sends_on_by_hand_is_no_loop(post: Post) -> None:
    """A letter taken from a mailbox carries Delivered-To of its reader: sending it to him again is no circle."""
    old = b"Delivered-To: bob@bob.test\r\n" + LETTER
    assert (await send(post, "bob@bob.test", content=old)).startswith("250")


async def test_a_forwarding_address_is_not_told_to_other_recipients(post: Post) -> None:
    await post.house.administration.add_alias("secret@bob.test", ["x@elsewhere.test"])
    assert (await send(post, "away@bob.test", "secret@bob.test")).startswith("250")
    rows = await post.house.database.read(lambda reader: reader.rows("SELECT prefix FROM queue_letter"))
    assert all(b"Delivered-To" not in row[0] for row in rows)


# --- reports of success --------------------------------------------------------------------------------


async def test_the_sender_who_asks_is_told_of_success(post: Post) -> None:
    """RFC 3461 §5.2: a local sender finds the report in the mailbox, one for a remote sender is queued."""
    async with await post.smtp() as wire:
        for sender in ("alice@alice.test", SENDER, ""):
            mail = f"MAIL FROM:<{sender}> ENVID=Q123 RET=HDRS"
            rcpt = "RCPT TO:<bob@bob.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Robert@bob.test"
            assert (await wire.say_all(mail, rcpt, "RCPT TO:<carol@bob.test>", "DATA"))[-1].startswith("354")
            await wire.send(LETTER + b".\r\n")
            assert (await wire.reply()).startswith("250")
    (report,) = await post.letters("alice@alice.test")
    assert report.startswith(b"Return-Path: <>\r\n")
    assert b"Action: delivered" in report
    assert b"Original-Envelope-Id: Q123" in report
    assert b"Original-Recipient: rfc822; Robert@bob.test" in report
    assert b"carol" not in report
    assert [to for to, _, _ in await post.queued()] == [SENDER]
    assert len(await post.letters("bob@bob.test")) == 3


async def test_a_list_tells_expanded_once(post: Post) -> None:
    async with await post.smtp() as wire:
        await wire.say_all("MAIL FROM:<alice@alice.test>", "RCPT TO:<sales@bob.test> NOTIFY=SUCCESS", "DATA")
        await wire.send(LETTER + b".\r\n")
        assert (await wire.reply()).startswith("250")
    (report,) = await post.letters("alice@alice.test")
    assert report.count(b"Action: expanded") == 1


# --- large letters ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunking", [False, True])
async def test_a_large_letter_is_kept_to_the_octet(post: Post, *, chunking: bool) -> None:
    line = b".0123456789abcdef" * 4 + b"\r\n"
    letter = LETTER + line * (3 * SPOOL_ABOVE // len(line))
    async with await post.smtp() as wire:
        if chunking:
            await wire.say_all(f"MAIL FROM:<{SENDER}>", "RCPT TO:<bob@bob.test>")
            for start in range(0, len(letter), 100_001):
                piece = letter[start : start + 100_001]
                last = " LAST" if start + len(piece) == len(letter) else ""
                await wire.send(f"BDAT {len(piece)}{last}\r\n".encode() + piece)
                assert (await wire.reply()).startswith("250")
        else:
            assert (await wire.letter(SENDER, ["bob@bob.test"], letter)).startswith("250")
    async with await post.connect("pop3s") as reader:
        assert (await reader.maildrop("bob@bob.test")).startswith("+OK 1 ")
        assert (await reader.retrieve(1)).endswith(letter)


async def test_a_large_letter_that_is_refused_at_its_end_leaves_no_pack(post: Post) -> None:
    """A loop shows only in the header of the whole letter; its pack of its own must not stay until a restart."""
    packs = post.house.folder / "packs"
    before = sorted(packs.iterdir())
    looping = b"Received: from a by b\r\n" * 101 + LETTER + b"x" * 900 + b"\r\n" + b"0123456789\r\n" * 60_000
    async with await post.smtp() as wire:
        assert (await wire.letter(SENDER, ["bob@bob.test"], looping)).startswith("554 5.4.6")
        assert sorted(packs.iterdir()) == before
        assert (await wire.letter(SENDER, ["bob@bob.test"], LETTER)).startswith("250")


async def test_a_header_beyond_the_bound_is_refused_and_the_session_goes_on(post: Post) -> None:
    async with await post.smtp() as wire:
        huge = b"".join(b"X-%d: %s\r\n" % (number, b"y" * 900) for number in range(400)) + b"\r\n"
        assert (await wire.letter(SENDER, ["bob@bob.test"], huge)).startswith("550 5.6.0")
        assert (await wire.letter(SENDER, ["bob@bob.test"], LETTER)).startswith("250")


async def test_a_header_beyond_the_bound_in_chunks(post: Post) -> None:
    """The chunk that passes the bound is refused; what is left of the letter is thrown away until RSET."""
    async with await post.smtp() as wire:
        await wire.say_all(f"MAIL FROM:<{SENDER}>", "RCPT TO:<bob@bob.test>")
        chunk = b"X-Long: " + b"y" * 900 + b"\r\n"
        replies = []
        for last in (b"", b"", b"", b" LAST"):
            await wire.send(b"BDAT %d%s\r\n" % (len(chunk) * 100, last) + chunk * 100)
            replies.append((await wire.reply())[:9])
        assert replies == ["250 2.0.0", "250 2.0.0", "550 5.6.0", "503 5.5.1"]
        assert (await wire.say("RSET")).startswith("250")
        assert (await wire.letter(SENDER, ["bob@bob.test"], LETTER)).startswith("250")


async def test_an_address_in_another_script_stands_as_it_is_in_the_trace_fields(post: Post) -> None:
    """RFC 6531 §3.7.3, RFC 6532: UTF-8 in Return-Path, Delivered-To and Received of a letter sent with SMTPUTF8."""
    async with await post.smtp() as wire:
        await wire.say_all("MAIL FROM:<ålice@example.test> SMTPUTF8 BODY=8BITMIME", "RCPT TO:<BÖB@bob.test>", "DATA")
        await wire.send("Subject: größe\r\n\r\nx\r\n.\r\n".encode())
        assert (await wire.reply()).startswith("250")
    (letter,) = await post.letters("böb@bob.test")
    assert letter.decode().startswith("Return-Path: <ålice@example.test>\r\nDelivered-To: BÖB@bob.test\r\n")
    assert b"with UTF8SMTP\r\n" in letter
    assert letter.endswith("Subject: größe\r\n\r\nx\r\n".encode())


# --- faults of the store ---------------------------------------------------------------------------------


async def test_a_store_that_fails_at_rcpt_is_451_and_the_session_goes_on(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> Any:
        raise StoreFault("the reader is gone")

    async with await post.smtp() as wire:
        assert (await wire.say(f"MAIL FROM:<{SENDER}>")).startswith("250")
        with monkeypatch.context() as patch:
            patch.setattr(post.house.directory, "resolve", broken)
            assert (await wire.say("RCPT TO:<bob@bob.test>")).startswith("451 4.3.0")
        assert (await wire.say("RCPT TO:<bob@bob.test>")).startswith("250")


@pytest.mark.parametrize(("step", "number"), [("write", 5), ("sync", 5)])
async def test_a_disk_error_at_the_dot_is_451_and_nothing_is_stored(post: Post, step: str, number: int) -> None:
    before = await post.contents()
    post.disk.fail = {step: number}
    async with await post.smtp() as wire:
        assert (await wire.letter(SENDER, ["bob@bob.test", "carol@bob.test"], LETTER)).startswith("451 4.3.0")
        post.disk.fail = {}
        assert await post.contents() == before
        assert await post.letters("bob@bob.test") == []
        assert (await wire.letter(SENDER, ["bob@bob.test"], LETTER)).startswith("250")
    assert len(await post.letters("bob@bob.test")) == 1


async def test_more_recipients_than_allowed_do_not_end_the_session(opener: Callable[..., Any]) -> None:
    """RFC 5321 §4.5.3.1.10: those beyond get 452, the others get the letter, however many are beyond."""
    post = await opener(smtp={"max_recipients": 100, "tarpit_after": 1, "close_after": 2})
    await post.house.administration.set_catch_all("bob.test", "bob@bob.test")
    async with await post.smtp() as wire:
        names = [f"RCPT TO:<person{number}@bob.test>" for number in range(200)]
        replies = await wire.say_all(f"MAIL FROM:<{SENDER}>", *names, "DATA")
        assert [reply[:9] for reply in replies[1:-1]] == ["250 2.1.5"] * 100 + ["452 4.5.3"] * 100
        await wire.send(LETTER + b".\r\n")
        assert (await wire.reply()).startswith("250")


async def test_recipient_1001(post: Post) -> None:
    await post.house.administration.set_catch_all("bob.test", "bob@bob.test")
    async with await post.smtp() as wire:
        names = [f"RCPT TO:<person{number}@bob.test>" for number in range(1001)]
        replies = await wire.say_all(f"MAIL FROM:<{SENDER}>", *names, "DATA")
        assert [reply[:9] for reply in replies[1:-1]] == ["250 2.1.5"] * 1000 + ["452 4.5.3"]
        await wire.send(LETTER + b".\r\n")
        assert (await wire.reply()).startswith("250")
    assert len(await post.letters("bob@bob.test")) == 1
