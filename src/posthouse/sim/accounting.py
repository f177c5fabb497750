# SPDX-License-Identifier: Apache-2.0
"""The account: what became of every letter, at one instant, from what people know and what lies on the disks.

Invariant checked: every accepted letter is, for each of its recipients, in the mailbox (or taken from it), in a
report to its sender, visible in a queue, or dropped by an operator. None is lost or changed, none comes twice
where the protocol can exclude it, nothing arrives that nobody sent, and a report never answers a report.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from posthouse.mail.dates import Date, parse_date
from posthouse.mail.dsn import Action
from posthouse.mail.dsn_reader import ReadDsn, ReadRecipient, parse_dsn
from posthouse.mail.header import scan_header
from posthouse.outcome import EXPIRED
from posthouse.sim import forwards
from posthouse.sim.forwards import badly_passed_on, is_way_back, servers
from posthouse.sim.ledger import Finding, Ledger, Way, bare
from posthouse.sim.people import Sent, is_uncertain
from posthouse.sim.punctuality import GRAIN, report_time
from posthouse.sim.records import Placement, Records
from posthouse.sim.report_facts import is_reader
from posthouse.sim.strangers_client import SMUGGLED_ID, SentLetter
from posthouse.store.messages import unique_id

Key = tuple[str, str]  # a Message-ID without brackets, and a recipient
_TEMPORARY_REPLY = re.compile(r"4\d\d\b")


@dataclass(frozen=True, slots=True)
class Facts:
    """What one stored letter is."""

    message_id: str
    report: ReadDsn | None
    date: Date | None


@dataclass(slots=True)
class Fates:
    """Where every letter is. Sets of names of copies, as dicts: their order is that of the disks."""

    copies: dict[Key, dict[str, None]] = field(default_factory=dict)
    waiting: dict[Key, int] = field(default_factory=dict)
    reports: dict[Key, dict[str, None]] = field(default_factory=dict)  # final ones, by their own Message-IDs
    warnings: dict[Key, dict[str, None]] = field(default_factory=dict)  # reports of a delay, in the same way
    heard: dict[Key, int] = field(default_factory=dict)  # copies at strangers whose answer the sender has heard
    unread: dict[str, None] = field(default_factory=dict)  # letters of which a report came back: nobody is told then
    findings: list[Finding] = field(default_factory=list)


@dataclass(slots=True)
class Account:
    """What became of a world. `findings` empty is good."""

    letters: int = 0
    accepted: int = 0
    delivered: int = 0
    reported: int = 0
    waiting: int = 0
    dropped: int = 0
    duplicates: int = 0  # copies beyond the first, each of them excused
    days: float = 0.0
    survived: Counter[str] = field(default_factory=Counter)  # faults of every kind
    deeds: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


class Accountant:
    """Remembers what stored letters are, so that each is parsed once."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._facts: dict[str, Facts] = {}
        self._strange: dict[str, SentLetter] = {}
        self._last = Fates()

    def account(self, records: Mapping[str, Records]) -> Account:
        """`records`: of every server, by its name, of this instant."""
        self._strange = {bare(each.message_id): each for who in self._ledger.strangers for each in who.sent}
        fates = self._last = self._fates(records)
        doubts = self._doubts(records)
        account = Account(letters=len(self._ledger.letters), findings=fates.findings)
        for sent in self._ledger.letters.values():
            for recipient in sent.recipients:
                for way in self._ledger.ways(recipient):
                    self._settle(account, fates, doubts, sent, way)
        for each in self._strange.values():
            for way in self._ledger.ways(each.recipient):
                self._settle_strange(account, fates, doubts, each, way)
        self._settle_reports(account, fates, doubts)
        for server, rows in records.items():
            fates.findings += self._unwarned(fates, server, rows)
        return account

    @property
    def copies(self) -> Collection[Key]:
        """What lay in mailboxes when the account was made."""
        return self._last.copies.keys()

    @property
    def waiting(self) -> Collection[Key]:
        """What was in queues then."""
        return self._last.waiting.keys()

    # --- where everything is ----------------------------------------------------------------------

    def _fates(self, records: Mapping[str, Records]) -> Fates:
        fates = Fates()
        about = forwards.subjects(records)
        fates.unread.update(dict.fromkeys(forwards.in_vain(records, about)))
        fates.findings += forwards.turned_away(self._ledger, records, about)
        for server, rows in records.items():
            self._look_at_mailboxes(fates, server, rows)
            self._look_at_queue(fates, server, rows)
        for person in self._ledger.people.values():
            for name, octets in person.taken.items():
                self._add(fates, person.name, f"{person.home}/{name}", octets)
        for stranger in self._ledger.strangers:
            for number, kept in enumerate(stranger.kept):
                name = f"{stranger.hostname}/{number}"
                for recipient in kept.recipients:
                    key = self._add(fates, recipient, name, kept.content).message_id, recipient
                    fates.heard[key] = fates.heard.get(key, 0) + kept.was_answered
        return fates

    def _look_at_mailboxes(self, fates: Fates, server: str, rows: Records) -> None:
        times = Counter(each.email for each in rows.placements)
        for each in rows.placements:
            owner = rows.accounts[each.account].name
            unique = unique_id(each.email)
            person = self._ledger.people.get(owner)
            if times[each.email] > 1 + (0 if person is None else person.holdings.copied[unique]):
                fates.findings.append(Finding(f"{server}: email {each.email} of {owner} has {times[each.email]} UIDs"))
            if person is not None and unique in person.removed:
                fates.findings.append(Finding(f"{server}: {owner} has taken {unique} away, and it is there again"))
            octets = each.prefix + rows.octets(each.place)
            if len(octets) != each.size:
                fates.findings.append(
                    Finding(f"{server}: a letter of {owner} has {len(octets)} octets, its row says {each.size}")
                )
            if not each.prefix:
                continue  # its owner put it in: see possessions.py
            facts = self._add(fates, owner, f"mail.{owner.partition('@')[2]}/{unique}", octets)
            is_junk = rows.mailboxes[each.mailbox].name == "Junk"
            if wrong := self._misjudged(facts, each.prefix, is_junk=is_junk):
                fates.findings.append(Finding(f"{server}: <{facts.message_id}> of {owner} {wrong}", facts.message_id))
            written = self._written(facts.message_id)
            if written is not None and (wrong := self._badly_passed_on(written, owner, each)):
                fates.findings.append(Finding(f"{server}: <{facts.message_id}> of {owner} {wrong}", facts.message_id))
            if facts.report is not None and each.reverse_path:
                fates.findings.append(Finding(f"{server}: a report came from {each.reverse_path}, not from <>"))

    def _misjudged(self, facts: Facts, prefix: bytes, *, is_junk: bool) -> str | None:
        """Letters of people are signed, so that no trouble with DNS or detour makes junk of them. Reports are not:
        what hides their server's name from DNS may (RFC 9989 §3.2.4)."""
        if is_junk and b"dmarc=pass" in prefix:
            return "passes DMARC and lies among the junk"
        if is_junk and facts.message_id in self._ledger.letters:
            return "is signed by its author's domain and lies among the junk"
        strange = self._strange.get(facts.message_id)
        if strange is not None and strange.guise.is_lie and not is_junk and b"dmarc=temperror" not in prefix:
            return "is in the name of others and does not lie among the junk"
        return None

    def _badly_passed_on(self, written: Sent | SentLetter, owner: str, placed: Placement) -> str | None:
        way = self._way(written, owner)
        if way is None or (isinstance(written, SentLetter) and written.guise.is_lie):
            return None
        sender = written.sender if isinstance(written, Sent) else written.reverse_path
        return badly_passed_on(way, sender, placed.prefix, placed.reverse_path)

    def _look_at_queue(self, fates: Fates, server: str, rows: Records) -> None:
        for row in rows.queue:
            if row.state not in ("due", "claimed", "held"):
                continue
            key = bare(row.message_id), row.address
            fates.waiting[key] = fates.waiting.get(key, 0) + 1
            if not row.reverse_path:  # a report on its way; the content is behind the letter's own prefix
                name = f"{server}/queue/{row.letter}"
                facts = self._know(name, rows.octets(row.place))
                if not is_reader(row.address):
                    self._report(fates, facts, name, row.address)

    def _way(self, written: Sent | SentLetter, owner: str) -> Way | None:
        """How a letter comes to this mailbox; None: it should not."""
        ways = (way for recipient in _recipients(written) for way in self._ledger.ways(recipient))
        return next((way for way in ways if way[-1] == owner), None)

    def _written(self, message_id: str) -> Sent | SentLetter | None:
        return self._ledger.letters.get(message_id) or self._strange.get(message_id)

    def _add(self, fates: Fates, owner: str, name: str, octets: bytes) -> Facts:
        """A letter in a mailbox, by a name that no other has."""
        facts = self._know(name, octets)
        key = facts.message_id, owner
        if name in fates.copies.setdefault(key, {}):
            return facts  # taken away, and still there: the answer to QUIT was lost
        fates.copies[key][name] = None
        if is_reader(owner):
            return facts
        if facts.report is not None:
            self._report(fates, facts, name, owner)
            return facts
        written = self._written(facts.message_id)
        if written is None or SMUGGLED_ID in facts.message_id:
            fates.findings.append(Finding(f"{owner} has a letter that nobody sent: {name}", facts.message_id))
        elif not octets.endswith(written.octets):
            fates.findings.append(
                Finding(f"<{facts.message_id}> is not what was written in {owner}'s mailbox", facts.message_id)
            )
        elif self._way(written, owner) is None:
            fates.findings.append(Finding(f"{owner} has <{facts.message_id}>, which is for others", facts.message_id))
        return facts

    def _know(self, name: str, octets: bytes) -> Facts:
        facts = self._facts.get(name)
        if facts is None:
            scan = scan_header(octets)
            date = parse_date((scan.get(b"date") or b"").decode())
            facts = self._facts[name] = Facts(scan.message_id.decode(), parse_dsn(octets), date)
        return facts

    def _report(self, fates: Fates, facts: Facts, name: str, owner: str) -> None:
        assert facts.report is not None, f"{name} came from <> and is no report"
        about = facts.report.original_message_id.decode()
        sent = self._written(about)
        if sent is None:
            fates.findings.append(Finding(f"{owner} has a report about <{about}>, which nobody wrote: {name}", about))
            return
        # A report whose reader is disabled goes to the postmaster.
        sender = sent.sender if isinstance(sent, Sent) else sent.reverse_path
        if owner != sender and not is_way_back(owner) and not self._ledger.was_disabled(sender, sent.at):
            fates.findings.append(Finding(f"{owner} has a report for {sender} about <{about}>", about))
        for each in facts.report.recipients:
            told = fates.reports if each.action is Action.FAILED else fates.warnings
            told.setdefault((about, each.final_recipient), {})[facts.message_id] = None
            if wrong := _told_too_soon(facts, each):
                fates.findings.append(Finding(f"{each.final_recipient} of <{about}>: {wrong}", about))

    def _unwarned(self, fates: Fates, server: str, rows: Records) -> Iterator[Finding]:
        """Recipients in the queue whose sender counts as warned, and has no warning."""
        for row in rows.queue:
            message_id = bare(row.message_id)
            sent = self._ledger.letters.get(message_id)
            is_warned = row.reverse_path and row.deadline_at >= row.expires_at - GRAIN
            if not is_warned or row.state == "claimed" or sent is None or row.result is None:
                continue
            is_told = (message_id, row.address) in fates.warnings or message_id in fates.unread
            if not is_told and not self._ledger.was_disabled(sent.sender, sent.at):
                text = f"{server}: {row.address} of <{message_id}> waits, and {sent.sender} has no warning of it"
                yield Finding(text, message_id)

    # --- what may be twice ------------------------------------------------------------------------

    def _doubts(self, records: Mapping[str, Records]) -> dict[Key, int]:
        doubts = dict(self._ledger.doubts)
        for rows in records.values():
            for key in _unanswered(rows):
                doubts[key] = doubts.get(key, 0) + 1
        return doubts

    # --- one letter -------------------------------------------------------------------------------

    def _settle(self, account: Account, fates: Fates, doubts: Mapping[Key, int], sent: Sent, way: Way) -> None:
        message_id = bare(sent.message_id)
        recipient, target = way[0], way[-1]
        keys = [(message_id, address) for address in way]
        copies = len(fates.copies.get((message_id, target), ()))
        reports = sum(len(fates.reports.get(key, ())) for key in keys)
        is_waiting = any(key in fates.waiting for key in keys)
        may_be = sent.copies(recipient)
        what = f"<{message_id}> from {sent.sender} to {target}"
        if copies + reports and not may_be and not is_waiting:
            account.findings.append(Finding(f"{what} was not accepted, and came all the same", message_id))
        room = max(1, may_be) + sum(doubts.get(key, 0) for key in keys)
        warnings = max(len(fates.warnings.get(key, ())) for key in keys)
        if max(copies, reports, warnings) > room:
            came = f"{what} came {copies} times, with {reports} reports and {warnings} warnings"
            account.findings.append(Finding(f"{came}, at most {room} may be", message_id))
        elif copies > 1:
            account.duplicates += copies - 1
        # Past what the server says of itself: a stranger knows whether its answer was heard.
        heard, known = fates.heard.get((message_id, target), 0), sum(self._ledger.doubts.get(key, 0) for key in keys)
        if heard > max(1, may_be) + known:
            account.findings.append(Finding(f"{what} was sent {heard} times, each time with an answer", message_id))
        if copies and reports and room < 2:
            account.findings.append(Finding(f"{what} has arrived, and its sender was told that it has not", message_id))
        if recipient not in sent.accepted:
            return
        account.accepted += 1
        if copies:
            account.delivered += 1
        elif reports or message_id in fates.unread:
            account.reported += 1
        elif is_waiting:
            account.waiting += 1
        elif any(key in self._ledger.dropped for key in keys) or self._is_left_out(sent, way):
            account.dropped += 1
        else:
            account.findings.append(Finding(f"{what} is lost", message_id))

    def _settle_reports(self, account: Account, fates: Fates, doubts: Mapping[Key, int]) -> None:
        """A report on its way to another server may come twice as any letter may."""
        for (message_id, owner), names in fates.copies.items():
            if self._written(message_id) is not None or len(names) < 2:
                continue
            room = 1 + sum(times for (about, _), times in doubts.items() if about == message_id)
            account.duplicates += len(names) - 1
            if len(names) > room:
                text = f"the report <{message_id}> came {len(names)} times to {owner}, at most {room} may be"
                account.findings.append(Finding(text, message_id))

    def _is_left_out(self, sent: Sent | SentLetter, way: Way) -> bool:
        """An alias reaches those of its targets that are not disabled; another server refuses for them."""
        return len(way) > 1 and len(servers(way[-2:])) == 1 and self._ledger.was_disabled(way[-1], sent.at)

    def _settle_strange(
        self, account: Account, fates: Fates, doubts: Mapping[Key, int], sent: SentLetter, way: Way
    ) -> None:
        message_id = bare(sent.message_id)
        keys = [(message_id, address) for address in way]
        copies = len(fates.copies.get(keys[-1], ()))
        reports = sum(len(fates.reports.get(key, ())) for key in keys)
        is_waiting = any(key in fates.waiting or key in self._ledger.dropped for key in keys)
        is_known = copies or reports or message_id in fates.unread or is_waiting or self._is_left_out(sent, way)
        if sent.is_acknowledged and not is_known:
            account.findings.append(Finding(f"<{message_id}> of a stranger to {way[-1]} is lost: {sent}", message_id))
        room = 1 + sum(doubts.get(key, 0) for key in keys)
        if max(copies, reports) > room or (copies and not sent.is_acknowledged and not sent.is_uncertain):
            came = f"came {copies} times to {way[-1]}, with {reports} reports"
            account.findings.append(Finding(f"<{message_id}> of a stranger {came}: {sent}", message_id))


