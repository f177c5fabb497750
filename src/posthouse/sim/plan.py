# SPDX-License-Identifier: Apache-2.0
"""What a server of the world is, before it is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Plan:
    """`accounts`: address and password. `aliases`: address and targets, here or elsewhere. `settings`: sections of
    posthouse.toml.

    `records_disk`: every write is recorded, so that its power can be cut; that costs time.
    """

    name: str
    domain: str
    address: str
    accounts: Mapping[str, str]
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    records_disk: bool = False

    @property
    def hostname(self) -> str:
        return f"mail.{self.domain}"
