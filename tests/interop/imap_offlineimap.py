# SPDX-License-Identifier: Apache-2.0
"""OfflineIMAP with a folder of its own: the server's mailboxes as maildirs, made the same on both sides."""

from __future__ import annotations

from pathlib import Path

from .imap_server import Person, subject_of
from .programs import require, run

LETTERS = {"S": "\\Seen", "F": "\\Flagged", "R": "\\Answered", "T": "\\Deleted", "D": "\\Draft"}


class OfflineImap:
    def __init__(self, folder: Path, person: Person) -> None:
        require("offlineimap")
        folder.mkdir(exist_ok=True)
        self.near = folder / "near"
        self._folder = folder
        self._config = folder / "offlineimaprc"
        # It looks values up in its own file by %(name)s, so a percent sign is written twice.
        password = person.password.replace("%", "%%")
        self._config.write_text(
            f"[general]\naccounts = there\nmetadata = {folder}/state\nui = basic\nmaxsyncaccounts = 1\n"
            "[Account there]\nlocalrepository = near\nremoterepository = far\n"
            f"[Repository near]\ntype = Maildir\nlocalfolders = {self.near}\nsep = /\n"
            f"[Repository far]\ntype = IMAP\nremotehost = localhost\nremoteport = {person.port()}\n"
            f"remoteuser = {person.login}\nremotepass = {password}\n"
            "ssl = yes\nstarttls = no\n"
            f"sslcacertfile = {person.server.certificate}\nmaxconnections = 2\nidlefolders = []\n"
            "createfolders = yes\n"
        )
        self._config.chmod(0o600)

    def sync(self, *, codes: tuple[int, ...] = (0,)) -> str:
        """Once, both ways; what it said."""
        return run(["offlineimap", "-c", self._config, "-o"], env={"HOME": str(self._folder)}, codes=codes)

    def mailboxes(self) -> set[str]:
        return {str(path.parent.relative_to(self.near)) for path in self.near.rglob("cur")}

    def files(self, mailbox: str = "INBOX") -> list[Path]:
        found = [path for part in ("new", "cur") for path in (self.near / mailbox / part).iterdir()]
        return sorted(found, key=lambda path: subject_of(path.read_bytes()))

    def letters(self, mailbox: str = "INBOX") -> list[bytes]:
        """With lines as the server has them, in the order of their subjects."""
        return [path.read_bytes().replace(b"\n", b"\r\n") for path in self.files(mailbox)]

    def flags(self, mailbox: str = "INBOX") -> dict[str, frozenset[str]]:
        return {
            subject_of(path.read_bytes()): frozenset(LETTERS[c] for c in path.name.rpartition("2,")[2] if c in LETTERS)
            for path in self.files(mailbox)
        }

    def mark(self, subject: str, flags: str, mailbox: str = "INBOX") -> None:
        [path] = [path for path in self.files(mailbox) if subject_of(path.read_bytes()) == subject]
        path.rename(self.near / mailbox / "cur" / f"{path.name.partition(':2,')[0]}:2,{flags}")

    def remove(self, subject: str, mailbox: str = "INBOX") -> None:
        [path] = [path for path in self.files(mailbox) if subject_of(path.read_bytes()) == subject]
        path.unlink()

    def put(self, name: str, octets: bytes, mailbox: str = "INBOX") -> None:
        for part in ("cur", "new", "tmp"):
            (self.near / mailbox / part).mkdir(parents=True, exist_ok=True)
        (self.near / mailbox / "new" / name).write_bytes(octets.replace(b"\r\n", b"\n"))
