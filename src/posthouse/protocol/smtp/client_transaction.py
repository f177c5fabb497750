# SPDX-License-Identifier: Apache-2.0
"""One mail transaction as the client sees it: MAIL, RCPT, content, and an outcome for every recipient.

Invariant: a recipient is delivered only by a 2xx reply after the whole content; whatever ends the
connection before that leaves it deferred. A letter may arrive twice, it is never lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from enum import Enum
from itertools import islice

from posthouse.mail.envelope import Envelope
from posthouse.outcome import BAD_CONTENT, Outcome
from posthouse.ports import Buffer
from posthouse.protocol.engine import RemoteProtocolError
from posthouse.protocol.smtp.client_commands import mail_command, rcpt_command
from posthouse.protocol.smtp.client_content import UncleanContent, chunks, stuffed
from posthouse.protocol.smtp.client_offer import Offer
from posthouse.protocol.smtp.client_outcomes import PROTOCOL_FAULT, Host, rcpt_status
from posthouse.protocol.smtp.client_plan import Plan
from posthouse.protocol.smtp.replies import Reply

# Content handed out at one call, in slices of CONTENT_SLICE: the driver waits for the socket in between.
SLICES_AT_ONCE = 4
# Ends what is said of a letter that the server has, whole, and has not answered for.
MAY_BE_TWICE = "after the whole letter was sent; it may arrive twice"


class Step(Enum):
    """What a reply answers: the words for people, and seconds to wait for it (RFC 5321 §4.5.3.2)."""

    RESET = ("RSET", 300.0)  # as for MAIL: the RFC names none
    MAIL = ("MAIL FROM", 300.0)  # §4.5.3.2.2
    RCPT = ("RCPT TO", 300.0)  # §4.5.3.2.3
    DATA = ("DATA", 120.0)  # §4.5.3.2.4
    BLOCK = ("the content", 180.0)  # §4.5.3.2.5: each block of the content leaves within that time
    CHUNK = ("BDAT", 600.0)  # as for the end of the content: the server may write the chunk to its disk
    END = ("the end of the content", 600.0)  # §4.5.3.2.6
    NOTHING = ("the final dot after no recipient", 30.0)  # ours: the reply decides nothing any more

    def __init__(self, words: str, wait: float) -> None:
        self.words = words
        self.wait = wait


class MailTransaction:
    """Give it replies, take its octets, until `is_done`; then `outcomes` holds one per forward-path."""

    def __init__(
        self,
        envelope: Envelope,
        content: Sequence[Buffer],
        plan: Plan,
        offer: Offer,
        host: Host,
        *,
        is_lmtp: bool,
        needs_reset: bool,
    ) -> None:
        self._envelope = envelope
        self._content = content
        self._plan = plan
        self._offer = offer
        self._host = host
        self._is_lmtp = is_lmtp
        self._is_pipelined = "PIPELINING" in offer
        self._uses_bdat = plan.uses_bdat
        self._outcomes: list[Outcome | None] = list(plan.refused)
        self._accepted: list[int] = []
        self._mail_refusal: Outcome | None = None
        self._todo: deque[tuple[Step, int, bytes]] = deque()
        self._expected: deque[tuple[Step, int]] = deque()
        self._output: list[bytes | memoryview] = []
        self._slices: Iterator[bytes | memoryview] | None = None  # content on its way
        self._chunks: Iterator[Iterator[bytes | memoryview]] = iter(())
        self._chunk_count = 0
        self._is_end_sent = False
        self.must_reset = False  # the server may still hold a part of this transaction
        self.must_close = False  # replies and commands cannot be matched any more
        self.bdat_failed = False  # the server offers CHUNKING, yet BDAT did not work
        self._queue_commands(needs_reset=needs_reset)

    @property
    def is_done(self) -> bool:
        if self.must_close:
            return True
        return not (self._expected or self._todo or self._slices)

    @property
    def step(self) -> Step:
        """What is waited for now."""
        return self._expected[0][0] if self._expected else Step.BLOCK

    @property
    def outcomes(self) -> list[Outcome]:
        silent = self._host.silent("the transaction ended without a word about this recipient")
        return [silent if outcome is None else outcome for outcome in self._outcomes]

    def data_to_send(self) -> list[bytes | memoryview]:
        """Commands, or the next slices of the content."""
        if self._slices is not None and not self._output and not self.must_close:
            self._take_slices(self._slices)
        output, self._output = self._output, []
        return output

    def lost(self, why: str) -> None:
        """The connection is gone, or the time is over: whoever has no answer yet is deferred."""
        if self._chunk_count:
            self.bdat_failed = True  # some filters drop the connection at BDAT: DATA next time
        self._resolve(self._host.silent(self._honest(why)))
        self.must_close = True

    def violated(self, why: str) -> None:
        """The server broke the protocol: deferred, and no more of this connection."""
        self._resolve(self._host.silent(self._honest(why), status=PROTOCOL_FAULT))
        self.must_close = True

    def _honest(self, why: str) -> str:
        return f"{why} {MAY_BE_TWICE}" if self._is_end_sent else why

    def take(self, reply: Reply) -> None:
        """The next reply of the server. Raises RemoteProtocolError where it fits nothing that was said."""
        step, index = self._expected.popleft() if self._expected else (Step.BLOCK, -1)
        if reply.code == 421:
            # RFC 5321 §3.8: 421 may answer anything and ends the session.
            self._resolve(self._host.said(reply, step.words))
            self.must_close = True
            return
        match step:
            case Step.RESET:
                if reply.code // 100 != 2:
                    self.violated(f"RSET was answered with {reply.code}")
            case Step.MAIL:
                self._take_mail(reply)
            case Step.RCPT:
                self._take_rcpt(reply, index)
            case Step.DATA:
                self._take_data(reply)
            case Step.BLOCK:
                self._take_early(reply)
            case Step.CHUNK:
                self._take_chunk(reply)
            case Step.END:
                self._take_end(reply, index)
            case Step.NOTHING:
                self.must_reset = False  # RFC 5321 §4.1.1.4: after the final dot the buffers are clear
        if not self.must_close:
            self._go_on()

    # --- commands ---------------------------------------------------------------------------------

    def _queue_commands(self, *, needs_reset: bool) -> None:
        plan, offer = self._plan, self._offer
        if needs_reset:
            self._todo.append((Step.RESET, -1, b"RSET\r\n"))
        mail = mail_command(self._envelope.reverse_path, offer, size=plan.size, body=plan.body, smtputf8=plan.smtputf8)
        self._todo.append((Step.MAIL, -1, mail))
        for index, path in enumerate(self._envelope.forward_paths):
            if self._outcomes[index] is None:
                self._todo.append((Step.RCPT, index, rcpt_command(path, offer)))
        if not self._uses_bdat:
            self._todo.append((Step.DATA, -1, b"DATA\r\n"))
        self._accepted.clear()
        self._send_commands()

    def _send_commands(self) -> None:
        # RFC 2920 §3.1: with PIPELINING all of them, DATA last in the group; else one at a time.
        while self._todo and (self._is_pipelined or not self._expected):
            step, index, line = self._todo.popleft()
            self._output.append(line)
            self._expected.append((step, index))

    def _go_on(self) -> None:
        if not self._expected and self._slices is None:
            if self._todo and self._todo[0][0] is Step.DATA and not self._accepted:
                self._todo.clear()  # nobody to send it to
            elif not self._todo and self._uses_bdat and self._accepted and self._has_open():
                self._next_chunk()
        self._send_commands()

    def _take_mail(self, reply: Reply) -> None:
        if reply.code // 100 == 2:
            self.must_reset = True
            return
        _must_be_negative(reply, Step.MAIL)
        self._mail_refusal = self._host.said(reply, Step.MAIL.words)
        self._resolve(self._mail_refusal)
        self._todo.clear()  # without PIPELINING the rest was not said yet

    def _take_rcpt(self, reply: Reply, index: int) -> None:
        if reply.code // 100 == 2:
            self.must_reset = True
            self._accepted.append(index)
            return
        _must_be_negative(reply, Step.RCPT)
        if self._outcomes[index] is None:
            self._outcomes[index] = self._host.said(reply, Step.RCPT.words, status=rcpt_status(reply))

    def _take_data(self, reply: Reply) -> None:
        if reply.code // 100 != 3:
            _must_be_negative(reply, Step.DATA)
            self._resolve(self._host.said(reply, Step.DATA.words))
        elif self._mail_refusal is not None and self._accepted:
            # It refused the sender and takes recipients all the same: even a lone dot might be delivered.
            self.must_close = True
        elif self._accepted:
            self._slices = stuffed(self._content)
        elif self._is_lmtp:
            self.must_close = True  # RFC 2033 §4.2: after the dot no reply would come, for no recipient
        else:
            # RFC 2920 §3.1: "if the DATA command was accepted the client SMTP should send a single dot"
            self._output.append(b".\r\n")
            self._expected.append((Step.NOTHING, -1))

    # --- content ----------------------------------------------------------------------------------

    def _next_chunk(self) -> None:
        if not self._chunk_count:
            is_binary = not self._plan.is_lines
            self._chunks = chunks(self._content, size=self._plan.size, is_binary=is_binary)
        self._chunk_count += 1
        self._slices = next(self._chunks)

    def _take_slices(self, slices: Iterator[bytes | memoryview]) -> None:
        try:
            taken = list(islice(slices, SLICES_AT_ONCE))
        except UncleanContent as error:
            # The end of the content is never sent, so the server drops what it has.
            self._resolve(self._host.silent(str(error), status=BAD_CONTENT))
            self.must_close = True
            return
        self._output += taken
        if len(taken) == SLICES_AT_ONCE:
            return
        self._slices = None
        if self._uses_bdat and self._chunk_count < self._plan.chunk_count:
            self._expected.append((Step.CHUNK, -1))
            return
        self._is_end_sent = True
        # RFC 2033 §4.2: LMTP answers for each accepted recipient, in their order.
        indexes = self._accepted if self._is_lmtp else [-1]
        self._expected.extend((Step.END, index) for index in indexes)

    def _take_early(self, reply: Reply) -> None:
        """A reply while the content still leaves: the server gives up on it (552, 554), or on sense."""
        if reply.code // 100 not in (4, 5):
            raise RemoteProtocolError(f"{reply.code} came before the end of the content")
        if self._is_bdat_unknown(reply):
            # Its objection is to the command, not to the letter: no reason to return it.
            self.bdat_failed = True
            self._resolve(
                self._host.silent(f"the host offers CHUNKING and answers BDAT with {reply.code}", status=PROTOCOL_FAULT)
            )
        else:
            self._resolve(self._host.said(reply, Step.BLOCK.words))
        self.must_close = True  # the rest of the content would be taken for commands

    def _take_chunk(self, reply: Reply) -> None:
        if reply.code // 100 == 2:
            return
        _must_be_negative(reply, Step.CHUNK)
        self._chunk_refused(reply, Step.CHUNK)

    def _take_end(self, reply: Reply, index: int) -> None:
        if reply.code // 100 == 2:
            outcome = self._host.said(reply, Step.END.words)
        else:
            _must_be_negative(reply, Step.END)
            if self._uses_bdat and not self._is_lmtp:
                self._chunk_refused(reply, Step.END)
                return
            outcome = self._host.said(reply, Step.END.words)
        if index >= 0:
            self._outcomes[index] = outcome
        else:
            self._resolve(outcome)
        if not self._uses_bdat or reply.code // 100 == 2:
            self.must_reset = False

    def _chunk_refused(self, reply: Reply, step: Step) -> None:
        # RFC 3030 §2: after a failed BDAT the state is indeterminate until RSET; no further chunk.
        self._is_end_sent = False
        if self._is_bdat_unknown(reply):
            # It offers CHUNKING and does not know BDAT (a filter in between): say it all again with DATA.
            self.bdat_failed = True
            self._uses_bdat = False
            self._queue_commands(needs_reset=True)
            return
        self._resolve(self._host.said(reply, step.words))

    def _is_bdat_unknown(self, reply: Reply) -> bool:
        return self._uses_bdat and self._chunk_count == 1 and reply.code in (500, 502) and self._plan.is_lines

    # --- outcomes ---------------------------------------------------------------------------------

    def _has_open(self) -> bool:
        return any(outcome is None for outcome in self._outcomes)

    def _resolve(self, outcome: Outcome) -> None:
        self._outcomes = [outcome if known is None else known for known in self._outcomes]


def _must_be_negative(reply: Reply, step: Step) -> None:
    if reply.code // 100 not in (4, 5):
        raise RemoteProtocolError(f"{step.words} was answered with {reply.code}")
