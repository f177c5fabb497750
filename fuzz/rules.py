# SPDX-License-Identifier: Apache-2.0
"""The rules that hold for every input of every target, checked by counts and not by a clock.

No exception leaves a target; the lines of Python that run grow no faster than the input; the memory in use at a time
has a bound. What runs inside `re` is counted by fuzz/regexes.py.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from fuzz.choices import even_pieces
from fuzz.registry import Target

# How many more lines may run for four times the input: 4, and a little because short inputs take short ways.
MOST_GROWTH = 5.5
MOST_DOUBLING = 2.35  # the same for the second half of that way: what only begins slowly is not meant
PIECE = 50  # octets of each piece of a stream while lines are counted
FEW_LINES = 4_000  # below, one branch more or less makes the ratio
# Octets of Python objects at once: a parser makes strings, tuples and lists of what it reads. Of 20 KB most targets
# make some 100 to 800 KiB, and two engines that talk with each other 2 MiB.
MEMORY_PER_OCTET = 100
MEMORY_BASE = 4 * 1024 * 1024  # letters and caches of the targets themselves


@dataclass(frozen=True, slots=True)
class Fault:
    """A rule was broken. `place` names the line, so that the same fault is told once."""

    target: str
    data: bytes
    what: str
    place: str


def check(target: Target, data: bytes) -> Fault | None:
    """Run it once."""
    try:
        target.run(data)
    except Exception as error:  # whatever it is, it should not have come out
        return Fault(target.name, data, f"{type(error).__name__}: {error}", _place(error))
    return None


def _place(error: BaseException) -> str:
    trace, last = error.__traceback__, "?"
    while trace is not None:
        last = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return last


def lines(run: Callable[[], None]) -> int:
    """How many lines of Python ran, the target's own among them. Faults do not matter here."""
    count = 0

    def local(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        if event == "line":
            count += 1
        return local

    before = sys.gettrace()
    sys.settrace(local)
    try:
        run()
    except Exception:  # noqa: S110 - `check` tells of it
        pass
    finally:
        sys.settrace(before)
    return count


def pumped(seed: bytes, chance: Random, size: int) -> Callable[[int], bytes]:
    """A family of inputs: some slice of the seed again and again, to about `size` octets times its argument."""
    start = chance.randrange(max(len(seed) - 12, 1))
    end = min(len(seed), start + chance.choice((1, 2, 5, 20, 80)))
    piece = seed[start:end] or b"a"
    times = max(1, size // len(piece))
    return lambda factor: seed[:start] + piece * (times * factor) + seed[end:]


def grows_too_fast(target: Target, family: Callable[[int], bytes]) -> str:
    """ "" or what was counted, for a family of inputs at one, two and four times the size."""
    with even_pieces(PIECE):
        few, some, many = (lines(partial(target.run, family(factor))) for factor in (1, 2, 4))
    if many > FEW_LINES and many > few * MOST_GROWTH and many > some * MOST_DOUBLING:
        return f"{few}, {some}, {many} lines for {len(family(1))}, {len(family(2))}, {len(family(4))} octets"
    return ""


def memory(target: Target, data: bytes) -> int:
    """The most octets of Python objects in use at once, beyond those before."""
    tracemalloc.start()
    try:
        check(target, data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def memory_limit(data: bytes) -> int:
    return MEMORY_BASE + MEMORY_PER_OCTET * len(data)
