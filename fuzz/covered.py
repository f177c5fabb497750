# SPDX-License-Identifier: Apache-2.0
"""The runner with coverage, one target in a process of its own: `python -m fuzz.covered TARGET [libFuzzer's options]`.

atheris must see the server's modules while they are imported, so nothing here imports one before.
"""

from __future__ import annotations

import importlib
import sys

# What is instrumented: the server, and what does its parsing for it.
PACKAGES = ["posthouse", "idna", "dns", "scramp", "starlette"]


def main() -> None:
    import atheris  # noqa: PLC0415 - only where it is installed

    name = sys.argv[1]
    with atheris.instrument_imports(include=PACKAGES):
        module = importlib.import_module(f"fuzz.targets.{name}")
    # libFuzzer begins itself again, by its first word, to merge inputs.
    again = f"{sys.executable} -m fuzz.covered {name}"
    atheris.Setup([again, *sys.argv[2:]], module.target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
