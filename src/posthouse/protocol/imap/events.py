# SPDX-License-Identifier: Apache-2.0
"""What the IMAP server engine tells its session: one event per command, and what happens around them.

Every event waits for exactly one tagged answer (`ok`, `no` or `bad`), but: `MessageChunk` and `Disconnected` wait
for none, `MessageStart` for `go_on` or a refusal, `Opened` for `greet` or `bye`. The engine keeps the tags.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from posthouse.mail.number_set import NumberSet
from posthouse.mail.search import PartialRange, ReturnOption, SearchKey, SortKey, ThreadAlgorithm
from posthouse.protocol.imap.fetch_items import BinarySection, BodySection, FetchItem

# --- in any state ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opened:
    """The connection is there: `greet`, or `bye`."""


@dataclass(frozen=True, slots=True)
class Capability:
    pass


@dataclass(frozen=True, slots=True)
class Noop:
    pass


@dataclass(frozen=True, slots=True)
class Logout:
    """Any answer closes; BYE is said by the engine."""


@dataclass(frozen=True, slots=True)
class Id:
    """RFC 2971 §3.1. None: NIL was said."""

    parameters: tuple[tuple[str, str | None], ...] | None


# --- before login ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartTls:
    pass


@dataclass(frozen=True, slots=True)
class AuthStart:
    """AUTHENTICATE with a mechanism (upper case). Answer `challenge`, or a tagged one."""

    mechanism: str
    initial: bytes | None = field(repr=False)  # decoded; b"" where the client said "="


@dataclass(frozen=True, slots=True)
class AuthResponse:
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Login:
    name: str
    password: str = field(repr=False)


# --- after login: mailboxes -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Enable:
    """Words in upper case, known or not (RFC 5161 §3.1). Answer `enabled` with those that are, then `ok`."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Qresync:
    """What the client knows of the mailbox (RFC 7162 §3.2.5)."""

    uid_validity: int
    mod_sequence: int
    known_uids: NumberSet | None = None
    # Message numbers and their UIDs, both ascending and equally many.
    known_numbers: NumberSet | None = None
    known_number_uids: NumberSet | None = None


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT and EXAMINE. Any answer but OK leaves no mailbox selected."""

    mailbox: str
    is_read_only: bool
    condstore: bool = False
    qresync: Qresync | None = None


@dataclass(frozen=True, slots=True)
class Create:
    mailbox: str
    special_uses: tuple[str, ...] = ()  # with their backslash (RFC 6154 §3)


@dataclass(frozen=True, slots=True)
class Delete:
    mailbox: str


@dataclass(frozen=True, slots=True)
class Rename:
    mailbox: str
    new_name: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    mailbox: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    mailbox: str


class StatusItem(Enum):
    MESSAGES = "MESSAGES"
    RECENT = "RECENT"  # RFC 3501
    UIDNEXT = "UIDNEXT"
    UIDVALIDITY = "UIDVALIDITY"
    UNSEEN = "UNSEEN"
    DELETED = "DELETED"
    DELETED_STORAGE = "DELETED-STORAGE"  # RFC 9208 §4.1.4
    SIZE = "SIZE"
    HIGHESTMODSEQ = "HIGHESTMODSEQ"  # RFC 7162 §3.1.7
    MAILBOXID = "MAILBOXID"  # RFC 8474 §4.3
    APPENDLIMIT = "APPENDLIMIT"  # RFC 7889 §3.1


@dataclass(frozen=True, slots=True)
class List:
    """`is_extended`: selection or return options or several patterns were given (RFC 9051 §6.3.9)."""

    reference: str
    patterns: tuple[str, ...]
    is_extended: bool = False
    # Selection options
    only_subscribed: bool = False
    with_remote: bool = False
    recursive_match: bool = False
    only_special_use: bool = False
    # Return options
    tell_subscribed: bool = False
    tell_children: bool = False
    tell_special_use: bool = False
    tell_my_rights: bool = False  # RFC 8440 §3
    status: tuple[StatusItem, ...] = ()


@dataclass(frozen=True, slots=True)
class Lsub:
    reference: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Namespace:
    pass


@dataclass(frozen=True, slots=True)
class Status:
    mailbox: str
    items: tuple[StatusItem, ...]


@dataclass(frozen=True, slots=True)
class Idle:
    """Answer `idle` (what is new may then be told at any time), or refuse. It ends with IdleDone."""


@dataclass(frozen=True, slots=True)
class IdleDone:
    """Tell what is new and answer `ok`."""


@dataclass(frozen=True, slots=True)
class Compress:
    """DEFLATE (RFC 4978 §3)."""


@dataclass(frozen=True, slots=True)
class Unauthenticate:
    """Forget the person; OK, or `bye` (RFC 8437 §3)."""


# --- appending ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MessageStart:
    """The next message of APPEND or REPLACE is about to come: `go_on` takes it, `no` or `bad` refuses the command.

    After it: MessageChunk (any number), then MessageStart again (MULTIAPPEND), AppendEnd or ReplaceEnd; or
    CommandError, after which nothing of the whole command may be kept.
    """

    mailbox: str
    index: int  # from 0
    size: int
    flags: tuple[str, ...] = ()
    internal_date: datetime | None = None
    is_binary: bool = False  # literal8: NUL may be in it
    is_utf8: bool = False  # UTF8 (~{…}): the header has UTF-8 (RFC 6855 §4)
    replaces: tuple[NumberSet, bool] | None = None  # one number, and whether it is a UID (RFC 8508 §3)


@dataclass(frozen=True, slots=True)
class MessageChunk:
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AppendEnd:
    """All messages are here."""

    mailbox: str
    count: int


@dataclass(frozen=True, slots=True)
class ReplaceEnd:
    mailbox: str
    number: NumberSet
    by_uid: bool


# --- rights and quota -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GetAcl:
    mailbox: str


class RightsChange(Enum):
    SET = ""
    ADD = "+"
    REMOVE = "-"


@dataclass(frozen=True, slots=True)
class SetAcl:
    mailbox: str
    identifier: str
    change: RightsChange
    rights: str


@dataclass(frozen=True, slots=True)
class DeleteAcl:
    mailbox: str
    identifier: str


@dataclass(frozen=True, slots=True)
class ListRights:
    mailbox: str
    identifier: str


@dataclass(frozen=True, slots=True)
class MyRights:
    mailbox: str


@dataclass(frozen=True, slots=True)
class GetQuota:
    root: str


@dataclass(frozen=True, slots=True)
class GetQuotaRoot:
    mailbox: str


@dataclass(frozen=True, slots=True)
class SetQuota:
    root: str
    limits: tuple[tuple[str, int], ...]  # resource names in upper case


# --- with a selected mailbox ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """RFC 3501 §6.4.1."""


@dataclass(frozen=True, slots=True)
class Close:
    """Expunge without telling, and deselect."""


@dataclass(frozen=True, slots=True)
class Unselect:
    pass


@dataclass(frozen=True, slots=True)
class Expunge:
    """`uids`: only these (RFC 9051 §6.4.9)."""

    uids: NumberSet | None = None


@dataclass(frozen=True, slots=True)
class Fetch:
    numbers: NumberSet
    by_uid: bool
    items: tuple[FetchItem, ...]
    changed_since: int | None = None  # RFC 7162 §3.1.4.1
    tell_vanished: bool = False  # RFC 7162 §3.2.6
    partial: PartialRange | None = None  # RFC 9394 §3.2

    @property
    def sets_seen(self) -> bool:
        return any(isinstance(item, BodySection | BinarySection) and not item.is_peek for item in self.items)


class StoreMode(Enum):
    SET = ""
    ADD = "+"
    REMOVE = "-"


@dataclass(frozen=True, slots=True)
class Store:
    numbers: NumberSet
    by_uid: bool
    mode: StoreMode
    flags: tuple[str, ...]
    is_silent: bool = False
    unchanged_since: int | None = None  # RFC 7162 §3.1.3


@dataclass(frozen=True, slots=True)
class Copy:
    numbers: NumberSet
    by_uid: bool
    mailbox: str


@dataclass(frozen=True, slots=True)
class Move:
    numbers: NumberSet
    by_uid: bool
    mailbox: str


@dataclass(frozen=True, slots=True)
class Search:
    """`returns` None: RETURN was not said, the answer is SEARCH (rev1) or ESEARCH (rev2)."""

    key: SearchKey
    by_uid: bool
    returns: frozenset[ReturnOption] | None = None
    partial: PartialRange | None = None


@dataclass(frozen=True, slots=True)
class Sort:
    """`returns` None: the answer is SORT, else ESEARCH (RFC 5267 §3)."""

    order: tuple[SortKey, ...]
    key: SearchKey
    by_uid: bool
    returns: frozenset[ReturnOption] | None = None
    partial: PartialRange | None = None


@dataclass(frozen=True, slots=True)
class Thread:
    algorithm: ThreadAlgorithm
    key: SearchKey
    by_uid: bool


# --- of the engine itself -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class More:
    """The answer before was left open with `more`: go on with it."""


@dataclass(frozen=True, slots=True)
class CommandError:
    """A command that the engine refuses, or breaks off. Answer with `refuse(event)`, late if you like.

    `forgets_saved`: `$` stands for nothing from now on (RFC 5182 §2.1: NO to SEARCH RETURN (SAVE)).
    """

    text: str
    code: str = ""
    is_no: bool = False  # else BAD
    forgets_saved: bool = False


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The peer is gone without LOGOUT; what it had not finished saying is not done."""


Event = (
    Opened
    | Capability
    | Noop
    | Logout
    | Id
    | StartTls
    | AuthStart
    | AuthResponse
    | Login
    | Enable
    | Select
    | Create
    | Delete
    | Rename
    | Subscribe
    | Unsubscribe
    | List
    | Lsub
    | Namespace
    | Status
    | Idle
    | IdleDone
    | Compress
    | Unauthenticate
    | MessageStart
    | MessageChunk
    | AppendEnd
    | ReplaceEnd
    | GetAcl
    | SetAcl
    | DeleteAcl
    | ListRights
    | MyRights
    | GetQuota
    | GetQuotaRoot
    | SetQuota
    | Check
    | Close
    | Unselect
    | Expunge
    | Fetch
    | Store
    | Copy
    | Move
    | Search
    | Sort
    | Thread
    | More
    | CommandError
    | Disconnected
)
