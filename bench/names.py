# SPDX-License-Identifier: Apache-2.0
"""The local DNS of a run in which letters are checked: Debian's unbound with the zone of one author, and nothing else.

Invariant: it answers every question itself (what it does not hold does not exist), so that no server that is measured
asks the world, and all of them get the same answers.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from bench.cells import NotPossibleError
from bench.guard import Guarded

PORT = 53  # some of the servers' libraries read /etc/resolv.conf, which cannot name another one
START_LIMIT = 15.0  # seconds
TXT_STRING = 255  # octets, RFC 1035 §3.3
TTL = 3600  # longer than any run: records are asked for once and then known, as those of a busy sender are
REMEDY = "run tools/install_interop.sh bench as root"

CONFIG = """\
server:
    interface: {address}
    port: {port}
    access-control: 127.0.0.0/8 allow
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: "{folder}/unbound.pid"
    do-daemonize: no
    use-syslog: no
    logfile: ""
    num-threads: 1
    module-config: "iterator"
    local-zone: "." static
    local-data: ". {ttl} IN SOA ns.test. hostmaster.test. 1 3600 600 86400 {ttl}"
{records}
remote-control:
    control-enable: no
"""


class Names:
    """`records`: (name, type) to the text of their data; TXT as it is to be heard, without quotes."""

    def __init__(self, folder: Path, records: Mapping[tuple[str, str], str]) -> None:
        self._folder = folder
        self._records = records
        self._guard: Guarded | None = None
        self.address = ""

    def start(self) -> None:
        """NotPossibleError where there is no unbound, or nobody who may listen on its port."""
        if shutil.which("unbound") is None:
            raise NotPossibleError(f"unbound not installed: {REMEDY}")
        if os.geteuid() != 0:
            raise NotPossibleError("a name server on port 53 of a loopback address needs root")
        self._folder.mkdir(parents=True)
        self.address = free_address()
        config = self._folder / "unbound.conf"
        lines = "\n".join(f"    local-data: '{row}'" for row in map(line, self._records.items()))
        text = CONFIG.format(address=self.address, port=PORT, folder=self._folder, records=lines, ttl=TTL)
        config.write_text(text)
        self._guard = Guarded(["unbound", "-d", "-c", config], self._folder / "output")
        until = time.monotonic() + START_LIMIT
        while not answers(self.address):
            if not self._guard.is_running or time.monotonic() > until:
                said = (self._folder / "output").read_text("utf-8", "replace")
                self.stop()
                raise RuntimeError(f"unbound did not start: {said[-500:]}")
            time.sleep(0.01)

    def stop(self) -> None:
        if self._guard is not None:
            self._guard.stop()
            self._guard = None


def line(row: tuple[tuple[str, str], str]) -> str:
    """One record as a zone file has it; a long TXT in several strings."""
    (name, kind), data = row
    if kind == "TXT":
        data = " ".join(f'"{data[at : at + TXT_STRING]}"' for at in range(0, len(data), TXT_STRING))
    return f"{name}. {TTL} IN {kind} {data}"


def free_address() -> str:
    """A loopback address of which nobody has the port: the machine's own resolver may sit on another one."""
    while True:
        address = f"127.{random.randint(64, 254)}.{random.randint(0, 254)}.{random.randint(1, 254)}"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((address, PORT))
            except OSError:
                continue
            return address


def answers(address: str) -> bool:
    try:
        socket.create_connection((address, PORT), 1).close()
    except OSError:
        return False
    return True


def own_address() -> str:
    """An address of this machine that is not loopback, where it has one: libspf2 lets every letter from 127.0.0.0/8
    pass without a question. Nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737: nobody's
        except OSError:
            return "127.0.0.1"
        found: str = probe.getsockname()[0]
        return found
