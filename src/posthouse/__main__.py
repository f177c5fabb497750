# SPDX-License-Identifier: Apache-2.0
"""The program `posthouse`: gives the command line what it needs of the rest of the house.

Invariant: nothing heavy is imported before a command asks for it, so that `--help` answers at once.
"""

from __future__ import annotations

import base64
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posthouse.edges.cli.backend import BackedUp, Backend, Plan, Remote, Restoring, Serving, Stop
from posthouse.net.clock import SystemClock, SystemEntropy

if TYPE_CHECKING:
    from httpx2 import AsyncClient

    from posthouse.config import Settings
    from posthouse.services.archive import Manifest, Verdict

PASSWORD_OCTETS = 10  # 80 random bits: 16 letters and digits in groups of four, good to type


class Program:
    """The Backend on this machine."""

    def client(self, folder: Path) -> AbstractAsyncContextManager[AsyncClient]:
        return self._client(folder)

    @contextlib.asynccontextmanager
    async def _client(self, folder: Path) -> AsyncIterator[AsyncClient]:
        from posthouse import access  # noqa: PLC0415 - see the head of this file

        with refusals(folder):
            async with access.client(folder) as client:
                yield client

    def has_house(self, folder: Path) -> bool:
        from posthouse import config  # noqa: PLC0415 - as above

        return (folder / config.FILE_NAME).exists()

    def create(self, folder: Path, plan: Plan) -> None:
        from posthouse import founding  # noqa: PLC0415 - as above

        with refusals(folder):
            founding.found(folder, plan)

    def settings(self, folder: Path) -> Settings:
        from posthouse import config  # noqa: PLC0415 - as above

        with refusals(folder):
            return config.load(folder)

    def serve(self, folder: Path, ready: Callable[[Serving], None]) -> None:
        from posthouse import running, telemetry  # noqa: PLC0415 - as above

        settings = self.settings(folder)
        wanted = settings.process.log_format
        as_json = not sys.stderr.isatty() if wanted == "auto" else wanted == "json"
        telemetry.configure(as_json=as_json, level=settings.process.log_level)

        def tell(listens: dict[str, list[str]]) -> None:
            ready(Serving(settings.hostname, listens))

        with refusals(folder):
            running.run(running.serve(folder, settings, ready=tell), settings.process.event_loop)

    def back_up(self, folder: Path, target: Path, keep: int | None) -> BackedUp:
        from posthouse import keeping  # noqa: PLC0415 - as above

        with refusals(folder):
            return keeping.back_up(folder, target, keep)

    def list_backups(self, target: Path) -> tuple[Sequence[Manifest], Sequence[str]]:
        from posthouse import keeping  # noqa: PLC0415 - as above

        with refusals(target):
            return keeping.list_backups(target)

    def verify_backups(self, target: Path, generation: str | None) -> Sequence[Verdict]:
        from posthouse import keeping  # noqa: PLC0415 - as above

        with refusals(target):
            return keeping.verify(target, generation)

    def restore(self, target: Path, folder: Path, how: Restoring) -> Mapping[str, Any]:
        from posthouse import keeping  # noqa: PLC0415 - as above

        with refusals(folder):
            return keeping.restore(target, folder, how)

    def rebuild(
        self, folder: Path, confirm: Callable[[Mapping[str, Any]], bool], tell: Callable[[str], None]
    ) -> Mapping[str, Any]:
        from posthouse import rebuilding  # noqa: PLC0415 - as above

        with refusals(folder):
            return rebuilding.rebuild(folder, confirm, tell)

    def remote_letters(self, remote: Remote) -> Iterator[bytes]:
        from posthouse.net.pop3_source import Pop3Source, SourceFault, tls_context  # noqa: PLC0415 - as above

        try:
            context = tls_context(is_verified=remote.is_verified)
            source = Pop3Source(remote.host, remote.port, tls=remote.tls, context=context)
            yield from source.letters(remote.user, remote.password)
        except SourceFault as fault:
            raise Stop(str(fault)) from None

    def new_password(self) -> str:
        text = base64.b32encode(SystemEntropy().octets(PASSWORD_OCTETS)).decode().lower()
        return "-".join(text[start : start + 4] for start in range(0, len(text), 4))

    def now(self) -> float:
        return SystemClock().wall()

    def demo(self, *, once: bool) -> int:
        from posthouse.demo import play  # noqa: PLC0415 - as above

        return play(once)

    def sim(self, kind: str, count: int, from_seed: int, jobs: int | None) -> tuple[int, Mapping[str, Any]]:
        from posthouse.sim.cli import run  # noqa: PLC0415 - as above

        return run(kind, count, from_seed, jobs)


@contextlib.contextmanager
def refusals(folder: Path) -> Iterator[None]:
    """What the house raises, as reasons with their remedies."""
    try:
        yield
    except Stop:
        raise
    except Exception as fault:
        stop = refusal_of(fault, folder)
        if stop is None:
            raise
        raise stop from None


def refusal_of(fault: Exception, folder: Path) -> Stop | None:
    """None: a fault of the program."""
    from posthouse.config import ConfigError  # noqa: PLC0415 - as above
    from posthouse.net.lock import DirectoryInUse  # noqa: PLC0415 - as above
    from posthouse.net.privileges import PrivilegeFault  # noqa: PLC0415 - as above
    from posthouse.outcome import Refusal  # noqa: PLC0415 - as above
    from posthouse.ports import StoreFault  # noqa: PLC0415 - as above
    from posthouse.running import Refused  # noqa: PLC0415 - as above
    from posthouse.services.archive import ArchiveFault  # noqa: PLC0415 - as above

    match fault:
        case ConfigError():
            return Stop(*fault.problems)
        case Refused():
            return Stop(*str(fault).splitlines())
        case Refusal():
            return Stop(fault.text, status=str(fault.status))
        case ArchiveFault():
            return Stop(str(fault))
        case DirectoryInUse():
            return Stop(f"{fault}; stop it first")
        case StoreFault():
            return Stop(f"{folder}: the store cannot be opened: {fault}")
        case PrivilegeFault():
            return Stop(f"process.user: {fault}")
        case ImportError():  # after the user was changed: parts are loaded when they are needed
            return Stop(f"the user of the server cannot read the program's own files ({fault}); install it for all")
        case OSError():
            place = fault.filename or folder
            remedy = f"; run this as the user that owns {folder}" if isinstance(fault, PermissionError) else ""
            return Stop(f"{place}: {fault.strerror or fault}{remedy}")
    return None


def main() -> None:
    from posthouse.edges.cli.application import app  # noqa: PLC0415 - as above

    backend: Backend = Program()
    app(obj=backend)


if __name__ == "__main__":
    main()
