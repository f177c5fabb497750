# SPDX-License-Identifier: Apache-2.0
"""A data directory made once (keys and passwords take time) and copied for each test; the command line on it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from posthouse import telemetry
from posthouse.__main__ import Program
from posthouse.edges.cli.application import app
from posthouse.edges.cli.backend import Plan

ADMIN = "alice@alice.test"
PASSWORD = "correct horse"


class Line:
    """The command line on one data directory."""

    def __init__(self, folder: Path, backend: Program | None = None) -> None:
        self.folder = folder
        self.backend = backend or Program()

    def run(self, *words: str, stdin: str = "") -> Any:
        """The result: exit_code, stdout, stderr."""
        result = CliRunner().invoke(app, [*words, "--data", str(self.folder)], input=stdin, obj=self.backend)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def done(self, *words: str, stdin: str = "") -> str:
        """What a command prints that must succeed."""
        result = self.run(*words, stdin=stdin)
        assert result.exit_code == 0, result.stderr
        return str(result.stdout)

    def told(self, *words: str, stdin: str = "") -> Any:
        """Its JSON document."""
        return json.loads(self.done(*words, "--json", stdin=stdin))

    def refused(self, *words: str, stdin: str = "") -> str:
        """The reason of a command that must be refused."""
        result = self.run(*words, stdin=stdin)
        assert result.exit_code == 1, (result.stdout, result.stderr)
        assert result.stdout == ""
        return str(result.stderr)


@pytest.fixture(scope="package", autouse=True)
def quiet() -> Iterator[None]:
    """A command sets up the log of its process; the test runner's process has many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(telemetry, "configure", lambda **_: None)
        yield


@pytest.fixture(scope="package")
def template(quiet: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edges") / "template"
    Program().create(folder, Plan("mail.alice.test", "alice.test", ADMIN, PASSWORD, {"smtp": ["127.0.0.1:0"]}))
    return folder


@pytest.fixture
def house(template: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "house"
    shutil.copytree(template, folder)
    return folder


@pytest.fixture
def line(house: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.setenv("TZ", "UTC")
    return Line(house)
