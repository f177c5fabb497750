# SPDX-License-Identifier: Apache-2.0
"""`posthouse sim`: small worlds by seed. Invariant: the same seed gives the same world, in any process."""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256

from posthouse.sim import world
from posthouse.sim.small import small_world

HASH_SEED = "PYTHONHASHSEED"
LOG_LINES = 60  # of a failed world's end, told with it


def run(seeds: int, from_seed: int = 0) -> int:
    """Play that many worlds; 0 when none failed, 1 else. Prints a line for each and says how to repeat one."""
    if os.environ.get(HASH_SEED) != "0":
        # The order of a set of strings is chosen anew in each process unless this is fixed before it begins.
        command = [sys.executable, "-m", "posthouse", "sim", "--seeds", str(seeds), "--from", str(from_seed)]
        return subprocess.run(command, env={**os.environ, HASH_SEED: "0"}, check=False).returncode  # noqa: S603
    failed = [seed for seed in range(from_seed, from_seed + seeds) if not play(seed)]
    if failed:
        _say(f"{len(failed)} of {seeds} worlds failed: {', '.join(map(str, failed))}")
        _say(f"to see one again: posthouse sim --seeds 1 --from {failed[0]}")
        return 1
    _say(f"{seeds} worlds, no letter lost")
    return 0


def play(seed: int) -> bool:
    """One world; whether it kept its promises."""
    made, account = world.run(seed, small_world)
    digest = sha256("\n".join(made.log).encode()).hexdigest()[:16]
    _say(
        f"seed {seed}: {account.letters} letters in {account.days:.1f} days; {account.accepted} recipients accepted:"
        f" {account.delivered} delivered, {account.reported} reported, {account.waiting} waiting; log {digest}"
    )
    problems = [*account.lost, *made.faults]
    for problem in problems:
        _say(f"seed {seed}: {problem}")
    if problems:
        _say(f"seed {seed}: the end of its log:")
        for line in made.log[-LOG_LINES:]:
            _say(f"  {line}")
    return not problems


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
