# SPDX-License-Identifier: Apache-2.0
r"""Sessions of one person that work at the same time: units of work, readings and answers fall between each other.

What each session may believe is less than in a walk, for nobody knows in which order things happen: numbers and UIDs
hold, nothing is told where it may not be, and when all are quiet everybody knows what is there. Each session has a
keyword that nobody else touches: what it did last with it must be so in the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeVar

from posthouse.protocol.imap.client import Fetched
from posthouse.protocol.imap.client_words import Literal, Word, flag_list, mailbox
from tests.edges.imap.model import (
    DELETED,
    OWNER,
    SEEN,
    VISITOR,
    Answer,
    Box,
    Client,
    Entry,
    Memory,
    check,
    flags_in,
    numbers_of,
    set_of,
)
from tests.store.machine import InlineWorkers
from tests.transcripts.imap_dialogue import PASSWORD
from tests.transcripts.imap_house import DOMAIN, HouseWorld

T = TypeVar("T")

INBOX = "INBOX"
LETTER = b"Subject: a letter\r\n\r\nHello\r\n"
MEMORIES = 6  # of clients that come back in the end
# Who, and words to enable, of each session.
SESSIONS = (
    (OWNER, ()),
    (OWNER, ("IMAP4rev2", "CONDSTORE")),
    (OWNER, ("IMAP4rev2", "QRESYNC")),
    (OWNER, ("QRESYNC",)),
    (VISITOR, ("IMAP4rev2",)),
    (VISITOR, ()),
)


class Believer(Client):
    """Believes what it is told. `uid` of an entry is 0 until it was told."""

    selected: Answer  # to its SELECT

    @property
    def inbox(self) -> Word:
        """Of the owner, by the name that this person has for it."""
        return mailbox(Box(INBOX).name_for(self.person))

    def _exists(self, count: int) -> None:
        check(count >= len(self.entries), f"EXISTS {count}: {len(self.entries)} are known")
        self.entries += [Entry(0) for _ in range(count - len(self.entries))]

    def _lose(self, entry: Entry) -> None:
        self.entries = [each for each in self.entries if each is not entry]

    def _vanished(self, uid: int) -> None:
        found = [entry for entry in self.entries if entry.uid == uid]
        if not found:  # one that the client has not asked for yet: it lies between those that it knows
            before = max((n for n, entry in enumerate(self.entries, 1) if 0 < entry.uid < uid), default=0)
            after = min((n for n, entry in enumerate(self.entries) if entry.uid > uid), default=len(self.entries))
            found = [entry for entry in self.entries[before:after] if not entry.uid]
        check(found, f"VANISHED {uid}, which the client never had")
        self._lose(found[0])

    def _fetched(self, event: Fetched) -> None:
        check(1 <= event.number <= len(self.entries), f"FETCH {event.number} of {len(self.entries)}")
        entry = self.entries[event.number - 1]
        if "UID" in event.items:
            uid = int(str(event.items["UID"]))
            check(entry.uid in (0, uid), f"number {event.number} was UID {entry.uid} and is {uid}")
            entry.uid = uid
            known = [each.uid for each in self.entries if each.uid]
            check(known == sorted(set(known)), f"the UIDs are out of order: {known}")
        if "FLAGS" in event.items:
            entry.flags = flags_in(event.items["FLAGS"])
        if "MODSEQ" in event.items:
            value = event.items["MODSEQ"]
            assert isinstance(value, tuple)
            modseq = int(str(value[0]))
            check(modseq >= entry.modseq, f"mod-sequence {entry.modseq} became {modseq}")
            entry.modseq = modseq

    @property
    def validity(self) -> int:
        codes = dict(code.partition(" ")[::2] for code in self.selected.codes)
        return int(codes["UIDVALIDITY"])

    def state(self) -> dict[int, frozenset[str] | None]:
        return {entry.uid: entry.flags for entry in self.entries}


class LaggingWorkers(InlineWorkers):
    """Others have their turn before a piece of work is done and before its answer is heard, now and then longer."""

    def __init__(self, chance: Random) -> None:
        super().__init__()
        self._chance = chance

    async def run(self, function: Callable[[], T], *, pool: str = "disk") -> T:
        await self._lag()
        result = function()
        await self._lag()
        return result

    async def _lag(self) -> None:
        for _ in range(self._chance.choice((0, 1, 1, 2, 7))):
            await asyncio.sleep(0)

    def call_back(self, calls: Sequence[Callable[[], None]]) -> None:
        for call in calls:
            asyncio.get_running_loop().call_soon(call)


class Storm:
    def __init__(self, world: HouseWorld, seed: int) -> None:
        self._world = world
        self._chance = Random(seed)
        self._log: list[str] = []
        self._appended: set[int] = set()  # by APPENDUID
        self._doomed: set[int] = set()  # somebody has flagged or moved them: they may be gone
        self._keywords: dict[str, dict[int, bool]] = {}
        self._memories: list[Memory] = []  # of clients with QRESYNC, that knew all they counted

    @property
    def log(self) -> str:
        return "\n".join(self._log[-60:])

    async def run(self, deeds: int) -> None:
        sharing = await self._connect("sharing", OWNER, ())
        await self._ok(sharing, "SETACL", INBOX, f"{VISITOR}@{DOMAIN}", "lrswite")
        believers = [await self._connect(f"s{number}", *each) for number, each in enumerate(SESSIONS)]
        await asyncio.gather(*(self._work(each, deeds) for each in believers))
        await self._judge(believers)

    async def _connect(self, name: str, person: str, words: tuple[str, ...], *back: str) -> Believer:
        """`back`: the parameter of SELECT by which a client comes back."""
        wire = await self._world.open_alone()
        client = Believer(name, person, wire)
        client.log = self._log
        await client.hear(Answer(None))  # type: ignore[arg-type]  # the greeting
        await self._ok(client, "LOGIN", f"{person}@{DOMAIN}", PASSWORD)
        if words:
            await self._ok(client, "ENABLE", *words)
            client.enabled = frozenset(words)
        client.selected = await self._ok(client, "SELECT", client.inbox, *back)
        self._keywords[name] = {}
        return client

    async def _ok(self, client: Believer, *words: Any, **how: bool) -> Answer:
        answer = await client.say(*words, **how)
        check(answer.status.is_ok, f"{answer.status}")
        return answer

    async def _work(self, client: Believer, deeds: int) -> None:
        every = (self._append, self._keyword, self._keyword, self._ask, self._ask, self._delete, self._expunge)
        every += (self._copy, self._search, self._noop, self._idle, self._see, self._select)
        if client.person == OWNER:  # the visitor has no Archive
            every += (self._move,)
        for _ in range(deeds):
            await self._chance.choice(every)(client)
            self._remember(client)
            for _ in range(self._chance.randrange(4)):
                await asyncio.sleep(0)

    def _remember(self, client: Believer) -> None:
        knows_all = all(entry.uid and entry.flags is not None for entry in client.entries)
        if client.uses_vanished and knows_all and len(self._memories) < MEMORIES and self._chance.random() < 0.3:
            self._memories.append(Memory(client.validity, client.modseq, client.state()))

    def _some(self, client: Believer) -> list[Entry]:
        known = [entry for entry in client.entries if entry.uid]
        return self._chance.sample(known, min(len(known), self._chance.choice((1, 1, 2, 4))))

    # --- deeds ------------------------------------------------------------------------------------

    async def _append(self, client: Believer) -> None:
        if len(client.entries) < 30:
            answer = await self._ok(client, "APPEND", client.inbox, Literal(LETTER))
            uids = numbers_of(answer.status.code.split()[2])
            check(not self._appended & {*uids}, f"UID {uids} is given twice")
            self._appended.update(uids)

    async def _keyword(self, client: Believer) -> None:
        chosen = self._some(client)
        if not chosen:
            return
        is_on, by_uid, uids = self._chance.random() < 0.6, self._chance.random() < 0.5, [each.uid for each in chosen]
        numbers = uids if by_uid else [client.entries.index(each) + 1 for each in chosen]
        words = ("UID STORE" if by_uid else "STORE", set_of(numbers), "+FLAGS" if is_on else "-FLAGS")
        silent = ".SILENT" if self._chance.random() < 0.3 else ""
        answer = await client.say(*words[:2], words[2] + silent, f"(${client.name})", may_hear_expunge=by_uid)
        check(answer.status.is_ok or answer.status.code == "EXPUNGEISSUED", f"{answer.status}")
        self._keywords[client.name] |= dict.fromkeys(uids, is_on)
        if silent:
            for each in chosen:
                each.flags = None  # others may have changed it in between: it is asked for again

    async def _see(self, client: Believer) -> None:
        r"""\Seen is each person's own."""
        chosen = self._some(client)
        if chosen:
            sign = self._chance.choice("+-")
            await self._ok(client, "UID STORE", set_of(each.uid for each in chosen), f"{sign}FLAGS", flag_list((SEEN,)))

    async def _delete(self, client: Believer) -> None:
        chosen = self._some(client)[:2]
        if chosen:
            self._doomed.update(each.uid for each in chosen)
            await self._ok(client, "UID STORE", set_of(each.uid for each in chosen), "+FLAGS", flag_list((DELETED,)))

    async def _expunge(self, client: Believer) -> None:
        await self._ok(client, "EXPUNGE")

    async def _move(self, client: Believer) -> None:
        chosen = self._some(client)[:1]
        if chosen:
            self._doomed.add(chosen[0].uid)
            await self._ok(client, "UID MOVE", str(chosen[0].uid), self._chance.choice(("Archive", client.inbox)))

    async def _copy(self, client: Believer) -> None:
        chosen = self._some(client)[:1]
        if chosen and len(client.entries) < 30:
            await self._ok(client, "UID COPY", str(chosen[0].uid), client.inbox)

    async def _ask(self, client: Believer) -> None:
        unknown = [n for n, entry in enumerate(client.entries, 1) if not entry.uid or entry.flags is None]
        if unknown:
            answer = await client.say("FETCH", set_of(unknown), "(UID FLAGS)", may_hear_expunge=False)
            check(answer.status.is_ok or answer.status.code == "EXPUNGEISSUED", f"{answer.status}")

    async def _search(self, client: Believer) -> None:
        count = len(client.entries)
        answer = await self._ok(client, "SEARCH", "ALL", may_hear_expunge=False)
        found = [int(str(value)) for value in answer.uids("SEARCH")]
        check(all(1 <= number <= count for number in found), f"{found} of {count}")

    async def _select(self, client: Believer) -> None:
        """Anew, while others work: what is told is one moment, and nothing after it is missed."""
        client.entries = []
        client.selected = await self._ok(client, "SELECT", client.inbox)

    async def _noop(self, client: Believer) -> None:
        await self._ok(client, "NOOP")

    async def _idle(self, client: Believer) -> None:
        await client.say("IDLE")
        for _ in range(self._chance.randrange(30)):
            await asyncio.sleep(0)
            if await client.wire.wake():
                await client.hear(Answer(None))  # type: ignore[arg-type]  # no command is answered
        answer = await client.done()
        check(answer.status.is_ok, f"{answer.status}")

    # --- when all are quiet -----------------------------------------------------------------------

    async def _judge(self, believers: list[Believer]) -> None:
        truths = {person: await self._truth(person) for person in (OWNER, VISITOR)}
        for client in believers:
            await self._noop(client)
            await self._ask(client)
            truth = truths[client.person]
            check(client.state() == truth, f"{client.name} believes {client.state()}, there is {truth}")
        truth = truths[OWNER]
        for memory in self._memories:
            await self._come_back(memory, truth)
        lost = self._appended - truth.keys() - self._doomed
        check(not lost, f"nobody took {lost} away, and they are gone")
        for name, said in self._keywords.items():
            for uid in said.keys() & truth.keys():
                has = f"${name}" in (truth[uid] or ())
                check(has == said[uid], f"{name} said {said[uid]} of its keyword on UID {uid}, and it is {has}")

    async def _truth(self, person: str) -> dict[int, frozenset[str] | None]:
        fresh = await self._connect("fresh", person, ())
        await self._ask(fresh)
        return fresh.state()

    async def _come_back(self, memory: Memory, truth: dict[int, frozenset[str] | None]) -> None:
        """Whatever happened since, in whichever order it was told: one SELECT is enough (RFC 7162 §3.2.5)."""
        words = f"(QRESYNC ({memory.validity} {memory.modseq}))"
        client = await self._connect("back", OWNER, ("IMAP4rev2", "QRESYNC"), words)
        found = dict(memory.flags)
        for each in client.selected.untagged:
            if each.name == "VANISHED":
                for uid in numbers_of(each.values[1]):
                    found.pop(uid, None)
        for each in client.selected.fetched:
            found[int(str(each.items["UID"]))] = flags_in(each.items["FLAGS"])
        check(found == truth, f"since {memory.modseq}: it has {found}, there is {truth}")
