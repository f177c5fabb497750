# SPDX-License-Identifier: Apache-2.0
"""A house put back to an older state, seen by IMAP clients that keep letters of their own: no letter that a client has
is lost or doubled. Every mailbox has a new UIDVALIDITY (docs/adr/0005-backup.md); each client has its way with that.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from .house import House
from .imap_fetchmail import FetchmailImap
from .imap_mbsync import Mbsync
from .imap_offlineimap import OfflineImap
from .imap_server import SENDER, Person, PosthouseImap, done, subject_of
from .letters import field, letter

pytestmark = pytest.mark.interop


class Drill:
    """A house, somebody in it, and the way back to an older state."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.person = Person(PosthouseImap(house))
        self._archive = house.folder.with_name(house.folder.name + "-backups")

    def receive(self, *subjects: str) -> None:
        self.person.deliver(*(letter(subject, SENDER, self.person.login) for subject in subjects))

    def back_up(self) -> None:
        self.house.command("backup", str(self._archive))

    def lose_everything_since_the_backup(self) -> None:
        self.house.kill()
        self.house.command("restore", str(self._archive), "--replace")
        self.house.start()

    def uid_validity(self, mailbox: str = "INBOX") -> int:
        with self.person.imap() as imap:
            done(imap.select(mailbox, readonly=True))
            return int(imap.response("UIDVALIDITY")[1][0])


@pytest.fixture
def drill(base: Path, request: pytest.FixtureRequest) -> Iterator[Drill]:
    # A short name: the path of a control socket has at most 107 octets.
    house = House(base / f"imap{zlib.crc32(request.node.name.encode()) % 10_000}")
    house.start()
    yield Drill(house)
    house.stop()
    print(house.log.read_text("utf-8", "replace")[-8000:])  # noqa: T201


def subjects(letters: list[bytes]) -> list[str]:
    return sorted(map(subject_of, letters))


def test_nothing_was_lost(drill: Drill, tmp_path: Path) -> None:
    """The backup is as new as the mailbox: mbsync sees that the letters are the same ones, and goes on as before."""
    person, mbsync = drill.person, Mbsync(tmp_path / "mbsync", drill.person)
    drill.receive("A", "B", "C")
    person.store("B", "+FLAGS", "\\Flagged")
    mbsync.sync()
    drill.back_up()
    before, files = drill.uid_validity(), mbsync.files()

    drill.lose_everything_since_the_backup()
    assert drill.uid_validity() > before
    assert "Recovered from change of UIDVALIDITY" in mbsync.sync()
    assert mbsync.files() == files, "not one was touched"
    drill.receive("D")
    mbsync.mark("A", "S")
    mbsync.sync()
    assert subjects(mbsync.letters()) == sorted(person.subjects()) == ["A", "B", "C", "D"]
    assert person.flags("A") == {"\\Seen"}
    assert person.flags("B") == mbsync.flags()["B"] == {"\\Flagged"}


def test_mbsync(drill: Drill, tmp_path: Path) -> None:
    """It sees that a UID is another letter's now, and leaves that mailbox alone."""
    person, mbsync = drill.person, Mbsync(tmp_path / "mbsync", drill.person)
    drill.receive("A", "B", "C")
    mbsync.sync()
    drill.back_up()
    drill.receive("D", "E")
    mbsync.mark("A", "FS")
    mbsync.put("1.near.here", letter("F", person.login, SENDER))
    mbsync.sync()
    assert subjects(mbsync.letters()) == sorted(person.subjects()) == ["A", "B", "C", "D", "E", "F"]

    drill.lose_everything_since_the_backup()
    drill.receive("G")
    assert "INBOX: UIDVALIDITY genuinely changed" in mbsync.sync(codes=(1,))
    assert subjects(mbsync.letters()) == ["A", "B", "C", "D", "E", "F"], "none that it has is lost or doubled"
    assert person.subjects() == ["A", "B", "C", "G"]

    # It goes on when it starts that mailbox over, and gives the house back what only it has.
    kept = mbsync.start_over()
    mbsync.sync()
    assert subjects(mbsync.letters()) == ["A", "B", "C", "G"]
    there = set(map(field_of_id, mbsync.letters()))
    lost = [octets for octets in kept if field_of_id(octets) not in there]
    for number, octets in enumerate(lost):
        mbsync.put(f"{number}.kept.here", octets)
    mbsync.sync()
    assert subjects(mbsync.letters()) == sorted(person.subjects()) == ["A", "B", "C", "D", "E", "F", "G"]


def field_of_id(octets: bytes) -> str:
    return field(octets, "Message-ID")


def test_offlineimap(drill: Drill, tmp_path: Path) -> None:
    person, client = drill.person, OfflineImap(tmp_path / "offlineimap", drill.person)
    drill.receive("A", "B", "C")
    client.sync()
    drill.back_up()
    drill.receive("D", "E")
    client.sync()

    drill.lose_everything_since_the_backup()
    drill.receive("G")
    assert "UID validity problem for folder INBOX" in client.sync(codes=(2,))
    assert person.subjects() == ["A", "B", "C", "G"], "the server's are unharmed"
    # It says that it skips the mailbox, and Debian's version goes on all the same: its user starts over.
    client = OfflineImap(tmp_path / "again", drill.person)
    client.sync()
    assert subjects(client.letters()) == person.subjects() == ["A", "B", "C", "G"]


def test_fetchmail(drill: Drill, tmp_path: Path) -> None:
    """It goes by \\Seen, which the backup has."""
    person, fetchmail = drill.person, FetchmailImap(tmp_path / "fetchmail", drill.person)
    drill.receive("A", "B")
    assert subjects(fetchmail.fetch()) == ["A", "B"]
    drill.receive("C")
    drill.back_up()
    drill.receive("D")
    assert subjects(fetchmail.fetch()) == ["C", "D"]

    drill.lose_everything_since_the_backup()
    drill.receive("E")
    # C was not read yet when the backup was made.
    assert subjects(fetchmail.fetch()) == ["C", "E"]
    assert fetchmail.fetch() == []
    assert person.subjects() == ["A", "B", "C", "E"]
