# SPDX-License-Identifier: Apache-2.0
"""What the admin API acts on: the services behind its verbs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from posthouse.services.administration import Administration
from posthouse.services.backups import Backups
from posthouse.services.certificates import Certificates
from posthouse.services.checkup import Checkup
from posthouse.services.dns_records import Surroundings
from posthouse.services.key_rotation import KeyRotation
from posthouse.services.keys import DomainKeys
from posthouse.services.letterbox import Letterbox
from posthouse.services.mailbox.shares import Shares
from posthouse.services.queue_desk import QueueDesk
from posthouse.services.report_desk import ReportDesk
from posthouse.services.zone_update import ZoneUpdate


@dataclass(frozen=True, slots=True)
class Office:
    """`status` gives facts of the process, `reload` reads settings and certificates again and
    gives the settings that have changed and need a restart."""

    administration: Administration
    domain_keys: DomainKeys
    key_rotation: KeyRotation
    queue_desk: QueueDesk
    checkup: Checkup
    letterbox: Letterbox
    shares: Shares
    backups: Backups
    certificates: Certificates
    zone_update: ZoneUpdate | None
    reports: ReportDesk
    hostname: str
    surroundings: Callable[[], Surroundings]
    max_message: int
    status: Callable[[], dict[str, Any]]
    reload: Callable[[], list[str]]
