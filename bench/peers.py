# SPDX-License-Identifier: Apache-2.0
"""The servers that are measured: each starts in a folder of its own, on loopback, with its defaults for durability."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench import processes

USER = "alice@bench.test"
PASSWORD = "correct-horse-battery"


class Peer(Protocol):
    name: str
    smtp_port: int
    pop3_port: int

    def start(self, folder: Path) -> None: ...
    def root(self) -> list[int]: ...
    def delivered(self, user: str = USER) -> int: ...
    def stop(self) -> None: ...


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as sock:
            return bool(sock.recv(4))
    except OSError:
        return False


def refuse_taken(*ports: int) -> None:
    """A server left over from a run that was killed would be measured instead of ours."""
    for port in ports:
        if answers(port):
            raise RuntimeError(f"port {port} is in use by another server; stop it first")


POSTFIX_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
mail_owner = postfix
myhostname = mail.bench.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_tls_security_level = none
smtpd_client_connection_count_limit = 0
smtpd_peername_lookup = no
virtual_mailbox_domains = bench.test
virtual_transport = lmtp:unix:{folder}/lmtp
maillog_file = {folder}/log/maillog
maillog_file_prefixes = {folder}/log
message_size_limit = 104857600
alias_maps =
"""
POSTFIX_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
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
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""
DOVECOT = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
instance_name = posthouse-bench-{pop3}
protocols = lmtp pop3 imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
mail_location = maildir:{folder}/mail/%n
default_internal_user = dovecot
default_login_user = dovenull
first_valid_uid = 1
auth_mechanisms = plain
passdb {{
  driver = static
  args = password={{PLAIN}}{password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/mail/%n
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
  process_limit = 1024
{pop3_mode}
}}
service imap-login {{
  inet_listener imap {{
    port = 0
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
"""


@dataclass
class PostfixDovecot:
    """Postfix hands over to Dovecot by LMTP into a Maildir; both with their defaults (fsync per letter)."""

    name: str = "Postfix + Dovecot"
    smtp_port: int = 12525
    pop3_port: int = 12110
    is_high_performance: bool = False  # Dovecot's own mode: long-lived processes instead of one per connection

    def start(self, folder: Path) -> None:
        refuse_taken(self.smtp_port, self.pop3_port)
        self._folder = folder
        for part in ("queue", "data", "log", "mail", "run", "state", "config"):
            (folder / part).mkdir(parents=True)
        owner, mail = pwd.getpwnam("postfix"), pwd.getpwnam("mail")
        os.chown(folder / "data", owner.pw_uid, owner.pw_gid)
        os.chown(folder / "mail", mail.pw_uid, mail.pw_gid)
        for path in (folder, *folder.parents):
            if str(path).startswith("/tmp/"):
                path.chmod(0o755)
        config = folder / "config"
        (config / "main.cf").write_text(POSTFIX_MAIN.format(folder=folder))
        (config / "master.cf").write_text(POSTFIX_MASTER.format(port=self.smtp_port))
        (config / "dovecot.conf").write_text(
            DOVECOT.format(
                folder=folder,
                pop3=self.pop3_port,
                uid=mail.pw_uid,
                gid=mail.pw_gid,
                password=PASSWORD,
                login_mode="  service_count = 0\n  process_min_avail = 1" if self.is_high_performance else "",
                pop3_mode="  service_count = 256" if self.is_high_performance else "",
            )
        )
        self._dovecot = subprocess.Popen(["dovecot", "-F", "-c", config / "dovecot.conf"])
        subprocess.run(["postfix", "-c", config, "start"], check=True, capture_output=True)
        processes.wait_until(lambda: answers(self.smtp_port) and answers(self.pop3_port), 20, self.name)

    def root(self) -> list[int]:
        master = int((self._folder / "queue/pid/master.pid").read_text())
        return [master, self._dovecot.pid]

    def delivered(self, user: str = USER) -> int:
        box = self._folder / "mail" / user.partition("@")[0] / "new"
        return sum(1 for _ in os.scandir(box)) if box.exists() else 0

    def stop(self) -> None:
        subprocess.run(["postfix", "-c", self._folder / "config", "stop"], check=False, capture_output=True)
        processes.stop(self._dovecot)


@dataclass
class Posthouse:
    name: str = "posthouse"
    smtp_port: int = 12526
    pop3_port: int = 12111
    event_loop: str = "auto"

    def start(self, folder: Path) -> None:
        refuse_taken(self.smtp_port, self.pop3_port)
        self._folder = folder
        program = str(Path(sys.executable).with_name("posthouse"))
        command = [program, "init", "--data", str(folder), "--hostname", "mail.bench.test", "--domain", "bench.test"]
        subprocess.run(
            [*command, "--admin", USER, "--password-stdin"], input=PASSWORD.encode(), check=True, capture_output=True
        )
        (folder / "posthouse.toml").write_text(
            'hostname = "mail.bench.test"\n'
            f'[listen]\nsmtp = ["127.0.0.1:{self.smtp_port}"]\npop3 = ["127.0.0.1:{self.pop3_port}"]\n'
            '[auth]\nplaintext = ["pop3"]\n'
            f'[process]\nevent_loop = "{self.event_loop}"\nlog_format = "json"\n'
        )
        log = (folder / "log").open("wb")
        self._process = subprocess.Popen([program, "serve", "--data", str(folder)], stderr=log)
        processes.wait_until(lambda: answers(self.smtp_port) and answers(self.pop3_port), 20, self.name)

    def root(self) -> list[int]:
        return [self._process.pid]

    def delivered(self, user: str = USER) -> int:
        """STAT of the mailbox, as a user sees it."""
        with socket.create_connection(("127.0.0.1", self.pop3_port)) as sock:
            lines = sock.makefile("rb")
            lines.readline()
            for command in (f"USER {user}", f"PASS {PASSWORD}", "STAT"):
                sock.sendall(command.encode() + b"\r\n")
                answer = lines.readline()
            sock.sendall(b"QUIT\r\n")
            lines.readline()
        return int(answer.split()[1])

    def stop(self) -> None:
        processes.stop(self._process)


def missing_programs() -> list[str]:
    return [name for name in ("postfix", "dovecot", "smtp-source") if shutil.which(name) is None]
