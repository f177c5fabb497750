# SPDX-License-Identifier: Apache-2.0
"""What a client that was here before has missed (QRESYNC, RFC 7162 §3.2.5), from what it knows and what is there.

Invariant: a letter that the client knows and that is not there any more is told as vanished, however long ago it went.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from posthouse.mail.number_set import NumberSet
from posthouse.store import uidset
from posthouse.store.messages import Changes
from posthouse.store.uidset import Ranges


@dataclass(frozen=True, slots=True)
class Missed:
    """UIDs: told as VANISHED (EARLIER), and as FETCH with flags and mod-sequences."""

    vanished: Ranges
    changed: Ranges


def missed(
    changes: Changes,
    uids: array[int],
    uid_next: int,
    known: NumberSet | None = None,
    known_numbers: NumberSet | None = None,
    known_number_uids: NumberSet | None = None,
) -> Missed:
    """`changes` since the client's mod-sequence; `uids` of the mailbox now. `known`: the UIDs that the client has;
    None: any. The last two pair off: messages whose number and UID the client is certain of.
    """
    last = uid_next - 1
    every: Ranges = ((1, last),) if last else ()
    wanted = every if known is None else uidset.below(known.resolved(last), uid_next)
    if changes.is_complete:
        vanished = uidset.intersection(changes.vanished, wanted)
    else:
        # Nobody knows when they went: all that the client may have and that is not there.
        vanished = uidset.difference(wanted, uidset.from_uids(uids))
        if known_numbers is not None and known_number_uids is not None:
            agreed = _agreed(uids, known_numbers, known_number_uids)
            vanished = uidset.intersection(vanished, ((agreed + 1, uidset.MAX_UID),))
    return Missed(vanished, uidset.intersection(changes.changed, wanted))


def _agreed(uids: array[int], numbers: NumberSet, number_uids: NumberSet) -> int:
    """The highest UID that the client has under the right number: up to it, it knows of every expunge; 0 for none."""
    agreed = 0
    for number, uid in zip(_each(numbers, len(uids)), _each(number_uids, uidset.MAX_UID), strict=False):
        if uids[number - 1] == uid:
            agreed = uid
    return agreed


def _each(wanted: NumberSet, limit: int) -> Iterator[int]:
    """The numbers of a set as it was said, one after another, up to the first that is too large."""
    for first, last in wanted.ranges:
        for number in range(first or limit, (last or limit) + 1):
            if not 1 <= number <= limit:
                return
            yield number
