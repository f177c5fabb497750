# SPDX-License-Identifier: Apache-2.0
"""What the SMTP server engine tells its session.

Every event except `BodyChunk` and `Disconnected` waits for exactly one answer; the engine pauses until then.
"""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.mail.envelope import ForwardPath, ReversePath
from posthouse.protocol.smtp.replies import Reply


@dataclass(frozen=True, slots=True)
class Opened:
    """The connection is there: answer 220, or 554 (the client then says QUIT), or 421/521 (closed at once)."""


@dataclass(frozen=True, slots=True)
class Hello:
    """EHLO, HELO or LHLO (`verb`, upper case). Ends a mail transaction. Answer with `accept_hello` or a refusal."""

    verb: str
    name: str  # what the client calls itself: graphic ASCII, unverified


@dataclass(frozen=True, slots=True)
class MailFrom:
    path: ReversePath


@dataclass(frozen=True, slots=True)
class RcptTo:
    """`path.address` of a bare `<postmaster>` is that local-part at the server's own host name (RFC 5321 §4.5.1)."""

    path: ForwardPath


@dataclass(frozen=True, slots=True)
class DataStart:
    """DATA: answer 354 or a refusal."""


@dataclass(frozen=True, slots=True)
class BodyChunk:
    """Content as it will be stored: dots unstuffed, CRLF lines. Wants no answer."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ChunkEnd:
    """A BDAT that is not LAST is complete; `size` octets of content so far. Answer 250 or a refusal."""

    size: int


@dataclass(frozen=True, slots=True)
class MessageEnd:
    """The content is complete: `size` octets were given as chunks. Answer with `send`, for LMTP also `send_each`."""

    size: int


@dataclass(frozen=True, slots=True)
class MessageBad:
    """The content was read to its real end and must not be kept. Answer with `reply` (or another refusal)."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Reset:
    """RSET: forget the mail transaction, answer 250."""


@dataclass(frozen=True, slots=True)
class AuthStart:
    """AUTH with a mechanism that was offered (upper case). Answer `challenge`, 235 or a refusal."""

    mechanism: str
    initial: bytes | None  # decoded initial response; b"" where the client said "="


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """The client's decoded answer to a challenge. Answer `challenge`, 235 or a refusal."""

    data: bytes


@dataclass(frozen=True, slots=True)
class StartTls:
    """STARTTLS: answer 220 or 454."""


@dataclass(frozen=True, slots=True)
class Vrfy:
    """VRFY: answer 250, 251, 252 or a refusal. Without `smtputf8` the reply must be ASCII (RFC 6531 §3.7.4.2)."""

    text: str
    smtputf8: bool = False


@dataclass(frozen=True, slots=True)
class Expn:
    """EXPN: answer 250 or a refusal; `smtputf8` as for VRFY."""

    text: str
    smtputf8: bool = False


@dataclass(frozen=True, slots=True)
class Help:
    text: str


@dataclass(frozen=True, slots=True)
class Noop:
    pass


@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT: answer 221; the engine then closes."""


@dataclass(frozen=True, slots=True)
class CommandError:
    """A command that the engine refuses. Answer with `reply`, late if you like, or with 421 to close."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The peer is gone. Nothing may be answered; an unfinished transaction is void (RFC 5321 §4.1.1.4)."""


Event = (
    Opened
    | Hello
    | MailFrom
    | RcptTo
    | DataStart
    | BodyChunk
    | ChunkEnd
    | MessageEnd
    | MessageBad
    | Reset
    | AuthStart
    | AuthResponse
    | StartTls
    | Vrfy
    | Expn
    | Help
    | Noop
    | Quit
    | CommandError
    | Disconnected
)
