# SPDX-License-Identifier: Apache-2.0
"""When a report is written and when never (RFC 3461 §5.2), and what comes back in it."""

from __future__ import annotations

from dataclasses import replace
from email import message_from_bytes

import pytest

from posthouse.mail.dsn import Action
from posthouse.mail.envelope import DsnReturn, Notify
from posthouse.outcome import Outcome, RemoteReply, Status
from posthouse.services.bounce import RETURNED_IN_FULL, Bounce, LetterToReport, Notice, wants
from tests.fakes import EPOCH, FakeEntropy, FakePoster, SetClock
from tests.services.queue_world import CONTENT, PREFIX, path, put_blob, reverse
from tests.store.plain_database import PlainDatabase

ALL = Notify.SUCCESS | Notify.FAILURE | Notify.DELAY
NO_SUCH_USER = RemoteReply(550, Status(5, 1, 1), "no such user")
OUTCOME = Outcome(Status(5, 1, 1), "no such user", "mx.bob.test", "192.0.2.1", "TLSv1.3", NO_SUCH_USER)


@pytest.mark.parametrize(
    ("notify", "wanted"),
    [
        (None, {Action.FAILED, Action.DELAYED}),
        (Notify.NEVER, set()),
        (Notify.FAILURE, {Action.FAILED}),
        (Notify.DELAY, {Action.DELAYED}),
        (Notify.SUCCESS, {Action.DELIVERED, Action.RELAYED, Action.EXPANDED}),
        (ALL, set(Action)),
    ],
)
def test_what_the_sender_wants_to_know(notify, wanted):
    assert {action for action in Action if wants(path("bob@bob.test", notify), action)} == wanted


class House:
    def __init__(self) -> None:
        self.database, self.poster = PlainDatabase(), FakePoster()
        self.bounce = Bounce(self.database.blobs, self.poster, SetClock(), FakeEntropy(), "mail.alice.test")

    def letter(self, octets: bytes = CONTENT, sender: str = "alice@alice.test") -> LetterToReport:
        self.database.run(lambda tx: put_blob(tx, octets))
        location = next(reversed(self.database.blobs.contents))
        return LetterToReport(
            reverse_path=reverse(sender),
            language="en",
            arrived_at=EPOCH - 100,
            trace="t",
            ident="77",
            prefix=PREFIX,
            location=location,
            size=len(octets),
        )

    async def told(self, letter: LetterToReport, *notices: Notice) -> list[str]:
        """The reports, posted in one unit."""
        postings = await self.bounce.prepare(letter, notices)
        assert self.poster.posted == []
        self.database.run(lambda tx: [posting(tx) for posting in postings])
        return [octets.decode() for octets, _ in self.poster.posted]


def notice(address: str = "bob@bob.test", action: Action = Action.FAILED, notify: Notify | None = None) -> Notice:
    return Notice(path(address, notify), action, OUTCOME, EPOCH)


async def test_a_failure_is_told_with_the_hosts_own_words():
    house = House()
    (report,) = await house.told(house.letter(), notice(), notice("carol@bob.test"))
    for words in (
        "Final-Recipient: rfc822; bob@bob.test",
        "carol@bob.test",
        "Action: failed",
        "Status: 5.1.1",
        "no such user",
        "mx.bob.test",
    ):
        assert words in report
    parsed = message_from_bytes(report.encode())
    assert parsed.get_content_type() == "multipart/report"
    assert len(parsed.get_payload()) == 3
    assert house.poster.posted[0][1] == "alice@alice.test"


async def test_the_null_reverse_path_is_never_answered():
    house = House()
    assert await house.bounce.prepare(house.letter(sender=""), [notice(notify=ALL)]) == []
    assert house.poster.prepared == []


async def test_each_kind_of_news_is_a_report_of_its_own_and_unwanted_recipients_are_left_out():
    house = House()
    reports = await house.told(
        house.letter(),
        notice("a@bob.test"),
        notice("b@bob.test", Action.DELAYED),
        notice("c@bob.test", notify=Notify.NEVER),
        notice("d@bob.test", Action.DELAYED),
    )
    assert len(reports) == 2
    assert ["b@bob.test" in report and "d@bob.test" in report for report in reports] == [True, False]
    assert not any("c@bob.test" in report for report in reports)


@pytest.mark.parametrize(
    ("dsn_return", "action", "size", "is_full"),
    [
        (None, Action.FAILED, 100, True),
        (None, Action.FAILED, RETURNED_IN_FULL + 1, False),
        (DsnReturn.FULL, Action.FAILED, RETURNED_IN_FULL + 1, True),
        (DsnReturn.FULL, Action.FAILED, 3 << 20, False),
        (DsnReturn.HEADERS, Action.FAILED, 100, False),
        (DsnReturn.FULL, Action.DELAYED, 100, False),
    ],
)
async def test_how_much_of_the_letter_comes_back(dsn_return, action, size, is_full):
    """RFC 3461 §4.3: RET speaks of failures only."""
    house = House()
    letter = house.letter(CONTENT + b"BODY\r\n" * (size // 6))
    letter = replace(letter, reverse_path=replace(letter.reverse_path, dsn_return=dsn_return))
    (report,) = await house.told(letter, notice(action=action))
    assert ("BODY\r\n" in report) == is_full
    assert "Subject: news" in report
    assert "Received: from client" in report


async def test_the_news_goes_out_even_when_the_letter_cannot_be_read():
    house = House()
    letter = house.letter()
    house.database.blobs.contents.clear()
    (report,) = await house.told(letter, notice())
    assert "Action: failed" in report


async def test_success_can_be_told_before_the_letters_own_commit():
    """For mail that is delivered at acceptance: only its header is known, the location is not yet."""
    house = House()
    letter = replace(house.letter(), prefix=PREFIX + CONTENT, location=None)
    (report,) = await house.told(letter, notice(action=Action.DELIVERED, notify=Notify.SUCCESS))
    assert "Action: delivered" in report
    assert "Good morning" not in report


async def test_the_report_is_in_the_senders_language():
    house = House()
    postings = await house.bounce.prepare(replace(house.letter(), language="zh"), [notice()])
    assert len(postings) == 1
    assert b"zh" in house.poster.prepared[0][0]
