# SPDX-License-Identifier: Apache-2.0
"""Pop3Server: the server side of POP3 (RFC 1939, 2449, 2595, 5034, 6856). Octets in, events out; answers back.

Invariant: one event at a time, answered exactly once; letters leave through `letter` alone, which stuffs dots.
A long answer is made piece by piece as it goes out, so a letter of any size costs one piece of memory.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence

from posthouse.ports import TlsInfo
from posthouse.protocol.engine import LocalProtocolError, Signal
from posthouse.protocol.inbox import Inbox, Line
from posthouse.protocol.pop3 import table
from posthouse.protocol.pop3.commands import CommandFault, decode_base64
from posthouse.protocol.pop3.events import (
    AuthList,
    AuthResponse,
    AuthStart,
    CommandError,
    Disconnected,
    Event,
    Opened,
    Pass,
    Quit,
    Stls,
    User,
    Utf8,
)
from posthouse.protocol.pop3.replies import numbered, stuffed
from posthouse.protocol.pop3.table import COMMANDS, State

# Octets of one answer that are made at once; the rest waits until they are on their way.
BATCH = 256 * 1024

# Looked up for every event: a member of an enumeration costs 0.12 µs to reach by its class in Python 3.11.
_PAUSED = Signal.PAUSED
_NEED_DATA = Signal.NEED_DATA
_CONNECTED = State.CONNECTED
_AUTHENTICATING = State.AUTHENTICATING
_SECURING = State.SECURING
_CLOSED = State.CLOSED
_DEAF = (_SECURING, _CLOSED)
# Commands whose event depends on more than the state.
_JUDGED = frozenset((b"PASS", b"STLS", b"AUTH", b"QUIT"))


class Pop3Server:
    """Implements `protocol.engine.Engine[Event]`."""

    def __init__(self, *, offers_tls: bool = False, requires_tls: bool = False) -> None:
        """`requires_tls`: in plaintext no command is taken that carries a password."""
        self.state = State.CONNECTED
        self.tls: TlsInfo | None = None
        self.offers_tls = offers_tls
        self._requires_tls = requires_tls
        self._name = ""  # from USER
        self._awaiting: Event | None = None
        self._then: State | None = None  # where +OK leads
        self._inbox = Inbox(table.MAX_AUTH_LINE)
        self._out: list[bytes | memoryview] = []
        self._rest: Iterator[bytes | memoryview] | None = None  # of the answer that goes out now
        self.is_utf8 = False  # UTF8 was said and accepted (RFC 6856 §2.1)
        self._start_tls = False
        self._is_stopping = False
        self._must_close = False  # with the next answer
        self._is_gone = False  # Disconnected was given

    # --- engine -----------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        # In SECURING whatever is not TLS is injected plaintext (CVE-2011-0411): it never gets in.
        if not data or self.state not in _DEAF:
            self._inbox.feed(data)

    def next_event(self) -> Event | Signal:
        if self._awaiting is not None:
            return _PAUSED
        if self._rest is not None:
            self._pull(self._rest)
            return Signal.MORE
        if self._start_tls:
            self._start_tls = False
            return Signal.START_TLS
        state = self.state
        if state is _CLOSED:
            return Signal.CLOSE
        if state is _CONNECTED:
            return self._give(Opened(), State.AUTHORIZATION)
        if state is _SECURING:
            return _NEED_DATA
        line = self._inbox.line()
        if line is None:
            return self._starved()
        if state is _AUTHENTICATING:
            return self._response(line)
        return self._command(line)

    def data_to_send(self) -> list[bytes | memoryview]:
        out = self._out
        if out:
            self._out = []
        return out

    def wait_limit(self) -> float | None:
        if self._is_stopping:
            return table.DRAIN_WAIT
        return table.COMMAND_WAIT

    def tls_started(self, tls: TlsInfo) -> None:
        """After START_TLS; or before the first event, where the connection began with TLS."""
        if self.state is State.SECURING:
            self.state = State.AUTHORIZATION
            self._name = ""
            self._inbox.clear()
        self.tls = tls
        self.offers_tls = False

    def timed_out(self) -> None:
        """RFC 1939 §3: close "without removing any messages or sending any response to the client"."""
        self._close()

    def shut_down(self) -> None:
        """At the next pause between commands."""
        self._is_stopping = True
        is_idle = self._awaiting is None and self._rest is None
        if is_idle and self.state in (State.AUTHORIZATION, State.TRANSACTION):
            self._say_goodbye("-ERR [SYS/TEMP] The server is stopping\r\n")

    @property
    def is_protected(self) -> bool:
        """Whether a password may be said now."""
        return self.tls is not None or not self._requires_tls

    # --- answers ----------------------------------------------------------------------------------

    def ok(self, text: str = "") -> None:
        """+OK: the event succeeded."""
        self._out.append(f"+OK {text}\r\n".encode() if text else b"+OK\r\n")
        self._answered(is_success=True)

    def err(self, text: str, code: str = "") -> None:
        """-ERR with a response code (RFC 2449 §8): IN-USE, LOGIN-DELAY, SYS/TEMP, SYS/PERM, AUTH, UTF8."""
        self._out.append(f"-ERR [{code}] {text}\r\n".encode() if code else f"-ERR {text}\r\n".encode())
        self._answered(is_success=False)

    def end(self, text: str) -> None:
        """Say why and close, after an answer."""
        self._say_goodbye(f"-ERR [SYS/TEMP] {text}\r\n")

    def challenge(self, data: bytes) -> None:
        """Answer AuthStart or AuthResponse: the exchange goes on (RFC 5034 §4)."""
        if not isinstance(self._awaiting, AuthStart | AuthResponse):
            raise LocalProtocolError("no authentication exchange waits for a challenge")
        self._out.append(b"+ " + base64.b64encode(data) + b"\r\n")
        self._awaiting = None
        self.state = State.AUTHENTICATING

    def listing(self, text: str, lines: Iterable[str]) -> None:
        """A multi-line answer of a few short lines that do not begin with a dot; see `rows` for many."""
        body = "\r\n".join(lines)
        self._out.append(f"+OK {text}\r\n{body}\r\n.\r\n".encode() if body else f"+OK {text}\r\n.\r\n".encode())
        self._answered(is_success=True)

    def rows(self, text: str, row: bytes, pairs: Iterable[tuple[int, int]]) -> None:
        """LIST or UIDL: a line for each pair, `row` such as b"%d %d". Any number of them."""
        self._out.append(f"+OK {text}\r\n".encode())
        self._pull(numbered(row, pairs))
        self._answered(is_success=True)

    def letter(self, text: str, parts: Sequence[bytes | memoryview], *, has_dot_lines: bool) -> None:
        """RETR or TOP: the parts one after the other, dots stuffed (RFC 1939 §3), ended by `.`.

        Without dot lines the parts are sent as they are, not copied.
        """
        self._out.append(f"+OK {text}\r\n".encode())
        self._pull(stuffed(parts, has_dot_lines=has_dot_lines))
        self._answered(is_success=True)

    def _pull(self, pieces: Iterator[bytes | memoryview]) -> None:
        """Make the next batch of an answer ready to go."""
        size = 0
        for piece in pieces:
            self._out.append(piece)
            size += len(piece)
            if size >= BATCH:
                self._rest = pieces
                return
        self._rest = None
        if self._is_stopping and self._awaiting is None:
            self.shut_down()

    def _answered(self, *, is_success: bool) -> None:
        event, self._awaiting = self._awaiting, None
        if event is None:
            if self.state is State.CLOSED:
                return
            raise LocalProtocolError("no event waits for an answer")
        if self._must_close or isinstance(event, Quit) or (isinstance(event, Opened) and not is_success):
            self._close()
        elif is_success:
            if isinstance(event, Stls):
                self._inbox.clear()
                self._start_tls = True
            if isinstance(event, User):
                self._name = event.name
            if isinstance(event, Utf8):
                self.is_utf8 = True
            if self._then is not None:
                self.state = self._then
        elif isinstance(event, Pass | AuthStart | AuthResponse):
            self._name = ""
        if self._is_stopping and self.state in (State.AUTHORIZATION, State.TRANSACTION):
            self.shut_down()

    # --- commands ---------------------------------------------------------------------------------

    def _give(self, event: Event, then: State | None = None) -> Event:
        self._awaiting = event
        self._then = then
        return event

    def _refuse(self, text: str, code: str = "") -> Event:
        return self._give(CommandError(text, code))

    def _starved(self) -> Event | Signal:
        if not self._inbox.is_eof:
            return _NEED_DATA
        if self._is_gone:
            self._close()
            return Signal.CLOSE
        self._is_gone = True
        self.state = State.CLOSED
        return Disconnected()

    def _command(self, line: bytes | Line) -> Event:
        if not isinstance(line, bytes) or len(line) + 2 > table.MAX_LINE:
            return self._hopeless() if line is Line.ENDLESS else self._refuse("The line is too long")
        if b"\0" in line or b"\r" in line or b"\n" in line:
            return self._refuse("A line holds a character that no command has")
        keyword, _, argument = line.partition(b" ")
        verb = keyword.upper()
        row = COMMANDS.get(verb)
        if row is None:
            return self._refuse("Unknown command")
        if self.state not in row.legal:
            return self._refuse(self._why_not(row))
        if row.needs_tls and not self.is_protected:
            return self._refuse("Say STLS first: no password crosses an unprotected connection", "SYS/PERM")
        try:
            # RFC 1939 §7: only a password may end in blanks.
            event = row.parse(argument if verb == b"PASS" else argument.strip(b" "))
        except CommandFault as fault:
            return self._refuse(fault.text, fault.code)
        return self._judge(event, row) if verb in _JUDGED else self._give(event, row.then)

    def _judge(self, event: Event, row: table.Command) -> Event:
        match event:
            case Pass(_, password):
                if not self._name:
                    return self._refuse("USER comes before PASS")
                return self._give(Pass(self._name, password), row.then)
            case Stls() if not self.offers_tls:
                return self._refuse("TLS is active already" if self.tls else "TLS is not available here")
            case Stls() if self.is_utf8:
                return self._refuse("STLS comes before UTF8")  # RFC 6856 §2.1: clients MUST NOT, we may refuse
            case AuthList():
                return self._give(event)  # a list is no login: the state stays
            case Quit() if self.state is State.TRANSACTION:
                self.state = State.UPDATE
                return self._give(Quit(is_update=True), row.then)
            case _:
                return self._give(event, row.then)

    def _why_not(self, row: table.Command) -> str:
        if State.TRANSACTION in row.legal:
            return "Log in first"
        return "Not after login"

    def _response(self, line: bytes | Line) -> Event:
        self.state = State.AUTHORIZATION
        if line is Line.ENDLESS:
            return self._hopeless()
        if not isinstance(line, bytes):
            return self._refuse("The response is too long", "AUTH")
        if line == b"*":
            return self._refuse("Authentication cancelled", "AUTH")
        try:
            return self._give(AuthResponse(decode_base64(line)), State.TRANSACTION)
        except CommandFault as fault:
            return self._refuse(fault.text, fault.code)

    def _hopeless(self) -> Event:
        """The line has no end in sight: one answer, and the connection closes behind it."""
        self._must_close = True
        return self._refuse("The line does not end, closing")

    def _say_goodbye(self, text: str) -> None:
        if self.state not in (State.CLOSED, State.SECURING):
            self._out.append(text.encode())
        self._close()

    def _close(self) -> None:
        self.state = State.CLOSED
        self._awaiting = None
        self._rest = None
        self._start_tls = False
        self._inbox.clear()
