# SPDX-License-Identifier: Apache-2.0
"""A real client's whole mailbox: mbsync into an empty Maildir, and once more when nothing is new."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

from bench import imap_letters
from bench.cells import US, Cell, Measure, NotPossibleError, Task
from bench.imap_client import WrongAnswerError
from bench.peers import PASSWORD, PEERS, USER, Setup

PROGRAM = "mbsync"
LETTERS = 10_000
QUICK = 500
OCTETS = 10 * 1024
LIMIT = 600.0  # seconds
PAUSE = 2.0  # seconds; mbsync waits so long itself when a Maildir has just changed, since times of files are coarse
TUID = re.compile(rb"^X-TUID: \S+\n", re.MULTILINE)  # its own mark
NUMBER = re.compile(rb"^Message-ID: <(\d+)@", re.MULTILINE)
CONFIG = """\
FSync no

IMAPAccount server
Host 127.0.0.1
Port {port}
User {user}
Pass {password}
SSLType None
AuthMechs LOGIN

IMAPStore far
Account server

MaildirStore near
Path {folder}/
Inbox {folder}/INBOX

Channel all
Far :far:
Near :near:
Patterns INBOX
Create Near
Sync Pull
SyncState *
"""

CELL = Cell(
    "mbsync of 10,000 letters of 10 KiB",
    (
        Measure("seconds", "into an empty Maildir", "s", is_more_better=False),
        Measure("cpu_ms", "CPU of a letter", "ms", is_more_better=False),
        Measure("again_ms", "again, nothing being new", "ms", is_more_better=False),
    ),
    5,
    (US, "Dovecot"),
    overhead=20,
    loads_for=15,
    most_rounds=2,
)


def run(task: Task) -> dict[str, float]:
    if shutil.which(PROGRAM) is None:
        raise NotPossibleError(f"{PROGRAM} is not installed (Debian: isync)")
    letters = QUICK if task.is_quick else LETTERS
    peer = PEERS[task.peer]()
    near = task.folder / "near"
    near.mkdir()
    try:
        peer.start(task.folder / "s", Setup(wants_imap=True, letters=letters, octets=OCTETS))
        config = task.folder / "mbsyncrc"
        config.write_text(CONFIG.format(port=peer.imap_port, user=USER, password=PASSWORD, folder=near))
        cpu = peer.cpu_seconds()
        seconds = sync(config)
        cpu = peer.cpu_seconds() - cpu
        check(near / "INBOX", letters)
        time.sleep(PAUSE)
        again = sync(config)
        check(near / "INBOX", letters)
    finally:
        peer.stop()
    return {"seconds": seconds, "again_ms": again * 1000, "cpu_ms": cpu / letters * 1000}


def sync(config: Path) -> float:
    """Seconds that it took. RuntimeError with its last words when it fails."""
    started = time.perf_counter()
    done = subprocess.run(
        [PROGRAM, "-q", "-c", config, "all"], check=False, capture_output=True, text=True, timeout=LIMIT
    )
    if done.returncode:
        raise RuntimeError(f"{PROGRAM} failed: {done.stderr.strip().splitlines()[-1:]}")
    return time.perf_counter() - started


def check(box: Path, letters: int) -> None:
    """Every letter is there once, as it was sent, with the line ends of a Maildir and without mbsync's mark."""
    found: set[int] = set()
    for part in (box / "new", box / "cur"):
        for path in part.iterdir():
            text = TUID.sub(b"", path.read_bytes(), count=1)
            name = NUMBER.search(text)
            number = int(name[1]) if name else -1
            if number in found or text != imap_letters.whole(number, OCTETS).replace(b"\r\n", b"\n"):
                raise WrongAnswerError(f"{path.name} is not a letter of the server's, or one for the second time")
            found.add(number)
    if len(found) != letters:
        raise WrongAnswerError(f"{len(found)} letters instead of {letters}")
