# SPDX-License-Identifier: Apache-2.0
"""fetchmail over IMAP, with a folder of its own: what was not read yet is fetched, and marked as read or deleted."""

from __future__ import annotations

from pathlib import Path

from .imap_server import Person
from .programs import require, run


class FetchmailImap:
    def __init__(self, folder: Path, person: Person, *, tls: str = "implicit") -> None:
        require("fetchmail")
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._person = person
        self._tls = tls

    def fetch(self, options: str = "keep", *, mailbox: str = "INBOX") -> list[bytes]:
        """What it delivered, oldest first, with lines as Unix has them."""
        box, config = self._folder / "box", self._folder / "fetchmailrc"
        box.mkdir(exist_ok=True)
        person = self._person
        config.write_text(
            f'set idfile "{self._folder / "ids"}"\nset invisible\n'
            f"poll localhost service {person.port(self._tls)} protocol imap\n"
            f'  user "{person.login}" password "{person.password}" {"ssl" if self._tls == "implicit" else ""}\n'
            f'  sslproto "auto" sslcertck sslcertfile "{person.server.certificate}"\n'
            f'  folder "{mailbox}" no rewrite pass8bits {options}\n  mda "cat > {box}/$$"\n'
        )
        config.chmod(0o600)
        # 1: there was no new letter.
        run(["fetchmail", "--fetchmailrc", config, "-v"], env={"FETCHMAILHOME": str(self._folder)}, codes=(0, 1))
        files = sorted(box.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        found = [path.read_bytes() for path in files]
        for path in files:
            path.unlink()
        return found
