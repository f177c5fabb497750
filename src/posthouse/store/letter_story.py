# SPDX-License-Identifier: Apache-2.0
"""`posthouse trace`: what happened to a letter, step by step, whether it waits or is finished.

Invariant: a letter appears once, with the queue's words while a recipient is open and history's for the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from posthouse.outcome import Outcome
from posthouse.ports import Reader
from posthouse.store import history, queue_admin, verdicts
from posthouse.store.queue_admin import MAX_QUEUE_ID_DIGITS
from posthouse.store.queue_rows import Attempt
from posthouse.store.verdicts import Verdict

STORIES = 50  # letters told at once; the walk goes on with `before`


@dataclass(frozen=True, slots=True)
class RecipientStory:
    """`due_at`: the next attempt, None when there is none; `at`: when it was finished, None when it is not."""

    address: str
    next_hop: str
    state: str
    attempts: int
    outcome: Outcome | None
    due_at: float | None
    expires_at: float | None
    at: float | None


@dataclass(frozen=True, slots=True)
class LetterStory:
    """`finished_at` None: it is still in the queue. `verdict` None: it was not checked."""

    id: int
    trace: str
    message_id: str
    reverse_path: str
    account: int | None
    size: int
    received_at: float
    finished_at: float | None
    source: str
    recipients: tuple[RecipientStory, ...]
    attempts: tuple[Attempt, ...]
    verdict: Verdict | None


def by_queue_id(reader: Reader, queue_id: int, now: float) -> LetterStory | None:
    """One letter by its id in the queue or in history."""
    waiting = queue_admin.show(reader, queue_id, now)
    known = history.letter(reader, queue_id)
    if waiting is not None:
        return _waiting_story(reader, waiting, known)
    return None if known is None else _finished_story(reader, known)


def reverse_path(reader: Reader, letter: int) -> str | None:
    """Of a letter by its id in the queue or in history; "" is the null reverse-path, None: it is known no more."""
    for sql in (
        "SELECT reverse_path FROM queue_letter WHERE id = :letter",
        "SELECT reverse_path FROM history WHERE id = :letter",
    ):
        row = reader.row(sql, letter=letter)
        if row is not None:
            return str(row[0])
    return None


def trace(
    reader: Reader,
    what: str,
    now: float,
    *,
    before: int | None = None,
    queued: Sequence[int] = (),
    limit: int = STORIES,
) -> tuple[list[LetterStory], int | None]:
    """The letters that `what` names: a queue id, an address, a Message-ID, or a trace id of the log. `queued`: those
    found in the queue, for a first call. The second value, when not None, goes on with the walk through history:
    a page may be empty and yet not the last."""
    what = what.strip()
    ids = list(queued)
    goes_on: int | None = None
    if is_queue_id(what):
        ids.append(int(what))
    else:
        found = history.by_message_id(reader, what, limit) if before is None else []
        if not found:
            is_address = "@" in what and not what.startswith("<")
            page = history.search(
                reader, address=what if is_address else "", trace="" if is_address else what, before=before
            )
            found, goes_on = page.letters, page.next_before
            if len(found) > limit:
                found, goes_on = found[:limit], found[limit - 1].id
        ids += [letter.id for letter in found]
    stories = (by_queue_id(reader, each, now) for each in dict.fromkeys(ids))
    return [story for story in stories if story is not None], goes_on


def is_queue_id(what: str) -> bool:
    return what.isascii() and what.isdigit() and len(what) <= MAX_QUEUE_ID_DIGITS


def _waiting_story(reader: Reader, detail: queue_admin.QueueDetail, known: history.LetterRecord | None) -> LetterStory:
    entry = detail.entry
    down = {each.next_hop: each for each in detail.destinations if each.failures}
    recipients = [_finished_recipient(result) for result in known.results] if known else []
    for each in detail.recipients:
        held_up = down.get(each.next_hop) if each.state == "due" else None
        recipients.append(
            RecipientStory(
                address=each.address,
                next_hop=each.next_hop,
                state=each.state,
                attempts=each.attempts,
                outcome=held_up.outcome if held_up and held_up.outcome else each.outcome,
                due_at=max(each.due_at, held_up.down_until if held_up else 0.0) if each.state == "due" else None,
                expires_at=each.expires_at,
                at=None,
            )
        )
    return LetterStory(
        id=entry.id,
        trace=entry.trace,
        message_id=entry.message_id,
        reverse_path=entry.reverse_path,
        account=entry.account,
        size=entry.size,
        received_at=entry.received_at,
        finished_at=None,
        source=known.source if known else "",
        recipients=tuple(recipients),
        attempts=tuple(detail.attempts),
        verdict=verdicts.of(reader, entry.id),
    )


def _finished_story(reader: Reader, known: history.LetterRecord) -> LetterStory:
    hops = [result.next_hop for result in known.results]
    return LetterStory(
        id=known.id,
        trace=known.trace,
        message_id=known.message_id,
        reverse_path=known.reverse_path,
        account=known.account,
        size=known.size,
        received_at=known.received_at,
        finished_at=known.finished_at,
        source=known.source,
        recipients=tuple(_finished_recipient(result) for result in known.results),
        attempts=tuple(history.attempts(reader, known.id, hops, known.received_at, known.finished_at)),
        verdict=verdicts.of(reader, known.id),
    )


def _finished_recipient(result: history.RecipientResult) -> RecipientStory:
    return RecipientStory(
        address=result.address,
        next_hop=result.next_hop,
        state=result.state,
        attempts=result.attempts,
        outcome=result.outcome,
        due_at=None,
        expires_at=None,
        at=result.at,
    )
