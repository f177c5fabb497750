# SPDX-License-Identifier: Apache-2.0
r"""What IMAP mailboxes are, as simple as it can be said: letters by UID, flags, and each person's own \Seen.

`Client` is a program at the other end: what it believes comes from what it is told alone, and whatever it is told is
looked at: numbers, UIDs, flags, mod-sequences, and whether it may be told now.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from posthouse.protocol.engine import Signal
from posthouse.protocol.imap.client import Fetched, Idling, ImapClient, Status, Untagged
from posthouse.protocol.imap.client_words import Word
from posthouse.protocol.imap.response_reader import Value
from tests.transcripts.imap_house import HouseWire

SEEN = "\\Seen"
DELETED = "\\Deleted"
OWNER = "alice"
VISITOR = "bob"


class ModelError(AssertionError):
    """The server is not what the model is."""


def check(is_so: object, text: str) -> None:
    if not is_so:
        raise ModelError(text)


# --- the truth ------------------------------------------------------------------------------------


@dataclass
class Letter:
    """`flags` without \\Seen; `versions`: how often each person's flags of it have changed."""

    flags: frozenset[str]
    seen: set[str] = field(default_factory=set)
    versions: dict[str, int] = field(default_factory=lambda: {OWNER: 0, VISITOR: 0})

    def flags_of(self, person: str) -> frozenset[str]:
        return self.flags | {SEEN} if person in self.seen else self.flags

    def change(self, person: str, mode: str, flags: frozenset[str]) -> bool:
        """STORE by this person: `mode` is "+", "-" or "". Whether anybody's flags are other ones now."""
        before = {each: self.flags_of(each) for each in self.versions}
        mine = before[person]
        new = {"+": mine | flags, "-": mine - flags, "": flags}[mode]
        self.flags = new - {SEEN}
        (self.seen.add if SEEN in new else self.seen.discard)(person)
        for each, old in before.items():
            self.versions[each] += self.flags_of(each) != old
        return any(self.flags_of(each) != old for each, old in before.items())


@dataclass
class Box:
    name: str
    validity: int = 0
    next: int = 1
    letters: dict[int, Letter] = field(default_factory=dict)
    changes: int = 0  # of any kind that a mod-sequence tells
    told: tuple[int, int] = (0, 0)  # the last HIGHESTMODSEQ of a SELECT, and `changes` then

    def name_for(self, person: str) -> str:
        return self.name if person == OWNER else f"Other Users/{OWNER}@example.test/{self.name}"

    def add(self, flags: frozenset[str], seen: Iterable[str] = ()) -> int:
        self.letters[self.next] = Letter(flags - {SEEN}, set(seen))
        self.next += 1
        self.changes += 1
        return self.next - 1

    def remove(self, uid: int) -> None:
        del self.letters[uid]
        self.changes += 1


# --- a client -------------------------------------------------------------------------------------


@dataclass
class Entry:
    """What a client knows of one letter. `uid` is the model's; the client may not have asked yet (`is_known`)."""

    uid: int
    is_known: bool = False
    flags: frozenset[str] | None = None
    modseq: int = 0
    version: int = -1  # of the letter, when `modseq` was told
    before: tuple[int, int] = (0, -1)  # `modseq` and `version` that were told before those


@dataclass
class Answer:
    status: Status
    fetched: list[Fetched] = field(default_factory=list)
    untagged: list[Untagged] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)  # of untagged OK

    def uids(self, name: str) -> list[Value]:
        return [value for each in self.untagged if each.name == name for value in each.values]


@dataclass
class Memory:
    """What a client keeps when it goes: enough to come back with QRESYNC."""

    validity: int
    modseq: int
    flags: dict[int, frozenset[str] | None]


