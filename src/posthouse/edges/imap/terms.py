# SPDX-License-Identifier: Apache-2.0
"""What all IMAP sessions of one listener share."""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.ports import Clock
from posthouse.services.login import Login
from posthouse.services.mailbox.places import Places
from posthouse.services.mailbox.selected import SelectDesk
from posthouse.services.mailbox.storing import Storing
from posthouse.telemetry import Log, Metrics


@dataclass(frozen=True, slots=True)
class ImapTerms:
    """`append_limit` in octets (RFC 7889)."""

    hostname: str
    login: Login
    places: Places
    desk: SelectDesk
    storing: Storing
    clock: Clock
    metrics: Metrics
    log: Log
    append_limit: int
    literal_minus: bool
    plaintext_auth: bool
    tarpit_after: int
    close_after: int
