# SPDX-License-Identifier: Apache-2.0
"""What a world knows of reports about mail: who asks for them, what was to be told, what servers say they told.

Invariant: what was to be told comes from the world's own witness; of the servers' rows only their letters are read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import apsw

from posthouse.services.dmarc_tally import FLUSH_SECONDS
from posthouse.services.report_draft import DAY
from posthouse.sim.dns import WorldDns
from posthouse.sim.ledger import Ledger, bare
from posthouse.sim.machine import EPOCH
from posthouse.sim.records import DATABASE
from posthouse.sim.strangers_client import SentLetter
from posthouse.sim.witness import Witness

CLERK = "dmarc-reports"  # the account for reports, of each server of ours
TLS_READER = "tls-reports"  # leads to the clerk
LOST = FLUSH_SECONDS + 2.0  # seconds of counts that a sudden end takes with it: until the flush, and its commit
# Seconds between judging a letter, or making a session, and the moment at which the world hears of it.
LAG = 60.0


def ask(dns: WorldDns, domain: str) -> None:
    """That domain wants reports from now on, about its letters and about TLS."""
    policy = dns.of(f"_dmarc.{domain}")
    policy.txt[:] = [each + f"; rua=mailto:{CLERK}@{domain}".encode() for each in policy.txt]
    dns.add_txt(f"_smtp._tls.{domain}", f"v=TLSRPTv1; rua=mailto:{TLS_READER}@{domain}".encode())


def is_reader(address: str) -> bool:
    """Whether it is an address for reports."""
    return address.partition("@")[0] in (CLERK, TLS_READER)


# --- what servers say -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SentRow:
    kind: str
    domain: str
    day: int
    report_id: str
    at: float
    result: str
    letter: int | None
    count: int


@dataclass(frozen=True, slots=True)
class Books:
    """Of one server, about reports. `received`: what passed and failed, by kind, domain and report-id; `unread`:
    reasons; `waiting`: letters that nobody has looked at."""

    sent: list[SentRow]
    received: dict[tuple[str, str, str], tuple[int, int]]
    unread: list[str]
    waiting: int


def read(folder: Path) -> Books:
    """Of a server that is up."""
    with closing(apsw.Connection(str(folder / DATABASE), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        sent = connection.execute(
            "SELECT kind, domain, day, report_id, at, result, letter, letters FROM report_sent ORDER BY id"
        )
        received = connection.execute("SELECT kind, domain, report_id, passed, failed FROM report_received")
        (waiting,) = next(iter(connection.execute("SELECT COUNT(*) FROM report_waiting")))
        return Books(
            sent=[SentRow(*row) for row in sent],
            received={row[:3]: row[3:] for row in received},
            unread=[str(row[0]) for row in connection.execute("SELECT reason FROM report_unread ORDER BY letter")],
            waiting=waiting,
        )


# --- what was to be told --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """A letter of a domain that came to a server, or a session of a server for a domain. `is_sure`: it was counted, if
    nothing was lost. `is_telling`: it is a reason to tell at all."""

    at: float
    is_sure: bool = True
    is_telling: bool = True


@dataclass(frozen=True, slots=True)
class Seen:
    """Of one day: how many may be counted at most and must be at least, and of both those that are telling."""

    most: int
    least: int
    telling: int
    owed: int


Events = dict[tuple[str, str], list[Event]]  # of a server, about a domain


def letters_seen(witness: Witness, ledger: Ledger, reports: Collection[str]) -> Events:
    """`reports`: Message-IDs of the letters that were reports."""
    strange = {bare(each.message_id): each for who in ledger.strangers for each in who.sent}
    found: Events = {}
    for each in witness.arrivals:
        authors = each.authors or _authors(bare(each.message_id), ledger, strange)
        event = Event(each.at, is_sure=bool(each.message_id), is_telling=bare(each.message_id) not in reports)
        # In a world an organisation has two labels.
        for domain in dict.fromkeys(".".join(author.split(".")[-2:]) for author in authors):
            found.setdefault((each.server, domain), []).append(event)
    return found


def _authors(message_id: str, ledger: Ledger, strange: Mapping[str, SentLetter]) -> Sequence[str]:
    """Domains in From: of a letter that was taken."""
    sent, other = ledger.letters.get(message_id), strange.get(message_id)
    if sent is not None:
        return [sent.sender.rpartition("@")[2]]
    if other is not None and other.guise.is_lie:
        return [other.recipient.rpartition("@")[2]]
    return [message_id.rpartition("@")[2]]  # a server's own


def sessions_seen(witness: Witness) -> Events:
    found: Events = {}
    for each in witness.sessions:
        if each.is_usual:
            found.setdefault((each.server, each.domain), []).append(Event(each.at))
    return found


def seen(events: Sequence[Event], day: int, ends: Sequence[float]) -> Seen:
    """`ends`: times at which the server ended suddenly, and forgot what it had not written down."""
    possible = [each for each in events if day in (day_of(each.at), day_of(each.at - LAG))]
    certain = [
        each
        for each in possible
        if each.is_sure
        and day_of(each.at) == day_of(each.at - LAG)
        and not any(each.at - LAG <= end <= each.at + LOST for end in ends)
    ]
    return Seen(
        most=len(possible),
        least=len(certain),
        telling=sum(each.is_telling for each in possible),
        owed=sum(each.is_telling for each in certain),
    )


def day_of(at: float) -> int:
    """UTC, of seconds since the world began."""
    return int((EPOCH + at) // DAY)
