# SPDX-License-Identifier: Apache-2.0
"""Notes beside contents, and the parameters in them: whatever octets stand there, a value or the reader's own error."""

from __future__ import annotations

import contextlib

import msgspec

from fuzz.choices import Choices
from posthouse.store import notes
from posthouse.store.queue_rows import unpack_reverse_path
from posthouse.store.recovered import Names

DICTIONARY = "numbers.dict"
MAX_SIZE = 2000


def target(data: bytes) -> None:
    choices = Choices(data)
    octets = choices.rest if choices.flag() else data
    try:
        note = notes.decode(octets)
    except msgspec.MsgspecError:
        pass
    else:
        Names().learn(note)
        packed = notes.encode(note)
        assert notes.encode(notes.decode(packed)) == packed, "a note changes when it is written and read"
    with contextlib.suppress(msgspec.MsgspecError, ValueError):
        unpack_reverse_path("", octets)
