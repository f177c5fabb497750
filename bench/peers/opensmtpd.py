# SPDX-License-Identifier: Apache-2.0
"""Debian's OpenSMTPD, unpacked and not installed (its package and Postfix's exclude each other), to Maildirs.

Its paths and users are compiled in. It runs in a mount namespace of its own, in which those paths are this run's
folder and the list of users has the two that its package would make: nothing of the machine is changed.
"""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

from bench.cells import NotPossibleError
from bench.peers.base import DOMAIN, REMEDY, UNPACKED, MaildirPeer, certificate, printed

TREE = UNPACKED / "opensmtpd"
BINARY = TREE / "usr" / "sbin" / "smtpd"
LIBRARIES = TREE / "usr" / "lib" / "x86_64-linux-gnu"
FIRST_ID = 64_900  # above the range of Debian's system users, below that of the next special ones
USERS = ("opensmtpd", "opensmtpq")

CONFIG = """\
{pki}
table users file:{folder}/users
table addresses file:{folder}/addresses
smtp max-message-size 100M
queue ttl 1h
listen on 127.0.0.1 port {port} hostname mail.{domain} {tls}
action "inbox" maildir userbase <users> virtual <addresses>
match from any for domain "{domain}" action "inbox"
{rules}
"""
# Compiled-in path: what stands there in the server's namespace.
PLACES = {"/var/spool": "spool", "/var/lib": "lib", "/usr/libexec": "libexec", "/run": "run"}


class OpenSmtpd(MaildirPeer):
    name = "OpenSMTPD"
    programs = ("unshare",)
    rules = ""  # more, for what is not delivered here

    def launch(self) -> None:
        if not BINARY.exists():
            raise NotPossibleError(f"OpenSMTPD is not unpacked in {TREE}: {REMEDY}")
        folder = self.folder
        for name in PLACES.values():
            (folder / name).mkdir()
        (folder / "lib/opensmtpd/empty").mkdir(parents=True)
        (folder / "spool/smtpd").mkdir(mode=0o711)
        shutil.copytree(TREE / "usr/libexec/opensmtpd", folder / "libexec/opensmtpd")
        self.make_boxes("mail")
        self._write_users()
        self._write_config()
        binds = [f"mount --bind {folder}/{name} {path}" for path, name in PLACES.items()]
        binds += [f"mount --bind {folder}/{name} /etc/{name}" for name in ("passwd", "group")]
        start = f"exec {BINARY} -d -f {folder}/smtpd.conf"
        self.run(["unshare", "--mount", "sh", "-ec", "\n".join([*binds, start])], env=environment())
        self.await_ports(self.smtp_port)

    def _write_users(self) -> None:
        """The machine's users and groups and the two of the package; each recipient's mailbox and owner."""
        for name, row in (
            ("passwd", "{name}:x:{id}:{id}::/var/lib/opensmtpd/empty:/usr/sbin/nologin\n"),
            ("group", "{name}:x:{id}:\n"),
        ):
            text = Path("/etc", name).read_text()
            more = "".join(row.format(name=user, id=FIRST_ID + number) for number, user in enumerate(USERS))
            (self.folder / name).write_text(text + more)
        owner = pwd.getpwnam("mail")
        names = [user.partition("@")[0] for user in self.setup.users]
        # The delivery agent adds "Maildir" to the home; the link makes it the place where we count.
        for name in names:
            home = self.folder / "mail" / name
            home.mkdir()
            (home / "Maildir").symlink_to(".")
            os.chown(home, owner.pw_uid, owner.pw_gid)
        rows = [f"{name} {owner.pw_uid}:{owner.pw_gid}:{self.folder}/mail/{name}\n" for name in names]
        (self.folder / "users").write_text("".join(rows))
        (self.folder / "addresses").write_text("".join(f"{name}@{DOMAIN} {name}\n" for name in names))

    def _write_config(self) -> None:
        pki = tls = ""
        if self.setup.offers_tls:
            chain, key = certificate(self.folder)
            key.parent.chmod(0o700)
            key.chmod(0o600)
            pki = f'pki own cert "{chain}"\npki own key "{key}"'
            tls = "tls pki own"
        text = CONFIG.format(folder=self.folder, domain=DOMAIN, port=self.smtp_port, pki=pki, tls=tls, rules=self.rules)
        (self.folder / "smtpd.conf").write_text(text)

    def version(self) -> str:
        return printed(BINARY, "-h", env=environment()).splitlines()[0].removeprefix("version: ")


def environment() -> dict[str, str]:
    return {**os.environ, "LD_LIBRARY_PATH": str(LIBRARIES)}
