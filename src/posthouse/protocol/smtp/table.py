# SPDX-License-Identifier: Apache-2.0
"""All states, verbs and transitions of the SMTP and LMTP server. What is not in a row is not legal.

CONNECTED --220--> GREETED --EHLO--> IDENTIFIED --MAIL--> MAIL --RCPT--> RCPT --DATA--> CONTENT --dot--+
    |554              ^                |  ^  |                             |                           |
    v                 |         STARTTLS  |  AUTH --334--> AUTHENTICATING  |                           |
 REFUSED              |                v  +--------------------------------|---------------------------+
                      +-handshake- SECURING                               BDAT--> CHUNKS --LAST--> IDENTIFIED
                                                                                     |refused
any --QUIT, 421, 521--> CLOSED                                                 FAILED_CHUNKS --RSET--> IDENTIFIED
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, auto

from posthouse.protocol.smtp import commands, events
from posthouse.protocol.smtp.commands import Chunk, Context
from posthouse.protocol.smtp.extensions import Mode


class State(IntEnum):  # of integers, as sets of them are looked into for every command: their hash is cheap
    CONNECTED = auto()  # the greeting is not said yet
    REFUSED = auto()  # 554 was the greeting: only QUIT (RFC 5321 §3.1)
    GREETED = auto()  # 220 was said, or TLS has just begun
    IDENTIFIED = auto()  # EHLO, HELO or LHLO was accepted
    AUTHENTICATING = auto()  # 334 was said: the next line is the client's response
    SECURING = auto()  # 220 was said to STARTTLS: the handshake is next
    MAIL = auto()  # a mail transaction without an accepted recipient
    RCPT = auto()  # one with
    CONTENT = auto()  # 354 was said, or a BDAT chunk is being read
    CHUNKS = auto()  # between BDAT chunks
    FAILED_CHUNKS = auto()  # a BDAT was refused: RSET or EHLO must come (RFC 3030 §2)
    CLOSED = auto()


IN_TRANSACTION = frozenset({State.MAIL, State.RCPT, State.CHUNKS, State.FAILED_CHUNKS})
_IDENTIFIED = IN_TRANSACTION | {State.IDENTIFIED}
_ANY = _IDENTIFIED | {State.GREETED}
DEAF = frozenset({State.SECURING, State.CLOSED})  # octets that come now are neither commands nor content
READS_LINES = _ANY | {State.REFUSED, State.AUTHENTICATING}
IDLE = frozenset({State.REFUSED, State.GREETED, State.IDENTIFIED})  # nothing begun: a good moment to stop


@dataclass(frozen=True, slots=True)
class Answer:
    """Which replies to an event mean success, and where each way leads (None: the state stays)."""

    success: frozenset[int]
    then: State | None = None
    otherwise: State | None = None


@dataclass(frozen=True, slots=True)
class Command:
    verb: bytes
    parse: Callable[[bytes, Context], events.Event | Chunk]
    legal: frozenset[State]
    answer: Answer
    rfc: str
    needs_tls: bool = True  # where the listener requires TLS: 530 until STARTTLS (RFC 3207 §4)
    needs_login: bool = False  # where it requires authentication: 530 until AUTH (RFC 4954 §6)
    needs_ehlo: bool = False  # HELO is not enough: the verb comes from an extension
    ends_group: bool = True  # nothing may be sent behind it before its reply (RFC 2920 §3.1)
    modes: tuple[Mode, ...] = tuple(Mode)
    max_line: int = 512


# Octets of a line with its CRLF. RFC 5321 §4.5.3.1.4 gives 512; extensions add for MAIL: SIZE 26, BODY 16,
# SMTPUTF8 10, AUTH 500, RET and ENVID 124 (sum 1188); for RCPT: NOTIFY and ORCPT 530 (sum 1042, RFC 3461 §5.4).
# 2048 is past both sums and leaves room for the next extension.
MAX_COMMAND_LINE = 512
MAX_ENVELOPE_LINE = 2048
SMTPUTF8_WORD = 10  # what SMTPUTF8 adds to MAIL, VRFY and EXPN (RFC 6531 §3.1)
MAX_AUTH_LINE = 12288  # "sufficient for deployed mechanisms" (RFC 4954 §4)

_SMTP = (Mode.MX, Mode.SUBMISSION)


def _ok(*codes: int, then: State | None = None, otherwise: State | None = None) -> Answer:
    return Answer(frozenset(codes), then, otherwise)


_HELLO = _ok(250, then=State.IDENTIFIED)

# fmt: off
_ROWS = (
    Command(b"EHLO", commands.parse_ehlo, _ANY, _HELLO, "5321 §4.1.1.1", needs_tls=False, modes=_SMTP),
    Command(b"HELO", commands.parse_helo, _ANY, _HELLO, "5321 §4.1.1.1", needs_tls=False, modes=_SMTP),
    Command(b"LHLO", commands.parse_lhlo, _ANY, _HELLO, "2033 §4.1", needs_tls=False, modes=(Mode.LMTP,)),
    Command(b"MAIL", commands.parse_mail, frozenset({State.IDENTIFIED}), _ok(250, then=State.MAIL), "5321 §4.1.1.2",
            needs_login=True, ends_group=False, max_line=MAX_ENVELOPE_LINE),
    Command(b"RCPT", commands.parse_rcpt, frozenset({State.MAIL, State.RCPT}), _ok(250, 251, then=State.RCPT),
            "5321 §4.1.1.3", needs_login=True, ends_group=False, max_line=MAX_ENVELOPE_LINE),
    Command(b"DATA", commands.parse_data, frozenset({State.RCPT}), _ok(354, then=State.CONTENT), "5321 §4.1.1.4",
            needs_login=True),
    # A chunk follows its BDAT, so the answer belongs to the chunk: CHUNK_END or MESSAGE_END.
    Command(b"BDAT", commands.parse_bdat, frozenset({State.RCPT, State.CHUNKS}), _ok(), "3030 §2",
            needs_login=True, needs_ehlo=True, ends_group=False),
    Command(b"RSET", commands.parse_rset, _ANY, _ok(250), "5321 §4.1.1.5", ends_group=False),
    Command(b"NOOP", commands.parse_noop, _ANY, _ok(250), "5321 §4.1.1.9", needs_tls=False),
    Command(b"QUIT", commands.parse_quit, _ANY | {State.REFUSED},
            _ok(221, then=State.CLOSED, otherwise=State.CLOSED), "5321 §4.1.1.10", needs_tls=False),
    Command(b"HELP", commands.parse_help, _ANY, _ok(211, 214, 250), "5321 §4.1.1.8"),
    Command(b"VRFY", commands.parse_vrfy, _ANY, _ok(250, 251, 252), "5321 §4.1.1.6",
            needs_login=True, max_line=MAX_COMMAND_LINE + SMTPUTF8_WORD),
    Command(b"EXPN", commands.parse_expn, _ANY, _ok(250), "5321 §4.1.1.7",
            needs_login=True, max_line=MAX_COMMAND_LINE + SMTPUTF8_WORD),
    Command(b"STARTTLS", commands.parse_starttls, frozenset({State.IDENTIFIED}), _ok(220, then=State.SECURING),
            "3207 §4", needs_tls=False, needs_ehlo=True),
    # Not the end of a group: after an initial response more may follow (RFC 4954 §4).
    Command(b"AUTH", commands.parse_auth, frozenset({State.IDENTIFIED}), _ok(235), "4954 §4",
            needs_tls=False, needs_ehlo=True, ends_group=False, max_line=MAX_AUTH_LINE),
)
# fmt: on

COMMANDS: dict[Mode, dict[bytes, Command]] = {
    mode: {row.verb: row for row in _ROWS if mode in row.modes} for mode in Mode
}

# First words of other protocols' requests: a page in a browser can make it send them to any port.
FOREIGN_VERBS = frozenset({b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"HOST:", b"SSH-2.0-"})

FAREWELLS = frozenset({421, 521})  # replies that end the connection (RFC 5321 §3.8, RFC 7504 §4)

# Events that no command line makes.
GREETING = _ok(220, then=State.GREETED, otherwise=State.REFUSED)
REFUSAL = _ok()
CHUNK_END = _ok(250, then=State.CHUNKS, otherwise=State.FAILED_CHUNKS)
MESSAGE_END = _ok(250, then=State.IDENTIFIED, otherwise=State.IDENTIFIED)
MESSAGE_BAD = _ok(otherwise=State.IDENTIFIED)
CHUNK_BAD = _ok(otherwise=State.FAILED_CHUNKS)
ENDS_OF_CONTENT = (MESSAGE_END, MESSAGE_BAD)  # where LMTP replies once per recipient (RFC 2033 §4.2)
AUTH_RESPONSE = _ok(235, then=State.IDENTIFIED, otherwise=State.IDENTIFIED)

# Seconds to wait for the peer (RFC 5321 §4.5.3.2.7: at least 5 minutes for the next command).
_COMMAND_WAIT = 300.0
WAIT_LIMITS: dict[State, float] = {
    **dict.fromkeys(State, _COMMAND_WAIT),
    State.CONNECTED: 300.0,  # §4.5.3.2.1: nobody waits for the peer here, our greeting is due
    State.REFUSED: 60.0,  # it has only QUIT to say
    State.SECURING: 60.0,  # a handshake is two round trips; nothing else may hold the connection
    State.CONTENT: 180.0,  # §4.5.3.2.5: between two blocks of content
    State.CLOSED: 0.0,
}
# While the server stops, a client in mid-transaction is given this long for each next thing it says.
DRAIN_WAIT = 10.0


def hint(state: State, verb: bytes) -> str:
    """Why a known verb is out of order now, in one sentence."""
    match state:
        case State.REFUSED:
            return "No service here; say QUIT"
        case State.GREETED:
            return "Say EHLO first"
        case State.IDENTIFIED:
            return "MAIL first"
        case State.MAIL if verb in {b"DATA", b"BDAT"}:
            return "No valid recipients"
        case State.FAILED_CHUNKS:
            return "A chunk was refused; say RSET"
        case State.CHUNKS:
            return "BDAT has begun; send the rest with BDAT, or say RSET"
        case _:
            return "Not within a mail transaction; say RSET first"
