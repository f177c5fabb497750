# SPDX-License-Identifier: Apache-2.0
"""The people of a working day: who writes, who is written to, who looks for mail, and when. Times are virtual.

Invariant: everything comes at the moment that the plan says, however slow the server is; an operation's time counts
from that moment, so that a queue of waiting people shows.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

from bench.house import DOMAIN, PASSWORD
from bench.submission_load import RefusedError, connect, content, send

HOUR = 3600.0
KIB = 1024
OUTSIDE = "elsewhere.test"
SIZES = (2 * KIB, 5 * KIB, 10 * KIB, 30 * KIB, 80 * KIB)  # octets of a letter, each as likely
WRITES_PER_HOUR = 4  # letters of one person
LETTERS_PER_HOUR = 8  # from outside, for one person
MORNING_SHARE = 0.1  # of the day's letters from outside, which come within MORNING
MORNING = 600.0  # seconds: at nine all the senders of the night are read, and everybody starts
POLL = 300.0  # seconds between two looks of one person
ATTACHMENTS_PER_HOUR = 8
ATTACHMENT = 10 << 20  # octets
LOGINS_AT_ONCE = 4
NEWSLETTERS = 3  # to everybody, of NEWSLETTER octets
NEWSLETTER = 100 * KIB
LOCAL_SHARE = 0.5  # of the letters that people write


def person(number: int) -> str:
    return f"user{number}@{DOMAIN}"


@dataclass(slots=True)
class Tally:
    """Seconds of each operation from the moment that was planned; what was refused or broke."""

    times: dict[str, list[float]] = field(default_factory=dict)
    problems: dict[str, int] = field(default_factory=dict)
    sent_outside: int = 0
    delivered: int = 0  # letters accepted for mailboxes here, one for each recipient
    fetched: int = 0

    def note(self, operation: str, seconds: float) -> None:
        self.times.setdefault(operation, []).append(seconds)


@dataclass(frozen=True, slots=True)
class Day:
    """`speed`: virtual seconds in one of ours."""

    people: int
    hours: float
    speed: float
    smtp: int  # ports
    submission: int
    pop3: int
    seed: int = 1


class Pop3Wire(asyncio.Protocol):
    """One session, one command at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._end = b"\r\n"
        self._waiting: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are asyncio.Transport by what they do only

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        is_whole = self._buffer.endswith(self._end if self._buffer.startswith(b"+") else b"\r\n")
        if self._waiting is not None and is_whole and not self._waiting.done():
            answer = bytes(self._buffer)
            self._buffer.clear()
            self._waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(RefusedError("closed early"))

    async def ask(self, command: bytes, *, is_listing: bool = False) -> bytes:
        self._end = b"\r\n.\r\n" if is_listing else b"\r\n"
        self._waiting = asyncio.get_running_loop().create_future()
        if command:
            self.transport.write(command + b"\r\n")
        self.data_received(b"")
        answer = await self._waiting
        if not answer.startswith(b"+"):
            raise RefusedError(answer.decode("ascii", "replace").strip())
        return answer


