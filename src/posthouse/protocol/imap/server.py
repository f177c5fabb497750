# SPDX-License-Identifier: Apache-2.0
"""ImapServer: the server side of IMAP (RFC 9051, RFC 3501 and extensions). Octets in, events out; answers back.

Invariant: one event at a time, answered exactly once, in the order of the commands; the engine alone knows tags.
Messages of APPEND pass as chunks, and long answers are made piece by piece (`more`), so memory stays bounded.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

from posthouse.mail.search import asks_sequence
from posthouse.ports import TlsInfo
from posthouse.protocol.engine import LocalProtocolError, Signal
from posthouse.protocol.imap import admission, limits, table
from posthouse.protocol.imap.admission import Terms
from posthouse.protocol.imap.events import (
    AppendEnd,
    AuthResponse,
    AuthStart,
    CommandError,
    Compress,
    Disconnected,
    Event,
    Idle,
    IdleDone,
    Logout,
    MessageChunk,
    MessageStart,
    More,
    Opened,
    ReplaceEnd,
    Search,
    Sort,
    StartTls,
    Thread,
    Unauthenticate,
)
from posthouse.protocol.imap.parse_message import Appending
from posthouse.protocol.imap.parse_session import decode_base64
from posthouse.protocol.imap.pending import Head, Pending, literal_head
from posthouse.protocol.imap.streams import Streams
from posthouse.protocol.imap.strings import line_text
from posthouse.protocol.imap.table import COMMANDS, Command, State
from posthouse.protocol.imap.tokens import CommandFault, Cursor
from posthouse.protocol.inbox import Line

# Looked up for every event: a member of an enumeration costs 0.12 µs to reach by its class in Python 3.11.
_PAUSED = Signal.PAUSED
_NEED_DATA = Signal.NEED_DATA
_CONNECTED = State.CONNECTED
_AUTHENTICATING = State.AUTHENTICATING
_IDLING = State.IDLING
_CLOSED = State.CLOSED
_SECURING = State.SECURING
_DEAF = (_SECURING, _CLOSED)
_AUTHENTICATED = (State.AUTHENTICATED, State.SELECTED, State.IDLING)


class ImapServer:
    """Implements `protocol.engine.Engine[Event]`."""

    def __init__(self, terms: Terms = Terms(), *, offers_tls: bool = False) -> None:  # noqa: B008 - it is frozen
        self.state = State.CONNECTED
        self.tls: TlsInfo | None = None
        self.offers_tls = offers_tls
        self.terms = terms
        self.enabled: frozenset[str] = frozenset()
        self.is_rev2 = False  # IMAP4rev2 was enabled
        self.is_utf8 = False  # names are UTF-8: IMAP4rev2 or UTF8=ACCEPT was enabled
        self.is_uid_only = False
        self._streams = Streams()
        self._inbox = self._streams.inbox
        self._awaiting: Event | None = None
        self._tag = "*"  # of the command that is being answered
        self._row: Command | None = None
        self._before_idle = State.AUTHENTICATED
        self._pending: Pending | None = None  # a command of which lines or literals are still to come
        self._left = 0  # octets of the message or literal that comes now
        self._is_message = False  # they belong to a message, not to an argument
        self._literal: list[bytes] = []  # of an argument
        self._skip = 0  # octets of refused literals
        self._bad = 0  # commands refused one after the other
        self._goes_on: Signal | Event | None = None  # Signal.MORE, then More()
        self._start_tls = False
        self._is_stopping = False
        self._must_close = False  # with the next answer

    # --- engine -----------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        # In SECURING whatever is not TLS is injected plaintext (CVE-2011-0411): it never gets in.
        if not data or self.state not in _DEAF:
            self._streams.feed(data)

    def next_event(self) -> Event | Signal:
        if self._awaiting is not None:
            if self._goes_on is None:
                return _PAUSED
            event, self._goes_on = self._goes_on, More() if self._goes_on is Signal.MORE else None
            return event
        while True:
            event_or_none = self._advance()
            if event_or_none is not None:
                return event_or_none

    def _advance(self) -> Event | Signal | None:
        """One step; None where there is another one to take at once."""
        if self._start_tls:
            self._start_tls = False
            return Signal.START_TLS
        state = self.state
        if state is _CLOSED:
            return Signal.CLOSE
        if state is _CONNECTED:
            return self._give(Opened())
        if state is _SECURING:
            return _NEED_DATA
        if not self._streams.let_in():
            self._say_goodbye("[CLIENTBUG] That is not compressed")
            return Signal.CLOSE
        if self._skip:
            self._skip = self._inbox.skip(self._skip)
            return self._starved() if self._skip else None
        if self._left:
            return self._content()
        line = self._inbox.line()
        if line is None:
            return self._starved()
        if state is _AUTHENTICATING:
            return self._response(line)
        if state is _IDLING:
            return self._done(line)
        return self._line(line)

    def data_to_send(self) -> list[bytes | memoryview]:
        return self._streams.take_out()

    def wait_limit(self) -> float | None:
        if self._is_stopping:
            return limits.DRAIN_WAIT
        if self._left or self._skip:
            return limits.CONTENT_WAIT
        return table.WAIT_LIMITS[self.state]

    def tls_started(self, tls: TlsInfo) -> None:
        """After START_TLS; or before the first event, where the connection began with TLS."""
        if self.state is State.SECURING:
            self.state = State.NOT_AUTHENTICATED
            self._inbox.clear()
        self.tls = tls
        self.offers_tls = False

    def timed_out(self) -> None:
        """RFC 9051 §5.4: autologout."""
        self._say_goodbye("You were silent for too long")

    def shut_down(self) -> None:
        """At the next pause between commands."""
        self._is_stopping = True
        if self._awaiting is None and self._pending is None and not self._skip and self.state in table.IDLE:
            self._say_goodbye("[UNAVAILABLE] The server is stopping")

    # --- what a session asks ----------------------------------------------------------------------

    @property
    def tag(self) -> str:
        """Of the command that is being answered, for ESEARCH alone (RFC 9051 §7.3.4)."""
        return self._tag

    @property
    def is_held_back(self) -> bool:
        """Whether the client waits for leave with the message of MessageStart; else it comes anyway (RFC 7888 §4)."""
        coming = None if self._pending is None else self._pending.coming
        return coming is not None and coming.is_synchronizing

    @property
    def is_compressed(self) -> bool:
        return self._streams.is_compressed

    @property
    def is_protected(self) -> bool:
        """Whether a password may be said now."""
        return self.tls is not None or not self.terms.requires_tls

    @property
    def may_tell_expunge(self) -> bool:
        """Whether EXPUNGE and VANISHED may be told now (RFC 9051 §7.5.1)."""
        if self.state is _IDLING:
            return True
        event = self._awaiting
        if event is None or self._row is None or self._row.keeps_numbers:
            return False
        # RFC 9051 §6.4.9: what UID SEARCH says of message numbers must hold until it is answered.
        return not (isinstance(event, Search | Sort | Thread) and asks_sequence(event.key))

    # --- answers ----------------------------------------------------------------------------------

    def greet(self, text: str, code: str = "") -> None:
        """The answer to Opened; `bye` is the other."""
        if not isinstance(self._awaiting, Opened):
            raise LocalProtocolError("the greeting comes once, first")
        self._awaiting = None
        self.state = State.NOT_AUTHENTICATED
        self._streams.say(_status("*", "OK", text, code))
        if self._is_stopping:
            self.shut_down()

    def tell(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Untagged responses, whole, before a tagged answer or while IDLE goes on."""
        if self.state not in _DEAF:
            self._streams.say_all(pieces)

    def more(self, pieces: Iterable[bytes | memoryview] = ()) -> None:
        """A part of the answer; the event `More` asks for the next once this part is on its way."""
        if self._awaiting is None:
            if self.state is _CLOSED:
                return
            raise LocalProtocolError("no event waits for an answer")
        self._streams.say_all(pieces)
        self._goes_on = Signal.MORE

    def ok(self, text: str, code: str = "") -> None:
        self._answer("OK", text, code)

    def no(self, text: str, code: str = "") -> None:
        self._answer("NO", text, code)

    def bad(self, text: str, code: str = "") -> None:
        self._answer("BAD", text, code)

    def refuse(self, error: CommandError) -> None:
        """The answer to CommandError."""
        self._answer("NO" if error.is_no else "BAD", error.text, error.code)

    def bye(self, text: str, code: str = "") -> None:
        """Say why and close, in place of an answer or after one."""
        self._say_goodbye(f"[{code}] {text}" if code else text)

    def challenge(self, data: bytes) -> None:
        """Answer AuthStart or AuthResponse: the exchange goes on (RFC 9051 §6.2.2)."""
        if not isinstance(self._awaiting, AuthStart | AuthResponse):
            raise LocalProtocolError("no authentication exchange waits for a challenge")
        self._streams.say(b"+ " + base64.b64encode(data) + b"\r\n")
        self._awaiting = None
        self.state = State.AUTHENTICATING

    def idle(self, text: str = "Waiting for news") -> None:
        """Answer Idle: from now on `tell` at any time."""
        if not isinstance(self._awaiting, Idle):
            raise LocalProtocolError("the client did not say IDLE")
        self._awaiting = None
        self._before_idle = self.state
        self.state = State.IDLING
        self._streams.say(f"+ {text}\r\n".encode())
        if self._is_stopping:
            self.shut_down()

    def go_on(self, text: str = "Go on") -> None:
        """Answer MessageStart: take the message."""
        if not isinstance(self._awaiting, MessageStart) or self._pending is None or self._pending.coming is None:
            raise LocalProtocolError("no message waits for leave")
        coming = self._pending.coming
        if coming.is_synchronizing:
            self._streams.say(f"+ {text}\r\n".encode())
        self._awaiting = None
        self._pending.count += 1
        self._left = coming.size
        self._is_message = True

    def enable(self, words: Iterable[str]) -> None:
        """What was asked for with ENABLE and is there: from now on it holds (RFC 5161 §3.1)."""
        self.enabled = self.enabled.union(word.upper() for word in words)
        self.is_rev2 = "IMAP4REV2" in self.enabled
        self.is_utf8 = self.is_rev2 or "UTF8=ACCEPT" in self.enabled
        self.is_uid_only = "UIDONLY" in self.enabled

    def deselected(self) -> None:
        """The mailbox has gone by what this client asked for: it goes on, with none selected."""
        if self.state is State.SELECTED:
            self.state = State.AUTHENTICATED

    def _answer(self, kind: str, text: str, code: str) -> None:
        event = self._awaiting
        if event is None or isinstance(event, Opened):
            if self.state is _CLOSED:
                return
            raise LocalProtocolError("no command waits for an answer")
        self._awaiting = None
        self._goes_on = None
        answer = _status(self._tag, kind, text, code)
        self._bad = self._bad + 1 if kind == "BAD" else 0
        if isinstance(event, MessageStart):
            self._refuse_message(answer)
        else:
            if isinstance(event, Logout):
                self._streams.say(b"* BYE Logging out\r\n")
            self._streams.say(answer)
            self._follow(event, is_success=kind == "OK")
        if self._must_close or self._bad >= limits.MAX_BAD_IN_A_ROW:
            self._say_goodbye("Closing the connection")
        elif self._is_stopping:
            self.shut_down()

    def _follow(self, event: Event, *, is_success: bool) -> None:
        """Where an answer leads."""
        row, self._row = self._row, None
        if isinstance(event, AuthStart | AuthResponse):
            self.state = State.AUTHENTICATED if is_success else State.NOT_AUTHENTICATED
            return
        if row is None:
            return
        then = row.then if is_success else row.otherwise
        if isinstance(event, CommandError):
            # SELECT that is not well formed has not been tried: what was selected stays (RFC 9051 §6.3.2).
            return
        if then is State.CLOSED:
            self._close()
        elif then is not None:
            self.state = then
        if not is_success:
            return
        match event:
            case StartTls():
                self._inbox.clear()
                self._start_tls = True
            case Compress():
                self._streams.compress()
            case Unauthenticate():
                self._forget()
            case _:
                pass

    def _forget(self) -> None:
        """RFC 8437 §4.1: all that belonged to the person ends, compression too."""
        self.enabled = frozenset()
        self.is_rev2 = self.is_utf8 = self.is_uid_only = False
        self._streams.end_compression()

    # --- lines ------------------------------------------------------------------------------------

    def _give(self, event: Event) -> Event:
        self._awaiting = event
        return event

    def _error(self, fault: CommandFault) -> Event:
        return self._give(CommandError(fault.text, fault.code, fault.is_no, fault.forgets_saved))

    def _starved(self) -> Event | Signal | None:
        if self._streams.has_more:
            return None
        if not self._inbox.is_eof:
            return _NEED_DATA
        self._close()
        return Disconnected()

    def _line(self, line: bytes | Line) -> Event | None:
        pending = self._pending
        if not isinstance(line, bytes):
            return self._long_line(pending, line)
        head = literal_head(line)
        if pending is None:
            pending = self._begin(line)
            line = line[len(line) - len(pending.text) :]
            pending.text = b""
        if pending.fault is None and (b"\0" in line or b"\r" in line or b"\n" in line):
            pending.fault = CommandFault("A line holds a character that no command has", "CLIENTBUG")
        if pending.fault is None:
            pending.add_line(line, is_open=head is not None)
            try:
                admission.check_size(pending, is_logged_in=self.state in _AUTHENTICATED)
                if head is not None:
                    event = self._literal_begins(pending, head)
                    self._pending = pending
                    return event
            except CommandFault as fault:
                pending.fault = fault
        if head is not None and (not head.waits or pending.answer):
            return self._skip_literal(pending, head)
        self._pending = None
        self._tag = pending.tag
        return self._finish(pending)

    def _begin(self, line: bytes) -> Pending:
        """tag SP command-name; the rest of the line is left in `text`."""
        cursor = Cursor(line)
        pending = Pending("*")
        try:
            pending.tag = cursor.tag()
            cursor.space()
            verb = cursor.atom().encode("ascii").upper()
            if verb == b"UID":
                cursor.space()
                verb = b"UID " + cursor.atom().encode("ascii").upper()
                pending.by_uid = True
            pending.text = line[cursor.position :]
            row = COMMANDS.get(verb)
            if row is None:
                raise CommandFault("There is no such command", "CLIENTBUG")
            admission.check_command(row, self.state, is_protected=self.is_protected, is_uid_only=self.is_uid_only)
            pending.row = row
        except CommandFault as fault:
            pending.fault = fault
        return pending

    def _finish(self, pending: Pending) -> Event | None:
        """Every line of the command is here."""
        if pending.answer:  # the session has refused it already
            self._streams.say(pending.answer)
            if self._is_stopping:
                self.shut_down()
            return None
        self._row = pending.row
        if pending.fault is not None:
            return self._error(pending.fault)
        assert pending.row is not None
        try:
            if pending.count:
                return self._appended(pending, pending.finish_messages(is_utf8=self.is_utf8))
            found = pending.row.parse(pending.cursor(is_utf8=self.is_utf8))
            if isinstance(found, Appending):
                raise CommandFault("A message is needed, as a literal", "CLIENTBUG")
            admission.check_event(
                found,
                offers_tls=self.offers_tls,
                tls=self.tls,
                is_compressed=self.is_compressed,
                enabled=self.enabled,
            )
        except CommandFault as fault:
            return self._error(fault)
        return self._give(found)

    def _appended(self, pending: Pending, appending: Appending) -> Event:
        if appending.replaces is not None:
            return self._give(ReplaceEnd(appending.mailbox, *appending.replaces))
        return self._give(AppendEnd(appending.mailbox, pending.count))

    def _long_line(self, pending: Pending | None, line: Line) -> Event:
        """A line without bounds: one answer, and where its end is not known the connection closes behind it."""
        self._must_close = line is Line.ENDLESS
        self._row = None
        self._pending = None
        if pending is not None:
            self._tag = pending.tag
        else:
            try:
                self._tag = Cursor(self._inbox.long_line).tag()
            except CommandFault:
                self._tag = "*"
        return self._error(CommandFault("The line is too long", "LIMIT"))

    # --- literals ---------------------------------------------------------------------------------

    def _literal_begins(self, pending: Pending, head: Head) -> Event | None:
        """A literal is announced at the end of a line: a message, or an argument."""
        row = pending.row
        assert row is not None
        admission.check_non_synchronizing(head, self.terms)
        if row.parse in _APPENDS:
            coming = pending.next_message(is_utf8=self.is_utf8)
            if coming is not None:
                return self._message_begins(pending)
        pending.size += head.size
        admission.check_size(pending, is_logged_in=self.state in _AUTHENTICATED)
        if head.waits:
            self._streams.say(b"+ Go on\r\n")
        self._left = head.size
        self._is_message = False
        if not head.size:
            pending.literals.append(b"")
        return None

    def _message_begins(self, pending: Pending) -> Event:
        coming, appending = pending.coming, pending.appending
        assert coming is not None
        assert appending is not None
        admission.check_message(coming, self.terms)
        self._tag = pending.tag
        self._row = pending.row
        return self._give(
            MessageStart(
                appending.mailbox,
                pending.count,
                coming.size,
                coming.flags,
                coming.internal_date,
                coming.is_binary,
                coming.is_utf8,
                appending.replaces,
            )
        )

    def _refuse_message(self, answer: bytes) -> None:
        """NO or BAD to MessageStart: a client that waits for leave has said all; others go on, and are not heard."""
        pending = self._pending
        self._row = None
        if pending is None or pending.coming is None or pending.coming.is_synchronizing:
            self._pending = None
            self._streams.say(answer)
            return
        pending.answer = answer
        pending.fault = CommandFault("refused")
        self._skip_literal(pending, Head(pending.coming.size, waits=False))

    def _skip_literal(self, pending: Pending, head: Head) -> Event | None:
        """The command is refused, but its literal comes without waiting (RFC 7888 §4)."""
        if head.waits:
            # Nothing is sent for it, as the answer is already due: the command ends here.
            self._pending = None
            return self._finish(pending)
        pending.skipped += head.size
        if pending.skipped > limits.MAX_SKIP:
            self._pending = None
            self._must_close = True
            self._tag = pending.tag
            if pending.answer:
                self._streams.say(pending.answer)
                self._say_goodbye("[TOOBIG] Closing the connection")
                return None
            return self._finish(pending)
        self._pending = pending
        self._skip = head.size
        return None

    def _content(self) -> Event | Signal | None:
        """Octets of a message, as they come, or of an argument."""
        data = self._inbox.take(self._left)
        if not data:
            return self._starved()
        self._left -= len(data)
        if self._is_message:
            return MessageChunk(data)
        self._literal.append(data)
        if not self._left and self._pending is not None:
            self._pending.literals.append(b"".join(self._literal))
            self._literal = []
        return None

    # --- lines that are no commands ---------------------------------------------------------------

    def _response(self, line: bytes | Line) -> Event:
        self.state = State.NOT_AUTHENTICATED
        if not isinstance(line, bytes) or len(line) > limits.MAX_AUTH_LINE:
            self._must_close = line is Line.ENDLESS
            return self._error(CommandFault("The response is too long", "LIMIT"))
        if line == b"*":
            return self._error(CommandFault("Authentication cancelled"))
        try:
            return self._give(AuthResponse(decode_base64(line)))
        except CommandFault as fault:
            return self._error(fault)

    def _done(self, line: bytes | Line) -> Event:
        """idle = "IDLE" CRLF "DONE" """
        self.state = self._before_idle
        if isinstance(line, bytes) and line.upper() == b"DONE":
            return self._give(IdleDone())
        self._must_close = line is Line.ENDLESS
        return self._error(CommandFault("IDLE ends with DONE", "CLIENTBUG"))

    # --- the end ----------------------------------------------------------------------------------

    def _say_goodbye(self, text: str) -> None:
        if self.state not in _DEAF:
            self._streams.say(f"* BYE {text}\r\n".encode())
        self._close()

    def _close(self) -> None:
        self.state = State.CLOSED
        self._awaiting = None
        self._goes_on = None
        self._pending = None
        self._literal = []
        self._left = self._skip = 0
        self._start_tls = False
        self._inbox.clear()


_APPENDS = (COMMANDS[b"APPEND"].parse, COMMANDS[b"REPLACE"].parse)


def _status(tag: str, kind: str, text: str, code: str) -> bytes:
    text = line_text(text)
    return f"{tag} {kind} [{code}] {text}\r\n".encode() if code else f"{tag} {kind} {text}\r\n".encode()
