# SPDX-License-Identifier: Apache-2.0
"""The program as a process: it starts or says everything that is wrong, is driven while it serves, drains, ends."""

from __future__ import annotations

import json
import os
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posthouse import config, config_file
from posthouse.edges.cli.process import TRIAL
from posthouse.net.privileges import Identity
from posthouse.running import hand_over

pytestmark = pytest.mark.slow

PATIENCE = 60  # seconds for a process on a busy machine
ROUNDS = 60  # questions, each a process that takes its time, until something must have happened
ADMIN = "alice@alice.test"
LISTENERS = ("smtp", "submission", "submissions", "pop3", "pop3s", "http", "https", "metrics")
LETTER = "From: bob@bob.test\r\nSubject: hello\r\nMessage-ID: <1@bob.test>\r\n\r\nhello\r\n"


class Program:
    """posthouse on one data directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server: subprocess.Popen[str] | None = None

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "posthouse", *words, "--data", str(self.folder)]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=PATIENCE)

    def done(self, *words: str, stdin: str = "") -> str:
        result = self.run(*words, stdin=stdin)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def told(self, *words: str, stdin: str = "") -> Any:
        return json.loads(self.done(*words, "--json", stdin=stdin))

    def start(self, *words: str) -> dict[str, Any]:
        """Start a server; what it tells when it is ready."""
        command = [sys.executable, "-m", "posthouse", *(words or ("serve",)), "--json", "--data", str(self.folder)]
        log = (self.folder.parent / "log").open("a")
        with log:
            self._server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self._server.stdout is not None
        lines = []
        for line in self._server.stdout:
            lines.append(line)
            if line == "}\n":
                break
        assert lines, self.log()
        told: dict[str, Any] = json.loads("".join(lines))
        return told

    def log(self) -> str:
        return (self.folder.parent / "log").read_text()

    def signal(self, number: int) -> None:
        assert self._server is not None
        self._server.send_signal(number)

    def ended(self) -> int:
        """Its exit code."""
        assert self._server is not None
        assert self._server.stdout is not None
        code = self._server.wait(PATIENCE)
        self._server.stdout.close()
        self._server = None
        return code

    def kill(self) -> None:
        if self._server is not None:
            self._server.kill()
            self.ended()

    def set(self, **table: Any) -> None:
        text = config_file.render({"hostname": "localhost", **table})
        (self.folder / config.FILE_NAME).write_text(text)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    made = Program(tmp_path / "house")
    yield made
    made.kill()


@pytest.fixture
def house(program: Program) -> Program:
    """With a house whose listeners take any free port."""
    names = ("--hostname", "localhost", "--domain", "alice.test", "--admin", ADMIN)
    program.done("init", *names, "--password-stdin", stdin="secret\n")
    program.set(listen={name: ["127.0.0.1:0"] for name in LISTENERS})
    return program


def test_a_data_directory_may_be_named_from_where_one_stands(
    house: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `init` itself tells it to go on: posthouse serve --data house."""
    monkeypatch.chdir(tmp_path)
    house.folder = Path("house")
    house.start()
    assert house.told("domain", "list")
    house.signal(signal.SIGTERM)
    assert house.ended() == 0
    assert not (house.folder / "control.sock").exists()


def port(told: dict[str, Any], name: str) -> int:
    return int(told["listens"][name][0].rpartition(":")[2])


def test_a_server_is_driven_while_it_serves(house: Program) -> None:
    told = house.start()
    assert told["hostname"] == "localhost"
    assert set(told["listens"]) == set(LISTENERS)

    # What is added is there at once.
    house.done("account", "add", "bob@alice.test", "--password-stdin", stdin="hush\n")
    with smtplib.SMTP("127.0.0.1", port(told, "smtp"), timeout=PATIENCE) as client:
        assert client.sendmail("carl@bob.test", ["bob@alice.test"], LETTER) == {}
    told_of = house.done("trace", "<1@bob.test>")
    assert "received from carl@bob.test" in told_of
    assert "delivered: bob@alice.test (here)" in told_of
    assert house.done("trace", "1@bob.test") == told_of
    [story] = house.told("trace", "bob@alice.test")
    assert story["recipients"][0]["state"] == "delivered"

    # Other mailboxes are read over TLS, or not at all.
    words = ["import", "pop3", ADMIN, f"localhost:{port(told, 'pop3s')}", "--user", "bob@alice.test"]
    refused = house.run(*words, "--password-stdin", stdin="hush\n")
    assert "certificate is not trusted" in refused.stderr
    assert house.told(*words, "--password-stdin", "--no-verify", stdin="hush\n")["imported"] == 1
    words = [*words[:3], f"localhost:{port(told, 'pop3')}", *words[4:], "--tls", "stls", "--no-verify"]
    assert house.told(*words, "--password-stdin", stdin="hush\n")["known"] == 1
    assert "refuses the login" in house.run(*words, "--password-stdin", stdin="wrong\n").stderr

    # One server for one directory.
    second = house.run("serve")
    assert second.returncode == 1
    assert f"in use by process {told['pid']}" in second.stderr

    house.signal(signal.SIGTERM)
    assert house.ended() == 0
    assert not (house.folder / "control.sock").exists()
    assert [row["used_letters"] for row in house.told("account", "list")] == [1, 1]


