# SPDX-License-Identifier: Apache-2.0
"""A house put back to an older state, seen by programs that remember what they fetched: they get every letter that
they have not seen, none twice, and above all none is skipped because its unique-id was once another letter's.

A client of another protocol joins by one more class in `CLIENTS`.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from .house import BOB, PASSWORD, House
from .letters import ATTACHMENT, letter
from .programs import require, run

pytestmark = pytest.mark.interop


class Client(Protocol):
    """A program on Bob's machine that leaves his letters on the server and remembers which it has."""

    program: str

    def __init__(self, folder: Path, house: House) -> None:
        """`folder` is empty, or holds what another one of its kind remembers."""

    def fetch(self) -> list[bytes]:
        """What it had not seen yet, oldest first, with lines as Unix has them."""


class Fetchmail:
    """POP3 with UIDL and an idfile."""

    program = "fetchmail"

    def __init__(self, folder: Path, house: House) -> None:
        self._folder = folder
        self._house = house

    def fetch(self) -> list[bytes]:
        box, config = self._folder / "box", self._folder / "fetchmailrc"
        shutil.rmtree(box, ignore_errors=True)
        box.mkdir()
        config.write_text(
            f'set idfile "{self._folder / "ids"}"\nset invisible\n'
            f"poll localhost service {self._house.ports['pop3s']} protocol pop3 uidl\n"
            f'  user "{BOB}" password "{PASSWORD}" ssl sslcertck sslcertfile "{self._house.certificate}"\n'
            f'  no rewrite pass8bits keep\n  mda "cat > {box}/$$"\n'
        )
        config.chmod(0o600)
        # 1: there was no new letter.
        run(["fetchmail", "--fetchmailrc", config, "-v"], env={"FETCHMAILHOME": str(self._folder)}, codes=(0, 1))
        return [path.read_bytes() for path in sorted(box.iterdir(), key=lambda path: path.stat().st_mtime_ns)]


class Mpop:
    """POP3 with a file of UIDLs, all commands pipelined."""

    program = "mpop"

    def __init__(self, folder: Path, house: House) -> None:
        self._folder = folder
        self._house = house

    def fetch(self) -> list[bytes]:
        box, config = self._folder / "box", self._folder / "mpoprc"
        shutil.rmtree(box, ignore_errors=True)
        for part in ("new", "cur", "tmp"):
            (box / part).mkdir(parents=True)
        config.write_text(
            f'account default\nhost localhost\nport {self._house.ports["pop3s"]}\nuser {BOB}\npassword "{PASSWORD}"\n'
            f"tls on\ntls_starttls off\ntls_trust_file {self._house.certificate}\nkeep on\nreceived_header off\n"
            f"delivery maildir {box}\nuidls_file {self._folder / 'uidls'}\n"
        )
        config.chmod(0o600)
        run(["mpop", "--file", config])
        found = [path.read_bytes() for path in (box / "new").iterdir()]
        return sorted(found, key=lambda octets: octets[octets.index(b"Subject:") :])


CLIENTS: tuple[type[Client], ...] = (Fetchmail, Mpop)


class Drill:
    """Bob's house, and every letter that it ever had by its name, as it lay in his mailbox."""

    def __init__(self, house: House, archive: Path) -> None:
        self.house = house
        self._archive = archive
        self.letters: dict[str, bytes] = {}

    def receive(self, *names: str) -> None:
        for name in names:
            octets = letter(name, "zoe@elsewhere.test", BOB, attachment=ATTACHMENT if name == "C" else 0)
            self.house.receive(octets, BOB)
            self.letters[name] = self.house.letters(BOB)[-1]

    def wanted(self, *names: str) -> list[bytes]:
        return [self.letters[name].replace(b"\r\n", b"\n") for name in names]

    def back_up(self) -> None:
        self.house.command("backup", str(self._archive))

    def lose_everything_since_the_backup(self) -> None:
        self.house.kill()
        self.house.command("restore", str(self._archive), "--replace")
        self.house.start()

    def unique_ids(self) -> list[str]:
        pop3 = self.house._log_in(BOB)
        try:
            return [line.split()[1].decode() for line in pop3.uidl()[1]]
        finally:
            pop3.quit()


@pytest.fixture
def drill(base: Path, request: pytest.FixtureRequest) -> Iterator[Drill]:
    # A short name: the path of a control socket has at most 107 octets.
    folder = base / f"drill{zlib.crc32(request.node.name.encode()) % 10_000}"
    house = House(folder)
    house.start()
    yield Drill(house, folder.with_name(folder.name + "-backups"))
    house.stop()


@pytest.mark.parametrize("kind", CLIENTS, ids=lambda kind: kind.program)
def test_clients_of_a_restored_house_see_the_right_letters(drill: Drill, tmp_path: Path, kind: type[Client]) -> None:
    require(kind.program)

    def client(name: str, like: str = "") -> Client:
        folder = tmp_path / name
        if like:
            shutil.copytree(tmp_path / like, folder)
        else:
            folder.mkdir()
        return kind(folder, drill.house)

    steady = client("steady")
    drill.receive("A", "B", "C")
    assert steady.fetch() == drill.wanted("A", "B", "C")
    assert steady.fetch() == []
    lazy = client("lazy", like="steady")  # another machine of Bob's, which will be off for a while
    drill.receive("D")
    drill.back_up()
    drill.receive("E", "F")
    assert steady.fetch() == drill.wanted("D", "E", "F")
    seen = drill.unique_ids()

    drill.lose_everything_since_the_backup()
    assert drill.unique_ids() == seen[:4], "unique-ids stay"
    assert steady.fetch() == [], "it has all of these"
    drill.receive("G", "H")
    assert not set(drill.unique_ids()[4:]) & set(seen), "no letter gets the unique-id of one that was lost"
    assert steady.fetch() == drill.wanted("G", "H")
    assert lazy.fetch() == drill.wanted("D", "G", "H")
    assert client("fresh").fetch() == drill.wanted("A", "B", "C", "D", "G", "H")
    assert [steady.fetch(), lazy.fetch()] == [[], []]


@pytest.mark.parametrize("kind", CLIENTS, ids=lambda kind: kind.program)
def test_restored_twice_from_one_backup(drill: Drill, tmp_path: Path, kind: type[Client]) -> None:
    """The letters of the first restored life are lost too; those of the second are new to everybody."""
    require(kind.program)
    (tmp_path / "client").mkdir()
    steady = kind(tmp_path / "client", drill.house)
    drill.receive("A")
    drill.back_up()
    lives: list[Callable[[], None]] = [lambda: drill.receive("B", "C"), lambda: drill.receive("D", "E")]
    assert steady.fetch() == drill.wanted("A")
    for live, names in zip(lives, ("BC", "DE"), strict=True):
        drill.lose_everything_since_the_backup()
        live()
        assert steady.fetch() == drill.wanted(*names)
    assert json.loads(drill.house.command("account", "list", "--json"))[1]["used_letters"] == 3
