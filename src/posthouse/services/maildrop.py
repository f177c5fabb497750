# SPDX-License-Identifier: Apache-2.0
"""The INBOX as POP3 wants it: one session at a time, numbered letters, deletions that happen at the end (RFC 1939).

Invariant: letters keep their numbers while the maildrop is open; nothing is removed but by `commit`. The lock lives
in memory and ends with the session: a login writes nothing, and reads the list of a large mailbox only when asked.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from posthouse.outcome import Refusal, Status
from posthouse.ports import BlobStore, Change, ChangeBus, Clock, Database, StoreFault
from posthouse.services.directory import Account
from posthouse.store import letters, messages
from posthouse.store.letters import StoredLetter
from posthouse.store.messages import Maildrop, Opening
from posthouse.store.uidset import from_uids, parts

# Rows of the next letters read with the one that is asked for: clients fetch in order, and a visit to the reader
# thread costs more than the rows. Each row is some hundred octets.
READ_AHEAD = 20

# Letters listed in one visit to the reader, which others wait for meanwhile: some ten milliseconds. A mailbox of more
# is opened with its totals alone: programs that only want to know whether there is mail ask for nothing else.
PAGE = 20_000
# Letters of closed maildrops whose lists are kept, at 24 octets each: programs that look every few minutes into a
# large mailbox cost what is new in it, not what is there. 36 MB of the 2 GB that a small machine has.
KEPT_LETTERS = 1_500_000
ENTRY = 30  # letters that the list itself counts for: some 700 octets
# Letters removed in one unit of work: some tens of milliseconds of the committer, for which everybody's new mail
# waits. Who removes more than this at QUIT does it in several units; a crash in between removes some of them only,
# as RFC 1939 §6 allows.
REMOVED_AT_ONCE = 1_000
# Octets of a letter that TOP looks at in one go; a body of fewer lines than that is cut in the first piece.
TOP_PIECE = 64 * 1024

UNIQUE_ID = messages.UNIQUE_ID

IN_USE = Status(4, 2, 1)
NO_SUCH_LETTER = Status(5, 5, 4)


class MaildropInUse(Refusal):
    """Another session has this maildrop (RFC 2449 §8.1.2, [IN-USE])."""

    def __init__(self) -> None:
        super().__init__(IN_USE, "Another session is using this maildrop")


def no_mailbox() -> Refusal:
    return Refusal(Status(5, 2, 1), "This account has no mailbox any more")


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter to be sent: `prefix` then `content`. `size` of both; the header ends at `header_size` of content."""

    prefix: bytes
    content: memoryview
    size: int
    header_size: int
    has_dot_lines: bool


class Maildrops:
    """Hands out maildrops, one per account at a time."""

    def __init__(self, database: Database, blobs: BlobStore, bus: ChangeBus, clock: Clock) -> None:
        self.database = database
        self.blobs = blobs
        self.bus = bus
        self.clock = clock
        self._open: set[int] = set()  # account ids; membership only, never walked
        self._kept: OrderedDict[int, Maildrop] = OrderedDict()  # by mailbox, the one not asked for the longest first
        self._kept_letters = 0

    async def open(self, account: Account) -> OpenMaildrop:
        """Lock the INBOX, and list it unless it is large, without reading a letter. Raises MaildropInUse."""
        if account.id in self._open:
            raise MaildropInUse
        self._open.add(account.id)
        try:
            found = await self._look(account.inbox)
        except BaseException:
            self._open.discard(account.id)
            raise
        if found is None:
            self._open.discard(account.id)
            raise no_mailbox()
        return OpenMaildrop(self, account, found)

    async def _look(self, mailbox: int) -> Opening | None:
        """What is there, as the last session left it with what is new, or as the mailbox's row tells it."""
        known = self._take(mailbox)
        if known is not None:
            new = await self.database.read(partial(messages.newcomers, known=known, limit=PAGE))
            if new is not None:
                known.extend(new)
                return Opening(known.uids[-1] + 1 if len(known) else 1, len(known), known.octets, known)
        return await self.database.read(partial(messages.opening, mailbox=mailbox, limit=PAGE))

    async def read_list(self, mailbox: int, below: int) -> Maildrop | None:
        """All letters with a UID below this one, page by page, so that a huge mailbox keeps nobody else waiting. None:
        there is no such mailbox any more."""
        listed: Maildrop | None = None
        while True:
            after = 0 if listed is None else listed.uids[-1]
            page = await self.database.read(
                partial(messages.maildrop, mailbox=mailbox, after=after, below=below, limit=PAGE)
            )
            if page is None:
                return None
            if listed is None:
                listed = page
            else:
                listed.extend(page)
            if len(page) < PAGE:
                return listed

    def release(self, account: int, drop: Maildrop | None = None) -> None:
        """End the lock; `drop` is how the mailbox is left, where that is known."""
        self._open.discard(account)
        if drop is None or len(drop) > KEPT_LETTERS:
            return
        self._take(drop.mailbox)
        self._kept[drop.mailbox] = drop
        self._kept_letters += len(drop) + ENTRY
        while self._kept_letters > KEPT_LETTERS:
            self._kept_letters -= len(self._kept.popitem(last=False)[1]) + ENTRY

    def _take(self, mailbox: int) -> Maildrop | None:
        """A kept list, for one session alone."""
        drop = self._kept.pop(mailbox, None)
        if drop is not None:
            self._kept_letters -= len(drop) + ENTRY
        return drop


