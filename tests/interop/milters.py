# SPDX-License-Identifier: Apache-2.0
"""Debian's opendkim and opendmarc, each a process with its socket in a folder of its own, for Postfix to ask."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from .programs import require, require_root, stop, wait_until
from .zone import Dns

COMMON = """\
Syslog no
UMask 000
UserID {user}
Socket local:{folder}/socket
"""
# It reads its resolver's file again for each letter, two at once break it: one letter at a time.
RESOLVER = """\
server:
    do-not-query-localhost: no
    local-zone: "test." nodefault
forward-zone:
    name: "."
    forward-addr: {address}
"""
VERIFIER = """\
Mode v
AuthservID {host}
AlwaysAddARHeader yes
InternalHosts {folder}/nobody
ExternalIgnoreList {folder}/nobody
ResolverConfiguration {folder}/unbound.conf
"""
SIGNER = """\
Mode s
Domain {domain}
Selector {selector}
KeyFile {folder}/key.pem
RequireSafeKeys no
SignatureAlgorithm {algorithm}
Canonicalization {canonicalization}
"""
OPENDMARC = """\
AuthservID {host}
TrustedAuthservIDs {host}
PublicSuffixList {folder}/suffixes
SPFIgnoreResults true
SPFSelfValidate true
IgnoreHosts {folder}/nobody
RejectFailures {rejects}
"""
NOBODY = "203.0.113.255\n"  # RFC 5737: an address that no client has, since both take 127.0.0.1 for a friend

SUFFIXES = "test\n"  # below it, each domain is an organization; the public list has no .test


class Milter:
    """`program`: also the name of the user that its package has made."""

    def __init__(self, folder: Path, program: str, settings: str) -> None:
        require(program)
        require_root(program)
        folder.mkdir(parents=True)
        folder.chmod(0o755)
        shutil.chown(folder, program)
        self.folder, self.program = folder, program
        self._settings = COMMON.format(folder=folder, user=program) + settings.replace("{folder}", str(folder))
        (folder / "nobody").write_text(NOBODY)
        (folder / "suffixes").write_text(SUFFIXES)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> str:
        """As smtpd_milters has it."""
        return f"unix:{self.folder}/socket"

    def start(self, dns: Dns) -> None:
        (self.folder / "unbound.conf").write_text(RESOLVER.format(address=dns.address))
        config, socket = self.folder / "conf", self.folder / "socket"
        config.write_text(self._settings)
        option = "-x" if self.program == "opendkim" else "-c"
        with (self.folder / "log").open("ab") as log:
            command = [str(word) for word in dns.within(self.program, "-f", option, config)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        process = self._process
        wait_until(
            lambda: process.poll() is not None or socket.exists(), f"{self.program} to listen", log=self.folder / "log"
        )
        assert process.poll() is None, (self.folder / "log").read_text()

    def stop(self) -> None:
        if self._process is not None:
            stop(self._process)
            self._process = None
        (self.folder / "socket").unlink(missing_ok=True)


def verifier(folder: Path, host: str) -> Milter:
    return Milter(folder, "opendkim", VERIFIER.replace("{host}", host))


def signer(folder: Path, domain: str, selector: str, key: bytes, algorithm: str, canonicalization: str) -> Milter:
    """`key` as PEM."""
    words = {"domain": domain, "selector": selector, "algorithm": algorithm, "canonicalization": canonicalization}
    milter = Milter(folder, "opendkim", SIGNER.format(folder="{folder}", **words))
    (folder / "key.pem").write_bytes(key)
    shutil.chown(folder / "key.pem", "opendkim")
    (folder / "key.pem").chmod(0o600)
    return milter


def opendmarc(folder: Path, host: str, *, rejects: bool) -> Milter:
    """`rejects`: does what policies ask for; else it only tells."""
    return Milter(folder, "opendmarc", OPENDMARC.replace("{host}", host).replace("{rejects}", str(rejects).lower()))
