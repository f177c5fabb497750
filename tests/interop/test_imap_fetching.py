# SPDX-License-Identifier: Apache-2.0
"""Programs that carry letters away over IMAP: fetchmail and getmail, octet for octet and none twice."""

from __future__ import annotations

import mailbox
import os
import re
import shutil
from pathlib import Path

import pytest

from .imap_fetchmail import FetchmailImap
from .imap_server import SENDER, TLS, Person
from .letters import ATTACHMENT, letter
from .programs import require, run

pytestmark = pytest.mark.interop


def unix(octets: bytes) -> bytes:
    return octets.replace(b"\r\n", b"\n")


@pytest.fixture
def waiting(person: Person) -> list[bytes]:
    """Three letters, as they lie in the mailbox."""
    person.deliver(*(letter(f"number {n}", SENDER, person.login, attachment=ATTACHMENT * (n == 1)) for n in range(3)))
    return [unix(kept.octets) for kept in person.letters()]


@pytest.mark.parametrize("tls", TLS)
def test_fetchmail(person: Person, waiting: list[bytes], tmp_path: Path, tls: str) -> None:
    """`keep` leaves them, as read; `nokeep` takes what is left away."""
    fetchmail = FetchmailImap(tmp_path / "fetchmail", person, tls=tls)
    assert fetchmail.fetch() == waiting
    assert all(kept.flags == {"\\Seen"} for kept in person.letters())
    assert fetchmail.fetch() == []
    person.deliver(letter("new", SENDER, person.login))
    new = unix(person.letters()[3].octets)
    assert fetchmail.fetch("nokeep") == [new]
    assert len(person.letters()) == 3
    assert fetchmail.fetch("fetchall nokeep") == waiting
    assert person.letters() == []
    person.append("Archive", b"From: a@b.test\r\nSubject: filed\r\n\r\nx\r\n")
    assert len(fetchmail.fetch(mailbox="Archive")) == 1


def test_getmail(person: Person, waiting: list[bytes], base: Path) -> None:
    """It knows no STARTTLS. It remembers by UIDVALIDITY and UID which it has."""
    require("getmail")
    folder = base / f"getmail-imap-{person.server.name}"
    folder.mkdir(mode=0o755)
    box = folder / "box"
    mailbox.Maildir(box).close()
    as_root = os.geteuid() == 0  # it does not deliver as root
    if as_root:
        for path in (box, *box.iterdir()):
            shutil.chown(path, "nobody")

    def fetch(*, delete: bool) -> list[bytes]:
        (folder / "getmailrc").write_text(
            f"[retriever]\ntype = SimpleIMAPSSLRetriever\nserver = localhost\nport = {person.port()}\n"
            f'username = {person.login}\npassword = {person.password}\nmailboxes = ("INBOX",)\n'
            f"ca_certs = {person.server.certificate}\n"
            f"[destination]\ntype = Maildir\npath = {box}/\n{'user = nobody' if as_root else ''}\n"
            f"[options]\nread_all = false\ndelete = {delete}\ndelivered_to = false\nreceived = false\nverbose = 1\n"
        )
        run(["getmail", "--getmaildir", folder, "--rcfile", "getmailrc"])
        # It adds a field that names the mailbox.
        mark = re.compile(rb"^X-getmail-retrieved-from-mailbox: .*\n", re.MULTILINE)
        found = sorted(mark.sub(b"", path.read_bytes(), count=1) for path in (box / "new").iterdir())
        for path in (box / "new").iterdir():
            path.unlink()
        return found

    assert fetch(delete=False) == sorted(waiting)
    assert fetch(delete=False) == []
    person.deliver(letter("new", SENDER, person.login))
    assert len(fetch(delete=True)) == 1
