# SPDX-License-Identifier: Apache-2.0
"""Mailboxes as people read them."""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.composing.ground import Ground
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


@dataclass(frozen=True, slots=True)
class Mailboxes:
    """What reads and changes mailboxes for people (IMAP)."""

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


def open_mailboxes(ground: Ground) -> Mailboxes:
    database, bus, clock = ground.database, ground.bus, ground.machine.clock
    places = Places(database, shared=ground.settings.imap.shared)
    return Mailboxes(
        places=places,
        desk=SelectDesk(database, bus),
        fetching=Fetching(database, ground.blobs, ground.workers, bus, clock),
        folders=Folders(database, bus, clock, places),
        listing=Listing(database, places),
        searcher=Searcher(database, ground.blobs, ground.workers),
        sharing=Sharing(database, bus, clock, places),
        sorter=Sorter(database, ground.blobs, ground.workers),
        storing=Storing(database, bus, clock),
        append_desk=AppendDesk(places, database, ground.blobs, bus, clock),
        presence=Presence(bus, per_account=ground.settings.imap.max_sessions_per_account),
    )
