# SPDX-License-Identifier: Apache-2.0
"""What the documents tell people to type exists: make targets, commands, settings, files that links lead to."""

import re
import tomllib
from pathlib import Path

import pytest
import typer.main

from posthouse import config
from posthouse.edges.cli.application import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")], key=lambda path: path.relative_to(ROOT).as_posix())
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def blocks(page: Path, language: str) -> str:
    return "\n".join(text for kind, text in BLOCK.findall(page.read_text("utf-8")) if kind == language)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for target in re.findall(r"^(?:cd \S+ && )?make ([a-z-]+)", blocks(page, "sh"), re.MULTILINE):
        assert target in targets, f"{page.name}: make {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    program = typer.main.get_command(app)
    for line in re.findall(r"^(?:.*/)?posthouse ([a-z].*)$", blocks(page, "sh"), re.MULTILINE):
        command = program
        for word in line.split("#")[0].split():
            if not hasattr(command, "commands"):
                break
            assert word in command.commands, f"{page.name}: posthouse {line}"
            command = command.commands[word]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_are_valid(page: Path) -> None:
    text = blocks(page, "toml")
    if text:
        table = {"hostname": "mail.example.test", **tomllib.loads(text)}
        config.from_table(table, page.name)
