# SPDX-License-Identifier: Apache-2.0
"""What each IMAP load says, what the answers must have in them, and how the mailboxes are checked before and after.

Invariant: a load whose answers or mailboxes are not as they must be raises WrongAnswerError, and has no figure.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace

from bench import imap_letters
from bench.house import DOMAIN, PASSWORD
from bench.imap_client import Imap, WrongAnswerError

FETCHED = b" FETCH ("
ENVELOPES = b"FETCH 1:* (UID FLAGS RFC822.SIZE ENVELOPE)"
BODIES = b"FETCH 1:* (BODY[])"
LITERAL = re.compile(rb"\{(\d+)\}\r\n")
SIZE = re.compile(rb"RFC822\.SIZE (\d+)")
MESSAGE_ID = re.compile(rb'"<(\d+)@elsewhere\.test>"[)]')
FLAGGED = re.compile(rb"FLAGS \([^)]*\\Flagged")
LAST_READ = 2000  # octets of an answer that are looked at even where the rest is only counted
EVEN = 2  # what is set in one turn is taken away in the next: each STORE changes something


@dataclass(frozen=True, slots=True)
class Load:
    port: int
    script: str  # of SCRIPTS
    at_once: int
    letters: int  # in each INBOX
    octets: int  # of a letter, about

    def at(self, port: int) -> Load:
        return replace(self, port=port)


@dataclass(frozen=True, slots=True)
class Step:
    """One command and what must come back; None: not looked at. `octets`: of all untagged lines."""

    command: bytes
    fetches: int | None = None
    octets: int | None = None
    unread: int = 0  # so many of the first octets are only counted
    line: bytes = b""  # must be among the untagged ones
    is_timed: bool = False


GREETING = Step(b"")
LOGOUT = Step(b"LOGOUT")


def user(lane: int) -> bytes:
    return f"user{lane}@{DOMAIN}".encode()


class Script:
    """`keeps_connections`: the sessions are there when the clock starts, and one command is what is counted; else a
    session from its first octet to its last is. Lane n is user n."""

    keeps_connections = True
    selects = True

    def __init__(self, load: Load) -> None:
        self.load = load

    def begin(self, lane: int) -> list[Step]:
        found = [GREETING, Step(b"LOGIN %s %s" % (user(lane), PASSWORD.encode()))]
        return [*found, self.opening()] if self.selects else found

    def opening(self) -> Step:
        return Step(b"SELECT INBOX", line=b"* %d EXISTS\r\n" % self.load.letters)

    def turn(self, lane: int, number: int) -> list[Step]:
        """What is counted as one; `number` grows through all turns of all lanes."""
        raise NotImplementedError

    def prepare(self) -> dict[str, float]:
        """Check the mailboxes and have the server fill its caches; what the first look cost."""
        return {}

    def verify(self) -> None:
        """After all turns."""

    def enter(self, lane: int) -> Imap:
        return Imap.selected(self.load.port, user(lane).decode(), self.load.letters)


class Sessions(Script):
    """LOGIN, SELECT, LOGOUT."""

    keeps_connections = False

    def turn(self, lane: int, number: int) -> list[Step]:
        return [*self.begin(lane), LOGOUT]

    def prepare(self) -> dict[str, float]:
        for lane in range(self.load.at_once):
            self.enter(lane).close()
        return {}


class Select(Sessions):
    """The same, timing SELECT. A new session each time: what a server keeps for a session does not help it."""

    def opening(self) -> Step:
        return Step(b"SELECT INBOX", line=b"* %d EXISTS\r\n" % self.load.letters, is_timed=True)

    def prepare(self) -> dict[str, float]:
        with self.enter(0) as client:
            return {"first_ms": client.seconds * 1000}


class Fetch(Script):
    """One FETCH of all letters again and again; each answer is as long as the one that was checked."""

    command = b""

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self.step = Step(self.command)

    def turn(self, lane: int, number: int) -> list[Step]:
        return [self.step]

    def prepare(self) -> dict[str, float]:
        first = 0.0
        answer = b""
        for lane in range(self.load.at_once):
            with self.enter(lane) as client:  # \\Recent is in what the first session is told, and BODY[] sets \\Seen
                client.say(self.command)
                first = first or client.seconds
            with self.enter(lane) as client:
                answer = client.say(self.command)
                self.check(answer)
        if answer.count(FETCHED) != self.load.letters:
            raise WrongAnswerError(f"{answer.count(FETCHED)} FETCH lines for {self.load.letters} letters")
        self.step = self.repeated(len(answer))
        return {"first_s": first, "answer_octets": len(answer)}

    def repeated(self, octets: int) -> Step:
        """The command with the checked answer's octets."""
        return Step(self.command, fetches=self.load.letters, octets=octets)

    def check(self, answer: bytes) -> None:
        """Raises WrongAnswerError when it does not say what the letters are."""


class Flags(Fetch):
    command = b"FETCH 1:* (FLAGS)"

    def check(self, answer: bytes) -> None:
        numbers = [int(line.split(b" ", 2)[1]) for line in answer.splitlines() if b"FETCH (FLAGS (" in line]
        if numbers != list(range(1, self.load.letters + 1)):
            raise WrongAnswerError(f"FLAGS of {len(numbers)} letters, not of each of {self.load.letters}")