def _recipients(written: Sent | SentLetter) -> tuple[str, ...]:
    return written.recipients if isinstance(written, Sent) else (written.recipient,)


def _told_too_soon(facts: Facts, recipient: ReadRecipient) -> str | None:
    if recipient.action is Action.FAILED and recipient.status != EXPIRED and _is_temporary(recipient):
        return f"its sender was told the end for {recipient.diagnostic or recipient.status}, which is not for good"
    arrival = facts.report.arrival if facts.report else None
    if arrival is None or facts.date is None:
        return "the report about it has no times"
    if recipient.action is Action.DELAYED:
        return report_time("delayed", arrival.seconds, facts.date.seconds)
    if recipient.status == EXPIRED:
        return report_time("expired", arrival.seconds, facts.date.seconds)
    return None


def _is_temporary(recipient: ReadRecipient) -> bool:
    """By its status, or by the reply that a host gave."""
    status = recipient.status
    return status is None or not status.is_permanent or _TEMPORARY_REPLY.match(recipient.diagnostic) is not None


def _unanswered(rows: Records) -> Iterator[Key]:
    """Of each attempt after which nobody knows whether the other side has the letter."""
    for attempt in rows.attempts:
        if attempt.letter is None:
            continue
        message_id = rows.message_id(attempt.letter)
        for outcome, recipients in attempt.results:
            if is_uncertain(outcome):
                yield from ((message_id, recipient) for recipient in recipients)
