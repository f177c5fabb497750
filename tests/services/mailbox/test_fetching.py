# SPDX-License-Identifier: Apache-2.0
"""Reading pages of letters: what is asked for and no more, and nothing that is not what was stored."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from posthouse.mail.header import ENVELOPE_FIELDS
from posthouse.mail.structure import parse
from posthouse.mail.structure_pack import unpack
from posthouse.ports import BlobLocation, DamagedContent, Reader, StoreFault, Transaction
from posthouse.services.mailbox import fetching, keeping, looking
from posthouse.services.mailbox.fetching import Fetching
from posthouse.services.mailbox.keeping import Keeper
from posthouse.services.mailbox.pages import Page, Wants
from posthouse.store import messages, reading
from posthouse.store.catalogue import Letters
from tests.services.world import HandClock, InlineWorkers, InstantBus
from tests.store.letterbox import NOW, PREFIX, Box, new_account
from tests.store.plain_database import PlainBlobs, PlainDatabase

from .post import all_of, post

PLAIN = b"From: Alice <alice@alice.test>\r\nTo: bob@bob.test\r\nSubject: Hello\r\n\r\nHello, Bob.\r\n"
LARGE = b"Subject: large\r\nX-Other: y\r\n\r\n" + b"0123456789abcdef\r\n" * 5_000
ENCODED = b"Content-Transfer-Encoding: base64\r\n\r\n" + b"QUJD" * 100_000 + b"\r\n"


class Shelf:
    """A BlobStore that knows what was asked of it; contents may be hurt, and moved."""

    def __init__(self, blobs: PlainBlobs) -> None:
        self._blobs = blobs
        self.opened: list[BlobLocation] = []
        self.begun: list[int] = []
        self.faults: dict[BlobLocation, StoreFault] = {}

    async def open(self, location: BlobLocation) -> memoryview:
        self.opened.append(location)
        if location in self.faults:
            raise self.faults[location]
        return await self._blobs.open(location)

    async def open_all(self, locations: list[BlobLocation]) -> list[memoryview | StoreFault]:
        found: list[memoryview | StoreFault] = []
        for location in locations:
            try:
                found.append(await self.open(location))
            except StoreFault as fault:
                found.append(fault)
        return found

    async def beginning(self, location: BlobLocation, octets: int) -> bytes:
        self.begun.append(octets)
        return bytes((await self._blobs.open(location))[:octets])


class Desk:
    """Bob's INBOX, and what reads it."""

    def __init__(self) -> None:
        self.database = PlainDatabase()
        self.box: Box = new_account(self.database)
        self.blobs = Shelf(self.database.blobs)
        self.workers = InlineWorkers()
        self.fetching = self.new_fetching()

    def new_fetching(self) -> Fetching:
        return Fetching(self.database, self.blobs, self.workers, InstantBus(), HandClock())  # type: ignore[arg-type]

    @property
    def letters(self) -> Letters:
        return all_of(self.box)

    def page(self, letters: Letters | None = None, **wants: bool) -> Page:
        async def read() -> Page:
            page = await self.fetching.page(self.box.id("INBOX"), letters or self.letters, Wants(**wants))
            await self.fetching.close()
            return page

        return asyncio.run(read())

    def run(self, sql: str, **parameters: int | bytes) -> None:
        self.database.run(lambda tx: tx.run(sql, **parameters))

    def location(self, uid: int) -> BlobLocation:
        [row] = self.database.look(partial(reading.places, mailbox=self.box.id("INBOX"), uids=((uid, uid),)))
        return BlobLocation(*row[3:6])

    def email(self, uid: int) -> int:
        return self.letters.emails[self.letters.uids.index(uid)]


@pytest.fixture
def desk() -> Desk:
    return Desk()


# --- columns --------------------------------------------------------------------------------------


def test_what_is_in_the_arrays_is_read_nowhere(desk: Desk) -> None:
    post(desk.box, PLAIN)
    desk.database.blobs.contents.clear()
    desk.run("DELETE FROM email_detail")
    assert desk.page().uids == array("I", [1])


