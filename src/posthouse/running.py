# SPDX-License-Identifier: Apache-2.0
"""The process: binds, drops privileges, serves, answers signals and the service manager, drains and ends.

Invariant: nothing is served before everything is bound and checked; what is wrong is told at once, all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from posthouse import config
from posthouse.app import House, open_house
from posthouse.composing.certificates import issuance_problems, join_tls, served_files
from posthouse.composing.ground import Machine, real_machine
from posthouse.composing.outgoing import static_routes
from posthouse.composing.web import web_app
from posthouse.config import ConfigError, Settings
from posthouse.edges.control.api import control_app
from posthouse.edges.control.metrics import metrics_app, register_gauges
from posthouse.net import privileges
from posthouse.net.certificate import CertificateFault, ensure_self_signed, self_signed_files
from posthouse.net.http import HttpServer
from posthouse.net.lock import CONTROL_SOCKET, LOCK_FILE, DirectoryLock
from posthouse.net.privileges import Identity, PrivilegeFault
from posthouse.net.session import TlsUpgrader
from posthouse.net.sockets import ListenFault, close_sockets, open_sockets, raise_descriptor_limit
from posthouse.net.systemd import Notifier, inherited_sockets
from posthouse.net.tls import CertificateStore, LoopTlsUpgrader
from posthouse.net.web_door import WebDoor
from posthouse.office import SERVED, office_of
from posthouse.ports import Clock
from posthouse.serving import Server, admission_of
from posthouse.telemetry import logger

CONTROL = "control"  # beside the keys of [listen]
ENDINGS = (signal.SIGTERM, signal.SIGINT)
# A letter passes from the loop to the committer and back; with Python's 5 ms each hand-over may wait so long, with
# half a millisecond the two threads take the interpreter from each other too often (docs/performance.md).
SWITCH_INTERVAL = 0.002
CONFIG_MODE = 0o640  # of posthouse.toml when root starts the server: its user reads it through the group
CERTIFICATE_CHECK = 60.0  # seconds between looks at the certificate files

Ready = Callable[[dict[str, list[str]]], None]


class Refused(Exception):  # noqa: N818 - the server's answer to being started
    """The server does not start; one line per reason."""


def run(main: Coroutine[Any, Any, None], event_loop: str) -> None:
    """Run on uvloop where it exists and is wanted, or on plain asyncio."""
    if event_loop != "asyncio":
        try:
            import uvloop  # noqa: PLC0415 - optional
        except ImportError:
            if event_loop == "uvloop":
                raise Refused("process.event_loop: uvloop is not installed here; use auto") from None
        else:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(main)
            return
    asyncio.run(main)


async def serve(folder: Path, settings: Settings, *, ready: Ready | None = None) -> None:
    """Serve until SIGTERM or SIGINT. `ready` is told the bound addresses.

    Raises Refused with everything that is wrong, DirectoryInUse, PrivilegeFault, StoreFault.
    """
    machine = real_machine()
    lock = DirectoryLock(folder)
    sockets: dict[str, list[socket.socket]] = {}
    try:
        start = _Start(folder, settings, machine)
        sockets = start.sockets
        if start.problems:
            raise Refused("\n".join(start.problems))
        assert start.certificates is not None
        if start.identity is not None:
            hand_over(folder, start.identity)
            privileges.drop(start.identity)
        privileges.keep_files_private()
        descriptors = raise_descriptor_limit()
        sys.setswitchinterval(SWITCH_INTERVAL)
        house = open_house(folder, settings, machine)
        process = _Process(house, sockets, start.certificates, start.notifier, descriptors)
        await process.start()
        gc.collect()
        gc.freeze()  # what lives since the start is never garbage: collections look at the rest only
        if ready is not None:
            ready({name: [_said(sock) for sock in each] for name, each in sockets.items() if name != CONTROL})
        await process.until_told()
    finally:
        for each in sockets.values():
            close_sockets(each)
        with contextlib.suppress(OSError):
            (folder / CONTROL_SOCKET).unlink()  # before the lock: whoever takes it next makes its own
        lock.release()


class _Start:
    """What must be had before anything is served. `problems`: everything that is wrong, one line each."""

    def __init__(self, folder: Path, settings: Settings, machine: Machine) -> None:
        self.notifier = Notifier(os.environ, machine.clock)
        self.problems = settings_problems(settings, machine)
        self.sockets = self._bind(folder, settings)
        self.certificates: CertificateStore | None = None
        self.identity: Identity | None = None
        try:
            self.certificates = certificate_store(folder, settings, machine.clock)
        except CertificateFault as fault:
            self.problems.append(f"tls.certificates: {fault}")
        except OSError as error:
            self.problems.append(f"{folder / 'tls'}: cannot be written: {error.strerror}; it must belong to the server")
        if settings.process.user:
            try:
                self.identity = privileges.find_identity(settings.process.user)
            except PrivilegeFault as fault:
                self.problems.append(f"process.user: {fault}")

    def _bind(self, folder: Path, settings: Settings) -> dict[str, list[socket.socket]]:
        """Every listening socket, from the service manager or bound here."""
        found = inherited_sockets(os.environ, os.getpid())
        wanted = {name: list(getattr(settings.listen, name)) for name in SERVED if name not in found}
        wanted[CONTROL] = [f"unix:{folder.absolute() / CONTROL_SOCKET}"]
        for name, addresses in wanted.items():
            for address in addresses:
                try:
                    found.setdefault(name, []).extend(open_sockets([address]))
                except ListenFault as fault:
                    self.problems.append(f"{name if name == CONTROL else 'listen.' + name}: {fault}")
        return found


def settings_problems(settings: Settings, machine: Machine) -> list[str]:
    """What only the machine can tell about the settings: files that they name, and the like."""
    problems = []
    for name, route in settings.routes.items():
        try:
            static_routes(settings.model_copy(update={"routes": {name: route}}))
        except OSError as error:
            problems.append(f"routes.{name}: {error.filename}: cannot be read: {error.strerror}")
        except ValueError as error:
            problems.append(f"routes.{name}: {error}")
    try:
        machine.resolver(settings)
    except ValueError as error:
        problems.append(f"resolver.servers: {error}")
    problems += issuance_problems(settings)
    return problems


def hand_over(folder: Path, identity: Identity) -> None:
    """Give the house to the user that will serve it. All of it while it is still root's own: nobody else could
    put anything there. Later only what this start has made."""
    if not privileges.is_root():
        return
    if folder.stat().st_uid == 0:
        wanted = [folder, *folder.rglob("*")]
    else:
        wanted = [folder / name for name in (LOCK_FILE, CONTROL_SOCKET)] + [folder / "tls", *folder.glob("tls/self-*")]
    for path in wanted:
        if path == folder / config.FILE_NAME:
            # It stays root's: whoever took over the server's user could otherwise name another user in it, and the
            # next start would serve as that one.
            os.chown(path, 0, identity.gid, follow_symlinks=False)
            path.chmod(CONFIG_MODE)
            continue
        os.chown(path, identity.uid, identity.gid, follow_symlinks=False)


class _Process:
    def __init__(
        self,
        house: House,
        sockets: dict[str, list[socket.socket]],
        certificates: CertificateStore,
        notifier: Notifier,
        descriptors: int | None,
    ) -> None:
        self._house = house
        self._certificates = certificates
        self._notifier = notifier
        self._ending = asyncio.Event()
        join_tls(certificates, house.challenges, house.certificates)
        upgrader = LoopTlsUpgrader(certificates)
        self._server = Server(house, sockets, upgrader, descriptors=descriptors)
        register_gauges(house.metrics, house.relay, house.database, house.blobs)
        self._http = [HttpServer(control_app(office_of(house, self.reload, is_serving=True)), sockets[CONTROL])]
        if sockets.get("metrics"):
            self._http.append(HttpServer(metrics_app(house.metrics, house.queue_desk), sockets["metrics"]))
        self._http += web_servers(house, sockets, upgrader, descriptors)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        try:
            for each in self._http:
                await each.start()
            await self._server.start()
        except BaseException:
            await self._house.close()
            raise
        loop = asyncio.get_running_loop()
        for number in ENDINGS:
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGHUP, self._reload_safely)
        self._tasks = [asyncio.create_task(self._watch_certificates())]
        if self._notifier.watchdog_seconds:
            self._tasks.append(asyncio.create_task(self._feed_watchdog(self._notifier.watchdog_seconds)))
        self._notifier.ready(f"serving {self._house.settings.hostname}")

    def _end(self) -> None:
        self._ending.set()
        for number in ENDINGS:  # the second one does not wait for sessions; nothing acknowledged is lost by that
            asyncio.get_running_loop().remove_signal_handler(number)

    async def until_told(self) -> None:
        await self._ending.wait()
        self._notifier.stopping("draining")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(each.stop() for each in self._http))
        await self._server.stop(self._house.settings.process.drain)

    def reload(self) -> list[str]:
        """SIGHUP: settings and certificates; the changed settings that need a restart. Raises ConfigError, and then
        nothing is changed."""
        self._notifier.reloading()
        try:
            settings = config.load(self._house.folder)
            problems = settings_problems(settings, self._house.machine)
            if problems:
                raise ConfigError(problems)
            try:
                self._certificates.reload()
            except CertificateFault as fault:
                raise ConfigError([f"tls.certificates: {fault}"]) from None
            return self._server.reload(settings)
        finally:
            self._notifier.ready()

    def _reload_safely(self) -> None:
        try:
            self.reload()
        except ConfigError as error:
            logger("server").error("not reloaded", reasons=error.problems)

    async def _watch_certificates(self) -> None:
        while True:
            await asyncio.sleep(CERTIFICATE_CHECK)
            with contextlib.suppress(CertificateFault):
                self._certificates.refresh()

    async def _feed_watchdog(self, seconds: float) -> None:
        while True:
            self._notifier.alive()
            await asyncio.sleep(seconds)


def web_servers(
    house: House, sockets: dict[str, list[socket.socket]], tls: TlsUpgrader, descriptors: int | None
) -> list[HttpServer]:
    """The listeners http and https: one application, one count of connections."""
    app = web_app(
        house.folder,
        house.settings,
        house.directory,
        house.policy_desk,
        house.workers,
        house.machine.clock,
        house.metrics,
        challenge=house.challenges.http_answer,
    )
    admission = admission_of(house.settings.web, descriptors)
    return [
        HttpServer(app, sockets[name], door=WebDoor(admission, tls if name == "https" else None))
        for name in ("http", "https")
        if sockets.get(name)
    ]


def certificate_store(folder: Path, settings: Settings, clock: Clock) -> CertificateStore:
    """The configured certificates, and behind them the self-signed one. Raises CertificateFault, OSError."""
    own = self_signed_files(folder)
    ensure_self_signed(own.certificate, own.key, [settings.hostname, "localhost", "127.0.0.1"], clock.wall())
    return CertificateStore(served_files(folder, settings), clock)


def _said(sock: socket.socket) -> str:
    name = sock.getsockname()
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else f"unix:{name}"
