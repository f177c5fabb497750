# SPDX-License-Identifier: Apache-2.0
"""The words that all layers share: what became of a letter, a recipient, a request.

A `Refusal` is raised by a service and mapped to a reply by the edge; an `Outcome` travels from a remote
host's reply (or a socket error) to the queue, the history, the log and the DSN without losing a word.
Unknown errors are transient: permanence must be said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Status(NamedTuple):
    """Enhanced mail system status code, `class.subject.detail` (RFC 3463 §2)."""

    cls: int
    subject: int
    detail: int

    def __str__(self) -> str:
        return f"{self.cls}.{self.subject}.{self.detail}"

    @property
    def is_success(self) -> bool:
        return self.cls == 2

    @property
    def is_transient(self) -> bool:
        return self.cls == 4

    @property
    def is_permanent(self) -> bool:
        return self.cls == 5

    @classmethod
    def parse(cls, text: str) -> Status | None:
        """`2.1.5` → Status(2, 1, 5); None where the text is no status code."""
        parts = text.split(".")
        if len(parts) != 3 or parts[0] not in ("2", "4", "5"):
            return None
        if not all(part.isascii() and part.isdigit() and len(part) <= 3 for part in parts[1:]):
            return None
        return cls(int(parts[0]), int(parts[1]), int(parts[2]))


class Refusal(Exception):  # noqa: N818 - the field's word; it is an answer, not a fault of ours
    """Somebody asked for something and is told no, with a standard status and one clear sentence.

    `status` decides the reply code at each edge (edges map it); `text` is one line of ASCII without CR or LF.
    `disconnect` asks the edge to close after replying (421 or 521).
    """

    def __init__(self, status: Status, text: str, *, disconnect: bool = False) -> None:
        super().__init__(f"{status} {text}")
        self.status = status
        self.text = text
        self.disconnect = disconnect


@dataclass(frozen=True, slots=True)
class RemoteReply:
    """What the other side said: `code` 250, `status` 2.1.5 where it gave one, `text` without both."""

    code: int
    status: Status | None
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one recipient in one attempt.

    `status.cls` says which: 2 delivered (or passed on), 4 deferred, 5 failed. `diagnostic` is one line for
    people and for Diagnostic-Code; `reply` the remote host's own words where it spoke; `host` its name,
    `address` the IP address tried, `tls` the protocol version or "" for none.
    """

    status: Status
    diagnostic: str
    host: str = ""
    address: str = ""
    tls: str = ""
    reply: RemoteReply | None = None

    @property
    def is_delivered(self) -> bool:
        return self.status.cls == 2

    @property
    def is_deferred(self) -> bool:
        return self.status.cls == 4

    @property
    def is_failed(self) -> bool:
        return self.status.cls == 5


# RFC 3463 §3 and RFC 5248: the codes that services use, by name.
OK = Status(2, 0, 0)
DELIVERED = Status(2, 1, 5)
BAD_MAILBOX = Status(5, 1, 1)
BAD_DOMAIN = Status(5, 1, 2)
BAD_ADDRESS_SYNTAX = Status(5, 1, 3)
MOVED_ADDRESS = Status(5, 1, 6)
BAD_SENDER_SYNTAX = Status(5, 1, 7)
BAD_SENDER_DOMAIN = Status(5, 1, 8)
NULL_MX = Status(5, 1, 10)
MAILBOX_DISABLED = Status(5, 2, 1)
MAILBOX_FULL = Status(4, 2, 2)
MAILBOX_TOO_SMALL = Status(5, 2, 2)
SYSTEM_FAULT = Status(4, 3, 0)
SYSTEM_FULL = Status(4, 3, 1)
SYSTEM_SHUTTING_DOWN = Status(4, 3, 2)
SYSTEM_DAMAGE = Status(5, 3, 0)  # a letter of ours that the disk has lost or changed
MESSAGE_TOO_BIG = Status(5, 3, 4)
NO_ANSWER_FROM_HOST = Status(4, 4, 1)
BAD_CONNECTION = Status(4, 4, 2)
DNS_FAULT = Status(4, 4, 3)
NO_ROUTE = Status(5, 4, 4)
ROUTING_LOOP = Status(5, 4, 6)
EXPIRED = Status(5, 4, 7)  # RFC 3463 says 4.4.7; in a DSN that gives up it is reported as failed
INVALID_COMMAND = Status(5, 5, 1)
SYNTAX_ERROR = Status(5, 5, 2)
TOO_MANY_RECIPIENTS = Status(4, 5, 3)
INVALID_ARGUMENTS = Status(5, 5, 4)
BAD_CONTENT = Status(5, 6, 0)
CONVERSION_REQUIRED = Status(5, 6, 3)
NON_ASCII_NOT_ALLOWED = Status(5, 6, 7)
NOT_AUTHORIZED = Status(5, 7, 1)
SPF_FAILED = Status(5, 7, 23)  # RFC 7372 §3.2
NO_REVERSE_NAME = Status(5, 7, 25)  # RFC 7372 §3.3
SECURITY_TRANSIENT = Status(4, 7, 0)
AUTH_FAILED = Status(5, 7, 8)
AUTH_REQUIRED = Status(5, 7, 0)
ENCRYPTION_NEEDED = Status(5, 7, 10)  # RFC 5248, RFC 8689 §4.2.1
ENCRYPTION_REQUIRED = Status(5, 7, 11)
REQUIRETLS_NEEDED = Status(5, 7, 30)  # RFC 8689 §7
RATE_LIMITED = Status(4, 7, 1)
