# SPDX-License-Identifier: Apache-2.0
"""Debian's Dovecot: POP3, IMAP and LMTP over Maildir, in its default mode and in its high-performance mode."""

from __future__ import annotations

import os
import pwd

from argon2 import PasswordHasher

from bench.imap_letters import fill_maildirs
from bench.peers.base import PASSWORD, MaildirPeer, printed
from posthouse.services.passwords import Cost

CONFIG = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log/dovecot.log
instance_name = bench-{pop3}
protocols = lmtp pop3 {imap_protocol}
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
mail_location = maildir:{folder}/mail/%n
default_internal_user = dovecot
default_login_user = dovenull
default_process_limit = {processes}
default_client_limit = {clients}
mail_max_userip_connections = 0
first_valid_uid = 1
auth_mechanisms = plain
auth_cache_size = {cache}
passdb {{
  driver = passwd-file
  args = username_format=%u {folder}/users
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/mail/%n allow_all_users=yes
}}
service lmtp {{
  unix_listener {folder}/lmtp {{
    mode = 0666
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
{login_mode}
}}
service pop3 {{
  process_limit = {processes}
{pop3_mode}
}}
{imap}
"""
IMAP = """\
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
{login_mode}
}}
service imap {{
  process_limit = {processes}
{mail_mode}
}}
"""
# https://doc.dovecot.org/2.3 "Login processes", high-performance mode: one login process for many connections;
# and mail processes that serve one session after the other instead of ending with each.
FAST_LOGIN = "  service_count = 0\n  process_min_avail = 2"
FAST_MAIL = "  service_count = 256"


class Dovecot(MaildirPeer):
    name = "Dovecot"
    programs = ("dovecot",)
    is_high_performance = False

    def launch(self) -> None:
        self.make_boxes("mail")
        if self.setup.letters:
            boxes = [self.box(user) for user in self.setup.users]
            fill_maildirs(boxes, self.setup.letters, self.setup.octets, "mail")
            os.sync()  # else what was just written is still being written while the server is measured
        launch_dovecot(self, is_high_performance=self.is_high_performance)
        self.await_ports(self.pop3_port, *([self.imap_port] if self.setup.wants_imap else []))

    def version(self) -> str:
        return "Dovecot " + printed("dovecot", "--version")


class DovecotFast(Dovecot):
    name = "Dovecot, high-performance mode"
    is_high_performance = True


def launch_dovecot(peer: MaildirPeer, *, is_high_performance: bool = False) -> None:
    """Start Dovecot in the peer's folder; LMTP on the socket `folder/lmtp`."""
    folder, setup = peer.folder, peer.setup
    for part in ("run", "state"):
        (folder / part).mkdir()
    owner = pwd.getpwnam("mail")
    cost = Cost()
    kept = f"{{PLAIN}}{PASSWORD}"
    if setup.is_argon2:
        hasher = PasswordHasher(time_cost=cost.time, memory_cost=cost.memory, parallelism=cost.lanes)
        kept = "{ARGON2ID}" + hasher.hash(PASSWORD)
    (folder / "users").write_text("".join(f"{user}:{kept}\n" for user in setup.users))
    processes = max(1024, setup.connections + 100)
    login_mode, mail_mode = (FAST_LOGIN, FAST_MAIL) if is_high_performance else ("", "")
    imap = IMAP.format(port=peer.imap_port, processes=processes, login_mode=login_mode, mail_mode=mail_mode)
    text = CONFIG.format(
        folder=folder,
        pop3=peer.pop3_port,
        uid=owner.pw_uid,
        gid=owner.pw_gid,
        cache="10M" if setup.is_argon2 else "0",
        processes=processes,
        clients=max(5000, 2 * setup.connections + 1000),
        login_mode=login_mode,
        pop3_mode=mail_mode,
        imap_protocol="imap" if setup.wants_imap else "",
        imap=imap if setup.wants_imap else "",
    )
    (folder / "dovecot.conf").write_text(text)
    peer.run(["dovecot", "-F", "-c", folder / "dovecot.conf"], name="dovecot-output")
