# SPDX-License-Identifier: Apache-2.0
"""Letters that a person puts into a mailbox: APPEND, MULTIAPPEND, REPLACE.

Invariant: all of them or none. Content goes to the store as it comes, so one batch holds MAX_HELD octets and a chunk;
the rows follow in one unit of work at the end, and whatever ends earlier leaves nothing.

Every octet is kept as it came, bare CR and LF, broken MIME and 8-bit headers too. Refused is NUL where the client did
not say that it sends binary (RFC 9051 §9 has none in a literal). RFC 6855 §4 has a header with 8-bit octets refused
from a client that has not enabled UTF-8; it is kept here, as delivery keeps it, since people bring their old mail with
programs that enable nothing (docs/adr/0006-imap.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from posthouse.mail.envelope import ReversePath
from posthouse.outcome import Refusal
from posthouse.ports import BlobStore, Change, ChangeBus, Clock, Database, Reader, StoreFault, Transaction
from posthouse.services.delivery import Origin, letter_in
from posthouse.services.directory import Account
from posthouse.services.incoming import FinishedLetter, IncomingLetter
from posthouse.services.mailbox.places import Place, Places
from posthouse.store import appending, letters, rights
from posthouse.store.appending import Appended, New
from posthouse.store.flags import ALL, DELETED, SEEN, pack_keywords
from posthouse.store.letters import LetterIn
from posthouse.store.refusal import MailboxRefusal, Reason

# Octets of small letters that one batch keeps in memory until its unit of work; those beyond go into packs of their
# own. Clients that put a whole folder in at once send megabytes, and a hundred of them must fit into 2 GB.
MAX_HELD = 2 * 1024 * 1024
# Times that can be shown (years 1 to 9999, in UTC); a day of room at both ends for those who live elsewhere.
EARLIEST = -62_135_510_400
LATEST = 253_402_214_400


@dataclass(frozen=True, slots=True)
class Coming:
    """A letter that is about to come. `received_at` None: now; `may_hold_nul`: see above."""

    size: int
    flags: int = 0
    keywords: tuple[str, ...] = ()
    received_at: float | None = None
    may_hold_nul: bool = False


@dataclass(frozen=True, slots=True)
class Room:
    """What is left in an account, in octets; None: no quota."""

    left: int | None

    def check(self, octets: int) -> None:
        """Raise MailboxRefusal OVERQUOTA."""
        if self.left is not None and octets > self.left:
            raise MailboxRefusal(Reason.OVERQUOTA, "there is not so much room left")


@dataclass(frozen=True, slots=True)
class Target:
    """Where the letters go. `replaced`: mailbox and UID of a letter that goes when they come."""

    account: Account
    name: str
    replaced: tuple[Place, int] | None = None


class Batch:
    """The letters of one command, while they come. `discard` it in any case, also after `finish`."""

    def __init__(self, desk: AppendDesk, target: Target, trace: str) -> None:
        self._desk = desk
        self._target = target
        self._trace = trace
        self._room: Room | None = None
        self._announced = 0
        self._held = 0
        self._coming: tuple[Coming, IncomingLetter] | None = None
        self._done: list[New] = []
        self._kept: list[IncomingLetter] = []  # whose spools the unit of work takes over
        self._fault: Exception | None = None

    async def start(self, coming: Coming, *, looks: bool = True) -> None:
        """The next letter. `looks`: find out now whether it can be taken; else that is said in the end, as early as
        for a client that does not wait, and for less.

        Raises MailboxRefusal (NONEXISTENT, NOPERM, OVERQUOTA, LIMIT, CANNOT), Refusal, StoreFault: then nothing of the
        batch can be kept."""
        await self._end()
        self._announced += coming.size
        if looks or self._kept:
            if self._room is None:
                self._room = await self._desk.look(self._target)
            self._room.check(self._announced)
        pack_keywords(coming.keywords)
        incoming = IncomingLetter(self._desk.blobs, takes_any_header=True)
        self._coming = coming, incoming
        self._kept.append(incoming)

    async def add(self, chunk: bytes) -> None:
        """The next octets of the letter. What is wrong with them is said by `start` or `finish`."""
        if self._fault is not None or self._coming is None:
            return
        coming, incoming = self._coming
        try:
            if not coming.may_hold_nul and b"\0" in chunk:
                raise MailboxRefusal(Reason.CANNOT, "a message with NUL in it must come as literal8 (BINARY)")
            await incoming.add(chunk)
        except (Refusal, StoreFault) as fault:
            self._fault = fault
            await self.discard()

    async def _end(self) -> None:
        """The letter has come as a whole."""
        if self._fault is not None:
            raise self._fault
        if self._coming is None:
            return
        (coming, incoming), self._coming = self._coming, None
        if self._held + coming.size > MAX_HELD:
            await incoming.spool()
        letter = await incoming.finish()
        if letter.content.octets is not None:
            self._held += letter.size
        row = self._letter_in(letter, coming.received_at)
        self._done.append(New(row, coming.flags, coming.keywords))

    def _letter_in(self, letter: FinishedLetter, received_at: float | None) -> LetterIn:
        now = self._desk.clock.wall()
        at = now if received_at is None else min(max(received_at, EARLIEST), LATEST)
        return replace(
            letter_in(letter, ReversePath(None), Origin(self._trace, at, b"", source="append")), saved_at=now
        )

    async def finish(self) -> tuple[Place, Appended]:
        """All letters have come: put them in. Raises as `start` does."""
        await self._end()
        return await self._desk.put(self._target, self._done)

    async def discard(self) -> None:
        """Let go of what no unit of work has taken. Safe to call twice."""
        self._coming = None
        self._done = []
        kept, self._kept = self._kept, []
        for incoming in kept:
            await incoming.discard()


class AppendDesk:
    """Takes letters for mailboxes."""

    def __init__(self, places: Places, database: Database, blobs: BlobStore, bus: ChangeBus, clock: Clock) -> None:
        self.blobs = blobs
        self.clock = clock
        self._places = places
        self._database = database
        self._bus = bus

    def begin(self, account: Account, name: str, trace: str, *, replaced: tuple[Place, int] | None = None) -> Batch:
        """A batch for the mailbox of this name. `replaced`: mailbox and UID of a letter that goes when this one
        comes."""
        return Batch(self, Target(account, name, replaced), trace)

    async def look(self, target: Target) -> Room:
        """Before anything comes. Raises MailboxRefusal NONEXISTENT, NOPERM (right i), StoreFault."""
        return await self._database.read(partial(self._look, target=target))

    def _look(self, reader: Reader, target: Target) -> Room:
        place = self._find(reader, target)
        used = letters.usage(reader, place.owner)
        if used is None or used[2] is None:
            return Room(None)
        old = target.replaced
        freed = appending.freed(reader, old[0].id, old[1]) if old is not None and old[0].owner == place.owner else 0
        return Room(max(0, used[2] - used[0] + freed))

    def _find(self, reader: Reader, target: Target) -> Place:
        place = self._places.look(reader, target.account, target.name)
        if place is None:
            raise MailboxRefusal(Reason.NONEXISTENT, "there is no such mailbox")
        place.check("i")
        return place

    async def put(self, target: Target, new: Sequence[New]) -> tuple[Place, Appended]:
        """One unit of work for these letters: what the mailbox is, and who may do what there, is decided in it."""
        now = self.clock.wall()
        place, done = await self._database.write(partial(self._put, target=target, new=new, now=now))
        self._bus.publish(Change("account", place.owner))
        old = target.replaced
        if old is not None and old[0].owner != place.owner:
            self._bus.publish(Change("account", old[0].owner))
        return place, done

    def _put(self, tx: Transaction, target: Target, new: Sequence[New], now: float) -> tuple[Place, Appended]:
        place = self._find(tx, target)
        new = [_allowed(place, each) for each in new]
        visitor = None if place.is_own else place.person
        if target.replaced is None:
            return place, appending.append(tx, place.owner, place.id, new, visitor=visitor)
        old, uid = target.replaced
        if not old.is_own:  # the rights may have changed since the mailbox was selected
            replace(old, rights=rights.of_person(tx, old.id, old.person)).check("te")
        return place, appending.replace(
            tx, old.owner, old.id, uid, place.owner, place.id, new[0], now=now, visitor=visitor
        )


def _allowed(place: Place, new: New) -> New:
    """RFC 4314 §4: flags that the person has no right to set there are left out, and nobody complains."""
    touchable = (SEEN if place.may("s") else 0) | (DELETED if place.may("t") else 0)
    if place.may("w"):
        touchable |= ALL & ~(SEEN | DELETED)
    return New(new.letter, new.flags & touchable, new.keywords if place.may("w") else ())
