# SPDX-License-Identifier: Apache-2.0
"""What the rows and packs of a server say at one instant, read with statements of its own, past the server's code.

Invariant: reading changes nothing and takes no virtual time. What is down is read from a copy, so that not even
the database's own recovery touches it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw
import msgspec

from posthouse.outcome import Outcome
from posthouse.store.queue_rows import unpack_outcome, unpack_results

DATABASE = "posthouse.sqlite3"
PACKS = "packs"


@dataclass(frozen=True, slots=True)
class AccountRow:
    id: int
    name: str
    used_octets: int
    used_letters: int
    modseq: int
    journal_floor: int


@dataclass(frozen=True, slots=True)
class MailboxRow:
    id: int
    account: int
    name: str
    uid_validity: int
    uid_next: int
    modseq: int


@dataclass(frozen=True, slots=True)
class Placement:
    """A letter in a mailbox. `place`: pack, offset and length of its content."""

    mailbox: int
    uid: int
    email: int
    account: int
    received_at: float
    size: int
    prefix: bytes
    reverse_path: str
    flags: int
    keywords: str
    place: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class QueuedRow:
    """A recipient of a queued letter, with what matters of the letter."""

    id: int
    letter: int
    address: str
    next_hop: str
    state: str
    due_at: float
    deadline_at: float
    expires_at: float
    attempts: int
    owner: str | None
    message_id: str
    reverse_path: str
    received_at: float
    open_recipients: int
    place: tuple[int, int, int]
    result: Outcome | None


@dataclass(frozen=True, slots=True)
class DestinationRow:
    next_hop: str
    ready_at: float | None
    failures: int
    down_until: float


@dataclass(frozen=True, slots=True)
class AttemptRow:
    id: int
    letter: int | None
    next_hop: str
    at: float
    results: tuple[tuple[Outcome, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class JournalRow:
    account: int
    modseq: int
    mailbox: int
    kind: int
    uids: str


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """A letter that has left the queue or never was in it. `states`: of its recipients."""

    id: int
    trace: str
    message_id: str
    reverse_path: str
    received_at: float
    states: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Queued:
    """A letter that is or was in the queue."""

    message_id: str
    trace: str
    reverse_path: str
    received_at: float


@dataclass(frozen=True, slots=True)
class Records:
    folder: Path
    accounts: dict[int, AccountRow]
    mailboxes: dict[int, MailboxRow]
    placements: list[Placement]
    queue: list[QueuedRow]
    destinations: dict[str, DestinationRow]
    attempts: list[AttemptRow]
    journal: list[JournalRow]
    history: list[HistoryRow]
    queued: dict[int, Queued]  # whatever was ever in the queue, by queue id

    def message_id(self, letter: int) -> str:
        """Of a queue id, without brackets; "" where it is not known."""
        known = self.queued.get(letter)
        return known.message_id.strip("<>") if known else ""

    def octets(self, place: tuple[int, int, int]) -> bytes:
        """Content as the pack has it. Raises OSError; shorter than it should be where the pack is."""
        pack, offset, length = place
        with (self.folder / PACKS / f"{pack:015d}.pack").open("rb") as file:
            file.seek(offset)
            return file.read(length)


_QUEUE = (
    "SELECT r.id, r.letter, r.address, r.next_hop, r.state, r.due_at, r.deadline_at, r.expires_at, r.attempts, r.owner,"
    " l.message_id, l.reverse_path, l.received_at, l.open_recipients, b.pack, b.pack_offset, b.length, r.result"
    " FROM queue_recipient AS r JOIN queue_letter AS l ON l.id = r.letter JOIN blob AS b ON b.id = l.blob ORDER BY r.id"
)
_PLACEMENTS = (
    "SELECT p.mailbox, p.uid, p.email, e.account, e.received_at, e.size, d.prefix, d.reverse_path, p.flags,"
    " p.keywords, b.pack, b.pack_offset, b.length FROM placement AS p JOIN email AS e ON e.id = p.email"
    " JOIN email_detail AS d ON d.email = e.id JOIN blob AS b ON b.id = e.blob ORDER BY p.mailbox, p.uid"
)
_DESTINATIONS = "SELECT next_hop, ready_at, failures, down_until FROM queue_destination"
_ATTEMPTS = "SELECT id, letter, next_hop, at, results FROM attempt ORDER BY id"
_HISTORY = "SELECT id, trace, message_id, reverse_path, received_at, results FROM history ORDER BY id"
_QUEUED = "SELECT id, message_id, trace, reverse_path, received_at FROM queue_letter"
_JOURNAL = "SELECT account, modseq, mailbox, kind, uids FROM journal ORDER BY account, modseq, mailbox, kind"


def read(folder: Path, *, is_up: bool) -> Records:
    with _connection(folder, is_up=is_up) as connection:
        return _records(folder, connection)


def _records(folder: Path, connection: apsw.Connection) -> Records:
    def execute(statement: str) -> Iterator[Any]:
        return iter(connection.execute(statement))

    connection.execute("BEGIN")  # one snapshot
    try:
        accounts = [
            AccountRow(*row)
            for row in execute(
                "SELECT id, name, used_octets, used_letters, modseq, journal_floor FROM account ORDER BY id"
            )
        ]
        mailboxes = [
            MailboxRow(*row)
            for row in execute("SELECT id, account, name, uid_validity, uid_next, modseq FROM mailbox ORDER BY id")
        ]
        history = [HistoryRow(*(*row[:5], _states(row[5]))) for row in execute(_HISTORY)]
        return Records(
            folder=folder,
            accounts={each.id: each for each in accounts},
            mailboxes={each.id: each for each in mailboxes},
            placements=[Placement(*(*row[:10], tuple(row[10:]))) for row in execute(_PLACEMENTS)],
            queue=[QueuedRow(*(*row[:14], tuple(row[14:17]), unpack_outcome(row[17]))) for row in execute(_QUEUE)],
            destinations={row[0]: DestinationRow(*row) for row in execute(_DESTINATIONS)},
            attempts=[AttemptRow(*(*row[:4], unpack_results(row[4]))) for row in execute(_ATTEMPTS)],
            journal=[JournalRow(*row) for row in execute(_JOURNAL)],
            history=history,
            queued={
                **{row[0]: Queued(*row[1:]) for row in execute(_QUEUED)},
                **{row.id: Queued(row.message_id, row.trace, row.reverse_path, row.received_at) for row in history},
            },
        )
    finally:
        connection.execute("ROLLBACK")


def _states(results: bytes) -> tuple[str, ...]:
    """Of the recipients of a row of history, in their order: the third of the values that each has."""
    return tuple(each[2] for each in msgspec.msgpack.decode(results))


def claimed(folder: Path, *, is_up: bool) -> list[tuple[str, str]]:
    """Message-ID and address of every recipient that is being sent at this moment, by a server that is up or
    stopping."""
    with _connection(folder, is_up=is_up) as connection:
        return list(
            connection.execute(
                "SELECT l.message_id, r.address FROM queue_recipient AS r JOIN queue_letter AS l ON l.id = r.letter"
                " WHERE r.state = 'claimed' ORDER BY r.id"
            )
        )


@contextmanager
def _connection(folder: Path, *, is_up: bool) -> Iterator[apsw.Connection]:
    """While a server is up its own connections keep the log; a last one that closed would remove it."""
    if is_up:
        connection = apsw.Connection(str(folder / DATABASE), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            yield connection
        finally:
            connection.close()
        return
    with TemporaryDirectory(dir=folder.parent) as copies:
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError):
                shutil.copyfile(folder / f"{DATABASE}{suffix}", Path(copies, f"{DATABASE}{suffix}"))
        connection = apsw.Connection(str(Path(copies, DATABASE)))
        try:
            yield connection
        finally:
            connection.close()
