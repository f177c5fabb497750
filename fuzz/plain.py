# SPDX-License-Identifier: Apache-2.0
"""The runner without coverage: mutations of the corpus, one after another, by a seed.

Invariant: it does not stop at a fault, and tells each place once, with the shortest input that leads there.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from fuzz import mutate, rules
from fuzz.registry import Target
from fuzz.rules import Fault


def replay(target: Target) -> list[Fault]:
    """The kept inputs."""
    return [fault for data in target.seeds() if (fault := rules.check(target, data)) is not None]


def run(target: Target, *, seed: int, goes_on: Callable[[int], bool]) -> tuple[int, list[Fault]]:
    """(inputs tried, one fault for each place); `goes_on` is asked with the number before each input."""
    found: dict[str, Fault] = {}
    tried = 0
    for data in mutate.inputs(target.seeds(), target.words(), seed, target.max_size):
        if not goes_on(tried):
            break
        tried += 1
        fault = rules.check(target, data)
        if fault is not None and (fault.place not in found or len(data) < len(found[fault.place].data)):
            found[fault.place] = fault
    return tried, list(found.values())


def for_runs(runs: int) -> Callable[[int], bool]:
    return lambda tried: tried < runs


def for_seconds(seconds: float) -> Callable[[int], bool]:
    until = time.monotonic() + seconds
    return lambda _: time.monotonic() < until
