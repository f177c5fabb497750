# SPDX-License-Identifier: Apache-2.0
"""The servers that IMAP clients are driven against: posthouse, and Debian's Dovecot, which shows that the drivers are
right.

Every test has a person of its own on either, so that no test sees another's mailboxes.
"""

from __future__ import annotations

import contextlib
import imaplib
import itertools
import pwd
import re
import shutil
import smtplib
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .house import PASSWORD, House
from .programs import PATIENCE, answers, free_port, require, require_root, run, stop, wait_until

SENDER = "zoe@elsewhere.test"
TLS = ("implicit", "starttls")
PEOPLE = 1000  # more than there are tests
SPECIAL = ("Drafts", "Sent", "Archive", "Junk", "Trash")

CONFIG = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
instance_name = posthouse-imap-{imap}
protocols = imap lmtp
listen = 127.0.0.1
ssl = required
ssl_cert = <{folder}/certificate.pem
ssl_key = <{folder}/key.pem
mail_location = maildir:{folder}/mail/%n
default_internal_user = dovecot
default_login_user = dovenull
first_valid_uid = 1
auth_mechanisms = plain login
mail_plugins = quota acl zlib
mail_max_userip_connections = 50
passdb {{
  driver = passwd-file
  args = {folder}/users
}}
userdb {{
  driver = passwd-file
  args = {folder}/users
}}
namespace inbox {{
  inbox = yes
  separator = /
  mailbox Drafts {{
    special_use = \\Drafts
    auto = subscribe
  }}
  mailbox Sent {{
    special_use = \\Sent
    auto = subscribe
  }}
  mailbox Archive {{
    special_use = \\Archive
    auto = subscribe
  }}
  mailbox Junk {{
    special_use = \\Junk
    auto = subscribe
  }}
  mailbox Trash {{
    special_use = \\Trash
    auto = subscribe
  }}
}}
plugin {{
  quota = count:User quota
  quota_rule = *:storage=1G
  quota_vsizes = yes
  acl = vfile
}}
protocol imap {{
  mail_plugins = quota acl zlib imap_quota imap_acl imap_zlib
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    port = {lmtp}
  }}
}}
"""


class ImapServer(Protocol):
    """Its ports, and what only its administrator and its neighbours can do."""

    name: str
    ports: dict[str, int]
    log: Path

    @property
    def certificate(self) -> Path: ...

    def admit(self, name: str) -> str:
        """A new person with PASSWORD and empty mailboxes; the name to log in with."""

    def deliver(self, login: str, octets: bytes) -> None:
        """A letter that arrives from elsewhere."""


class PosthouseImap:
    name = "posthouse"

    def __init__(self, house: House) -> None:
        self.house = house
        self.ports = house.ports
        self.log = house.log

    @property
    def certificate(self) -> Path:
        return self.house.certificate

    def admit(self, name: str) -> str:
        login = f"{name}@house.test"
        self.house.command("account", "add", login, "--password-stdin", "--quota", "1G")
        return login

    def deliver(self, login: str, octets: bytes) -> None:
        self.house.receive(octets, login)


class DovecotImap:
    name = "dovecot"

    def __init__(self, folder: Path) -> None:
        require("dovecot", "openssl")
        require_root("Dovecot")
        self.folder = folder
        self.ports = {name: free_port() for name in ("imap", "imaps", "lmtp")}
        self.log = folder / "dovecot.log"
        for part in ("run", "state", "mail"):
            (folder / part).mkdir(parents=True)
        folder.chmod(0o755)
        self._owner = pwd.getpwnam("mail")
        shutil.chown(folder / "mail", self._owner.pw_uid, self._owner.pw_gid)
        # All at once: it looks at the file once a second at most.
        (folder / "users").write_text("".join(map(self._account, range(1, PEOPLE))))
        run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *("-keyout", folder / "key.pem", "-out", self.certificate, "-days", "30"),
                *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            ]
        )
        (folder / "dovecot.conf").write_text(CONFIG.format(folder=folder, **self.ports))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def certificate(self) -> Path:
        return self.folder / "certificate.pem"

    def start(self) -> None:
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                ["dovecot", "-F", "-c", self.folder / "dovecot.conf"], stdout=output, stderr=output
            )
        wait_until(lambda: answers(self.ports["imap"]), "Dovecot to listen", log=self.folder / "output")

    def stop(self) -> None:
        if self._process is not None:
            stop(self._process)
            self._process = None

    def admit(self, name: str) -> str:
        return f"{name}@dovecot.test"

    def _account(self, number: int) -> str:
        owner = self._owner
        name = f"person{number}"
        return f"{name}@dovecot.test:{{PLAIN}}{PASSWORD}:{owner.pw_uid}:{owner.pw_gid}::{self.folder}/mail/{name}::\n"

    def deliver(self, login: str, octets: bytes) -> None:
        with smtplib.LMTP("127.0.0.1", self.ports["lmtp"]) as lmtp:
            assert lmtp.sendmail(SENDER, [login], octets, mail_options=["BODY=8BITMIME"]) == {}


@dataclass(frozen=True, slots=True)
class Kept:
    """One letter in a mailbox, as the server keeps it."""

    uid: int
    flags: frozenset[str]
    octets: bytes


_NUMBERS = itertools.count(1)


class Person:
    """Somebody with mailboxes, who looks at them with imaplib, whatever other client is being tested."""

    def __init__(self, server: ImapServer) -> None:
        self.server = server
        self.login = server.admit(f"person{next(_NUMBERS)}")
        self.password = PASSWORD

    def port(self, tls: str = "implicit") -> int:
        return self.server.ports["imaps" if tls == "implicit" else "imap"]

    def deliver(self, *letters: bytes) -> None:
        for octets in letters:
            self.server.deliver(self.login, octets)

    @contextlib.contextmanager
    def imap(self, mailbox: str = "") -> Iterator[imaplib.IMAP4_SSL]:
        """A connection that is logged in, with `mailbox` selected."""
        context = ssl.create_default_context(cafile=str(self.server.certificate))
        with imaplib.IMAP4_SSL("localhost", self.port(), ssl_context=context, timeout=PATIENCE) as imap:
            imap.login(self.login, self.password)
            if mailbox:
                done(imap.select(quoted(mailbox)))
            yield imap

    def append(self, mailbox: str, octets: bytes, flags: str = "") -> None:
        with self.imap() as imap:
            done(imap.append(quoted(mailbox), f"({flags})", imaplib.Time2Internaldate(1709195400), octets))

    def mailboxes(self) -> set[str]:
        """Names as they cross the wire."""
        with self.imap() as imap:
            lines = done(imap.list())
        return {name for line in lines if line for name in [_last_word(line)] if b"\\Noselect" not in line}

    def letters(self, mailbox: str = "INBOX") -> list[Kept]:
        """In order, left as they are."""
        with self.imap() as imap:
            done(imap.select(quoted(mailbox), readonly=True))
            answer = done(imap.uid("FETCH", "1:*", "(UID FLAGS BODY.PEEK[])"))
        return [_kept(item) for item in answer if isinstance(item, tuple)]

    def subjects(self, mailbox: str = "INBOX") -> list[str]:
        return [subject_of(kept.octets) for kept in self.letters(mailbox)]

    def flags(self, subject: str, mailbox: str = "INBOX") -> frozenset[str]:
        """Without \\Recent, which is the session's."""
        [kept] = [kept for kept in self.letters(mailbox) if subject_of(kept.octets) == subject]
        return kept.flags

    def store(self, subject: str, change: str, flags: str, mailbox: str = "INBOX") -> None:
        with self.imap(mailbox) as imap:
            [numbers] = done(imap.search(None, "SUBJECT", f'"{subject}"'))
            done(imap.store(numbers.decode(), change, f"({flags})"))

    def expunge(self, subject: str, mailbox: str = "INBOX") -> None:
        self.store(subject, "+FLAGS", "\\Deleted", mailbox)
        with self.imap(mailbox) as imap:
            done(imap.expunge())

    def create(self, mailbox: str) -> None:
        with self.imap() as imap:
            done(imap.create(quoted(mailbox)))
            done(imap.subscribe(quoted(mailbox)))


def done(answer: tuple[str, Any]) -> Any:
    """What an imaplib command brought; it must have said OK."""
    status, data = answer
    assert status == "OK", data
    return data


def quoted(mailbox: str) -> str:
    return '"' + mailbox.replace("\\", "\\\\").replace('"', '\\"') + '"'


def subject_of(octets: bytes) -> str:
    found = re.search(rb"^Subject: (.*?)\r?$", octets, re.MULTILINE)
    return found[1].decode() if found else ""


def _kept(item: tuple[bytes, bytes]) -> Kept:
    head, octets = item
    uid, flags = re.search(rb"UID (\d+)", head), re.search(rb"FLAGS \(([^)]*)\)", head)
    assert uid is not None, head
    assert flags is not None, head
    return Kept(int(uid[1]), frozenset(flags[1].decode().split()) - {"\\Recent"}, octets)


def _last_word(line: bytes) -> str:
    found = re.fullmatch(rb'\([^)]*\) (?:"."|NIL) (?:"((?:[^"\\]|\\.)*)"|(\S+))', line)
    assert found is not None, line
    return re.sub(rb"\\(.)", rb"\1", found[1]).decode() if found[1] is not None else found[2].decode()
