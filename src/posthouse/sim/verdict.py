# SPDX-License-Identifier: Apache-2.0
"""Whether a data directory keeps what its server had promised before the power went.

Invariant: it looks with the real code: the store is opened as at any start, recovery included, and read through its
own services; only the first look, at the bare database, is SQLite's alone.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from posthouse.app import House
from posthouse.office import store_check_of
from posthouse.ports import BlobLocation, Reader, Row, StoreFault
from posthouse.sim.promises import LETTER, REPORT, Begun, Promises, Thing, given_up, thing_of
from posthouse.sim.wal import digest
from posthouse.store.databases.sqlite import DATABASE_FILE

# --- the bare database ------------------------------------------------------------------------------


def check_database(folder: Path, states: list[int], promised: int) -> list[str]:
    """SQLite's own check, and that it is in one of the states that it was committed in, no older than the promised."""
    path = folder / DATABASE_FILE
    if not path.exists():
        return ["the database is gone"] if promised else []
    connection = apsw.Connection(str(path))
    try:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # the image stays as it is
        found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
        if found != ["ok"]:
            return [f"SQLite finds: {text}" for text in found[:5]]
        now = digest(connection.serialize("main"))
    except apsw.Error as error:
        return [f"SQLite cannot read the database: {error}"]
    finally:
        connection.close()
    if now in states[promised:] or promised == 0:
        return []
    if now in states:
        last = len(states) - 1 - states[::-1].index(now)
        return [f"the database is in the state after {last} commits, {promised} were promised"]
    return ["the database is in a state that it was never committed in"]


# --- through the house ------------------------------------------------------------------------------


