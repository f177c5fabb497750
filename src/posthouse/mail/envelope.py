# SPDX-License-Identifier: Apache-2.0
"""What SMTP says about a letter, apart from its content: reverse-path, forward-paths, DSN parameters."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Flag, StrEnum, auto

from posthouse.mail.address import Address


class BodyType(StrEnum):
    """BODY= of MAIL FROM (RFC 6152, RFC 3030 §3)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT = "8BITMIME"
    BINARY = "BINARYMIME"


class DsnReturn(StrEnum):
    """RET= of MAIL FROM (RFC 3461 §4.3)."""

    FULL = "FULL"
    HEADERS = "HDRS"


class Notify(Flag):
    """NOTIFY= of RCPT TO (RFC 3461 §4.1). NEVER excludes the others; unset means failure and delay."""

    NEVER = auto()
    SUCCESS = auto()
    FAILURE = auto()
    DELAY = auto()


class TlsWish(StrEnum):
    """What a letter's author asks of its way (RFC 8689 §4.1)."""

    USUAL = ""
    REQUIRED = "required"  # REQUIRETLS of MAIL FROM: only to authenticated hosts that promise the same
    OPTIONAL = "optional"  # TLS-Required: No: rather unprotected than undelivered, whatever the recipient's policy


@dataclass(frozen=True, slots=True)
class ReversePath:
    """Argument of MAIL FROM with its parameters. `address` is None for the null reverse-path `<>`."""

    address: Address | None
    size: int | None = None  # SIZE=, octets (RFC 1870 §6)
    body: BodyType = BodyType.SEVEN_BIT
    smtputf8: bool = False  # RFC 6531 §3.4
    dsn_return: DsnReturn | None = None
    envelope_id: str | None = None  # ENVID=, decoded from xtext (RFC 3461 §4.4)
    auth: str | None = None  # AUTH=, decoded from xtext (RFC 4954 §5); carried, never trusted
    hold_until: int | None = None  # seconds since the epoch; reserved for FUTURERELEASE (RFC 4865)
    wish: TlsWish = TlsWish.USUAL

    @property
    def is_null(self) -> bool:
        return self.address is None

    def __str__(self) -> str:
        return "" if self.address is None else str(self.address)


@dataclass(frozen=True, slots=True)
class ForwardPath:
    """Argument of RCPT TO with its DSN parameters (RFC 3461 §4.1 and §4.2)."""

    address: Address
    notify: Notify | None = None
    original_recipient: str | None = None  # ORCPT= as `addr-type;address`, xtext decoded

    def __str__(self) -> str:
        return str(self.address)


@dataclass(frozen=True, slots=True)
class Envelope:
    reverse_path: ReversePath
    forward_paths: tuple[ForwardPath, ...]
