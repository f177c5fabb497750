# SPDX-License-Identifier: Apache-2.0
"""Debian's Exim, unpacked and not installed (it and Postfix exclude each other): takes mail for exim.test."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from posthouse.net.certificate import ensure_self_signed

from .postfix import now
from .programs import REMEDY, ROOT, answers, free_port, require_root, stop, wait_until

DOMAIN = "exim.test"
BINARY = ROOT / "var" / "interop" / "exim" / "usr" / "sbin" / "exim4"
USER = "Debian-exim"  # compiled in; the installation script makes it as the package would

CONFIG = """\
exim_path = {folder}/exim4
primary_hostname = mail.exim.test
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
pid_file_path = {folder}/exim.pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
tls_advertise_hosts = *
tls_certificate = {folder}/tls/certificate.pem
tls_privatekey = {folder}/tls/key.pem
chunking_advertise_hosts = *
dsn_advertise_hosts = *
pipelining_advertise_hosts = *
smtputf8_advertise_hosts = *
message_size_limit = 100M
deliver_drop_privilege = true
keep_environment =
acl_smtp_rcpt = check_rcpt
acl_smtp_data = accept
log_selector = +pipelining +tls_cipher +dnssec
never_users =
host_lookup =
rfc1413_hosts =

begin acl
check_rcpt:
  accept domains = exim.test : house.test
         verify = recipient
  deny   message = relay not permitted

begin routers
house:
  driver = manualroute
  domains = house.test
  route_data = 127.0.0.1
  self = send
  transport = to_house
here:
  driver = accept
  domains = exim.test
  local_parts = bob : dana
  transport = maildir

begin transports
to_house:
  driver = smtp
  port = {house_port}
  allow_localhost
  hosts_try_chunking = *
  hosts_require_tls = *
  dnssec_request_domains =
  hosts_try_dane =
maildir:
  driver = appendfile
  directory = {folder}/mail/$local_part_data
  maildir_format
  create_directory
  return_path_add
  envelope_to_add

begin retry
* * F,1h,1s
"""


class Exim:
    def __init__(self, folder: Path, house_port: int, *, port: int = 0) -> None:
        if not BINARY.exists():
            pytest.skip(f"Exim is not unpacked in {BINARY.parents[2]}: {REMEDY}")
        require_root("Exim")
        self.folder, self.port = folder, port or free_port()
        self.log = folder / "log" / "mainlog"
        for part in ("spool", "log", "mail", "tls"):
            (folder / part).mkdir(parents=True)
        folder.chmod(0o755)
        # Exim's own processes run it again as its user, who may not reach the place where it was unpacked.
        shutil.copy(BINARY, folder / "exim4")
        (folder / "exim4").chmod(0o755)
        ensure_self_signed(
            folder / "tls" / "certificate.pem", folder / "tls" / "key.pem", ["mail.exim.test", "127.0.0.1"], now()
        )
        try:
            for path in (
                folder / "spool",
                folder / "log",
                folder / "mail",
                folder / "tls",
                *(folder / "tls").iterdir(),
            ):
                shutil.chown(path, USER)
        except LookupError:
            pytest.skip(f"there is no user {USER}: {REMEDY}")
        self.config = folder / "exim.conf"
        self.config.write_text(CONFIG.format(folder=folder, port=self.port, house_port=house_port))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [self.folder / "exim4", "-C", self.config, "-bdf", "-q1s"], stdout=output, stderr=output
            )
        wait_until(lambda: answers(self.port), "Exim to listen", log=self.folder / "output")

    def stop(self) -> None:
        if self._process is not None:
            stop(self._process)
            self._process = None

    def box(self, name: str) -> Path:
        return self.folder / "mail" / name

    def said(self) -> str:
        return self.log.read_text("utf-8", "replace")