class Client:
    """`may_hear_expunge` is set for each command (RFC 9051 §7.5.1)."""

    def __init__(self, name: str, person: str, wire: HouseWire) -> None:
        self.name = name
        self.person = person
        self.engine = ImapClient()
        self.wire = wire
        self.enabled: frozenset[str] = frozenset()
        self.box: Box | None = None
        self.is_read_only = False
        self.is_idle = False
        self.is_leaving = False
        self.entries: list[Entry] = []
        self.modseq = 0  # HIGHESTMODSEQ as it was told last
        self.may_hear_expunge = True
        self.log: list[str] = []

    @property
    def uses_vanished(self) -> bool:
        return "QRESYNC" in self.enabled or self.is_uid_only

    @property
    def is_uid_only(self) -> bool:
        return "UIDONLY" in self.enabled

    @property
    def here(self) -> Box:
        assert self.box is not None
        return self.box

    # --- talking ----------------------------------------------------------------------------------

    async def say(self, *words: Word | str, may_hear_expunge: bool = True) -> Answer:
        """A command, to its tagged answer. What it means to the mailbox is the caller's to tell the model before."""
        self.log.append(f"{self.name}: {' '.join(each if isinstance(each, str) else repr(each) for each in words)}")
        self.may_hear_expunge = may_hear_expunge
        tag = self.engine.idle() if words == ("IDLE",) else self.engine.command(*words)
        return await self._exchange(tag)

    async def done(self) -> Answer:
        self.log.append(f"{self.name}: DONE")
        self.engine.done()
        return await self._exchange("")

    async def _exchange(self, tag: str) -> Answer:
        answer = Answer(Status(tag, "", "", ""))
        while True:
            octets = b"".join(self.engine.data_to_send())
            if octets:
                await self.wire.send(octets)
            is_over = await self.hear(answer)
            if is_over and not self.engine._out:
                return answer

    async def hear(self, answer: Answer) -> bool:
        """All that there is. True: a command is answered, or the server idles."""
        if not await self.wire.is_silent():
            octets = await self.wire.read()
            self.log.append(f"    {octets!r}")
            self.engine.receive_data(octets)
        is_over = False
        while not isinstance(event := self.engine.next_event(), Signal):
            match event:
                case Status(tag=None):
                    check(event.kind == "OK" or self.is_leaving, f"{event.kind} {event.text}")
                    answer.codes.append(event.code)
                    self._note_modseq(event.code)
                case Status():
                    answer.status = event
                    self._note_modseq(event.code)
                    is_over = True
                case Idling():
                    is_over = self.is_idle = True
                case Fetched():
                    answer.fetched.append(event)
                    self._fetched(event)
                case Untagged():
                    answer.untagged.append(event)
                    self._untagged(event)
                case _:
                    raise ModelError(f"what is {event}?")
        return is_over

    def _note_modseq(self, code: str) -> None:
        word, _, value = code.partition(" ")
        if word == "HIGHESTMODSEQ":
            self.modseq = int(value)

    # --- hearing ----------------------------------------------------------------------------------

    def _untagged(self, event: Untagged) -> None:
        match event.name:
            case "EXISTS":
                self._exists(event.number or 0)
            case "EXPUNGE":
                check(self.may_hear_expunge, "EXPUNGE is told where it may not be")
                check(not self.uses_vanished, "EXPUNGE is told to a client with QRESYNC")
                number = event.number or 0
                check(1 <= number <= len(self.entries), f"EXPUNGE {number} of {len(self.entries)}")
                self._lose(self.entries[number - 1])
            case "VANISHED" if event.values[0] != ("EARLIER",):
                check(self.may_hear_expunge, "VANISHED is told where it may not be")
                check(self.uses_vanished, "VANISHED is told to a client without QRESYNC")
                for uid in numbers_of(event.values[0]):
                    self._vanished(uid)
            case _:
                pass

    def _vanished(self, uid: int) -> None:
        found = [entry for entry in self.entries if entry.uid == uid]
        check(found, f"VANISHED {uid}, which the client never had")
        self._lose(found[0])

    def _lose(self, entry: Entry) -> None:
        check(entry.uid not in self.here.letters, f"UID {entry.uid} is told to be gone, and is not")
        self.entries.remove(entry)

    def _exists(self, count: int) -> None:
        if self.box is None:  # of a SELECT: the caller fills in what there is
            return
        last = self.entries[-1].uid if self.entries else 0
        new = [uid for uid in sorted(self.here.letters) if uid > last]
        more = count - len(self.entries)
        check(0 <= more <= len(new), f"EXISTS {count}: {len(self.entries)} are known, {len(new)} are new")
        self.entries += [Entry(uid) for uid in new[:more]]

    def _fetched(self, event: Fetched) -> None:
        if self.box is None:
            return
        check(event.is_uid == self.is_uid_only, "it is told in numbers of the wrong kind")
        number = event.number
        if event.is_uid:
            number = next((n for n, entry in enumerate(self.entries, 1) if entry.uid == event.number), 0)
        check(1 <= number <= len(self.entries), f"FETCH {event.number} of {len(self.entries)}")
        entry = self.entries[number - 1]
        entry.is_known |= event.is_uid
        if "UID" in event.items:
            check(event.items["UID"] == str(entry.uid), f"number {event.number} is UID {entry.uid}, not {event.items}")
            entry.is_known = True
        letter = self.here.letters.get(entry.uid)
        check(letter is not None, f"UID {entry.uid} is told, and is gone")
        assert letter is not None
        if "FLAGS" in event.items:
            flags = flags_in(event.items["FLAGS"])
            wanted = letter.flags_of(self.person)
            check(flags == wanted, f"UID {entry.uid} has {sorted(wanted)}, told is {sorted(flags)}")
            entry.flags = flags
        if "MODSEQ" in event.items:
            self._modseq(entry, event.items["MODSEQ"], letter.versions[self.person])

    def _modseq(self, entry: Entry, value: Value, version: int) -> None:
        assert isinstance(value, tuple)
        modseq = int(str(value[0]))
        if entry.version >= 0 and self.person == OWNER:
            is_right = modseq > entry.modseq if version > entry.version else modseq == entry.modseq
            check(is_right, f"UID {entry.uid}: mod-sequence {entry.modseq} became {modseq}")
        if version > entry.version:
            entry.before = entry.modseq, entry.version
        entry.modseq, entry.version = modseq, version

    # --- what it believes -------------------------------------------------------------------------

    def check_view(self) -> None:
        """After every answer: what the client counts is what there is, but for what may still be told."""
        if self.box is None:
            return
        mine = [entry.uid for entry in self.entries]
        check(mine == sorted(set(mine)), f"the numbers are out of order: {mine}")
        last = mine[-1] if mine else 0
        lost = [uid for uid in self.here.letters if uid <= last and uid not in mine]
        check(not lost, f"the client has lost {lost}")

    def check_all(self) -> None:
        """After NOOP, and while it idles: there is nothing left to be told."""
        self.check_view()
        mine = [entry.uid for entry in self.entries]
        check(mine == sorted(self.here.letters), f"the client has {mine}, there are {sorted(self.here.letters)}")
        for entry in self.entries:
            wanted = self.here.letters[entry.uid].flags_of(self.person)
            check(entry.flags is None or entry.flags == wanted, f"UID {entry.uid}: {entry.flags} should be {wanted}")

    def memory(self) -> Memory:
        return Memory(self.here.validity, self.modseq, {entry.uid: entry.flags for entry in self.entries})


def flags_in(value: Value) -> frozenset[str]:
    r"""\Recent is the session's, not the letter's."""
    assert isinstance(value, tuple)
    return frozenset(str(flag) for flag in value) - {"\\Recent"}


def numbers_of(value: Value) -> list[int]:
    """Of a set as the server says it."""
    found: list[int] = []
    for part in str(value).split(","):
        first, _, last = part.partition(":")
        found += range(int(first), int(last or first) + 1)
    return found


def set_of(numbers: Iterable[int]) -> str:
    return ",".join(map(str, numbers))
