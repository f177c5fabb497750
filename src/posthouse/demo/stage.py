# SPDX-License-Identifier: Apache-2.0
"""What the demo shows: numbered scenes, lines with the time of day, letters in frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.message import EmailMessage

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from posthouse.demo.programs import first_text
from posthouse.ports import Clock


class Stage:
    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._scenes = 0

    def title(self, text: str) -> None:
        self._console.print()
        self._console.print(Text(text, "bold"))

    def scene(self, text: str) -> None:
        self._scenes += 1
        self._console.print()
        self._console.rule(f"[bold]{self._scenes}. {escape(text)}", align="left", style="dim")

    def say(self, text: str, *, style: str = "", at: float | None = None) -> None:
        """One line, at the time it happened (now, unless it is told)."""
        moment = datetime.fromtimestamp(self._clock.wall() if at is None else at, UTC).astimezone()
        line = Table.grid(padding=(0, 2, 0, 0))  # so that a long text goes on under its beginning
        line.add_row(Text(f"  {moment:%H:%M:%S}", "dim"), Text(text, style))
        self._console.print(line)

    def good(self, text: str) -> None:
        self.say(f"✓ {text}", style="green")

    def bad(self, text: str) -> None:
        self.say(f"✗ {text}", style="bold red")

    def letter(self, letter: EmailMessage, title: str) -> None:
        head = "\n".join(f"{name}: {letter[name]}" for name in ("From", "To", "Subject") if letter[name])
        self._console.print(
            Panel(Text(f"{head}\n\n{first_text(letter)}"), title=escape(title), title_align="left", padding=(1, 2))
        )

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """While something is waited for; it moves on a terminal and is silent elsewhere."""
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(escape(text)):
            yield
