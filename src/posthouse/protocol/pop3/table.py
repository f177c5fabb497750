# SPDX-License-Identifier: Apache-2.0
"""All states, keywords and transitions of the POP3 server. What is not in a row is not legal.

CONNECTED --+OK--> AUTHORIZATION --USER, PASS or AUTH--> TRANSACTION --QUIT--> UPDATE --answer--> CLOSED
    |-ERR             |   ^   |334                          | lost connection: nothing is removed
    v              STLS   |   v                             v
  CLOSED              v   | AUTHENTICATING               CLOSED
                   SECURING
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, auto

from posthouse.protocol.pop3 import commands, events


class State(IntEnum):
    CONNECTED = auto()  # the greeting is not said yet
    AUTHORIZATION = auto()
    AUTHENTICATING = auto()  # a challenge was sent: the next line is the client's response
    SECURING = auto()  # +OK was said to STLS: the handshake is next
    TRANSACTION = auto()
    UPDATE = auto()  # QUIT was said
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class Command:
    """`then`: the state after +OK (None: it stays)."""

    parse: Callable[[bytes], events.Event]
    legal: frozenset[State]
    rfc: str
    then: State | None = None
    needs_tls: bool = False  # refused in plaintext where the listener requires TLS: a password would cross it
    ends_group: bool = False  # nothing may be pipelined behind it (RFC 2449 §6.8)


_BEFORE = frozenset({State.AUTHORIZATION})
_INSIDE = frozenset({State.TRANSACTION})
_BOTH = _BEFORE | _INSIDE

COMMANDS: dict[bytes, Command] = {
    b"USER": Command(commands.parse_user, _BEFORE, "RFC 1939 §7", needs_tls=True),
    b"PASS": Command(commands.parse_pass, _BEFORE, "RFC 1939 §7", then=State.TRANSACTION, needs_tls=True),
    b"AUTH": Command(commands.parse_auth, _BEFORE, "RFC 5034 §4", then=State.TRANSACTION, ends_group=True),
    b"CAPA": Command(commands.parse_capa, _BOTH, "RFC 2449 §5"),
    b"STLS": Command(commands.parse_stls, _BEFORE, "RFC 2595 §4", then=State.SECURING, ends_group=True),
    b"STAT": Command(commands.parse_stat, _INSIDE, "RFC 1939 §5"),
    b"LIST": Command(commands.parse_list, _INSIDE, "RFC 1939 §5"),
    b"RETR": Command(commands.parse_retr, _INSIDE, "RFC 1939 §5"),
    b"DELE": Command(commands.parse_dele, _INSIDE, "RFC 1939 §5"),
    b"NOOP": Command(commands.parse_noop, _INSIDE, "RFC 1939 §5"),
    b"RSET": Command(commands.parse_rset, _INSIDE, "RFC 1939 §5"),
    b"TOP": Command(commands.parse_top, _INSIDE, "RFC 1939 §7"),
    b"UIDL": Command(commands.parse_uidl, _INSIDE, "RFC 1939 §7"),
    b"UTF8": Command(commands.parse_utf8, _BEFORE, "RFC 6856 §2"),
    b"LANG": Command(commands.parse_lang, _BOTH, "RFC 6856 §3"),
    b"QUIT": Command(commands.parse_quit, _BOTH, "RFC 1939 §4 and §6", then=State.CLOSED, ends_group=True),
}

# Octets of a command with its CRLF. RFC 2449 §4 tells clients to stay within 255; long passwords in UTF-8 do not.
MAX_LINE = 2048
MAX_AUTH_LINE = 12288  # of a response within AUTH: as SMTP allows (RFC 4954 §4)

# Seconds without a command. RFC 1939 §3: an autologout timer "MUST be of at least 10 minutes' duration". It is the
# session's, and the session begins with the greeting: nothing there allows less before login. What strangers may
# hold open is bounded by connections per address, not by time.
COMMAND_WAIT = 600.0
DRAIN_WAIT = 10.0  # for what is under way when the server stops
