# SPDX-License-Identifier: Apache-2.0
"""What is said of a letter to the outside after a cut: a warning, or a report about another recipient, is no excuse."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import apsw
import pytest

from posthouse.mail.envelope import ForwardPath
from posthouse.outcome import DELIVERED, RemoteReply, Status
from posthouse.sim.disklog import Entry, Noted
from posthouse.sim.premises import Outside, Premises
from posthouse.sim.promises import Promises
from posthouse.sim.verdict import judge
from posthouse.sim.workload import OUTSIDE, Workload
from posthouse.store.databases.sqlite import DATABASE_FILE

HOURS = 5 * 3600.0  # the warning has come
REFUSED, DEFERRED = OUTSIDE[:2]


def answer(_outside: Outside, path: ForwardPath, _letter: int | None) -> RemoteReply:
    if str(path) == REFUSED:
        return RemoteReply(550, Status(5, 1, 1), "nobody here by that name")
    if str(path) == DEFERRED:
        return RemoteReply(451, Status(4, 3, 0), "not now")
    return RemoteReply(250, DELIVERED, "taken")


@pytest.mark.parametrize(
    ("recipients", "is_lost"), [((REFUSED, DEFERRED), True), ((DEFERRED,), True), ((REFUSED,), False)]
)
def test_a_letter_whose_sender_was_only_warned_is_lost_when_the_queue_has_it_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipients: Sequence[str], is_lost: bool
) -> None:
    """Once any report about the letter, a warning too, counted for all of its recipients."""
    monkeypatch.setattr(Outside, "answer", answer)
    promises = Promises()

    def listen(entry: Entry) -> None:
        if isinstance(entry, Noted):
            promises.apply(entry.what)

    premises = Premises("verdict", tmp_path, listen, mood=1.0)
    workload = Workload(premises)
    monkeypatch.setattr(workload, "_some", lambda of, _most: list(recipients) if of is OUTSIDE else [])

    async def live() -> tuple[list[str], list[str]]:
        await workload.begin()
        await premises.inside(workload.submit())
        await asyncio.sleep(HOURS)
        before = await premises.inside(judge(premises.house, promises))
        connection = apsw.Connection(str(premises.folder / DATABASE_FILE))
        for table in ("queue_recipient", "queue_letter"):
            connection.execute(f"DELETE FROM {table}")
        connection.close()
        return before, await premises.inside(judge(premises.house, promises))

    try:
        before, after = premises.loop.run(live())
    finally:
        premises.leave()
    assert before == []
    assert (f"letter 1 was accepted and is lost for {DEFERRED}" in after) is is_lost


def test_a_letter_that_lies_in_a_mailbox_twice_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    promises = Promises()

    def listen(entry: Entry) -> None:
        if isinstance(entry, Noted):
            promises.apply(entry.what)

    premises = Premises("verdict", tmp_path, listen, mood=1.0)
    workload = Workload(premises)
    monkeypatch.setattr(workload, "_some", lambda of, _most: list(of)[:1])

    async def live() -> list[str]:
        await workload.begin()
        for _ in range(3):  # one of five goes to the list, and would do as well
            await premises.inside(workload.arrive())
        assert await premises.inside(judge(premises.house, promises)) == []
        connection = apsw.Connection(str(premises.folder / DATABASE_FILE))
        connection.execute(
            "INSERT INTO placement SELECT mailbox, uid + 100, email, modseq, created, flags, keywords, size, saved_at"
            " FROM placement WHERE uid = 1"
        )
        connection.close()
        found: list[str] = await premises.inside(judge(premises.house, promises))
        return found

    try:
        found = premises.loop.run(live())
    finally:
        premises.leave()
    assert any(each.startswith("letter 1 lies in") and each.endswith("2 times") for each in found), found
