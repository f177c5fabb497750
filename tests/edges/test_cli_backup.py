# SPDX-License-Identifier: Apache-2.0
"""posthouse backup and restore on the command line: what they say, what they refuse, what they leave alone."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from typer.testing import CliRunner

from posthouse.__main__ import Program
from posthouse.config import load
from posthouse.edges.cli.application import app
from posthouse.net.lock import DirectoryLock
from posthouse.services.archive import Archive
from tests.store.machine import FaultyDisk

from .conftest import ADMIN, Line


@pytest.fixture(autouse=True)
def no_log() -> Iterator[None]:
    """A command has set its log up to tell warnings only; this process has not (see conftest.quiet)."""
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "backups"


def plain(*words: str | Path) -> Any:
    """A command without --data."""
    result = CliRunner().invoke(app, [str(word) for word in words], obj=Program())
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def restore(target: Path, folder: Path, *more: str) -> Any:
    return plain("restore", target, "--data", folder, *more)


def test_there_and_back(line: Line, target: Path, tmp_path: Path) -> None:
    letter = tmp_path / "a.eml"
    letter.write_bytes(b"From: a@b.test\r\nSubject: kept\r\n\r\nhello\r\n")
    line.done("import", "eml", ADMIN, str(letter))
    said = line.done("backup", str(target))
    assert "1 letter of 1 account" in said
    assert "1 backup kept." in said
    listed = json.loads(plain("backup", target, "--list", "--json").stdout)
    assert [(each["letters"], each["hostname"]) for each in listed] == [(1, "mail.alice.test")]
    assert listed[0]["generation"] in plain("backup", target, "--list").stdout
    assert "whole" in plain("backup", target, "--verify").stdout
    new = tmp_path / "new"
    said = restore(target, new).stdout
    assert f"{new} is mail.alice.test as of" in said
    assert f"Next: posthouse serve --data {new}" in said
    for name in ("posthouse.toml", "secrets.key"):
        assert (new / name).read_bytes() == (line.folder / name).read_bytes()
        assert (new / name).stat().st_mode & 0o777 == 0o600
    again = Line(new)
    assert again.told("account", "list")[0]["used_letters"] == 1
    findings = json.loads(again.run("check", "--store", "--json").stdout)["findings"]
    assert {each["level"] for each in findings if each["area"] == "store"} == {"ok"}
    out = tmp_path / "out"
    again.done("export", "eml", ADMIN, str(out))
    exported = next(out.rglob("*.eml")).read_bytes()
    assert exported.endswith(letter.read_bytes())


def test_the_settings_say_how_many_are_kept(line: Line, target: Path) -> None:
    text = (line.folder / "posthouse.toml").read_text()
    (line.folder / "posthouse.toml").write_text(text.replace("# backups_kept = 7", "backups_kept = 2"))
    assert load(line.folder).store.backups_kept == 2
    told = [line.told("backup", str(target)) for _ in range(3)]
    assert told[-1]["forgotten"] == [told[0]["generation"]]
    assert line.told("backup", str(target), "--keep", "5")["kept"] == 3


@pytest.mark.parametrize("where", [".", "in/side"])
def test_a_place_within_the_house_is_refused(line: Line, where: str) -> None:
    assert "lies in the data directory" in line.refused("backup", str(line.folder / where))


def test_a_folder_with_other_things_is_refused(line: Line, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    assert "photo.jpg" in line.refused("backup", str(tmp_path))
    assert "and no backups; name an empty or a new directory" in line.refused("backup", str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["house", "photo.jpg"]


def test_two_backups_at_once_into_one_folder(line: Line, target: Path) -> None:
    line.done("backup", str(target))
    lock = DirectoryLock(target)
    assert "in use by process" in line.refused("backup", str(target))
    assert "in use by process" in plain("backup", target, "--verify").stderr
    lock.release()


def test_nothing_there(line: Line, target: Path, tmp_path: Path) -> None:
    for words in (("--list",), ("--verify",)):
        result = plain("backup", target, *words)
        assert (result.exit_code, result.stderr) == (1, f"posthouse: {target}: no backups there\n")
    assert "no backups there" in restore(target, tmp_path / "new").stderr
    assert not (tmp_path / "new").exists()
    line.done("backup", str(target))
    result = restore(target, tmp_path / "new", "--generation", "yesterday")
    assert "no generation yesterday; there are 2" in result.stderr
    for manifest in (target / "manifests").iterdir():
        manifest.unlink()
    assert "holds no whole backup" in restore(target, tmp_path / "new").stderr


def test_a_damaged_manifest_is_named_by_the_list(line: Line, target: Path) -> None:
    """It was left out without a word."""
    line.done("backup", str(target))
    (manifest,) = (target / "manifests").iterdir()
    manifest.write_bytes(manifest.read_bytes()[:-10])
    result = plain("backup", target, "--list")
    assert "There are no backups." in result.stdout
    assert manifest.stem.split(".")[0] in result.stderr
    assert "damaged" in result.stderr


def test_the_folder_of_backups_is_not_restored_upon_itself(line: Line, target: Path) -> None:
    """It was said to be in use, by the command itself."""
    line.done("backup", str(target))
    for more in ((), ("--replace",)):
        assert "is the folder of backups itself" in restore(target, target, *more).stderr


@pytest.mark.parametrize("words", [("--list", "--verify"), ("--generation", "x"), ()])
def test_what_is_no_command(target: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTHOUSE_DATA", raising=False)
    assert plain("backup", target, *words).exit_code == 2


def test_a_directory_in_use_or_not_empty_is_left_alone(line: Line, target: Path, tmp_path: Path) -> None:
    line.done("backup", str(target))
    before = {path: path.stat().st_mtime_ns for path in sorted(line.folder.rglob("*")) if path.name != "lock"}
    result = restore(target, line.folder)
    assert result.exit_code == 1
    assert "name a new directory, or put all of it aside with --replace" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    lock = DirectoryLock(line.folder)
    assert "in use by process" in restore(target, line.folder, "--replace").stderr
    lock.release()
    document = json.loads(restore(target, line.folder, "--replace", "--json").stdout)
    aside = Path(document["put_aside"])
    assert (aside / "secrets.key").exists()
    assert line.told("account", "list")[0]["name"] == ADMIN


def test_what_a_killed_restore_left_is_cleared_away(line: Line, target: Path, tmp_path: Path) -> None:
    line.done("backup", str(target))
    new = tmp_path / "new"
    (new / ".restore-1234" / "packs").mkdir(parents=True)
    assert restore(target, new).exit_code == 0
    assert not list(new.glob(".restore-*"))


def test_a_damaged_backup_is_told_and_not_restored(line: Line, target: Path, tmp_path: Path) -> None:
    told = line.told("backup", str(target))
    database = target / "databases" / f"{told['generation']}.sqlite3"
    octets = bytearray(database.read_bytes())
    octets[5000] ^= 1
    database.write_bytes(octets)
    result = plain("backup", target, "--verify", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)[0]["is_whole"] is False
    assert "its octets have changed" in result.stderr
    result = restore(target, tmp_path / "new")
    assert "use another generation" in result.stderr
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["lock"]


def test_a_faithful_copy_of_a_hurt_house_is_not_said_to_be_more(line: Line, target: Path, tmp_path: Path) -> None:
    """Every octet is as it was, and a letter in it is damaged all the same: who chooses a generation must see it."""
    letter = tmp_path / "a.eml"
    letter.write_bytes(b"From: a@b.test\r\nSubject: kept\r\n\r\nhello\r\n")
    line.done("import", "eml", ADMIN, str(letter))
    [pack] = (line.folder / "packs").glob("*.pack")
    octets = bytearray(pack.read_bytes())
    octets[-3] ^= 1
    pack.write_bytes(octets)
    result = line.run("backup", str(target))
    assert result.exit_code == 1
    assert "in the house: pack" in result.stderr
    assert "1 fault" in plain("backup", target, "--list").stdout
    result = plain("backup", target, "--verify")
    assert result.exit_code == 0
    assert "whole, of a house with 1 fault" in result.stdout
    assert "when it was made: pack" in result.stderr
    [verdict] = json.loads(plain("backup", target, "--verify", "--json").stdout)
    assert verdict["is_whole"]
    assert "the content is damaged" in verdict["findings"][0]


def test_a_folder_that_lost_its_marker_can_be_restored(line: Line, target: Path, tmp_path: Path) -> None:
    line.done("backup", str(target))
    (target / "posthouse-backup.txt").unlink()
    assert "whole" in plain("backup", target, "--verify").stdout
    assert restore(target, tmp_path / "new").exit_code == 0
    assert line.told("backup", str(target))["kept"] == 2


def test_a_clock_before_the_backup_is_refused(
    line: Line, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids follow the clock: letters to come would get unique-ids that clients have seen on letters now lost."""
    line.done("backup", str(target))
    past = time.time() - 7200
    monkeypatch.setattr("posthouse.net.clock.time.time", lambda: past)
    assert "which is before the backup" in restore(target, tmp_path / "new").stderr


