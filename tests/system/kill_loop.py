# SPDX-License-Identifier: Apache-2.0
"""The program behind tools/kill_loop.py."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from posthouse import telemetry
from tests.system.killing import Killing, Told
from tests.system.post import _furnish


def main() -> int:
    parser = argparse.ArgumentParser(prog="kill_loop.py", description="kill -9 under load, again and again.")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="of the choices; threads and the kernel make their own")
    parser.add_argument("--no-backups", action="store_true")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    began = time.monotonic()

    def tell(told: Told) -> None:
        print(f"round {told.rounds} of {wanted.rounds}: {told.acknowledged} acknowledged", file=sys.stderr, flush=True)  # noqa: T201

    place = Path(tempfile.mkdtemp(prefix="ph-kill-", dir="/tmp"))  # the path of a socket has at most 107 octets
    folder = place / "data"
    folder.mkdir()
    telemetry.configure(as_json=False, level="error")
    asyncio.run(_furnish(folder))
    killing = Killing(folder, wanted.seed, makes_backups=not wanted.no_backups)
    try:
        told = killing.play(wanted.rounds, tell)
    except AssertionError as fault:
        print(f"FAILED after {killing.told}\n{fault}\nseed {wanted.seed}, kept in {place}", file=sys.stderr)  # noqa: T201
        return 1
    shutil.rmtree(place)
    figures = asdict(told) | {"seconds": round(time.monotonic() - began)}
    print(json.dumps(figures) if wanted.json else "\n".join(f"{name:16} {value:8}" for name, value in figures.items()))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
