# SPDX-License-Identifier: Apache-2.0
"""Debian's Postfix with a queue and a configuration of its own: takes mail for postfix.test, relays all other."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from posthouse.net.certificate import ensure_self_signed

from .programs import answers, free_port, require, require_root, run, wait_until
from .zone import Dns

DOMAIN = "postfix.test"

MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
mail_owner = postfix
myhostname = mail.postfix.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
smtpd_tls_security_level = may
smtpd_tls_chain_files = {folder}/tls/key.pem, {folder}/tls/certificate.pem
smtp_tls_security_level = may
smtp_tls_loglevel = 1
message_size_limit = 104857600
mailbox_size_limit = 0
virtual_mailbox_limit = 0
alias_maps =
maillog_file = {folder}/log/maillog
maillog_file_prefixes = {folder}/log
virtual_mailbox_domains = postfix.test
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = inline:{{ {{bob@postfix.test = bob/}}, {{dana@postfix.test = dana/}} }}
virtual_minimum_uid = 1
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
transport_maps = {transports}
relay_domains = house.test, lmtp.test
minimal_backoff_time = 1s
maximal_backoff_time = 1s
queue_run_delay = 1s
"""
MASTER = """\
{address}:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
lmtp unix - - n - - lmtp
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
verify unix - - n - 1 verify
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """`transports`: domain to what transport_maps wants, as "smtp:[127.0.0.1]:2525". `settings`: more lines of main.cf,
    which win over those above. `dns`: what it asks instead of the machine's."""

    def __init__(
        self,
        folder: Path,
        transports: dict[str, str],
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        settings: str = "",
        dns: Dns | None = None,
    ) -> None:
        require("postfix")
        require_root("Postfix")
        self.folder, self.address, self.port, self._dns = folder, address, port or free_port(), dns
        self.log = folder / "log" / "maillog"
        for part in ("queue", "data", "log", "config", "tls", "mail"):
            (folder / part).mkdir(parents=True)
        folder.chmod(0o755)
        shutil.chown(folder / "data", "postfix")
        shutil.chown(folder / "mail", "nobody", "nogroup")
        ensure_self_signed(
            folder / "tls" / "certificate.pem", folder / "tls" / "key.pem", ["mail.postfix.test", "127.0.0.1"], now()
        )
        rows = ", ".join(f"{{{domain} = {where}}}" for domain, where in transports.items())
        maps = f"inline:{{ {rows} }}" if rows else ""
        user = (folder / "mail").stat()
        config = folder / "config"
        (config / "main.cf").write_text(
            MAIN.format(folder=folder, uid=user.st_uid, gid=user.st_gid, transports=maps) + settings
        )
        (config / "master.cf").write_text(MASTER.format(address=address, port=self.port))

    def start(self) -> None:
        command: list[str | Path] = ["postfix", "-c", self.folder / "config", "start"]
        run(self._dns.within(*command) if self._dns else command)
        wait_until(lambda: answers(self.port, self.address), "Postfix to listen", log=self.log)

    def stop(self) -> None:
        run(["postfix", "-c", self.folder / "config", "stop"], codes=(0, 1))
        pid = self.folder / "queue" / "pid" / "master.pid"
        wait_until(lambda: not pid.exists() or not pid.read_text().strip() or not _lives(pid), "Postfix to stop")

    def box(self, name: str) -> Path:
        return self.folder / "mail" / name

    def said(self) -> str:
        return self.log.read_text("utf-8", "replace")


def _lives(pid: Path) -> bool:
    try:
        os.kill(int(pid.read_text()), 0)
    except OSError:
        return False
    return True


def now() -> float:
    from posthouse.net.clock import SystemClock

    return SystemClock().wall()
