# SPDX-License-Identifier: Apache-2.0
"""`posthouse demo`: the story of a letter, played live by two real servers on loopback."""

from __future__ import annotations

from posthouse.demo.story import play

__all__ = ["play"]