def test_columns_belong_together(desk: Desk) -> None:
    post(desk.box, PLAIN, received_at=NOW - 100, saved_at=NOW)
    post(desk.box, PLAIN.replace(b"Hello\r", b"Other\r"), received_at=NOW - 50)
    page = desk.page(dates=True, summaries=True, structures=True, previews=True, contents=True, parts=True)
    assert [(row[0], row[2], row[3]) for row in page.dates] == [(1, NOW - 100, NOW), (2, NOW - 50, NOW - 50)]
    subject = ENVELOPE_FIELDS.index(b"subject")
    assert [summary[subject] for summary in page.summaries] == [b"Hello", b"Other"]
    assert page.structures == [parse(PLAIN), parse(PLAIN)]
    assert page.previews == ["Hello, Bob.", "Hello, Bob."]
    assert [bytes(letter.content) for letter in page.letters] == [PLAIN, PLAIN.replace(b"Hello\r", b"Other\r")]
    assert [letter.prefix for letter in page.letters] == [PREFIX, PREFIX]


def test_an_envelope_is_read_without_a_look_at_the_letter(desk: Desk) -> None:
    post(desk.box, PLAIN)
    desk.page(dates=True, summaries=True, known_previews=True)
    assert not desk.blobs.opened
    assert not desk.blobs.begun


def test_previews_are_found_out_only_where_somebody_waits_for_them(desk: Desk) -> None:
    post(desk.box, PLAIN)
    assert desk.page(known_previews=True).previews == [None]
    assert desk.page(previews=True).previews == ["Hello, Bob."]
    assert desk.page(known_previews=True).previews == ["Hello, Bob."]
    assert len(desk.blobs.opened) == 1


# --- headers --------------------------------------------------------------------------------------


def test_the_header_of_a_large_letter_is_read_without_its_body(desk: Desk) -> None:
    post(desk.box, LARGE)
    [letter] = desk.page(headers=True).letters
    assert letter.header == PREFIX + LARGE[: LARGE.index(b"0123")]
    assert not desk.blobs.opened
    assert desk.blobs.begun == [LARGE.index(b"0123")]


def test_a_header_that_is_not_the_one_of_its_row_has_the_whole_letter_looked_at(desk: Desk) -> None:
    """The digest of the whole says whether it was the row or the letter that was hurt."""
    post(desk.box, LARGE)
    place = desk.location(1)
    desk.run("UPDATE email_detail SET summary = :other", other=b"\x9a" + b"\xc0" * 10)
    assert desk.page(headers=True).letters[0].header == PREFIX + LARGE[: LARGE.index(b"0123")]
    assert desk.blobs.opened == [place]
    desk.blobs.faults[place] = DamagedContent("hurt")
    page = desk.page(headers=True)
    assert (page.letters, page.damaged) == ([], [1])


def test_a_letter_that_lacks_a_header_is_told_without_a_look(desk: Desk) -> None:
    post(desk.box, b"just words\r\n", header_size=0)
    assert desk.page(headers=True).letters[0].header == PREFIX
    assert not desk.blobs.opened


# --- structures -----------------------------------------------------------------------------------


def kept(desk: Desk) -> list[tuple[bytes | None, str | None]]:
    def query(reader: Reader) -> list[tuple[bytes | None, str | None]]:
        return reader.rows("SELECT structure, preview FROM email_detail ORDER BY email")

    return desk.database.look(query)


def test_what_was_found_out_is_kept_and_the_letter_is_not_opened_again(desk: Desk) -> None:
    post(desk.box, PLAIN)
    post(desk.box, LARGE)
    first = desk.page(structures=True, previews=True)
    assert desk.workers.jobs == ["disk", "disk"], "the large one is parsed by a worker"
    assert [structure and unpack(structure) for structure, _ in kept(desk)] == [parse(PLAIN), parse(LARGE)]
    opened = len(desk.blobs.opened)
    again = desk.page(structures=True, previews=True)
    assert (again.structures, again.previews) == (first.structures, first.previews)
    assert len(desk.blobs.opened) == opened