def test_files_outside_of_the_house_are_kept_and_told(line: Line, target: Path, tmp_path: Path) -> None:
    """Certificates and passwords that posthouse.toml names elsewhere: they come along, and replace nothing."""
    secret = tmp_path / "smarthost.password"
    secret.write_text("secret\n")
    text = (line.folder / "posthouse.toml").read_text()
    route = f'\n[routes."*"]\nhost = "relay.test:587"\nusername = "me"\npassword_file = "{secret}"\n'
    (line.folder / "posthouse.toml").write_text(text + route)
    line.done("backup", str(target))
    secret.unlink()
    new = tmp_path / "new"
    result = restore(target, new)
    copy = new / "outside" / "02-smarthost.password"
    assert f"names {secret}, which this machine does not have: {copy} is its copy" in result.stdout
    assert copy.read_text() == "secret\n"
    assert not secret.exists()


def test_files_that_the_settings_name_within_the_old_house_are_told(line: Line, target: Path, tmp_path: Path) -> None:
    """The new directory has another name: the file came along, but posthouse.toml looks for it where it was."""
    secret = line.folder / "smarthost.password"
    secret.write_text("secret\n")
    text = (line.folder / "posthouse.toml").read_text()
    route = f'\n[routes."*"]\nhost = "relay.test:587"\nusername = "me"\npassword_file = "{secret}"\n'
    (line.folder / "posthouse.toml").write_text(text + route)
    line.done("backup", str(target))
    line.folder.rename(tmp_path / "burnt")
    document = json.loads(restore(target, tmp_path / "new", "--json").stdout)
    assert document["missing"] == {str(secret): str(tmp_path / "new" / secret.name)}
    assert (tmp_path / "new" / secret.name).read_text() == "secret\n"


