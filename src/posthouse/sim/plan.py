# SPDX-License-Identifier: Apache-2.0
"""What a server of the world is, before it is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from posthouse.services.own_policy import Mode


@dataclass(frozen=True, slots=True)
class Plan:
    """`accounts`: address and password. `aliases`: address and targets, here or elsewhere. `forwards`: more of them,
    that lead to other servers or on to another such address. `settings`: sections of posthouse.toml.

    `clerk`: the name of an account that takes reports about mail, "" for none. `asks_for_reports`: of other servers.

    `sts`: the mode of its MTA-STS policy.

    `records_disk`: every write is recorded, so that its power can be cut; that costs time.
    """

    name: str
    domain: str
    address: str
    accounts: Mapping[str, str]
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    forwards: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    clerk: str = ""
    asks_for_reports: bool = False
    sts: Mode = "off"
    records_disk: bool = False

    @property
    def hostname(self) -> str:
        return f"mail.{self.domain}"
