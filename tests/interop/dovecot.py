# SPDX-License-Identifier: Apache-2.0
"""Debian's Dovecot: takes mail for dovecot.test over LMTP, and hands that for house.test on over LMTP (its proxy)."""

from __future__ import annotations

import pwd
import shutil
import subprocess
from pathlib import Path

from .programs import answers, free_port, require, require_root, stop, wait_until

DOMAIN = "dovecot.test"

CONFIG = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
instance_name = posthouse-interop-{port}
protocols = lmtp
listen = 127.0.0.1
ssl = no
lmtp_proxy = yes
mail_location = maildir:{folder}/mail/%n
default_internal_user = dovecot
default_login_user = dovenull
first_valid_uid = 1
auth_mechanisms = plain
passdb {{
  driver = static
  username_filter = *@house.test
  args = proxy=y host=127.0.0.1 port={house_port} protocol=lmtp nopassword=y
}}
passdb {{
  driver = passwd-file
  args = {folder}/users
}}
userdb {{
  driver = passwd-file
  args = {folder}/users
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
"""


class Dovecot:
    def __init__(self, folder: Path, house_port: int) -> None:
        require("dovecot")
        require_root("Dovecot")
        self.folder, self.port = folder, free_port()
        self.log = folder / "dovecot.log"
        for part in ("run", "state", "mail"):
            (folder / part).mkdir(parents=True)
        folder.chmod(0o755)
        owner = pwd.getpwnam("mail")
        shutil.chown(folder / "mail", owner.pw_uid, owner.pw_gid)
        (folder / "users").write_text(
            f"bob@dovecot.test:{{PLAIN}}x:{owner.pw_uid}:{owner.pw_gid}::{folder}/mail/bob::\n"
        )
        self._config = folder / "dovecot.conf"
        self._config.write_text(CONFIG.format(folder=folder, port=self.port, house_port=house_port))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(["dovecot", "-F", "-c", self._config], stdout=output, stderr=output)
        wait_until(lambda: answers(self.port), "Dovecot to listen", log=self.folder / "output")

    def stop(self) -> None:
        if self._process is not None:
            stop(self._process)
            self._process = None

    def box(self, name: str) -> Path:
        return self.folder / "mail" / name
