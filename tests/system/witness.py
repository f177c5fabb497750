# SPDX-License-Identifier: Apache-2.0
"""An independent client that remembers: it gives a server numbered letters and writes down each acknowledgement the
moment it comes. Later it says of every mailbox, queue and peer whether anything is missing, changed or too many.

It shares no code with the server: plain sockets, threads, and the RFCs. Invariant: `acknowledged` is set only after
the 250 was read, and `attempts` before the final dot is sent; so what the witness demands is never too much.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import random
import socket
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PATIENCE = 90.0  # seconds for one answer; only a server that hangs takes so long, even on a machine with other work
PASSWORD = "secret"
SMALL, LARGE = (10, 200, 2_000, 10_000, 40_000), (300_000, 1_200_000)  # octets; the large ones are spooled
LARGE_SHARE = 0.04
DOMAIN = "witness.test"


@dataclass(frozen=True, slots=True)
class Way:
    """Where letters for an address go: local mailboxes, and whether a copy goes to the peer."""

    mailboxes: frozenset[str] = frozenset()
    is_forwarded: bool = False


@dataclass(slots=True)
class Letter:
    """`door`: "smtp" or "submission". `attempts`: the final dot was sent; `acknowledged` of them were answered 250."""

    number: int
    door: str
    to: tuple[str, ...]
    size: int
    attempts: int = 0
    acknowledged: int = 0


@dataclass(slots=True)
class Drop:
    """What was seen of one mailbox. `seen`: unique-id to letter, also of those that are deleted by now."""

    seen: dict[str, int] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)  # QUIT was answered +OK
    doubtful: set[str] = field(default_factory=set)  # QUIT was sent, and no answer came


class GoneError(Exception):
    """The server broke off."""


class Line:
    """One connection, line by line."""

    def __init__(self, port: int) -> None:
        try:
            self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        except OSError as error:
            raise GoneError(str(error)) from None
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
            self._socket.close()

    def send(self, octets: bytes) -> None:
        try:
            self._socket.sendall(octets)
        except OSError as error:
            raise GoneError(str(error)) from None

    def line(self) -> bytes:
        try:
            line = self._file.readline()
        except TimeoutError:
            raise  # it hangs
        except OSError as error:
            raise GoneError(str(error)) from None
        if not line.endswith(b"\r\n"):
            raise GoneError("the server closed")
        return line[:-2]

    def reply(self) -> str:
        """Of SMTP, its last line."""
        while (line := self.line())[3:4] == b"-":
            pass
        return line.decode()

    def say(self, *commands: str) -> list[str]:
        """Send them in one piece, read as many replies."""
        self.send("".join(f"{command}\r\n" for command in commands).encode())
        return [self.reply() for _ in commands]

    def ask(self, command: str) -> bytes:
        """Of POP3."""
        self.send(f"{command}\r\n".encode())
        return self.line()

    def listing(self, command: str) -> Iterator[bytes]:
        status = self.ask(command)
        assert status.startswith(b"+OK"), (command, status)
        while (line := self.line()) != b".":
            yield line.removeprefix(b".")


class Witness:
    """`ways`: the addresses it writes to. `ledger`: a file to which every event is appended at once."""

    def __init__(
        self, ledger: Path, ways: Mapping[str, Way], *, sender: str, seed: int = 1, submits_to: Sequence[str] = ()
    ) -> None:
        """`submits_to`: the addresses that letters through submission go to, as `sender`; others come in by SMTP."""
        self.ways = dict(ways)
        self.sender = sender
        self.seed = seed
        self.letters: list[Letter] = []
        self.drops: dict[str, Drop] = {}
        self._submits_to = tuple(submits_to)
        self._comes_to = tuple(address for address in ways if address not in submits_to)
        self._chance = random.Random(seed)  # under the lock
        self._reading = random.Random(seed + 1)
        self._lock = threading.Lock()
        self._again: list[Letter] = []
        self._ledger = ledger.open("a", encoding="utf-8", buffering=1)  # a line is written when it ends
        self.is_stopped = threading.Event()
        self.complaints: list[str] = []

    def close(self) -> None:
        self._ledger.close()

    def note(self, event: str, **what: object) -> None:
        self._ledger.write(json.dumps({"event": event, **what}) + "\n")

    # --- letters ----------------------------------------------------------------------------------

    def content(self, letter: Letter) -> bytes:
        """The octets of a letter: a function of the seed and its number, so that none need be kept."""
        chance = random.Random(f"{self.seed}/{letter.number}")
        head = (
            f"From: <{self.sender}>\r\nTo: {', '.join(letter.to)}\r\nDate: Mon, 23 Nov 2026 08:00:00 +0000\r\n"
            f"Message-ID: <{letter.number}@{DOMAIN}>\r\nSubject: letter {letter.number}\r\n\r\n"
        ).encode()
        # Dots to be stuffed, empty lines, lines of a number's own.
        lines = b"".join(b"%d %x\r\n" % (letter.number, chance.getrandbits(400)) for _ in range(9))
        block = b".\r\n\r\n..two dots\r\n" + lines
        return head + block * (letter.size // len(block) + 1)

    def _next(self, door: str) -> Letter:
        """A letter whose last attempt was not answered, or a new one."""
        with self._lock:
            for index, letter in enumerate(self._again):
                if letter.door == door:
                    return self._again.pop(index)
            chance = self._chance
            places = self._submits_to if door == "submission" else self._comes_to
            size = chance.choice(LARGE if chance.random() < LARGE_SHARE else SMALL)
            letter = Letter(len(self.letters), door, (chance.choice(places),), size)
            self.letters.append(letter)
            return letter

    def send(self, line: Line, letter: Letter) -> None:
        """One mail transaction. Raises GoneError."""
        content = self.content(letter)
        sender = self.sender if letter.door == "submission" else ""
        commands = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{to}>" for to in letter.to), "DATA"]
        try:
            replies = line.say(*commands)
            wanted = ["250"] * (len(commands) - 1) + ["354"]
            if [reply[:3] for reply in replies] != wanted:
                self._complain(f"letter {letter.number}: {replies}")
            line.send(b"\r\n".join(b"." + each if each.startswith(b".") else each for each in content.split(b"\r\n")))
            letter.attempts += 1
            self.note("sent", letter=letter.number, to=letter.to, door=letter.door, size=letter.size)
            line.send(b".\r\n")
            reply = line.reply()
            if not reply.startswith("250"):
                self._complain(f"letter {letter.number}: {reply}")
            letter.acknowledged += 1
            self.note("acknowledged", letter=letter.number)
        except GoneError:
            with self._lock:
                self._again.append(letter)
            raise

    def _complain(self, text: str) -> None:
        """The server refused what it must take: told at the next check, for this may be any thread."""
        self.complaints.append(text)
        raise GoneError(text)

    def acknowledged(self) -> set[int]:
        """The letters that the server has taken over by now."""
        return {letter.number for letter in list(self.letters) if letter.acknowledged}

    # --- load -------------------------------------------------------------------------------------

    def start(self, smtp: int, submission: int, *, clients: int = 6, submitters: int = 2) -> list[threading.Thread]:
        """Clients that send as fast as they can until the server is gone or `is_stopped` is set. Join them."""
        self.is_stopped.clear()
        threads = [threading.Thread(target=self._client, args=(smtp, "smtp")) for _ in range(clients)]
        threads += [threading.Thread(target=self._client, args=(submission, "submission")) for _ in range(submitters)]
        for thread in threads:
            thread.start()
        return threads

    def stop(self, threads: Iterable[threading.Thread]) -> None:
        self.is_stopped.set()
        for thread in threads:
            thread.join(4 * PATIENCE)
            assert not thread.is_alive(), "a client hangs: the server neither answers nor closes"

    def _client(self, port: int, door: str) -> None:
        try:
            self._talk(port, door)
        except GoneError:
            pass  # killed, as it should be
        except TimeoutError as late:
            self.complaints.append(f"{door}: no answer: {late}")

    def _talk(self, port: int, door: str) -> None:
        with Line(port) as line:
            line.reply()
            line.say("EHLO client.witness.test")
            if door == "submission":
                secret = base64.b64encode(f"\0{self.sender}\0{PASSWORD}".encode()).decode()
                reply = line.say(f"AUTH PLAIN {secret}")[0]
                if not reply.startswith("235"):
                    self._complain(f"AUTH: {reply}")
            while not self.is_stopped.is_set():
                self.send(line, self._next(door))
            line.say("QUIT")

    # --- reading ----------------------------------------------------------------------------------

    def read(self, port: int, name: str, *, deletes: float = 0.0) -> list[str]:
        """Look through a mailbox; letters not seen before are fetched and compared. What is wrong, in sentences.

        `deletes`: the share of letters to delete at the end. Raises GoneError.
        """
        drop = self.drops.setdefault(name, Drop())
        wrong: list[str] = []
        with Line(port) as line:
            line.line()
            line.ask(f"USER {name}")
            answer = line.ask(f"PASS {PASSWORD}")
            assert answer.startswith(b"+OK"), answer
            here = {uid.decode(): int(number) for number, uid in (each.split() for each in line.listing("UIDL"))}
            lost = [uid for uid in drop.seen if uid not in here and uid not in drop.deleted | drop.doubtful]
            wrong += [f"{name}: letter {drop.seen[uid]} ({uid}) is gone" for uid in lost]
            back = [uid for uid in drop.deleted if uid in here]
            wrong += [f"{name}: letter {drop.seen[uid]} ({uid}) was deleted and is back" for uid in back]
            drop.deleted |= {uid for uid in drop.doubtful if uid not in here}
            drop.doubtful.clear()
            for uid, number in here.items():
                if uid not in drop.seen:
                    wrong += self._look_at(line, name, drop, uid, number)
            chosen = {uid for uid in here if self._reading.random() < deletes}
            for uid in chosen:
                line.ask(f"DELE {here[uid]}")
            drop.doubtful |= chosen
            if line.ask("QUIT").startswith(b"+OK"):
                drop.doubtful -= chosen
                drop.deleted |= chosen
                self.note("deleted", mailbox=name, uids=sorted(chosen))
        return wrong

    def _look_at(self, line: Line, name: str, drop: Drop, uid: str, number: int) -> list[str]:
        octets = b"".join(each + b"\r\n" for each in line.listing(f"RETR {number}"))
        letter = number_of(octets)
        if letter is None:
            return []  # not one of ours: a report
        drop.seen[uid] = letter
        content = self.content(self.letters[letter])
        return [] if octets.endswith(b"\r\n" + content) else [f"{name}: letter {letter} was changed"]

    # --- judging ----------------------------------------------------------------------------------

    def judge(
        self,
        queued: set[int],
        *,
        among: set[int] | None = None,
        peer: Sequence[bytes] = (),
        may_repeat: bool = False,
    ) -> list[str]:
        """What is wrong by now: letters that are lost, or more often there than anybody can explain.

        `queued`: letters in the queue, looked at BEFORE the mailboxes and `peer` were: what left it is found there.
        `among`: only of these letters is anything demanded. `may_repeat`: a restored queue sends again.
        """
        wrong, self.complaints = self.complaints, []
        arrived = Counter(number_of(each) for each in peer)
        copies = {name: Counter(drop.seen.values()) for name, drop in self.drops.items()}
        for letter in list(self.letters):
            is_wanted = letter.acknowledged > 0 and (among is None or letter.number in among)
            mailboxes = sorted({box for to in letter.to for box in self.ways[to].mailboxes})
            for box in mailboxes:
                count = copies.get(box, Counter())[letter.number]
                if is_wanted and not count and not (letter.door == "submission" and letter.number in queued):
                    wrong.append(f"letter {letter.number} ({letter.door}, {letter.size} octets) for {box} is lost")
                if count > letter.attempts and not (may_repeat or letter.door == "submission"):
                    wrong.append(f"letter {letter.number} is {count} times in {box}, sent {letter.attempts} times")
            is_forwarded = any(self.ways[to].is_forwarded for to in letter.to)
            if is_wanted and is_forwarded and not arrived[letter.number] and letter.number not in queued:
                wrong.append(f"letter {letter.number} ({letter.door}) for the peer is lost")
        for box, counter in copies.items():
            strays = [n for n in counter if not any(box in self.ways[to].mailboxes for to in self.letters[n].to)]
            wrong += [f"letter {number} lies in {box}, where it does not belong" for number in strays]
        return wrong


def number_of(octets: bytes) -> int | None:
    """Which letter of the witness this is."""
    start = octets.find(b"Message-ID: <")
    name, _, domain = octets[start + 13 : octets.find(b">", start)].partition(b"@")
    return int(name) if start >= 0 and domain == DOMAIN.encode() and name.isdigit() else None


# --- the admin API, over its socket ---------------------------------------------------------------


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("posthouse", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(self._path))


def ask_api(folder: Path, path: str) -> Any:
    """GET of a served data directory."""
    connection = _UnixConnection(folder / "control.sock")
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, (path, text)
        return json.loads(text)
    finally:
        connection.close()


def queued(folder: Path) -> set[int]:
    """The letters of the witness that wait in the queue."""
    found: set[int] = set()
    after: int | None = 0
    while after is not None:
        page = ask_api(folder, f"/v1/queue?after={after}")
        for letter in page["letters"]:
            number = number_of(b"Message-ID: <" + letter["message_id"].strip("<>").encode() + b">")
            if number is not None:
                found.add(number)
        after = page["after"]
    return found
