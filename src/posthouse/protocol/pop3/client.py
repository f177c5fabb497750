# SPDX-License-Identifier: Apache-2.0
"""Pop3Client: the client side of POP3. Commands in, octets out; octets in, replies out.

Commands may be sent before the answers of those before them are there (PIPELINING); replies come in order.
Invariant: what a letter contains never ends its own transmission; a server that breaks the protocol is not
guessed at but raises RemoteProtocolError.
"""

from __future__ import annotations

import base64
import binascii
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

from posthouse.protocol.engine import LocalProtocolError, RemoteProtocolError, Signal

MAX_COMMAND_LINE = 255  # octets with CRLF: what every server with CAPA takes (RFC 2449 §4)
MAX_LINE = 4096  # octets; RFC 2449 §4 says 512, but servers put long texts and challenges on a line
MAX_BODY = 128 * 1024 * 1024  # octets of one letter or listing; more than any mail server accepts by default
# RFC 1939 §3: the server waits ten minutes for us. Opening a large maildrop may take it minutes too.
WAIT_LIMIT = 600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's reply. `body` is there for multi-line answers to a command that has them, without dots."""

    is_ok: bool
    code: str | None  # IN-USE, AUTH, SYS/TEMP …, upper case
    text: str
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Challenge:
    """AUTH goes on: answer with `respond` or `cancel`."""

    data: bytes


class _Kind(Enum):
    LINE = auto()
    BODY = auto()  # a body follows +OK
    AUTH = auto()  # challenges may come before the answer
    TLS = auto()  # +OK means that TLS starts


