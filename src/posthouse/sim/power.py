# SPDX-License-Identifier: Apache-2.0
"""The disk of a server of the world whose power can be cut.

Invariant: after a cut the server finds what a disk may hold then, in a new folder, and nothing of the dead life can
touch that any more; after a mere crash it finds everything that was written.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

from posthouse.sim.disklog import Tree
from posthouse.sim.image import DiskState, Luck, Rule
from posthouse.sim.recording import Recorder, adopt


class PoweredDisk:
    """`folder` is where the data directory is now."""

    def __init__(self, folder: Path, rule: Rule) -> None:
        self.folder = folder
        self._first = folder
        self._rule = rule
        self._folders = 0
        self._recorder: Recorder | None = None
        self._find()

    def _find(self) -> None:
        """What lies in the folder is durable, and nothing else has happened yet."""
        self._tree = Tree()
        self._state = DiskState(self._rule)
        adopt(self.folder, self._tree, [self._state])

    def begin(self) -> Recorder:
        """A life begins: its disk and its SQLite."""
        self._recorder = Recorder(self.folder, self._state.apply, self._tree)
        return self._recorder

    def end(self) -> None:
        """It ended in order."""
        if self._recorder is not None:
            self._recorder.end()
            self._recorder = None

    def crash(self) -> None:
        """As by kill -9. What the dead one still closes writes into the old folder."""
        self.end()
        old, self.folder = self.folder, self._next_folder()
        shutil.copytree(old, self.folder, ignore=shutil.ignore_patterns("*-shm"))

    def cut(self, chance: Random) -> None:
        self.end()
        self.folder = self._next_folder()
        self._state.image(Luck.drawn(chance)).write(self.folder)
        self._find()

    def _next_folder(self) -> Path:
        self._folders += 1
        return self._first.with_name(f"{self._first.name}-{self._folders}")
