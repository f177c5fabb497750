# SPDX-License-Identifier: Apache-2.0
"""Response codes (RFC 9051 §7.1): what stands between the brackets. Each is one line of ASCII."""

from __future__ import annotations

from collections.abc import Iterable

from posthouse.mail.number_set import Ranges
from posthouse.protocol.imap.strings import ranges_text

ALERT = "ALERT"
ALREADYEXISTS = "ALREADYEXISTS"
AUTHENTICATIONFAILED = "AUTHENTICATIONFAILED"
AUTHORIZATIONFAILED = "AUTHORIZATIONFAILED"
CANNOT = "CANNOT"
CLIENTBUG = "CLIENTBUG"
CLOSED = "CLOSED"  # RFC 7162 §3.2.11
COMPRESSIONACTIVE = "COMPRESSIONACTIVE"  # RFC 4978 §3
CONTACTADMIN = "CONTACTADMIN"
CORRUPTION = "CORRUPTION"
EXPIRED = "EXPIRED"
EXPUNGEISSUED = "EXPUNGEISSUED"
HASCHILDREN = "HASCHILDREN"
INUSE = "INUSE"
LIMIT = "LIMIT"
NOMODSEQ = "NOMODSEQ"
NONEXISTENT = "NONEXISTENT"
NOPERM = "NOPERM"
NOTSAVED = "NOTSAVED"
OVERQUOTA = "OVERQUOTA"
PARSE = "PARSE"
PRIVACYREQUIRED = "PRIVACYREQUIRED"
READ_ONLY = "READ-ONLY"
READ_WRITE = "READ-WRITE"
SERVERBUG = "SERVERBUG"
TOOBIG = "TOOBIG"  # RFC 7889 §3
TRYCREATE = "TRYCREATE"
UIDREQUIRED = "UIDREQUIRED"  # RFC 9586 §3
UNAVAILABLE = "UNAVAILABLE"
UNKNOWN_CTE = "UNKNOWN-CTE"
USEATTR = "USEATTR"  # RFC 6154 §3


def capability(words: Iterable[str]) -> str:
    return "CAPABILITY " + " ".join(words)


def permanent_flags(flags: Iterable[str]) -> str:
    return f"PERMANENTFLAGS ({' '.join(flags)})"


def uid_validity(value: int) -> str:
    return f"UIDVALIDITY {value}"


def uid_next(value: int) -> str:
    return f"UIDNEXT {value}"


def unseen(number: int) -> str:
    """The number of the first message without \\Seen (RFC 3501 §7.1); 9051 has it no more."""
    return f"UNSEEN {number}"


def highest_modseq(value: int) -> str:
    return f"HIGHESTMODSEQ {value}"


def mailbox_id(value: str) -> str:
    return f"MAILBOXID ({value})"


def append_uid(validity: int, uids: Ranges) -> str:
    """Several UIDs for MULTIAPPEND (RFC 4315 §3)."""
    return f"APPENDUID {validity} {_set(uids)}"


def copy_uid(validity: int, source: Ranges, target: Ranges) -> str:
    return f"COPYUID {validity} {_set(source)} {_set(target)}"


def modified(numbers: Ranges) -> str:
    """What STORE UNCHANGEDSINCE left alone (RFC 7162 §3.1.3)."""
    return f"MODIFIED {_set(numbers)}"


def _set(ranges: Ranges) -> str:
    return ranges_text(ranges).decode("ascii")
