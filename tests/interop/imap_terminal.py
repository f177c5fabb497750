# SPDX-License-Identifier: Apache-2.0
"""A program on a terminal: keys go in, and what it writes is waited for."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence

import pytest

from .programs import PATIENCE, found

ROWS, COLUMNS = 50, 160
_ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>78M]|[\x00\x07\x08\x0e\x0f]")


class Terminal:
    """What was written is kept without the codes that move the cursor: words, in the order of writing."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self._process = process
        self._master = master
        self.said = ""
        self._from = 0

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def expect(self, pattern: str) -> str:
        """Wait until it has written this, after what was waited for before."""
        end = time.monotonic() + PATIENCE
        while not (match := re.search(pattern, self.said[self._from :])):
            if not self._read(end - time.monotonic()):
                pytest.fail(f"waited for {pattern!r}; it wrote: {self.said[self._from :][-3000:]!r}")
        self._from += match.end()
        return match[0]

    def dialogue(self, *steps: tuple[str, str]) -> None:
        """Pairs of what is waited for, and the keys that answer it."""
        for pattern, keys in steps:
            self.expect(pattern)
            self.press(keys)

    def ends(self) -> None:
        """Wait for its end, which must be a good one."""
        end = time.monotonic() + PATIENCE
        while self._read(end - time.monotonic()):
            pass
        assert self._process.wait(PATIENCE) == 0, self.said[-3000:]

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(seconds, 0))
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the terminal ends with the program
            return False
        self.said += _ESCAPES.sub(b"", data).decode("utf-8", "replace")
        return bool(data)


@contextlib.contextmanager
def on_a_terminal(command: Sequence[object], env: Mapping[str, str]) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    program = found(str(command[0]))
    assert program is not None
    with subprocess.Popen(
        [program, *map(str, command[1:])],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", **env},
        start_new_session=True,
    ) as process:
        os.close(slave)
        try:
            yield Terminal(process, master)
        finally:
            process.kill()
            os.close(master)
