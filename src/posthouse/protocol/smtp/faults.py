# SPDX-License-Identifier: Apache-2.0
"""The refusals that the SMTP server engine itself proposes: standard codes, one clear sentence each."""

from __future__ import annotations

from posthouse.outcome import Status
from posthouse.protocol.smtp.replies import Reply


class CommandFault(Exception):  # noqa: N818 - the peer's fault, not ours: it becomes an event, never a traceback
    """A command line that cannot be taken; `reply` says why."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply


def bad_arguments(text: str) -> CommandFault:
    """501 5.5.4: the verb is known, what follows it is wrong (RFC 5321 §4.2.2)."""
    return CommandFault(Reply(501, Status(5, 5, 4), (text,)))


def unknown_parameter(text: str) -> CommandFault:
    """555 5.5.4: a MAIL or RCPT parameter that is not known or not offered (RFC 5321 §4.1.1.11)."""
    return CommandFault(Reply(555, Status(5, 5, 4), (text,)))


def out_of_order(text: str) -> Reply:
    """503 5.5.1: not now (RFC 5321 §4.1.4)."""
    return Reply(503, Status(5, 5, 1), (text,))


LINE_TOO_LONG = Reply.of(500, (5, 5, 2), "Line too long")
ENDLESS_LINE = Reply.of(500, (5, 5, 2), "The line does not end; closing, as what follows is no command")
LINE_HAS_BARE_ENDS = Reply.of(500, (5, 5, 2), "Bare CR or LF in a command line: lines end with CRLF")
LINE_HAS_NUL = Reply.of(500, (5, 5, 2), "NUL in a command line")
UNKNOWN_COMMAND = Reply.of(500, (5, 5, 1), "Command not recognized")
NOT_OFFERED = Reply.of(502, (5, 5, 1), "Command not implemented here")
# Browsers and proxies that were talked into speaking to a mail server: no word more (cross-protocol requests).
FOREIGN_PROTOCOL = Reply.of(521, (5, 5, 1), "This is a mail server")
TLS_FIRST = Reply.of(530, (5, 7, 0), "Must issue a STARTTLS command first")  # RFC 3207 §4
AUTH_FIRST = Reply.of(530, (5, 7, 0), "Authentication required")  # RFC 4954 §6
AUTH_NEEDS_TLS = Reply.of(538, (5, 7, 11), "Encryption required for authentication")  # RFC 4954 §6
AUTH_MECHANISM_UNKNOWN = Reply.of(504, (5, 5, 4), "Authentication mechanism not offered")  # RFC 4954 §4
AUTH_CANCELLED = Reply.of(501, (5, 7, 0), "Authentication cancelled")  # RFC 4954 §4
AUTH_NOT_BASE64 = Reply.of(501, (5, 5, 2), "That is not base64")  # RFC 4954 §4
AUTH_LINE_TOO_LONG = Reply.of(500, (5, 5, 6), "Authentication exchange line is too long")  # RFC 4954 §6
TOO_BIG = Reply.of(552, (5, 3, 4), "Message size exceeds the fixed maximum")  # RFC 1870 §6.1
TOO_MANY_RECIPIENTS = Reply.of(452, (4, 5, 3), "Too many recipients, send the rest separately")
BAD_LINE_ENDS = Reply.of(550, (5, 6, 0), "Content has bare CR or LF: lines end with CRLF")  # RFC 5321 §2.3.8
CONTENT_HAS_NUL = Reply.of(550, (5, 6, 0), "Content has NUL octets")  # RFC 5322 §4, RFC 6152 §3
BDAT_SYNTAX = Reply.of(501, (5, 5, 4), "BDAT needs a size, then perhaps LAST; closing, as the chunk has no end")