@dataclass(slots=True)
class Contents:
    """What a store shows. `things`: by account, how often each lies there; `queue`: letters by recipient; `reported`:
    those recipients of whom a report that lies there or is queued says that the letter never reaches them."""

    things: dict[str, Counter[Thing]] = field(default_factory=dict)
    queue: set[tuple[int, str]] = field(default_factory=set)
    reported: set[tuple[int, str]] = field(default_factory=set)
    placements: dict[tuple[int, int, int], int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def has(self, account: str, thing: Thing) -> bool:
        return account in self.things and self.things[account][thing] > 0


async def judge(house: House, promises: Promises, *, is_strict: bool = True) -> list[str]:
    """Everything that is wrong. `is_strict` False: a letter that was refused for a fault may be there all the same,
    for all its recipients: a commit that failed half-way may come to light after a power cut, and whoever was told
    "try again" sends it again (RFC 5321 §6.1: better twice than never)."""
    try:
        contents = await look(house, promises)
        return [
            *contents.faults,
            *await _check_store(house),
            *await house.database.read(check_queue),
            *_check_letters(promises, contents, is_strict=is_strict),
            *_check_uids(promises, contents, await house.database.read(_next_uids)),
        ]
    except StoreFault as fault:
        return [f"the store cannot be read: {fault}"]


async def _check_store(house: House) -> list[str]:
    return [f"the store's own check: {each.text}" for each in await store_check_of(house).run() if each.level != "ok"]


_PLACEMENTS = (
    "SELECT account.name, placement.mailbox, mailbox.uid_validity, placement.uid, placement.email, email_detail.prefix,"
    " blob.pack, blob.pack_offset, blob.length, blob.hash FROM placement JOIN mailbox ON mailbox.id = placement.mailbox"
    " JOIN account ON account.id = mailbox.account JOIN email ON email.id = placement.email"
    " JOIN email_detail ON email_detail.email = email.id JOIN blob ON blob.id = email.blob"
)
_QUEUED = (
    "SELECT queue_recipient.address, queue_letter.reverse_path, blob.pack, blob.pack_offset, blob.length, blob.hash"
    " FROM queue_letter JOIN blob ON blob.id = queue_letter.blob"
    " LEFT JOIN queue_recipient ON queue_recipient.letter = queue_letter.id"
    " AND queue_recipient.state IN ('due', 'claimed', 'held')"
)
_BLOBS = "SELECT pack, pack_offset, length, hash FROM blob"
_NEXT_UIDS = "SELECT id, uid_validity, uid_next FROM mailbox"


async def look(house: House, promises: Promises) -> Contents:
    """Read everything, octet by octet."""
    contents = Contents(things={name: Counter() for name in await house.database.read(_accounts)})
    whole = await _read_blobs(house, promises, contents)
    for name, mailbox, validity, uid, email, prefix, *place in await house.database.read(_rows(_PLACEMENTS)):
        contents.placements[(mailbox, validity, uid)] = email
        octets = whole.get(tuple(place[:3]))
        thing = None if octets is None else thing_of(prefix, octets)
        if thing is not None:
            contents.things.setdefault(name, Counter())[thing] += 1
            if thing[0] == LETTER and not _is_as_sent(promises, thing[1], octets or b""):
                contents.faults.append(f"letter {thing[1]} of {name} is not what was sent")
            if thing[0] == REPORT:
                contents.reported.update((thing[1], recipient) for recipient in given_up(octets or b""))
    for address, reverse_path, *place in await house.database.read(_rows(_QUEUED)):
        octets = whole.get(tuple(place[:3]))
        thing = None if octets is None else thing_of(b"" if reverse_path else b"Return-Path: <>\r\n", octets)
        if thing is None or address is None:
            continue
        if thing[0] == REPORT:
            contents.reported.update((thing[1], recipient) for recipient in given_up(octets or b""))
        elif thing[0] == LETTER:
            contents.queue.add((thing[1], address))
    return contents


async def _read_blobs(house: House, promises: Promises, contents: Contents) -> dict[tuple[int, ...], bytes]:
    whole: dict[tuple[int, ...], bytes] = {}
    for pack, offset, length, wanted in await house.database.read(_rows(_BLOBS)):
        try:
            octets = bytes(await house.blobs.open(BlobLocation(pack, offset, length)))
        except StoreFault as fault:
            contents.faults.append(f"content at {pack}/{offset} cannot be read: {fault}")
            continue
        if hashlib.sha256(octets).digest() != bytes(wanted):
            contents.faults.append(f"content at {pack}/{offset} is not what its row says")
        whole[(pack, offset, length)] = octets
    return whole


def _is_as_sent(promises: Promises, number: int, octets: bytes) -> bool:
    letter = promises.letters.get(number)
    return letter is not None and hashlib.sha256(octets).digest() == letter.digest


def _accounts(reader: Reader) -> list[str]:
    return [row[0] for row in reader.rows("SELECT name FROM account ORDER BY name")]


def _rows(statement: str) -> Any:
    def query(reader: Reader) -> list[Row]:
        return reader.rows(statement)

    return query


def _next_uids(reader: Reader) -> dict[tuple[int, int], int]:
    return {(mailbox, validity): uid_next for mailbox, validity, uid_next in reader.rows(_NEXT_UIDS)}


# --- promises ---------------------------------------------------------------------------------------


def _check_letters(promises: Promises, contents: Contents, *, is_strict: bool) -> list[str]:
    wrong = [f"account {name} is gone" for name in sorted(promises.accounts - set(contents.things))]
    wrong += [
        f"{thing[0]} {thing[1]} was removed from {name} and is there again"
        for name, thing in sorted(promises.removed)
        if thing[0] == LETTER and contents.has(name, thing)  # of a letter there may be a second report
    ]
    for number, letter in promises.letters.items():
        wrong += _check_letter(number, letter, promises, contents, is_strict=is_strict)
    wrong += [
        f"letter {thing[1]} lies in {name} {times} times"
        for name, things in contents.things.items()
        for thing, times in things.items()
        if thing[0] == LETTER and times > 1
    ]
    both = contents.queue & contents.reported
    wrong += [f"letter {number} waits for {each}, and its sender was told the end" for number, each in sorted(both)]
    wrong += _check_removals(promises, contents)
    return wrong


def _check_letter(number: int, letter: Begun, promises: Promises, contents: Contents, *, is_strict: bool) -> list[str]:
    thing = (LETTER, number)
    there = [name for name in letter.accounts if contents.has(name, thing)]
    taken = [name for name in letter.accounts if _may_be_gone(promises, name, thing)]
    missing = [name for name in letter.accounts if name not in there and name not in taken]
    lost = [each for each in letter.remote if not _is_accounted_for(number, letter, each, promises, contents)]
    if number in promises.refused and is_strict:
        seen = there or [each for each in letter.remote if (number, each) in contents.queue]
        return [f"letter {number} was refused and is there, for {', '.join(seen)}"] if seen else []
    if number in promises.accepted:
        gone = [*missing, *lost]
        return [f"letter {number} was accepted and is lost for {', '.join(gone)}"] if gone else []
    # Nobody was told anything: it is there for all, or for nobody.
    is_there = bool(there or taken or len(lost) < len(letter.remote))
    if is_there and (missing or lost):
        return [f"letter {number} is there in part, it lacks {', '.join([*missing, *lost])}"]
    return []


def _may_be_gone(promises: Promises, name: str, thing: Thing) -> bool:
    return (name, thing) in promises.removed or (name, thing) in promises.removing


def _is_accounted_for(number: int, letter: Begun, recipient: str, promises: Promises, contents: Contents) -> bool:
    """Whether a letter to the outside is in the queue, was taken there, or came back in a report. Of a report that was
    read and taken away only the letter is known, not for which recipients it was."""
    return (
        (number, recipient) in contents.queue
        or (number, recipient) in promises.taken
        or (number, recipient) in contents.reported
        or _may_be_gone(promises, letter.sender, (REPORT, number))
    )


def _check_removals(promises: Promises, contents: Contents) -> list[str]:
    """A removal that was not answered has happened wholly or not at all."""
    left: dict[int, list[bool]] = {}
    for (name, thing), removal in promises.removing.items():
        if thing[0] == LETTER:
            left.setdefault(removal, []).append(contents.has(name, thing))
    return [f"removal {removal} was done in part" for removal, there in left.items() if len(set(there)) > 1]


def _check_uids(promises: Promises, contents: Contents, next_uids: dict[tuple[int, int], int]) -> Iterable[str]:
    for (mailbox, validity, uid), email in promises.seen.items():
        found = contents.placements.get((mailbox, validity, uid), email)
        if found != email:
            yield f"UID {uid} of mailbox {mailbox} was email {email} and is now {found}"
        if next_uids.get((mailbox, validity), uid + 1) <= uid:
            yield f"mailbox {mailbox} would give UID {uid} a second time"


# --- the queue --------------------------------------------------------------------------------------

_QUEUE_RULES = {
    "a letter counts its open recipients wrongly": (
        "SELECT id FROM queue_letter WHERE open_recipients <> (SELECT COUNT(*) FROM queue_recipient"
        " WHERE letter = queue_letter.id AND state IN ('due', 'claimed', 'held')) OR open_recipients < 1"
    ),
    "a recipient without a letter": (
        "SELECT id FROM queue_recipient WHERE NOT EXISTS (SELECT 1 FROM queue_letter WHERE id = letter)"
    ),
    "a recipient in no state, or claimed by nobody": (
        "SELECT id FROM queue_recipient"
        " WHERE state NOT IN ('due', 'claimed', 'held', 'delivered', 'failed', 'expired')"
        " OR (state = 'claimed') <> (owner IS NOT NULL AND leased_until IS NOT NULL)"
    ),
    "a due recipient that nobody would ever look at": (
        "SELECT queue_recipient.id FROM queue_recipient LEFT JOIN queue_destination USING (next_hop)"
        " WHERE state = 'due' AND ready_at IS NULL"
    ),
}


def check_queue(reader: Reader) -> list[str]:
    """The queue's own invariants (docs/queue-states.md)."""
    return [f"queue: {text}: {row[0]}" for text, statement in _QUEUE_RULES.items() for row in reader.rows(statement)]
