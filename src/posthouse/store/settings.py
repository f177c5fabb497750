# SPDX-License-Identifier: Apache-2.0
"""The store's settings, named with their reasons. Invariant: every default suits a machine with 2 GB of memory."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """`seal_octets`: a pack is sealed at this size, so that compaction and backup move pieces of a handy size.

    `reserve_octets`: below this much free space no content is taken in; rows (queue outcomes, deletions) and
    reading go on, and a full write-ahead log, a checkpoint and a snapshot still find room.
    `vfs`: name of the SQLite VFS, None for the system's (a simulation brings its own, on the same files as its Disk).
    `checkpoint_pages`: after so much of a write-ahead log it is copied back, None for what suits a server (a
    simulation, whose databases are small, does it sooner).
    `adopt`: take packs that do not belong to this database as they are (after a restore or rebuild): nothing
    is cut or removed, and a new pack is begun.
    """

    seal_octets: int = 128 * MIB
    reserve_octets: int = 256 * MIB
    vfs: str | None = None
    checkpoint_pages: int | None = None
    adopt: bool = False
