# SPDX-License-Identifier: Apache-2.0
"""A mail program that reads with IMAP: it learns what is new, and marks, copies, moves, puts in and takes away.

Invariant: what is about to be done is noted before it is said, and what the server confirms after it has said so; in
between, where connections break, nobody knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from posthouse.mail.header import scan_header
from posthouse.net.session import TlsRefused
from posthouse.protocol.engine import RemoteProtocolError
from posthouse.protocol.imap.client import Event, Status, Untagged
from posthouse.protocol.imap.client_words import Literal, astring
from posthouse.sim.devices import Box, Device, Shown
from posthouse.sim.holdings import Appended
from posthouse.sim.imap_visit import Dismissed, ImapVisit, Refused
from posthouse.sim.people import MailboxFault, Person
from posthouse.store import uidset

# Seconds for a whole visit. Beyond, a person gives up and comes back later.
PATIENCE = 2400.0

Work = Callable[["MailProgram"], Awaitable[None]]


async def visit(person: Person, device: Device, work: Work) -> None:
    """One session from login to logout. Raises MailboxFault."""
    await person.as_me(_visit(person, device, work))


async def _visit(person: Person, device: Device, work: Work) -> None:
    device.is_busy = True
    try:
        async with asyncio.timeout(PATIENCE):
            session = await ImapVisit.begin(person.home, person.home_address)
            try:
                program = MailProgram(person, device, session)
                await program.log_in()
                await work(program)
                await session.leave()
            finally:
                session.end()
    except (OSError, RemoteProtocolError, TimeoutError, TlsRefused, Refused, Dismissed) as error:
        raise MailboxFault(str(error) or "no answer") from error
    finally:
        device.is_busy = False


class MailProgram:
    def __init__(self, person: Person, device: Device, session: ImapVisit) -> None:
        self.person = person
        self.device = device
        self.session = session
        self.shown = Shown("", Box(), person.holdings)

    async def log_in(self) -> None:
        session = self.session
        await session.answer(session.client.login(self.person.name, self.person.password))
        if self.device.knows_qresync:
            await session.ask("ENABLE QRESYNC")

    # --- learning ---------------------------------------------------------------------------------

    async def open(self, name: str) -> Shown:
        """Select a mailbox and learn everything about it."""
        box = self.device.boxes.setdefault(name, Box())
        shown = self.shown = Shown(name, box, self.person.holdings)
        self.session.hear = shown.hear
        resynchronizes = self.device.knows_qresync and bool(box.modseq)
        how = f" (QRESYNC ({box.validity} {box.modseq}))" if resynchronizes else ""
        await self.session.ask(f"SELECT {name}{how}")
        shown.selected(is_resynchronized=resynchronizes)
        if not resynchronizes and not shown.order:
            box.letters.clear()
        await self.learn()
        box.modseq = int(shown.codes["HIGHESTMODSEQ"])
        await self.session.ask("UID SEARCH ALL")
        return shown

    async def names(self) -> list[str]:
        """Of all mailboxes."""
        found: list[str] = []

        def hear(event: Event) -> None:
            if isinstance(event, Untagged) and event.name == "LIST":
                name = event.values[-1]
                found.append(name.decode() if isinstance(name, bytes) else str(name))

        self.session.hear = hear
        await self.session.ask('LIST "" *')
        return sorted(found)

    async def learn(self) -> None:
        """What has come: flags and ids first, then the letters themselves."""
        shown, letters = self.shown, self.shown.box.letters
        if shown.has_news:
            start = max(shown.order) + 1  # what is not known yet is behind what is
            await self.session.ask(f"UID FETCH {start}:* (UID FLAGS EMAILID)")
            for uid in [each for each in letters if each not in shown.order]:
                del letters[uid]
        missing = [uid for uid, letter in letters.items() if not letter.unique or letter.octets is None]
        if missing:
            await self.session.ask(f"UID FETCH {_said(missing)} (UID EMAILID BODY.PEEK[])")
        for uid, letter in letters.items():
            if letter.unique:
                self.person.holdings.saw((shown.name, uid), letter.unique)

    async def wait(self, seconds: float) -> None:
        """IDLE until something comes."""
        await self.session.idle(seconds, lambda: self.shown.has_news)
        await self.learn()

    def complete(self) -> list[int]:
        """UIDs of letters of which all is known."""
        return [uid for uid, letter in self.shown.box.letters.items() if letter.unique and letter.octets is not None]

    # --- doing ------------------------------------------------------------------------------------

    async def mark(self, uids: Sequence[int]) -> None:
        holdings, shown = self.person.holdings, self.shown
        self.person.written += 1
        keyword = f"k{self.person.written}"  # nobody takes it off again
        await self.session.ask(f"UID STORE {_said(uids)} +FLAGS (\\Seen {keyword})")
        for uid in uids:
            holdings.marks.setdefault((shown.name, uid), {})[keyword] = None

    async def copy(self, uids: Sequence[int], target: str) -> None:
        holdings, letters = self.person.holdings, self.shown.box.letters
        uniques = {uid: letters[uid].unique for uid in uids}
        holdings.copied.update(uniques.values())
        status = await self.session.ask(f"UID COPY {_said(uids)} {target}")
        for old, new in _pairs(status.code):
            holdings.saw((target, new), uniques[old])

    async def move(self, uids: Sequence[int], target: str) -> None:
        holdings, shown = self.person.holdings, self.shown
        uniques = {uid: shown.box.letters[uid].unique for uid in uids}
        for uid in uids:
            holdings.doom((shown.name, uid))
        shown.codes.pop("COPYUID", None)
        await self.session.ask(f"UID MOVE {_said(uids)} {target}")
        for old, new in _pairs(f"COPYUID {shown.codes.get('COPYUID', '')}"):
            holdings.gone[shown.name, old] = None
            holdings.saw((target, new), uniques[old])

    async def remove(self, uids: Sequence[int], how: str) -> None:
        r"""`how`: the command that makes an end of what is \Deleted."""
        person, shown = self.person, self.shown
        for uid in uids:
            letter = shown.box.letters[uid]
            assert letter.octets is not None, "see `complete`"
            person.holdings.doom((shown.name, uid))
            person.taken[letter.unique] = letter.octets
        await self.session.ask(f"UID STORE {_said(uids)} +FLAGS.SILENT (\\Deleted)")
        await self.session.ask(f"UID EXPUNGE {_said(uids)}" if how == "UID EXPUNGE" else how)
        person.holdings.gone.update(((shown.name, uid), None) for uid in uids)

    async def keep(self, octets: bytes, mailbox: str, flags: Sequence[str]) -> None:
        """Put a letter in."""
        known = self.person.holdings.appended.setdefault(scan_header(octets).message_id.decode(), Appended(octets))
        tag = self.session.client.append(mailbox, octets, flags=flags)
        await self._confirmed(known, tag, mailbox)

    async def replace(self, uid: int, octets: bytes) -> None:
        """A draft by its next version."""
        holdings = self.person.holdings
        known = holdings.appended.setdefault(scan_header(octets).message_id.decode(), Appended(octets))
        holdings.doom((self.shown.name, uid))
        self.shown.codes.pop("APPENDUID", None)
        tag = self.session.client.command(
            "UID REPLACE", str(uid), astring(self.shown.name), "(\\Draft)", Literal(octets)
        )
        await self._confirmed(known, tag, self.shown.name)
        holdings.gone[self.shown.name, uid] = None

    async def _confirmed(self, known: Appended, tag: str, mailbox: str) -> None:
        known.tries += 1
        try:
            status = await self.session.answer(tag)
        except Refused:
            known.tries -= 1
            raise
        known.confirmed += 1
        self.person.holdings.saw((mailbox, _appended(status, self.shown)))


def _appended(status: Status, shown: Shown) -> int:
    """The UID that was told: by the answer, or before it (RFC 8508 §4.3)."""
    name, _, rest = status.code.partition(" ")
    return int((rest if name == "APPENDUID" else shown.codes["APPENDUID"]).split()[1])


def _pairs(code: str) -> list[tuple[int, int]]:
    """Old and new UIDs of COPYUID (RFC 9051 §7.1)."""
    words = code.split()
    if len(words) != 4 or words[0] != "COPYUID":
        return []
    old, new = (list(uidset.expand(uidset.from_text(word))) for word in words[2:])
    return list(zip(old, new, strict=True))


def _said(uids: Sequence[int]) -> str:
    return uidset.to_text(uidset.from_uids(sorted(uids)))
