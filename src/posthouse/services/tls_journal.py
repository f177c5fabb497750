# SPDX-License-Identifier: Apache-2.0
"""Counts how TLS with other domains went (RFC 8460 §4), away from the path of letters.

Invariant: counting takes no time of a delivery and a bounded memory; what was counted is written in batches, and at
the stop. What the disk refuses waits; what does not fit is dropped, as a report is worth less than a letter.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial

from posthouse.mailauth.mta_sts import Mode, StsPolicy
from posthouse.ports import Clock, Database, StoreFault, Target, TlsTrouble
from posthouse.store import tls_results
from posthouse.store.tls_results import DAY, MAX_POLICY_TEXT, MAX_REASON, TlsResult
from posthouse.telemetry import logger

FLUSH = 60.0  # seconds between the first count and its row: a crash loses a minute of counts, never a letter
MAX_PENDING = 5_000  # different counts that wait, about 500 octets each
MAX_BATCH = 500  # rows of one unit: some milliseconds of the committer
KEEP_DAYS = 14  # of days that nobody has reported


@dataclass(frozen=True, slots=True)
class AppliedPolicy:
    """By what a session was judged. `kind`: "tlsa", "sts" or "no-policy-found"; `lines`: the policy's own text."""

    domain: str
    kind: str = "no-policy-found"
    lines: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()


def sts_policy(domain: str, policy: StsPolicy | None) -> AppliedPolicy:
    if policy is None:
        return AppliedPolicy(domain, "sts")
    return AppliedPolicy(domain, "sts", policy.lines, policy.patterns)


class TlsJournal:
    def __init__(self, database: Database, clock: Clock, *, is_on: bool = True) -> None:
        self.is_on = is_on
        self._database = database
        self._clock = clock
        self._pending: Counter[TlsResult] = Counter()
        self._forgotten = 0  # the day before which all was forgotten
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._log = logger("tls")

    async def stop(self) -> None:
        if self._task is not None:
            # Not cancelled: nobody would know whether what it writes just now was written.
            self._stopping.set()
            await asyncio.wait([self._task])
            self._stopping.clear()
        try:
            await self.flush()
        except StoreFault as fault:
            self._log.warning("tls_results_lost", rows=len(self._pending), reason=str(fault))

    def note(self, policy: AppliedPolicy, target: Target | None, trouble: TlsTrouble | None) -> None:
        """One session: it was as the policy wants it, or what was wrong. `target` None: it did not come so far."""
        if not self.is_on:
            return
        result = TlsResult(
            day=int(self._clock.wall() // DAY),
            policy_domain=policy.domain,
            policy_type=policy.kind,
            policy_text=_cut(policy.lines),
            mx_patterns=_cut(policy.patterns),
        )
        if trouble is not None:
            result = replace(
                result,
                result=trouble.result,
                sending_ip=trouble.sending_ip,
                receiving_mx="" if target is None else target.host,
                receiving_ip="" if target is None else target.address,
                reason=" ".join(trouble.reason.split()).encode("ascii", "replace").decode()[:MAX_REASON],
            )
        if len(self._pending) < MAX_PENDING or result in self._pending:
            self._pending[result] += 1
            if self._task is None:
                self._task = asyncio.create_task(self._write_later())

    def note_policy(self, domain: str, policy: StsPolicy | None, trouble: tuple[str, str] | None) -> None:
        """An MTA-STS policy could not be had (RFC 8461 §6); `policy`: the older one, unless it asks for nothing."""
        if trouble is not None and (policy is None or policy.mode is not Mode.NONE):
            self.note(sts_policy(domain, policy), None, TlsTrouble(*trouble))

    async def flush(self) -> None:
        """Write what was counted until now. Raises StoreFault; what was not written waits on, as does what comes
        meanwhile: on a busy server there would be no end of it."""
        waiting = list(self._pending)
        for start in range(0, len(waiting), MAX_BATCH):
            batch = {result: self._pending[result] for result in waiting[start : start + MAX_BATCH]}
            if not await self._database.write(partial(tls_results.add, counts=batch)):
                self._log.warning("tls_results_full", rows=tls_results.MAX_ROWS)
            self._pending.subtract(batch)
            for result in batch:
                if self._pending[result] <= 0:
                    del self._pending[result]
        today = int(self._clock.wall() // DAY)
        if waiting and self._forgotten != today:
            await self._database.write(partial(tls_results.forget, before=today - KEEP_DAYS))
            self._forgotten = today

    async def _write_later(self) -> None:
        """Until nothing waits; the next count begins anew."""
        while self._pending:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH):
                    await self._stopping.wait()
                    break
            try:
                await self.flush()
            except StoreFault as fault:
                self._log.warning("tls_results_not_written", reason=str(fault))
            except Exception as defect:
                self._log.exception("tls_results_failed", reason=repr(defect))
        self._task = None


def _cut(lines: tuple[str, ...]) -> str:
    """Whole lines, as many as are kept."""
    kept: list[str] = []
    size = 0
    for line in lines:
        size += len(line.encode()) + 1
        if size > MAX_POLICY_TEXT:
            break
        kept.append(line)
    return "\n".join(kept)
