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
from posthouse.app import House, Machine, open_house, real_machine
from posthouse.config import ConfigError, Settings
from posthouse.edges.control.api import Office, control_app
from posthouse.edges.control.metrics import metrics_app, register_gauges
from posthouse.net import privileges
from posthouse.net.certificate import CertificateFault, ensure_self_signed
from posthouse.net.checks import local_checks
from posthouse.net.http import HttpServer
from posthouse.net.lock import DirectoryLock
from posthouse.net.sockets import ListenFault, close_sockets, open_sockets, raise_descriptor_limit
from posthouse.net.systemd import Notifier, inherited_sockets
from posthouse.net.tls import CertificateFiles, CertificateStore, LoopTlsUpgrader
from posthouse.ports import Clock
from posthouse.services.checkup import Checkup
from posthouse.services.letterbox import Letterbox
from posthouse.serving import Server
from posthouse.telemetry import logger

CONTROL_SOCKET = "control.sock"
# A letter passes from the loop to the committer and back; with Python's 5 ms each hand-over may wait so long.
SWITCH_INTERVAL = 0.0005
CERTIFICATE_CHECK = 60.0  # seconds between looks at the certificate files
SERVED = ("smtp", "submission", "submissions", "lmtp", "pop3", "pop3s", "metrics")


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


Ready = Callable[[dict[str, list[str]]], None]


async def serve(folder: Path, settings: Settings, *, ready: Ready | None = None) -> None:
    """Serve until SIGTERM or SIGINT. Raises Refused when the start fails. `ready` is told the bound addresses."""
    machine = real_machine()
    lock = DirectoryLock(folder)
    try:
        sockets = bind(settings)
        try:
            await _serve(folder, settings, machine, sockets, ready)
        finally:
            for each in sockets.values():
                close_sockets(each)
    finally:
        lock.release()


def bind(settings: Settings) -> dict[str, list[socket.socket]]:
    """Every listening socket, from the service manager or bound here; all mistakes are told at once."""
    found = inherited_sockets(os.environ, os.getpid())
    problems: list[str] = []
    for name in SERVED:
        wanted = getattr(settings.listen, name)
        if name in found or not wanted:
            continue
        for address in wanted:
            try:
                found.setdefault(name, []).extend(open_sockets([address]))
            except ListenFault as fault:
                problems.append(f"listen.{name}: {fault}")
    if problems:
        for each in found.values():
            close_sockets(each)
        raise Refused("\n".join(problems))
    return found


async def _serve(
    folder: Path,
    settings: Settings,
    machine: Machine,
    sockets: dict[str, list[socket.socket]],
    ready: Ready | None,
) -> None:
    log = logger("server")
    notifier = Notifier(os.environ, machine.clock)
    certificates = certificate_store(folder, settings, machine.clock)
    control = open_sockets([f"unix:{folder / CONTROL_SOCKET}"])
    try:
        if settings.process.user:
            privileges.drop(privileges.find_identity(settings.process.user))
        privileges.keep_files_private()
        raise_descriptor_limit()
        for name in config.NOT_BUILT_YET:
            if getattr(settings.listen, name):
                log.warning("this protocol is not built yet, its listener is off", listener=name)
        sys.setswitchinterval(SWITCH_INTERVAL)
        house = open_house(folder, settings, machine)
        process = _Process(house, sockets, certificates, control, notifier)
        await process.start()
    except BaseException:
        close_sockets(control)
        raise
    gc.collect()
    gc.freeze()  # what lives since the start is never garbage: collections look at the rest only
    if ready is not None:
        ready({name: [_said(sock) for sock in each] for name, each in sockets.items()})
    await process.until_told()


class _Process:
    def __init__(
        self,
        house: House,
        sockets: dict[str, list[socket.socket]],
        certificates: CertificateStore,
        control: list[socket.socket],
        notifier: Notifier,
    ) -> None:
        self._house = house
        self._certificates = certificates
        self._notifier = notifier
        self._ending = asyncio.Event()
        self._server = Server(house, sockets, LoopTlsUpgrader(certificates))
        register_gauges(house.metrics, house.relay, house.database, house.blobs)
        self._http = [HttpServer(control_app(office_of(house, self.reload)), control)]
        if sockets.get("metrics"):
            self._http.append(HttpServer(metrics_app(house.metrics, house.queue_desk), sockets["metrics"]))
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        for each in self._http:
            await each.start()
        await self._server.start()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ending.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_safely)
        self._tasks = [asyncio.create_task(self._watch_certificates())]
        if self._notifier.watchdog_seconds:
            self._tasks.append(asyncio.create_task(self._feed_watchdog(self._notifier.watchdog_seconds)))
        self._notifier.ready(f"serving {self._house.settings.hostname}")

    async def until_told(self) -> None:
        await self._ending.wait()
        self._notifier.stopping("draining")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(each.stop() for each in self._http))
        await self._server.stop(self._house.settings.process.drain)

    def reload(self) -> None:
        """SIGHUP: settings and certificates. Raises ConfigError or CertificateFault, and then nothing is changed."""
        self._notifier.reloading()
        try:
            settings = config.load(self._house.folder)
            self._certificates.reload()
            self._server.reload(settings)
        finally:
            self._notifier.ready()

    def _reload_safely(self) -> None:
        try:
            self.reload()
        except (ConfigError, CertificateFault, OSError) as error:
            logger("server").error("not reloaded", reason=str(error))

    async def _watch_certificates(self) -> None:
        while True:
            await asyncio.sleep(CERTIFICATE_CHECK)
            with contextlib.suppress(CertificateFault):
                self._certificates.refresh()

    async def _feed_watchdog(self, seconds: float) -> None:
        while True:
            self._notifier.alive()
            await asyncio.sleep(seconds)


def certificate_store(folder: Path, settings: Settings, clock: Clock) -> CertificateStore:
    """The configured certificates, and behind them the self-signed one. Raises Refused."""
    own = CertificateFiles(folder / "tls" / "self-signed.pem", folder / "tls" / "self-signed.key")
    try:
        ensure_self_signed(own.certificate, own.key, [settings.hostname, "localhost", "127.0.0.1"], clock.wall())
        files = [CertificateFiles(each.certificate, each.key) for each in settings.tls.certificates]
        return CertificateStore([*files, own], clock)
    except CertificateFault as fault:
        raise Refused(f"tls.certificates: {fault}") from None


def office_of(house: House, reload: Callable[[], None]) -> Office:
    """What the admin API acts on."""
    settings = house.settings
    listens = frozenset(name for name in SERVED if getattr(settings.listen, name))
    started = house.machine.clock.monotonic()
    return Office(
        administration=house.administration,
        domain_keys=house.domain_keys,
        queue_desk=house.queue_desk,
        checkup=Checkup(
            house.database,
            house.blobs,
            house.resolver,
            house.workers,
            hostname=settings.hostname,
            local_checks=local_checks(house.folder, settings, house.machine.disk, house.machine.clock),
        ),
        letterbox=Letterbox(
            house.directory, house.database, house.blobs, house.bus, house.machine.clock, house.machine.entropy
        ),
        hostname=settings.hostname,
        listens=listens,
        max_message=settings.smtp.max_message,
        status=lambda: {"uptime": house.machine.clock.monotonic() - started, "listens": sorted(listens)},
        reload=reload,
    )


def _said(sock: socket.socket) -> str:
    name = sock.getsockname()
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else f"unix:{name}"
