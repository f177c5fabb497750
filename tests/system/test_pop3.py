# SPDX-License-Identifier: Apache-2.0
"""POP3 with the whole server: logins of every kind, the lock, deletion at QUIT, capabilities, large maildrops."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posthouse.mail.address import parse_address
from posthouse.mail.envelope import ForwardPath, ReversePath
from posthouse.net.connection import READ_BOUND, WRITE_SLICE
from posthouse.ports import Peer, StoreFault, Transaction
from posthouse.protocol.sasl import client_exchange
from posthouse.services import maildrop
from posthouse.services.transaction import Client
from tests.system.post import Post, open_post
from tests.system.wire import Wire

ON_BOTH_LOOPS = True

BOB = "bob@bob.test"
MECHANISMS = ("PLAIN", "LOGIN", "SCRAM-SHA-256")


async def fill(post: Post, *contents: bytes, name: str = BOB) -> None:
    """Letters for somebody, as another program on this machine would hand them over."""
    for content in contents:
        letter = await post.house.lmtp.begin(Client(Peer("unix", 0, "unix", 0, "t")), ReversePath(None))
        await letter.add_recipient(ForwardPath(parse_address(name)))
        await letter.begin_content()
        await letter.add_content(content)
        await letter.finish()


def letter(subject: str, body: str = "Hello.\r\n") -> bytes:
    return f"Subject: {subject}\r\n\r\n{body}".encode()


async def opened(post: Post, name: str = BOB, service: str = "pop3s") -> Wire:
    wire = await post.connect(service)
    assert (await wire.maildrop(name)).startswith("+OK")
    return wire


async def until(check: Callable[[], bool]) -> None:
    while not check():  # noqa: ASYNC110 - a state of the server's that nobody announces
        await asyncio.sleep(0)


async def count(wire: Wire) -> int:
    return int((await wire.ask("STAT")).split()[1])


async def capabilities(wire: Wire) -> set[str]:
    return {line.decode() for line in await wire.listing("CAPA")}


# --- login ----------------------------------------------------------------------------------------


async def authenticate(wire: Wire, mechanism: str, name: str, password: str, *, has_initial: bool = True) -> str:
    """Play the client's side of an exchange; the server's last word."""
    exchange = client_exchange([mechanism], name, password, "client-nonce", is_protected=True)
    assert exchange is not None
    initial = exchange.initial()
    encoded = "" if initial is None else base64.b64encode(initial).decode()
    if encoded and has_initial:
        answer = await wire.ask(f"AUTH {mechanism} {encoded}")
    else:
        answer = await wire.ask(f"AUTH {mechanism}")
        if encoded:
            assert answer == "+ "
            answer = await wire.ask(encoded)
    while answer.startswith("+ "):
        answer = await wire.ask(base64.b64encode(exchange.respond(base64.b64decode(answer[2:]))).decode())
    assert exchange.is_complete or not answer.startswith("+OK")
    return answer


@pytest.mark.parametrize("has_initial", [True, False])
@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_every_mechanism_opens_the_maildrop(post: Post, mechanism: str, has_initial: bool) -> None:
    """RFC 5034 §4, with and without the initial response."""
    await fill(post, letter("one"))
    async with await post.connect("pop3s") as wire:
        await wire.line()
        (offered,) = [line for line in await capabilities(wire) if line.startswith("SASL ")]
        assert mechanism in offered.split()
        answer = await authenticate(wire, mechanism, BOB, "secret", has_initial=has_initial)
        assert answer.startswith("+OK 1 "), answer
        assert await count(wire) == 1


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_a_wrong_password_may_be_followed_by_the_right_one(post: Post, mechanism: str) -> None:
    """RFC 3206 §4: AUTH is the credentials' fault; the session stays in AUTHORIZATION."""
    async with await post.connect("pop3s") as wire:
        await wire.line()
        for name in (BOB, "nobody@bob.test"):
            assert (await authenticate(wire, mechanism, name, "wrong")).startswith("-ERR [AUTH] ")
        assert (await wire.ask("STAT")).startswith("-ERR")
        assert (await authenticate(wire, mechanism, BOB, "secret")).startswith("+OK")


