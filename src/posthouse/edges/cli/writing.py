# SPDX-License-Identifier: Apache-2.0
"""An account's letters as files that other programs read: maildir, mbox, single files.

Invariant: no file that is there is changed, and a file appears whole or not at all.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol

from posthouse.edges.cli.backend import Stop
from posthouse.edges.cli.folder_names import encode, to_folder
from posthouse.edges.cli.foreign import MAILDIR_FLAGS, MBOX_FLAGS
from posthouse.mail.lines import with_lf

FILE_MODE = 0o600
FOLDER_MODE = 0o700
_FROM = re.compile(rb"^(>*From )", re.MULTILINE)


class Sink(Protocol):
    """`item` is a letter of the API's page: uid, letter, received_at, flags, …"""

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def has(self, mailbox: str, item: Any) -> bool: ...

    def write(self, mailbox: str, item: Any, octets: bytes) -> None: ...


class _Files:
    """Files in a folder, told apart by what stands before the first of `ends` in their names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[str, tuple[Path, set[str]]] = {}

    def __enter__(self) -> object:
        self._folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def make(self, mailbox: str) -> Path:
        """The folder where a mailbox's files go; made when it is not there."""
        raise NotImplementedError

    def place(self, mailbox: str) -> Path:
        return self._look(mailbox)[0]

    def has(self, mailbox: str, item: Any) -> bool:
        return item["letter"] in self._look(mailbox)[1]

    def _look(self, mailbox: str) -> tuple[Path, set[str]]:
        if mailbox not in self._places:
            folder = self.make(mailbox)
            self._places[mailbox] = folder, {each.name.split(".")[0] for each in folder.iterdir()}
        return self._places[mailbox]


class EmlSink(_Files):
    """FOLDER/INBOX/e1f.eml, the octets as they are."""

    def make(self, mailbox: str) -> Path:
        folder = self._folder.joinpath(*(encode(part) for part in mailbox.split("/")))
        folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        return folder

    def write(self, mailbox: str, item: Any, octets: bytes) -> None:
        place = self.place(mailbox)
        new = place / f".{item['letter']}.new"
        _write(new, octets, item["received_at"])
        new.rename(place / f"{item['letter']}.eml")


class MaildirSink(_Files):
    """Maildir++: cur, new, tmp, and `.Name` for every mailbox but the inbox."""

    def make(self, mailbox: str) -> Path:
        folder = self._folder / to_folder(mailbox)
        if folder != self._folder and not folder.exists():
            folder.mkdir(FOLDER_MODE, parents=True)
            (folder / "maildirfolder").touch(FILE_MODE)
        for each in ("tmp", "new", "cur"):
            (folder / each).mkdir(FOLDER_MODE, exist_ok=True)
        return folder / "cur"

    def write(self, mailbox: str, item: Any, octets: bytes) -> None:
        place = self.place(mailbox)
        octets = with_lf(octets)
        letters = "".join(sorted(letter for letter, flag in MAILDIR_FLAGS.items() if flag in item["flags"]))
        name = f"{item['letter']}.posthouse,S={len(octets)}"
        new = place.parent / "tmp" / name
        _write(new, octets, item["received_at"])
        new.rename(place / f"{name}:2,{letters}")


class MboxSink:
    """One file in the mboxrd form: lines that begin with "From ", with any ">" before, get one ">" more."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._new = path.with_name(path.name + ".new")
        self._file: BinaryIO | None = None

    def __enter__(self) -> object:
        if self._path.exists():
            raise Stop(f"{self._path}: is there already; name a new file")
        self._file = os.fdopen(os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE), "wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        self._file.close()
        if kind is None:
            self._new.rename(self._path)
        else:
            self._new.unlink()

    def has(self, mailbox: str, item: Any) -> bool:
        return False

    def write(self, mailbox: str, item: Any, octets: bytes) -> None:
        assert self._file is not None
        header, _, body = with_lf(octets).partition(b"\n\n")
        letters = {flag: letter for letter, flag in MBOX_FLAGS.items()}
        status = "O" + "".join(letters[flag] for flag in item["flags"] if flag == "seen")
        more = "".join(letters[flag] for flag in item["flags"] if flag != "seen")
        at = datetime.fromtimestamp(item["received_at"], UTC).strftime("%a %b %e %H:%M:%S %Y")
        fields = f"Status: {status}\n" + (f"X-Status: {more}\n" if more else "")
        text = _FROM.sub(rb">\1", body)
        end = b"\n" if text.endswith(b"\n") or not text else b"\n\n"
        self._file.write(f"From MAILER-DAEMON {at}\n".encode())
        self._file.write(header.rstrip(b"\n") + b"\n" + fields.encode() + b"\n" + text + end)


def _write(path: Path, octets: bytes, at: float) -> None:
    """A new file with its time; another's that failed half way is replaced."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE), "wb") as file:
        file.write(octets)
    os.utime(path, (at, at))
