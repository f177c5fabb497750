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
# Rooms whose patterns are made of names when they are asked for: of letters in a world; of header fields (one of those
# is walked by tests/fuzz/test_patterns.py).
_MADE_OF_NAMES = ("sim/life.py", "mail/sections.py")
_ANCHORED = frozenset(("fullmatch", "match"))
_CALLS = frozenset(("compile", "sub", "search", "match", "fullmatch", "split", "findall", "finditer", "subn"))


@dataclass(frozen=True, slots=True)
class Pattern:
    """`is_anchored`: it is tried at one place of a text only (`fullmatch`, and `match` without a place to begin)."""

    module: str
    name: str
    pattern: re.Pattern[Any]
    is_anchored: bool


def _files() -> Iterator[Path]:
    yield from sorted(SOURCE.rglob("*.py"))


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
                is_moved = re.search(rf"\b{name}\.match\([^()]*,", text) is not None
                yield Pattern(".".join(within), name, value, bool(uses) and uses <= _ANCHORED and not is_moved)


def unlisted() -> Iterator[str]:
    """Patterns that `every` does not see: made within a function or a class, in a table, or under another name."""
    for path in _files():
        if path.relative_to(SOURCE).as_posix() in _MADE_OF_NAMES:
            continue
        tree = ast.parse(path.read_text("utf-8"))
        seen = {
            id(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "re":
                yield f"{path.relative_to(SOURCE)}:{node.lineno}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner, verb = node.func.value, node.func.attr
                is_pattern = isinstance(owner, ast.Name) and owner.id == "re" and verb in _CALLS
                if is_pattern and not (verb == "compile" and id(node) in seen):
                    yield f"{path.relative_to(SOURCE)}:{node.lineno}"
