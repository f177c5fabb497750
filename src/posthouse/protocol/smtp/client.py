# SPDX-License-Identifier: Apache-2.0
"""The client's side of SMTP and LMTP without I/O: greeting, EHLO, STARTTLS, AUTH, letters, QUIT.

Invariant: every letter begun ends in one `LetterDone` with an outcome for each of its recipients, whatever
the server says or fails to say; nothing heard before TLS is believed after it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from posthouse.mail.envelope import Envelope
from posthouse.outcome import BAD_CONNECTION, Outcome, Status
from posthouse.ports import Buffer, TlsInfo
from posthouse.protocol.engine import LocalProtocolError, RemoteProtocolError, Signal
from posthouse.protocol.smtp import client_auth as auth
from posthouse.protocol.smtp.client_auth import Credentials, Mechanism
from posthouse.protocol.smtp.client_events import (
    ClientEvent,
    ClientSettings,
    LetterDone,
    Phase,
    SessionFailed,
    SessionReady,
    TlsUse,
)
from posthouse.protocol.smtp.client_offer import NOTHING_OFFERED, parse_offer
from posthouse.protocol.smtp.client_outcomes import (
    LOGIN_REFUSED,
    PROTOCOL_FAULT,
    TLS_FAILED,
    TLS_NOT_OFFERED,
    Host,
)
from posthouse.protocol.smtp.client_plan import SessionCounts, make_plan
from posthouse.protocol.smtp.client_transaction import MailTransaction
from posthouse.protocol.smtp.replies import Reply
from posthouse.protocol.smtp.reply_parser import ReplyParser


class SmtpClient:
    """See `posthouse.protocol.engine.Engine`; here the driver is the one who connects."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._phase = Phase.GREETING
        self._parser = ReplyParser()
        self._output: list[bytes | memoryview] = []
        self._events: deque[ClientEvent | Signal] = deque()
        self._end: str | None = None  # why no more octets will come
        self._transaction: MailTransaction | None = None
        self._counts = SessionCounts()
        self._needs_reset = False
        self._mechanism: Mechanism | None = None
        self._is_initial_sent = False
        self._tried: list[str] = []
        self._is_fresh_tls = False  # TLS began and no reply has come through it yet
        self._may_bdat = settings.may_bdat
        self.offer = NOTHING_OFFERED
        self.tls: TlsInfo | None = None
        self.replies = 0  # counts what the server has said; a driver's waits begin anew when it grows

    # --- what the driver does ---------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        return self._phase

    @property
    def is_usable(self) -> bool:
        """Whether another letter may be begun: idle, in step, within the server's MAILMAX."""
        if self._phase is not Phase.READY or self._parser.has_unread or self._end is not None:
            return False
        most = self.offer.limits.mail_max
        return not self._counts.has_no_room and (most is None or self._counts.transactions < most)

    @property
    def bdat_failed(self) -> bool:
        """The server offers CHUNKING, but a letter broke at BDAT: do not use it with this host for a while."""
        return self._settings.may_bdat and not self._may_bdat

    def receive_data(self, data: bytes) -> None:
        if data:
            self._parser.feed(data)
        else:
            self.lost("the host closed the connection")

    def lost(self, why: str) -> None:
        """No more octets will come; those fed before still count."""
        if self._end is None:
            self._end = why

    def next_event(self) -> ClientEvent | Signal:
        while True:
            if self._events:
                return self._events.popleft()
            if self._phase is Phase.CLOSED:
                return Signal.CLOSE
            if self._phase is Phase.HANDSHAKE and self._end is None:
                return Signal.PAUSED
            if self._phase is Phase.READY and self._end is None:
                return Signal.NEED_DATA
            if not self._read_reply():
                return Signal.NEED_DATA

    def data_to_send(self) -> list[bytes | memoryview]:
        """Call until it is empty, letting the socket drain in between: content comes in slices."""
        if self._transaction is not None:
            self._output += self._transaction.data_to_send()
            self._settle()
        output, self._output = self._output, []
        return output

    def wait_limit(self) -> float | None:
        """Seconds for the reply that is waited for now, or for the next slices of content to leave."""
        if self._transaction is not None:
            return self._transaction.step.wait
        return self._phase.value.wait

    def tls_started(self, tls: TlsInfo) -> None:
        """After START_TLS, or before anything else when TLS comes first. Earlier octets are forgotten."""
        if self._phase not in (Phase.HANDSHAKE, Phase.GREETING):
            raise LocalProtocolError("TLS starts after START_TLS or at the very beginning")
        # RFC 3207 §4.2: "discard any knowledge obtained from the server"; CVE-2011-0411 for the octets.
        self._parser.discard()
        self.offer = NOTHING_OFFERED
        self.tls = tls
        self._is_fresh_tls = True
        if self._phase is Phase.HANDSHAKE:
            self._say_ehlo()

    def timed_out(self) -> None:
        words = self._phase.value.words if self._transaction is None else self._transaction.step.words
        self._break(f"no answer to {words} in time")

    def shut_down(self) -> None:
        """QUIT now if idle; a letter under way is finished first by whoever sends it."""
        if self._phase is Phase.READY:
            self.quit()

    def begin(self, envelope: Envelope, content: Sequence[Buffer]) -> None:
        """Start a mail transaction; `LetterDone` ends it. On a dead session it ends at once, deferred."""
        if self._phase not in (Phase.READY, Phase.QUIT, Phase.CLOSED):
            raise LocalProtocolError(f"no letter can begin during {self._phase.name}")
        refusal = self._refuse_stale()
        if refusal is not None:
            self._events.append(LetterDone((refusal,) * len(envelope.forward_paths)))
            return
        plan = make_plan(envelope, content, self.offer, self._host, self._counts, may_bdat=self._may_bdat)
        if plan.is_hopeless:
            self._events.append(LetterDone(tuple(known for known in plan.refused if known is not None)))
            return
        self._counts.transactions += 1
        self._transaction = MailTransaction(
            envelope,
            content,
            plan,
            self.offer,
            self._host,
            is_lmtp=self._settings.is_lmtp,
            needs_reset=self._needs_reset,
        )
        self._needs_reset = False
        self._phase = Phase.LETTER

    def quit(self) -> None:
        """Say QUIT if the session is idle; in any other state just end it."""
        if self._phase is Phase.READY and self._end is None:
            self._output.append(b"QUIT\r\n")
            self._phase = Phase.QUIT
        elif self._phase is not Phase.QUIT:
            self._break("we closed the connection")

    # --- replies ----------------------------------------------------------------------------------

    @property
    def _host(self) -> Host:
        tls = "" if self.tls is None else self.tls.words
        return Host(self._settings.host, self._settings.address, tls)

    def _read_reply(self) -> bool:
        """Take one reply, or the end; False when more octets are needed."""
        try:
            reply = self._parser.next_reply()
            if reply is not None:
                self.replies += 1
                self._take(reply)
                return True
        except RemoteProtocolError as error:
            self._violated(str(error))
            return True
        if self._end is None:
            return False
        self._break(self._end)
        return True

    def _take(self, reply: Reply) -> None:
        match self._phase:
            case Phase.GREETING:
                self._is_fresh_tls = False
                if reply.code == 220:
                    self._say_ehlo()
                else:
                    self._refused(reply)
            case Phase.EHLO | Phase.HELO:
                self._is_fresh_tls = False
                self._take_ehlo(reply)
            case Phase.STARTTLS:
                self._take_starttls(reply)
            case Phase.AUTH:
                self._take_auth(reply)
            case Phase.LETTER:
                self._letter.take(reply)
                self._settle()
            case Phase.QUIT:
                self._phase = Phase.CLOSED
            case Phase.HANDSHAKE | Phase.READY | Phase.CLOSED:
                pass  # the session is over in these states when a reply is read at all

    def _say_ehlo(self) -> None:
        verb = "LHLO" if self._settings.is_lmtp else "EHLO"
        self._output.append(f"{verb} {self._settings.helo}\r\n".encode())
        self._phase = Phase.EHLO

    def _take_ehlo(self, reply: Reply) -> None:
        if reply.code == 250:
            self.offer = parse_offer(reply) if self._phase is Phase.EHLO else NOTHING_OFFERED
            self._after_ehlo()
        elif self._phase is Phase.EHLO and reply.code in (500, 501, 502, 504, 550) and not self._settings.is_lmtp:
            # RFC 5321 §3.2 and §4.1.1.1: a server that does not know EHLO is greeted with HELO.
            self._output.append(f"HELO {self._settings.helo}\r\n".encode())
            self._phase = Phase.HELO
        else:
            self._refused(reply)

    def _after_ehlo(self) -> None:
        use = self._settings.tls
        if self.tls is None and use is not TlsUse.NEVER:
            if "STARTTLS" in self.offer:
                self._output.append(b"STARTTLS\r\n")
                self._phase = Phase.STARTTLS
                return
            if use is TlsUse.REQUIRED:
                self._fail(self._host.silent("TLS is required, the host does not offer it", status=TLS_NOT_OFFERED))
                return
        self._after_tls()

    def _take_starttls(self, reply: Reply) -> None:
        if reply.code == 220:
            # Whatever came in the same breath as the 220 was not said under TLS.
            self._parser.discard()
            self._phase = Phase.HANDSHAKE
            self._events.append(Signal.START_TLS)
        elif reply.code == 421 or self._settings.tls is TlsUse.REQUIRED:
            self._refused(reply, status=None if reply.code == 421 else TLS_NOT_OFFERED)
        else:
            self._after_tls()

    # --- AUTH -------------------------------------------------------------------------------------

    def _after_tls(self) -> None:
        if self._settings.credentials is None:
            self._phase = Phase.READY
            self._events.append(SessionReady(self.offer))
        else:
            self._try_mechanism(self._settings.credentials, None)

    def _try_mechanism(self, credentials: Credentials, refusal: Reply | None) -> None:
        may_show = self.tls is not None or self._settings.may_show_password
        mechanism = auth.choose(
            self.offer.mechanisms, self._tried, credentials, self._settings.nonce, may_show=may_show
        )
        if mechanism is None:
            if refusal is not None:
                self._refused(refusal, status=LOGIN_REFUSED)
            else:
                why = "the host offers no way to log in" + ("" if may_show else " that hides the password")
                self._fail(self._host.silent(why, status=LOGIN_REFUSED))
            return
        self._tried.append(mechanism.name)
        self._mechanism = mechanism
        line, self._is_initial_sent = auth.command(mechanism)
        self._output.append(line)
        self._phase = Phase.AUTH

    def _take_auth(self, reply: Reply) -> None:
        mechanism, credentials = self._mechanism, self._settings.credentials
        assert mechanism is not None
        assert credentials is not None
        if reply.code == 334:
            self._respond(mechanism, reply)
        elif reply.code == 235:
            if not mechanism.is_satisfied:
                raise RemoteProtocolError("the host says 235 before it has proved that it knows the password")
            self._phase = Phase.READY
            self._events.append(SessionReady(self.offer))
        elif reply.code // 100 == 5 and (reply.code != 535 or mechanism.name == auth.Scram.name):
            # Not this mechanism, perhaps another: many keep no SCRAM secret beside an imported hash.
            self._try_mechanism(credentials, reply)
        else:
            self._refused(reply, status=None if reply.code == 421 else LOGIN_REFUSED)

    def _respond(self, mechanism: Mechanism, reply: Reply) -> None:
        if mechanism.initial is not None and not self._is_initial_sent:
            self._is_initial_sent = True
            response = mechanism.initial
        else:
            # RFC 4954 §4: the text of a 334 is base64 and nothing else, whatever it looks like.
            text = " ".join(part for part in (str(reply.status or ""), reply.text) if part)
            # LOGIN's prompts mean nothing, and some servers do not even encode them.
            challenge = b"" if isinstance(mechanism, auth.Login) else auth.decode(text)
            response = mechanism.respond(challenge)
        self._output.append(auth.encode(response) + b"\r\n")

    # --- ends -------------------------------------------------------------------------------------

    @property
    def _letter(self) -> MailTransaction:
        assert self._transaction is not None
        return self._transaction

    def _settle(self) -> None:
        """If the transaction is over: its outcomes, and what state it leaves."""
        transaction = self._transaction
        if transaction is None or not transaction.is_done:
            return
        self._transaction = None
        self._needs_reset = transaction.must_reset
        self._may_bdat = self._may_bdat and not transaction.bdat_failed
        self._phase = Phase.CLOSED if transaction.must_close else Phase.READY
        self._events.append(LetterDone(tuple(transaction.outcomes)))

    def _refuse_stale(self) -> Outcome | None:
        """An idle session may have died unnoticed: 421 and the end arrive before anything is said."""
        if self._phase is not Phase.READY:
            return self._host.silent("the connection is closed")
        outcome: Outcome | None = None
        try:
            reply = self._parser.next_reply()
        except RemoteProtocolError as error:
            outcome = self._host.silent(str(error), status=PROTOCOL_FAULT)
        else:
            if reply is not None:
                said = self._host.said(reply, "nothing")
                # Unasked, it concerns no recipient: never more than a reason to come back.
                outcome = said if said.is_deferred else replace(said, status=BAD_CONNECTION)
            elif self._end is not None or self._parser.has_unread:
                outcome = self._host.silent(self._end or "the host spoke out of turn")
        if outcome is not None:
            self._phase = Phase.CLOSED
        return outcome

    def _refused(self, reply: Reply, *, status: Status | None = None) -> None:
        """The server's own words end the session before it began."""
        if reply.code // 100 not in (4, 5):
            status = PROTOCOL_FAULT  # a success where there can be none must not look like one
        self._fail(self._host.said(reply, self._phase.value.words, status=status))

    def _fail(self, outcome: Outcome, *, is_tls_suspect: bool = False) -> None:
        self._phase = Phase.CLOSED
        self._events.append(SessionFailed(outcome, is_tls_suspect))

    def _break(self, why: str) -> None:
        """The connection is lost or given up."""
        if self._transaction is not None:
            self._transaction.lost(why)
            self._settle()
        elif self._phase in (Phase.READY, Phase.QUIT, Phase.CLOSED):
            self._phase = Phase.CLOSED
        else:
            suspect = self._is_fresh_tls or self._phase in (Phase.STARTTLS, Phase.HANDSHAKE)
            status = TLS_FAILED if self._phase is Phase.HANDSHAKE else BAD_CONNECTION
            outcome = self._host.silent(f"{why} (at {self._phase.value.words})", status=status)
            self._fail(outcome, is_tls_suspect=suspect)

    def _violated(self, why: str) -> None:
        if self._transaction is not None:
            self._transaction.violated(why)
            self._settle()
        elif self._phase is Phase.QUIT:
            self._phase = Phase.CLOSED
        else:
            self._fail(self._host.silent(why, status=PROTOCOL_FAULT))