def test_a_full_disk_is_told_and_the_former_backup_stays(
    line: Line, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = line.told("backup", str(target))
    monkeypatch.setattr("posthouse.net.disk.PosixDisk.free_octets", lambda *_: 5_000)
    said = line.refused("backup", str(target))
    assert "octets are needed and 5,000 are free; make room, or keep fewer backups (--keep)" in said
    assert Archive(target, FaultyDisk()).generations() == [told["generation"]]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_restores_belongs_to_the_owner_of_the_directory(line: Line, target: Path, tmp_path: Path) -> None:
    line.done("backup", str(target))
    new = tmp_path / "new"
    new.mkdir()
    os.chown(new, 12345, 12345)
    assert restore(target, new).exit_code == 0
    assert {path.stat().st_uid for path in new.rglob("*")} == {12345}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_restored_settings_that_name_the_servers_user_stay_roots(line: Line, target: Path, tmp_path: Path) -> None:
    """Whoever took over the server's user could name root in them, and the next start would serve as root."""
    text = (line.folder / "posthouse.toml").read_text()
    (line.folder / "posthouse.toml").write_text(text.replace("[process]\n", '[process]\nuser = "nobody"\n'))
    (line.folder / "tls").mkdir(exist_ok=True)
    (line.folder / "tls" / "replaced-in-may.pem").touch()
    line.done("backup", str(target))
    new = tmp_path / "new"
    new.mkdir()
    os.chown(new, 12345, 12346)
    assert restore(target, new).exit_code == 0
    told = (new / "posthouse.toml").stat()
    assert (told.st_uid, told.st_gid, told.st_mode & 0o777) == (0, 12346, 0o640)
    assert {path.stat().st_uid for path in new.rglob("*") if path.name != "posthouse.toml"} == {12345}


def test_another_house_has_its_own_folder(line: Line, target: Path, tmp_path: Path) -> None:
    line.done("backup", str(target))
    (line.folder / "secrets.key").write_bytes(b"k" * 32)
    assert "holds backups of another house (mail.alice.test)" in line.refused("backup", str(target))
