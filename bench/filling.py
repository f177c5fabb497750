# SPDX-License-Identifier: Apache-2.0
"""Fills a store directly, in large units of work: what would take hours through SMTP takes minutes.

The rows are those that the server itself writes (store.letters.accept); only the sessions are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

from posthouse import config, telemetry
from posthouse.app import House, open_house
from posthouse.composing.ground import real_machine
from posthouse.mail.address import parse_address
from posthouse.mail.envelope import ForwardPath, ReversePath
from posthouse.mail.trace import return_path
from posthouse.ports import Transaction
from posthouse.services.delivery import Origin, finished, letter_in
from posthouse.store import letters
from posthouse.store.letters import LetterIn, Place
from posthouse.store.queue_rows import QueuedLetter, QueuedRecipient

UNIT = 250  # letters of one unit of work: the committer answers in some tens of milliseconds
UNITS_AT_ONCE = 8  # handed in without waiting, so that the committer never rests
DAYS = 86_400.0


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[House]:
    """The house of a data directory, without listeners."""
    telemetry.configure(as_json=False, level="error")
    house = open_house(folder, config.load(folder), real_machine())
    try:
        yield house
    finally:
        await house.close()


def letter_text(number: int, octets: int) -> bytes:
    """A letter of about so many octets that is unlike all others."""
    head = (
        f"From: sender@elsewhere.test\r\nTo: someone@bench.test\r\nSubject: letter {number}\r\n"
        f"Date: Mon, 23 Nov 2026 09:00:00 +0000\r\nMessage-ID: <{number}@elsewhere.test>\r\n\r\n"
    ).encode()
    line = b"The quick brown fox jumps over the lazy dog, again and again, as he did.\r\n"
    return head + line * max(1, (octets - len(head)) // len(line))


def letter(number: int, octets: int, now: float) -> LetterIn:
    written = finished(letter_text(number, octets))
    return letter_in(
        written, ReversePath(parse_address("sender@elsewhere.test")), Origin(f"{number:016x}", now, b"", source="bench")
    )


def destination(number: int) -> str:
    return f"d{number:04}.test"


def queued(number: int, size: int, now: float, hop: str) -> QueuedLetter:
    path = ForwardPath(parse_address(f"person{number}@{hop}"))
    recipient = QueuedRecipient(path, hop, not_before=now, expires_at=now + 5 * DAYS, warn_at=now + 4 * 3600)
    return QueuedLetter(
        reverse_path=ReversePath(parse_address("sender@elsewhere.test")),
        prefix=b"Received: from elsewhere.test by mail.bench.test with ESMTP; Mon, 23 Nov 2026 09:00:00 +0000\r\n",
        account=None,
        language="en",
        message_id=f"{number}@elsewhere.test",
        size=size,
        needs_eight_bit=False,
        needs_smtputf8=False,
        received_at=now,
        trace=f"{number:016x}",
        recipients=(recipient,),
    )


async def in_units(house: House, count: int, accept: Callable[[Transaction, int], None], first: int = 0) -> float:
    """`accept(tx, number)` for `count` numbers; seconds that it took."""

    def unit(tx: Transaction, numbers: range) -> None:
        for number in numbers:
            accept(tx, number)

    def parts() -> Iterator[range]:
        for start in range(first, first + count, UNIT):
            yield range(start, min(start + UNIT, first + count))

    started = time.perf_counter()
    left = parts()

    async def worker() -> None:
        for numbers in left:
            await house.database.write(partial(unit, numbers=numbers))

    await asyncio.gather(*(worker() for _ in range(UNITS_AT_ONCE)))
    return time.perf_counter() - started


async def fill_queue(house: House, count: int, destinations: int, octets: int, first: int = 0) -> float:
    """Letters of one recipient each, spread over the destinations in turn, due now. Seconds that it took."""
    now = house.machine.clock.wall()

    def accept(tx: Transaction, number: int) -> None:
        new = letter(number, octets, now)
        hop = destination(number % destinations)
        letters.accept(tx, new, [], queued(number, new.content.size, now, hop))

    return await in_units(house, count, accept, first)


async def fill_mailbox(house: House, address: str, count: int, octets: int, first: int = 0) -> float:
    """Letters into one INBOX. Seconds that it took."""
    account = await house.directory.account(address)
    assert account is not None
    now = house.machine.clock.wall()
    prefix = return_path(parse_address("sender@elsewhere.test"))

    def accept(tx: Transaction, number: int) -> None:
        letters.accept(tx, letter(number, octets, now), [Place(account.id, account.inbox, prefix)])

    return await in_units(house, count, accept, first)
