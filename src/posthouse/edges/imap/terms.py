# SPDX-License-Identifier: Apache-2.0
"""What all IMAP sessions of one listener share."""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.ports import Clock
from posthouse.services.login import Login
from posthouse.services.mailbox.appending import AppendDesk
from posthouse.services.mailbox.fetching import Fetching
from posthouse.services.mailbox.folders import Folders
from posthouse.services.mailbox.listing import Listing
from posthouse.services.mailbox.ordering import Sorter
from posthouse.services.mailbox.places import Places
from posthouse.services.mailbox.search import Searcher
from posthouse.services.mailbox.selected import SelectDesk
from posthouse.services.mailbox.sharing import Sharing
from posthouse.services.mailbox.storing import Storing
from posthouse.services.presence import Presence
from posthouse.telemetry import Log, Metrics


@dataclass(frozen=True, slots=True)
class ImapTerms:
    """`append_limit` in octets (RFC 7889)."""

    hostname: str
    login: Login
    places: Places
    desk: SelectDesk
    fetching: Fetching
    folders: Folders
    listing: Listing
    searcher: Searcher
    sharing: Sharing
    sorter: Sorter
    storing: Storing
    append_desk: AppendDesk
    presence: Presence
    clock: Clock
    metrics: Metrics
    log: Log
    append_limit: int
    literal_minus: bool
    plaintext_auth: bool
    tarpit_after: int
    close_after: int
