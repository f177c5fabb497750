# SPDX-License-Identifier: Apache-2.0
"""ImapClient: the client side of IMAP, for tests and migration. Commands in, octets out; octets in, responses out.

Commands may be sent before those before them are answered. Invariant: a literal waits for the server's leave unless
the server said that it need not (RFC 7888); a server that breaks the protocol raises RemoteProtocolError.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from posthouse.protocol.engine import LocalProtocolError, RemoteProtocolError, Signal
from posthouse.protocol.imap.client_words import Literal, Word, astring, flag_list, mailbox, raw
from posthouse.protocol.imap.deflate import Deflater, Inflater
from posthouse.protocol.imap.response_reader import Response, ResponseReader, Value, values_of
from posthouse.protocol.imap.strings import date_time

# RFC 9051 §5.4: the server waits half an hour for us; searches of a large mailbox may take it minutes.
WAIT_LIMIT = 1800.0
LITERAL_MINUS = 4096  # octets of a literal that need not wait (RFC 7888 §5)

_STATUS = re.compile(rb"(OK|NO|BAD|BYE|PREAUTH)(?: \[([^\]]*)\])?(?: (.*))?\Z", re.IGNORECASE | re.DOTALL)
_NUMBERED = re.compile(rb"([0-9]{1,10}) ([A-Za-z]+)")


@dataclass(frozen=True, slots=True)
class Status:
    """OK, NO, BAD, BYE or PREAUTH. `tag` None: untagged. `code`: the words of the response code, upper case first."""

    tag: str | None
    kind: str
    code: str
    text: str

    @property
    def is_ok(self) -> bool:
        return self.kind == "OK"


@dataclass(frozen=True, slots=True)
class Untagged:
    """Any other response: its name in upper case, and what follows it."""

    name: str
    values: tuple[Value, ...]
    number: int | None = None  # EXISTS, EXPUNGE, RECENT


@dataclass(frozen=True, slots=True)
class Fetched:
    """FETCH and UIDFETCH: items by their names in upper case."""

    number: int
    items: dict[str, Value]
    is_uid: bool = False


@dataclass(frozen=True, slots=True)
class Challenge:
    """AUTHENTICATE goes on: answer with `respond` or `cancel`."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Idling:
    """The server has taken IDLE: end it with `done`."""


Event = Status | Untagged | Fetched | Challenge | Idling


class _Kind(Enum):
    PLAIN = auto()
    AUTH = auto()
    IDLE = auto()
    TLS = auto()
    COMPRESS = auto()
    UNAUTHENTICATE = auto()


@dataclass(slots=True)
class _Unsaid:
    """A command, or what is left of it: pieces with a wait between them."""

    tag: str
    kind: _Kind
    pieces: deque[bytes]


