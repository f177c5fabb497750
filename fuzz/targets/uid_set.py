# SPDX-License-Identifier: Apache-2.0
"""Sets of UIDs: read or ValueError, and what is read is written so that it reads the same."""

from __future__ import annotations

from posthouse.store import uidset

DICTIONARY = "numbers.dict"
MAX_SIZE = 600


def target(data: bytes) -> None:
    text = data.decode("latin-1")
    try:
        ranges = uidset.from_text(text)
    except ValueError:
        return
    ordered = uidset.from_ranges(ranges)
    assert uidset.from_text(uidset.to_text(ordered)) == ordered
    assert uidset.merged([ordered, ordered]) == ordered
    if uidset.size(ordered) < 10_000:
        uids = uidset.expand(ordered)
        assert uidset.from_uids(reversed(uids)) == ordered
        assert uidset.expand(uidset.below(ordered, 7)) == [uid for uid in uids if uid < 7]
