# SPDX-License-Identifier: Apache-2.0
"""Why something about a mailbox is not done, in words that IMAP, JMAP and people each understand."""

from __future__ import annotations

from enum import StrEnum

from posthouse.outcome import Refusal, Status

OTHER_MAILBOX_STATUS = Status(5, 2, 0)  # RFC 3463 §3.3; `Reason` says more


class Reason(StrEnum):
    """Why not, in the words of RFC 5530 §3 (response codes of IMAP); JMAP has one error for each, too."""

    NONEXISTENT = "NONEXISTENT"
    ALREADYEXISTS = "ALREADYEXISTS"
    HASCHILDREN = "HASCHILDREN"
    CANNOT = "CANNOT"
    NOPERM = "NOPERM"
    LIMIT = "LIMIT"
    OVERQUOTA = "OVERQUOTA"
    USEATTR = "USEATTR"  # RFC 6154 §3
    TRYCREATE = "TRYCREATE"  # RFC 9051 §7.1
    EXPUNGEISSUED = "EXPUNGEISSUED"


class MailboxRefusal(Refusal):
    """A request about a mailbox that is not done; `reason` says why, for clients that understand it."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(OTHER_MAILBOX_STATUS, text)
        self.reason = reason
