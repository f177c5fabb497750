# SPDX-License-Identifier: Apache-2.0
"""SmtpServer: the server side of SMTP, submission and LMTP. Octets in, events out; replies in, octets out.

Its invariant: one event at a time. The next command is not looked at before the last one is answered, so
pipelined commands are answered in order and decided on what the answers before them made true.
What is legal when stands in table.py; what lines mean in commands.py; what content is in data.py.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from posthouse.mail.address import Domain
from posthouse.outcome import Status
from posthouse.ports import TlsInfo
from posthouse.protocol.engine import LocalProtocolError, Signal
from posthouse.protocol.inbox import Inbox, Line
from posthouse.protocol.smtp import extensions, faults, table
from posthouse.protocol.smtp.commands import Chunk, Context, decode_base64
from posthouse.protocol.smtp.data import MAX_DISCARD, ChunkReader, DotReader
from posthouse.protocol.smtp.events import (
    AuthResponse,
    AuthStart,
    BodyChunk,
    ChunkEnd,
    CommandError,
    DataStart,
    Disconnected,
    Event,
    Hello,
    MailFrom,
    MessageBad,
    MessageEnd,
    Opened,
    RcptTo,
    Reset,
    StartTls,
)
from posthouse.protocol.smtp.extensions import Mode
from posthouse.protocol.smtp.faults import CommandFault
from posthouse.protocol.smtp.replies import Reply
from posthouse.protocol.smtp.table import Answer, Command, State

DEFAULT_MAX_MESSAGE_SIZE = 50 * 1024 * 1024  # octets; what large providers take, with base64's third on top
DEFAULT_MAX_RECIPIENTS = 1000  # per transaction; RFC 5321 §4.5.3.1.8 asks for at least 100

# Looked up for every event: a member of an enumeration costs 0.12 µs to reach by its class in Python 3.11.
_PAUSED = Signal.PAUSED
_NEED_DATA = Signal.NEED_DATA
_CLOSED = State.CLOSED
_AUTHENTICATING = State.AUTHENTICATING


class SmtpServer:
    """Implements `protocol.engine.Engine[Event]`. All sizes in octets."""

    def __init__(
        self,
        *,
        hostname: str,
        mode: Mode = Mode.MX,
        max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE,
        max_recipients: int = DEFAULT_MAX_RECIPIENTS,
        offers_tls: bool = False,
        requires_tls: bool = False,
        requires_auth: bool = False,
        auth_needs_tls: bool = True,
        offers_requiretls: bool = False,
    ) -> None:
        """`hostname`: a domain name (AddressError otherwise). `requires_tls`: in plaintext 530 to all but EHLO,
        STARTTLS, NOOP and QUIT. `requires_auth`: 530 to MAIL and what follows it, VRFY and EXPN, before AUTH.
        `auth_needs_tls`: in plaintext AUTH is neither offered nor taken. `offers_requiretls`: within TLS.
        """
        self.mode = mode
        self.state = State.CONNECTED
        self.tls: TlsInfo | None = None
        self.is_authenticated = False
        self.accepted_recipients = 0  # RCPT answered with success in this transaction
        self.talks_early = False  # the client sent something before a reply that it had to await (RFC 2920 §3.1)
        self._is_lmtp = mode is Mode.LMTP
        self._hostname = hostname
        self._commands = table.COMMANDS[mode]
        self._max_message_size = max_message_size
        self._max_recipients = max_recipients
        self._offers_tls = offers_tls
        self._requires_tls = requires_tls
        self._requires_auth = requires_auth
        self._auth_needs_tls = auth_needs_tls
        self._offers_requiretls = offers_requiretls
        self._mechanisms: tuple[str, ...] = ()
        self._context = Context(Domain.parse(hostname))

        self._awaiting: Event | None = None  # the event that waits for its answer …
        self._answer = table.REFUSAL  # … and where its answers lead
        self._queued: tuple[Event, Answer] | None = None  # what comes right after a BodyChunk or a skipped chunk
        self._must_close = False  # after the next reply
        self._is_stopping = False
        self._start_tls = False  # Signal.START_TLS is due

        self._inbox = Inbox(table.MAX_AUTH_LINE)
        self._reader: DotReader | ChunkReader | None = None  # reads content now
        self._chunks: ChunkReader | None = None  # the BDAT chunks of this transaction
        self._skip = 0  # octets of a refused BDAT chunk still to be thrown away
        self._out: list[bytes | memoryview] = []

    @property
    def unread_octets(self) -> int:
        """Octets fed and not used up yet, for the driver's bound."""
        return self._inbox.unread

    @property
    def transmission_type(self) -> str:
        """The "with" word of Received for this transaction (RFC 3848)."""
        return extensions.transmission_type(
            self.mode,
            is_extended=self._context.is_extended,
            is_protected=self.tls is not None,
            is_authenticated=self.is_authenticated,
            smtputf8=self._context.smtputf8,
        )

    # --- engine: octets in, events out ------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        # In SECURING whatever is not TLS is injected plaintext (CVE-2011-0411): it never gets in.
        if not data or self.state not in table.DEAF:
            self._inbox.feed(data)

    def next_event(self) -> Event | Signal:
        if self._awaiting is not None:
            return _PAUSED
        while True:
            event = self._advance()
            if event is not None:
                return event

    def data_to_send(self) -> list[bytes | memoryview]:
        out = self._out
        if out:
            self._out = []
        return out

    def wait_limit(self) -> float | None:
        limit = table.WAIT_LIMITS[State.CONTENT if self._skip else self.state]
        return min(limit, table.DRAIN_WAIT) if self._is_stopping else limit

    def tls_started(self, tls: TlsInfo) -> None:
        """After START_TLS; or before the first event, where the connection began with TLS (RFC 8314 §3.3)."""
        if self.state is State.SECURING:
            # RFC 3207 §4.2: back to the state after the greeting; nothing said before counts.
            self.state = State.GREETED
            self._context = Context(self._context.host)
            self._mechanisms = ()
            self.is_authenticated = False
            self._inbox.clear()
        elif self.state is not State.CONNECTED:
            raise LocalProtocolError(f"TLS cannot start in state {self.state.name}")
        self.tls = tls

    def timed_out(self) -> None:
        if self.state is State.SECURING:
            self._close()  # in the middle of a handshake there is nothing that could be said
        elif self.state is not State.CLOSED:
            self._say_goodbye(Status(4, 4, 2), "Timeout")

    def shut_down(self) -> None:
        """A transaction that has begun may end, within `DRAIN_WAIT` per step; then 421 and CLOSE."""
        self._is_stopping = True
        if self._awaiting is None and self.state in table.IDLE:
            self._say_goodbye(Status(4, 3, 2), "Service shutting down")

    # --- session: answers in, octets out ----------------------------------------------------------

    def send(self, reply: Reply) -> None:
        """Answer the event that waits. Raises LocalProtocolError where the table does not allow this reply.

        421 and 521 close the connection after any event. To MessageEnd and MessageBad in LMTP the reply is
        said once for every accepted recipient. After the end of the connection nothing is sent.
        """
        if isinstance(self._awaiting, Hello) and reply.code == 250:
            raise LocalProtocolError("EHLO is accepted with accept_hello")
        count = 1
        if self._is_lmtp and self._answer in table.ENDS_OF_CONTENT and reply.code not in table.FAREWELLS:
            count = self.accepted_recipients
        self._reply([reply] * count)

    def send_each(self, replies: Sequence[Reply]) -> None:
        """LMTP: answer MessageEnd with one reply per accepted recipient, in the order of RCPT (RFC 2033 §4.2)."""
        if self.state is not State.CLOSED:
            if not self._is_lmtp or not isinstance(self._awaiting, MessageEnd):
                raise LocalProtocolError("one reply per recipient is for the end of content in LMTP")
            if len(replies) != self.accepted_recipients:
                raise LocalProtocolError(f"{self.accepted_recipients} replies are due, not {len(replies)}")
        self._reply(replies)

    def accept_hello(self, mechanisms: tuple[str, ...] = ()) -> None:
        """Answer Hello with 250. To EHLO and LHLO the extensions are listed, with these SASL mechanisms."""
        hello = self._awaiting
        if self.state is State.CLOSED:
            return
        if not isinstance(hello, Hello):
            raise LocalProtocolError("no EHLO waits for its answer")
        lines: tuple[str, ...] = (self._hostname,)
        self._context.is_extended = hello.verb != "HELO"
        self._context.requiretls = self._offers_requiretls and self.tls is not None and self._context.is_extended
        self._mechanisms = () if self._auth_needs_tls and self.tls is None else mechanisms
        if self._context.is_extended:
            lines += extensions.keywords(
                max_message_size=self._max_message_size,
                max_recipients=self._max_recipients,
                offers_tls=self._offers_tls and self.tls is None,
                mechanisms=() if self.is_authenticated else self._mechanisms,
                offers_requiretls=self._context.requiretls,
            )
        self._reply((Reply(250, None, lines),))

    def challenge(self, data: bytes) -> None:
        """Answer AuthStart or AuthResponse with 334: the exchange goes on (RFC 4954 §4)."""
        if self.state is State.CLOSED:
            return
        if not isinstance(self._awaiting, AuthStart | AuthResponse):
            raise LocalProtocolError("no authentication exchange waits for a challenge")
        self._out.append(b"334 " + base64.b64encode(data) + b"\r\n")
        self._awaiting = None
        self.state = State.AUTHENTICATING

    def _reply(self, replies: Sequence[Reply]) -> None:
        event, answer = self._awaiting, self._answer
        if event is None:
            if self.state is _CLOSED:
                return
            raise LocalProtocolError("no event waits for a reply")
        is_success = is_farewell = False
        for reply in replies:
            if reply.code in answer.success:
                is_success = True
            elif not 400 <= reply.code <= 599:
                raise LocalProtocolError(f"{reply.code} is no answer to {type(event).__name__}")
            elif reply.code in table.FAREWELLS:
                is_farewell = True
        self._out.extend([reply.encode() for reply in replies])
        self._awaiting = None
        state = answer.then if is_success else answer.otherwise
        if self._must_close or is_farewell:
            state = _CLOSED
        if state is not None:
            self.state = state
        if state is _CLOSED:
            self._close()
        else:
            self._settle(event, is_success=is_success)

    def _settle(self, event: Event, *, is_success: bool) -> None:
        """What an answer changes besides the state."""
        match event:
            case RcptTo() if is_success:
                self.accepted_recipients += 1
            case MailFrom(path) if is_success:
                self._context.smtputf8 = path.smtputf8
            case DataStart() if is_success:
                self._reader = DotReader(self._max_message_size)
            case MessageEnd() | MessageBad():
                self._end_transaction()
            case Reset() if is_success:
                if self.state in table.IN_TRANSACTION:
                    self.state = State.IDENTIFIED
                self._end_transaction()
            case Hello() if is_success:
                self._end_transaction()
            case AuthStart() | AuthResponse() if is_success:
                self.is_authenticated = True
            case StartTls() if is_success:
                self._start_tls = True
                self._inbox.clear()
            case Opened():
                self.talks_early = self._inbox.unread > 0
            case _:
                pass

    def _end_transaction(self) -> None:
        self._chunks = None
        self.accepted_recipients = 0
        self._context.smtputf8 = False

    # --- commands ---------------------------------------------------------------------------------

    def _advance(self) -> Event | Signal | None:
        """One step: an event, a signal, or None for a step that says nothing."""
        if self._skip:
            self._skip = self._inbox.skip(self._skip)
            return self._starved() if self._skip else None
        if self._queued is not None:
            event, answer = self._queued
            self._queued = None
            return self._give(event, answer)
        if self._reader is not None:
            return self._read_content(self._reader)
        if self.state in table.READS_LINES and not self._is_stopping:
            return self._read_line()
        match self.state:
            case State.CLOSED:
                return Signal.CLOSE
            case State.CONNECTED:
                return self._give(Opened(), table.GREETING)
            case State.SECURING if self._start_tls:
                self._start_tls = False
                return Signal.START_TLS
            case State.SECURING:
                return self._starved()
            case _ if self._is_stopping and self.state in table.IDLE:
                self._say_goodbye(Status(4, 3, 2), "Service shutting down")
                return Signal.CLOSE
            case _:
                return self._read_line()

    def _give(self, event: Event, answer: Answer) -> Event:
        self._awaiting = event
        self._answer = answer
        return event

    def _error(self, reply: Reply) -> Event:
        return self._give(CommandError(reply), table.REFUSAL)

    def _read_line(self) -> Event | Signal | None:
        line = self._inbox.line()
        if line is None:
            return self._starved()
        if self.state is _AUTHENTICATING:
            return self._auth_line(line)
        if not isinstance(line, bytes):
            self._must_close = line is Line.ENDLESS
            return self._error(faults.ENDLESS_LINE if self._must_close else faults.LINE_TOO_LONG)
        if b"\r" in line or b"\n" in line:
            return self._error(faults.LINE_HAS_BARE_ENDS)
        if b"\0" in line:
            return self._error(faults.LINE_HAS_NUL)
        verb, _, argument = line.partition(b" ")
        row = self._commands.get(verb.upper())
        if len(line) + 2 > (table.MAX_COMMAND_LINE if row is None else row.max_line):
            return self._error(faults.LINE_TOO_LONG)
        if row is None:
            is_foreign = verb.upper() in table.FOREIGN_VERBS
            return self._error(faults.FOREIGN_PROTOCOL if is_foreign else faults.UNKNOWN_COMMAND)
        return self._command(row, argument.rstrip(b" "))

    def _command(self, row: Command, argument: bytes) -> Event | None:
        if row.ends_group and self._inbox.start < len(self._inbox.octets):
            self.talks_early = True
        refusal = self._refuse_verb(row)
        if refusal is not None and row.verb != b"BDAT":  # of a refused BDAT the size must be known still
            return self._error(refusal)
        try:
            event = row.parse(argument, self._context)
        except CommandFault as fault:
            # Where a chunk without a size ends is not known: what follows it could be taken for commands.
            self._must_close = row.verb == b"BDAT"
            return self._error(fault.reply)
        if isinstance(event, Chunk):
            return self._begin_chunk(event, refusal)
        refusal = self._refuse_event(event)
        return self._give(event, row.answer) if refusal is None else self._error(refusal)

    def _refuse_verb(self, row: Command) -> Reply | None:
        """Why a command may not be said now, whatever its argument."""
        if self._requires_tls and self.tls is None and row.needs_tls:
            return faults.TLS_FIRST
        if self._requires_auth and not self.is_authenticated and row.needs_login:
            return faults.AUTH_FIRST
        if self.state not in row.legal:
            return faults.out_of_order(table.hint(self.state, row.verb))
        if row.needs_ehlo and not self._context.is_extended:
            return faults.out_of_order("Say EHLO first")
        return None

    def _refuse_event(self, event: Event) -> Reply | None:
        """Why a well-formed command goes against the limits and offers of this engine."""
        match event:
            case MailFrom(path) if path.size is not None and path.size > self._max_message_size:
                return faults.TOO_BIG  # RFC 1870 §6.1 (2)
            case RcptTo() if self.accepted_recipients >= self._max_recipients:
                return faults.TOO_MANY_RECIPIENTS  # RFC 5321 §4.5.3.1.10
            case StartTls() if self.tls is not None:
                return faults.out_of_order("TLS is already active")  # RFC 3207 §4.2
            case StartTls() if not self._offers_tls:
                return faults.NOT_OFFERED
            case AuthStart() if self.is_authenticated:
                return faults.out_of_order("Already authenticated")  # RFC 4954 §4
            case AuthStart() if self.tls is None and self._auth_needs_tls and self._offers_tls:
                return faults.AUTH_NEEDS_TLS
            case AuthStart() if not self._mechanisms:
                return faults.NOT_OFFERED
            case AuthStart(mechanism) if mechanism not in self._mechanisms:
                return faults.AUTH_MECHANISM_UNKNOWN
            case _:
                return None

    def _auth_line(self, line: bytes | Line) -> Event:
        """A client's response within AUTH: `base64 / "*"` (RFC 4954 §4)."""
        self.state = State.IDENTIFIED  # a refused line ends the exchange; a good one is answered from here
        if not isinstance(line, bytes):
            self._must_close = line is Line.ENDLESS
            return self._error(faults.ENDLESS_LINE if self._must_close else faults.AUTH_LINE_TOO_LONG)
        if line == b"*":
            return self._error(faults.AUTH_CANCELLED)
        try:
            return self._give(AuthResponse(decode_base64(line)), table.AUTH_RESPONSE)
        except CommandFault as fault:
            return self._error(fault.reply)

    # --- content ----------------------------------------------------------------------------------

    def _begin_chunk(self, chunk: Chunk, refusal: Reply | None) -> Event | None:
        """BDAT was said. Its octets are read or thrown away, but never taken for commands (RFC 3030 §2)."""
        if refusal is None:
            self.state = State.CONTENT
            if self._chunks is None:
                self._chunks = ChunkReader(self._max_message_size)
            if self._chunks.begin(chunk.size, is_last=chunk.is_last):
                self._reader = self._chunks
                return None
            self._must_close = True
            return self._give(MessageBad(faults.TOO_BIG), table.CHUNK_BAD)
        if chunk.size > self._max_message_size + MAX_DISCARD:
            self._must_close = True
            return self._error(refusal)
        self._skip = chunk.size
        if self._is_lmtp and self.state is State.MAIL and chunk.is_last:
            # RFC 2033 §4.3: without an accepted recipient BDAT LAST has no reply at all.
            self.state = State.IDENTIFIED
            self._end_transaction()
            return None
        if self.state in table.IN_TRANSACTION:
            self.state = State.FAILED_CHUNKS
        self._queued = CommandError(refusal), table.REFUSAL
        return None

    def _read_content(self, reader: DotReader | ChunkReader) -> Event | Signal | None:
        inbox = self._inbox
        inbox.gather()
        data, inbox.start, is_done = reader.take(inbox.octets, inbox.start)
        if is_done:
            self._reader = None
            self._queued = self._content_end(reader)
        if data:
            return BodyChunk(data)
        return None if is_done else self._starved()

    def _content_end(self, reader: DotReader | ChunkReader) -> tuple[Event, Answer]:
        fault = reader.fault
        if isinstance(reader, ChunkReader) and not reader.is_last:
            # Line ends are judged at LAST: until then the rest may come. Too big will not get better.
            if fault is faults.TOO_BIG:
                return MessageBad(fault), table.CHUNK_BAD
            return ChunkEnd(reader.size), table.CHUNK_END
        if fault is None:
            return MessageEnd(reader.size), table.MESSAGE_END
        self._must_close = isinstance(reader, DotReader) and reader.is_hopeless
        return MessageBad(fault), table.MESSAGE_BAD

    # --- the end ----------------------------------------------------------------------------------

    def _starved(self) -> Event | Signal:
        """No event without more octets; the end of them is the end of the session."""
        if not self._inbox.is_eof:
            return _NEED_DATA
        self._close()
        return Disconnected()

    def _say_goodbye(self, status: Status, text: str) -> None:
        """421 may come at any time (RFC 5321 §3.8)."""
        self._out.append(Reply(421, status, (f"{self._hostname} {text}, closing connection",)).encode())
        self._close()

    def _close(self) -> None:
        self.state = State.CLOSED
        self._awaiting = None
        self._queued = None
        self._reader = None
        self._skip = 0
        self._inbox.clear()
