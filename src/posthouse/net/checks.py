# SPDX-License-Identifier: Apache-2.0
"""What `posthouse check` asks of this machine: files, disk, certificates."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from posthouse.config import Settings
from posthouse.net.certificate import CertificateFault, read_facts
from posthouse.ports import Clock, Disk
from posthouse.services.checkup import Finding

SOON = 14 * 86400.0  # seconds: a certificate that ends within this is worth a warning


def local_checks(folder: Path, settings: Settings, disk: Disk, clock: Clock) -> list[Callable[[], list[Finding]]]:
    return [
        lambda: _folder(folder),
        lambda: _space(folder, settings, disk),
        lambda: _certificates(folder, settings, clock),
        lambda: _listeners(settings),
    ]


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
        try:
            facts = read_facts(each.certificate)
        except CertificateFault as fault:
            found.append(Finding("tls", "error", str(fault), "mend tls.certificates"))
            continue
        names += facts.names
        left = facts.expires_at - clock.wall()
        if left < SOON:
            text = f"{each.certificate} ends in {max(0, int(left // 86400))} days"
            found.append(Finding("tls", "error" if left <= 0 else "warning", text, "renew it"))
    if not settings.tls.certificates:
        remedy = "set tls.certificates to a certificate that clients trust"
        return [Finding("tls", "warning", "only the self-signed certificate is there; clients will ask", remedy)]
    wild = "*." + settings.hostname.partition(".")[2]
    if settings.hostname not in names and wild not in names:
        found.append(
            Finding("tls", "error", f"no certificate is for {settings.hostname}", "add one to tls.certificates")
        )
    return found or [Finding("tls", "ok", f"certificates for {', '.join(names)}")]


def _listeners(settings: Settings) -> list[Finding]:
    listen, found = settings.listen, []
    if not listen.smtp:
        found.append(Finding("listen", "warning", "mail from other servers is not received", "set listen.smtp"))
    if not (listen.submission or listen.submissions):
        found.append(Finding("listen", "warning", "users cannot send", "set listen.submissions"))
    if not (listen.pop3 or listen.pop3s):
        found.append(Finding("listen", "warning", "users cannot read", "set listen.pop3s"))
    for name in settings.auth.plaintext:
        text = f"passwords may cross unencrypted connections on {name}"
        found.append(Finding("listen", "warning", text, "take it out of auth.plaintext"))
    return found or [Finding("listen", "ok", "mail can come in, go out and be read")]