def test_a_structure_that_was_kept_wrongly_is_found_out_again(desk: Desk) -> None:
    post(desk.box, PLAIN)
    for wrong in (b"", b"\7", b"\1\0\1"):
        desk.run("UPDATE email_detail SET structure = :wrong", wrong=wrong)
        assert desk.page(structures=True).structures == [parse(PLAIN)]
        assert [structure and unpack(structure) for structure, _ in kept(desk)] == [parse(PLAIN)]


def test_of_letters_whose_structure_is_known_no_content_is_read_for_others(desk: Desk) -> None:
    post(desk.box, PLAIN)
    desk.page(structures=True)
    post(desk.box, PLAIN)
    desk.blobs.opened.clear()
    assert len(desk.page(structures=True).structures) == 2
    assert desk.blobs.opened == [desk.location(2)]


def test_the_structure_of_a_letter_without_a_header_is_not_kept(desk: Desk) -> None:
    """It is of the content behind an empty line that is not there."""
    post(desk.box, b"just words\r\n", header_size=0)
    for _again in range(2):
        assert desk.page(structures=True, previews=True).structures == [parse(b"\r\njust words\r\n")]
    assert kept(desk) == [(None, "just words")]


def test_what_cannot_be_kept_is_told_all_the_same(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    post(desk.box, PLAIN)

    async def full(_unit: object) -> None:
        raise StoreFault("the disk is full", is_full=True)

    monkeypatch.setattr(desk.database, "write", full)
    assert desk.page(structures=True).structures == [parse(PLAIN)]
    assert kept(desk) == [(None, None)]


async def test_who_finds_out_too_much_waits_for_what_is_being_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "MAX_WAITING", 2)
    written: list[int] = []
    go_on = asyncio.Event()

    class Slow:
        async def write(self, unit: Callable[[Transaction], None]) -> None:
            await go_on.wait()
            written.append(len(unit.keywords["structures"]))  # type: ignore[attr-defined]

    keeper = Keeper(Slow())  # type: ignore[arg-type]
    await keeper.keep([(0, b"")], [])
    await asyncio.sleep(0)  # it is being written
    await keeper.keep([(1, b""), (2, b"")], [])
    waits = asyncio.create_task(keeper.keep([(3, b"")], []))
    await asyncio.sleep(0)
    assert not waits.done()
    go_on.set()
    await waits
    await keeper.close()
    assert sum(written) == 4


# --- letters that have gone, moved, or are damaged ------------------------------------------------


@pytest.mark.parametrize("wants", ["dates", "summaries", "structures", "previews", "headers", "contents"])
def test_letters_that_have_gone_are_left_out(desk: Desk, wants: str) -> None:
    for _ in range(3):
        post(desk.box, PLAIN)
    letters = desk.letters
    desk.database.run(
        lambda tx: messages.expunge(
            tx, account=desk.box.account, mailbox=desk.box.id("INBOX"), uids=((2, 2),), now=NOW, only_deleted=False
        )
    )
    page = desk.page(letters, **{wants: True})
    assert page.uids == array("I", [1, 3])
    assert (page.damaged, page.is_short) == ([], True)
    columns = {"structures": page.structures, "previews": page.previews, "dates": page.dates}
    assert len(columns.get(wants) or page.summaries or page.letters) == 2


def test_a_letter_that_was_moved_to_another_pack_meanwhile_is_found_there(desk: Desk) -> None:
    post(desk.box, PLAIN)
    before = desk.location(1)
    desk.database.blobs.contents[replace(before, pack=9)] = PLAIN
    real = desk.blobs.open_all

    async def moved(locations: list[BlobLocation]) -> list[memoryview | StoreFault]:
        if locations == [before]:
            desk.run("UPDATE blob SET pack = 9")
            return [DamagedContent("pack 1 is missing")]
        return await real(locations)

    desk.blobs.open_all = moved  # type: ignore[method-assign]
    page = desk.page(contents=True)
    assert ([bytes(letter.content) for letter in page.letters], page.damaged) == ([PLAIN], [])


