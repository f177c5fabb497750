# SPDX-License-Identifier: Apache-2.0
"""The mailboxes of one account against a model that a page holds: random work, then everything must agree.

UIDs only grow, counters are exact, the journal alone explains every mailbox, quota adds up.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from posthouse.store import flagging, integrity, journal, letters, mailboxes, messages, uidset
from posthouse.store.flagging import Change
from posthouse.store.flags import DELETED, SEEN
from posthouse.store.journal import Kind
from posthouse.store.letters import Place
from posthouse.store.uidset import Ranges
from tests.store.letterbox import NOW, letter, new_account
from tests.store.plain_database import PlainDatabase


@dataclass
class Held:
    """What the model knows of a placement."""

    email: int
    size: int
    flags: int = 0
    keywords: frozenset[str] = frozenset()


@dataclass
class Shelf:
    """What the model knows of a mailbox."""

    uid_validity: int
    uid_next: int = 1
    held: dict[int, Held] = field(default_factory=dict)

    def put(self, held: Held) -> int:
        self.held[self.uid_next] = held
        self.uid_next += 1
        return self.uid_next - 1


ranges = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=3).map(uidset.from_ranges)
flag_bits = st.integers(0, 31)
keyword_sets = st.frozensets(st.sampled_from(["$junk", "work", "later"]), max_size=2)
pick = st.integers(0, 99)


class MailboxModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.db = PlainDatabase()
        self.box = new_account(self.db)
        self.shelves: dict[int, Shelf] = {}
        self.highest_uid: dict[tuple[int, int], int] = {}
        for mailbox in self.all():
            self.shelves[mailbox.id] = Shelf(mailbox.uid_validity)
        self.account = self.box.account
        self.modseq = 1

    def all(self) -> list[mailboxes.Mailbox]:
        return self.db.look(lambda reader: mailboxes.list_all(reader, self.box.account))

    def one(self, number: int) -> int:
        ids = sorted(self.shelves)
        return ids[number % len(ids)]

    def meant(self, mailbox: int, uids: Ranges) -> list[int]:
        return [uid for uid in sorted(self.shelves[mailbox].held) if any(a <= uid <= b for a, b in uids)]

    def grew(self, modseq: int) -> None:
        assert modseq > self.modseq
        self.modseq = modseq

    @rule(numbers=st.lists(pick, min_size=1, max_size=3), flags=flag_bits, size=st.integers(0, 50), twice=st.booleans())
    def accept(self, numbers: list[int], flags: int, size: int, twice: bool) -> None:
        chosen = list(dict.fromkeys(self.one(number) for number in numbers))
        places = [Place(self.account, each, b"A: b\r\n", flags) for each in chosen]
        if twice:
            places += [Place(self.account, each, b"C: dd\r\n", flags) for each in chosen]
        octets = b"\r\n" + b"x" * size
        accepted = self.db.run(lambda tx: letters.accept(tx, letter(octets), places))
        assert len(accepted.placed) == len(places)
        for placed in accepted.placed:
            shelf = self.shelves[placed.mailbox]
            assert placed.uid == shelf.put(Held(placed.email, placed.size, flags))
        assert len({placed.modseq for placed in accepted.placed}) == 1
        self.grew(accepted.placed[0].modseq)

    @rule(number=pick, uids=ranges, change=st.sampled_from(Change), flags=flag_bits, keywords=keyword_sets)
    def store(self, number: int, uids: Ranges, change: Change, flags: int, keywords: frozenset[str]) -> None:
        mailbox = self.one(number)
        done = self.db.run(
            lambda tx: flagging.store(tx, self.account, mailbox, uids, change, flags=flags, keywords=keywords, now=NOW)
        )
        changed = []
        for uid in self.meant(mailbox, uids):
            held = self.shelves[mailbox].held[uid]
            before = held.flags, held.keywords
            match change:
                case Change.REPLACE:
                    held.flags, held.keywords = flags, keywords
                case Change.ADD:
                    held.flags, held.keywords = held.flags | flags, held.keywords | keywords
                case Change.REMOVE:
                    held.flags, held.keywords = held.flags & ~flags, held.keywords - keywords
            if (held.flags, held.keywords) != before:
                changed.append(uid)
        assert done.changed == uidset.from_uids(changed)
        self.grew(done.modseq)

    @rule(number=pick, uids=ranges, only_deleted=st.booleans())
    def expunge(self, number: int, uids: Ranges, only_deleted: bool) -> None:
        mailbox = self.one(number)
        gone = self.db.run(
            lambda tx: messages.expunge(tx, self.account, mailbox, uids, now=NOW, only_deleted=only_deleted)
        )
        held = self.shelves[mailbox].held
        meant = [uid for uid in self.meant(mailbox, uids) if not only_deleted or held[uid].flags & DELETED]
        for uid in meant:
            del held[uid]
        assert gone.uids == uidset.from_uids(meant)
        self.grew(gone.modseq)

    @rule(source=pick, destination=pick, uids=ranges, moves=st.booleans())
    def copy_or_move(self, source: int, destination: int, uids: Ranges, moves: bool) -> None:
        work = messages.move if moves else messages.copy
        mailbox, into = self.one(source), self.one(destination)
        copied = self.db.run(lambda tx: work(tx, self.account, mailbox, uids, into, now=NOW))
        here, there = self.shelves[mailbox], self.shelves[into]
        meant = self.meant(mailbox, uids)
        new = [
            there.put(Held(held.email, held.size, held.flags, held.keywords))
            for held in [here.held[uid] for uid in meant]
        ]
        if moves:
            for uid in meant:
                del here.held[uid]
        assert copied.source == uidset.from_uids(meant)
        assert copied.target == uidset.from_uids(new)
        assert copied.uid_validity == there.uid_validity
        self.grew(copied.modseq)

    @precondition(lambda self: len(self.shelves) < 9)
    @rule(name=st.sampled_from(["a", "a/b", "c"]))
    def create(self, name: str) -> None:
        names = {mailbox.name for mailbox in self.all()}
        if name in names:
            return
        self.db.run(lambda tx: mailboxes.create(tx, self.account, name, NOW))
        for mailbox in self.all():
            if mailbox.id not in self.shelves:
                assert mailbox.uid_validity > max(shelf.uid_validity for shelf in self.shelves.values())
                self.shelves[mailbox.id] = Shelf(mailbox.uid_validity)

    @rule(name=st.sampled_from(["a/b", "a", "c", "Sent"]))
    def delete(self, name: str) -> None:
        names = {mailbox.name: mailbox for mailbox in self.all()}
        if name not in names or (name == "a" and "a/b" in names):
            return
        self.db.run(lambda tx: mailboxes.delete(tx, self.account, names[name].id, NOW))
        del self.shelves[names[name].id]

    @rule()
    def rename_the_inbox(self) -> None:
        if any(mailbox.name == "Old" for mailbox in self.all()):
            return
        inbox = self.box.id("INBOX")
        made = self.db.run(lambda tx: mailboxes.rename(tx, self.account, inbox, "Old", NOW))
        shelf = self.shelves[made.id] = Shelf(made.uid_validity)
        for _, held in sorted(self.shelves[inbox].held.items()):
            shelf.put(held)
        self.shelves[inbox].held.clear()

    @invariant()
    def rows_agree_with_the_model(self) -> None:
        self.modseq = max(self.modseq, self.db.look(lambda reader: journal.state(reader, self.account)))
        assert {mailbox.id for mailbox in self.all()} == set(self.shelves)
        for mailbox in self.all():
            shelf = self.shelves[mailbox.id]
            view = self.db.look(lambda reader, m=mailbox.id: messages.view(reader, m))
            assert view is not None
            assert list(view.uids) == sorted(shelf.held)
            for index, uid in enumerate(view.uids):
                held = shelf.held[uid]
                assert (view.emails[index], view.sizes[index], view.flags[index]) == (held.email, held.size, held.flags)
                assert view.keywords[index] == " ".join(sorted(held.keywords))
                assert view.modseqs[index] <= mailbox.modseq
            assert mailbox.uid_next == shelf.uid_next
            assert mailbox.total == len(shelf.held)
            assert mailbox.unseen == sum(not held.flags & SEEN for held in shelf.held.values())
            assert mailbox.octets == sum(held.size for held in shelf.held.values())

    @invariant()
    def quota_counts_each_email_once(self) -> None:
        emails = {held.email: held.size for shelf in self.shelves.values() for held in shelf.held.values()}
        used = self.db.look(lambda reader: letters.usage(reader, self.account))
        assert used == (sum(emails.values()), len(emails), None)

    @invariant()
    def the_journal_explains_every_mailbox(self) -> None:
        told: dict[int, set[int]] = {}
        page = self.db.look(lambda reader: journal.entries_after(reader, self.account, 0, limit=100_000))
        assert page.is_complete
        for entry in page.entries:
            match entry.kind:
                case Kind.CREATED:
                    told[entry.mailbox] = set()
                case Kind.DELETED:
                    assert told.pop(entry.mailbox) == set()
                case Kind.ADDED:
                    new = set(uidset.expand(entry.uids))
                    assert not new & told[entry.mailbox]
                    told[entry.mailbox] |= new
                case Kind.EXPUNGED:
                    assert told[entry.mailbox] >= set(uidset.expand(entry.uids))
                    told[entry.mailbox] -= set(uidset.expand(entry.uids))
                case Kind.CHANGED:
                    assert told[entry.mailbox] >= set(uidset.expand(entry.uids))
        assert told == {mailbox: set(shelf.held) for mailbox, shelf in self.shelves.items()}

    @invariant()
    def the_store_finds_itself_whole(self) -> None:
        assert self.db.look(lambda reader: integrity.check_account(reader, self.account)) == []
        assert self.db.look(integrity.check_rest) == []

    def teardown(self) -> None:
        self.db.connection.close()


TestMailboxModel = MailboxModel.TestCase
TestMailboxModel.pytestmark = [pytest.mark.slow]
TestMailboxModel.settings = settings(max_examples=30, stateful_step_count=30, deadline=None, derandomize=True)
