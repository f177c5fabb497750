# SPDX-License-Identifier: Apache-2.0
"""Group commit: everything that waits becomes one transaction, two syncs for all.

Invariant: a unit is answered with success only after its records and its rows are both synced; a unit that
fails takes nothing of the others with it. A batch is what came in during the last sync, and in the few turns of the
loop for which net/workers.py holds work; there is no timer.

Order: BEGIN; each unit in its own savepoint; one write of the survivors' records behind the tail; fdatasync;
COMMIT (synchronous=FULL); the answers, with one wake-up of the loop.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from posthouse import telemetry
from posthouse.ports import Clock, StoreFault, Transaction, Workers
from posthouse.store.blobs import ledger
from posthouse.store.blobs.appender import PackAppender
from posthouse.store.blobs.shelf import Shelf
from posthouse.store.faults import disk_fault
from posthouse.store.numbers import Numbers

# One transaction's budget. 8 MiB are some 30 ms of writing on a modest disk: what waits behind it waits no
# longer than a slow sync. 10,000 changed rows bound the pages that one COMMIT has to write.
BATCH_OCTETS = 8 * 1024 * 1024
BATCH_ROWS = 10_000


class Engine(Protocol):
    """What group commit asks of a database with one writer. Methods raise the driver's errors."""

    @property
    def transaction(self) -> Transaction: ...

    def begin(self) -> None: ...

    def save(self) -> None:
        """Set the savepoint of one unit."""

    def release(self) -> None:
        """The unit is done: drop its savepoint. Rows that it added are written."""

    def undo(self) -> None:
        """Back to the savepoint, and drop it."""

    def finish(self) -> None:
        """No further unit comes: write the rows that were added."""

    def commit(self) -> None: ...

    def roll_back(self) -> None:
        """End the transaction, if the engine has not done so itself. Never raises."""

    def is_open(self) -> bool:
        """Whether the transaction is still there: the engine may have rolled it back on its own."""

    def changes(self) -> int:
        """Rows changed since the connection was opened, with those that were added and are not written yet."""

    def translate(self, error: Exception) -> Exception:
        """The driver's error in the words of the ports: StoreFault for the machine's faults."""

    def idle(self) -> None:
        """Nobody waits: a moment for upkeep."""

    def committed(self) -> None:
        """A transaction is committed and answered."""

    def close(self) -> None:
        """Never raises."""


class Job:
    """One unit of work and whoever waits for it."""

    __slots__ = ("error", "future", "has_content", "result", "unit")

    def __init__(self, unit: Callable[[Transaction], Any], future: Future[Any]) -> None:
        self.unit = unit
        self.future = future
        self.result: Any = None
        self.error: Exception | None = None
        self.has_content = False


class Closing:
    """Handed in last: close everything in the committer's thread, then answer."""

    __slots__ = ("future",)

    def __init__(self, future: Future[None]) -> None:
        self.future = future


@dataclass(slots=True)
class Statistics:
    """Counts since start. `sync_seconds` is the time in write, fdatasync and COMMIT; `longest` the worst batch."""

    batches: int = 0
    units: int = 0
    refused: int = 0
    faults: int = 0
    octets: int = 0
    sync_seconds: float = 0.0
    longest_batch_seconds: float = 0.0
    rolled_back_batches: int = 0


class _RolledBackError(Exception):
    """The engine rolled the whole transaction back while a unit ran. `taken` units had been started."""

    def __init__(self, taken: int, cause: Exception) -> None:
        super().__init__(str(cause))
        self.taken = taken
        self.cause = cause


