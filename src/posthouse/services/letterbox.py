# SPDX-License-Identifier: Apache-2.0
"""Letters put into a mailbox or taken out of it by the administrator: import, export.

Invariant: an imported letter keeps its octets and its date; nothing is sent to anybody because of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.mail.envelope import ReversePath
from posthouse.outcome import BAD_CONTENT, BAD_MAILBOX, INVALID_ARGUMENTS, Refusal
from posthouse.ports import BlobStore, Change, ChangeBus, Clock, Database, Entropy, Reader, Transaction
from posthouse.services.delivery import Origin, letter_in
from posthouse.services.directory import Account, Directory
from posthouse.services.incoming import IncomingLetter
from posthouse.store import letters, mailboxes, messages
from posthouse.store.flags import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN
from posthouse.store.letters import Place

PAGE = 1000  # letters of one page
FLAGS = {"seen": SEEN, "answered": ANSWERED, "flagged": FLAGGED, "draft": DRAFT, "deleted": DELETED}
CHUNK = 256 * 1024  # octets handed on at a time


@dataclass(frozen=True, slots=True)
class Item:
    """One letter of a page. `flags` in the words of FLAGS; `keywords` as stored."""

    uid: int
    letter: str
    size: int
    flags: tuple[str, ...]
    keywords: tuple[str, ...]


class Letterbox:
    def __init__(
        self,
        directory: Directory,
        database: Database,
        blobs: BlobStore,
        bus: ChangeBus,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._directory = directory
        self._database = database
        self._blobs = blobs
        self._bus = bus
        self._clock = clock
        self._entropy = entropy

    async def add(
        self,
        address: str,
        octets: bytes,
        *,
        mailbox: str = "INBOX",
        flags: tuple[str, ...] = (),
        received_at: float | None = None,
    ) -> int:
        """Put a letter into a mailbox, which is made if it is not there. Returns its UID. Raises Refusal."""
        account = await self._account(address)
        unknown = [flag for flag in flags if flag not in FLAGS]
        if unknown:
            raise Refusal(INVALID_ARGUMENTS, f"unknown flag {unknown[0]}; known are {', '.join(FLAGS)}")
        if not octets.strip():
            raise Refusal(BAD_CONTENT, "the letter is empty")
        incoming = IncomingLetter(self._blobs)
        octets = with_crlf(octets)
        try:
            for start in range(0, len(octets), CHUNK):
                await incoming.add(octets[start : start + CHUNK])
            letter = await incoming.finish()
        finally:
            await incoming.discard()
        now = self._clock.wall()
        origin = Origin(
            self._entropy.octets(8).hex(), now if received_at is None else received_at, b"", source="import"
        )
        row = letter_in(letter, ReversePath(None), origin)
        bits = sum(FLAGS[flag] for flag in dict.fromkeys(flags))
        name = mailboxes.canonical_name(mailbox)

        def unit(tx: Transaction) -> int:
            known = mailboxes.by_name(tx, account.id, name)
            box = known.id if known else mailboxes.create(tx, account.id, name, now).id
            return letters.accept(tx, row, [Place(account.id, box, b"", bits)], None).placed[0].uid

        uid = await self._database.write(unit)
        self._bus.publish(Change("account", account.id))
        return uid

    async def page(self, address: str, mailbox: str, *, after: int = 0) -> list[Item]:
        """The next letters of a mailbox behind UID `after`, in order. Raises Refusal."""
        account = await self._account(address)
        name = mailboxes.canonical_name(mailbox)

        def query(reader: Reader) -> messages.View | None:
            known = mailboxes.by_name(reader, account.id, name)
            return None if known is None else messages.view(reader, known.id)

        view = await self._database.read(query)
        if view is None:
            raise Refusal(BAD_MAILBOX, f"{address} has no mailbox {mailbox}")
        return [
            Item(
                uid,
                messages.unique_id(view.emails[place]),
                view.sizes[place],
                tuple(word for word, bit in FLAGS.items() if view.flags[place] & bit),
                tuple(view.keywords[place].split()),
            )
            for place, uid in enumerate(view.uids)
            if uid > after
        ][:PAGE]

    async def read(self, address: str, letter: str) -> bytes:
        """A whole letter by the id that `page` gives. Raises Refusal."""
        account = await self._account(address)
        try:
            number = int(letter.removeprefix("e"), 16)
        except ValueError:
            raise Refusal(BAD_MAILBOX, "no such letter") from None
        stored = await self._database.read(lambda reader: letters.retrieve(reader, number))
        if stored is None or stored.account != account.id:
            raise Refusal(BAD_MAILBOX, "no such letter")
        return stored.prefix + bytes(await self._blobs.open(stored.location))

    async def _account(self, address: str) -> Account:
        account = await self._directory.account(address)
        if account is None:
            raise Refusal(BAD_MAILBOX, f"there is no account {address}")
        return account


def with_crlf(octets: bytes) -> bytes:
    """Lines end in CRLF here; files of other programs often have LF alone."""
    return octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
