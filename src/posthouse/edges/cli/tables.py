# SPDX-License-Identifier: Apache-2.0
"""Answers for people: aligned tables, sizes, times in local time with how long ago.

Invariant: what is printed does not depend on anything but its arguments, the time zone and the terminal's width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import typer

_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
# Piped into a file or another program nothing is cut: a table may be as wide as it likes.
WIDE = 1000


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]], *, none: str) -> None:
    """Print rows under their heads; `none` when there are none. Heads that begin with ">" are aligned right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    found = list(rows)
    if not found:
        typer.echo(none)
        return
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for head in heads:
        made.add_column(head.removeprefix(">"), justify="right" if head.startswith(">") else "left", overflow="fold")
    for row in found:
        made.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    with console.capture() as capture:
        console.print(made)
    typer.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


def size(octets: int | None) -> str:
    """`4.2 MiB`, as precise as people want it."""
    if octets is None:
        return ""
    amount, units = float(octets), ["B", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop(0)
    return f"{octets} B" if units[0] == "B" else f"{amount:.1f} {units[0]}"


def moment(seconds: float | None) -> str:
    """Local time."""
    return "" if seconds is None else datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def ago(seconds: float | None, now: float) -> str:
    """`2026-11-23 06:02:59, 3 min ago`, or `…, in 12 min`."""
    if seconds is None:
        return ""
    away = now - seconds
    words = f"{span(away)} ago" if away >= 1 else f"in {span(-away)}" if away <= -1 else "now"
    return f"{moment(seconds)}, {words}"


def span(seconds: float) -> str:
    """The largest whole unit: `45 s`, `3 min`, `2 h`, `5 d`."""
    for unit, name in _UNITS:
        if seconds >= unit:
            return f"{int(seconds // unit)} {name}"
    return "0 s"


def plural(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"
