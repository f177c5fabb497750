# SPDX-License-Identifier: Apache-2.0
"""Files of 600 lines and functions of 60 are the limits (ARCHITECTURE.md); this says where they are passed."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_FILE = 600
MAX_FUNCTION = 60


def problems(path: Path) -> list[str]:
    text = path.read_text("utf-8")
    name = path.relative_to(ROOT)
    lines = text.count("\n")
    found = [f"{name}: {lines} lines (limit {MAX_FILE})"] if lines > MAX_FILE else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION:
                found.append(f"{name}:{node.lineno}: {node.name} has {length} lines (limit {MAX_FUNCTION})")
    return found


def main() -> None:
    paths = [path for folder in ("src", "tools", "bench", "fuzz") for path in sorted((ROOT / folder).rglob("*.py"))]
    found = [line for path in paths for line in problems(path)]
    print("\n".join(found) or "sizes: fine")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
