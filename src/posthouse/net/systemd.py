# SPDX-License-Identifier: Apache-2.0
"""The service manager's side: readiness, stopping, reload, watchdog, and sockets that it opened for us.

The protocols are those of sd_notify(3) and sd_listen_fds(3); without the manager's variables nothing happens.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping

from posthouse.ports import Clock

FIRST_INHERITED = 3  # SD_LISTEN_FDS_START
STATUS_LENGTH = 256  # characters of the one line that `systemctl status` shows


class Notifier:
    """Tells the service manager how we are. Every method is silent where there is none."""

    def __init__(self, environment: MutableMapping[str, str], clock: Clock) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._clock = clock
        self.watchdog_seconds = _watchdog_seconds(environment)
        """Call `alive` at least this often (half of what the manager waits); None: no watchdog."""

    def ready(self, status: str = "") -> None:
        self._send("READY=1", status)

    def reloading(self) -> None:
        """Followed by `ready` when the reload is done (Type=notify-reload wants the monotonic time)."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(self._clock.monotonic() * 1_000_000)}")

    def stopping(self, status: str = "") -> None:
        self._send("STOPPING=1", status)

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        self._send("", text)

    def extend_start(self, seconds: float) -> None:
        """Starting (a rebuild, a migration) or stopping (a drain) takes this much longer."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def _send(self, state: str, status: str = "") -> None:
        if not self._address or not hasattr(socket, "AF_UNIX"):
            return
        lines = [line for line in (state, status and f"STATUS={_one_line(status)}") if line]
        # "@" stands for the abstract name space.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        # A manager that does not listen is no reason to stop serving mail.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(address)
            sock.send("\n".join(lines).encode())


def inherited_sockets(environment: MutableMapping[str, str], pid: int) -> dict[str, list[socket.socket]]:
    """Listening sockets from the manager by their name (FileDescriptorName=, the key of `[listen]`).

    Unnamed ones are under "unknown", as the manager calls them. The variables are taken out of the environment,
    so that no child believes they are for it.
    """
    owner = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", "")
    if owner != str(pid) or not count.isdigit():
        return {}
    labels = names.split(":") if names else []
    found: dict[str, list[socket.socket]] = {}
    for number in range(int(count)):
        descriptor = FIRST_INHERITED + number
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
        sock.setblocking(False)
        label = labels[number] if number < len(labels) else "unknown"
        found.setdefault(label, []).append(sock)
    return found


def _watchdog_seconds(environment: MutableMapping[str, str]) -> float | None:
    limit = environment.get("WATCHDOG_USEC", "")
    if not limit.isdigit() or int(limit) == 0 or environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(limit) / 2_000_000


def _one_line(text: str) -> str:
    return " ".join(text.split())[:STATUS_LENGTH]