def test_damaged_letters_are_named_and_the_others_are_there(desk: Desk) -> None:
    for _ in range(4):
        post(desk.box, PLAIN)
    desk.blobs.faults[desk.location(2)] = DamagedContent("hurt")
    desk.run("UPDATE email_detail SET prefix = :wrong WHERE email = :email", wrong=b"\0", email=desk.email(3))
    page = desk.page(contents=True, summaries=True, dates=True)
    assert (list(page.uids), sorted(page.damaged), page.is_short) == ([1, 4], [2, 3], False)
    assert len(page.letters) == len(page.summaries) == len(page.dates) == 2
    assert [row[0] for row in page.dates] == [1, 4]


def test_a_letter_without_its_rows_is_damaged_and_not_gone(desk: Desk) -> None:
    post(desk.box, PLAIN)
    post(desk.box, PLAIN)
    desk.run("DELETE FROM email_detail WHERE email = :email", email=desk.email(1))
    for wants in ("summaries", "structures", "contents"):
        page = desk.page(**{wants: True})
        assert (list(page.uids), page.damaged, page.is_short) == ([2], [1], False)


@pytest.mark.parametrize("summary", [b"", b"\x9a", b"\x91\xc0", b"\xc1", b"\x9a" + b"\x01" * 10])
def test_a_summary_that_cannot_be_read_is_that_of_a_damaged_letter(desk: Desk, summary: bytes) -> None:
    post(desk.box, PLAIN)
    post(desk.box, PLAIN)
    desk.run("UPDATE email_detail SET summary = :summary WHERE email = :email", summary=summary, email=desk.email(1))
    page = desk.page(summaries=True, structures=True)
    assert (list(page.uids), page.damaged) == ([2], [1])
    assert len(page.summaries) == len(page.structures) == 1


@pytest.mark.parametrize("octets", [1, 100, 1000])
def test_letters_are_looked_at_a_few_at_a_time(desk: Desk, monkeypatch: pytest.MonkeyPatch, octets: int) -> None:
    monkeypatch.setattr(looking, "OPENED_AT_ONCE", octets)
    for number in range(20):
        post(desk.box, PLAIN + b"x" * number)
    desk.blobs.faults[desk.location(11)] = DamagedContent("hurt")
    page = desk.page(structures=True, previews=True)
    there = [number for number in range(20) if number != 10]
    assert page.structures == [parse(PLAIN + b"x" * number) for number in there]
    assert (list(page.uids), page.damaged) == ([number + 1 for number in there], [11])
    assert [bytes(each.content) for each in desk.page(contents=True, parts=True).letters] == [
        PLAIN + b"x" * number for number in there
    ]


def test_a_disk_that_does_not_answer_is_a_fault_of_all(desk: Desk) -> None:
    post(desk.box, PLAIN)
    desk.blobs.faults[desk.location(1)] = StoreFault("the disk is on fire")
    with pytest.raises(StoreFault, match="on fire"):
        desk.page(contents=True)


# --- parts ----------------------------------------------------------------------------------------


def test_a_large_part_is_decoded_by_a_worker_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    post(desk.box, ENCODED)
    [letter] = desk.page(contents=True, parts=True).letters
    desk.workers.jobs.clear()

    async def again() -> None:
        for _ in range(3):
            found = await desk.fetching.decoded(letter, (1,))
            assert found is not None
            assert found.rest == b"ABC" * 100_000

    asyncio.run(again())
    assert desk.workers.jobs == ["disk"]
    monkeypatch.setattr(fetching, "KEPT_OCTETS", 1000)
    desk.fetching = desk.new_fetching()
    desk.workers.jobs.clear()
    asyncio.run(again())
    assert desk.workers.jobs == ["disk"] * 3
