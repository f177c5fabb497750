# SPDX-License-Identifier: Apache-2.0
"""What users send through the whole server: completed, signed, private fields taken out, under their own names only."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from posthouse.mail.header import scan_header
from posthouse.mailauth.dkim_verify import DkimResult, verify
from posthouse.services.incoming import SPOOL_ABOVE
from tests.system.post import Post

ME = "alice@alice.test"
BODY = b"Hello Bob,  \r\n\r\n\t.. and goodbye.\r\n\r\n\r\n"
BARE = (
    b"From: Alice <alice@alice.test>\r\nTo: bob@bob.test\r\n"
    b"Bcc: carol@bob.test,\r\n secret@bob.test\r\nSubject: hi\r\n\r\n"
)


async def send(post: Post, letter: bytes, *recipients: str, name: str = ME) -> str:
    async with await post.submission(name) as wire:
        return await wire.letter(name, list(recipients or ["bob@bob.test"]), letter)


def without_trace(letter: bytes) -> bytes:
    """From the first field behind Received on."""
    scan = scan_header(letter)
    last = max(field.end for field in scan.fields if field.name.lower() == b"received")
    return letter[last:]


async def test_what_is_missing_is_added_and_bcc_removed(post: Post) -> None:
    """RFC 6409 §8, RFC 5322 §3.6.3. Everything else stays as it was, to the octet."""
    assert (await send(post, BARE + BODY)).startswith("250")
    (letter,) = await post.letters("bob@bob.test")
    rest = without_trace(letter)
    found = re.fullmatch(
        rb"Message-ID: <[0-9a-f]{32}@mail\.example\.test>\r\nDate: [A-Z][a-z]{2}, .* \+0000\r\n(.*)", rest, re.DOTALL
    )
    assert found, rest
    assert found[1] == b"From: Alice <alice@alice.test>\r\nTo: bob@bob.test\r\nSubject: hi\r\n\r\n" + BODY
    assert b"secret" not in letter


async def test_what_is_there_is_kept(post: Post) -> None:
    letter = b"Date: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <a@b.test>\r\nFrom: alice@alice.test\r\n\r\n" + BODY
    assert (await send(post, letter)).startswith("250")
    assert without_trace((await post.letters("bob@bob.test"))[0]) == letter


async def test_several_authors_need_a_sender_and_get_one(post: Post) -> None:
    """RFC 5322 §3.6.2. All of them are shown as authors, so all have to be the user's own."""
    letter = b"From: alice@alice.test, alice+x@alice.test\r\n\r\nx\r\n"
    assert (await send(post, letter)).startswith("250")
    assert b"Sender: <alice@alice.test>\r\n" in (await post.letters("bob@bob.test"))[0]
    together = b"From: bob@bob.test, alice@alice.test\r\nSender: alice@alice.test\r\n\r\nx\r\n"
    assert (await send(post, together)).startswith("550 5.7.1")
    stolen = b"From: bob@bob.test\r\nSender: alice@alice.test\r\n\r\nx\r\n"
    assert (await send(post, stolen)).startswith("550 5.7.1")


