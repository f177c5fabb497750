# SPDX-License-Identifier: Apache-2.0
"""Reads the replies of a remote SMTP or LMTP server (RFC 5321 §4.2).

Invariant: octets become a `Reply` or a `RemoteProtocolError`, within fixed limits; nothing is guessed.
"""

from __future__ import annotations

import re

from posthouse.outcome import RemoteReply, Status
from posthouse.protocol.engine import RemoteProtocolError
from posthouse.protocol.smtp.replies import Reply

# RFC 5321 §4.5.3.1.5 says 512 octets with CRLF; providers that put links and ids into refusals send more.
MAX_REPLY_LINE = 2000
# An EHLO reply of today has about 15 lines, the longest refusals seen about 30.
MAX_REPLY_LINES = 200
# What is kept of a reply's text in history and DSNs, characters: enough for every refusal that people read.
MAX_REPLY_TEXT = 1000

# RFC 5321 §4.2: Reply-code = %x32-35 %x30-35 %x30-39; the middle digit is not checked, 6 to 9 occur.
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
# RFC 2034 §4: the status stands before the text, followed by white space.
_STATUS = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:[ \t]+|$)")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class ReplyParser:
    """Feed octets, take replies. One parser serves one connection; `discard` empties it (STARTTLS)."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0  # no LF before this offset
        self._code = 0
        self._lines: list[str] = []

    @property
    def has_unread(self) -> bool:
        """Whether octets wait that are not part of a reply taken already."""
        return bool(self._buffer) or bool(self._lines)

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def discard(self) -> int:
        """Forget everything fed so far; the number of octets forgotten."""
        count = len(self._buffer)
        self._buffer.clear()
        self._searched = 0
        self._lines.clear()
        return count

    def next_reply(self) -> Reply | None:
        """The next complete reply; None when more octets are needed. Raises RemoteProtocolError."""
        while (line := self._next_line()) is not None:
            if self._add(line):
                return self._finish()
        return None

    def _next_line(self) -> bytes | None:
        end = self._buffer.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._buffer)
            if self._searched > MAX_REPLY_LINE:
                raise RemoteProtocolError(f"a reply line is longer than {MAX_REPLY_LINE} octets")
            return None
        if end >= MAX_REPLY_LINE:
            raise RemoteProtocolError(f"a reply line is longer than {MAX_REPLY_LINE} octets")
        if self._buffer[end - 1 : end] != b"\r":
            # CRLF only, here as everywhere: with a bare LF both sides may count replies differently.
            raise RemoteProtocolError("a reply line ends with a bare LF")
        line = bytes(self._buffer[: end - 1])
        del self._buffer[: end + 1]
        self._searched = 0
        return line

    def _add(self, line: bytes) -> bool:
        """Take one line; True when it is the last of its reply."""
        match = _LINE.fullmatch(line)
        if match is None:
            shown = _clean(line[:80])
            raise RemoteProtocolError(f"not a reply: {shown}")
        code = int(match[1])
        if not self._lines:
            self._code = code
        elif code != self._code:
            # RFC 5321 §4.2.1: "the reply code on each of the lines MUST be the same"
            raise RemoteProtocolError(f"one reply has two codes, {self._code} and {code}")
        if len(self._lines) == MAX_REPLY_LINES:
            raise RemoteProtocolError(f"a reply has more than {MAX_REPLY_LINES} lines")
        self._lines.append(_clean(match[3] or b""))
        return match[2] != b"-"

    def _finish(self) -> Reply:
        lines, self._lines = self._lines, []
        found = _STATUS.match(lines[0])
        if found is None:
            return Reply(self._code, None, tuple(lines))
        # RFC 2034 §4: every line repeats the status; a line without it keeps its text.
        status = found[1]
        return Reply(self._code, Status.parse(status), tuple(_without(line, status) for line in lines))


def remote_reply(reply: Reply) -> RemoteReply:
    """What is kept of a reply in outcomes: one line of text, cut at MAX_REPLY_TEXT."""
    text = " ".join(line for line in reply.lines if line)
    if len(text) > MAX_REPLY_TEXT:
        text = text[: MAX_REPLY_TEXT - 1] + "…"
    return RemoteReply(reply.code, reply.status, text)


def _clean(octets: bytes) -> str:
    """Text for people: UTF-8 where it is UTF-8 (RFC 6531 §3.7.4.1), no control characters."""
    return _CONTROLS.sub(" ", octets.decode("utf-8", "replace")).strip()


def _without(line: str, status: str) -> str:
    found = _STATUS.match(line)
    return line[found.end() :] if found is not None and found[1] == status else line