class OpenMaildrop:
    """One session's view. Numbers begin at 1. All but `stat`, `reset` and `commit` want it listed: see `read_list`."""

    def __init__(self, drops: Maildrops, account: Account, opening: Opening) -> None:
        self._drops = drops
        self._account = account
        self._opening = opening
        self._listed = opening.drop
        self._octets = opening.octets  # of the letters that are not marked
        self._deleted: set[int] = set()
        self._ahead: dict[int, StoredLetter | None] = {}
        self._is_released = False
        self._left = opening.drop  # as the mailbox is when the session ends; None: nobody knows

    @property
    def is_listed(self) -> bool:
        return self._listed is not None

    async def read_list(self) -> None:
        """Number the letters that were there at the login. One that another program has removed since then is not
        among them, so the totals that were told before may be higher. Raises Refusal when the mailbox has gone."""
        listed = await self._drops.read_list(self._account.inbox, self._opening.uid_next)
        if listed is None:
            raise no_mailbox()
        self._listed = self._left = listed
        self._octets = listed.octets

    @property
    def _drop(self) -> Maildrop:
        assert self._listed is not None, "the session lists before it asks for letters"
        return self._listed

    def __len__(self) -> int:
        return self._opening.total if self._listed is None else len(self._listed)

    def numbers(self) -> Sequence[int]:
        """Of the letters that are not marked as deleted."""
        every = range(1, len(self._drop) + 1)
        return [number for number in every if number not in self._deleted] if self._deleted else every

    def stat(self) -> tuple[int, int]:
        """How many letters, how many octets."""
        return len(self) - len(self._deleted), self._octets

    def sizes(self) -> Iterable[tuple[int, int]]:
        """(number, octets), for LIST."""
        return self._numbered(self._drop.sizes)

    def unique_ids(self) -> Iterable[tuple[int, int]]:
        """(number, what UNIQUE_ID formats), for UIDL."""
        return self._numbered(self._drop.emails)

    def _numbered(self, values: Sequence[int]) -> Iterable[tuple[int, int]]:
        if not self._deleted:
            return enumerate(values, 1)
        return [(number, values[number - 1]) for number in self.numbers()]

    def size(self, number: int) -> int:
        return self._drop.sizes[self._index(number)]

    def unique_id(self, number: int) -> str:
        return messages.unique_id(self._drop.emails[self._index(number)])

    async def retrieve(self, number: int) -> Letter:
        """Raises Refusal (no such letter) and StoreFault."""
        index = self._index(number)
        was_ahead = index in self._ahead
        stored = self._ahead[index] if was_ahead else await self._look(index)
        try:
            return await self._letter(stored)
        except StoreFault:
            if not was_ahead:
                raise
            # Since the row was read ahead the letter may have been moved to another pack (compaction).
            return await self._letter(await self._look(index))

    async def _look(self, index: int) -> StoredLetter | None:
        """Read this row and the next ones."""
        wanted = self._drop.emails[index : index + READ_AHEAD]
        rows = await self._drops.database.read(lambda reader: letters.retrieve_some(reader, wanted))
        self._ahead = dict(enumerate(rows, index))
        return self._ahead[index]

    async def _letter(self, stored: StoredLetter | None) -> Letter:
        if stored is None:
            raise Refusal(NO_SUCH_LETTER, "That letter was removed by another program meanwhile")
        content = await self._drops.blobs.open(stored.location)
        return Letter(stored.prefix, content, stored.size, stored.header_size, stored.has_dot_lines)

    def delete(self, number: int) -> None:
        """Mark; it goes at `commit`."""
        self._octets -= self._drop.sizes[self._index(number)]
        self._deleted.add(number)

    def reset(self) -> None:
        """Unmark everything (RSET)."""
        self._deleted.clear()
        self._octets = self._opening.octets if self._listed is None else self._listed.octets

    async def commit(self) -> int:
        """Remove what is marked, durably; how many. Raises StoreFault: some of it, or nothing, is removed then."""
        account, drops = self._account, self._drops
        if not self._deleted:
            return 0
        self._left = None
        uids = from_uids(self._drop.uids[number - 1] for number in self._deleted)
        try:
            for part in parts(uids, REMOVED_AT_ONCE):
                removing = partial(
                    messages.expunge, account=account.id, mailbox=account.inbox, uids=part, now=drops.clock.wall()
                )
                await drops.database.write(removing)
        finally:
            drops.bus.publish(Change("account", account.id))
        self._left = self._drop.without([number - 1 for number in self._deleted])
        return len(self._deleted)

    def release(self) -> None:
        """End the lock; safe to call twice."""
        if not self._is_released:
            self._is_released = True
            self._drops.release(self._account.id, self._left)

    def _index(self, number: int) -> int:
        if not 1 <= number <= len(self._drop):
            raise Refusal(NO_SUCH_LETTER, f"No such letter, there are {len(self._drop)}")
        if number in self._deleted:
            raise Refusal(NO_SUCH_LETTER, f"Letter {number} is marked as deleted")
        return number - 1


def top(letter: Letter, lines: int) -> memoryview:
    """The part of the content that TOP sends: the header, the empty line, `lines` lines of the body (RFC 1939 §7).

    A client may ask for more lines than there are. Nothing is copied but the piece that is looked at.
    """
    content = letter.content
    position = letter.header_size
    # A line has two octets at least, so many lines of a small rest are all of it: no need to count.
    while lines > 0 and lines * 2 < len(content) - position:
        piece = bytes(content[position : position + TOP_PIECE])
        if piece.endswith(b"\r") and len(piece) > 1:
            piece = piece[:-1]  # the line may end in the next piece
        here = piece.count(b"\r\n")
        if here >= lines:
            return content[: position + len(piece) - len(piece.split(b"\r\n", lines)[-1])]
        lines -= here
        position += len(piece)
    return content if lines > 0 else content[:position]