def test_reload_takes_over_what_it_can_and_nothing_of_a_wrong_file(house: Program) -> None:
    told = house.start()
    listen = {name: ["127.0.0.1:0"] for name in LISTENERS}
    house.set(listen=listen, routes={"bob.test": "127.0.0.1:1"}, queue={"retry": ["1h"]}, acme={"rollover": 2})
    house.signal(signal.SIGHUP)
    for _ in range(ROUNDS):
        if '"reloaded"' in house.log():
            break
        house.told("domain", "list")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP_SSL("127.0.0.1", port(told, "submissions"), timeout=PATIENCE, context=context) as client:
        client.login(ADMIN, "secret")
        client.sendmail(ADMIN, ["x@bob.test"], LETTER.replace("bob@bob.test", ADMIN))
    for _ in range(ROUNDS):
        letters = house.told("queue", "list")
        if letters and letters[0]["states"].get("due"):
            break
    shown = house.told("queue", "show", letters[0]["id"])
    assert shown["attempts"][0]["address"] == "127.0.0.1"
    assert house.told("queue", "hold", "bob.test")["changed"] == 1
    assert house.told("queue", "drop", letters[0]["id"], "--no-dsn")["changed"] == 1
    house.set(listen=listen, routes={"bob.test": {"host": "127.0.0.1:1", "password_file": "/nowhere"}})
    house.signal(signal.SIGHUP)
    assert house.told("domain", "list")
    house.signal(signal.SIGTERM)
    assert house.ended() == 0
    assert "/nowhere: cannot be read" in house.log()
    [said] = [line for line in house.log().splitlines() if "a restart is needed" in line]
    assert json.loads(said)["settings"] == ["acme.rollover"]


def test_everything_that_is_wrong_is_told_at_once(house: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        house.set(
            listen={"smtp": [taken], "pop3": [taken]},
            tls={"certificates": [{"certificate": "/nowhere.pem", "key": "/nowhere.key"}]},
            process={"user": "nobody-of-that-name"},
            resolver={"servers": ["not an address"]},
            routes={"*": {"host": "smart.test:25", "password_file": "/nowhere"}},
        )
        result = house.run("serve")
    assert result.returncode == 1
    assert result.stdout == ""
    keys = [line.split(": ")[1] for line in result.stderr.splitlines()]
    assert keys == [
        "routes.*",
        "resolver.servers",
        "listen.smtp",
        "listen.pop3",
        "tls.certificates",
        "process.user",
    ]
    assert "another program is using it" in result.stderr
    assert not (house.folder / "control.sock").exists()


def test_a_wrong_file_and_a_broken_store_are_refusals(house: Program) -> None:
    (house.folder / config.FILE_NAME).write_text("hostname = 'x'\n[smtp\n")
    assert "not valid TOML" in house.run("serve").stderr
    house.set()
    (house.folder / "posthouse.sqlite3").write_bytes(b"no database" * 1000)
    result = house.run("serve", "--json")
    assert result.returncode == 1
    assert "the store cannot be opened" in json.loads(result.stdout)["error"]


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can give files away")
def test_root_hands_the_house_over_and_later_only_what_it_made(house: Program) -> None:
    somebody = Identity("somebody", 54321, 54321)
    hand_over(house.folder, somebody)
    settings = house.folder / config.FILE_NAME
    rest = [path for path in (house.folder, *house.folder.rglob("*")) if path != settings]
    assert {path.stat().st_uid for path in rest} == {54321}
    # Who has taken over the server's user must not choose who the next start serves as.
    assert (settings.stat().st_uid, settings.stat().st_gid, settings.stat().st_mode & 0o777) == (0, 54321, 0o640)
    (house.folder / "tls").mkdir()
    for name in ("control.sock", "strange"):
        (house.folder / name).touch()
    (house.folder / "lock").unlink()
    (house.folder / "lock").symlink_to(house.folder / "strange")  # as somebody with the house in hand could
    hand_over(house.folder, somebody)
    assert (house.folder / "control.sock").stat().st_uid == 54321
    assert (house.folder / "strange").stat().st_uid == 0


def test_up_makes_a_house_once_and_shows_its_password_once(program: Program) -> None:
    first = program.start("up")
    assert first["user"] == "admin@posthouse.test"
    settings = tomllib.loads((program.folder / config.FILE_NAME).read_text())
    assert settings["listen"] == TRIAL
    with smtplib.SMTP("127.0.0.1", port(first, "submission"), timeout=PATIENCE) as client:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client.starttls(context=context)
        client.login(first["user"], first["password"])
    program.signal(signal.SIGINT)
    assert program.ended() == 0
    again = program.start("up")
    assert "password" not in again
    program.signal(signal.SIGINT)
    assert program.ended() == 0
