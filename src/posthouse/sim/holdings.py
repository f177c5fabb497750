# SPDX-License-Identifier: Apache-2.0
"""What a person knows of the own mailboxes by IMAP, whatever device it was that saw or did it.

Invariant: nothing is here that the server has not said, and no removal that was begun is missing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

Spot = tuple[str, int]  # a mailbox by its name, and a UID


@dataclass(slots=True)
class Appended:
    """A letter that its owner puts in. `tries`: how often that may have worked; `confirmed`: how often it did."""

    octets: bytes
    tries: int = 0
    confirmed: int = 0


@dataclass(slots=True)
class Holdings:
    """`copied`: by unique id, how often a COPY was begun. `doomed`: whose removal or move was begun at some time.
    `marks`: keywords that a letter has for good. `drafts`: for each draft the Message-IDs of its versions: one of them
    is there. `complaints`: where the server contradicted itself."""

    there: dict[Spot, str] = field(default_factory=dict)  # with unique ids, "" where that is not known
    doomed: dict[Spot, None] = field(default_factory=dict)
    gone: dict[Spot, None] = field(default_factory=dict)
    marks: dict[Spot, dict[str, None]] = field(default_factory=dict)
    copied: Counter[str] = field(default_factory=Counter)
    appended: dict[str, Appended] = field(default_factory=dict)  # by Message-ID without brackets
    drafts: list[list[str]] = field(default_factory=list)
    complaints: dict[str, None] = field(default_factory=dict)

    def saw(self, spot: Spot, unique: str = "") -> None:
        """It is there, or somebody is just taking it away."""
        if spot not in self.doomed:
            self.there[spot] = unique

    def doom(self, spot: Spot) -> None:
        """Its removal begins: from now on nobody knows."""
        self.doomed[spot] = None
        self.there.pop(spot, None)

    def complain(self, text: str) -> None:
        self.complaints[text] = None
