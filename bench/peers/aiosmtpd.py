# SPDX-License-Identifier: Apache-2.0
"""aiosmtpd with its own Maildir handler, started by its own command line."""

from __future__ import annotations

from bench.cells import NotPossibleError
from bench.peers.base import FETCHED, REMEDY, USER, MaildirPeer, certificate, printed

PROGRAM = FETCHED / "aiosmtpd" / "bin" / "aiosmtpd"


class Aiosmtpd(MaildirPeer):
    name = "aiosmtpd"

    def launch(self) -> None:
        if not PROGRAM.exists():
            raise NotPossibleError(f"aiosmtpd is not installed in {PROGRAM.parents[1]}: {REMEDY}")
        if self.setup.users != (USER,):
            raise NotPossibleError("its Maildir handler keeps one copy for all recipients of a letter")
        (self.folder / "mail").mkdir()
        command: list[str | object] = [PROGRAM, "-n", "-l", f"127.0.0.1:{self.smtp_port}", "-s", str(100 << 20)]
        if self.setup.offers_tls:
            chain, key = certificate(self.folder)
            command += ["--tlscert", chain, "--tlskey", key, "--no-requiretls"]
        command += ["-c", "aiosmtpd.handlers.Mailbox", self.box(USER)]
        self.run([str(part) for part in command])
        self.await_ports(self.smtp_port)

    def version(self) -> str:
        return "aiosmtpd " + printed(PROGRAM, "--version").split()[-1]
