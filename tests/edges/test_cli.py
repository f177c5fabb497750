# SPDX-License-Identifier: Apache-2.0
"""The command line on a data directory without a server: what it prints, its JSON, its exit codes, passwords."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import stat
import sys
from pathlib import Path

import pytest
import typer

from posthouse.__main__ import Program
from posthouse.config import load
from posthouse.edges.cli import asking
from posthouse.edges.cli.application import app
from posthouse.edges.cli.backend import Stop

from .conftest import ADMIN, Line


def test_every_command_takes_data_and_json() -> None:
    """Scripts rely on it; the two that work on no data directory take --json alone."""

    def commands(command: object, name: str) -> list[tuple[str, set[str]]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            return [(name, {option for each in command.params for option in each.opts})]  # type: ignore[attr-defined]
        return [found for word, each in inner.items() for found in commands(each, f"{name} {word}".strip())]

    for name, options in commands(typer.main.get_command(app), ""):
        assert "--json" in options, name
        assert "--data" in options or name in ("demo", "sim"), name


def test_domains(line: Line) -> None:
    assert "posthouse dns bob.test" in line.done("domain", "add", "bob.test")
    line.done("domain", "add", "b.test", "--alias-of", "bob.test")
    line.done("domain", "catch-all", "bob.test", ADMIN)
    assert [row["name"] for row in line.told("domain", "list")] == ["alice.test", "b.test", "bob.test"]
    rows = [row.split() for row in line.done("domain", "list").splitlines()]
    assert rows[3][:4] == ["b.test", "bob.test", "0", "0"]
    assert rows[4][:2] == ["bob.test", ADMIN]
    assert "1 domain aliases" in line.refused("domain", "remove", "bob.test")
    line.done("domain", "remove", "b.test")
    line.done("domain", "remove", "bob.test")


def test_dns_is_a_zone_file_or_records(line: Line) -> None:
    zone = line.done("dns", "alice.test")
    assert "alice.test. 3600 IN MX 10 mail.alice.test.\n" in zone
    assert all(part.startswith(";") or " 3600 IN " in part for part in zone.splitlines())
    assert {record["kind"] for record in line.told("dns", "alice.test")["records"]} >= {"MX", "TXT"}


def test_keys_take_turns(line: Line) -> None:
    first = [row["selector"] for row in line.told("domain", "keys", "list", "alice.test")]
    made = line.done("domain", "keys", "rotate", "alice.test")
    assert made.count(" 3600 IN TXT ") == 2
    zone = line.done("dns", "alice.test")
    assert [each for each in made.splitlines() if " IN TXT " in each and each not in zone] == []
    assert "wait for their records" in line.refused("domain", "keys", "rotate", "alice.test")
    rows = line.told("domain", "keys", "list", "alice.test")
    assert [row["state"] for row in rows] == ["active", "active", "published", "published"]
    assert all(row["zone_line"].startswith(f"{row['record_name']}. 3600 IN TXT ") for row in rows)
    assert "private" not in json.dumps(rows)
    assert "signs letters" in line.refused("domain", "keys", "remove", "alice.test", first[0])
    assert "are signed with" in line.done("domain", "keys", "activate", "alice.test", "--unseen")
    shown = [row.split()[:3] for row in line.done("domain", "keys", "list", "alice.test").splitlines()[2:]]
    assert [row[2] for row in shown] == ["retired;", "retired;", "signs", "signs"]
    line.done("domain", "keys", "remove", "alice.test", first[0])
    assert "no key with the selector" in line.refused("domain", "keys", "remove", "alice.test", first[0])
    assert len(line.told("domain", "keys", "list", "ALICE.test")) == 3
    assert "not served here" in line.refused("domain", "keys", "list", "nobody.test")
    assert "has a character" in line.refused("domain", "keys", "list", "a b")


def test_accounts(line: Line) -> None:
    line.done("account", "add", "bob@alice.test", "--password-stdin", "--quota", "5G", stdin="secret\n")
    line.done("account", "address", "add", "bob@alice.test", "robert@alice.test")
    line.done("account", "change", "bob@alice.test", "--language", "zh", "--admin")
    line.done("account", "disable", "bob@alice.test")
    rows = {row["name"]: row for row in line.told("account", "list", "alice.test")}
    bob = rows["bob@alice.test"]
    assert (bob["quota"], bob["language"], bob["is_admin"], bob["is_active"]) == (5 << 30, "zh", True, False)
    row = line.done("account", "list").splitlines()[3].split()
    assert row == ["bob@alice.test", "disabled", "0", "0", "B", "5.0", "GiB", "admin", "robert@alice.test"]
    line.done("account", "change", "bob@alice.test", "--quota", "none", "--no-admin")
    line.done("account", "enable", "bob@alice.test")
    assert line.told("account", "list")[1]["quota"] is None
    line.done("account", "address", "remove", "bob@alice.test", "robert@alice.test")
    line.done("account", "remove", "bob@alice.test")
    assert len(line.told("account", "list")) == 1


def test_aliases(line: Line) -> None:
    line.done("alias", "add", "info@alice.test", ADMIN, "x@bob.test")
    assert "info@alice.test   alice@alice.test, x@bob.test" in line.done("alias", "list")
    line.done("alias", "remove", "info@alice.test", "x@bob.test")
    assert line.told("alias", "list", "alice.test") == [{"address": "info@alice.test", "targets": [ADMIN]}]
    line.done("alias", "remove", "info@alice.test")
    assert line.done("alias", "list") == "There are no aliases.\n"


def test_shares(line: Line) -> None:
    line.done("account", "add", "carol@alice.test", "--password-stdin", stdin="secret\n")
    assert line.done("share", "list", ADMIN) == "Nothing is shared.\n"
    said = line.done("share", "add", ADMIN, "Work/Plans", "carol@alice.test", "--may", "write", "--create")
    assert said == "carol@alice.test may write Work/Plans.\n"
    line.done("share", "add", ADMIN, "INBOX", "anyone", "--rights", "lrp", "--create")
    assert line.told("share", "list", ADMIN) == [
        {"mailbox": "INBOX", "person": "anyone", "rights": "lrp", "may": ""},
        {"mailbox": "Work/Plans", "person": "carol@alice.test", "rights": "lrswite", "may": "write"},
    ]
    line.done("share", "add", ADMIN, "Work/Plans", "carol@alice.test")
    assert "Work/Plans   carol@alice.test   read" in line.done("share", "list", ADMIN)
    line.done("share", "remove", ADMIN, "Work/Plans", "carol@alice.test")
    line.done("share", "remove", ADMIN, "INBOX", "anyone")
    assert line.told("share", "list", ADMIN) == []


def test_what_cannot_be_shared(line: Line) -> None:
    assert "there is no account x@alice.test" in line.refused("share", "list", "x@alice.test")
    assert "there is no such mailbox" in line.refused("share", "add", ADMIN, "Nothing", "anyone")
    assert "there is no such person here" in line.refused("share", "add", ADMIN, "INBOX", "x@elsewhere.test")
    assert "there is no such right" in line.refused("share", "add", ADMIN, "INBOX", "anyone", "--rights", "z")
    assert "the owner of a mailbox has every right" in line.refused("share", "add", ADMIN, "INBOX", ADMIN)
    assert "%" in line.refused("share", "add", ADMIN, "50%", "anyone", "--create")


def test_app_passwords(line: Line) -> None:
    made = line.told("account", "app-password", "add", ADMIN, "phone", "--scope", "pop3", "--scope", "smtp")
    listed = line.done("account", "app-password", "list", ADMIN)
    assert made["id"] in listed
    assert made["password"] not in listed
    line.done("account", "app-password", "revoke", ADMIN, made["id"])
    assert line.told("account", "app-password", "list", ADMIN) == []


def test_the_queue_when_nothing_waits(line: Line) -> None:
    assert line.done("queue", "list") == "No letter waits.\n"
    assert line.told("queue", "list") == []
    assert "no such letter" in line.refused("queue", "show", "5")
    for action in ("retry", "hold", "release", "drop"):
        assert "matches bob.test" in line.refused("queue", action, "bob.test")
        assert line.told("queue", action, "--all") == {"changed": 0, "busy": 0}
        assert line.run("queue", action).exit_code == 2, "the whole queue is never meant by accident"
    assert "nothing is known of x@bob.test" in line.refused("trace", "x@bob.test")


def test_check_tells_what_is_wrong_and_exits_1(line: Line) -> None:
    result = line.run("check", "alice.test", "--store", "--json")
    document = json.loads(result.stdout)
    assert document["errors"] == sum(each["level"] == "error" for each in document["findings"])
    assert result.exit_code == bool(document["errors"])
    assert "every reference and every octet" in line.run("check", "--store").stdout


# --- passwords ------------------------------------------------------------------------------------


def logs_in(line: Line, name: str, password: str) -> bool:
    """Whether the stored password is this one."""
    from posthouse.app import open_house
    from posthouse.composing.ground import real_machine
    from posthouse.outcome import Refusal
    from posthouse.ports import Peer

    async def main() -> bool:
        house = open_house(line.folder, load(line.folder), real_machine())
        try:
            await house.login.with_password(
                name, password, scope="pop3", peer=Peer("127.0.0.1", 1, "127.0.0.1", 2, "t")
            )
        except Refusal:
            return False
        finally:
            await house.close()
        return True

    return asyncio.run(main())


def test_a_password_is_the_first_line_of_standard_input(line: Line) -> None:
    line.done("account", "add", "bob@alice.test", "--password-stdin", stdin=" with blanks \nsecond line\n")
    assert logs_in(line, "bob@alice.test", " with blanks ")


@pytest.mark.slow
def test_a_password_that_nobody_gave_is_made_and_printed_once(line: Line) -> None:
    made = line.told("account", "add", "bob@alice.test")["password"]
    assert logs_in(line, "bob@alice.test", made)
    again = line.done("account", "password", "bob@alice.test").splitlines()[1].rpartition(" ")[2]
    assert again != made
    assert logs_in(line, "bob@alice.test", again)
    assert not logs_in(line, "bob@alice.test", made)


def test_a_password_given_is_not_printed(line: Line) -> None:
    printed = line.done("account", "add", "bob@alice.test", "--password-stdin", stdin="hush-hush\n")
    assert "hush" not in printed
    document = line.told("account", "password", "bob@alice.test", "--password-stdin", stdin="hush-again\n")
    assert document == {}


def test_no_password_is_taken_from_an_argument(line: Line) -> None:
    assert line.run("account", "add", "bob@alice.test", "--password", "secret").exit_code == 2
    assert line.run("account", "password", "bob@alice.test", "secret").exit_code == 2


def test_an_empty_standard_input_is_no_password(line: Line) -> None:
    result = line.run("account", "add", "bob@alice.test", "--password-stdin")
    assert result.exit_code == 2
    assert "standard input" in result.stderr


def test_a_prompt_on_a_terminal_asks_twice(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["one", "other", "same", "same", ""])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "prompt", lambda *_, **__: next(answers))
    with pytest.raises(typer.BadParameter, match="differ"):
        asking.read_password(line.backend, from_stdin=False)
    assert asking.read_password(line.backend, from_stdin=False) == ("same", False)
    made, is_made = asking.read_password(line.backend, from_stdin=False)
    assert is_made
    assert len(made) == 19


def test_another_servers_hash_is_taken(line: Line) -> None:
    stored = "{SHA}" + base64.b64encode(hashlib.sha1(b"secret").digest()).decode()
    words = ("--password-hash", "--password-stdin")
    line.done("account", "add", "bob@alice.test", *words, stdin=stored + "\n")
    assert logs_in(line, "bob@alice.test", "secret")
    assert "not known" in line.refused("account", "add", "c@alice.test", *words, stdin="x\n")
    assert line.run("account", "add", "d@alice.test", "--password-hash").exit_code == 2


# --- mistakes -------------------------------------------------------------------------------------


def test_usage_exits_2(line: Line) -> None:
    for words in (
        ["nonsense"],
        ["domain", "add"],
        ["account", "add", "x@alice.test", "--quota", "big"],
        ["account", "add", "x@alice.test", "--language", "fr"],
        ["account", "change", ADMIN],
        ["queue", "drop"],
        ["queue", "drop", "bob.test", "--all"],
        ["queue", "show", "x"],
        ["import", "pop3", ADMIN, "host:port", "--user", "x", "--password-stdin"],
        ["import", "pop3", ADMIN, "host", "--user", "x", "--tls", "maybe", "--password-stdin"],
        ["import", "pop3", ADMIN, "host", "--user", "x"],
        ["import", "mbox", ADMIN, "/nowhere/at/all"],
    ):
        result = line.run(*words)
        assert result.exit_code == 2, words
        assert result.stdout == ""
        assert result.stderr.startswith("Usage: ")


def test_without_data_the_option_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    monkeypatch.delenv("POSTHOUSE_DATA", raising=False)
    result = CliRunner().invoke(app, ["domain", "list"], obj=Program())
    assert result.exit_code == 2
    assert "--data" in result.stderr
    assert "POSTHOUSE_DATA" in result.stderr


def test_the_environment_names_the_data_directory(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    monkeypatch.setenv("POSTHOUSE_DATA", str(line.folder))
    assert CliRunner().invoke(app, ["domain", "list"], obj=line.backend).exit_code == 0


def test_a_refusal_is_one_json_document_too(line: Line) -> None:
    result = line.run("domain", "add", "alice.test", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"error": "the domain alice.test is already here", "status": "5.5.4"}
    assert result.stderr == "posthouse: the domain alice.test is already here\n"


def test_no_data_directory_says_how_to_make_one(tmp_path: Path) -> None:
    told = Line(tmp_path / "nowhere").refused("domain", "list")
    assert str(tmp_path / "nowhere") in told
    assert "posthouse init" in told


def test_mistakes_in_the_settings_name_file_key_and_reason(line: Line) -> None:
    path = line.folder / "posthouse.toml"
    path.write_text('hostname = "mail.alice.test"\n[queue]\nretry = ["soon"]\n[smtp]\nsped = 1\n')
    lines = line.refused("domain", "list").splitlines()
    assert lines[0].startswith(f"posthouse: {path}: smtp.sped: no such setting")
    assert lines[1].startswith(f"posthouse: {path}: queue.retry.0: write a duration")


def test_a_broken_database_is_a_refusal(line: Line) -> None:
    (line.folder / "posthouse.sqlite3").write_bytes(b"no database" * 100)
    assert "the store cannot be opened" in line.refused("domain", "list")


# --- init -----------------------------------------------------------------------------------------

HOUSE = ("--hostname", "mail.bob.test", "--domain", "bob.test", "--admin", "bob@bob.test")


@pytest.mark.slow
def test_init_makes_a_private_house_with_everything_in_it(tmp_path: Path) -> None:
    line = Line(tmp_path / "deep" / "house")
    made = line.told("init", *HOUSE)
    assert stat.S_IMODE(line.folder.stat().st_mode) == 0o700
    for name in ("posthouse.toml", "secrets.key", "posthouse.sqlite3"):
        assert stat.S_IMODE((line.folder / name).stat().st_mode) == 0o600
    assert not list(line.folder.glob(".init*"))
    assert load(line.folder).listen.smtp == ["*:25"]
    assert load(line.folder).listen.metrics == ["127.0.0.1:9325"]
    [account] = line.told("account", "list")
    assert (account["name"], account["is_admin"]) == ("bob@bob.test", True)
    assert sum("_domainkey" in each["name"] for each in line.told("dns", "bob.test")["records"]) == 2
    assert logs_in(line, "bob@bob.test", made["password"])
    assert "is a data directory already" in line.refused("init", *HOUSE)


def test_init_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    line = Line(tmp_path / "deep" / "house")
    wrong = ("--hostname", "mail.bob.test", "--domain", "bob.test", "--admin", "bob@carl.test")
    assert "--admin bob@carl.test" in line.refused("init", *wrong)
    wrong = ("--hostname", "a b", "--domain", "bob.test", "--admin", "bob@bob.test")
    assert "hostname" in line.refused("init", *wrong)
    assert list(tmp_path.iterdir()) == []


def test_init_that_fails_late_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from posthouse.services.administration import Administration

    async def broken(*_: object, **__: object) -> int:
        raise Stop("the disk is gone")

    monkeypatch.setattr(Administration, "add_account", broken)
    monkeypatch.setattr(Administration, "add_domain", broken)
    there = tmp_path / "house"
    there.mkdir()
    (there / "lost+found").mkdir()
    assert "the disk is gone" in Line(there).refused("init", *HOUSE)
    assert sorted(each.name for each in there.iterdir()) == ["lock", "lost+found"]


def test_init_touches_no_store_whose_settings_are_lost(line: Line) -> None:
    (line.folder / "posthouse.toml").rename(line.folder / "kept.toml")
    before = (line.folder / "posthouse.sqlite3").read_bytes()
    assert "posthouse.sqlite3" in line.refused("init", *HOUSE)
    assert (line.folder / "posthouse.sqlite3").read_bytes() == before
