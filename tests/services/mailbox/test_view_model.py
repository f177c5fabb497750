# SPDX-License-Identifier: Apache-2.0
"""Clients that believe what they are told always know what the mailbox was, whatever happens in which order."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from posthouse.mail.number_set import STAR, NumberSet
from posthouse.services.mailbox.view import Changed, Exists, Expunged, SelectedView, Vanished
from posthouse.store import uidset
from posthouse.store.journal import Entry, Kind
from posthouse.store.uidset import Ranges

BOX = 1
picks = st.sets(st.integers(0, 30), max_size=6)
who = st.integers(0, 2)


@dataclass
class Client:
    """What a program at the other end keeps: UIDs by number (None: not asked for yet) and flags by UID."""

    view: SelectedView
    uids: list[int | None]
    flags: dict[int, int]
    saved: set[int] = field(default_factory=set)

    def hear(self, told: list[object], truth: dict[int, int]) -> None:
        for each in told:
            match each:
                case Expunged(numbers):
                    for number in numbers:
                        self.lose(self.uids.pop(number - 1))
                case Vanished(uids):
                    for uid in uidset.expand(uids):
                        self.uids.remove(uid)
                        self.lose(uid)
                case Exists(count, _):
                    assert count > len(self.uids), "only an expunge makes a mailbox smaller"
                    self.uids += [None] * (count - len(self.uids))
                    self.ask(truth)
                case Changed(numbers, uids):
                    for number, uid in zip(numbers, uids, strict=True):
                        assert self.uids[number - 1] == uid
                        self.flags[uid] = truth[uid]

    def lose(self, uid: int | None) -> None:
        assert uid is not None
        self.flags.pop(uid, None)
        self.saved.discard(uid)

    def ask(self, truth: dict[int, int]) -> None:
        """FETCH of what is new: the server looks the UIDs up by the view."""
        for index, uid in enumerate(self.uids):
            if uid is None:
                self.uids[index] = self.view.uid(index + 1)
        for uid in self.uids:
            if uid is not None and uid not in self.flags and uid in truth:
                self.flags[uid] = truth[uid]


class ViewMachine(RuleBasedStateMachine):
    """One mailbox (`truth`: flags by UID), its journal, and three clients, the last of which wants VANISHED."""

    @initialize(first=st.integers(0, 8))
    def open(self, first: int) -> None:
        self.truth: dict[int, int] = dict.fromkeys(range(1, first + 1), 0)
        self.uid_next = first + 1
        self.modseq = 5
        self.journal: list[Entry] = []
        shared = array("I", self.truth)
        self.shared = shared
        self.clients = [
            Client(
                SelectedView(BOX, shared, self.modseq, uses_vanished=number == 2),
                list(self.truth),
                dict(self.truth),
            )
            for number in range(3)
        ]

    def write(self, kind: Kind, uids: set[int]) -> None:
        self.journal.append(Entry(self.modseq, BOX, kind, uidset.from_uids(uids), 0.0))

    def some(self, picks: set[int]) -> set[int]:
        there = sorted(self.truth)
        return {there[pick % len(there)] for pick in picks} if there else set()

    @rule(count=st.integers(1, 3), skipped=st.integers(0, 2))
    def arrive(self, count: int, skipped: int) -> None:
        self.modseq += 1
        first = self.uid_next + skipped
        uids = set(range(first, first + count))
        self.truth |= dict.fromkeys(uids, 0)
        self.uid_next = first + count
        self.write(Kind.ADDED, uids)
        self.shared.extend(sorted(uids))

    @rule(picks=picks)
    def change(self, picks: set[int]) -> None:
        uids = self.some(picks)
        self.modseq += 1
        if uids:
            for uid in uids:
                self.truth[uid] = self.modseq
            self.write(Kind.CHANGED, uids)

    @rule(picks=picks)
    def expunge(self, picks: set[int]) -> None:
        uids = self.some(picks)
        self.modseq += 1
        if uids:
            for uid in uids:
                del self.truth[uid]
            self.write(Kind.EXPUNGED, uids)
            self.shared = array("I", sorted(self.truth))

    @rule(who=who, picks=picks, is_late=st.booleans())
    def store(self, who: int, picks: set[int], is_late: bool) -> None:
        """A client changes flags itself, silently, and knows what became of them. `is_late`: its view has learned of it
        before the answer came."""
        client = self.clients[who]
        known = [uid for uid in client.uids if uid is not None and uid in self.truth]
        uids = {known[pick % len(known)] for pick in picks} if known else set()
        self.modseq += 1
        if uids:
            for uid in uids:
                client.flags[uid] = self.truth[uid] = self.modseq
            self.write(Kind.CHANGED, uids)
            if is_late:
                client.view.learn(self.journal, self.modseq)
            client.view.did(self.modseq)

    @rule(who=who, expunges=st.booleans())
    def tell(self, who: int, expunges: bool) -> None:
        client = self.clients[who]
        client.view.learn(self.journal, self.modseq)
        before = [uid for uid in client.uids if uid not in self.truth]
        told = client.view.tell(expunges=expunges)
        assert expunges or not any(isinstance(each, Expunged | Vanished) for each in told)
        client.hear(list(told), self.truth)
        if expunges:
            assert client.uids == sorted(self.truth)
            assert client.view.told_modseq == self.modseq
            client.view.share(self.shared)
        else:
            assert [uid for uid in client.uids if uid not in self.truth] == before
            unknown = [e.modseq for e in self.journal if e.kind is Kind.EXPUNGED and set_of(e.uids) & {*before}]
            assert client.view.told_modseq == (min(unknown) - 1 if unknown else self.modseq)
        assert {uid: client.flags[uid] for uid in client.uids if uid in self.truth} == {
            uid: self.truth[uid] for uid in client.uids if uid in self.truth
        }

    @rule(who=who)
    def look_without_telling(self, who: int) -> None:
        self.clients[who].view.learn(self.journal, self.modseq)

    @rule(who=who, picks=picks)
    def save(self, who: int, picks: set[int]) -> None:
        client = self.clients[who]
        known = [uid for uid in client.uids if uid is not None]
        client.saved = {known[pick % len(known)] for pick in picks} if known else set()
        client.view.save(client.saved)

    @rule(who=who, ends=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=3))
    def name_a_set(self, who: int, ends: list[tuple[int, int]]) -> None:
        client = self.clients[who]
        uids = [uid for uid in client.uids if uid is not None]
        wanted = NumberSet(tuple(ends))
        view = client.view

        def meant(last: int) -> set[int]:
            pairs = [(first or last, second or last) for first, second in ends]
            return {number for pair in pairs for number in range(min(pair), max(pair) + 1)}

        numbers = meant(len(uids))
        assert view.has_numbers(wanted) == (
            all(1 <= number <= len(uids) for number in numbers) and not (STAR in sum(ends, ()) and not uids)
        )
        assert list(view.by_numbers(wanted)) == [uid for number, uid in enumerate(uids, 1) if number in numbers]
        by_uid = meant(uids[-1] if uids else 0)
        assert list(view.by_uids(wanted)) == [uid for uid in uids if uid in by_uid]

    @invariant()
    def views_agree_with_their_clients(self) -> None:
        for client in getattr(self, "clients", ()):
            assert list(client.view.uids) == client.uids
            assert len(client.view) == len(client.uids)
            for number, uid in enumerate(client.uids, 1):
                assert uid is not None
                assert (client.view.number(uid), client.view.uid(number)) == (number, uid)
            assert set_of(client.view.saved) == client.saved
            assert list(client.view.by_uids(NumberSet((), has_saved=True))) == sorted(client.saved)


def set_of(uids: Ranges) -> set[int]:
    return set(uidset.expand(uids))


TestView = ViewMachine.TestCase
TestView.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
