# SPDX-License-Identifier: Apache-2.0
"""The life of one letter, out of the log of a world: everything that names it, and what befell the servers meanwhile.

Invariant: what is shown are lines of the log in their order, with readable times; nothing is made up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

DAY = 86400.0
HOUR = 3600.0
MINUTE = 60.0

MAX_LINES = 120  # of one life; the beginning and the end of a longer one
# What the servers log a letter by: the trace of the connection that brought it, its number in the queue.
NOT_QUEUED = "queue_id=None"
_KEYS = re.compile(r"\b((?:trace|queue_id)=\S+)")


def life_of(log: Sequence[str], message_id: str) -> list[str]:
    """`message_id` without brackets."""
    keys = {message_id: None}
    about = _naming(keys)
    for line in log:
        if about.search(line):
            keys.update(dict.fromkeys(key for key in _KEYS.findall(line) if key != NOT_QUEUED))
    named = _naming(keys)
    mine = [number for number, line in enumerate(log) if named.search(line)]
    if not mine:
        return []
    named_lines = set(mine)
    told = [
        line
        for number, line in enumerate(log[mine[0] : mine[-1] + 1], mine[0])
        if number in named_lines or _is_event(line)
    ]
    if len(told) > MAX_LINES:
        half = MAX_LINES // 2
        told = [*told[:half], f"               … {len(told) - 2 * half} lines …", *told[-half:]]
    return [_readable(line) for line in told]


def _naming(keys: Iterable[str]) -> re.Pattern[str]:
    """Lines that have one of these, not only as the beginning of something longer."""
    return re.compile("|".join(rf"{re.escape(key)}(?![\w.@-])" for key in keys))


def _is_event(line: str) -> bool:
    """Something that befell a server: the world says so, and it is about no letter."""
    return " world: " in line and "<" not in line and " read " not in line and " cannot " not in line


def _readable(line: str) -> str:
    try:
        seconds = float(line[:14])
    except ValueError:
        return line
    days, rest = divmod(seconds, DAY)
    hours, rest = divmod(rest, HOUR)
    minutes, rest = divmod(rest, MINUTE)
    return f"day {days:.0f} {hours:02.0f}:{minutes:02.0f}:{rest:06.3f}{line[14:]}"
