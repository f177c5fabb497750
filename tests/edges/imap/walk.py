# SPDX-License-Identifier: Apache-2.0
"""A random walk over the mailboxes of one person: three sessions of hers, and one of a visitor, do what comes to mind.

The same seed is the same walk. After every answer the model and the clients are compared; the error tells the last
lines of the dialogue.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

from posthouse.protocol.engine import RemoteProtocolError
from posthouse.protocol.imap.client_words import Literal, flag_list, mailbox
from posthouse.protocol.imap.response_reader import Value
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
    ModelError,
    check,
    flags_in,
    numbers_of,
    set_of,
)
from tests.transcripts.imap_dialogue import PASSWORD
from tests.transcripts.imap_house import DOMAIN, HouseWorld

INBOX = "INBOX"
NAMES = (INBOX, "Archive", "Work")
FLAGS = (SEEN, "\\Answered", "\\Flagged", DELETED, "\\Draft", "$Work", "$later")
LETTER = b"From: alice@example.test\r\nSubject: a letter\r\n\r\nHello\r\n"
MOST = 25  # letters of a mailbox: beyond it nothing is put there, so that walks stay short
LINES = 40  # of the dialogue that an error tells
# Name, person, words to enable. One walk in three has numbers for nobody but the others (RFC 9586).
CLIENTS = (
    ("plain", OWNER, ()),
    ("condstore", OWNER, ("IMAP4rev2", "CONDSTORE")),
    ("qresync", OWNER, ("IMAP4rev2", "QRESYNC")),
    ("visitor", VISITOR, ("IMAP4rev2",)),
)
UID_ONLY = 3


Deed = Callable[[Client], Awaitable[None]]


class Walk:
    def __init__(self, world: HouseWorld, seed: int) -> None:
        self._world = world
        self._chance = Random(seed)
        self._has_uid_only = seed % UID_ONLY == 0
        self._boxes = {name: Box(name) for name in NAMES}
        self._log: list[str] = []
        self._clients: list[Client] = []
        self._memory: Memory | None = None  # of the INBOX, by a client with QRESYNC
        # What a client does, and how often.
        self._deeds: dict[Deed, int] = {
            self._noop: 8,
            self._append: 8,
            self._store: 14,
            self._fetch: 8,
            self._read: 4,
            self._search: 5,
            self._expunge: 4,
            self._uid_expunge: 3,
            self._status: 3,
            self._idle: 5,
            self._ask: 8,
        }
        self._owners_deeds = self._deeds | {
            self._store_unchanged: 6,
            self._copy: 5,
            self._move: 5,
            self._replace: 3,
            self._go: 4,
        }

    async def run(self, steps: int) -> None:
        try:
            await self._begin()
            for _ in range(steps):
                await self._step()
            for client in self._clients:
                await self._come_to_rest(client)
            await self._resync()
        except (ModelError, RemoteProtocolError) as error:
            last = "\n".join(self._log[-LINES:])
            raise ModelError(f"{error}, in\n{last}") from error

    # --- sessions ---------------------------------------------------------------------------------

    async def _begin(self) -> None:
        for name, person, enabled in CLIENTS:
            more = ("UIDONLY",) if name == "qresync" and self._has_uid_only else ()
            client = await self._connect(name, person, (*enabled, *more))
            self._clients.append(client)
            if name == "plain":
                await self._ok(client, "CREATE", "Work")
                await self._ok(client, "SETACL", INBOX, f"{VISITOR}@{DOMAIN}", "lrswite")
            await self._select(client, self._boxes[INBOX])

    async def _connect(self, name: str, person: str, enabled: Sequence[str]) -> Client:
        client = Client(name, person, await self._world.open())
        client.log = self._log
        await client.hear(Answer(None))  # type: ignore[arg-type]  # the greeting
        await self._ok(client, "LOGIN", f"{person}@{DOMAIN}", PASSWORD)
        if enabled:
            await self._ok(client, "ENABLE", *enabled)
            client.enabled = frozenset(enabled)
        return client

    async def _ok(self, client: Client, *words: Any, **how: bool) -> Answer:
        answer = await client.say(*words, **how)
        check(answer.status.is_ok, f"{answer.status}")
        return answer

    async def _select(self, client: Client, box: Box, *, is_read_only: bool = False) -> None:
        client.box = None
        name = mailbox(box.name_for(client.person))
        answer = await self._ok(client, "EXAMINE" if is_read_only else "SELECT", name)
        self._opened(client, box, answer, is_read_only=is_read_only)
        self._note(client, box)

    def _opened(self, client: Client, box: Box, answer: Answer, *, is_read_only: bool) -> None:
        codes = dict(code.partition(" ")[::2] for code in answer.codes)
        counts = [each.number for each in answer.untagged if each.name == "EXISTS"]
        check(counts == [len(box.letters)], f"{counts} letters, there are {len(box.letters)}")
        check(codes["UIDNEXT"] == str(box.next), f"UIDNEXT {codes['UIDNEXT']} should be {box.next}")
        check(box.validity in (0, int(codes["UIDVALIDITY"])), "the UIDVALIDITY has changed")
        box.validity = int(codes["UIDVALIDITY"])
        client.box, client.is_read_only = box, is_read_only
        client.entries = [Entry(uid) for uid in sorted(box.letters)]
        client.modseq = int(codes["HIGHESTMODSEQ"])

    def _note(self, client: Client, box: Box) -> None:
        """HIGHESTMODSEQ grows with whatever happens."""
        before, changes = box.told
        check(client.modseq >= before, f"HIGHESTMODSEQ {before} became {client.modseq}")
        check(client.modseq > before or changes == box.changes, f"HIGHESTMODSEQ {before} stayed through changes")
        box.told = (client.modseq, box.changes)

    # --- steps ------------------------------------------------------------------------------------

    async def _step(self) -> None:
        chance = self._chance
        if chance.random() < 0.06:
            await self._deliver()
        elif chance.random() < 0.03:
            await self._resync()
        else:
            client = chance.choice(self._clients)
            if client.is_idle:
                await self._come_to_rest(client)
            deeds = self._deeds if client.person == VISITOR else self._owners_deeds
            await chance.choices(list(deeds), list(deeds.values()))[0](client)
            client.check_view()
        await self._hear_idlers()
        resyncer = self._clients[2]
        if resyncer.box is self._boxes[INBOX] and chance.random() < 0.3:
            self._memory = resyncer.memory()

    async def _hear_idlers(self) -> None:
        for client in self._clients:
            if client.is_idle:
                await client.hear(Answer(None))  # type: ignore[arg-type]  # no command is answered
                client.check_all()

    async def _come_to_rest(self, client: Client) -> None:
        if client.is_idle:
            client.is_idle = False
            answer = await client.done()
            check(answer.status.is_ok, f"{answer.status}")
        await self._noop(client)

    async def _deliver(self) -> None:
        box = self._boxes[INBOX]
        if len(box.letters) < MOST:
            self._log.append("-- a letter comes from outside")
            box.add(frozenset())
            await self._world.deliver(OWNER, LETTER)

    # --- choices ----------------------------------------------------------------------------------

    def _some(self, client: Client) -> list[Entry]:
        """Of what the client counts; what has gone may be among it."""
        count = min(len(client.entries), self._chance.choice((1, 1, 2, 3, 6)))
        return sorted(self._chance.sample(client.entries, count), key=lambda entry: entry.uid)

    def _names_uids(self, client: Client) -> bool:
        return client.is_uid_only or self._chance.random() < 0.5

    def _flags(self) -> frozenset[str]:
        return frozenset(self._chance.sample(FLAGS, self._chance.randint(0, 3)))

    def _named(self, client: Client, chosen: Sequence[Entry], *, by_uid: bool) -> str:
        """In any order, as a set of single numbers; the UIDs that the client does not know yet it knows by `*`."""
        numbers = [entry.uid if by_uid else client.entries.index(entry) + 1 for entry in chosen]
        self._chance.shuffle(numbers)
        return set_of(numbers)

    # --- deeds ------------------------------------------------------------------------------------

    async def _noop(self, client: Client) -> None:
        await self._ok(client, self._chance.choice(("NOOP", "NOOP", "CHECK")))
        client.check_all()

    async def _ask(self, client: Client) -> None:
        """FETCH of what the client does not know yet."""
        unknown = [entry for entry in client.entries if not entry.is_known or entry.flags is None]
        if unknown:
            items = "(UID FLAGS)" if "CONDSTORE" not in client.enabled else "(UID FLAGS MODSEQ)"
            by_uid = client.is_uid_only
            words = ("UID FETCH" if by_uid else "FETCH", self._named(client, unknown, by_uid=by_uid), items)
            await client.say(*words, may_hear_expunge=by_uid)

    async def _fetch(self, client: Client) -> None:
        chosen, by_uid = self._some(client), self._names_uids(client)
        if not chosen:
            return
        there = [entry.uid for entry in chosen if entry.uid in client.here.letters]
        numbers = self._named(client, chosen, by_uid=by_uid)
        words = ("UID FETCH" if by_uid else "FETCH", numbers, "(FLAGS UID)")
        answer = await client.say(*words, may_hear_expunge=by_uid)
        told = [each.number if each.is_uid else int(str(each.items.get("UID", 0))) for each in answer.fetched]
        check(set(there) <= set(told), f"{there} were asked for, {told} were told")
        self._judge(answer, is_short=not by_uid and len(there) < len(chosen))

    def _judge(self, answer: Answer, *, is_short: bool) -> None:
        """A number of what has gone is told to be so; a UID is passed over (RFC 9051 §6.4.9)."""
        if is_short:
            check(answer.status.kind == "NO", f"{answer.status}")
            check(answer.status.code.startswith(("EXPUNGEISSUED", "MODIFIED")), f"{answer.status}")
        else:
            check(answer.status.is_ok, f"{answer.status}")

    async def _read(self, client: Client) -> None:
        r"""BODY[] sets \Seen."""
        chosen = self._some(client)[:1]
        if not chosen or chosen[0].uid not in client.here.letters:
            return
        letter = client.here.letters[chosen[0].uid]
        if not client.is_read_only and SEEN not in letter.flags_of(client.person):
            client.here.changes += letter.change(client.person, "+", frozenset({SEEN}))
        by_uid = self._names_uids(client)
        words = ("UID FETCH" if by_uid else "FETCH", self._named(client, chosen, by_uid=by_uid), "BODY[TEXT]")
        answer = await self._ok(client, *words, may_hear_expunge=by_uid)
        texts = [each.items["BODY[TEXT]"] for each in answer.fetched if "BODY[TEXT]" in each.items]
        check(texts == [b"Hello\r\n"], f"{texts}")

    async def _store(self, client: Client) -> None:
        chosen, flags, mode = self._some(client), self._flags(), self._chance.choice(("+", "+", "-", ""))
        by_uid, is_silent = self._names_uids(client), self._chance.random() < 0.4
        if not chosen:
            return
        words = (
            "UID STORE" if by_uid else "STORE",
            self._named(client, chosen, by_uid=by_uid),
            f"{mode}FLAGS{'.SILENT' if is_silent else ''}",
            flag_list(sorted(flags)),
        )
        if client.is_read_only:
            check((await client.say(*words, may_hear_expunge=by_uid)).status.kind == "NO", "it is read-only")
            return
        there = [entry for entry in chosen if entry.uid in client.here.letters]
        self._change(client, there, mode, flags)
        answer = await client.say(*words, may_hear_expunge=by_uid)
        self._judge(answer, is_short=not by_uid and len(there) < len(chosen))
        if is_silent:
            self._assume(client, there, mode, flags)
        else:
            check(all(entry.flags is not None for entry in there), "STORE did not tell the flags")

    def _change(self, client: Client, there: Sequence[Entry], mode: str, flags: frozenset[str]) -> None:
        for entry in there:
            client.here.changes += client.here.letters[entry.uid].change(client.person, mode, flags)

    def _assume(self, client: Client, there: Sequence[Entry], mode: str, flags: frozenset[str]) -> None:
        """What a client knows of flags that it changed without being told."""
        for entry in there:
            if entry.flags is not None or not mode:
                known = entry.flags or frozenset()
                entry.flags = {"+": known | flags, "-": known - flags, "": flags}[mode]

    async def _store_unchanged(self, client: Client) -> None:
        """Conditional on what the client knew last, or before that (RFC 7162 §3.1.3)."""
        known = [entry for entry in client.entries if entry.version >= 0]
        if not known or client.is_read_only:
            return
        entry, flags = self._chance.choice(known), self._flags()
        letter = client.here.letters.get(entry.uid)
        modseq, version = entry.modseq, entry.version
        if entry.before[1] >= 0 and self._chance.random() < 0.5:
            modseq, version = entry.before
        # RFC 7162 §3.1.12: what has come to what is asked for already is no failure.
        is_stale = (
            letter is not None
            and letter.versions[client.person] > version
            and not flags <= letter.flags_of(client.person)
        )
        if letter is not None and not is_stale:
            self._change(client, [entry], "+", flags)
        by_uid = self._names_uids(client)
        number = str(entry.uid if by_uid else client.entries.index(entry) + 1)
        words = (number, f"(UNCHANGEDSINCE {modseq})", "+FLAGS", flag_list(sorted(flags)))
        answer = await client.say("UID STORE" if by_uid else "STORE", *words, may_hear_expunge=by_uid)
        self._judge(answer, is_short=not by_uid and letter is None)
        is_told = answer.status.code == f"MODIFIED {number}"
        check(is_told == is_stale, f"is it stale? {is_stale}, told: {answer.status}")

    async def _search(self, client: Client) -> None:
        key, wanted = self._chance.choice(
            (("ALL", None), ("FLAGGED", "\\Flagged"), ("SEEN", SEEN), ("KEYWORD $Work", "$Work"))
        )
        by_uid = self._names_uids(client)
        letters = client.here.letters
        expected = [
            entry.uid if by_uid else number
            for number, entry in enumerate(client.entries, 1)
            if entry.uid in letters and (wanted is None or wanted in letters[entry.uid].flags_of(client.person))
        ]
        answer = await self._ok(client, "UID SEARCH" if by_uid else "SEARCH", key, may_hear_expunge=by_uid)
        check(found_in(answer) == expected, f"found {found_in(answer)}, should be {expected}")

    async def _expunge(self, client: Client) -> None:
        box = client.here
        if client.is_read_only:
            return
        gone = [uid for uid, letter in box.letters.items() if DELETED in letter.flags]
        for uid in gone:
            box.remove(uid)
        await self._ok(client, "EXPUNGE")
        check(not set(gone) & {entry.uid for entry in client.entries}, "the client is not told what it has expunged")

    async def _uid_expunge(self, client: Client) -> None:
        chosen = self._some(client)
        if not chosen or client.is_read_only:
            return
        letters = client.here.letters
        for entry in chosen:
            if entry.uid in letters and DELETED in letters[entry.uid].flags:
                client.here.remove(entry.uid)
        await self._ok(client, "UID EXPUNGE", self._named(client, chosen, by_uid=True))

    async def _append(self, client: Client) -> None:
        box = self._boxes[INBOX] if client.person == VISITOR else self._boxes[self._chance.choice(NAMES)]
        count = self._chance.choice((1, 1, 1, 2, 3))
        if len(box.letters) + count > MOST:
            return
        words: list[Any] = ["APPEND", mailbox(box.name_for(client.person))]
        expected = []
        for _ in range(count):
            flags = self._flags()
            expected.append(box.add(flags, {client.person} if SEEN in flags else ()))
            words += [flag_list(sorted(flags)), Literal(LETTER)]
        answer = await self._ok(client, *words)
        self._check_uids(answer.status.code, "APPENDUID", box, expected)
        if client.box is box:
            mine = {entry.uid for entry in client.entries}
            check(set(expected) <= mine, "who looks at the mailbox is not told of what was appended")

    def _check_uids(self, code: str, word: str, box: Box, *expected: Sequence[int]) -> None:
        said = code.split()
        check(said[:2] == [word, str(box.validity or said[1])], f"{code} should be {word} of {box.name}")
        told = [numbers_of(each) for each in said[2:]]
        check(told == [list(each) for each in expected], f"{code} should tell {expected}")

    def _copied(self, source: Box, target: Box, uids: Sequence[int]) -> list[int]:
        found = []
        for uid in uids:
            letter = source.letters[uid]
            found.append(target.add(letter.flags, letter.seen & {OWNER}))
        return found

    async def _copy(self, client: Client) -> None:
        chosen, target = self._some(client), self._boxes[self._chance.choice(NAMES)]
        by_uid = self._names_uids(client)
        if not chosen or len(target.letters) + len(chosen) > MOST:
            return
        there = [entry.uid for entry in chosen if entry.uid in client.here.letters]
        is_short = not by_uid and len(there) < len(chosen)
        numbers = self._named(client, chosen, by_uid=by_uid)
        new = [] if is_short else self._copied(client.here, target, there)
        answer = await client.say("UID COPY" if by_uid else "COPY", numbers, mailbox(target.name))
        self._judge(answer, is_short=is_short)
        if new:
            self._check_uids(answer.status.code, "COPYUID", target, there, new)
        else:
            check("COPYUID" not in answer.status.code, "nothing was copied")

    async def _move(self, client: Client) -> None:
        chosen, target = self._some(client), self._boxes[self._chance.choice(NAMES)]
        by_uid = self._names_uids(client)
        if not chosen or client.is_read_only or len(target.letters) + len(chosen) > MOST:
            return
        source = client.here
        there = [entry.uid for entry in chosen if entry.uid in source.letters]
        numbers = self._named(client, chosen, by_uid=by_uid)
        new = self._copied(source, target, there)
        for uid in there:
            source.remove(uid)
        answer = await client.say("UID MOVE" if by_uid else "MOVE", numbers, mailbox(target.name))
        self._judge(answer, is_short=not by_uid and len(there) < len(chosen))
        told = [code for code in answer.codes if code.startswith("COPYUID")]
        check(len(told) == bool(new), f"COPYUID is told {len(told)} times")
        if new:
            self._check_uids(told[0], "COPYUID", target, there, new)
            check(not set(there) & {entry.uid for entry in client.entries}, "what was moved is not told to be gone")

    async def _replace(self, client: Client) -> None:
        if not client.entries or client.is_read_only:
            return
        entry, flags = self._chance.choice(client.entries), self._flags()
        source, by_uid = client.here, self._names_uids(client)
        number = str(entry.uid if by_uid else client.entries.index(entry) + 1)
        is_there = entry.uid in source.letters
        new = 0
        if is_there:
            new = source.add(flags, {client.person} if SEEN in flags else ())
            source.remove(entry.uid)
        words = ("UID REPLACE" if by_uid else "REPLACE", number, mailbox(source.name), flag_list(sorted(flags)))
        answer = await client.say(*words, Literal(LETTER))
        check(answer.status.is_ok == is_there, f"{answer.status}")
        if is_there:
            told = [code for code in answer.codes if code.startswith("APPENDUID")]
            self._check_uids(told[0], "APPENDUID", source, [new])
            check(entry not in client.entries, "what was replaced is not told to be gone")

    async def _status(self, client: Client) -> None:
        box = self._boxes[INBOX] if client.person == VISITOR else self._boxes[self._chance.choice(NAMES)]
        answer = await self._ok(client, "STATUS", mailbox(box.name_for(client.person)), "(MESSAGES UNSEEN UIDNEXT)")
        told = answer.uids("STATUS")[-1]
        assert isinstance(told, tuple)
        unseen = sum(SEEN not in letter.flags_of(client.person) for letter in box.letters.values())
        expected = ("MESSAGES", str(len(box.letters)), "UNSEEN", str(unseen), "UIDNEXT", str(box.next))
        check(told == expected, f"STATUS {told} should be {expected}")

    async def _idle(self, client: Client) -> None:
        await client.say("IDLE")

    async def _go(self, client: Client) -> None:
        await self._select(client, self._boxes[self._chance.choice(NAMES)], is_read_only=self._chance.random() < 0.1)

    # --- coming back ------------------------------------------------------------------------------

    async def _resync(self) -> None:
        """A client that comes back with what another one remembered has after one SELECT what a fresh one has."""
        memory, box = self._memory, self._boxes[INBOX]
        if memory is None:
            return
        client = await self._connect("back", OWNER, ("IMAP4rev2", "QRESYNC"))
        known = f" {set_of(sorted(memory.flags))}" if memory.flags and self._chance.random() < 0.5 else ""
        client.box = None
        words = f"(QRESYNC ({memory.validity} {memory.modseq}{known}))"
        answer = await self._ok(client, "SELECT", INBOX, words)
        self._opened(client, box, answer, is_read_only=False)
        flags = dict(memory.flags)
        for each in answer.untagged:
            if each.name == "VANISHED":
                check(each.values[0] == ("EARLIER",), "a SELECT tells what went earlier")
                for uid in numbers_of(each.values[1]):
                    check(uid not in box.letters, f"UID {uid} is told to have vanished, and is there")
                    flags.pop(uid, None)
        for each in answer.fetched:
            uid = int(str(each.items["UID"]))
            check(client.entries[each.number - 1].uid == uid, f"number {each.number} is not UID {uid}")
            flags[uid] = flags_in(each.items["FLAGS"])
        if known:  # what came since, the client was not told of, as it named what it wanted
            flags |= {uid: None for uid in box.letters if uid > max(memory.flags)}
        check(sorted(flags) == sorted(box.letters), f"it has {sorted(flags)}, there are {sorted(box.letters)}")
        for uid, told in flags.items():
            wanted = box.letters[uid].flags_of(OWNER)
            check(told is None or told == wanted, f"UID {uid}: {told} should be {wanted}")
        client.is_leaving = True
        await client.say("LOGOUT")


def found_in(answer: Answer) -> list[int]:
    """What SEARCH or ESEARCH tells."""
    plain = answer.uids("SEARCH")
    if plain:
        return [int(str(value)) for value in plain]
    extended: list[Value] = answer.uids("ESEARCH")
    return numbers_of(extended[extended.index("ALL") + 1]) if "ALL" in extended else []
