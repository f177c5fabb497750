# SPDX-License-Identifier: Apache-2.0
"""Files of other programs: mboxes, folder names, keyword files."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fuzz.choices import Choices
from posthouse.edges.cli import foreign
from posthouse.edges.cli.backend import Stop
from posthouse.edges.cli.folder_names import encode, from_folder, to_folder

DICTIONARY = "mbox.dict"


def target(data: bytes) -> None:
    choices = Choices(data)
    kind = choices.number(3)
    octets = choices.rest
    if kind == 2:
        _names(octets.decode("utf-8", "replace"))
        return
    with tempfile.TemporaryDirectory(prefix="fuzz", dir="/tmp") as name:
        folder = Path(name)
        try:
            if kind == 0:
                (folder / "mbox").write_bytes(octets)
                _check(list(foreign.mbox(folder / "mbox", "INBOX")))
            else:
                for sub in ("cur", "new", "tmp"):
                    (folder / sub).mkdir()
                (folder / "dovecot-keywords").write_bytes(octets)
                (folder / "cur" / "1.host:2,Sab").write_bytes(octets)
                _check(list(foreign.maildir(folder, None)))
        except Stop:
            pass


def _check(letters: list[foreign.ForeignLetter]) -> None:
    for letter in letters:
        bare = letter.octets.replace(b"\r\n", b"")
        assert b"\r" not in bare
        assert b"\n" not in bare, "a letter has a bare line end"


def _names(text: str) -> None:
    from_folder(text).encode("utf-8", "surrogatepass")
    if text and text != "INBOX":
        folder = to_folder(text)
        assert folder.isascii()
        assert "/" not in folder
        parts = [part for part in text.split("/") if part]
        if parts and all(encode(part) for part in parts):
            assert from_folder(folder) == "/".join(parts), "a name changes when it is written and read"