async def test_names_that_do_not_exist_are_not_told(post: Post) -> None:
    async with await post.connect("pop3s") as wire:
        known = await wire.maildrop(BOB, "wrong")
        await wire.ask("USER nobody@bob.test")
        assert await wire.ask("PASS wrong") == known == "-ERR [AUTH] Authentication failed"


async def test_an_app_password_is_good_for_its_scopes_alone(post: Post) -> None:
    admin = post.house.administration
    reader = await admin.add_app_password(BOB, "phone", ["pop3"])
    sender = await admin.add_app_password(BOB, "scanner", ["smtp"])
    async with await post.connect("pop3s") as wire:
        assert (await wire.maildrop(BOB, sender.text)).startswith("-ERR [AUTH] ")
        await wire.ask(f"USER {BOB}")
        assert (await wire.ask(f"PASS {reader.text}")).startswith("+OK")
    async with await post.connect("pop3s") as wire:
        await wire.line()
        assert (await authenticate(wire, "PLAIN", BOB, reader.text)).startswith("+OK")


async def test_a_disabled_account_is_told_so_to_who_knows_its_password(post: Post) -> None:
    async with await post.connect("pop3s") as wire:
        assert (await wire.maildrop("gone@bob.test")).startswith("-ERR [SYS/PERM] ")
        await wire.ask("USER gone@bob.test")
        assert (await wire.ask("PASS wrong")).startswith("-ERR [AUTH] ")


async def test_an_account_disabled_later_cannot_come_back(post: Post) -> None:
    """The memory of right passwords does not outlive the account's right to log in."""
    async with await opened(post) as wire:
        await wire.ask("QUIT")
    await post.house.administration.disable(BOB)
    async with await post.connect("pop3s") as wire:
        assert (await wire.maildrop(BOB)).startswith("-ERR [SYS/PERM] ")


async def test_international_names_and_passwords(post: Post) -> None:
    """RFC 6856 §2.2: in UTF-8, before UTF8 was said too."""
    async with await post.connect("pop3s") as wire:
        assert (await wire.maildrop("böb@bob.test")).startswith("+OK")


async def test_the_password_waits_for_tls(post: Post) -> None:
    """CAPA offers what may be said now (RFC 2449 §6, RFC 2595 §4)."""
    async with await post.connect("pop3") as wire:
        await wire.line()
        before = await capabilities(wire)
        assert "STLS" in before
        assert not any(line == "USER" or line.startswith("SASL") for line in before)
        assert (await wire.ask(f"USER {BOB}")).startswith("-ERR [SYS/PERM] ")
        assert (await wire.ask("AUTH PLAIN AGJvYgBzZWNyZXQ=")).startswith("-ERR")
        assert (await wire.ask("STLS")).startswith("+OK")
        await wire.start_tls()
        after = await capabilities(wire)
        assert "STLS" not in after
        assert "USER" in after
        assert {"TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER", "LOGIN-DELAY 0"} <= after
        assert {"UTF8 USER", "LANG"} <= after
        assert "SASL SCRAM-SHA-256 PLAIN LOGIN" in after
        assert any(re.fullmatch(r"IMPLEMENTATION posthouse-\S+", line) for line in after)
        assert (await wire.ask("STLS")).startswith("-ERR")
        await wire.ask(f"USER {BOB}")
        assert (await wire.ask("PASS secret")).startswith("+OK")
        assert "STLS" not in await capabilities(wire)


async def test_what_comes_in_the_clear_behind_stls_is_not_heard(post: Post) -> None:
    """CVE-2011-0411."""
    async with await post.connect("pop3") as wire:
        await wire.line()
        await wire.send(b"STLS\r\nUSER injected@bob.test\r\n")
        assert ((await wire.line()) or b"").startswith(b"+OK")
        await wire.start_tls()
        assert await wire.ask("PASS secret") == "-ERR USER comes before PASS"