class Bodies(Fetch):
    command = BODIES

    def repeated(self, octets: int) -> Step:
        return Step(self.command, octets=octets, unread=max(0, octets - LAST_READ))

    def check(self, answer: bytes) -> None:
        """Every letter, octet by octet."""
        number = at = 0
        while found := LITERAL.search(answer, at):
            at = found.end() + int(found[1])
            if answer[found.end() : at] != imap_letters.whole(number, self.load.octets):
                raise WrongAnswerError(f"letter {number + 1} is not what was put there")
            number += 1
        if number != self.load.letters:
            raise WrongAnswerError(f"{number} letters instead of {self.load.letters}")


class Envelopes(Fetch):
    """The whole session: LOGIN, SELECT, FETCH, LOGOUT."""

    command = ENVELOPES
    keeps_connections = False

    def turn(self, lane: int, number: int) -> list[Step]:
        return [*self.begin(lane), self.step, LOGOUT]

    def check(self, answer: bytes) -> None:
        sizes = [int(each) for each in SIZE.findall(answer)]
        names = [int(each) for each in MESSAGE_ID.findall(answer)]
        count, octets = self.load.letters, self.load.octets
        if names != list(range(count)):
            raise WrongAnswerError(f"Message-IDs of {len(names)} letters, not of each of {count}")
        if sizes != [len(imap_letters.whole(number, octets)) for number in range(count)]:
            raise WrongAnswerError("RFC822.SIZE is not that of each letter")


class Store(Script):
    """\\Flagged set in one round through the mailbox, taken away in the next."""

    def prepare(self) -> dict[str, float]:
        self.flagged = 0
        with self.enter(0) as client:
            client.say(b"STORE 1:* -FLAGS (\\Flagged)")
        return {}

    def verify(self) -> None:
        with self.enter(0) as client:
            found = len(FLAGGED.findall(client.say(b"FETCH 1:* (FLAGS)")))
        if found != self.flagged:
            raise WrongAnswerError(f"{found} letters are flagged instead of {self.flagged}")


class StoreOne(Store):
    def turn(self, lane: int, number: int) -> list[Step]:
        letters = self.load.letters
        is_set = (number // letters) % EVEN == 0
        self.flagged += 1 if is_set else -1
        command = b"STORE %d %sFLAGS (\\Flagged)" % (number % letters + 1, b"+" if is_set else b"-")
        return [Step(command, fetches=1, is_timed=True)]


class StoreAll(Store):
    def turn(self, lane: int, number: int) -> list[Step]:
        is_set = number % EVEN == 0
        self.flagged = self.load.letters if is_set else 0
        command = b"STORE 1:* %sFLAGS (\\Flagged)" % (b"+" if is_set else b"-")
        return [Step(command, fetches=self.load.letters, is_timed=True)]


class Append(Script):
    """Letters one after the other, each answered before the next; then all are fetched and compared."""

    selects = False

    def prepare(self) -> dict[str, float]:
        self.sent: dict[int, list[int]] = {lane: [] for lane in range(self.load.at_once)}
        for lane in self.sent:
            with Imap(self.load.port, user(lane).decode()) as client:
                client.select(0)
        return {}

    def turn(self, lane: int, number: int) -> list[Step]:
        self.sent[lane].append(number)
        letter = imap_letters.content(number, self.load.octets)
        # RFC 7888: no waiting for a continuation, as every client does it where it is offered.
        return [Step(b"APPEND INBOX (\\Seen) {%d+}\r\n%s" % (len(letter), letter), is_timed=True)]

    def verify(self) -> None:
        for lane, numbers in self.sent.items():
            with Imap(self.load.port, user(lane).decode()) as client:
                client.select(len(numbers))
                answer = client.say(BODIES) if numbers else b""
            at = 0
            wanted = Counter(numbers)
            while found := LITERAL.search(answer, at):
                at = found.end() + int(found[1])
                wanted.subtract([self.number(answer[found.end() : at])])
            if any(wanted.values()):
                raise WrongAnswerError(f"not every letter of {user(lane).decode()} is there once, as it was sent")

    def number(self, letter: bytes) -> int:
        """Of a letter that is as it was sent, -1 of any other."""
        found = re.search(rb"^Message-ID: <(\d+)@", letter, re.MULTILINE)
        number = int(found[1]) if found else -1
        return number if letter == imap_letters.content(number, self.load.octets) else -1


class Search(Script):
    """Another word each time: remembering an answer does not help. The right numbers are known."""

    def turn(self, lane: int, number: int) -> list[Step]:
        found = imap_letters.holders(number, self.load.letters)
        line = b"* SEARCH " + b" ".join(b"%d" % each for each in found) + b"\r\n"
        return [Step(b"SEARCH TEXT " + imap_letters.word(number), line=line, is_timed=True)]

    def prepare(self) -> dict[str, float]:
        with self.enter(0) as client:
            answer = client.say(b"SEARCH TEXT sphinx")
        if answer.strip() != b"* SEARCH":
            raise WrongAnswerError(f"found a word that no letter has: {answer[:100]!r}")
        return {"first_s": client.seconds}


SCRIPTS: dict[str, type[Script]] = {
    "sessions": Sessions,
    "select": Select,
    "envelopes": Envelopes,
    "flags": Flags,
    "bodies": Bodies,
    "store one": StoreOne,
    "store all": StoreAll,
    "append": Append,
    "search": Search,
}
