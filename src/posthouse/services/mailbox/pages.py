# SPDX-License-Identifier: Apache-2.0
"""A page of letters: what is wanted of them, the rows that were read, and what came of it.

Invariant: the columns of a page belong together: one value for each of its letters, in order of UID.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from posthouse.mail.structure import Part, Summary
from posthouse.ports import Row
from posthouse.services.mailbox.contents import Letter


@dataclass(frozen=True, slots=True)
class Wants:
    """What is to be read. `parts`: sections with a part number, beside `contents`. `headers`: of the content no more
    than its header. `known_previews`: only those that somebody has asked for before."""

    dates: bool = False
    summaries: bool = False
    structures: bool = False
    parts: bool = False
    previews: bool = False
    known_previews: bool = False
    headers: bool = False
    contents: bool = False

    @property
    def is_nothing(self) -> bool:
        return not (self.dates or self.summaries or self.looks)

    @property
    def letters(self) -> bool:
        return self.headers or self.contents

    @property
    def findings(self) -> bool:
        return self.structures or self.parts or self.previews or self.known_previews

    @property
    def looks(self) -> bool:
        """Whether more than rows is needed."""
        return self.letters or self.findings


class Rows:
    """As they were read, each column in order of UID, which comes first in each row."""

    __slots__ = ("_wants", "dates", "findings", "places", "summaries")

    def __init__(self, wants: Wants) -> None:
        self._wants = wants
        self.dates: list[Row] = []  # see store/reading.py
        self.summaries: list[Row] = []
        self.findings: list[Row] = []
        self.places: list[Row] = []

    @property
    def _columns(self) -> list[list[Row]]:
        wants = self._wants
        columns = (
            (self.dates, wants.dates),
            (self.summaries, wants.summaries),
            (self.findings, wants.findings),
            (self.places, wants.letters),
        )
        return [column for column, is_wanted in columns if is_wanted]

    def are_short(self, count: int) -> bool:
        return any(len(column) != count for column in self._columns)

    def complete(self, uids: array[int]) -> frozenset[int]:
        """Letters of which there is everything."""
        return frozenset(uids).intersection(*({row[0] for row in column} for column in self._columns))

    def each(self) -> dict[int, Rows]:
        """One by one, of letters of which there is everything."""
        found: dict[int, Rows] = {}
        columns = [
            {row[0]: row for row in column} for column in (self.dates, self.summaries, self.findings, self.places)
        ]
        for uid in max(columns, key=len):
            rows = Rows(self._wants)
            rows.dates, rows.summaries, rows.findings, rows.places = (
                [column[uid]] if uid in column else [] for column in columns
            )
            if not rows.are_short(1):
                found[uid] = rows
        return found

    def keep(self, uids: Collection[int]) -> None:
        for column in self._columns:
            column[:] = [row for row in column if row[0] in uids]


@dataclass(slots=True)
class Page:
    """Columns, empty where not asked for. `damaged`: UIDs of letters that cannot be read, and `is_short`: of some
    letters nothing was found, they have gone; neither are among `uids`."""

    uids: array[int]
    dates: Sequence[Row] = ()  # (UID, thread, internal date, when it came into this mailbox)
    summaries: Sequence[Summary] = ()  # values of ENVELOPE_FIELDS, in their order
    structures: Sequence[Part] = ()
    previews: Sequence[str | None] = ()
    letters: Sequence[Letter] = ()
    damaged: list[int] = field(default_factory=list)
    is_short: bool = False

    def forget(self, rows: Rows, *, damaged: Collection[int] = (), gone: Collection[int] = ()) -> None:
        """Letters of these UIDs are not to be told; their rows go too."""
        if not damaged and not gone:
            return
        self.damaged += damaged
        self.is_short = self.is_short or bool(gone)
        lost = {*damaged, *gone}
        self.uids = array("I", [uid for uid in self.uids if uid not in lost])
        rows.keep(frozenset(self.uids))
