# SPDX-License-Identifier: Apache-2.0
"""A client of the admin API for a data directory: the running server's, or this process's own.

Invariant: the store is opened only under DIR/lock, and the lock is given back when everything is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2

from posthouse.edges.cli.backend import Stop
from posthouse.net.lock import CONTROL_SOCKET, DirectoryInUse, DirectoryLock

# The lock may be held without a socket: a server that starts or stops, another command. Both take seconds at most
# but for long imports, of which one is told.
PATIENCE = 10.0
PAUSE = 0.05
# A check of a large store takes minutes before it says a word.
WAIT = httpx2.Timeout(None, connect=5.0)
BASE = "http://posthouse"
LOG_LEVEL = "warning"  # of a command that does its work itself; a server has its own setting


@contextlib.asynccontextmanager
async def client(folder: Path, *, patience: float = PATIENCE) -> AsyncIterator[httpx2.AsyncClient]:
    """Raises Stop, ConfigError, StoreFault and OSError."""
    held = None
    if not _answers(folder / CONTROL_SOCKET):
        _check(folder)
        held = await _lock_or_server(folder, patience)
    if held is None:
        transport = httpx2.AsyncHTTPTransport(uds=str(folder / CONTROL_SOCKET))
        async with httpx2.AsyncClient(transport=transport, base_url=BASE, timeout=WAIT) as made:
            yield made
        return
    try:
        with as_owner(folder):
            async with _alone(folder) as made:
                yield made
    finally:
        held.release()


def _check(folder: Path) -> None:
    from posthouse import config  # noqa: PLC0415 - the house is imported when it is needed: that takes its time

    if not (folder / config.FILE_NAME).exists():
        raise Stop(f"{folder}: no {config.FILE_NAME} there, so no data directory; `posthouse init` makes one")


@contextlib.asynccontextmanager
async def _alone(folder: Path) -> AsyncIterator[httpx2.AsyncClient]:
    from posthouse import config, telemetry  # noqa: PLC0415 - as above
    from posthouse.app import open_house  # noqa: PLC0415 - as above
    from posthouse.composing.ground import real_machine  # noqa: PLC0415 - as above
    from posthouse.edges.control.api import control_app  # noqa: PLC0415 - as above
    from posthouse.office import office_of  # noqa: PLC0415 - as above

    telemetry.configure(as_json=False, level=LOG_LEVEL)
    house = open_house(folder, config.load(folder), real_machine())
    try:
        app = control_app(office_of(house, list, is_serving=False))
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url=BASE, timeout=WAIT) as made:
            yield made
    finally:
        await house.close()


async def _lock_or_server(folder: Path, patience: float) -> DirectoryLock | None:
    """The lock, or None when a server answers."""
    until = asyncio.get_running_loop().time() + patience
    while True:
        try:
            with as_owner(folder):
                return DirectoryLock(folder)
        except DirectoryInUse as in_use:
            if _answers(folder / CONTROL_SOCKET):
                return None
            if asyncio.get_running_loop().time() > until:
                raise Stop(
                    f"{in_use}, which does not answer on {CONTROL_SOCKET}: another command at work (an import?), "
                    "or a server that starts or stops; try again when it is done"
                ) from None
        await asyncio.sleep(PAUSE)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except PermissionError:
            raise Stop(f"{path}: permission denied; run this as the server's own user or as root") from None
    return True


@contextlib.contextmanager
def as_owner(folder: Path) -> Iterator[None]:
    """Root works as the owner of the directory, so that the server can still read what is written."""
    owner = folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
