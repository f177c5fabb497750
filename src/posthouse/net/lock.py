# SPDX-License-Identifier: Apache-2.0
"""DIR/lock: one process owns a data directory, and a server answers on DIR/control.sock while it does.

Invariant: the lock ends with the process, however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path

LOCK_FILE = "lock"
CONTROL_SOCKET = "control.sock"


class DirectoryInUse(Exception):  # noqa: N818 - an answer
    """Another process has the data directory; the text says which, as far as it is known."""


class DirectoryLock:
    """Held from construction to `release`. Raises DirectoryInUse."""

    def __init__(self, folder: Path) -> None:
        path = folder / LOCK_FILE
        try:
            # Root may open it where the server's user can write: a link there must not have another file emptied.
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise DirectoryInUse(f"{path} is a symbolic link; remove it") from None
            raise
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise DirectoryInUse(f"{folder} is in use by process {owner or 'unknown'}") from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
