# SPDX-License-Identifier: Apache-2.0
"""The letters of the IMAP family: mailboxes of real servers filled beforehand, the same octets in each.

Invariant: letter n is `whole(n, octets)` on every server, so what a client fetched can be compared octet by octet.
Some are plain, some quoted-printable or base64, some have parts: a search that does not decode misses letters.
"""

from __future__ import annotations

import os
import pwd
from base64 import b64encode
from functools import lru_cache
from pathlib import Path

from bench import filling
from posthouse.app import House
from posthouse.mail.address import parse_address
from posthouse.mail.envelope import ReversePath
from posthouse.ports import Transaction
from posthouse.services.delivery import Origin, finished, letter_in
from posthouse.store import letters as stored
from posthouse.store.letters import Place

WORDS = 2000  # different ones; every letter has one of them
SENDER = "sender@elsewhere.test"
# What a delivery adds: the same on every server, since it is written by us.
PREFIX = (
    f"Return-Path: <{SENDER}>\r\n"
    "Received: from relay.elsewhere.test (relay.elsewhere.test [192.0.2.25])\r\n"
    "\tby mail.bench.test with ESMTP id 0123456789abcdef\r\n"
    "\tfor <someone@bench.test>; Mon, 23 Nov 2026 09:00:00 +0000\r\n"
).encode()
MANY = 100
FIRST_SECOND = 1_700_000_000  # of the names in a Maildir
LINE = b"The quick brown fox jumps over the lazy dog, again and again, as he did.\r\n"
QUOTED = b"Le vif renard brun saute par-dessus le chien paresseux, encore =C3=A0 =\r\nmidi.\r\n"
CODED_LINE = b64encode(b"Caf\xc3\xa9 au lait, a whole line of it, before the day begins.."[:57]) + b"\r\n"
ATTACHED_LINE = b64encode(bytes(range(100, 157))) + b"\r\n"
BOUNDARY = b"=_bench_0123456789"


def word(number: int) -> bytes:
    """The word that a search for letter `number` asks for; one letter in WORDS has it."""
    return b"quartz%04d" % (number % WORDS)


def holders(number: int, letters: int) -> list[int]:
    """Sequence numbers (from 1) of those of the first `letters` letters that have letter `number`'s word."""
    return [each + 1 for each in range(number % WORDS, letters, WORDS)]


def header(number: int, content_type: bytes) -> bytes:
    """As people's programs write it, about 600 octets."""
    subject = b"Re: minutes of meeting %d, and what follows from it" % number
    if number % 4 == 3:
        subject = b"=?utf-8?Q?Gr=C3=BC=C3=9Fe_aus_M=C3=BCnchen_%d?=" % number
    thread = b""
    if number % 3 == 2:
        thread = b"In-Reply-To: <%d@elsewhere.test>\r\nReferences: <%d@elsewhere.test>\r\n\t<%d@elsewhere.test>\r\n" % (
            number - 1,
            number - 2,
            number - 1,
        )
    return (
        b'From: "Person Number %d" <person%d@elsewhere.test>\r\n'
        b"To: Someone <someone@bench.test>, another@bench.test\r\n"
        b"Cc: The Whole Team <team@bench.test>\r\n"
        b"Subject: %s\r\nDate: Mon, 23 Nov 2026 %02d:%02d:%02d +0000\r\n"
        b"Message-ID: <%d@elsewhere.test>\r\n%s"
        b"User-Agent: Some Mail Program/1.2.3 (with a comment)\r\nMIME-Version: 1.0\r\n%s\r\n"
    ) % (
        number % 500,
        number % 500,
        subject,
        number // 3600 % 24,
        number // 60 % 60,
        number % 60,
        number,
        thread,
        content_type,
    )


