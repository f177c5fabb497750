# SPDX-License-Identifier: Apache-2.0
"""mbsync with a folder of its own: the server's mailboxes as maildirs, made the same on both sides."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from .imap_server import Person, subject_of
from .programs import require, run

LETTERS = {"S": "\\Seen", "F": "\\Flagged", "R": "\\Answered", "T": "\\Deleted", "D": "\\Draft", "P": "$Forwarded"}


class Mbsync:
    """`options`: more lines of the channel. `pipeline`: commands sent before an answer is awaited, 0 for any number."""

    def __init__(self, folder: Path, person: Person, *, tls: str = "implicit", options: str = "") -> None:
        require("mbsync")
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.near = folder / "near"
        self.near.mkdir(exist_ok=True)
        self._config = folder / "mbsyncrc"
        self._config.write_text(
            f"IMAPAccount there\nHost localhost\nPort {person.port(tls)}\n"
            f'User {person.login}\nPass "{person.password}"\n'
            f"SSLType {'IMAPS' if tls == 'implicit' else 'STARTTLS'}\nCertificateFile {person.server.certificate}\n\n"
            "IMAPStore far\nAccount there\n\n"
            f"MaildirStore near\nPath {self.near}/\nInbox {self.near}/INBOX\nSubFolders Verbatim\n\n"
            "Channel all\nFar :far:\nNear :near:\nPatterns *\n"
            f"{options or 'Create Both' + chr(10) + 'Remove Both' + chr(10) + 'Expunge Both'}\n"
            f"SyncState {folder}/state/\nCopyArrivalDate yes\n"
        )
        self._config.chmod(0o600)
        (folder / "state").mkdir(exist_ok=True)

    def sync(self, *, codes: tuple[int, ...] = (0,)) -> str:
        """Once, both ways; what it said."""
        return run(["mbsync", "-c", self._config, "-V", "all"], env={"HOME": str(self.folder)}, codes=codes)

    def mailboxes(self) -> set[str]:
        boxes = {str(path.parent.relative_to(self.near)) for path in self.near.rglob("cur")}
        return {box.replace("INBOX/", "") for box in boxes}

    def box(self, mailbox: str) -> Path:
        return self.near / mailbox

    def files(self, mailbox: str = "INBOX") -> list[Path]:
        """In the order of their UIDs."""
        found = [path for part in ("new", "cur") for path in (self.box(mailbox) / part).iterdir()]
        return sorted(found, key=_uid)

    def letters(self, mailbox: str = "INBOX") -> list[bytes]:
        """With lines as the server has them, in the order of their UIDs."""
        return [without_mark(path.read_bytes()).replace(b"\n", b"\r\n") for path in self.files(mailbox)]

    def flags(self, mailbox: str = "INBOX") -> dict[str, frozenset[str]]:
        """By subject."""
        return {
            subject_of(path.read_bytes()): frozenset(LETTERS[c] for c in path.name.rpartition("2,")[2] if c in LETTERS)
            for path in self.files(mailbox)
        }

    def mark(self, subject: str, flags: str, mailbox: str = "INBOX") -> None:
        """Give the letter exactly these flags, by their maildir letters."""
        path = self._find(subject, mailbox)
        path.rename(self.box(mailbox) / "cur" / f"{path.name.partition(':2,')[0]}:2,{flags}")

    def put(self, name: str, octets: bytes, mailbox: str = "INBOX") -> None:
        """A letter that another program delivered there."""
        for part in ("cur", "new", "tmp"):
            (self.box(mailbox) / part).mkdir(parents=True, exist_ok=True)
        (self.box(mailbox) / "new" / name).write_bytes(octets.replace(b"\r\n", b"\n"))

    def start_over(self, mailbox: str = "INBOX") -> list[bytes]:
        """Forget the mailbox; the letters that were in it."""
        kept = self.letters(mailbox)
        shutil.rmtree(self.box(mailbox))
        for path in (self.folder / "state").glob(f"*{mailbox.replace('/', '!')}*"):
            path.unlink()
        return kept

    def _find(self, subject: str, mailbox: str) -> Path:
        [path] = [path for path in self.files(mailbox) if subject_of(path.read_bytes()) == subject]
        return path


def without_mark(octets: bytes) -> bytes:
    """Without the field by which it finds again what it copied."""
    return re.sub(rb"^X-TUID: .*\r?\n", b"", octets, count=1, flags=re.MULTILINE)


def _uid(path: Path) -> int:
    found = re.search(r",U=(\d+)", path.name)
    return int(found[1]) if found else 1 << 32
