# SPDX-License-Identifier: Apache-2.0
"""Debian's Exim, unpacked and not installed (its package and Postfix's exclude each other), delivering to Maildirs."""

from __future__ import annotations

import re
import shutil

from bench.cells import NotPossibleError
from bench.peers.base import DOMAIN, REMEDY, UNPACKED, MaildirPeer, certificate, printed

BINARY = UNPACKED / "exim" / "usr" / "sbin" / "exim4"
USER = "Debian-exim"  # compiled in; the installation script makes it as the package would

CONFIG = """\
exim_path = {folder}/exim4
primary_hostname = mail.{domain}
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
pid_file_path = {folder}/exim.pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
message_size_limit = 100M
deliver_drop_privilege = true
keep_environment =
acl_smtp_rcpt = check_rcpt
acl_smtp_data = accept
never_users =
host_lookup =
rfc1413_hosts =
# By default the eleventh letter of a connection waits for the next queue run, and the twenty-first connection is
# refused: both would measure something else than its work.
smtp_accept_queue_per_connection = 0
smtp_accept_max = 200
{tls}

begin acl
check_rcpt:
{rules}
  accept domains = {domain}
         verify = recipient
  deny   message = relay not permitted

begin routers
{routers}
here:
  driver = accept
  domains = {domain}
  local_parts = {boxes}
  transport = maildir

begin transports
{transports}
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
TLS = """\
tls_advertise_hosts = *
tls_certificate = {chain}
tls_privatekey = {key}
"""


class Exim(MaildirPeer):
    name = "Exim"
    rules = routers = transports = ""  # more of each, for what is not delivered here

    def launch(self) -> None:
        if not BINARY.exists():
            raise NotPossibleError(f"Exim is not unpacked in {BINARY.parents[2]}: {REMEDY}")
        folder = self.folder
        # Exim's own processes run it again as its user, who may not reach the place where it was unpacked.
        shutil.copy(BINARY, folder / "exim4")
        (folder / "exim4").chmod(0o755)
        (folder / "spool").mkdir()
        try:
            self.make_boxes(USER)
            for part in ("spool", "log"):
                shutil.chown(folder / part, USER)
        except LookupError:
            raise NotPossibleError(f"there is no user {USER}: {REMEDY}") from None
        tls = "tls_advertise_hosts ="
        if self.setup.offers_tls:
            chain, key = certificate(folder, USER)
            tls = TLS.format(chain=chain, key=key)
        boxes = " : ".join(user.partition("@")[0] for user in self.setup.users)
        config = folder / "exim.conf"
        config.write_text(
            CONFIG.format(
                folder=folder,
                domain=DOMAIN,
                port=self.smtp_port,
                tls=tls,
                boxes=boxes,
                rules=self.rules,
                routers=self.routers,
                transports=self.transports,
            )
        )
        self.run([folder / "exim4", "-C", config, "-bdf", "-q1m"])
        self.await_ports(self.smtp_port)

    def version(self) -> str:
        found = re.search(r"Exim version (\S+)", printed(BINARY, "-C", "/dev/null", "-bV"))
        return f"Exim {found[1] if found else 'of an unknown version'}"
