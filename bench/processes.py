# SPDX-License-Identifier: Apache-2.0
"""CPU time and memory of a server with all its processes, read from /proc; waiting with a limit."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from bench.guard import descendants, spent


def tree(root: int) -> list[int]:
    """The process and all its descendants that live now."""
    return [root, *descendants(root)]


def cpu_seconds(root: int) -> float:
    """User and system time of the tree, ended children included once their parents have reaped them."""
    return sum(map(spent, tree(root)))


def memory(root: int) -> tuple[float, float]:
    """(RSS, PSS) in MiB, summed over the tree."""
    return memory_of(tree(root))


def memory_of(pids: Iterable[int]) -> tuple[float, float]:
    """(RSS, PSS) in MiB, summed over the processes. PSS counts a page that n processes share as 1/n in each."""
    rss = pss = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Rss:"):
                    rss += int(line.split()[1])
                elif line.startswith("Pss:"):
                    pss += int(line.split()[1])
    return rss / 1024, pss / 1024


def wait_until(check: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.01)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
