# SPDX-License-Identifier: Apache-2.0
"""Every regular expression of the server, and how it is used: found in the source, so that none is forgotten.

Invariant: a pattern is a constant of its module. (`unlisted` finds those that are not.)
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import posthouse

SOURCE = Path(posthouse.__file__).resolve().parent
# Rooms whose patterns meet text of nobody but the programmer.
_NOT_OUTSIDE = ("demo", "sim")
_ANCHORED = frozenset(("fullmatch", "match"))
_CALLS = frozenset(("compile", "sub", "search", "match", "fullmatch", "split", "findall", "finditer", "subn"))


@dataclass(frozen=True, slots=True)
class Pattern:
    """`is_anchored`: it is tried at one place of a text only (`match`, `fullmatch`)."""

    module: str
    name: str
    pattern: re.Pattern[Any]
    is_anchored: bool


def _files() -> Iterator[Path]:
    for path in sorted(SOURCE.rglob("*.py")):
        if path.relative_to(SOURCE).parts[0] not in _NOT_OUTSIDE:
            yield path


def every() -> Iterator[Pattern]:
    """The compiled patterns that are constants of modules."""
    for path in _files():
        text = path.read_text("utf-8")
        if "re.compile" not in text:
            continue
        within = path.relative_to(SOURCE).with_suffix("").parts
        module = importlib.import_module(".".join(("posthouse", *(part for part in within if part != "__init__"))))
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern) and re.search(rf"(?m)^{name}\b", text):
                uses = set(re.findall(rf"\b{name}\.([a-z]+)\(", text))
                yield Pattern(".".join(within), name, value, bool(uses) and uses <= _ANCHORED)


def unlisted() -> Iterator[str]:
    """Patterns given to `re` inside a function, where nobody finds them."""
    for path in _files():
        tree = ast.parse(path.read_text("utf-8"))
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    owner = node.func.value
                    if isinstance(owner, ast.Name) and owner.id == "re" and node.func.attr in _CALLS:
                        yield f"{path.relative_to(SOURCE)}:{node.lineno}"
