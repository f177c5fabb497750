# SPDX-License-Identifier: Apache-2.0
"""All states, commands and transitions of the IMAP server (RFC 9051 §3). What is not in a row is not legal.

CONNECTED --OK--> NOT_AUTHENTICATED --LOGIN, AUTHENTICATE--> AUTHENTICATED --SELECT, EXAMINE--> SELECTED
    |BYE            |  ^   ^  |+                 ^              |  ^  |                           |   |
    v        STARTTLS  |   |  v                  |              |  |  +--IDLE--> IDLING <--IDLE---+   |
  CLOSED            v  |   | AUTHENTICATING -----+              |  +--CLOSE, UNSELECT, failed SELECT--+
                  SECURING +------------UNAUTHENTICATE----------+
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, auto
from functools import partial

from posthouse.protocol.imap import events, limits, parse_mailbox, parse_message, parse_search, parse_session
from posthouse.protocol.imap.parse_message import Appending
from posthouse.protocol.imap.tokens import Cursor


class State(IntEnum):  # of integers, as sets of them are looked into for every command: their hash is cheap
    CONNECTED = auto()  # the greeting is not said yet
    NOT_AUTHENTICATED = auto()
    AUTHENTICATING = auto()  # a challenge was sent: the next line is the client's response
    SECURING = auto()  # OK was said to STARTTLS: the handshake is next
    AUTHENTICATED = auto()
    SELECTED = auto()
    IDLING = auto()  # "+" was said to IDLE: the next line is DONE
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class Command:
    """`then`: the state after OK; `otherwise`: after NO or BAD (None: it stays)."""

    parse: Callable[[Cursor], events.Event | Appending]
    legal: frozenset[State]
    rfc: str
    then: State | None = None
    otherwise: State | None = None
    needs_tls: bool = False  # refused in plaintext where the listener requires TLS: a password would cross it
    # Names messages by sequence number: refused once UIDONLY is enabled (RFC 9586 §3).
    uses_numbers: bool = False
    # No EXPUNGE may be told in its answer: the client counts on the numbers (RFC 9051 §7.5.1, RFC 5256 §3).
    keeps_numbers: bool = False
    max_before_login: int = limits.MAX_COMMAND_BEFORE_LOGIN  # octets of lines and literals


_BEFORE = frozenset({State.NOT_AUTHENTICATED})
_SELECTED = frozenset({State.SELECTED})
_INSIDE = frozenset({State.AUTHENTICATED, State.SELECTED})
_ANY = _BEFORE | _INSIDE
# What is sent while one of these is being answered is not read as commands before the answer.
IDLE = _ANY | {State.IDLING}  # nothing begun: a good moment to stop

_read_write = partial(parse_mailbox.parse_select, is_read_only=False)
_read_only = partial(parse_mailbox.parse_select, is_read_only=True)


def _plain(parse: Callable[[Cursor], events.Event], rfc: str, legal: frozenset[State] = _INSIDE) -> Command:
    return Command(parse, legal, rfc)


def _numbered(parse: Callable[[Cursor], events.Event], rfc: str) -> Command:
    """With message sequence numbers in arguments and answer."""
    return Command(parse, _SELECTED, rfc, uses_numbers=True, keeps_numbers=True)


# fmt: off
COMMANDS: dict[bytes, Command] = {
    b"CAPABILITY": _plain(parse_session.parse_capability, "RFC 9051 §6.1.1", _ANY),
    b"NOOP": _plain(parse_session.parse_noop, "RFC 9051 §6.1.2", _ANY),
    b"LOGOUT": Command(parse_session.parse_logout, _ANY, "RFC 9051 §6.1.3",
                       then=State.CLOSED, otherwise=State.CLOSED),
    b"ID": Command(parse_session.parse_id, _ANY, "RFC 2971 §3.1", max_before_login=limits.MAX_ID_COMMAND),
    b"STARTTLS": Command(parse_session.parse_starttls, _BEFORE, "RFC 9051 §6.2.1", then=State.SECURING),
    b"AUTHENTICATE": Command(parse_session.parse_authenticate, _BEFORE, "RFC 9051 §6.2.2, RFC 4959 §3",
                             then=State.AUTHENTICATED, max_before_login=limits.MAX_AUTH_LINE),
    b"LOGIN": Command(parse_session.parse_login, _BEFORE, "RFC 9051 §6.2.3", then=State.AUTHENTICATED,
                      needs_tls=True),
    b"ENABLE": _plain(parse_session.parse_enable, "RFC 9051 §6.3.1"),
    b"SELECT": Command(_read_write, _INSIDE, "RFC 9051 §6.3.2",
                       then=State.SELECTED, otherwise=State.AUTHENTICATED),
    b"EXAMINE": Command(_read_only, _INSIDE, "RFC 9051 §6.3.3",
                        then=State.SELECTED, otherwise=State.AUTHENTICATED),
    b"CREATE": _plain(parse_mailbox.parse_create, "RFC 9051 §6.3.4"),
    b"DELETE": _plain(parse_mailbox.parse_delete, "RFC 9051 §6.3.5"),
    b"RENAME": _plain(parse_mailbox.parse_rename, "RFC 9051 §6.3.6"),
    b"SUBSCRIBE": _plain(parse_mailbox.parse_subscribe, "RFC 9051 §6.3.7"),
    b"UNSUBSCRIBE": _plain(parse_mailbox.parse_unsubscribe, "RFC 9051 §6.3.8"),
    b"LIST": _plain(parse_mailbox.parse_list, "RFC 9051 §6.3.9"),
    b"LSUB": _plain(parse_mailbox.parse_lsub, "RFC 3501 §6.3.9"),
    b"NAMESPACE": _plain(parse_session.parse_namespace, "RFC 9051 §6.3.10"),
    b"STATUS": _plain(parse_mailbox.parse_status, "RFC 9051 §6.3.11"),
    b"APPEND": Command(parse_message.parse_append, _INSIDE, "RFC 9051 §6.3.12, RFC 3502 §6.3.11"),
    b"IDLE": _plain(parse_session.parse_idle, "RFC 9051 §6.3.13"),
    b"COMPRESS": _plain(parse_session.parse_compress, "RFC 4978 §3"),
    b"UNAUTHENTICATE": Command(parse_session.parse_unauthenticate, _INSIDE, "RFC 8437 §3",
                               then=State.NOT_AUTHENTICATED),
    b"GETACL": _plain(parse_mailbox.parse_getacl, "RFC 4314 §3.3"),
    b"SETACL": _plain(parse_mailbox.parse_setacl, "RFC 4314 §3.1"),
    b"DELETEACL": _plain(parse_mailbox.parse_deleteacl, "RFC 4314 §3.2"),
    b"LISTRIGHTS": _plain(parse_mailbox.parse_listrights, "RFC 4314 §3.4"),
    b"MYRIGHTS": _plain(parse_mailbox.parse_myrights, "RFC 4314 §3.5"),
    b"GETQUOTA": _plain(parse_mailbox.parse_getquota, "RFC 9208 §4.1.1"),
    b"GETQUOTAROOT": _plain(parse_mailbox.parse_getquotaroot, "RFC 9208 §4.1.2"),
    b"SETQUOTA": _plain(parse_mailbox.parse_setquota, "RFC 9208 §4.1.3"),
    b"CHECK": _plain(parse_message.parse_check, "RFC 3501 §6.4.1", _SELECTED),
    b"CLOSE": Command(parse_message.parse_close, _SELECTED, "RFC 9051 §6.4.1", then=State.AUTHENTICATED),
    b"UNSELECT": Command(parse_message.parse_unselect, _SELECTED, "RFC 9051 §6.4.2", then=State.AUTHENTICATED),
    b"EXPUNGE": _plain(parse_message.parse_expunge, "RFC 9051 §6.4.3", _SELECTED),
    b"SEARCH": _numbered(parse_search.parse_search, "RFC 9051 §6.4.4"),
    b"SORT": _numbered(parse_search.parse_sort, "RFC 5256 §3"),
    b"THREAD": _numbered(parse_search.parse_thread, "RFC 5256 §3"),
    b"FETCH": _numbered(parse_message.parse_fetch, "RFC 9051 §6.4.5"),
    b"STORE": _numbered(parse_message.parse_store, "RFC 9051 §6.4.6"),
    # COPY, MOVE and REPLACE name messages by number, but say what they did before anything is told to be gone.
    b"COPY": Command(parse_message.parse_copy, _SELECTED, "RFC 9051 §6.4.7", uses_numbers=True),
    b"MOVE": Command(parse_message.parse_move, _SELECTED, "RFC 9051 §6.4.8", uses_numbers=True),
    b"REPLACE": Command(parse_message.parse_replace, _SELECTED, "RFC 8508 §3", uses_numbers=True),
    b"UID EXPUNGE": _plain(parse_message.parse_expunge, "RFC 9051 §6.4.9", _SELECTED),
    b"UID SEARCH": _plain(parse_search.parse_search, "RFC 9051 §6.4.9", _SELECTED),
    b"UID SORT": _plain(parse_search.parse_sort, "RFC 5256 §3", _SELECTED),
    b"UID THREAD": _plain(parse_search.parse_thread, "RFC 5256 §3", _SELECTED),
    b"UID FETCH": _plain(parse_message.parse_fetch, "RFC 9051 §6.4.9", _SELECTED),
    b"UID STORE": _plain(parse_message.parse_store, "RFC 9051 §6.4.9", _SELECTED),
    b"UID COPY": _plain(parse_message.parse_copy, "RFC 9051 §6.4.9", _SELECTED),
    b"UID MOVE": _plain(parse_message.parse_move, "RFC 9051 §6.4.9", _SELECTED),
    b"UID REPLACE": Command(parse_message.parse_replace, _SELECTED, "RFC 8508 §3"),
}
# fmt: on

WAIT_LIMITS: dict[State, float] = {
    **dict.fromkeys(State, limits.COMMAND_WAIT),
    State.CONNECTED: limits.LOGIN_WAIT,
    State.NOT_AUTHENTICATED: limits.LOGIN_WAIT,
    State.AUTHENTICATING: limits.LOGIN_WAIT,
    State.SECURING: limits.HANDSHAKE_WAIT,
    State.CLOSED: 0.0,
}


def hint(state: State, legal: frozenset[State]) -> str:
    """Why a known command is out of order now, in one sentence."""
    if state == State.NOT_AUTHENTICATED:
        return "Log in first"
    if legal == _BEFORE:
        return "Not after login"
    return "Select a mailbox first"