@pytest.mark.parametrize(
    "body",
    [BODY, b"", b"\r\n\r\n", b".\r\n..\r\n", b"0123456789abcdef\r\n" * (2 * SPOOL_ABOVE // 18), "größe\r\n".encode()],
    ids=["plain", "empty", "blank", "dots", "large", "8bit"],
)
async def test_signatures_of_both_keys_verify(post: Post, body: bytes) -> None:
    assert (await send(post, BARE + body)).startswith("250")
    (letter,) = await post.letters("bob@bob.test")
    records = {name.rstrip("."): value.encode() for name, value in await post.house.domain_keys.records("alice.test")}
    scan = scan_header(letter)
    results = verify(letter[: scan.header_size], letter[scan.header_size :], records.get)
    assert [(each.result, each.domain, each.reason) for each in results] == [(DkimResult.PASS, "alice.test", "")] * 2
    assert {each.algorithm for each in results} == {"rsa-sha256", "ed25519-sha256"}
    changed = verify(letter[: scan.header_size], letter[scan.header_size :] + b"x\r\n", records.get)
    assert all(each.result is not DkimResult.PASS for each in changed)


async def test_what_goes_to_other_servers_is_signed_the_same(post: Post) -> None:
    assert (await send(post, BARE + BODY, "bob@bob.test", "x@elsewhere.test")).startswith("250")
    (letter,) = await post.letters("bob@bob.test")
    rows = await post.house.database.read(lambda reader: reader.rows("SELECT prefix FROM queue_letter"))
    assert rows[0][0].startswith(b"DKIM-Signature:")
    assert rows[0][0] in letter
    assert [to for to, _, _ in await post.queued()] == ["x@elsewhere.test"]


async def test_received_says_that_the_sender_is_known_but_not_who(post: Post) -> None:
    assert (await send(post, BARE + BODY)).startswith("250")
    letter = (await post.letters("bob@bob.test"))[0]
    (received,) = scan_header(letter).all(b"received")
    assert re.search(rb"with ESMTPSA\s+\(TLSv1\.3 TLS_", received)
    assert b"alice" not in received


async def test_an_alias_that_reaches_the_user_may_be_written_as(opener: Callable[..., Any]) -> None:
    for allowed, reply in ((True, "250"), (False, "550 5.7.1")):
        post = await opener(f"data-{allowed}", submission={"alias_may_send": allowed})
        async with await post.submission("bob@bob.test") as wire:
            letter = b"From: sales@bob.test\r\n\r\nx\r\n"
            assert (await wire.letter("sales@bob.test", ["carol@bob.test"], letter)).startswith(reply)


async def test_an_account_that_is_disabled_while_logged_in_sends_no_more(post: Post) -> None:
    async with await post.submission("carol@bob.test") as wire:
        letter = b"From: carol@bob.test\r\n\r\nx\r\n"
        assert (await wire.letter("carol@bob.test", ["bob@bob.test"], letter)).startswith("250")
        await post.house.administration.disable("carol@bob.test")
        assert (await wire.say("MAIL FROM:<carol@bob.test>")).startswith("550 5.2.1")
        await post.house.administration.enable("carol@bob.test")
        assert (await wire.say("MAIL FROM:<carol@bob.test>")).startswith("250")
        await post.house.administration.remove_account("carol@bob.test")
        assert (await wire.say("RSET", "MAIL FROM:<carol@bob.test>")).startswith("550 5.2.1")


async def test_refusals_are_ascii_for_a_user_with_another_script(post: Post) -> None:
    """RFC 5321 §4.2: reply text is ASCII unless the client asked for more."""
    async with await post.submission("böb@bob.test") as wire:
        refused = await wire.say("MAIL FROM:<alice@alice.test>")
        assert refused.startswith("550 5.7.1")
        assert refused.isascii()


async def test_tls_forgets_who_logged_in_before_it(opener: Callable[..., Any]) -> None:
    """RFC 3207 §4.2."""
    post = await opener(auth={"plaintext": ["submission"]})
    async with await post.connect("submission") as wire:
        await wire.hello()
        assert (await wire.log_in(ME)).startswith("235")
        assert (await wire.say("STARTTLS")).startswith("220")
        await wire.start_tls()
        assert (await wire.say("EHLO client.example.test")).startswith("250")
        assert (await wire.say(f"MAIL FROM:<{ME}>")).startswith("530 5.7.0")
        assert (await wire.log_in(ME)).startswith("235")
        assert (await wire.letter(ME, ["bob@bob.test"], BARE + BODY)).startswith("250")


async def test_success_is_reported_in_the_language_of_the_account(post: Post) -> None:
    await post.house.administration.set_language(ME, "zh")
    async with await post.submission() as wire:
        await wire.say_all(f"MAIL FROM:<{ME}>", "RCPT TO:<bob@bob.test> NOTIFY=SUCCESS", "DATA")
        await wire.send(BARE + BODY + b".\r\n")
        assert (await wire.reply()).startswith("250")
    (report,) = await post.letters(ME)
    assert b"Action: delivered" in report
    assert b"Content-Language: zh" in report


@pytest.mark.parametrize("where", ["pop3", "pop3s", "submission", "submissions"])
async def test_a_disabled_account_cannot_log_in(opener: Callable[..., Any], where: str) -> None:
    post = await opener(auth={"plaintext": ["pop3", "submission"]})
    async with await post.connect(where) as wire:
        if where.startswith("pop3"):
            assert (await wire.maildrop("gone@bob.test")).startswith("-ERR [SYS/PERM]")
        else:
            await wire.hello()
            assert (await wire.log_in("gone@bob.test")).startswith("550 5.2.1")
            assert (await wire.say("MAIL FROM:<gone@bob.test>")).startswith("530")
