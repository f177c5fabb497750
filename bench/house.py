# SPDX-License-Identifier: Apache-2.0
"""A posthouse server of a data directory, as the scale families want it: any settings, free ports, filled before."""

from __future__ import annotations

import contextlib
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench import processes

PROGRAM = str(Path(sys.executable).with_name("posthouse"))
HOST = "mail.bench.test"
DOMAIN = "bench.test"
ADMIN = f"alice@{DOMAIN}"
PASSWORD = "correct-horse-battery"
READY = 60.0  # seconds until a server with a full store must answer
PAUSE = 0.005  # seconds between looks


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """`routes`: next hops by domain. `settings`: more TOML, sections that are not written here. `wrapper`: a command
    that becomes the server when the server's own is put behind it."""

    folder: Path
    routes: Mapping[str, str] = field(default_factory=dict)
    settings: str = ""
    wrapper: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.smtp, self.submission, self.pop3 = free_port(), free_port(), free_port()

    def found(self) -> None:
        """Make the data directory, with one account."""
        command = [PROGRAM, "init", "--data", str(self.folder), "--hostname", HOST, "--domain", DOMAIN]
        subprocess.run(
            [*command, "--admin", ADMIN, "--password-stdin"], input=PASSWORD.encode(), check=True, capture_output=True
        )
        self.write_settings()

    def write_settings(self) -> None:
        routes = "\n".join(f'"{domain}" = "{hop}"' for domain, hop in self.routes.items())
        (self.folder / "posthouse.toml").write_text(
            f'hostname = "{HOST}"\n[listen]\nsmtp = ["127.0.0.1:{self.smtp}"]\n'
            f'submission = ["127.0.0.1:{self.submission}"]\npop3 = ["127.0.0.1:{self.pop3}"]\n'
            '[auth]\nplaintext = ["pop3", "submission"]\n[submission]\nrecipients_per_hour = 0\n'
            f'[process]\nlog_format = "json"\n{self.settings}\n[routes]\n{routes}\n'
        )

    def start(self) -> float:
        """Start it; seconds until it answers on its ports. It ends when the thread that has started it does."""
        tied = [*self.wrapper, *(("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ())]
        log = (self.folder / "log").open("ab")
        started = time.perf_counter()
        self._process = subprocess.Popen(
            [*tied, PROGRAM, "serve", "--data", str(self.folder)], stderr=log, stdout=subprocess.DEVNULL
        )
        log.close()
        end = started + READY
        while not answers(self.pop3):
            if time.perf_counter() > end or self._process.poll() is not None:
                self.kill()
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            time.sleep(PAUSE)
        return time.perf_counter() - started

    def command(self, *words: str, given: str = "") -> None:
        """A posthouse command on this data directory; `given` is its standard input."""
        command = [PROGRAM, *words, "--data", str(self.folder)]
        subprocess.run(command, input=given.encode(), check=True, capture_output=True)

    @property
    def pid(self) -> int:
        return self._process.pid

    def memory(self) -> Memory:
        return memory_of(self.pid)

    def cpu_seconds(self) -> float:
        return processes.cpu_seconds(self.pid)

    def stop(self) -> None:
        processes.stop(self._process)

    def kill(self) -> None:
        """As a power cut ends it."""
        self._process.kill()
        self._process.wait()

    @contextlib.contextmanager
    def running(self) -> Iterator[float]:
        """Gives the seconds that the start took."""
        seconds = self.start()
        try:
            yield seconds
        finally:
            self.stop()


@dataclass(frozen=True, slots=True)
class Memory:
    """MiB. `own`: what the process has for itself. `resident` has the mapped mail files too, which the system takes
    back when it needs the room."""

    own: float
    resident: float


def memory_of(pid: int) -> Memory:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    own, resident = (int(fields[name].split()[0]) / 1024 for name in ("RssAnon", "VmRSS"))
    return Memory(own, resident)


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as sock:
            return bool(sock.recv(4))
    except OSError:
        return False


def wait_until(check: Callable[[], bool], seconds: float, what: str, *, pause: float = 0.05) -> None:
    """As processes.wait_until, for what is asked of a program."""
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(pause)


def raise_descriptors() -> None:
    """Thousands of connections of one program need as many descriptors."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
