# SPDX-License-Identifier: Apache-2.0
"""What the command line needs of the rest of the house; the program's entry point supplies it.

Invariant: the command line opens no store and no socket itself. It asks the admin API, wherever that is served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # takes a tenth of a second, and `--help` needs none of it
    from httpx2 import AsyncClient


class Stop(Exception):  # noqa: N818 - an answer
    """The command is refused; one line per reason, each with its remedy. `status`: enhanced code, or ""."""

    def __init__(self, *reasons: str, status: str = "") -> None:
        super().__init__("\n".join(reasons))
        self.reasons = reasons
        self.status = status


@dataclass(frozen=True, slots=True)
class Plan:
    """A house to be made. `listen`: keys of [listen] with their addresses."""

    hostname: str
    domain: str
    admin: str
    password: str = field(repr=False)
    listen: Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class Remote:
    """A mailbox at another server. `tls`: "implicit", "stls" or "none"."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    tls: str = "implicit"
    is_verified: bool = True


@dataclass(frozen=True, slots=True)
class Serving:
    """What a server that has just started tells: its name and, for each listener, the bound addresses."""

    hostname: str
    listens: Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class BackedUp:
    """A backup that was made. `octets` are all that belong to it, `copied` what was not there before; `findings`: what
    is wrong in the house itself."""

    generation: str
    accounts: int
    letters: int
    octets: int
    copied: int
    packs: int
    new_stretches: int
    seconds: float
    kept: int
    forgotten: Sequence[str]
    findings: Sequence[str]


@dataclass(frozen=True, slots=True)
class Restoring:
    """`generation` None: the newest. The rest are switches of the command."""

    generation: str | None = None
    replaces: bool = False
    holds_queue: bool = False
    accepts_damage: bool = False


class Backend(Protocol):
    """Every method raises Stop when it cannot do what it is asked."""

    def client(self, folder: Path) -> AbstractAsyncContextManager[AsyncClient]:
        """A client of the admin API for this data directory, served by the running server or by this process."""

    def has_house(self, folder: Path) -> bool:
        """Whether a data directory has been made there."""

    def create(self, folder: Path, plan: Plan) -> None:
        """Make a data directory, completely or not at all."""

    def settings(self, folder: Path) -> Any:
        """The checked settings of a data directory."""

    def serve(self, folder: Path, ready: Callable[[Serving], None]) -> None:
        """Serve until told to stop; `ready` is called once everything listens."""

    def back_up(self, folder: Path, target: Path, keep: int | None) -> BackedUp:
        """A new backup of a data directory, served or not, in the folder of backups `target`."""

    def list_backups(self, target: Path) -> tuple[Sequence[Any], Sequence[str]]:
        """The manifests of the backups there, oldest first (services.archive.Manifest), and what is wrong with those
        that cannot be read."""

    def verify_backups(self, target: Path, generation: str | None) -> Sequence[Any]:
        """Read every octet of one backup or of all (services.archive.Verdict)."""

    def restore(self, target: Path, folder: Path, how: Restoring) -> Mapping[str, Any]:
        """Make a data directory of a backup; what to tell about it."""

    def rebuild(
        self, folder: Path, confirm: Callable[[Mapping[str, Any]], bool], tell: Callable[[str], None]
    ) -> Mapping[str, Any]:
        """Make the database anew from a snapshot and the packs; what was done (see `posthouse.rebuilding`)."""

    def remote_letters(self, remote: Remote) -> Iterator[bytes]:
        """Every letter of a mailbox at another server, over POP3, oldest first; nothing is removed there."""

    def new_password(self) -> str:
        """A password to be shown once."""

    def now(self) -> float: ...

    def demo(self, *, once: bool) -> int:
        """The story of a letter; the exit code."""

    def sim(self, kind: str, count: int, from_seed: int, jobs: int | None) -> tuple[int, Mapping[str, Any]]:
        """Simulated worlds (`kind`: seeds, towns), power cuts (cuts) or disk faults (faults); the exit code and what
        came of them."""
