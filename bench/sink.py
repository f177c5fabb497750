# SPDX-License-Identifier: Apache-2.0
"""A host that takes every letter and forgets it: Postfix's smtp-sink, on all addresses of the machine's loopback.

It counts what it takes, so that the end of a run is known without asking the measured server.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from types import TracebackType

from bench import processes
from bench.cells import NotPossibleError
from bench.house import answers, free_port

BACKLOG = 1000
MAX_CONNECTIONS = 1000
_COUNTS = re.compile(rb"mesg=\s*(\d+)")
READ = 65_536
KEPT = 200  # octets of what it said that can hold the end of its last counts


class Sink:
    """`with Sink() as sink:` the port is `sink.port`."""

    def __init__(self, port: int = 0) -> None:
        self.port = port or free_port()
        self._letters = 0

    def __enter__(self) -> Sink:
        if shutil.which("smtp-sink") is None:
            raise NotPossibleError("smtp-sink is not installed: run tools/install_interop.sh as root")
        as_somebody = ["-u", "nobody"] if os.geteuid() == 0 else []
        command = ["smtp-sink", *as_somebody, "-c", "-m", str(MAX_CONNECTIONS), f"0.0.0.0:{self.port}", str(BACKLOG)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()
        processes.wait_until(lambda: answers(self.port), 10, "smtp-sink")
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    def letters(self) -> int:
        """Taken so far."""
        return self._letters

    def _listen(self) -> None:
        """Read its counts as they come: with the pipe full it would stand still."""
        stdout = self._process.stdout
        assert stdout is not None
        said = b""
        while data := os.read(stdout.fileno(), READ):
            said = (said + data)[-KEPT:]
            found = _COUNTS.findall(said)
            if found:
                self._letters = int(found[-1])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._listener.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
