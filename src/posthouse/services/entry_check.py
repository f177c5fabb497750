# SPDX-License-Identifier: Apache-2.0
"""The checks of letters from other servers as reception uses them: begun, judged by the operator's terms, and told:
in the letter's header, in the store, in the log and to the metrics.

Invariant: a letter that was checked leaves here with an Authentication-Results field of ours, and with no other one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import Counter

from posthouse.mail.envelope import ReversePath
from posthouse.mailauth.results import Statement
from posthouse.outcome import Refusal
from posthouse.ports import Peer
from posthouse.services.disposition import Action, Decision, Terms, decide, results_field, statements, summary
from posthouse.services.dmarc_tally import DmarcTally
from posthouse.services.report_addresses import ReportAddresses
from posthouse.services.transaction import Client, Recipient
from posthouse.services.verification import Findings, LetterCheck, Verifier
from posthouse.store.verdicts import Told, Verdict
from posthouse.telemetry import Metrics, logger


@dataclass(frozen=True, slots=True)
class Judgement:
    """Of a letter that is taken. `field`: Authentication-Results; `peer_name`: the client's name if DNS leads back from
    it. Without any of it where nothing was checked."""

    field: bytes = b""
    peer_name: str = ""
    verdict: Verdict | None = None
    is_junk: bool = False

    @property
    def results(self) -> bytes:
        """What the field says, for a seal (RFC 8617 §4.1.1)."""
        return self.field.partition(b":")[2].strip()


class EntryCheck:
    def __init__(
        self,
        verifier: Verifier,
        terms: Terms,
        metrics: Metrics,
        *,
        tally: DmarcTally | None = None,
        reports: ReportAddresses | None = None,
    ) -> None:
        """`tally` counts letters for reports to their authors' domains; `reports`: addresses that get such reports."""
        self._verifier = verifier
        self._terms = terms
        self._metrics = metrics
        self._tally = tally
        self._reports = reports or ReportAddresses()
        self._counters: dict[tuple[str, str], Counter] = {}
        self._log = logger("mailauth")

    def is_exempt(self, peer: Peer) -> bool:
        return self._verifier.is_exempt(peer)

    def begin(self, client: Client, path: ReversePath, *, is_forwarded: bool = False) -> LetterCheck | None:
        return self._verifier.begin(client, path, is_forwarded=is_forwarded)

    def without_claims(self, header: bytes) -> bytes:
        return self._verifier.without_claims(header)

    def judge(self, found: Findings, trace: str, recipients: Sequence[Recipient] = ()) -> Judgement:
        """Raises Refusal."""
        decision = decide(self._terms, found)
        if self._tally is not None:
            domains = {each.path.address.domain.name for each in recipients}
            is_report = bool(recipients) and all(self._reports.has(each.path.address) for each in recipients)
            self._tally.count(found, decision, domains, is_report=is_report)
        told = statements(found, decision)
        for each in told:
            self._counter(each).inc()
        if decision.refusal is not None:
            self._tell_refusal(decision.refusal, told, found, trace)
            raise decision.refusal
        return Judgement(
            results_field(self._verifier.authserv_id, told),
            found.iprev.name,
            _verdict(found, decision, told),
            is_junk=decision.action is Action.QUARANTINE,
        )

    def _tell_refusal(self, refusal: Refusal, told: tuple[Statement, ...], found: Findings, trace: str) -> None:
        self._log.info(
            "refused by policy",
            trace=trace,
            peer=str(found.address),
            author=" ".join(found.authors.domains),
            auth=summary(told),
            status=str(refusal.status),
        )

    def _counter(self, statement: Statement) -> Counter:
        key = statement.method, statement.result
        found = self._counters.get(key)
        if found is None:
            found = self._counters[key] = self._metrics.verdicts.labels(*key)
        return found


def _verdict(found: Findings, decision: Decision, told: tuple[Statement, ...]) -> Verdict:
    first = found.dmarc[0]
    return Verdict(
        peer=str(found.address),
        author=first.author,
        action=decision.action,
        local=decision.local,
        policy_domain=first.policy_domain,
        aligned=(*["spf"] * first.spf_aligned, *first.dkim_aligned),
        statements=tuple(Told(each.method, each.result, each.reason, each.properties) for each in told),
    )
