# SPDX-License-Identifier: Apache-2.0
"""What `posthouse check` asks of this machine: files, disk, certificates, ports. It looks and changes nothing."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from posthouse.config import FILE_NAME, ConfigError, Listen, Settings, load
from posthouse.net.certificate import issued_files, read_facts
from posthouse.net.sockets import ListenAddress, ListenFault, close_sockets, open_sockets, parse_listen_address
from posthouse.net.tls import CertificateFiles, why_unusable
from posthouse.ports import Clock, Disk
from posthouse.services.checkup import Finding

SOON = 14 * 86400.0  # seconds: a certificate that ends within this is worth a warning
ANSWER_SECONDS = 1.0  # for a connection to a port of this very machine
PRIVILEGED = 1024  # ports below are for root, or for sockets that the service manager gives


def local_checks(
    folder: Path, settings: Settings, disk: Disk, clock: Clock, *, is_serving: bool
) -> list[Callable[[], list[Finding]]]:
    """`is_serving`: the listeners of the settings should answer; else their ports should be free."""
    return [
        lambda: _file(folder) if is_serving else [],
        lambda: _folder(folder),
        lambda: _space(folder, settings, disk),
        lambda: _certificates(folder, settings, clock),
        lambda: _listeners(settings),
        lambda: _ports(settings, is_serving),
    ]


def _file(folder: Path) -> list[Finding]:
    """A server that is not running has read it for this very question."""
    try:
        load(folder)
    except ConfigError as error:
        remedy = f"mend {FILE_NAME}; the server goes on with what it said before, and cannot be started again"
        return [Finding("config", "error", problem, remedy) for problem in error.problems]
    return []


def _folder(folder: Path) -> list[Finding]:
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        return [Finding("files", "warning", f"{folder} is open to other users ({mode:o})", f"chmod 700 {folder}")]
    return [Finding("files", "ok", f"{folder} is private")]


def _space(folder: Path, settings: Settings, disk: Disk) -> list[Finding]:
    free, reserve = disk.free_octets(folder), settings.store.reserve
    said = f"{free >> 20} MiB free, reserve {reserve >> 20} MiB"
    if free <= reserve:
        return [Finding("disk", "error", f"new mail is refused: {said}", "make room or lower store.reserve")]
    if free < 4 * reserve:
        return [Finding("disk", "warning", f"the disk is nearly full: {said}", "make room soon")]
    return [Finding("disk", "ok", said)]


def _certificates(folder: Path, settings: Settings, clock: Clock) -> list[Finding]:
    found: list[Finding] = []
    names: list[str] = []
    for each in settings.tls.certificates:
        problem = why_unusable(CertificateFiles(each.certificate, each.key))
        if problem:
            remedy = (
                "mend tls.certificates; a running server serves what it had from there, and cannot be started again"
            )
            found.append(Finding("tls", "error", problem, remedy))
            continue
        facts = read_facts(each.certificate)
        names += facts.names
        left = facts.expires_at - clock.wall()
        if left < SOON:
            text = f"{each.certificate} ends in {max(0, int(left // 86400))} days"
            found.append(Finding("tls", "error" if left <= 0 else "warning", text, "renew it"))
    issued = [path for path in issued_files(folder, settings) if path.exists()]
    for path in issued:  # when they end and what keeps them from being renewed tell services/certificate_findings.py
        problem = why_unusable(CertificateFiles(path, path))
        if problem:
            remedy = "remove it and restart the server, which has a new one made"
            found.append(Finding("tls", "error", problem, remedy))
            continue
        names += read_facts(path).names
    if not settings.tls.certificates and not issued:
        if settings.acme.agreed:
            return found  # told there
        remedy = "let an authority give one, see [acme], or set tls.certificates to one that clients trust"
        return [Finding("tls", "warning", "only the self-signed certificate is there; clients will ask", remedy)]
    wild = "*." + settings.hostname.partition(".")[2]
    if settings.hostname not in names and wild not in names:
        found.append(
            Finding(
                "tls",
                "error",
                f"no certificate is for {settings.hostname}",
                "add its name to acme.names, or one to tls.certificates",
            )
        )
    return found or [Finding("tls", "ok", f"certificates for {', '.join(names)}")]


def _listeners(settings: Settings) -> list[Finding]:
    listen, found = settings.listen, []
    if not listen.smtp:
        found.append(Finding("listen", "warning", "mail from other servers is not received", "set listen.smtp"))
    if not (listen.submission or listen.submissions):
        found.append(Finding("listen", "warning", "users cannot send", "set listen.submissions"))
    if not (listen.pop3 or listen.pop3s or listen.imap or listen.imaps):
        found.append(Finding("listen", "warning", "users cannot read", "set listen.imaps"))
    for name in settings.auth.plaintext:
        text = f"passwords may cross unencrypted connections on {name}"
        found.append(Finding("listen", "warning", text, "take it out of auth.plaintext"))
    return found or [Finding("listen", "ok", "mail can come in, go out and be read")]


def _ports(settings: Settings, is_serving: bool) -> list[Finding]:
    found: list[Finding] = []
    count = 0
    for name in Listen.model_fields:
        for text in getattr(settings.listen, name):
            count += 1
            found += _port(f"listen.{name}", text, is_serving)
    said = "listens on every address of [listen]" if is_serving else "every address of [listen] can be had"
    return found or [Finding("ports", "ok", f"{said} ({count})")]


def _port(name: str, text: str, is_serving: bool) -> list[Finding]:
    try:
        address = parse_listen_address(text)
    except ListenFault as fault:
        return [Finding("ports", "error", f"{name}: {fault}", "mend it in posthouse.toml")]
    answers = _answers(address)
    if is_serving:
        remedy = "restart the server if the settings were changed; its log says more"
        return [] if answers else [Finding("ports", "error", f"{name}: nothing answers on {address}", remedy)]
    if answers:
        remedy = "stop that program or choose another port"
        return [Finding("ports", "error", f"{name}: another program answers on {address}", remedy)]
    if address.path is not None:
        return []
    if 0 < address.port < PRIVILEGED and os.geteuid() != 0:
        text = f"{name}: {address} cannot be bound by this user"
        return [Finding("ports", "warning", text, "start as root with process.user, or through the service manager")]
    try:
        close_sockets(open_sockets([text]))
    except ListenFault as fault:
        return [Finding("ports", "error", f"{name}: {fault}", f"mend {name} in posthouse.toml")]
    return []


def _answers(address: ListenAddress) -> bool:
    if address.path is not None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(ANSWER_SECONDS)
            return probe.connect_ex(address.path) == 0
    host = {"": "localhost", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104 - compared
    try:
        socket.create_connection((host, address.port), ANSWER_SECONDS).close()
    except OSError:
        return False
    return True
