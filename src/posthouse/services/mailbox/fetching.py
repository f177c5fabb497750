# SPDX-License-Identifier: Apache-2.0
"""Reading letters of a mailbox, a page at a time: what is asked for and no more.

Invariant: what is given of a letter is what was stored. A letter that is damaged is named as such, one that has gone
is left out, and all others are there.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from itertools import compress
from typing import Annotated

import msgspec

from posthouse.mail.header import ENVELOPE_FIELDS
from posthouse.mail.number_set import NumberSet
from posthouse.mail.structure import Summary
from posthouse.ports import BlobStore, Change, ChangeBus, Clock, Database, Reader, Workers
from posthouse.services.mailbox import resync
from posthouse.services.mailbox.contents import Extract, Letter
from posthouse.services.mailbox.keeping import Keeper
from posthouse.services.mailbox.kept_octets import KeptOctets
from posthouse.services.mailbox.looking import Looking
from posthouse.services.mailbox.pages import Page, Rows, Wants
from posthouse.services.mailbox.selected import SelectedMailbox
from posthouse.store import catalogue, flagging, messages, reading, uidset, visitors
from posthouse.store.catalogue import Letters
from posthouse.store.flags import SEEN
from posthouse.store.refusal import MailboxRefusal, Reason
from posthouse.store.uidset import Ranges

# What HeaderScan.pack_envelope writes is MessagePack: read by C, a tenth of the time of mail/header.py.
# Octets of an encoded part above which a worker decodes it: less takes a third of a millisecond.
DECODED_HERE = 256 * 1024
# Octets of decoded parts that are kept for the next command: the attachments of a letter or two.
KEPT_OCTETS = 32 * 1024 * 1024
_COUNT = len(ENVELOPE_FIELDS)
_Packed = Annotated[tuple[bytes | None, ...], msgspec.Meta(min_length=_COUNT, max_length=_COUNT)]
_unpack: Callable[[bytes], Summary] = msgspec.msgpack.Decoder(_Packed).decode


class Fetching:
    def __init__(self, database: Database, blobs: BlobStore, workers: Workers, bus: ChangeBus, clock: Clock) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._workers = workers
        self._decoded: OrderedDict[tuple[int, tuple[int, ...]], Extract] = OrderedDict()  # the oldest first
        self._keeper = Keeper(database)
        self.kept = KeptOctets()  # of what is told of letters
        self._looking = Looking(database, blobs, workers, self._keeper)

    async def close(self) -> None:
        """Before the database."""
        await self._keeper.close()

    # --- before anything is read ------------------------------------------------------------------

    async def see(self, selected: SelectedMailbox, uids: array[int]) -> array[int]:
        r"""Set \Seen for this person where it is not set, in one unit of work; UIDs of those that have changed.
        Raises StoreFault, MailboxRefusal."""
        letters = selected.letters.within(uidset.from_uids(uids))
        unseen = uidset.from_uids(compress(letters.uids, (not flags & SEEN for flags in letters.flags)))
        if not unseen:
            return array("I")
        place = selected.place
        store = flagging.store if place.is_own else partial(visitors.store, person=place.person)
        seeing = partial(
            store,
            account=place.owner,
            mailbox=place.id,
            uids=unseen,
            change=flagging.Change.ADD,
            flags=SEEN,
            touchable=SEEN,
            touches_keywords=False,
            now=self._clock.wall(),
        )
        done = await self._database.write(seeing)
        if not done.changed:
            return array("I")
        view = await selected.view()
        view.did(done.modseq)
        self._bus.publish(Change("account", place.owner))
        return view.within(done.changed)

    async def vanished(self, selected: SelectedMailbox, wanted: NumberSet, since: int) -> Ranges:
        """Of these UIDs those that have gone since that mod-sequence, or at any time where nobody knows when (RFC 7162
        §3.2.6); none that the client still counts. Raises MailboxRefusal NONEXISTENT, StoreFault."""
        view = await selected.view()
        changes = await self._database.read(partial(messages.changes_since, mailbox=selected.place.id, modseq=since))
        if changes is None:
            raise MailboxRefusal(Reason.NONEXISTENT, "there is no such mailbox")
        uids = view.uids
        uid_next = max(selected.head.uid_next, uids[-1] + 1 if uids else 1)
        found = resync.missed(changes, uids, uid_next, wanted).vanished
        return uidset.difference(found, uidset.from_uids(view.within(found)))

    # --- parts --------------------------------------------------------------------------------------

    async def decoded(self, letter: Letter, path: tuple[int, ...]) -> Extract | None:
        """See Letter.decoded. A large part is decoded by a worker, and kept for a while: clients ask for its size, and
        then for piece after piece. Raises UnknownEncodingError."""
        if letter.encoded_size(path) <= DECODED_HERE:
            return letter.decoded(path)
        key = (letter.email, path)
        known = self._decoded.pop(key, None)
        if known is None:
            known = await self._workers.run(partial(letter.decoded, path))
            assert known is not None, "it has a size"
        self._decoded[key] = known
        size = sum(each.size for each in self._decoded.values())
        while size > KEPT_OCTETS:
            size -= self._decoded.popitem(last=False)[1].size
        return known

    # --- reading ----------------------------------------------------------------------------------

    async def page(self, mailbox: int, letters: Letters, wants: Wants, selected: SelectedMailbox | None = None) -> Page:
        """What is asked for of these letters. `selected`: of the session that asks; where it goes through the mailbox
        letter by letter, rows are read ahead. Raises StoreFault where the store does not answer at all."""
        page = Page(letters.uids)
        if wants.is_nothing:
            return page
        if selected is not None and len(letters) == 1:
            rows = await self._next(selected, letters.uids[0], wants)
        else:
            rows = await self._read(mailbox, letters.uids, wants)
        if rows.are_short(len(letters)):
            await self._leave_out(mailbox, page, rows)
        if wants.summaries:
            _unpack_summaries(page, rows)
        if wants.looks:
            await self._looking.into(mailbox, page, rows, wants)
        page.dates = rows.dates
        page.summaries = [row[1] for row in rows.summaries]
        return page

    async def _read(self, mailbox: int, uids: Iterable[int], wants: Wants) -> Rows:
        return await self._database.read(partial(_read, mailbox=mailbox, uids=uidset.from_uids(uids), wants=wants))

    async def _next(self, selected: SelectedMailbox, uid: int, wants: Wants) -> Rows:
        """Rows of one letter."""
        walk, now = selected.ahead.walk(wants), self._clock.monotonic()
        rows = walk.take(uid, now)
        if rows is not None:
            return rows
        uids = walk.with_next(selected.letters, uid)
        rows = await self._read(selected.place.id, uids, wants)
        if len(uids) > 1:
            if wants.contents:
                await self._looking.prepare(rows.places)
            each = rows.each()
            found = each.pop(uid, None)
            walk.keep(each, now)
            if found is not None:
                return found
            rows.keep((uid,))
        return rows

    async def _leave_out(self, mailbox: int, page: Page, rows: Rows) -> None:
        """Letters of which rows are missing: they have gone, or they are damaged where they are still there."""
        there = rows.complete(page.uids)
        missing = uidset.from_uids(uid for uid in page.uids if uid not in there)
        damaged = (await self._database.read(partial(catalogue.some, mailbox=mailbox, uids=missing))).uids
        gone = uidset.expand(uidset.difference(missing, uidset.from_uids(damaged)))
        page.forget(rows, damaged=damaged, gone=gone)


def _unpack_summaries(page: Page, rows: Rows) -> None:
    """In place. A row that cannot be read is that of a damaged letter."""
    try:
        rows.summaries = [(uid, _unpack(packed)) for uid, packed in rows.summaries]
    except msgspec.MsgspecError:
        rows.summaries = [(uid, _unpacked(packed)) for uid, packed in rows.summaries]
        page.forget(rows, damaged=[uid for uid, summary in rows.summaries if summary is None])


def _unpacked(packed: bytes) -> Summary | None:
    try:
        return _unpack(packed)
    except msgspec.MsgspecError:
        return None


def _read(reader: Reader, mailbox: int, uids: Ranges, wants: Wants) -> Rows:
    """One visit."""
    rows = Rows(wants)
    if wants.dates:
        rows.dates = reading.dates(reader, mailbox, uids)
    if wants.summaries:
        rows.summaries = reading.summaries(reader, mailbox, uids)
    if wants.findings:
        rows.findings = reading.findings(reader, mailbox, uids)
    if wants.letters:
        rows.places = reading.places(reader, mailbox, uids)
    return rows
