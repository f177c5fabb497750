# SPDX-License-Identifier: Apache-2.0
"""Threads of THREAD (RFC 5256 §3): ORDEREDSUBJECT and REFERENCES, over letters in the order of the mailbox.

Invariant: each letter is in the forest once. Nothing recurses, and a mailbox made to be hard costs no more than a
bounded multiple of an ordinary one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from posthouse.mail.base_subject import BaseSubject
from posthouse.mail.header import message_ids
from posthouse.mail.search import ThreadAlgorithm

# Steps up a thread that all looks for loops together may take: ordinary mail needs next to none (two letters that are
# not joined yet cannot make a loop), and then letters that seem to be in a loop are left apart.
MAX_STEPS = 2_000_000
NOWHERE = -1


@dataclass(frozen=True, slots=True)
class Member:
    """A letter as threading sees it. `ids`: those of what it answers, oldest first (see `links`). `sent`: see
    `sorting.sent_date`. `subject`: its text compared without case, so given as a collation key."""

    message_id: bytes
    ids: tuple[bytes, ...]
    subject: BaseSubject
    sent: float


@dataclass(frozen=True, slots=True)
class Forest:
    """Numbers below `count` are letters, by their place in the mailbox; others stand for what is not there."""

    count: int
    roots: list[int]
    children: dict[int, list[int]]


def links(summary: Mapping[bytes, bytes | None], ancestors: Sequence[bytes]) -> tuple[bytes, tuple[bytes, ...]]:
    """(message id, references) of a letter, ids normalised: b"" and () for none.

    `ancestors`: the ids in References; where there are none the first in In-Reply-To counts.
    """
    own = message_ids(summary[b"message-id"] or b"")
    ids = tuple(map(_normal, ancestors))
    if not ids:
        ids = tuple(map(_normal, message_ids(summary[b"in-reply-to"] or b"")[:1]))
    return _normal(own[0]) if own else b"", ids


def _normal(message_id: bytes) -> bytes:
    """Quoting makes no difference (RFC 5256 §3)."""
    return message_id if b'"' not in message_id else message_id.replace(b'"', b"").replace(b"\\", b"")


def thread(members: Sequence[Member], algorithm: ThreadAlgorithm) -> Forest:
    match algorithm:
        case ThreadAlgorithm.ORDERED_SUBJECT:
            return ordered_subject(members)
        case ThreadAlgorithm.REFERENCES:
            return references(members)


def ordered_subject(members: Sequence[Member]) -> Forest:
    """Letters of one base subject are a thread: the first, and all others below it."""
    threads: dict[str, list[int]] = {}
    for place in sorted(range(len(members)), key=lambda place: members[place].sent):
        threads.setdefault(members[place].subject.text, []).append(place)
    # Each thread begins with its oldest letter, so they are in order by it already.
    return Forest(
        len(members),
        [first for first, *_ in threads.values()],
        {first: rest for first, *rest in threads.values() if rest},
    )


def references(members: Sequence[Member]) -> Forest:
    """Letters hang below what they answer; then threads of one base subject come together."""
    linked = _Links(members)
    for place, member in enumerate(members):
        linked.add(place, member.ids)
    gathered = _Gathering(members, *linked.pruned())
    gathered.merge_subjects()
    return gathered.forest()


class _Links:
    """Step 1. Nodes are numbers: letters have their place, and behind them comes what only references name."""

    __slots__ = ("count", "groups", "has_children", "known", "parents", "steps")

    def __init__(self, members: Sequence[Member]) -> None:
        self.count = len(members)
        self.parents = [NOWHERE] * self.count
        self.has_children = bytearray(self.count)
        self.groups = list(range(self.count))  # union-find over all that was ever joined
        self.steps = MAX_STEPS
        self.known: dict[bytes, int] = {}
        for place, member in enumerate(members):
            if member.message_id:  # a second letter with the same id is as one without an id
                self.known.setdefault(member.message_id, place)

    def add(self, place: int, ids: tuple[bytes, ...]) -> None:
        before = NOWHERE
        for message_id in ids:
            here = self._node(message_id)
            if before != NOWHERE and self.parents[here] == NOWHERE:
                self._link(before, here)
            before = here
        # Step 1.B: what the letter itself says is better than what others' truncated references seemed to say.
        if self.parents[place] != before:
            self.parents[place] = NOWHERE
            if before != NOWHERE:
                self._link(before, place)

    def _node(self, message_id: bytes) -> int:
        node = self.known.get(message_id)
        if node is None:
            node = self.known[message_id] = len(self.parents)
            self.parents.append(NOWHERE)
            self.has_children.append(0)
            self.groups.append(node)
        return node

    def _link(self, parent: int, child: int) -> None:
        """Unless that made a loop."""
        if parent == child:
            return
        above, below = self._group(parent), self._group(child)
        if above != below:
            self.groups[below] = above
        elif self.has_children[child] and self._is_below(parent, child):
            return
        self.parents[child] = parent
        self.has_children[parent] = 1

    def _group(self, node: int) -> int:
        groups = self.groups
        while groups[node] != node:
            groups[node] = groups[groups[node]]
            node = groups[node]
        return node

    def _is_below(self, node: int, other: int) -> bool:
        """Whether `node` is a descendant of `other`, or it would take too long to know."""
        while node not in (NOWHERE, other) and self.steps:
            node = self.parents[node]
            self.steps -= 1
        return node != NOWHERE

    def pruned(self) -> tuple[list[int], dict[int, list[int]]]:
        """Steps 2 and 3: roots and children when those that are not there have given their children to what is above
        them. One that is not there stays where it is a root and keeps several letters together."""
        above = self._letters_above()
        children: dict[int, list[int]] = {}
        rootless: dict[int, list[int]] = {}
        for place in range(self.count):
            parent = self.parents[place]
            if parent >= self.count:
                parent = above[parent - self.count]
            if parent == NOWHERE:
                rootless[place] = [place]
            elif parent < self.count:
                children.setdefault(parent, []).append(place)
            else:
                rootless.setdefault(parent, []).append(place)
        roots: list[int] = []
        for root, letters in rootless.items():
            if len(letters) == 1:
                roots += letters
            else:
                roots.append(root)
                children[root] = letters
        return roots, children

    def _letters_above(self) -> list[int]:
        """For each node that is not there the nearest letter above it; where none is, the root (itself or another)."""
        unknown = -2
        above = [unknown] * (len(self.parents) - self.count)
        for start in range(len(above)):
            path: list[int] = []
            node = start + self.count
            while node >= self.count and above[node - self.count] == unknown:
                path.append(node)
                if self.parents[node] == NOWHERE:
                    break
                node = self.parents[node]
            found = node if node < self.count or above[node - self.count] == unknown else above[node - self.count]
            for each in path:
                above[each - self.count] = found
        return above


class _Gathering:
    """Steps 4 to 6: threads in order of time, those of one base subject together."""

    __slots__ = ("_count", "_members", "_next", "_ranks", "children", "roots")

    def __init__(self, members: Sequence[Member], roots: list[int], children: dict[int, list[int]]) -> None:
        self._members = members
        self._count = len(members)
        self._next = max((self._count, *(root + 1 for root in roots)))
        self._ranks = [0] * self._count
        for rank, place in enumerate(sorted(range(self._count), key=lambda place: members[place].sent)):
            self._ranks[place] = rank
        self.roots = roots
        self.children = children

    def _first(self, node: int) -> int:
        """The letter itself, or the first below one that is not there."""
        return node if node < self._count else min(self.children[node], key=self._ranks.__getitem__)

    def _is_reply(self, letter: int) -> bool:
        return self._members[letter].subject.is_reply

    def merge_subjects(self) -> None:
        """Step 5."""
        firsts = {root: self._first(root) for root in self.roots}
        self.roots.sort(key=lambda root: self._ranks[firsts[root]])
        subjects = {root: self._members[first].subject.text for root, first in firsts.items()}
        table: dict[str, int] = {"": NOWHERE}
        for root in self.roots:
            held = table.setdefault(subjects[root], root)
            if held in (root, NOWHERE) or held >= self._count:
                continue
            if root >= self._count or (self._is_reply(held) and not self._is_reply(root)):
                table[subjects[root]] = root
        kept: dict[int, None] = dict.fromkeys(self.roots)
        for root in self.roots:
            held = table[subjects[root]]
            if held in (root, NOWHERE):
                continue
            del kept[root]
            if held >= self._count:
                self.children[held] += self.children.pop(root) if root >= self._count else [root]
            elif self._is_reply(root) and not self._is_reply(held):
                self.children.setdefault(held, []).append(root)
            else:
                del kept[held]
                self.children[self._next] = [held, root]
                kept[self._next] = None
                table[subjects[root]] = self._next
                self._next += 1
        self.roots = list(kept)

    def forest(self) -> Forest:
        """Step 6. Only roots may be what is not there, so all children are letters and are sorted by their rank."""
        for siblings in self.children.values():
            siblings.sort(key=self._ranks.__getitem__)
        self.roots.sort(key=lambda root: self._ranks[root if root < self._count else self.children[root][0]])
        return Forest(self._count, self.roots, self.children)


def written(forest: Forest, numbers: Sequence[int]) -> str:
    """As an untagged THREAD has them, letters by these numbers: `(2)(3 6 (4 23)(44 7 96))` (RFC 5256 §4)."""
    words: list[str] = []
    waiting: list[int | None] = list(reversed(forest.roots))  # None: a parenthesis is to be closed
    while waiting:
        node = waiting.pop()
        if node is None:
            words.append(")")
            continue
        words.append("(")
        waiting.append(None)
        while True:
            if node < forest.count:
                words.append(str(numbers[node]))
            below = forest.children.get(node, ())
            if len(below) != 1:
                break
            words.append(" ")
            (node,) = below
        if below:
            if node < forest.count:
                words.append(" ")
            waiting += reversed(below)
    return "".join(words)
