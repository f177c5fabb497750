# SPDX-License-Identifier: Apache-2.0
"""Debian's Postfix: delivering to Maildirs itself (virtual), or handing over to Dovecot by LMTP."""

from __future__ import annotations

import pwd
import shutil

from bench.peers.base import DOMAIN, MaildirPeer, certificate, printed
from bench.peers.dovecot import launch_dovecot

MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
mail_owner = postfix
myhostname = mail.{domain}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
maillog_file = {folder}/log/maillog
maillog_file_prefixes = {folder}/log
message_size_limit = 104857600
virtual_mailbox_limit = 0
alias_maps =
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = texthash:{folder}/config/boxes
virtual_minimum_uid = 1
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
"""
TLS = """\
smtpd_tls_security_level = may
smtpd_tls_chain_files = {key}, {chain}
"""
MASTER = """\
{address}:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
lmtp unix - - n - - lmtp
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix(MaildirPeer):
    """Its own virtual(8) agent writes the Maildirs."""

    name = "Postfix"
    programs: tuple[str, ...] = ("postfix", "smtp-source")
    transport = ""
    extra = ""  # more lines of main.cf

    def launch(self) -> None:
        folder = self.folder
        for part in ("queue", "data", "config"):
            (folder / part).mkdir()
        shutil.chown(folder / "data", "postfix")
        self.make_boxes("mail")
        owner = pwd.getpwnam("mail")
        config = folder / "config"
        main = (
            MAIN.format(folder=folder, domain=DOMAIN, uid=owner.pw_uid, gid=owner.pw_gid) + self.transport + self.extra
        )
        if self.setup.offers_tls:
            chain, key = certificate(folder)
            main += TLS.format(chain=chain, key=key)
        (config / "main.cf").write_text(main)
        (config / "master.cf").write_text(MASTER.format(address=self.setup.address, port=self.smtp_port))
        (config / "boxes").write_text("".join(f"{user} {user.partition('@')[0]}/\n" for user in self.setup.users))
        self.run(["postfix", "-c", config, "start-fg"])
        self.await_ports(self.smtp_port)

    def version(self) -> str:
        return "Postfix " + printed("postconf", "-dh", "mail_version")


class PostfixDovecot(Postfix):
    """Dovecot's LMTP service writes the Maildirs."""

    name = "Postfix + Dovecot"
    programs = (*Postfix.programs, "dovecot")

    def launch(self) -> None:
        self.transport = f"virtual_transport = lmtp:unix:{self.folder}/lmtp\n"
        super().launch()
        launch_dovecot(self)
        self.await_ports(self.smtp_port, self.pop3_port)

    def version(self) -> str:
        return f"{super().version()}, Dovecot {printed('dovecot', '--version')}"
