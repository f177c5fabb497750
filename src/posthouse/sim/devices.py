# SPDX-License-Identifier: Apache-2.0
"""A mail program's memory of mailboxes, and how it changes with what the server tells while one is selected.

Invariant: numbers are counted as the server counts them (RFC 9051 §2.3.1.2); where what it tells cannot be so, that
is a complaint.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from posthouse.protocol.imap.client import Event, Fetched, Status, Untagged
from posthouse.protocol.imap.response_reader import Value
from posthouse.sim.holdings import Holdings
from posthouse.store import uidset


@dataclass(slots=True)
class Letter:
    """`octets` None: not fetched yet."""

    unique: str = ""
    flags: frozenset[str] = frozenset()
    octets: bytes | None = None


@dataclass(slots=True)
class Box:
    """`modseq`: everything up to it is known."""

    validity: int = 0
    modseq: int = 0
    letters: dict[int, Letter] = field(default_factory=dict)  # by UID


@dataclass(slots=True)
class Device:
    """`knows_qresync`: it asks for what it has missed; else it looks at everything (RFC 7162 §3.2)."""

    knows_qresync: bool
    boxes: dict[str, Box] = field(default_factory=dict)
    is_busy: bool = False


class Shown:
    """The selected mailbox, as the server has told it. `order`: UIDs by their numbers, 0 where one is not known yet."""

    def __init__(self, name: str, box: Box, holdings: Holdings) -> None:
        self.name = name
        self.box = box
        self.order: list[int] = []
        self.exists = 0  # as SELECT said
        self.codes: dict[str, str] = {}
        self.is_selecting = True
        self._holdings = holdings

    @property
    def has_news(self) -> bool:
        return 0 in self.order

    def selected(self, *, is_resynchronized: bool) -> None:
        """SELECT was answered. With QRESYNC what is known has the first numbers."""
        box = self.box
        self.is_selecting = False
        validity = int(self.codes["UIDVALIDITY"])
        if box.validity not in (0, validity):
            self._complain(f"UIDVALIDITY went from {box.validity} to {validity}")
        box.validity = validity
        self.order = sorted(box.letters) if is_resynchronized else []
        if len(self.order) > self.exists:
            self._complain(f"{len(self.order)} letters are known, and {self.exists} exist")
        self.order += [0] * (self.exists - len(self.order))

    def hear(self, event: Event) -> None:
        match event:
            case Status():
                name, _, rest = event.code.partition(" ")
                self.codes[name] = rest
            case Fetched():
                self._fetched(event)
            case Untagged(name="EXISTS"):
                self._exists(event.number or 0)
            case Untagged(name="EXPUNGE"):
                self._expunged(event.number or 0)
            case Untagged(name="VANISHED"):
                self._vanished(event.values)
            case Untagged(name="SEARCH"):
                self._found(event.values)
            case _:
                pass

    def _exists(self, number: int) -> None:
        if self.is_selecting:
            self.exists = number
            return
        if number < len(self.order):
            self._complain(f"{number} letters exist, and {len(self.order)} were told of")
        self.order += [0] * (number - len(self.order))

    def _expunged(self, number: int) -> None:
        if not 1 <= number <= len(self.order):
            self._complain(f"number {number} of {len(self.order)} is expunged")
            return
        self.box.letters.pop(self.order.pop(number - 1), None)

    def _vanished(self, values: tuple[Value, ...]) -> None:
        said = values[-1]
        assert isinstance(said, str), "a set of UIDs"
        for uid in uidset.expand(uidset.from_text(said)):
            self.box.letters.pop(uid, None)
            if len(values) > 1:  # (EARLIER)
                continue
            if uid in self.order:
                self.order.remove(uid)
            elif 0 in self.order:
                self.order.remove(0)
            else:
                self._complain(f"UID {uid} vanished, which was never shown")

    def _fetched(self, event: Fetched) -> None:
        items, number = event.items, event.number
        said = items.get("UID")
        if self.is_selecting:
            assert isinstance(said, str), "RFC 7162 §3.2.5.1"
            uid = int(said)
        elif not 1 <= number <= len(self.order):
            self._complain(f"something is told of number {number} of {len(self.order)}")
            return
        else:
            known = self.order[number - 1]
            uid = int(said) if isinstance(said, str) else known
            if known not in (0, uid):
                self._complain(f"number {number} is UID {known}, and told as {uid}")
            if not uid:
                return  # the flags of a letter that will be asked for
            self.order[number - 1] = uid
        self._learn(uid, items)

    def _learn(self, uid: int, items: dict[str, Value]) -> None:
        letter = self.box.letters.setdefault(uid, Letter())
        flags, unique, octets = items.get("FLAGS"), items.get("EMAILID"), items.get("BODY[]")
        if isinstance(flags, tuple):
            letter.flags = frozenset(flag.lower() for flag in flags if isinstance(flag, str)) - {"\\recent"}
        if isinstance(unique, tuple) and isinstance(unique[0], str):
            if letter.unique not in ("", unique[0]):
                self._complain(f"UID {uid} meant {letter.unique}, now {unique[0]}")
            letter.unique = unique[0]
        if isinstance(octets, bytes):
            letter.octets = octets

    def _found(self, values: tuple[Value, ...]) -> None:
        """UID SEARCH ALL."""
        found = [int(value) for value in values if isinstance(value, str)]
        if not self.has_news and found != self.order:
            self._complain(f"UIDs {self.order} were told of, and {found} are found")

    def _complain(self, text: str) -> None:
        self._holdings.complain(f"{self.name}: {text}")
