# SPDX-License-Identifier: Apache-2.0
"""The maildrop: what TOP sends, against its definition line by line; totals that follow what is marked."""

from __future__ import annotations

from array import array
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail.address import parse_address
from posthouse.outcome import Refusal
from posthouse.ports import StoreFault
from posthouse.services import maildrop
from posthouse.services.directory import Account
from posthouse.services.maildrop import UNIQUE_ID, Letter, Maildrops, OpenMaildrop, top
from posthouse.store import messages
from posthouse.store.buses.local import LocalBus
from posthouse.store.messages import Maildrop, Opening, unique_id
from tests.fakes import FakeClock
from tests.store.letterbox import NOW, Box, new_account
from tests.store.plain_database import PlainDatabase

HEADER = b"Subject: x\r\n\r\n"
LINES = st.lists(st.sampled_from([b"\r\n", b"a\r\n", b"\r", b"\n", b"bc", b"\r\r\n"]), max_size=30)


def letter(body: bytes, header: bytes = HEADER) -> Letter:
    content = memoryview(header + body)
    return Letter(b"", content, len(content), len(header), has_dot_lines=False)


def by_the_line(body: bytes, lines: int) -> bytes:
    """RFC 1939 §7, literally: a line ends in CRLF, the last one may have no end."""
    whole = body.split(b"\r\n")
    return b"".join([line + b"\r\n" for line in whole[:-1]][:lines]) + (whole[-1] if lines >= len(whole) else b"")


@pytest.mark.parametrize("piece", [2, 3, 4, 64 * 1024])
@given(body=LINES.map(b"".join), lines=st.integers(0, 35))
def test_top_counts_lines_wherever_the_pieces_end(piece: int, body: bytes, lines: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maildrop, "TOP_PIECE", piece)
        assert bytes(top(letter(body), lines)) == HEADER + by_the_line(body, lines)


def test_top_of_a_letter_without_a_body() -> None:
    """The whole content is header where there is no empty line."""
    assert bytes(top(letter(b"", b"Subject: x\r\n"), 10)) == b"Subject: x\r\n"
    assert bytes(top(letter(b""), 10)) == HEADER


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Octets of each piece that was copied to be looked at."""
    seen: list[int] = []

    def copying(view: memoryview) -> bytes:
        seen.append(len(view))
        return view.tobytes()

    monkeypatch.setattr(maildrop, "bytes", copying, raising=False)
    return seen


def test_more_lines_than_there_can_be_are_not_counted(looked_at: list[int]) -> None:
    """TOP 1 9999999999 on 8 MiB of empty lines: not one of them is looked at."""
    content = letter(b"\r\n" * (4 * 1024 * 1024))
    assert len(top(content, 9_999_999_999)) == content.size
    assert looked_at == []


def test_a_few_lines_of_a_huge_letter_read_its_begin_alone(looked_at: list[int]) -> None:
    content = letter(b"\r\n" * 1000 + b"x" * (8 * 1024 * 1024))
    assert len(top(content, 500)) == len(HEADER) + 1000
    assert looked_at == [maildrop.TOP_PIECE]


def test_many_lines_are_counted_a_piece_at_a_time(looked_at: list[int]) -> None:
    content = letter(b"ab\r\n" * (1024 * 1024))
    assert len(top(content, 900_000)) == len(HEADER) + 3_600_000
    assert max(looked_at) == maildrop.TOP_PIECE


def drop(*sizes: int) -> OpenMaildrop:
    numbers = array("Q", range(1, len(sizes) + 1))
    emails = array("Q", (n * 1000 for n in numbers))
    listed = Maildrop(1, 1, uids=numbers, sizes=array("Q", sizes), emails=emails, octets=sum(sizes))
    nobody = cast("Any", None)
    opening = Opening(len(sizes) + 1, len(sizes), sum(sizes), listed)
    return OpenMaildrop(cast("Maildrops", nobody), cast("Account", nobody), opening)


def test_totals_follow_what_is_marked() -> None:
    """RFC 1939 §5: letters marked as deleted are in no total and no list; RSET brings them back."""
    found = drop(10, 200, 3000)
    assert found.stat() == (3, 3210)
    found.delete(2)
    with pytest.raises(Refusal):
        found.delete(2)  # it counts once
    assert found.stat() == (2, 3010)
    assert list(found.sizes()) == [(1, 10), (3, 3000)]
    assert list(found.unique_ids()) == [(1, 1000), (3, 3000)]
    assert list(found.numbers()) == [1, 3]
    found.delete(1)
    found.delete(3)
    assert found.stat() == (0, 0)
    assert list(found.sizes()) == []
    found.reset()
    assert found.stat() == (3, 3210)
    assert list(found.numbers()) == [1, 2, 3]


def test_the_listed_unique_id_is_that_of_one_letter() -> None:
    found = drop(1, 2)
    for number, value in found.unique_ids():
        assert (UNIQUE_ID % value).decode() == found.unique_id(number)
    assert (UNIQUE_ID % (2**63 - 1)).decode() == unique_id(2**63 - 1)


# --- large maildrops ------------------------------------------------------------------------------


def owner(box: Box) -> Account:
    name = "bob@bob.test"
    return Account(box.account, name, parse_address(name), True, None, "en", is_admin=False, inbox=box.id("INBOX"))


@pytest.fixture
def full() -> tuple[PlainDatabase, Maildrops, Account]:
    """An account with 25 letters."""
    box = new_account(PlainDatabase())
    for _ in range(25):
        box.deliver()
    return box.db, Maildrops(box.db, box.db.blobs, LocalBus(), FakeClock()), owner(box)


async def test_a_large_maildrop_is_listed_in_pages(
    full: tuple[PlainDatabase, Maildrops, Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One query over a million letters kept everybody else's queries waiting for a second."""
    monkeypatch.setattr(maildrop, "PAGE", 10)
    database, drops, account = full
    before = database.reads
    opened = await drops.open(account)
    await opened.read_list()
    assert database.reads - before == 1 + 3
    assert [number for number, _ in opened.sizes()] == list(range(1, 26))
    assert opened.stat() == (25, sum(size for _, size in opened.sizes()))
    assert len({email for _, email in opened.unique_ids()}) == 25


