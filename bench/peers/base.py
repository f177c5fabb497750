# SPDX-License-Identifier: Apache-2.0
"""What all measured servers share: ports, folders, what they are asked for, how their mailboxes are counted."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import processes
from bench.cells import NotPossibleError
from bench.guard import Guarded
from posthouse.net.certificate import ensure_self_signed

ROOT = Path(__file__).parents[2]
UNPACKED = ROOT / "var" / "interop"  # Debian packages that cannot be installed beside each other
FETCHED = ROOT / "var" / "bench"  # from the registries of Python and Node
DOMAIN = "bench.test"
USER = f"alice@{DOMAIN}"
PASSWORD = "correct-horse-battery"
REMEDY = "run tools/install_interop.sh bench as root"

LOOPBACK = "127.0.0.1"
START_LIMIT = 30.0  # seconds
# Below the range from which the system takes the ports of outgoing connections, so that none of those is in the way.
PORTS = range(20_000, 30_000)


@dataclass(frozen=True, slots=True)
class Setup:
    """What a run wants of its server, beside a mailbox for each of `users`."""

    users: tuple[str, ...] = (USER,)
    offers_tls: bool = False  # STARTTLS on the SMTP port, with an ECDSA certificate
    wants_pop3: bool = True
    is_argon2: bool = False  # passwords kept as Argon2id (19 MiB, 2 passes) where that is a choice
    connections: int = 200  # idle ones that must be possible at once
    wants_imap: bool = False  # IMAP, and LMTP on the socket `folder/lmtp`
    letters: int = 0  # of bench.imap_letters that each INBOX has from the beginning
    octets: int = 0  # of each of them, about
    address: str = LOOPBACK  # where SMTP listens
    names: str = (
        ""  # the DNS server (its port is 53) that is asked; with one, letters are checked by whom they are from
    )


class Peer(ABC):
    """A server in a folder of its own. `start` returns when it answers; `stop` may be called at any time."""

    name: str
    programs: tuple[str, ...] = ()  # that must be installed

    def __init__(self) -> None:
        self.smtp_port = free_port()
        self.pop3_port = free_port()
        self.imap_port = free_port()
        self.guards: list[Guarded] = []
        self.start_seconds = 0.0  # from the start of its first program until it answered

    def start(self, folder: Path, setup: Setup | None = None) -> None:
        """Raises NotPossibleError when the server is not installed or cannot do what is asked."""
        missing = [program for program in self.programs if shutil.which(program) is None]
        if missing:
            raise NotPossibleError(f"{', '.join(missing)} not installed: {REMEDY}")
        self.folder = folder
        self.setup = setup or Setup()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "log").mkdir()
        for path in (folder, *folder.parents[: len(folder.parents) - 1]):
            if path.stat().st_mode & 0o005 != 0o005 and path.owner() == folder.owner():
                path.chmod(0o755)  # the servers' own users must reach their folders
        try:
            self.launch()
            self.start_seconds = time.perf_counter() - self._started
        except BaseException:
            self.stop()
            raise

    @abstractmethod
    def launch(self) -> None: ...

    @abstractmethod
    def mailbox(self, user: str) -> tuple[int, int]:
        """(letters, octets) that the user would find now."""

    @abstractmethod
    def headers(self, user: str) -> Iterator[bytes]:
        """Of each letter that the user would find now."""

    @abstractmethod
    def version(self) -> str:
        """As the program tells it; OSError when it is not there."""

    def delivered(self, user: str = USER) -> int:
        return self.mailbox(user)[0]

    def run(self, command: list[str | Path], *, name: str = "output", env: dict[str, str] | None = None) -> None:
        if not self.guards:
            self._started = time.perf_counter()
        self.guards.append(Guarded(command, self.folder / "log" / name, cwd=self.folder, env=env))

    def await_ports(self, *ports: int) -> None:
        until = time.monotonic() + START_LIMIT
        at = {self.smtp_port: self.setup.address}
        while not all(answers(port, at.get(port, LOOPBACK)) for port in ports):
            if not all(each.is_running for each in self.guards) or time.monotonic() > until:
                raise RuntimeError(f"{self.name} did not start: {self.said()}")
            time.sleep(0.005)

    def said(self) -> str:
        """The last lines of its logs."""
        lines: list[str] = []
        for path in sorted((self.folder / "log").iterdir()):
            lines += path.read_text("utf-8", "replace").splitlines()[-3:]
        return " | ".join(lines)[-600:]

    @property
    def lmtp(self) -> Path:
        """The socket on which it takes letters by LMTP, where it does."""
        return self.folder / "lmtp"

    def processes(self) -> list[int]:
        return [pid for each in self.guards for pid in each.processes()]

    def root(self) -> list[int]:
        """The first process of each part of the server."""
        return [min(each.processes(), default=0) for each in self.guards]

    def cpu_seconds(self) -> float:
        return sum(each.cpu_seconds() for each in self.guards)

    def memory(self) -> tuple[float, float]:
        """(RSS, PSS) in MiB over all processes."""
        return processes.memory_of(self.processes())

    def stop(self) -> None:
        for each in reversed(self.guards):
            each.stop()
        self.guards.clear()


class MaildirPeer(Peer):
    """Delivers to `folder/mail/USER`, a Maildir."""

    def mailbox(self, user: str) -> tuple[int, int]:
        return maildir(self.box(user))

    def headers(self, user: str) -> Iterator[bytes]:
        for part in parts_of(self.box(user)):
            for path in part.iterdir():
                yield path.read_bytes().partition(b"\n\n")[0]

    def delivered(self, user: str = USER) -> int:
        return sum(len(os.listdir(part)) for part in parts_of(self.box(user)))  # noqa: PTH208 - asked often: cheap

    def box(self, user: str) -> Path:
        return self.folder / "mail" / user.partition("@")[0]

    def make_boxes(self, owner: str) -> None:
        (self.folder / "mail").mkdir()
        shutil.chown(self.folder / "mail", owner, owner)


def parts_of(box: Path) -> Iterable[Path]:
    return [part for part in (box / "new", box / "cur") if part.is_dir()]


def maildir(box: Path) -> tuple[int, int]:
    """(letters, octets) in a Maildir; octets with CRLF, as a client would count them, are a little more."""
    found = [entry for part in parts_of(box) for entry in os.scandir(part)]
    return len(found), sum(entry.stat().st_size for entry in found)


def certificate(folder: Path, owner: str = "root") -> tuple[Path, Path]:
    """(chain, key) for a server that offers TLS: the same kind for all of them, since its kind decides the cost."""
    (folder / "tls").mkdir()
    chain, key = folder / "tls" / "certificate.pem", folder / "tls" / "key.pem"
    ensure_self_signed(chain, key, [f"mail.{DOMAIN}", "127.0.0.1"], time.time())
    for path in (folder / "tls", chain, key):
        shutil.chown(path, owner)
    return chain, key


def answers(port: int, host: str = LOOPBACK) -> bool:
    """A server greets there."""
    try:
        with socket.create_connection((host, port), 1) as sock:
            return bool(sock.recv(4))
    except OSError:
        return False


def free_port() -> int:
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port


def printed(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """What a command prints, whatever its exit code: Exim and OpenSMTPD tell their version with one of failure."""
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    return done.stdout.strip()