# --- a large maildrop -----------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["RETR 3", "TOP 3 0", "LIST 3", "UIDL 3", "DELE 3"])
async def test_a_large_maildrop_is_listed_by_whatever_names_a_letter(
    post: Post, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """STAT and NOOP alone list nothing; the first number does, and what comes in between is not in the session."""
    monkeypatch.setattr(maildrop, "PAGE", 2)
    await fill(post, *(letter(str(number)) for number in range(5)))
    async with await opened(post) as wire:
        assert await count(wire) == 5
        await fill(post, letter("late"))
        assert (await wire.ask("RSET")).startswith("+OK")
        if command[:4] in ("RETR", "TOP "):
            assert b"Subject: 2" in await wire.listing(command)
        else:
            assert (await wire.ask(command)).startswith("+OK")
        assert await count(wire) == (4 if command == "DELE 3" else 5)
    async with await opened(post) as wire:
        assert await count(wire) == 6  # without QUIT nothing went


# --- the lock -------------------------------------------------------------------------------------


async def test_a_maildrop_has_one_reader_at_a_time(post: Post) -> None:
    """RFC 1939 §4 and RFC 2449 §8.1.2; the lock ends with QUIT, with the connection, with a reset."""
    for end in ("quit", "close", "reset"):
        holder = await opened(post)
        async with await post.connect("pop3s") as other:
            assert (await other.maildrop(BOB)).startswith("-ERR [IN-USE] ")
            if end == "quit":
                assert (await holder.ask("QUIT")).startswith("+OK")
                assert await holder.line() is None
                await holder.hang_up()
            elif end == "close":
                await holder.hang_up()
            else:
                holder.reset()
            await until(lambda: not post.house.maildrops._open)
            await other.ask(f"USER {BOB}")
            assert (await other.ask("PASS secret")).startswith("+OK")
        await post.is_quiet()


async def test_a_locked_maildrop_still_takes_letters(post: Post) -> None:
    """RFC 1939 §3: they are not part of the session that is open, and there for the next."""
    await fill(post, letter("one"))
    async with await opened(post) as wire:
        await fill(post, letter("two"))
        assert await count(wire) == 1
        await wire.ask("DELE 1")
        await wire.ask("QUIT")
    async with await opened(post) as wire:
        assert b"Subject: two\r\n" in await wire.retrieve(1)


# --- letters --------------------------------------------------------------------------------------


async def test_lists_sizes_and_numbers_agree(post: Post) -> None:
    """RFC 1939 §5, §11: sizes are in octets as sent, without the stuffed dots."""
    await fill(post, letter("one"), letter("dots", ".\r\n..\r\n.x\r\n"), letter("three"))
    async with await opened(post) as wire:
        sizes = [tuple(map(int, line.split())) for line in await wire.listing("LIST")]
        for number, size in sizes:
            assert len(await wire.retrieve(number)) == size
            assert await wire.ask(f"LIST {number}") == f"+OK {number} {size}"
        assert await wire.ask("STAT") == f"+OK 3 {sum(size for _, size in sizes)}"
        assert (await wire.ask("DELE 2")).startswith("+OK")
        assert await wire.ask("STAT") == f"+OK 2 {sizes[0][1] + sizes[2][1]}"
        assert [line.split()[0] for line in await wire.listing("LIST")] == [b"1", b"3"]
        assert [line.split()[0] for line in await wire.listing("UIDL")] == [b"1", b"3"]
        for command in ("RETR 2", "DELE 2", "TOP 2 0", "LIST 2", "UIDL 2", "RETR 4", "RETR 0"):
            assert (await wire.ask(command)).startswith("-ERR"), command
        assert (await wire.ask("RSET")).startswith("+OK")
        assert await count(wire) == 3


async def test_top_sends_the_header_and_so_many_lines(post: Post) -> None:
    await fill(post, letter("x", ".a\r\n\r\nb\r\n"))
    async with await opened(post) as wire:
        whole = await wire.retrieve(1)
        header = whole[: whole.index(b"\r\n\r\n") + 4]
        for lines, body in enumerate((b"", b".a\r\n", b".a\r\n\r\n", b".a\r\n\r\nb\r\n", b".a\r\n\r\nb\r\n")):
            top = b"".join(line + b"\r\n" for line in await wire.listing(f"TOP 1 {lines}"))
            assert top == header + body
        assert b"".join(line + b"\r\n" for line in await wire.listing("TOP 1 9999999999")) == whole


async def test_letters_go_at_quit_and_only_then(post: Post) -> None:
    """RFC 1939 §6: a session that ends without QUIT removes nothing."""
    await fill(post, letter("one"), letter("two"))
    for end in ("close", "reset"):
        wire = await opened(post)
        assert (await wire.ask("DELE 1")).startswith("+OK")
        if end == "close":
            await wire.hang_up()
        else:
            wire.reset()
        await post.is_quiet()
        assert len(await post.letters(BOB)) == 2
    async with await opened(post) as wire:
        await wire.ask("DELE 1")
        assert len(post.house.maildrops._open) == 1
        assert (await wire.ask("QUIT")).startswith("+OK")
        assert await wire.line() is None
    await post.is_quiet()
    (left,) = await post.letters(BOB)
    assert b"Subject: two\r\n" in left


async def test_a_fault_at_quit_removes_nothing_and_says_so(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 1939 §6."""
    await fill(post, letter("one"))

    async def fails(*_: object, **__: object) -> None:
        raise StoreFault("the disk is gone")

    async with await opened(post) as wire:
        await wire.ask("DELE 1")
        with monkeypatch.context() as patch:
            patch.setattr(post.house.database, "write", fails)
            assert (await wire.ask("QUIT")).startswith("-ERR [SYS/TEMP] ")
    await post.is_quiet()
    assert len(await post.letters(BOB)) == 1


async def test_unique_ids_stay_through_sessions_and_restarts(template: Path, tmp_path: Path) -> None:
    """RFC 1939 §7: as long as the letter is there, and never another letter's."""
    first = await open_post(template, tmp_path / "first")
    await fill(first, letter("one"), letter("two"), letter("three"))
    async with await opened(first) as wire:
        ids = [line.split()[1] for line in await wire.listing("UIDL")]
        assert len(set(ids)) == 3
        assert all(re.fullmatch(rb"[!-~]{1,70}", each) for each in ids)
        await wire.ask("DELE 2")
        await wire.ask("QUIT")
    await first.close()
    again = await open_post(tmp_path / "first", tmp_path / "again")
    await fill(again, letter("four"))
    async with await opened(again) as wire:
        later = [line.split()[1] for line in await wire.listing("UIDL")]
        assert later[:2] == [ids[0], ids[2]]
        assert later[2] not in ids
        assert await wire.ask("UIDL 2") == f"+OK 2 {ids[2].decode()}"
    await again.close()


# --- languages ------------------------------------------------------------------------------------


async def test_languages_of_the_replies(post: Post) -> None:
    """RFC 6856 §3."""
    async with await post.connect("pop3s") as wire:
        await wire.line()
        assert await wire.listing("LANG") == [b"en English"]
        for tag in ("en", "EN-gb", "*"):
            assert (await wire.ask(f"LANG {tag}")).startswith("+OK en ")
        assert (await wire.ask("LANG tlh")).startswith("-ERR")


INTERNATIONAL = (
    "From: Fréd <fréd@exämple.test>\r\nTo: bob@bob.test\r\nSubject: 你好\r\nX-Note: é\r\n"
    "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n一\r\n二\r\n"
).encode()
BODY = ["一".encode(), "二".encode()]


async def test_without_utf8_the_header_is_ascii(post: Post) -> None:
    """RFC 6856 §2.1: no header text outside ASCII unless UTF8 was said; RFC 6858 makes the surrogate."""
    await fill(post, INTERNATIONAL)
    async with await opened(post) as wire:
        await wire.send(b"RETR 1\r\n")
        status = (await wire.line() or b"").decode()
        lines = []
        while (line := await wire.line()) != b".":
            assert line is not None
            lines.append(line)
        assert status == f"+OK {sum(len(line) + 2 for line in lines)} octets"
        border = lines.index(b"")
        header = b"\r\n".join(lines[:border])
        assert header.isascii()
        assert b"Subject: =?utf-8?b?5L2g5aW9?=" in header
        assert b"<invalid@internationalized-address.invalid>" in header
        assert b"To: bob@bob.test" in header
        assert b"X-Note" not in header
        assert lines[border + 1 :] == BODY
        assert await wire.listing("TOP 1 1") == [*lines[: border + 1], BODY[0]]


async def test_with_utf8_the_letter_is_as_it_came(post: Post) -> None:
    await fill(post, INTERNATIONAL)
    async with await post.connect("pop3s") as wire:
        await wire.line()
        assert (await wire.ask("UTF8")).startswith("+OK")
        await wire.ask(f"USER {BOB}")
        assert (await wire.ask("PASS secret")).startswith("+OK")
        whole = await wire.retrieve(1)
        assert whole.endswith(INTERNATIONAL)
        assert await wire.ask("LIST 1") == f"+OK 1 {len(whole)}"


# --- much -----------------------------------------------------------------------------------------


async def test_a_client_that_asks_and_does_not_read_costs_little(opener: Callable[..., Any]) -> None:
    """100,000 RETR in one go and nothing read: what waits for the client is bounded, and so is what waits from it."""
    post = await opener(auth={"plaintext": ["pop3"]})
    await fill(post, letter("long", "0123456789abcde\r\n" * 6000))
    wire = await opened(post, service="pop3")
    wire._writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport can
    wire._writer.write(b"RETR 1\r\n" * 100_000)
    (connection,) = [each for listener in post.server.listeners for each in listener.connections]
    held = 0
    await until(lambda: connection._is_stuck)
    for _ in range(1000):
        await asyncio.sleep(0)
        waiting = connection._transport.get_write_buffer_size() + connection._out_size
        held = max(held, waiting + connection._engine._inbox.unread)
    assert connection._is_stuck
    assert not connection._is_reading
    # One flush on its way, the answer behind it, and what one read may bring past the bound.
    assert held < 2 * WRITE_SLICE + READ_BOUND + 256 * 1024
    wire.reset()
    await post.is_quiet()


async def test_a_line_without_end_closes(post: Post) -> None:
    async with await post.connect("pop3") as wire:
        await wire.send(b"x" * 1_000_000)
        said = await wire.rest()
        assert said.count(b"-ERR") == 1
    await post.is_quiet()


LETTERS = 100_000


@pytest.mark.slow
async def test_a_hundred_thousand_letters_open_without_reading_one(post: Post) -> None:
    """Rows that say where letters lie, and no letters: whoever tried to read one would fail."""
    account = await post.house.directory.account(BOB)
    assert account is not None
    rows = [
        {"mailbox": account.inbox, "uid": number, "email": (1 << 61) + number * 1031, "size": 1000 + number}
        for number in range(1, LETTERS + 1)
    ]
    total = sum(row["size"] for row in rows)

    def insert(tx: Transaction) -> None:
        tx.many(
            "INSERT INTO placement (mailbox, uid, email, modseq, created, flags, keywords, size)"
            " VALUES (:mailbox, :uid, :email, 1, 1, 0, '', :size)",
            rows,
        )
        tx.run(
            "UPDATE mailbox SET uid_next = :next, total = :total, octets = :octets, unseen = :total"
            " WHERE id = :mailbox",
            next=LETTERS + 1,
            total=LETTERS,
            octets=total,
            mailbox=account.inbox,
        )

    await post.house.database.write(insert)
    async with await opened(post) as wire:
        assert await wire.ask("STAT") == f"+OK {LETTERS} {total}"
        sizes = await wire.listing("LIST")
        assert sizes == [b"%d %d" % (row["uid"], row["size"]) for row in rows]
        ids = await wire.listing("UIDL")
        assert ids == [b"%d e%x" % (row["uid"], row["email"]) for row in rows]
        await wire.send(b"".join(b"DELE %d\r\n" % number for number in range(1, LETTERS, 2)))
        for _ in range(1, LETTERS, 2):
            assert (await wire.line() or b"").startswith(b"+OK")
        assert (await wire.ask("STAT")).startswith(f"+OK {LETTERS // 2} ")
        assert await wire.listing("LIST") == sizes[1::2]
        assert (await wire.ask("QUIT")) == f"+OK Bye, {LETTERS // 2} removed"
    async with await opened(post) as wire:
        assert [line.split()[1] for line in await wire.listing("UIDL")] == [line.split()[1] for line in ids[1::2]]