async def test_who_asks_for_the_totals_of_a_large_maildrop_alone_reads_no_list(
    full: tuple[PlainDatabase, Maildrops, Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    """STAT in a mailbox of a million letters read a million rows, at each login after a start of the server."""
    monkeypatch.setattr(maildrop, "PAGE", 10)
    database, drops, account = full
    listed = whole(database, account)
    before = database.reads
    opened = await drops.open(account)
    assert (opened.is_listed, opened.stat(), len(opened)) == (False, (25, listed.octets), 25)
    opened.reset()
    assert opened.stat() == (25, listed.octets)
    assert await opened.commit() == 0
    opened.release()
    assert database.reads - before == 1
    assert drops._take(account.inbox) is None


async def test_a_list_that_is_read_late_has_the_letters_of_the_login(
    full: tuple[PlainDatabase, Maildrops, Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 1939 §8: what comes in during a session is not seen in it; numbers and totals agree."""
    monkeypatch.setattr(maildrop, "PAGE", 10)
    database, drops, account = full
    listed = whole(database, account)
    opened = await drops.open(account)
    Box(database, account.id).deliver()
    database.run(lambda tx: messages.expunge(tx, account.id, account.inbox, ((3, 4),), now=NOW))
    await opened.read_list()
    assert opened.stat()[0] == len(opened) == 23
    assert [email for _, email in opened.unique_ids()] == [*listed.emails[:2], *listed.emails[4:]]
    opened.release()
    assert (await drops.open(account)).stat()[0] == 24


async def test_many_letters_are_removed_in_several_units(
    full: tuple[PlainDatabase, Maildrops, Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody's new mail waits for a unit of work to end, so none is very long."""
    monkeypatch.setattr(maildrop, "REMOVED_AT_ONCE", 4)
    database, drops, account = full
    opened = await drops.open(account)
    for number in range(1, 20, 2):
        opened.delete(number)
    before = database.writes
    assert await opened.commit() == 10
    assert database.writes - before == 3
    opened.release()
    again = await drops.open(account)
    assert again.stat()[0] == 15


async def test_a_fault_while_removing_leaves_whole_letters(
    full: tuple[PlainDatabase, Maildrops, Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 1939 §6: some or none of the marked letters are gone then, and no other."""
    monkeypatch.setattr(maildrop, "REMOVED_AT_ONCE", 4)
    database, drops, account = full
    opened = await drops.open(account)
    for number in range(1, 11):
        opened.delete(number)
    write, units = database.write, iter(range(10))

    async def failing(unit: Any) -> Any:
        if next(units) == 1:
            raise StoreFault("the disk is full")
        return await write(unit)

    monkeypatch.setattr(database, "write", failing)
    with pytest.raises(StoreFault):
        await opened.commit()
    opened.release()
    left = await drops.open(account)
    assert left.stat()[0] == 21


async def test_a_maildrop_opened_again_reads_what_is_new(
    full: tuple[PlainDatabase, Maildrops, Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that looks into a mailbox of a million letters every few minutes read all of it each time."""
    monkeypatch.setattr(maildrop, "PAGE", 10)
    database, drops, account = full
    first = await drops.open(account)
    await first.read_list()
    listed = list(first.unique_ids())
    first.release()
    Box(database, account.id).deliver()
    before = database.reads
    again = await drops.open(account)
    assert database.reads - before == 1
    assert list(again.unique_ids())[:-1] == listed
    assert again.stat() == (26, sum(size for _, size in again.sizes()))


async def test_a_removal_by_somebody_else_is_seen_in_a_maildrop_opened_again(
    full: tuple[PlainDatabase, Maildrops, Account],
) -> None:
    """Also when as many letters have come as have gone."""
    database, drops, account = full
    (await drops.open(account)).release()
    box = Box(database, account.id)
    database.run(lambda tx: messages.expunge(tx, account.id, account.inbox, ((3, 4),), now=NOW))
    box.deliver()
    box.deliver()
    again = await drops.open(account)
    assert len(again) == 25
    assert [email for _, email in again.unique_ids()] == list(whole(database, account).emails)


async def test_what_a_session_removed_is_not_there_in_the_next(
    full: tuple[PlainDatabase, Maildrops, Account],
) -> None:
    database, drops, account = full
    opened = await drops.open(account)
    opened.delete(1)
    opened.delete(25)
    await opened.commit()
    opened.release()
    before = database.reads
    again = await drops.open(account)
    assert database.reads - before == 1, "nothing was read again"
    assert (again.stat()[0], list(again.sizes())) == (23, list(enumerate(whole(database, account).sizes, 1)))
    assert again.stat()[1] == sum(whole(database, account).sizes)


async def test_lists_that_are_kept_are_bounded(
    full: tuple[PlainDatabase, Maildrops, Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maildrop, "KEPT_LETTERS", 60)
    database, drops, account = full
    other = owner(new_account(database, "carol@bob.test"))
    for each in (account, other):
        (await drops.open(each)).release()
    assert drops._take(account.inbox) is None
    assert drops._take(other.inbox) is not None
    assert drops._kept_letters == 0


def whole(database: PlainDatabase, account: Account) -> Maildrop:
    found = database.look(lambda reader: messages.maildrop(reader, account.inbox))
    assert found is not None
    return found
