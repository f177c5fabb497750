# SPDX-License-Identifier: Apache-2.0
"""The words between the client engine and its driver: settings, events, phases.

Invariant: values only; every phase of a session and how long it may last stand in one table, `Phase`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from posthouse.outcome import Outcome
from posthouse.protocol.smtp.client_auth import Credentials
from posthouse.protocol.smtp.client_offer import Offer


class TlsUse(Enum):
    """What STARTTLS is to this session. TLS from the first octet needs none: call `tls_started` at once."""

    NEVER = "never"
    OFFERED = "if offered"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Who speaks to whom. `nonce` is for SCRAM: unpredictable, printable, no comma, new for each session."""

    helo: str
    host: str  # the remote host's name, for outcomes
    address: str = ""  # its address, for outcomes
    tls: TlsUse = TlsUse.OFFERED
    is_lmtp: bool = False
    credentials: Credentials | None = None
    nonce: str = ""
    may_show_password: bool = False  # without TLS: loopback, or the operator said so
    may_bdat: bool = True  # False for hosts whose CHUNKING is known not to work


@dataclass(frozen=True, slots=True)
class SessionReady:
    """Letters may be sent."""

    offer: Offer


@dataclass(frozen=True, slots=True)
class SessionFailed:
    """No session; CLOSE follows. `is_tls_suspect`: it broke while TLS began, without it might work."""

    outcome: Outcome
    is_tls_suspect: bool = False


@dataclass(frozen=True, slots=True)
class LetterDone:
    """One outcome per forward-path, in order."""

    outcomes: tuple[Outcome, ...]


ClientEvent = SessionReady | SessionFailed | LetterDone


class PhaseRule(NamedTuple):
    """`wait` in seconds; `words` name what is waited for."""

    wait: float | None
    words: str


class Phase(Enum):
    """Where a session is. RFC 5321 §4.5.3.2 gives the waits; where it is silent, that of its neighbours."""

    GREETING = PhaseRule(300.0, "the greeting")  # §4.5.3.2.1
    EHLO = PhaseRule(300.0, "EHLO")
    HELO = PhaseRule(300.0, "HELO")  # after a server that does not know EHLO (§3.2)
    STARTTLS = PhaseRule(120.0, "STARTTLS")
    HANDSHAKE = PhaseRule(None, "the TLS handshake")  # the driver limits it
    AUTH = PhaseRule(180.0, "AUTH")
    READY = PhaseRule(None, "nothing")  # the driver keeps idle sessions as long as it likes
    LETTER = PhaseRule(300.0, "a letter")  # the transaction's step has its own
    QUIT = PhaseRule(5.0, "QUIT")  # §4.1.1.10 wants the reply read; nothing depends on it
    CLOSED = PhaseRule(0.0, "nothing more")