class ImapClient:
    """Sans I/O. The greeting is the first event. `next_event` never pauses: read on until NEED_DATA or CLOSE."""

    def __init__(self) -> None:
        self.capabilities: frozenset[str] = frozenset()  # as the server said last, upper case
        self.is_utf8 = False  # set it once UTF8=ACCEPT or IMAP4rev2 is enabled: names are UTF-8 then
        self._reader = ResponseReader()
        self._out: list[bytes | memoryview] = []
        self._unsaid: deque[_Unsaid] = deque()  # the first may be under way, and waits for leave
        self._expected: dict[str, _Kind] = {}  # commands that are said and not answered
        self._count = 0
        self._is_greeted = False
        self._is_ended = False
        self._is_challenged = False
        self._is_idling = False
        self._deflater: Deflater | None = None
        self._inflater: Inflater | None = None
        self._ending: Inflater | None = None  # the end of the server's stream is still to come

    # --- saying -----------------------------------------------------------------------------------

    def command(self, *words: Word | str) -> str:
        """Any command: words as `raw` takes them, or dressed already. Its tag."""
        return self._command(words, _Kind.PLAIN)

    def login(self, name: str, password: str) -> str:
        return self.command("LOGIN", astring(name), astring(password))

    def authenticate(self, mechanism: str, initial: bytes | None = None) -> str:
        """An initial response needs SASL-IR (RFC 4959)."""
        words: list[Word | str] = ["AUTHENTICATE", mechanism]
        if initial is not None:
            words.append(base64.b64encode(initial) or b"=")
        return self._command(words, _Kind.AUTH)

    def respond(self, data: bytes) -> None:
        self._answer_challenge(base64.b64encode(data))

    def cancel(self) -> None:
        self._answer_challenge(b"*")

    def start_tls(self) -> str:
        """After its OK `next_event` gives START_TLS."""
        return self._alone("STARTTLS", _Kind.TLS)

    def compress(self) -> str:
        """From its OK on everything is compressed (RFC 4978)."""
        return self._alone("COMPRESS DEFLATE", _Kind.COMPRESS)

    def unauthenticate(self) -> str:
        """RFC 8437."""
        return self._alone("UNAUTHENTICATE", _Kind.UNAUTHENTICATE)

    def select(self, name: str, *, is_read_only: bool = False) -> str:
        return self.command("EXAMINE" if is_read_only else "SELECT", mailbox(name, is_utf8=self.is_utf8))

    def append(
        self, name: str, message: bytes, *, flags: Iterable[str] = (), internal_date: datetime | None = None
    ) -> str:
        words: list[Word | str] = ["APPEND", mailbox(name, is_utf8=self.is_utf8), flag_list(flags)]
        if internal_date is not None:
            words.append(date_time(internal_date))
        return self.command(*words, Literal(message, is_binary=b"\0" in message))

    def fetch(self, numbers: str, items: str, *, by_uid: bool = True) -> str:
        return self.command("UID FETCH" if by_uid else "FETCH", numbers, f"({items})")

    def idle(self) -> str:
        return self._command(("IDLE",), _Kind.IDLE)

    def done(self) -> None:
        if not self._is_idling:
            raise LocalProtocolError("the server is not idling")
        self._is_idling = False
        self._out.append(b"DONE\r\n")

    def logout(self) -> str:
        return self.command("LOGOUT")

    # --- hearing ----------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        if not data:
            self._is_ended = True
        elif self._inflater is not None:
            self._inflater.feed(data)
        elif self._ending is not None:
            self._end(self._ending, data)
        else:
            self._reader.feed(data)

    def next_event(self) -> Event | Signal:
        """Raises RemoteProtocolError when the server says what cannot be understood, or goes away in between."""
        while True:
            response = self._reader.next_response()
            if response is None:
                if self._inflater is not None and self._inflater.has_more:
                    self._inflate(self._inflater)
                    continue
                return self._wait()
            found = self._take(response)
            if found is not None:
                return found

    def data_to_send(self) -> list[bytes | memoryview]:
        out, self._out = self._out, []
        return self._deflater.pack(out) if self._deflater is not None and out else out

    def wait_limit(self) -> float | None:
        return WAIT_LIMIT

    def tls_started(self) -> None:
        """What the server said in the clear after its OK is thrown away (RFC 9051 §11.1)."""
        self._reader.take_all()
        self.capabilities = frozenset()

    # --- inside: saying ---------------------------------------------------------------------------

    def _command(self, words: Iterable[Word | str], kind: _Kind) -> str:
        if self._is_idling or any(known is _Kind.IDLE for known in self._expected.values()):
            raise LocalProtocolError("say done first")
        self._count += 1
        tag = f"c{self._count}"
        pieces: deque[bytes] = deque()
        text = tag.encode("ascii")
        for word in words:
            if isinstance(word, Literal):
                size = len(word.content)
                waits = not ("LITERAL+" in self.capabilities or (self._may_hurry and size <= LITERAL_MINUS))
                text += b" %b{%d%b}\r\n" % (b"~" if word.is_binary else b"", size, b"" if waits else b"+")
                if waits:
                    pieces.append(text)
                    text = b""
                text += word.content
            else:
                text += b" " + (raw(word) if isinstance(word, str) else word)
        pieces.append(text + b"\r\n")
        self._unsaid.append(_Unsaid(tag, kind, pieces))
        if len(self._unsaid) == 1:
            self._say_on()
        return tag

    @property
    def _may_hurry(self) -> bool:
        """IMAP4rev2 has LITERAL- in it (RFC 9051 §4.3)."""
        return "LITERAL-" in self.capabilities or "IMAP4REV2" in self.capabilities

    def _alone(self, line: str, kind: _Kind) -> str:
        if self._expected or self._unsaid:
            raise LocalProtocolError(f"{line} must be the only command under way")
        tag = self._command((line,), kind)
        if kind is _Kind.UNAUTHENTICATE and self._deflater is not None:
            # RFC 8437 §4.1: our layer ends behind the command.
            self._out = self._deflater.pack(self._out, is_last=True)
            self._deflater = None
        return tag

    def _say_on(self) -> None:
        """Say what may be said: up to the next literal that waits for leave."""
        while self._unsaid:
            command = self._unsaid[0]
            self._expected.setdefault(command.tag, command.kind)
            self._out.append(command.pieces.popleft())
            if command.pieces:
                return
            self._unsaid.popleft()

    def _answer_challenge(self, octets: bytes) -> None:
        if not self._is_challenged:
            raise LocalProtocolError("there is no challenge to answer")
        self._is_challenged = False
        self._out.append(octets + b"\r\n")

    # --- inside: hearing --------------------------------------------------------------------------

    def _take(self, response: Response) -> Event | Signal | None:
        line = response.lines[0]
        if line.startswith(b"+"):
            return self._continue(line[1:].lstrip(b" "))
        word, space, rest = line.partition(b" ")
        if not space:
            raise RemoteProtocolError(f"the server says {line[:80]!r}")
        if word != b"*":
            return self._tagged(word, rest)
        status = _STATUS.match(rest)
        if status is not None:
            self._is_greeted = True
            return self._status(None, status)
        if not self._is_greeted:
            raise RemoteProtocolError("the server does not begin with a greeting")
        return self._untagged(response, rest)

    def _continue(self, text: bytes) -> Event | None:
        if self._unsaid and len(self._unsaid[0].pieces) and self._unsaid[0].tag in self._expected:
            command = self._unsaid[0]
            self._out.append(command.pieces.popleft())
            if not command.pieces:
                self._unsaid.popleft()
                self._say_on()
            return None
        kinds = list(self._expected.values())
        if kinds and kinds[0] is _Kind.AUTH:
            try:
                data = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                raise RemoteProtocolError("the server's challenge is not base64") from None
            self._is_challenged = True
            return Challenge(data)
        if kinds and kinds[-1] is _Kind.IDLE and not self._is_idling:
            self._is_idling = True
            return Idling()
        raise RemoteProtocolError("the server asks for more when nothing is to come")

    def _tagged(self, word: bytes, rest: bytes) -> Event | Signal:
        tag = word.decode("ascii", "replace")
        status = _STATUS.match(rest)
        kind = self._expected.pop(tag, None)
        if kind is None or status is None:
            raise RemoteProtocolError(f"the server answers what nobody asked: {tag[:40]!r}")
        if self._unsaid and self._unsaid[0].tag == tag:  # refused in place of leave: the rest stays unsaid
            self._unsaid.popleft()
            self._say_on()
        found = self._status(tag, status)
        if kind is _Kind.IDLE:
            self._is_idling = False
        if kind is _Kind.AUTH:
            self._is_challenged = False
        if found.is_ok:
            if kind is _Kind.TLS:
                return Signal.START_TLS
            if kind is _Kind.COMPRESS:
                self._begin_compression()
            elif kind is _Kind.UNAUTHENTICATE:
                self._end_compression()
        return found

    def _status(self, tag: str | None, found: re.Match[bytes]) -> Status:
        code = (found[2] or b"").decode("utf-8", "replace")
        name, space, rest = code.partition(" ")
        if name.upper() == "CAPABILITY":
            self.capabilities = frozenset(rest.upper().split())
        text = (found[3] or b"").decode("utf-8", "replace")
        return Status(tag, found[1].decode("ascii").upper(), name.upper() + space + rest, text)

    def _untagged(self, response: Response, rest: bytes) -> Event:
        numbered = _NUMBERED.match(rest)
        if numbered is not None:
            number, name = int(numbered[1]), numbered[2].decode("ascii").upper()
            values = values_of(response, 2 + numbered.end())
            if name in ("FETCH", "UIDFETCH"):
                return Fetched(number, _items(values), name == "UIDFETCH")
            return Untagged(name, values, number)
        name = rest.partition(b" ")[0].decode("ascii", "replace").upper()
        values = values_of(response, 2 + len(rest.partition(b" ")[0]))
        if name == "CAPABILITY":
            self.capabilities = frozenset(value.upper() for value in values if isinstance(value, str))
        return Untagged(name, values)

    def _wait(self) -> Signal:
        if not self._is_ended:
            return Signal.NEED_DATA
        if self._expected or not self._reader.is_empty:
            raise RemoteProtocolError("the server closed the connection before it had answered")
        return Signal.CLOSE

    # --- compression ------------------------------------------------------------------------------

    def _begin_compression(self) -> None:
        self._deflater = Deflater()
        self._inflater = Inflater()
        self._inflater.feed(self._reader.take_all())

    def _inflate(self, inflater: Inflater) -> None:
        """One piece at a time: a small stream may hold a large answer."""
        try:
            self._reader.feed(inflater.read())
        except ValueError:
            raise RemoteProtocolError("the server's stream is not compressed") from None

    def _end_compression(self) -> None:
        if self._inflater is not None:
            self._end(self._inflater, b"")
            self._inflater = None

    def _end(self, inflater: Inflater, data: bytes) -> None:
        rest = inflater.end(data)
        self._ending = inflater if rest is None else None
        if rest:
            self._reader.feed(rest)


def _items(values: tuple[Value, ...]) -> dict[str, Value]:
    """msg-att = "(" name SP value … ")" """
    inside = values[0] if len(values) == 1 else None
    if not isinstance(inside, tuple) or len(inside) % 2:
        raise RemoteProtocolError("the server's FETCH is no list of items")
    found: dict[str, Value] = {}
    for name, value in zip(inside[::2], inside[1::2], strict=True):
        if not isinstance(name, str):
            raise RemoteProtocolError("an item of FETCH has no name")
        found[name.upper()] = value
    return found