@lru_cache(maxsize=64)
def filler(line: bytes, octets: int) -> bytes:
    return line * max(1, octets // len(line))


def content(number: int, octets: int) -> bytes:
    """A letter as it is sent, of about so many octets, unlike all others."""
    left = max(0, octets - 800)
    token = word(number)
    match number % 10:
        case 6 | 7:  # the word is cut by a soft line break, as it happens at the end of a line
            plain = (
                filler(QUOTED, left // 2) + b"Et puis " + token[:6] + b"=\r\n" + token[6:] + b" =C3=A9tait l=C3=A0.\r\n"
            )
            html = b"<html><body><p>\r\n" + filler(QUOTED, left // 2) + b"</p></body></html>\r\n"
            kind = b'Content-Type: multipart/alternative; boundary="' + BOUNDARY + b'"\r\n'
            quoted = b'Content-Type: text/%s; charset="utf-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n'
            body = parts(quoted % b"plain" + plain, quoted % b"html" + html)
        case 8:
            kind = b'Content-Type: text/plain; charset="utf-8"\r\nContent-Transfer-Encoding: base64\r\n'
            told = (b"Caf\xc3\xa9 " + token + b" ").ljust(56, b".") + b"\n"
            body = b64encode(told) + b"\r\n" + filler(CODED_LINE, left)
        case 9:
            kind = b'Content-Type: multipart/mixed; boundary="' + BOUNDARY + b'"\r\n'
            text = b"Content-Type: text/plain\r\n\r\nSee " + token + b".\r\n" + filler(LINE, left // 4)
            file = b'Content-Type: application/pdf; name="a.pdf"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
            body = parts(text, file + filler(ATTACHED_LINE, left * 3 // 4))
        case _:
            kind = b"Content-Type: text/plain; charset=us-ascii\r\n"
            body = filler(LINE, left // 2) + b"The word is " + token + b" today.\r\n" + filler(LINE, left // 2)
    return header(number, kind) + body


def parts(*bodies: bytes) -> bytes:
    return b"".join(b"--" + BOUNDARY + b"\r\n" + each for each in bodies) + b"--" + BOUNDARY + b"--\r\n"


def whole(number: int, octets: int) -> bytes:
    """As a client fetches it."""
    return PREFIX + content(number, octets)


def fill_maildirs(boxes: list[Path], letters: int, octets: int, owner: str) -> None:
    """Letters that were seen once by a client (`cur`, not \\Recent), named and written as Dovecot does: lines end in
    LF, both sizes are in the name. Beyond MANY boxes, whose letters nobody reads, they are links to the first one's."""
    user = pwd.getpwnam(owner)
    for box in boxes:
        for folder in (box, box / "cur", box / "new", box / "tmp"):
            folder.mkdir(mode=0o700)
            os.chown(folder, user.pw_uid, user.pw_gid)
    for number in range(letters):
        text = whole(number, octets)
        kept = text.replace(b"\r\n", b"\n")
        name = f"{FIRST_SECOND + number}.M{number % 1_000_000}P1.bench,S={len(kept)},W={len(text)}:2,"
        for box in boxes[:1] if len(boxes) > MANY else boxes:
            file = os.open(f"{box}/cur/{name}", os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
            os.write(file, kept)
            os.fchown(file, user.pw_uid, user.pw_gid)
            os.close(file)
        for box in boxes[1:] if len(boxes) > MANY else ():
            os.link(f"{boxes[0]}/cur/{name}", f"{box}/cur/{name}")


async def fill_store(folder: Path, users: tuple[str, ...], letters: int, octets: int) -> None:
    """The same into INBOXes of a posthouse data directory, through the store."""
    async with filling.opened(folder) as house:
        for user in users:
            await _fill_inbox(house, user, letters, octets)


async def _fill_inbox(house: House, user: str, letters: int, octets: int) -> None:
    account = await house.directory.account(user)
    assert account is not None
    place = Place(account.id, account.inbox, PREFIX)
    sender = ReversePath(parse_address(SENDER))
    now = house.machine.clock.wall()

    def accept(tx: Transaction, number: int) -> None:
        written = finished(content(number, octets))
        stored.accept(tx, letter_in(written, sender, Origin(f"{number:016x}", now, b"", source="bench")), [place])

    await filling.in_units(house, letters, accept)
