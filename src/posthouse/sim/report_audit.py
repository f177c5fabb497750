# SPDX-License-Identifier: Apache-2.0
"""Whether the servers of a world have told each other what they owe: of each day one report about each domain's letters
(DMARC), and one about TLS on the way to it (TLSRPT), true, delivered, read, and none about reports.

Invariant checked: what is said of a day is what was seen that day, but for what a server had not written down when it
ended suddenly; nothing is counted twice, told twice, or told of reports alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from posthouse.sim.ledger import Finding, Ledger, bare
from posthouse.sim.machine import EPOCH
from posthouse.sim.records import Records
from posthouse.sim.report_facts import (
    CLERK,
    TLS_READER,
    Books,
    Seen,
    SentRow,
    day_of,
    letters_seen,
    seen,
    sessions_seen,
)
from posthouse.sim.witness import Witness

Key = tuple[str, str]  # a Message-ID without brackets, and an address


class Audit:
    """At the end of a world. `rows`, `books`: of each server, by its name."""

    def __init__(
        self,
        witness: Witness,
        ledger: Ledger,
        rows: Mapping[str, Records],
        books: Mapping[str, Books],
        *,
        domains: Mapping[str, str],
        arrived: Collection[Key],
        waiting: Collection[Key],
    ) -> None:
        """`domains`: those that ask for reports, and the server of each, "" for strangers. `arrived`, `waiting`:
        letters in mailboxes, and on their way."""
        self._witness = witness
        self._rows = rows
        self._books = books
        self._domains = domains
        self._arrived = arrived
        self._open = {*waiting, *ledger.dropped}
        reports = {self._message_id(server, row) for server in books for row in books[server].sent}
        self._events = {"dmarc": letters_seen(witness, ledger, reports), "tls": sessions_seen(witness)}

    def findings(self, now: float) -> Iterator[Finding]:
        """Of all days that are over."""
        for server, books in self._books.items():
            if books.waiting:
                yield Finding(f"{server}: {books.waiting} letters with reports wait to be read")
            for reason in books.unread:
                yield Finding(f"{server}: a report was not understood: {reason}")
            for kind in self._events:
                for domain in self._domains:
                    for day in range(day_of(0.0), day_of(now)):
                        yield from self._day(server, kind, domain, day)

    def _day(self, server: str, kind: str, domain: str, day: int) -> Iterator[Finding]:
        mine = self._books[server].sent
        told = [row for row in mine if (row.kind, row.domain, row.day) == (kind, domain, day)]
        found = seen(self._events[kind].get((server, domain), ()), day, self._witness.ends.get(server, ()))
        carried = self._carried(server, domain, day)
        owed = found.owed if kind == "dmarc" else found.least - carried
        what = f"{server}: the {kind} report to {domain} about day {day - day_of(0.0)}"
        if len(told) > 1:
            yield Finding(f"{what} was made {len(told)} times")
        if not told and owed > 0:
            yield Finding(f"{what} is missing, {found.least} should be in it")
        for row in told:
            telling = found.telling if kind == "dmarc" else row.count - carried
            if telling <= 0:
                yield Finding(f"{what} tells of nothing but reports")
            # Sessions that did not come about count too, and only their server knows of them.
            if row.count < found.least or (kind == "dmarc" and row.count > found.most):
                yield Finding(f"{what} counts {row.count}, there were {found.least} to {found.most}")
            if row.result != "posted":
                yield Finding(f"{what} was not posted: {row.result}")
            else:
                yield from self._delivery(server, row, found, what)

    def _carried(self, server: str, domain: str, day: int) -> int:
        """How many sessions reports about sessions may have made there; they are no reason for another report."""
        reports = [row for row in self._books[server].sent if (row.kind, row.domain) == ("tls", domain)]
        letters = {row.letter for row in reports if row.letter is not None}
        posted = sum(day_of(row.at - EPOCH) == day for row in reports)
        tries = sum(each.letter in letters and day_of(each.at - EPOCH) == day for each in self._rows[server].attempts)
        return max(posted, tries)

    def _delivery(self, server: str, row: SentRow, found: Seen, what: str) -> Iterator[Finding]:
        """Whether the report of a row has come to its reader, and been understood."""
        message_id = self._message_id(server, row)
        keys = [(message_id, f"{reader}@{row.domain}") for reader in (CLERK, TLS_READER)]
        has_come = any(key in self._arrived for key in keys)
        if not has_come and not any(key in self._open for key in keys) and not self._was_given_up(server, message_id):
            yield Finding(f"{what} is lost", message_id)
        home = self._domains[row.domain]
        if not has_come or not home:
            return
        received = self._books[home].received.get((row.kind, row.domain, row.report_id))
        if received is None:
            yield Finding(f"{what} has come, and {home} does not know of it", message_id)
        elif sum(received) != row.count or (row.kind == "tls" and received[0] > found.most):
            passed, failed = received
            text = f"{what} counts {row.count} of at most {found.most}, and is read as {passed} + {failed}"
            yield Finding(text, message_id)

    def _message_id(self, server: str, row: SentRow) -> str:
        return self._rows[server].message_id(row.letter or 0)

    def _was_given_up(self, server: str, message_id: str) -> bool:
        """By its server; nobody is told."""
        return any(
            bare(each.message_id) == message_id and any(state in ("failed", "expired") for state in each.states)
            for each in self._rows[server].history
        )