class People:
    """Plays the day once."""

    def __init__(self, day: Day) -> None:
        self._day = day
        self._random = random.Random(day.seed)
        self._tasks: list[asyncio.Task[None]] = []
        self._busy: set[int] = set()  # people whose mail program is still at it: it does not start a second time
        self._seen: dict[int, int] = {}  # letters that a person has fetched and left on the server
        self.tally = Tally()

    async def live(self) -> None:
        """From morning to evening; returns when the last operation has ended."""
        await self._arrive()
        started = time.perf_counter()
        for at, name, act in sorted(self._plan(), key=lambda each: each[0]):
            moment = started + at / self._day.speed
            pause = moment - time.perf_counter()
            if pause > 0:
                await asyncio.sleep(pause)
            self._tasks.append(asyncio.create_task(self._timed(name, act, moment)))
        await asyncio.gather(*self._tasks)

    async def _arrive(self) -> None:
        """Everybody logs in once before the clock starts: all the passwords would be hashed within five seconds."""
        everybody = iter(range(self._day.people))

        async def some() -> None:
            for number in everybody:
                await self._session(number)

        await asyncio.gather(*(some() for _ in range(LOGINS_AT_ONCE)))
        self.tally.times.clear()

    def left_on_server(self, number: int) -> int:
        """Letters that this person has fetched and not removed."""
        return self._seen.get(number, 0)

    async def _timed(self, name: str, act: Callable[[], Awaitable[bool]], moment: float) -> None:
        try:
            if await act():
                self.tally.note(name, time.perf_counter() - moment)
        except (OSError, RefusedError) as problem:
            text = f"{name}: {problem}"[:120]
            self.tally.problems[text] = self.tally.problems.get(text, 0) + 1

    # --- the plan ---------------------------------------------------------------------------------

    def _plan(self) -> list[tuple[float, str, Callable[[], Awaitable[bool]]]]:
        day, chance, end = self._day, self._random, self._day.hours * HOUR
        plan: list[tuple[float, str, Callable[[], Awaitable[bool]]]] = []
        from_outside = round(LETTERS_PER_HOUR * day.people * day.hours)
        for number in range(from_outside):
            is_morning = number < from_outside * MORNING_SHARE
            at = chance.uniform(0, min(MORNING, end) if is_morning else end)
            plan.append((at, "letter from outside", self._from_outside(number)))
        kinds = (
            ("letter submitted", WRITES_PER_HOUR * day.people * day.hours, self._written),
            ("10 MiB submitted", ATTACHMENTS_PER_HOUR * day.hours, self._attachment),
            ("newsletter to all", NEWSLETTERS, self._newsletter),
        )
        for name, count, make in kinds:
            plan += [(chance.uniform(0, end), name, make(number)) for number in range(round(count))]
        for number in range(day.people):
            at = chance.uniform(0, POLL)
            while at < end:
                plan.append((at, "look for mail", self._look(number)))
                at += POLL
        return plan

    def _from_outside(self, number: int) -> Callable[[], Awaitable[bool]]:
        to, size = person(self._random.randrange(self._day.people)), self._random.choice(SIZES)

        async def act() -> bool:
            return await self._send("", f"someone{number % 97}@{OUTSIDE}", to, f"in-{number}", size)

        return act

    def _written(self, number: int) -> Callable[[], Awaitable[bool]]:
        sender = person(self._random.randrange(self._day.people))
        is_local = self._random.random() < LOCAL_SHARE
        to = person(self._random.randrange(self._day.people)) if is_local else f"friend{number}@{OUTSIDE}"
        size = self._random.choice(SIZES)

        async def act() -> bool:
            return await self._send(sender, sender, to, f"out-{number}", size)

        return act

    def _attachment(self, number: int) -> Callable[[], Awaitable[bool]]:
        sender, to = (person(self._random.randrange(self._day.people)) for _ in range(2))

        async def act() -> bool:
            return await self._send(sender, sender, to, f"big-{number}", ATTACHMENT)

        return act

    def _newsletter(self, number: int) -> Callable[[], Awaitable[bool]]:
        async def act() -> bool:
            return await self._send(person(0), person(0), f"all@{DOMAIN}", f"news-{number}", NEWSLETTER)

        return act

    async def _send(self, user: str, sender: str, to: str, name: str, octets: int) -> bool:
        """A connection for one letter, as mail programs do; `user` logs in."""
        port = self._day.submission if user else self._day.smtp
        wire = await connect(port, user, PASSWORD if user else "")
        try:
            await send(wire, sender, [to], content(sender, to, name, octets))
            await wire.ask(b"QUIT\r\n", b"221")
        finally:
            wire.transport.close()
        if to.endswith(OUTSIDE):
            self.tally.sent_outside += 1
        else:
            self.tally.delivered += self._day.people if to.startswith("all@") else 1
        return True

    # --- reading ----------------------------------------------------------------------------------

    def _look(self, number: int) -> Callable[[], Awaitable[bool]]:
        async def act() -> bool:
            if number in self._busy:
                return False
            self._busy.add(number)
            try:
                await self._session(number)
            finally:
                self._busy.discard(number)
            return True

        return act

    async def _session(self, number: int) -> None:
        """Log in, read what is new; every second person leaves it on the server."""
        loop = asyncio.get_running_loop()
        _, wire = await loop.create_connection(Pop3Wire, "127.0.0.1", self._day.pop3)
        try:
            await wire.ask(b"")
            await wire.ask(b"USER " + person(number).encode())
            started = time.perf_counter()
            await wire.ask(b"PASS " + PASSWORD.encode())
            self.tally.note("POP3 login", time.perf_counter() - started)
            letters = int((await wire.ask(b"STAT")).split()[1])
            await wire.ask(b"UIDL", is_listing=True)
            removes = bool(number % 2)
            seen = self._seen.get(number, 0)
            for each in range(seen + 1, letters + 1):
                await wire.ask(b"RETR %d" % each, is_listing=True)
                if removes:
                    await wire.ask(b"DELE %d" % each)
            await wire.ask(b"QUIT")
            self.tally.fetched += letters - seen  # what a session read that broke off is read again
            self._seen[number] = 0 if removes else letters
        finally:
            wire.transport.close()
