# SPDX-License-Identifier: Apache-2.0
"""Runs a server within a limit of memory, as a small machine would: a control group where one can be made.

Invariant: what was limited, and how, is told by `Limit.how`; a run without a limit is never called one with it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
NAME = f"posthouse-bench-{os.getpid()}"


@dataclass(frozen=True, slots=True)
class Limit:
    """`folder` of the control group (None: there is none, and nothing is limited)."""

    octets: int
    folder: Path | None
    is_unified: bool  # cgroup version 2

    @property
    def how(self) -> str:
        if self.folder is None:
            return "no control group could be made: nothing was limited, memory was only watched"
        return f"cgroup version {2 if self.is_unified else 1}, {self.octets >> 20} MiB"

    @property
    def wrapper(self) -> tuple[str, ...]:
        """A command that puts itself under the limit and then becomes the command behind it: what a process has used
        before it was put there would not count."""
        if self.folder is None:
            return ()
        return ("sh", "-ec", 'echo $$ > "$0" && exec "$@"', str(self.folder / "cgroup.procs"))

    def peak(self) -> float | None:
        """The most that was used, in MiB, with the page cache of its files; None where nobody counts."""
        if self.folder is None:
            return None
        counter = self.folder / ("memory.peak" if self.is_unified else "memory.max_usage_in_bytes")
        with contextlib.suppress(OSError):
            return int(counter.read_text()) / (1 << 20)
        return None

    def kills(self) -> int:
        """Processes that the system ended for want of memory."""
        if self.folder is None:
            return 0
        events = self.folder / ("memory.events" if self.is_unified else "memory.oom_control")
        counts = dict(line.split() for line in events.read_text().splitlines())
        return int(counts.get("oom_kill", 0))


@contextlib.contextmanager
def limited(octets: int) -> Iterator[Limit]:
    """A control group for the time of a run. All processes in it must have ended before."""
    limit = _make(octets)
    try:
        yield limit
    finally:
        if limit.folder is not None:
            with contextlib.suppress(OSError):
                limit.folder.rmdir()


def _make(octets: int) -> Limit:
    controllers = ROOT / "cgroup.controllers"
    is_unified = controllers.exists() and "memory" in controllers.read_text().split()
    parent = ROOT if is_unified else ROOT / "memory"
    folder = parent / NAME
    try:
        if is_unified:
            (parent / "cgroup.subtree_control").write_text("+memory")
        folder.mkdir()
        (folder / ("memory.max" if is_unified else "memory.limit_in_bytes")).write_text(str(octets))
        for swap in ("memory.swap.max", "memory.memsw.limit_in_bytes"):
            if (folder / swap).exists():  # not where the system counts no swap
                (folder / swap).write_text("0" if is_unified else str(octets))
    except OSError:
        with contextlib.suppress(OSError):
            folder.rmdir()
        return Limit(octets, None, is_unified=False)
    return Limit(octets, folder, is_unified)
