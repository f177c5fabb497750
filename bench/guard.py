# SPDX-License-Identifier: Apache-2.0
"""Keeps a measured server together: all its processes, whatever they fork, are counted, and none outlives the run.

Run as a script, this file is the guard: it adopts every orphan below it (Linux's child subreaper), so the CPU time of
ended processes adds up in its own record, and when it is told to stop, or its starter dies, it ends them all.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 10  # seconds between SIGTERM and SIGKILL; Postfix and Haraka need some
TICK = os.sysconf("SC_CLK_TCK")


class Guarded:
    """A command with everything that descends from it. `output` takes what it prints."""

    def __init__(
        self, command: list[str | Path], output: Path, *, cwd: Path | None = None, env: dict[str, str] | None = None
    ) -> None:
        self.output = output
        with output.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", __file__, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=cwd,
                env=env,
                start_new_session=True,  # Ctrl-C is the starter's business
            )

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def processes(self) -> list[int]:
        """The server's own processes that live now, without the guard."""
        return descendants(self._process.pid)

    def cpu_seconds(self) -> float:
        """User and system time since the start, of processes that have ended too."""
        return spent(self._process.pid, ended_only=True) + sum(map(spent, self.processes()))

    def stop(self) -> None:
        left = self.processes()
        self._process.terminate()
        try:
            self._process.wait(PATIENCE + 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)


def descendants(root: int) -> list[int]:
    """All processes below `root` that live now, from /proc."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - ten times faster than a Path per process
        if name.isdigit():
            with contextlib.suppress(OSError):
                children.setdefault(int(stat_fields(int(name))[1]), []).append(int(name))
    found: list[int] = []
    todo = list(children.get(root, ()))
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, ())
    return found


def stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat that follow the name: state, parent, … OSError when it has ended."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def spent(pid: int, *, ended_only: bool = False) -> float:
    """Seconds of CPU of a process and of its children that it has reaped, or of those children only."""
    try:
        fields = stat_fields(pid)
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[13 if ended_only else 11 : 15]) / TICK


class _StopError(Exception):
    pass


def guard(command: list[str]) -> int:
    """Run the command; return when nothing below this process lives any more."""
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    library.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)

    def stop(_number: int, _frame: object) -> None:
        raise _StopError

    signal.signal(signal.SIGTERM, stop)
    try:
        subprocess.Popen(command)  # what it starts is waited for below, all alike
        reap()
    except _StopError:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_all()
    return 0


def reap() -> None:
    """Wait for children, own and adopted, until there are none."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def end_all() -> None:
    me = os.getpid()
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in descendants(me):
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return
            time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(guard(sys.argv[1:]))
