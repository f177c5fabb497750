# SPDX-License-Identifier: Apache-2.0
"""Counts every letter whose author's domain wants DMARC reports, taken and refused ones alike.

Invariant: a letter costs some microseconds and no disk; what is counted is written together, at the latest after
FLUSH_SECONDS, and what waits in memory has a bound. A crash loses no letter, only so many seconds of the counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from functools import partial

import msgspec

from posthouse.mailauth.aggregate import Facts
from posthouse.mailauth.dmarc_record import DmarcRecord
from posthouse.ports import Clock, Database, StoreFault, Transaction
from posthouse.services.disposition import Action, Decision
from posthouse.services.dmarc_facts import facts_of, policy_said
from posthouse.services.verification import Findings
from posthouse.store import dmarc_counts
from posthouse.store.dmarc_counts import Counted, PolicySaid
from posthouse.telemetry import logger

DAY = 86400
FLUSH_SECONDS = 60.0
MANY_WAITING = 5_000  # different facts in memory, about 1 KB each, that are written without waiting
MAX_WAITING = 20_000  # where they cannot be written: what comes beyond is not counted
PAGE = 500  # facts that one unit of work writes: some milliseconds of the committer

pack_facts = msgspec.msgpack.Encoder().encode
unpack_facts = msgspec.msgpack.Decoder(Facts).decode

_Place = tuple[int, str]  # day, policy domain
_Waiting = dict[tuple[int, str, bytes], list[int]]  # day, policy domain, packed facts -> letters, telling ones


class DmarcTally:
    def __init__(self, database: Database, clock: Clock, *, is_on: bool = True) -> None:
        """`is_on`: somebody will be told."""
        self._database = database
        self._clock = clock
        self._is_on = is_on
        self._waiting: _Waiting = {}
        self._policies: dict[_Place, tuple[DmarcRecord, PolicySaid]] = {}
        self._lost = 0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._log = logger("reports")

    def count(self, found: Findings, decision: Decision, recipients: Collection[str], *, is_report: bool) -> None:
        """One letter, judged. `recipients`: their domains; `is_report`: all of them are addresses for reports."""
        if not self._is_on or (decision.refusal is not None and decision.action is Action.ACCEPT):
            return  # the second: it is to come again
        day = int(self._clock.wall() // DAY)
        for verdict in found.dmarc:
            record = verdict.record
            if record is None or not record.rua:
                continue
            place = (day, verdict.policy_domain)
            key = (*place, pack_facts(facts_of(found, verdict, decision, recipients)))
            entry = self._waiting.get(key)
            if entry is None:
                if len(self._waiting) >= MAX_WAITING:
                    self._lost += 1
                    continue
                entry = self._waiting[key] = [0, 0]
            entry[0] += 1
            entry[1] += not is_report
            known = self._policies.get(place)
            if known is None or known[0] is not record:  # the last of the day is the one that is told (RFC 9990 §3.1)
                self._policies[place] = (record, policy_said(verdict))
        if self._waiting:
            self._see_to_flush()

    async def flush(self) -> None:
        """Write what was counted. Raises StoreFault, and then nothing is lost. What the store will never take is
        dropped: it would keep all other counts from being written."""
        async with self._lock:
            waiting, self._waiting = self._waiting, {}
            policies, self._policies = self._policies, {}
            try:
                while waiting:
                    page = {key: waiting[key] for key in list(waiting)[:PAGE]}
                    try:
                        await self._database.write(partial(_add, policies=policies, waiting=page))
                    except (StoreFault, asyncio.CancelledError):
                        raise
                    except Exception as fault:
                        letters = sum(count for count, _ in page.values())
                        self._log.exception("counts for DMARC reports dropped", letters=letters, reason=repr(fault))
                    for key in page:
                        del waiting[key]
            finally:
                self._put_back(waiting, policies)

    async def close(self) -> None:
        """Nothing is counted any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            await self._task
        try:
            await self.flush()
        except StoreFault as fault:
            self._log.warning("counts for DMARC reports are lost", kinds=len(self._waiting), reason=str(fault))

    def _see_to_flush(self) -> None:
        is_urgent = len(self._waiting) >= MANY_WAITING and self._lost == 0
        if self._task is None and (self._timer is None or is_urgent):
            if self._timer is not None:
                self._timer.cancel()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(0 if is_urgent else FLUSH_SECONDS, self._begin_flush)

    def _begin_flush(self) -> None:
        self._timer = None
        self._task = asyncio.create_task(self._flush_safely())

    async def _flush_safely(self) -> None:
        try:
            await self.flush()
        except StoreFault as fault:
            self._log.warning("counts for DMARC reports wait", kinds=len(self._waiting), reason=str(fault))
        finally:
            self._task = None
        if self._lost:
            self._log.warning("letters are missing in DMARC reports", letters=self._lost)
            self._lost = 0

    def _put_back(self, waiting: _Waiting, policies: dict[_Place, tuple[DmarcRecord, PolicySaid]]) -> None:
        """What could not be written; nothing where all was."""
        for key, (count, telling) in waiting.items():
            entry = self._waiting.setdefault(key, [0, 0])
            entry[0] += count
            entry[1] += telling
            self._policies.setdefault(key[:2], policies[key[:2]])


def _add(tx: Transaction, policies: dict[_Place, tuple[DmarcRecord, PolicySaid]], waiting: _Waiting) -> None:
    by_place: dict[_Place, list[Counted]] = {}
    for (day, domain, facts), (count, telling) in waiting.items():
        by_place.setdefault((day, domain), []).append(Counted(facts, count, telling))
    for (day, domain), counted in sorted(by_place.items()):
        dmarc_counts.add(tx, day, domain, policies[day, domain][1], counted)
