# SPDX-License-Identifier: Apache-2.0
"""Writes docs/reference from the code: settings, command line, standards. With --check fails when out of date."""

from __future__ import annotations

import inspect
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

import rfc_check
from posthouse.config_file import reference
from posthouse.edges.cli.application import app

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs/reference"


def command_line() -> str:
    """docs/reference/cli.md: every command with its arguments and options, from the application itself."""
    root = typer.main.get_command(app)
    lines = ["# Command line", "", "Generated from `src/posthouse/edges/cli` by `make reference`; do not edit.", ""]
    lines += [*_paragraphs(root.help), ""]
    lines += ["| command | |", "| --- | --- |"]
    found = list(_commands(root, "posthouse", None))
    for name, command, _ in found:
        anchor = name.replace(" ", "-")
        lines.append(f"| [`{name}`](#{anchor}) | {_first_sentence(command.help)} |")
    for name, command, context in found:
        usage = " ".join([name, *command.collect_usage_pieces(context)])
        lines += ["", f"## {name}", "", "```", usage, "```", "", *_paragraphs(command.help)]
        lines += _parameters(command, context)
    return "\n".join(lines) + "\n"


def _commands(command: Any, name: str, parent: Any) -> Iterator[tuple[str, Any, Any]]:
    context = typer.Context(command, info_name=name, parent=parent)
    if not hasattr(command, "commands"):
        yield name, command, context
        return
    for word in command.list_commands(context):
        yield from _commands(command.commands[word], f"{name} {word}", context)


def _paragraphs(text: str | None) -> list[str]:
    found = inspect.cleandoc(text or "").split("\n\n")
    lines: list[str] = []
    for number, paragraph in enumerate(found):
        lines += [""] if number else []
        lines.append(" ".join(paragraph.split()))
    return lines


def _first_sentence(text: str | None) -> str:
    return _paragraphs(text)[0].partition(". ")[0].removesuffix(".")


def _parameters(command: Any, context: Any) -> list[str]:
    rows = []
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is None:
            continue
        names, text = record
        rows.append(f"| `{_cell(names)}` | {_cell(' '.join(text.split()))} |")
    return ["", "| option | |", "| --- | --- |", *rows] if rows else []


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def pages() -> dict[Path, str]:
    index = tomllib.loads((ROOT / "docs/rfc-index.toml").read_text("utf-8"))
    return {
        FOLDER / "settings.md": reference(),
        FOLDER / "cli.md": command_line(),
        FOLDER / "rfcs.md": rfc_check.page(index),
    }


def main() -> None:
    wrong = []
    for path, text in pages().items():
        if "--check" in sys.argv:
            if not path.exists() or path.read_text("utf-8") != text:
                wrong.append(f"{path.relative_to(ROOT)} is out of date: make reference")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    print("\n".join(wrong) or "reference: fine")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
