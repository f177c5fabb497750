# SPDX-License-Identifier: Apache-2.0
"""From what the remote host said, or did not say, to an `Outcome`, without losing a word.

Invariant: the class of the status is the class of the reply code; silence and nonsense are transient.
"""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.outcome import (
    AUTH_FAILED,
    AUTH_REQUIRED,
    BAD_ADDRESS_SYNTAX,
    BAD_CONNECTION,
    INVALID_ARGUMENTS,
    INVALID_COMMAND,
    MAILBOX_TOO_SMALL,
    MOVED_ADDRESS,
    NULL_MX,
    SYNTAX_ERROR,
    SYSTEM_FAULT,
    SYSTEM_FULL,
    SYSTEM_SHUTTING_DOWN,
    TOO_MANY_RECIPIENTS,
    Outcome,
    Status,
)
from posthouse.protocol.smtp.replies import Reply
from posthouse.protocol.smtp.reply_parser import remote_reply

# X.5.0: "Something was wrong with the protocol" (RFC 3463 §3.6).
PROTOCOL_FAULT = Status(4, 5, 0)
# X.7.4: "Security features not supported"; X.7.5: "Cryptographic failure" (RFC 3463 §3.8).
TLS_NOT_OFFERED = Status(4, 7, 4)
TLS_FAILED = Status(4, 7, 5)
# X.7.8 of the transient class: a wrong password for a smart host is mended by its operator, not by the sender.
LOGIN_REFUSED = Status(4, AUTH_FAILED.subject, AUTH_FAILED.detail)
# X.6.9: "UTF-8 header message cannot be transferred to one or more recipients" (RFC 6531 §4.1).
UTF8_HEADER_NOT_ALLOWED = Status(5, 6, 9)

# Codes whose meaning is one enhanced status (RFC 5321 §4.2.3, RFC 5248 §2.4). 450, 550 and 554 say too many
# things to be one: they become x.0.0.
_STATUS_OF_CODE = {
    421: SYSTEM_SHUTTING_DOWN,
    451: SYSTEM_FAULT,
    452: SYSTEM_FULL,
    455: Status(4, 5, 4),
    500: SYNTAX_ERROR,
    501: INVALID_ARGUMENTS,
    502: INVALID_COMMAND,
    503: INVALID_COMMAND,
    504: INVALID_ARGUMENTS,
    530: AUTH_REQUIRED,
    535: AUTH_FAILED,
    551: MOVED_ADDRESS,
    552: MAILBOX_TOO_SMALL,
    553: BAD_ADDRESS_SYNTAX,
    555: INVALID_ARGUMENTS,
    556: NULL_MX,
}


@dataclass(frozen=True, slots=True)
class Host:
    """The names by which outcomes call the other side."""

    name: str
    address: str = ""
    tls: str = ""  # the protocol version and by what the host is authenticated, "" for none

    def said(self, reply: Reply, to: str, *, status: Status | None = None) -> Outcome:
        """The host's own words; `to` names the command or the stage that they answer."""
        kept = remote_reply(reply)
        status = status or status_of(reply)
        words = " ".join(part for part in (str(kept.code), str(kept.status or ""), kept.text) if part)
        return Outcome(status, f"{words} (in reply to {to})", self.name, self.address, self.tls, kept)

    def silent(self, why: str, *, status: Status = BAD_CONNECTION) -> Outcome:
        """What we say ourselves: the connection was lost, a time-out, a letter that the host cannot take."""
        return Outcome(status, why, self.name, self.address, self.tls)


def status_of(reply: Reply) -> Status:
    """The reply's enhanced status, its class put right; where it has none, what its code means."""
    cls = reply.code // 100
    if cls not in (2, 4, 5):
        return PROTOCOL_FAULT
    if reply.status is not None:
        return Status(cls, reply.status.subject, reply.status.detail)
    return _STATUS_OF_CODE.get(reply.code, Status(cls, 0, 0))


def rcpt_status(reply: Reply) -> Status:
    """As `status_of`, for a reply to RCPT."""
    # RFC 5321 §4.5.3.1.10: 552 after many recipients means 452, "too many recipients".
    if reply.code == 552 and (reply.status is None or reply.status[1:] == TOO_MANY_RECIPIENTS[1:]):
        return TOO_MANY_RECIPIENTS
    return status_of(reply)
