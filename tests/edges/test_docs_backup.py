# SPDX-License-Identifier: Apache-2.0
"""What docs/running.md and packaging/ say about backups is done here, word for word, in other folders."""

from __future__ import annotations

import configparser
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

ROOT = Path(__file__).parents[2]
SECTION = re.compile(r"^## \d+\. Backup and restore\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)


@pytest.fixture(autouse=True)
def no_log() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


def commands() -> list[str]:
    """Every line for a shell in that section that is one of ours."""
    section = SECTION.search((ROOT / "docs" / "running.md").read_text("utf-8"))
    assert section is not None
    blocks = re.findall(r"```sh\n(.*?)```", section[1], re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("posthouse ")]


def do(command: str, house: Path, tmp_path: Path) -> Any:
    places = {
        "/var/lib/posthouse-new": str(tmp_path / "new"),
        "/var/lib/posthouse": str(house),
        "/var/backups/posthouse": str(tmp_path / "backups"),
    }
    words = [places.get(word, word) for word in shlex.split(command, comments=True)]
    result = CliRunner().invoke(app, words[1:], obj=Program(), env={"POSTHOUSE_DATA": str(house)})
    assert result.exit_code == 0, (command, result.stderr, result.exception)
    return result


def test_the_commands_of_the_manual_do_what_it_says(house: Path, tmp_path: Path) -> None:
    found = commands()
    assert len(found) == 7
    said = [do(command, house, tmp_path).stdout for command in found]
    assert "1 backup kept" in said[0]
    assert "whole" in said[2]
    assert (tmp_path / "new" / "posthouse.toml").exists()
    assert list(house.glob("replaced-*"))


def test_the_command_of_the_timer_is_one(house: Path, tmp_path: Path) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign,assignment]  # as its documentation says
    unit.read(ROOT / "packaging" / "posthouse-backup.service")
    command = unit["Service"]["ExecStart"].replace("/opt/posthouse/.venv/bin/", "")
    assert "1 backup kept" in do(command, house, tmp_path).stdout
    written = unit["Service"]["ReadWritePaths"].split()
    assert set(written) == {"/var/lib/posthouse", "/var/backups/posthouse"}
    timer = (ROOT / "packaging" / "posthouse-backup.timer").read_text("utf-8")
    assert "OnCalendar=" in timer
