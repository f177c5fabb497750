# SPDX-License-Identifier: Apache-2.0
"""What is known of the letters of a world outside of the servers: who wrote what, what was promised, what was
dropped on purpose, and where the protocol leaves room for a second copy.

Invariant: nothing here is learned from a server's rows, but for the letters that were being sent when it ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from posthouse.sim.people import Person, Sent
from posthouse.sim.strangers import Stranger


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be. `letter`: the Message-ID that it is about, without brackets."""

    text: str
    letter: str = ""

    def __str__(self) -> str:
        return self.text


Way = tuple[str, ...]
"""Addresses from that of a recipient to the last one behind it."""


@dataclass(slots=True)
class Ledger:
    """`aliases`: address and targets; `forwards`: those of Plan.forwards.

    `doubts`: how often nobody can know whether a letter came across, by Message-ID and recipient: the answer to the
    final dot was lost, or the sending server ended before it had noted the answer. `dropped`: by an operator.
    `retried`: by an operator, so that no schedule holds. `survived`: faults of every kind that were played.
    """

    people: dict[str, Person]
    aliases: dict[str, tuple[str, ...]] = field(default_factory=dict)
    forwards: dict[str, tuple[str, ...]] = field(default_factory=dict)
    letters: dict[str, Sent] = field(default_factory=dict)
    strangers: list[Stranger] = field(default_factory=list)
    doubts: Counter[tuple[str, str]] = field(default_factory=Counter)
    dropped: dict[tuple[str, str], None] = field(default_factory=dict)
    retried: dict[str, list[float]] = field(default_factory=dict)  # by server: when
    disabled: dict[str, float] = field(default_factory=dict)  # accounts that were, at some time: until when
    disabling: dict[str, None] = field(default_factory=dict)  # servers that have such an account now
    survived: Counter[str] = field(default_factory=Counter)
    deeds: Counter[str] = field(default_factory=Counter)

    def write(self, sent: Sent) -> None:
        self.letters[bare(sent.message_id)] = sent

    def ways(self, recipient: str) -> tuple[Way, ...]:
        """To each that a letter to this address is for; one that goes in a circle ends where it would begin anew."""
        found: list[Way] = []
        open_ways: list[Way] = [(recipient,)]
        while open_ways:
            way = open_ways.pop(0)
            targets = self.aliases.get(way[-1]) or self.forwards.get(way[-1], ())
            onward = [(*way, each) for each in targets if each not in way]
            open_ways += onward
            if not onward:
                found.append(way)
        return tuple(found)

    def was_disabled(self, name: str, since: float) -> bool:
        """Whether that account was, at some time from then on."""
        return self.disabled.get(name, -inf) >= since

    def doubt(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Message-IDs and recipients that were being sent at this moment, of which no answer will be noted."""
        for message_id, recipient in pairs:
            self.doubts[bare(message_id), recipient] += 1


def bare(message_id: str) -> str:
    return message_id.strip().strip("<>")
