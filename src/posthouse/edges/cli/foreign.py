# SPDX-License-Identifier: Apache-2.0
"""Letters in the files of other programs: maildirs, mboxes, single files. Read only, one letter at a time.

Invariant: a letter's octets are what the file holds (lines ending in CRLF), without what is the container's own.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from posthouse.edges.cli.backend import Stop
from posthouse.edges.cli.folder_names import from_folder
from posthouse.mail.dates import parse_date
from posthouse.mail.header import scan_header
from posthouse.mail.lines import with_crlf

MAILDIR_FLAGS = {"S": "seen", "R": "answered", "F": "flagged", "D": "draft", "T": "deleted"}
MBOX_FLAGS = {"R": "seen", "A": "answered", "F": "flagged", "T": "draft", "D": "deleted"}
# The line that begins a letter, after an empty line or at the very start, with a year at its end or near it:
# a sentence that begins with "From " rarely has one.
_FROM_LINE = re.compile(rb"(?:\A|(?<=\n\n)|(?<=\n\r\n))From (?=[^\r\n]*?\d{4})[^\r\n]*\r?\n")
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)
_MBOX_FIELD = re.compile(rb"^(?:Status|X-Status|X-Keywords|X-UID|Content-Length):[^\r\n]*\r?\n", re.MULTILINE | re.I)
_STATUS = re.compile(rb"^(?:X-)?Status:[ \t]*([A-Za-z]*)", re.MULTILINE | re.I)
_KEYWORD_LETTERS = {str(number): chr(ord("a") + number) for number in range(26)}
_HEADER_END = re.compile(rb"\r?\n\r?\n")


@dataclass(frozen=True, slots=True)
class ForeignLetter:
    """`place` says where it was found; `received_at` in epoch seconds, None when nothing tells."""

    place: str
    octets: bytes
    mailbox: str
    flags: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    received_at: float | None = None


# --- maildir --------------------------------------------------------------------------------------


def maildir(folder: Path, mailbox: str | None) -> Iterator[ForeignLetter]:
    """The letters of a maildir and its folders (Maildir++, or folders within folders), by date within each.

    `mailbox`: all go into that one instead of one for each folder. Raises Stop.
    """
    if not _is_maildir(folder):
        raise Stop(f"{folder}: no maildir; it would have the folders cur, new and tmp")
    for place in [folder, *sorted(_folders(folder))]:
        within = place.relative_to(folder)
        name = "INBOX" if place == folder else "/".join(from_folder(part) for part in within.parts)
        yield from _one_maildir(place, mailbox or name)


def _folders(folder: Path) -> Iterator[Path]:
    for each in folder.iterdir():
        if each.is_dir() and each.name not in ("cur", "new", "tmp"):
            if _is_maildir(each):
                yield each
            yield from _folders(each)


def _is_maildir(folder: Path) -> bool:
    return (folder / "cur").is_dir() and (folder / "new").is_dir()


def _one_maildir(folder: Path, mailbox: str) -> Iterator[ForeignLetter]:
    words = _dovecot_keywords(folder)
    found = []
    for sub in ("cur", "new"):
        with os.scandir(folder / sub) as entries:
            found += [(each.stat().st_mtime, each.name, sub) for each in entries if _is_letter(each)]
    for at, name, sub in sorted(found):
        path = folder / sub / name
        letters = name.rpartition(":2,")[2] if sub == "cur" and ":2," in name else ""
        yield ForeignLetter(
            place=str(path),
            octets=with_crlf(path.read_bytes()),
            mailbox=mailbox,
            flags=tuple(MAILDIR_FLAGS[each] for each in letters if each in MAILDIR_FLAGS),
            keywords=tuple(words[each] for each in letters if each in words),
            received_at=at,
        )


def _is_letter(entry: os.DirEntry[str]) -> bool:
    return entry.is_file() and not entry.name.startswith(".")


def _dovecot_keywords(folder: Path) -> dict[str, str]:
    """Letters a to z of file names → keywords, from the file in which Dovecot keeps them."""
    try:
        lines = (folder / "dovecot-keywords").read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    pairs = (line.split(" ", 1) for line in lines if " " in line)
    return {_KEYWORD_LETTERS[number]: word for number, word in pairs if number in _KEYWORD_LETTERS}


# --- mbox -----------------------------------------------------------------------------------------


def mbox(path: Path, mailbox: str) -> Iterator[ForeignLetter]:
    """The letters of an mbox file, in order; flags from its Status fields. Raises Stop."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return
            # Not closed by name: a search that was given up half-way still holds it, and closing would fail.
            octets = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            yield from _split_mbox(path, octets, mailbox)
    except (OSError, ValueError) as error:
        raise Stop(f"{path}: cannot be read: {error}") from None


def _split_mbox(path: Path, octets: mmap.mmap, mailbox: str) -> Iterator[ForeignLetter]:
    starts = _FROM_LINE.finditer(octets)
    line = next(starts, None)
    if line is None or line.start() != 0:
        raise Stop(f'{path}: no mbox; it would begin with a line "From sender date"')
    number = 0
    while line is not None:
        number += 1
        following = next(starts, None)
        end = following.start() if following else len(octets)
        content = octets[line.end() : end]
        yield _from_mbox(f"{path}, letter {number}", line[0], content, mailbox)
        line = following


def _from_mbox(place: str, from_line: bytes, content: bytes, mailbox: str) -> ForeignLetter:
    for last in (b"\r\n\r\n", b"\n\n"):  # the empty line that ends a letter is the container's
        if content.endswith(last):
            content = content[: -len(last) // 2]
            break
    end = _HEADER_END.search(content)
    header, body = (content[: end.end()], content[end.end() :]) if end else (content, b"")
    letters = b"".join(_STATUS.findall(header)).decode("ascii").upper()
    octets = with_crlf(_MBOX_FIELD.sub(b"", header) + _QUOTED_FROM.sub(rb"\1", body))
    _, _, date = from_line.decode("ascii", "replace").strip().removeprefix("From ").partition(" ")
    told = parse_date(date.strip())
    return ForeignLetter(
        place=place,
        octets=octets,
        mailbox=mailbox,
        flags=tuple(MBOX_FLAGS[each] for each in dict.fromkeys(letters) if each in MBOX_FLAGS),
        received_at=float(told.seconds) if told else letter_date(octets),
    )


# --- single letters -------------------------------------------------------------------------------


def eml(paths: Sequence[Path], mailbox: str) -> Iterator[ForeignLetter]:
    """Files of one letter each; a folder stands for the .eml files in it. Raises Stop."""
    for path in paths:
        files = sorted(path.rglob("*.eml")) if path.is_dir() else [path]
        for each in files:
            try:
                octets = with_crlf(each.read_bytes())
            except OSError as error:
                raise Stop(f"{each}: cannot be read: {error.strerror}") from None
            yield ForeignLetter(str(each), octets, mailbox, received_at=letter_date(octets))


def letter_date(octets: bytes) -> float | None:
    """When a letter arrived where it was, as its own header tells: the newest Received field, else Date."""
    scan = scan_header(octets)
    received = scan.get(b"received")
    for text in (received.rpartition(b";")[2] if received and b";" in received else b"", scan.get(b"date") or b""):
        found = parse_date(text.decode("ascii", "replace").strip())
        if found is not None and found.seconds >= 0:
            return float(found.seconds)
    return None
