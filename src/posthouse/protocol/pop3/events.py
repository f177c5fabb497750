# SPDX-License-Identifier: Apache-2.0
"""What the POP3 server engine tells its session. Every event but `Disconnected` waits for exactly one answer."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Opened:
    """The connection is there: answer +OK, or -ERR (which closes)."""


@dataclass(frozen=True, slots=True)
class User:
    name: str


@dataclass(frozen=True, slots=True)
class Pass:
    """`name` from the USER before it. +OK begins TRANSACTION: the maildrop is open and locked."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AuthStart:
    """AUTH with a mechanism (upper case). Answer `challenge`, +OK (as for Pass) or -ERR."""

    mechanism: str
    initial: bytes | None  # decoded initial response; b"" where the client said "="


@dataclass(frozen=True, slots=True)
class AuthList:
    """AUTH without a mechanism: list them (a habit older than CAPA). Answer `listing` or -ERR."""


@dataclass(frozen=True, slots=True)
class AuthResponse:
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Capa:
    """Answer `capabilities`."""


@dataclass(frozen=True, slots=True)
class Stls:
    pass


@dataclass(frozen=True, slots=True)
class Stat:
    pass


@dataclass(frozen=True, slots=True)
class List:
    number: int | None


@dataclass(frozen=True, slots=True)
class Retr:
    number: int


@dataclass(frozen=True, slots=True)
class Dele:
    number: int


@dataclass(frozen=True, slots=True)
class Noop:
    pass


@dataclass(frozen=True, slots=True)
class Rset:
    pass


@dataclass(frozen=True, slots=True)
class Top:
    number: int
    lines: int


@dataclass(frozen=True, slots=True)
class Uidl:
    number: int | None


@dataclass(frozen=True, slots=True)
class Utf8:
    pass


@dataclass(frozen=True, slots=True)
class Lang:
    """`tag` None: list what there is; "*" the server's choice."""

    tag: str | None


@dataclass(frozen=True, slots=True)
class Quit:
    """`is_update`: the session was in TRANSACTION, so the marked letters go now. Any answer closes."""

    is_update: bool


@dataclass(frozen=True, slots=True)
class CommandError:
    """A command that the engine refuses. Answer with `err(text, code)`, late if you like."""

    text: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The peer is gone without QUIT: nothing is removed (RFC 1939 §6)."""


Event = (
    Opened
    | User
    | Pass
    | AuthStart
    | AuthList
    | AuthResponse
    | Capa
    | Stls
    | Stat
    | List
    | Retr
    | Dele
    | Noop
    | Rset
    | Top
    | Uidl
    | Utf8
    | Lang
    | Quit
    | CommandError
    | Disconnected
)
