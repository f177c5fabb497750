# SPDX-License-Identifier: Apache-2.0
"""check --store, --repair, rebuild on the command line: words, JSON, exit codes; and the manual's own examples."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from typer.testing import CliRunner

from posthouse.__main__ import Program
from posthouse.edges.cli.application import app
from posthouse.net.lock import DirectoryLock
from tests.store.drill import flip

from .conftest import ADMIN, Line

ROOT = Path(__file__).parents[2]
SECTION = re.compile(
    r"^## \d+\. When the disk lied: check, repair, rebuild\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE
)
LETTER = (
    "From: Bob <bob@bob.test>\r\nTo: alice@alice.test\r\nSubject: the plan\r\nMessage-ID: <1@bob.test>\r\n\r\n"
    "As said.\r\n"
)


@pytest.fixture(autouse=True)
def no_log() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
def mail(line: Line, tmp_path: Path) -> Line:
    """A house with one letter."""
    file = tmp_path / "letter.eml"
    file.write_bytes(LETTER.encode())
    line.done("import", "eml", ADMIN, str(file))
    return line


def hurt(line: Line) -> None:
    for path in (line.folder / "packs").glob("*.pack"):
        place = path.read_bytes().find(b"As said.")
        if place >= 0:
            flip(path, place)


def lose(line: Line) -> None:
    for path in line.folder.glob("posthouse.sqlite3*"):
        path.unlink()


def read(line: Line, tmp_path: Path, name: str = "out") -> bytes:
    line.done("export", "eml", ADMIN, str(tmp_path / name))
    [file] = (tmp_path / name / "INBOX").iterdir()
    return file.read_bytes()


def store(result: Any) -> list[Any]:
    return [each for each in json.loads(result.stdout)["findings"] if each["area"] == "store"]


def test_a_hurt_letter_is_told_with_what_to_do_and_exit_1(mail: Line) -> None:
    assert "every reference and every octet" in mail.run("check", "--store").stdout
    hurt(mail)
    result = mail.run("check", "--store")
    assert result.exit_code == 1
    told = " ".join(result.stdout.split())
    assert f'{ADMIN}, INBOX, UID 1: "the plan" from Bob <bob@bob.test> (Message-ID <1@bob.test>) is damaged' in told
    assert "-> `posthouse check --store --repair --from BACKUP` takes it from a backup" in told
    [finding] = store(mail.run("check", "--store", "--json"))
    assert finding["letter"]["owner"] == ADMIN
    assert (finding["letter"]["uid"], finding["letter"]["subject"]) == (1, "the plan")


def test_export_goes_on_past_a_hurt_letter_and_exits_1(mail: Line, tmp_path: Path) -> None:
    """An administrator who saves what is left gets all of it."""
    other = tmp_path / "other.eml"
    other.write_bytes(LETTER.replace("the plan", "another").replace("As said", "Not so").encode())
    mail.done("import", "eml", ADMIN, str(other))
    hurt(mail)
    result = mail.run("export", "eml", ADMIN, str(tmp_path / "out"))
    assert result.exit_code == 1
    assert "is damaged" in result.stderr
    assert [b"another" in file.read_bytes() for file in (tmp_path / "out" / "INBOX").iterdir()] == [True]


def test_repair_takes_the_letter_from_a_backup(mail: Line, tmp_path: Path) -> None:
    mail.done("backup", str(tmp_path / "backups"))
    hurt(mail)
    result = mail.run("check", "--store", "--repair", "--from", str(tmp_path / "backups"), "--json")
    document = json.loads(result.stdout)
    assert (document["mended"], [each["level"] for each in store(result)]) == (1, ["mended"])
    assert read(mail, tmp_path) == LETTER.encode()
    again = mail.run("check", "--store", "--repair")
    assert "0 mended" not in again.stdout


def test_options_that_mean_nothing_alone_are_usage(mail: Line, tmp_path: Path) -> None:
    assert mail.run("check", "--repair").exit_code == 2
    assert mail.run("check", "--store", "--from", str(tmp_path)).exit_code == 2
    assert mail.run("check", "--store", "--repair", "--from", str(tmp_path / "none")).exit_code == 2
    assert "holds no packs" in mail.run("check", "--store", "--repair", "--from", str(tmp_path)).stderr


def test_a_lost_database_is_refused_with_the_command_that_makes_it_anew(mail: Line, tmp_path: Path) -> None:
    lose(mail)
    assert "`posthouse rebuild` makes it anew" in mail.refused("account", "list")
    asked = mail.run("rebuild", stdin="n\n")
    assert asked.exit_code == 1
    assert "There is no sound snapshot" in asked.stdout
    assert "nothing was changed" in asked.stderr
    assert "--yes" in mail.run("rebuild", "--json").stderr
    said = mail.done("rebuild", "--yes")
    assert "Brought back: 1 letter in mailboxes, 0 letters in the queue" in said
    assert "Passwords, aliases, catch-alls" in said
    [row] = mail.told("account", "list")
    assert row["name"].startswith("recovered-")  # an imported letter names nobody
    assert row["name"].endswith("@mail.alice.test")
    mail.done("export", "eml", row["name"], str(tmp_path / "out"))
    [file] = (tmp_path / "out" / "INBOX").iterdir()
    assert file.read_bytes() == LETTER.encode()
    assert {each["level"] for each in store(mail.run("check", "--store", "--json"))} == {"ok"}
    assert mail.told("dns", "mail.alice.test")["records"]


def test_a_rebuild_from_a_snapshot_keeps_passwords_and_tells_what_is_unknown(mail: Line, tmp_path: Path) -> None:
    mail.done("backup", str(tmp_path / "backups"))
    [copy] = (tmp_path / "backups" / "databases").glob("*.sqlite3")
    (mail.folder / "snapshots").mkdir(exist_ok=True)
    (mail.folder / "snapshots" / "020000.sqlite3").write_bytes(copy.read_bytes())
    second = tmp_path / "second.eml"
    second.write_bytes(LETTER.replace("the plan", "a second").encode())
    mail.done("import", "eml", ADMIN, str(second))
    (mail.folder / "posthouse.sqlite3").write_bytes(b"no database any more" * 300)
    for suffix in ("-wal", "-shm"):
        (mail.folder / f"posthouse.sqlite3{suffix}").unlink(missing_ok=True)
    assert "is damaged" in mail.refused("account", "list")
    document = mail.told("rebuild", "--yes")
    assert (document["snapshot"], document["letters"], document["held"]) == ("020000.sqlite3", 1, 0)
    assert any("letters deleted since are back" in text for text in document["unknown"])
    assert any("as they were" in text for text in document["unknown"])
    assert (Path(document["put_aside"]) / "posthouse.sqlite3").read_bytes().startswith(b"no database")
    assert document["new_keys"] == []
    mail.done("export", "eml", ADMIN, str(tmp_path / "out"))
    found = sorted(file.read_bytes() for file in (tmp_path / "out" / "INBOX").iterdir())
    assert found == sorted([LETTER.encode(), second.read_bytes()])


def test_a_rebuild_needs_the_directory_for_itself_and_something_to_build_from(mail: Line, tmp_path: Path) -> None:
    lock = DirectoryLock(mail.folder)
    try:
        assert "is in use" in mail.refused("rebuild", "--yes")
    finally:
        lock.release()
    for path in (mail.folder / "packs").iterdir():
        path.unlink()
    assert "nothing to build from" in mail.refused("rebuild", "--yes")


def test_a_sound_database_is_said_to_be_sound_before_anything_is_done(mail: Line) -> None:
    before = (mail.folder / "posthouse.sqlite3").read_bytes()
    asked = mail.run("rebuild", stdin="n\n")
    assert "sound. A rebuild would only forget things" in asked.stdout
    assert (mail.folder / "posthouse.sqlite3").read_bytes() == before
    assert {each["level"] for each in store(mail.run("check", "--store", "--json"))} == {"ok"}


def commands() -> list[str]:
    section = SECTION.search((ROOT / "docs" / "running.md").read_text("utf-8"))
    assert section is not None
    blocks = re.findall(r"```sh\n(.*?)```", section[1], re.DOTALL)
    return [text for block in blocks for text in block.splitlines() if text.startswith("posthouse ")]


def test_the_commands_of_the_manual_do_what_it_says(mail: Line, tmp_path: Path) -> None:
    """In their order: look, repair, repair from a backup, then the database is lost, rebuild, look, the queue."""
    mail.done("backup", str(tmp_path / "backups"))
    hurt(mail)
    found = commands()
    assert len(found) == 7
    codes = []
    for command in found:
        if command.startswith("posthouse rebuild"):
            lose(mail)
            command = command.partition("#")[0] + " --yes"  # noqa: PLW2901 - nobody is there to be asked
        words = [
            str(tmp_path / "backups") if word.startswith("/var/") else word
            for word in shlex.split(command, comments=True)
        ]
        result = CliRunner().invoke(app, words[1:], obj=Program(), env={"POSTHOUSE_DATA": str(mail.folder)})
        if words[1] == "check":
            codes.append({each["level"] for each in store(mail.run(*words[1:], "--json"))})
        else:
            assert result.exit_code == 0, (command, result.stderr)
    # Hurt; no copy; then the letter is whole again, and its old place is a warning, also after the rebuild.
    assert codes == [{"error"}, {"error"}, {"warning"}, {"warning"}]
