# SPDX-License-Identifier: Apache-2.0
"""What may be said now: commands and literals against the state of a session. Raises CommandFault, changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.mail.search import asks_sequence
from posthouse.ports import TlsInfo
from posthouse.protocol.imap import limits, table
from posthouse.protocol.imap.events import Compress, Event, Search, Select, Sort, StartTls, Thread
from posthouse.protocol.imap.parse_message import Coming
from posthouse.protocol.imap.pending import Head, Pending
from posthouse.protocol.imap.table import Command, State
from posthouse.protocol.imap.tokens import CommandFault


@dataclass(frozen=True, slots=True)
class Terms:
    """What a session allows. `requires_tls`: LOGINDISABLED in plaintext. `literal_minus`: not LITERAL+ (RFC 7888)."""

    requires_tls: bool = False
    max_message_size: int = limits.MAX_NUMBER
    literal_minus: bool = False


def check_command(row: Command, state: State, *, is_protected: bool, is_uid_only: bool) -> None:
    """Whether a command may be said, whatever its arguments."""
    if state not in row.legal:
        raise CommandFault(table.hint(state, row.legal), "CLIENTBUG")
    if row.needs_tls and not is_protected:
        # RFC 9051 §6.2.3: LOGINDISABLED is advertised.
        raise CommandFault("Say STARTTLS first: no password crosses this connection", "PRIVACYREQUIRED", is_no=True)
    if row.uses_numbers and is_uid_only:
        raise uid_required()


def uid_required() -> CommandFault:
    return CommandFault("Messages are named by UID since UIDONLY was enabled", "UIDREQUIRED")  # RFC 9586 §3


def check_event(
    event: Event, *, offers_tls: bool, tls: TlsInfo | None, is_compressed: bool, enabled: frozenset[str]
) -> None:
    """What the arguments may not say in this state."""
    is_uid_only = "UIDONLY" in enabled
    match event:
        case StartTls() if not offers_tls:
            raise CommandFault("TLS is active already" if tls else "TLS is not available here")
        case Compress() if is_compressed:
            raise CommandFault("Compression is active already", "COMPRESSIONACTIVE")  # RFC 4978 §3: BAD
        case Search() | Sort() | Thread() if is_uid_only and asks_sequence(event.key):
            raise uid_required()
        case Select() if is_uid_only and event.qresync is not None and event.qresync.known_numbers is not None:
            raise uid_required()  # RFC 9586 §3.7
        case Select() if event.qresync is not None and "QRESYNC" not in enabled:
            raise CommandFault("QRESYNC needs ENABLE QRESYNC", "CLIENTBUG")  # RFC 7162 §3.2.5
        case _:
            pass


def check_size(pending: Pending, *, is_logged_in: bool) -> None:
    """Lines and literals of a command, those with the one that is about to come."""
    assert pending.row is not None
    allowed = limits.MAX_COMMAND if is_logged_in else pending.row.max_before_login
    if pending.size > allowed or len(pending.literals) >= limits.MAX_LITERALS:
        raise CommandFault("The command is too long", "LIMIT", is_no=True)


def check_non_synchronizing(head: Head, terms: Terms) -> None:
    """RFC 7888 §5."""
    if terms.literal_minus and not head.waits and head.size > limits.LITERAL_MINUS:
        raise CommandFault("A literal of this size must wait for leave (LITERAL-)", "TOOBIG")


def check_message(coming: Coming, terms: Terms) -> None:
    """A message that is about to come."""
    if coming.size > terms.max_message_size:
        raise CommandFault("The message is too big", "TOOBIG", is_no=True)  # RFC 7889 §3
    if not coming.size:
        # RFC 3502 §6.3.11: an error, and a client's way to take everything back.
        raise CommandFault("An empty message is none", is_no=True)
