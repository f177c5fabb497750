# SPDX-License-Identifier: Apache-2.0
"""The one unit of work behind `250` after the final dot: the letter, its places, its queue rows, and the reports
of success that its sender asked for.

Invariant: when `accept` returns, all of it is durable; when it raises, nothing was stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from prometheus_client import Counter

from posthouse import outcome
from posthouse.mail.dsn import Action
from posthouse.mail.envelope import Notify, ReversePath
from posthouse.outcome import Outcome, Refusal
from posthouse.ports import Database, Transaction
from posthouse.services.bounce import Bounce, LetterToReport, Notice, Posting
from posthouse.services.delivery import DELIVERED_HERE, Delivery, Origin, Plan, RecipientsGone, is_list
from posthouse.services.incoming import FinishedLetter
from posthouse.services.transaction import Recipient
from posthouse.store import letters
from posthouse.store.verdicts import Verdict
from posthouse.telemetry import Metrics, logger

EXPANDED = Outcome(outcome.DELIVERED, "passed on to the members of the list")
GONE = Outcome(outcome.BAD_MAILBOX, "the mailbox was removed before the letter could be put into it")
# Accounts are removed rarely; as many in a row as this within one commit is a cache that does not learn of it.
MAX_PLANS = 4


class Acceptance:
    def __init__(self, database: Database, delivery: Delivery, bounce: Bounce, metrics: Metrics) -> None:
        self._database = database
        self._delivery = delivery
        self._bounce = bounce
        self._metrics = metrics
        self._counted: dict[str, tuple[Counter, Counter]] = {}  # by kind: finding a label costs more than counting
        self._log = logger("acceptance")

    async def accept(
        self,
        letter: FinishedLetter,
        reverse_path: ReversePath,
        recipients: Sequence[Recipient],
        origin: Origin,
        kind: str,
    ) -> None:
        """Make the letter durable for all recipients. `kind` is for the metrics. Raises StoreFault, and Refusal when
        nobody is left to take it. If some are left, the sender gets a report about the others."""
        gone: list[Notice] = []
        for _ in range(MAX_PLANS):
            plan = self._delivery.plan(letter, reverse_path, recipients, origin)
            reports = await self._reports(letter, reverse_path, recipients, origin, gone)
            try:
                accepted = await self._database.write(_unit(plan, reports))
            except RecipientsGone as missing:
                recipients, more = _without(recipients, missing.accounts, origin.received_at)
                gone += more
                self._log.warning(
                    "accounts are gone since RCPT", trace=origin.trace, recipients=[str(each.path) for each in more]
                )
                if not recipients:
                    raise Refusal(outcome.BAD_MAILBOX, "The mailbox was removed at this moment") from None
            else:
                break
        else:
            raise Refusal(outcome.SYSTEM_FAULT, "The mailboxes change at this moment, try again later")
        self._delivery.announce(plan)
        for report in reports:
            report.announce()
        letters_counter, octets_counter = self._counters(kind)
        letters_counter.inc()
        octets_counter.inc(letter.size)
        checked = {} if origin.verdict is None else {"auth": _auth(origin.verdict)}
        self._log.info(
            "accepted",
            trace=origin.trace,
            kind=kind,
            source=origin.source,
            reverse_path=str(reverse_path),
            recipients=len(recipients),
            size=letter.size,
            message_id=plan.letter.message_id.decode("utf-8", "replace"),
            queue_id=accepted.queue_id,
            **checked,
        )

    def _counters(self, kind: str) -> tuple[Counter, Counter]:
        found = self._counted.get(kind)
        if found is None:
            found = self._metrics.letters.labels(kind), self._metrics.octets.labels(kind)
            self._counted[kind] = found
        return found

    async def has_room(self, account: int, size: int | None) -> outcome.Status | None:
        """The quota's decision at RCPT, for accounts that have one; None when there is room."""
        return await self._database.read(lambda reader: letters.room(reader, account, size))

    async def _reports(
        self,
        letter: FinishedLetter,
        reverse_path: ReversePath,
        recipients: Sequence[Recipient],
        origin: Origin,
        gone: Sequence[Notice],
    ) -> Sequence[Posting]:
        notices = list(gone)
        for recipient in recipients:
            if origin.waits or recipient.path.notify is None or Notify.SUCCESS not in recipient.path.notify:
                continue
            if recipient.resolution.is_alias and is_list(recipient.resolution):
                notices.append(Notice(recipient.path, Action.EXPANDED, EXPANDED, origin.received_at))
            elif recipient.resolution.accounts:
                notices.append(Notice(recipient.path, Action.DELIVERED, DELIVERED_HERE, origin.received_at))
        if not notices or reverse_path.is_null:
            return []
        to_report = LetterToReport(
            reverse_path=reverse_path,
            language=origin.account.language if origin.account else "en",
            arrived_at=origin.received_at,
            trace=origin.trace,
            ident=origin.trace,
            prefix=origin.trace_fields + letter.scan.block + b"\r\n",
            location=None,
            size=letter.size,
        )
        return await self._bounce.prepare(to_report, notices)


def _auth(verdict: Verdict) -> str:
    """`iprev=pass spf=pass dkim=pass dmarc=pass`, and what was done if that is not to be seen from it."""
    told = [f"{each.method}={each.result}" for each in verdict.statements]
    told += [f"action={verdict.action}"] * (verdict.action != "accept")
    told += [f"({verdict.local})"] * bool(verdict.local)
    return " ".join(told)


def _unit(plan: Plan, reports: Sequence[Posting]) -> Callable[[Transaction], letters.Accepted]:
    if not reports:
        return plan.run

    def unit(tx: Transaction) -> letters.Accepted:
        accepted = plan.run(tx)
        for report in reports:
            report(tx)
        return accepted

    return unit


def _without(
    recipients: Sequence[Recipient], accounts: Sequence[int], at: float
) -> tuple[list[Recipient], list[Notice]]:
    """The recipients that still lead somewhere without these accounts, and what to say about the others."""
    left: list[Recipient] = []
    gone: list[Notice] = []
    for recipient in recipients:
        resolution = recipient.resolution
        still = tuple(each for each in resolution.accounts if each.id not in accounts)
        if still or resolution.remote or not resolution.accounts:
            left.append(Recipient(recipient.path, replace(resolution, accounts=still)))
        else:
            gone.append(Notice(recipient.path, Action.FAILED, GONE, at))
    return left, gone
