# SPDX-License-Identifier: Apache-2.0
"""Which targets there are, and where their files lie. A target is a module in fuzz/targets; nothing else lists them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
CORPUS = FOLDER / "corpus"
DICTIONARIES = FOLDER / "dictionaries"
CRASHES = FOLDER / "crashes"  # finds that nobody has mended yet; not part of the tree

DEFAULT_MAX_SIZE = 4096  # octets of an input: enough for a session or a header, small enough for thousands a second


@dataclass(frozen=True, slots=True)
class Target:
    """`run` raises only where a rule is broken. `max_size` in octets; `dictionary`: a file in fuzz/dictionaries."""

    name: str
    run: Callable[[bytes], None]
    max_size: int
    dictionary: str

    @property
    def corpus(self) -> Path:
        return CORPUS / self.name

    def seeds(self) -> list[bytes]:
        """The kept inputs, by name; one empty input where there are none."""
        files = sorted(path for path in self.corpus.glob("*") if path.is_file()) if self.corpus.is_dir() else []
        return [path.read_bytes() for path in files] or [b""]

    def words(self) -> list[bytes]:
        """The words of its dictionary, in the form of libFuzzer: one `"…"` a line."""
        path = DICTIONARIES / self.dictionary
        if not self.dictionary or not path.is_file():
            return []
        lines = (line.strip() for line in path.read_text("ascii").splitlines())
        return [_unquoted(line) for line in lines if line.startswith('"')]


def _unquoted(line: str) -> bytes:
    return line[1:-1].encode("ascii").decode("unicode_escape").encode("latin-1")


def names() -> list[str]:
    package = importlib.import_module("fuzz.targets")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def load(name: str) -> Target:
    """Raises ModuleNotFoundError for a target that is not there."""
    module = importlib.import_module(f"fuzz.targets.{name}")
    return Target(
        name,
        module.target,
        getattr(module, "MAX_SIZE", DEFAULT_MAX_SIZE),
        getattr(module, "DICTIONARY", ""),
    )