def _end(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def settle(jobs: Sequence[Job]) -> None:
    """Answer everybody, in the loop's thread. Who was cancelled meanwhile is not asked."""
    for job in jobs:
        future = job.future
        if future.done():
            continue
        error = job.error
        if error is None:
            future.set_result(job.result)
        elif isinstance(error, StopIteration):  # a future cannot carry it
            future.set_exception(RuntimeError("the unit raised StopIteration"))
        else:
            future.set_exception(error)


class Committer:
    """Runs batches of units; lives in the committer's thread."""

    def __init__(
        self,
        engine: Engine,
        appender: PackAppender,
        *,
        shelf: Shelf,
        numbers: Numbers,
        workers: Workers,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._appender = appender
        self._shelf = shelf
        self._numbers = numbers
        self._workers = workers
        self._clock = clock
        self._saved_id = numbers.last_id
        self._log = telemetry.logger("store")
        self.statistics = Statistics()

    def commit(self, batch: list[Job | Closing]) -> None:
        """What Workers.committer calls: everything that waits, or nothing."""
        if not batch:
            self._engine.idle()
            return
        jobs = [item for item in batch if isinstance(item, Job)]
        self._commit_jobs(jobs)
        for item in batch:
            if isinstance(item, Closing):
                self._close(item)

    def _close(self, closing: Closing) -> None:
        self._engine.close()
        self._appender.close()
        self._workers.call_back([partial(_end, closing.future)])

    def _commit_jobs(self, batch: list[Job]) -> None:
        first = 0
        while first < len(batch):
            jobs = batch[first:] if first else batch
            try:
                taken = self._group(jobs)
            except Exception as error:  # a fault of this program: nobody may wait for ever, and nothing stays open
                self._log.exception("group_commit_failed")
                self._engine.roll_back()
                self._appender.drop()
                taken = self._refuse(jobs, StoreFault(f"group commit failed: {error!r}"))
            answered = jobs[:taken]
            self._count(answered)  # before they are told: whoever then looks at the counts finds itself in them
            self._workers.call_back([partial(settle, answered)])
            self._engine.committed()
            first += taken

    # --- one group -------------------------------------------------------------------------------

    def _group(self, jobs: list[Job], *, is_careful: bool = False) -> int:
        """One transaction for as many jobs as its budget allows; how many were answered.

        `is_careful`: something failed before, so each unit gets its savepoint at once.
        """
        started = self._clock.monotonic()
        engine = self._engine
        try:
            if self._appender.is_doubtful:
                self._end_doubt()
            engine.begin()
        except Exception as error:
            engine.roll_back()
            return self._refuse(jobs, self._fault(error))
        try:
            taken = 0 if is_careful else self._run_together(jobs)
            taken = taken or self._run_units(jobs)
            self._record()
            engine.finish()
        except _RolledBackError as lost:
            self._appender.drop()
            engine.roll_back()
            return self._one_by_one(jobs[: lost.taken], lost.cause)
        except Exception as error:  # the rows about packs could not be written
            self._appender.drop()
            engine.roll_back()
            return self._one_by_one(jobs, error)
        part = jobs if taken == len(jobs) else jobs[:taken]
        octets = self._appender.waiting_octets
        writing = self._clock.monotonic()
        try:
            self._appender.flush()
        except OSError as error:
            engine.roll_back()
            return self._refuse_content(part, error)
        try:
            engine.commit()
        except Exception as error:
            fault = self._fault(error)
            self._appender.abandon(for_want_of_space=fault.is_full)
            engine.roll_back()
            return self._one_by_one(part, error)
        self._appender.settle()
        self._saved_id = self._numbers.last_id
        ended = self._clock.monotonic()
        statistics = self.statistics
        statistics.batches += 1
        statistics.octets += octets
        statistics.sync_seconds += ended - writing
        statistics.longest_batch_seconds = max(statistics.longest_batch_seconds, ended - started)
        return taken

    def _run_together(self, jobs: list[Job]) -> int:
        """All units as one, as nearly always none fails: a savepoint each would cost a sixth of the statements.

        0: one failed, and all are taken back. They run again (units may), with savepoints that tell which it was.
        """
        engine, appender, transaction = self._engine, self._appender, self._engine.transaction
        mark_of = appender.mark
        last_row = engine.changes() + BATCH_ROWS
        taken = 0
        try:
            for job in jobs:
                taken += 1
                if job.future.cancelled():  # nobody waits, and nothing has been done
                    continue
                mark = mark_of()
                job.result = job.unit(transaction)
                job.error = None  # it may have run before
                job.has_content = mark_of() != mark
                if appender.waiting_octets > BATCH_OCTETS or engine.changes() > last_row:
                    break
            engine.finish()
        except Exception:  # whatever it was, it comes again
            appender.drop()
            engine.roll_back()
            engine.begin()
            return 0
        return taken

    def _run_units(self, jobs: list[Job]) -> int:
        engine, appender, transaction = self._engine, self._appender, self._engine.transaction
        save, release, mark_of = engine.save, engine.release, appender.mark
        last_row = engine.changes() + BATCH_ROWS
        taken = 0
        for job in jobs:
            taken += 1
            if job.future.cancelled():  # nobody waits, and nothing has been done
                continue
            mark = mark_of()
            try:
                save()
                job.result = job.unit(transaction)
                release()
            except Exception as error:
                self._undo(job, error, taken)
                appender.drop_to(mark)
                continue
            job.error = None  # it may have run before
            job.has_content = mark_of() != mark
            if appender.waiting_octets > BATCH_OCTETS or engine.changes() > last_row:
                break
        return taken

    def _undo(self, job: Job, error: Exception, taken: int) -> None:
        """Take one failed unit back. Raises _RolledBackError when the engine took back everything."""
        engine = self._engine
        if not engine.is_open():
            raise _RolledBackError(taken, error) from error
        try:
            engine.undo()
        except Exception as failure:
            raise _RolledBackError(taken, failure) from error
        job.result = None
        job.error = engine.translate(error)

    def _record(self) -> None:
        """How far the packs are indexed and which numbers are used, in the same transaction."""
        appender = self._appender
        if appender.rows or appender.waiting_octets or self._numbers.last_id != self._saved_id:
            self._write_down()

    def _write_down(self) -> None:
        appender, transaction = self._appender, self._engine.transaction
        for row in appender.rows:
            ledger.save_pack(transaction, row)
        ledger.save_tail(transaction, appender.number, appender.end, self._numbers.last_id, self._shelf.last_pack)

    def _end_doubt(self) -> None:
        """A commit failed half-way, and after a crash it might come to light: its frames may lie in the log.

        One that succeeds overwrites them. Until then no content is taken: what the doubtful one needs lies where
        it would go. Raises the driver's errors, and then the doubt remains.
        """
        engine = self._engine
        engine.begin()
        self._write_down()
        engine.finish()
        engine.commit()
        self._appender.end_doubt()

    # --- when something fails --------------------------------------------------------------------

    def _one_by_one(self, jobs: list[Job], error: Exception) -> int:
        """The batch was lost as a whole: run its units again alone, so that only the guilty one is refused."""
        if len(jobs) == 1:
            return self._refuse(jobs, self._fault(error))
        self.statistics.rolled_back_batches += 1
        self._log.warning("batch_rolled_back", units=len(jobs), error=str(error))
        for job in jobs:
            self._group([job], is_careful=True)
        return len(jobs)

    def _refuse_content(self, jobs: list[Job], error: OSError) -> int:
        """The packs took nothing. Units without content do not need them: they run again."""
        fault = disk_fault("content cannot be stored", error)
        self._refuse([job for job in jobs if job.has_content], fault)
        others = [job for job in jobs if not job.has_content and job.error is None]
        done = 0
        while done < len(others):
            done += self._group(others[done:])
        return len(jobs)

    def _refuse(self, jobs: list[Job], fault: StoreFault) -> int:
        """Answer all with a fault; those that had been refused for their own reasons keep them."""
        if jobs:
            self._log.error("store_fault", error=str(fault), is_full=fault.is_full, units=len(jobs))
        for job in jobs:
            job.result = None
            if job.error is None or isinstance(job.error, StoreFault):
                job.error = StoreFault(str(fault), is_full=fault.is_full)  # one each: a raised exception is not shared
        return len(jobs)

    def _fault(self, error: Exception) -> StoreFault:
        translated = self._engine.translate(error)
        return translated if isinstance(translated, StoreFault) else StoreFault(f"the database failed: {error}")

    def _count(self, answered: Sequence[Job]) -> None:
        statistics = self.statistics
        statistics.units += len(answered)
        for job in answered:
            if job.error is None:
                continue
            if isinstance(job.error, StoreFault):
                statistics.faults += 1
            else:
                statistics.refused += 1