class Pop3Client:
    """Sans I/O. The greeting is the first answer. `next_event` never pauses: read on until NEED_DATA or CLOSE."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._out: list[bytes | memoryview] = []
        self._expected: deque[_Kind] = deque([_Kind.LINE])
        self._body_of: Answer | None = None  # the first line of the answer whose body is being read
        self._is_ended = False
        self._is_challenged = False

    # --- saying -----------------------------------------------------------------------------------

    def user(self, name: str) -> None:
        self._command(f"USER {name}", _Kind.LINE)

    def password(self, secret: str) -> None:
        self._command(f"PASS {secret}", _Kind.LINE)

    def auth(self, mechanism: str, initial: bytes | None = None) -> None:
        """An initial response too long for a command line must be given with `respond` (RFC 5034 §4)."""
        line = f"AUTH {mechanism}"
        if initial is not None:
            line += " " + (base64.b64encode(initial).decode() if initial else "=")
        self._command(line, _Kind.AUTH)

    def respond(self, data: bytes) -> None:
        self._answer_challenge(base64.b64encode(data))

    def cancel(self) -> None:
        self._answer_challenge(b"*")

    def capabilities(self) -> None:
        self._command("CAPA", _Kind.BODY)

    def start_tls(self) -> None:
        """After its +OK `next_event` gives START_TLS."""
        if self._expected:
            raise LocalProtocolError("STLS must be the only command under way")
        self._command("STLS", _Kind.TLS)

    def stat(self) -> None:
        self._command("STAT", _Kind.LINE)

    def sizes(self) -> None:
        """LIST of all."""
        self._command("LIST", _Kind.BODY)

    def unique_ids(self) -> None:
        """UIDL of all."""
        self._command("UIDL", _Kind.BODY)

    def retrieve(self, number: int) -> None:
        self._command(f"RETR {number}", _Kind.BODY)

    def top(self, number: int, lines: int) -> None:
        self._command(f"TOP {number} {lines}", _Kind.BODY)

    def delete(self, number: int) -> None:
        self._command(f"DELE {number}", _Kind.LINE)

    def command(self, line: str, *, has_body: bool = False) -> None:
        """Any other command (`NOOP`, `RSET`, `UTF8`, `LIST 3`, …)."""
        self._command(line, _Kind.BODY if has_body else _Kind.LINE)

    def quit(self) -> None:
        self._command("QUIT", _Kind.LINE)

    # --- hearing ----------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        if data:
            self._buffer += data
        else:
            self._is_ended = True

    def next_event(self) -> Answer | Challenge | Signal:
        """Raises RemoteProtocolError when the server says what cannot be understood, or goes away in between."""
        if self._body_of is not None:
            return self._read_body(self._body_of)
        end = self._buffer.find(b"\r\n", self._searched)
        if end < 0:
            self._searched = max(len(self._buffer) - 1, 0)
            if len(self._buffer) - self._buffer.endswith(b"\r") > MAX_LINE:
                raise RemoteProtocolError("the server's line does not end")
            return self._wait()
        if end > MAX_LINE:  # the same verdict, however the network has cut it
            raise RemoteProtocolError("the server's line does not end")
        line = bytes(memoryview(self._buffer)[:end])
        del self._buffer[: end + 2]
        self._searched = 0
        if not self._expected:
            raise RemoteProtocolError("the server answers what nobody asked")
        return self._take(line)

    def data_to_send(self) -> list[bytes | memoryview]:
        out, self._out = self._out, []
        return out

    def wait_limit(self) -> float | None:
        return WAIT_LIMIT

    def tls_started(self) -> None:
        """What the server said in the clear after its +OK is thrown away (RFC 2595 §4 and §9)."""
        self._buffer.clear()
        self._searched = 0

    # --- inside -----------------------------------------------------------------------------------

    def _command(self, line: str, kind: _Kind) -> None:
        octets = line.encode() + b"\r\n"
        if b"\r" in octets[:-2] or b"\n" in octets[:-2] or b"\0" in octets:
            raise LocalProtocolError("a command is one line")
        if len(octets) > MAX_COMMAND_LINE:
            raise LocalProtocolError(f"a command has at most {MAX_COMMAND_LINE} octets")
        self._out.append(octets)
        self._expected.append(kind)

    def _answer_challenge(self, octets: bytes) -> None:
        if not self._is_challenged:
            raise LocalProtocolError("there is no challenge to answer")
        self._is_challenged = False
        self._out.append(octets + b"\r\n")

    def _take(self, line: bytes) -> Answer | Challenge | Signal:
        kind = self._expected[0]
        if kind is _Kind.AUTH and (line.startswith(b"+ ") or line == b"+"):
            try:
                data = base64.b64decode(line[2:], validate=True)
            except binascii.Error:
                raise RemoteProtocolError("the server's challenge is not base64") from None
            self._is_challenged = True
            return Challenge(data)
        answer = _parse_answer(line)
        self._expected.popleft()
        if answer.is_ok and kind is _Kind.BODY:
            self._body_of = answer
            return self._read_body(answer)
        if answer.is_ok and kind is _Kind.TLS:
            return Signal.START_TLS
        return answer

    def _read_body(self, first: Answer) -> Answer | Signal:
        buffer = self._buffer
        if buffer.startswith(b".\r\n"):
            end, body_size = 3, 0
        else:
            found = buffer.find(b"\r\n.\r\n", self._searched)
            if found < 0:
                self._searched = max(len(buffer) - 4, 0)
                if len(buffer) > MAX_BODY:
                    raise RemoteProtocolError("the server's answer does not end")
                return self._wait()
            end, body_size = found + 5, found + 2
        body = bytes(memoryview(buffer)[:body_size])
        del buffer[:end]
        self._searched = 0
        self._body_of = None
        # RFC 1939 §3: the first dot of a line is not the letter's.
        body = body.replace(b"\r\n.", b"\r\n")
        return Answer(first.is_ok, first.code, first.text, body[1:] if body.startswith(b".") else body)

    def _wait(self) -> Signal:
        if not self._is_ended:
            return Signal.NEED_DATA
        if self._expected or self._body_of is not None or self._buffer:
            raise RemoteProtocolError("the server closed the connection before it had answered")
        return Signal.CLOSE


def _parse_answer(line: bytes) -> Answer:
    word, _, rest = line.partition(b" ")
    if word.upper() not in (b"+OK", b"-ERR"):
        raise RemoteProtocolError(f"the server said neither +OK nor -ERR but {line[:80]!r}")
    text = rest.decode(errors="replace")
    code = None
    if text.startswith("["):
        inner, bracket, after = text[1:].partition("]")
        if bracket:
            code, text = inner.upper(), after.lstrip(" ")
    return Answer(word.upper() == b"+OK", code, text)
