# SPDX-License-Identifier: Apache-2.0
"""What a check found, in words. Invariant: every finding that is not "ok" says what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.store.damage import Hurt


@dataclass(frozen=True, slots=True)
class Finding:
    """`level`: ok, mended (it was wrong, and is right now), warning (mail flows, but) or error (something does not
    work). `letter`: whose letter it is about, where it is about one."""

    area: str
    level: str
    text: str
    remedy: str = ""
    letter: Hurt | None = None
