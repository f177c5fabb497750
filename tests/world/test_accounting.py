# SPDX-License-Identifier: Apache-2.0
"""The account of a world can fail: each rule is broken by hand in the rows or packs, and the account says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import apsw
import pytest

from posthouse.outcome import Outcome
from posthouse.protocol.smtp.client_outcomes import PROTOCOL_FAULT, Host
from posthouse.protocol.smtp.client_transaction import MAY_BE_TWICE
from posthouse.protocol.smtp.replies import Reply
from posthouse.services.relay import Relay
from posthouse.sim import accounting, records
from posthouse.sim.ledger import bare
from posthouse.sim.machine import EPOCH
from posthouse.sim.people import Found, Person, is_uncertain
from posthouse.sim.play import Play
from posthouse.sim.records import DATABASE, PACKS
from posthouse.sim.station import Station, StationDown
from posthouse.sim.strangers_client import Call
from posthouse.sim.strangers_manners import Habit, Manners, Say, Stage
from posthouse.sim.strangers_server import KeptLetter
from posthouse.sim.world import DAY, HOUR, MINUTE, World, run
from tests.world.story import ALICE, BOB

Break = Callable[[Play], None]
HOST = Host("mail.bob.test", "192.0.2.2")


class Scene:
    """A letter of Alice's is in Bob's mailbox, another one waits for a host that is down."""

    def __init__(self, world: World) -> None:
        self.play = Play(world, [ALICE, BOB], [("203.0.113.1", "stranger.example")])
        self.alices, self.bobs = self.play.stations
        self.alice, self.bob = self.play.people

    async def begin(self) -> None:
        await self.play.begin()
        await self.write("bob@bob.test")
        (stranger,) = self.play.ledger.strangers
        await stranger.write("bob@bob.test", call=Call.POLITE)
        stranger.stop()
        await self.write("somebody@stranger.example")
        await asyncio.sleep(30)

    async def write(self, recipient: str) -> str:
        letter = self.alice.letter([recipient], "Hello\r\n")
        self.play.ledger.write(letter)
        await self.alice.submit(letter)
        return letter.message_id

    async def send_and_watch(self, recipient: str) -> str:
        """A letter that is just being sent."""
        letter = bare(await self.write(recipient))
        for _ in range(10_000):
            if (letter, recipient) in records.claimed(self.alices.folder, is_up=True):
                break
            await asyncio.sleep(0.001)
        else:
            raise AssertionError("it was never sent")
        await asyncio.sleep(0.02)  # until then it is only claimed; now MAIL FROM is on its way
        return letter

    async def findings(self) -> list[str]:
        await self.play.check("here")
        return [each.text for each in self.play.findings]


def after(breaking: Callable[[Scene], Awaitable[None]], *, sound_before: bool = True) -> list[str]:
    """What the account says after something was broken; before, it had nothing to say."""

    async def script(world: World) -> list[str]:
        scene = Scene(world)
        await scene.begin()
        if sound_before:
            assert await scene.findings() == []
        await breaking(scene)
        return await scene.findings()

    return run(1, script)[1]


def change(station: Station, *statements: str) -> None:
    """Past the server's back, while it is idle."""
    connection = apsw.Connection(str(station.folder / DATABASE))
    connection.execute("PRAGMA foreign_keys = OFF")
    for statement in statements:
        connection.execute(statement)
    connection.close()


def broken(station: str, *statements: str) -> Callable[[Scene], Awaitable[None]]:
    async def breaking(scene: Scene) -> None:
        change(scene.bobs if station == "bob" else scene.alices, *statements)

    return breaking


COPY_EMAIL = (
    "INSERT INTO email SELECT id + 1, account, blob, thread, received_at, size, header_size, has_dot_lines"
    " FROM email WHERE id = (SELECT email FROM placement WHERE uid = 1)"
)
COPY_DETAIL = (
    "INSERT INTO email_detail SELECT email + 1, prefix, summary, structure, preview, reverse_path, trace, ancestors"
    " FROM email_detail WHERE email = (SELECT email FROM placement WHERE uid = 1)"
)
COPY_PLACEMENT = (
    "INSERT INTO placement SELECT mailbox, uid + 10, email, modseq, created, flags, keywords, size, saved_at"
    " FROM placement"
)
ROWS = {
    "a letter is gone from the mailbox": ("bob", ["DELETE FROM placement WHERE uid = 1"], "is lost"),
    "a letter is gone from the queue": ("alice", ["DELETE FROM queue_recipient"], "is lost"),
    "a queued letter has no row": ("alice", ["DELETE FROM queue_letter"], "is lost"),
    "a stranger's letter is gone": ("bob", ["DELETE FROM placement WHERE uid = 2"], "of a stranger to bob@bob.test is"),
    "UIDNEXT went back": ("bob", ["UPDATE mailbox SET uid_next = 1"], "UIDNEXT went from 3 to 1"),
    "UIDVALIDITY went back": ("bob", ["UPDATE mailbox SET uid_validity = 0"], "UIDVALIDITY went from"),
    "UIDVALIDITY went on for no reason": (
        "bob",
        ["UPDATE mailbox SET uid_validity = uid_validity + 1"],
        "UIDVALIDITY went from",
    ),
    "a letter lies in a mailbox twice": ("bob", [COPY_PLACEMENT], "of bob@bob.test has 2 UIDs"),
    "a UID is beyond UIDNEXT": ("bob", [COPY_PLACEMENT], "has UID 11, and UIDNEXT is 3"),
    "a UID means another letter": (
        "bob",
        ["UPDATE placement SET email = (SELECT email FROM placement WHERE uid = 2) WHERE uid = 1"],
        "UID 1 meant letter",
    ),
    "the mod-sequence went back": ("bob", ["UPDATE account SET modseq = 1"], "the mod-sequence went from 3 to 1"),
    "the used space is wrong": ("bob", ["UPDATE account SET used_octets = used_octets + 1"], "the counters say"),
    "the used letters are wrong": ("bob", ["UPDATE account SET used_letters = 7"], "the counters say"),
    "a journal row is gone": (
        "bob",
        ["DELETE FROM journal WHERE kind = 3 AND modseq = 2"],
        "the journal gives mailbox",
    ),
    "the journal says too much": (
        "bob",
        ["UPDATE journal SET uids = '1:9' WHERE kind = 3 AND modseq = 2"],
        "the journal adds UIDs",
    ),
    "an unknown state": ("alice", ["UPDATE queue_recipient SET state = 'lingering'"], "in the state 'lingering'"),
    "a try after the end": (
        "alice",
        ["UPDATE queue_recipient SET due_at = expires_at + 60"],
        "is to be tried after its end",
    ),
    "claimed by the dead": (
        "alice",
        ["UPDATE queue_recipient SET state = 'claimed', owner = 'someone'"],
        "is claimed by someone, who is dead",
    ),
    "open recipients miscounted": ("alice", ["UPDATE queue_letter SET open_recipients = 2"], "its row says 2"),
    "nobody looks at a destination": (
        "alice",
        ["UPDATE queue_destination SET ready_at = NULL"],
        "nothing says when it is looked at",
    ),
    "a destination is looked at too late": (
        "alice",
        ["UPDATE queue_destination SET ready_at = ready_at + 1000"],
        "it is looked at only at",
    ),
    "a letter came twice": (
        "bob",
        [COPY_PLACEMENT.replace("email,", "email + 1,", 1) + " WHERE uid = 1", COPY_EMAIL, COPY_DETAIL],
        "came 2 times, with 0 reports and 0 warnings, at most 1 may be",
    ),
    "a letter is in the wrong mailbox": (
        "bob",
        [
            "UPDATE account SET name = 'ben@bob.test'",
        ],
        "ben@bob.test has <letter-1.alice@alice.test>, which is for others",
    ),
}


@pytest.mark.parametrize("what", ROWS)
def test_wrong_rows_are_found(what: str) -> None:
    station, statements, words = ROWS[what]
    found = after(broken(station, *statements))
    assert any(words in each for each in found), found


def test_a_changed_letter_is_found() -> None:
    async def breaking(scene: Scene) -> None:
        (pack,) = (scene.bobs.folder / PACKS).glob("*.pack")
        octets = pack.read_bytes()
        pack.write_bytes(octets.replace(b"Hello\r\n", b"Hollo\r\n", 1))

    assert any("is not what was written in bob@bob.test's mailbox" in each for each in after(breaking))


def test_a_shortened_letter_is_found() -> None:
    async def breaking(scene: Scene) -> None:
        (pack,) = (scene.bobs.folder / PACKS).glob("*.pack")
        with pack.open("r+b") as file:
            file.truncate(pack.stat().st_size - 200)

    assert any("octets, its row says" in each for each in after(breaking))


def test_a_letter_that_nobody_wrote_is_found() -> None:
    async def breaking(scene: Scene) -> None:
        scene.play.ledger.letters.clear()

    assert any("bob@bob.test has a letter that nobody sent" in each for each in after(breaking))


def test_a_letter_that_was_refused_and_came_is_found() -> None:
    async def breaking(scene: Scene) -> None:
        first = scene.play.ledger.letters["letter-1.alice@alice.test"]
        first.tries.clear()

    assert any("was not accepted, and came all the same" in each for each in after(breaking))


def test_a_strangers_letter_in_the_wrong_mailbox_is_found() -> None:
    async def breaking(scene: Scene) -> None:
        (sent,) = scene.play.ledger.strangers[0].sent
        sent.recipient = "alice@alice.test"

    assert any("which is for others" in each for each in after(breaking))


def test_a_letter_that_was_taken_away_and_is_there_again_is_found() -> None:
    """Its removal was confirmed; one whose confirmation was lost may be there."""

    async def breaking(scene: Scene) -> None:
        found = await scene.bob.visit(lambda _: False)
        scene.bob.taken[found[0].unique_id] = found[0].octets
        assert await scene.findings() == []
        scene.bob.removed[found[0].unique_id] = None

    assert any("taken" in each and "it is there again" in each for each in after(breaking))


def test_what_people_take_away_is_remembered_as_removed() -> None:
    async def breaking(scene: Scene) -> None:
        found = await scene.bob.visit(lambda number: number == 1)
        assert list(scene.bob.removed) == [found[0].unique_id]

    assert after(breaking) == []


@pytest.mark.parametrize(
    ("good", "bad"),
    [(b"Status: 5.1.1", b"Status: 4.1.1"), (b"Diagnostic-Code: smtp; 550", b"Diagnostic-Code: smtp; 450")],
)
def test_a_letter_that_is_given_up_after_a_temporary_reply_is_found(good: bytes, bad: bytes) -> None:
    async def breaking(scene: Scene) -> None:
        await scene.write("nobody@bob.test")
        await asyncio.sleep(30)
        (pack,) = (scene.alices.folder / PACKS).glob("*.pack")
        octets = pack.read_bytes()
        assert good in octets
        pack.write_bytes(octets.replace(good, bad))

    assert any("which is not for good" in each for each in after(breaking))


def test_a_report_and_a_letter_both_are_found() -> None:
    """The sender is told that it failed, and it has arrived."""

    async def breaking(scene: Scene) -> None:
        await scene.write("nobody@bob.test")
        await asyncio.sleep(30)
        lost = scene.play.ledger.letters.pop("letter-3.alice@alice.test")
        lost.message_id = "<letter-1.alice@alice.test>"
        change(scene.alices, "UPDATE queue_letter SET message_id = message_id")
        (pack,) = (scene.alices.folder / PACKS).glob("*.pack")
        octets = pack.read_bytes()
        told = octets.replace(b"letter-3.alice@", b"letter-1.alice@").replace(b"nobody@bob.test", b"bob@bob.test   ")
        pack.write_bytes(told)

    assert any("its sender was told that it has not" in each for each in after(breaking))


def test_a_copy_that_only_the_server_excuses_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows say that no answer came; the stranger knows that it was heard."""
    key = "letter-2.alice@alice.test", "somebody@stranger.example"
    monkeypatch.setattr(accounting, "_unanswered", lambda rows: [key] if rows.queued else [])

    async def breaking(scene: Scene) -> None:
        (stranger,) = scene.play.ledger.strangers
        octets = scene.play.ledger.letters[key[0]].octets
        for _ in range(2):
            stranger.kept.append(KeptLetter("alice@alice.test", (key[1],), octets, was_answered=True, at=1.0))

    (found,) = after(breaking)
    assert "to somebody@stranger.example was sent 2 times, each time with an answer" in found


def test_a_report_about_a_report_is_found() -> None:
    async def breaking(scene: Scene) -> None:
        await scene.write("nobody@bob.test")
        await asyncio.sleep(30)
        del scene.play.ledger.letters["letter-3.alice@alice.test"]

    assert any("has a report about <letter-3.alice@alice.test>, which nobody wrote" in each for each in after(breaking))


@pytest.mark.parametrize(("until", "is_found"), [(0.0, True), (HOUR, False)])
def test_that_somebody_was_disabled_excuses_only_letters_of_that_time(until: float, is_found: bool) -> None:
    """A report for somebody who is disabled goes to the postmaster."""

    async def breaking(scene: Scene) -> None:
        await scene.write("nobody@bob.test")
        await asyncio.sleep(30)
        sent = scene.play.ledger.letters["letter-3.alice@alice.test"]
        sent.sender = "anna@alice.test"
        scene.play.ledger.disabled["anna@alice.test"] = until

    assert any("has a report for anna@alice.test" in each for each in after(breaking)) is is_found


def test_what_is_due_and_not_tried_is_found() -> None:
    async def breaking(scene: Scene) -> None:
        early = EPOCH + scene.play.world.now - 60
        change(
            scene.alices,
            f"UPDATE queue_recipient SET due_at = {early}",
            "UPDATE queue_destination SET down_until = 0",
        )

    assert any("is due since" in each and "is not tried" in each for each in after(breaking))


def test_a_warning_that_does_not_come_is_found() -> None:
    async def breaking(scene: Scene) -> None:
        await asyncio.sleep(3 * MINUTE)
        change(scene.alices, f"UPDATE queue_recipient SET deadline_at = {EPOCH + scene.play.world.now - 120}")

    assert any("its sender should have been told at" in each for each in after(breaking))


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["DELETE FROM placement"], "waits, and alice@alice.test has no warning of it"),
        (
            [COPY_PLACEMENT.replace("email,", "email + 1,", 1), COPY_EMAIL, COPY_DETAIL],
            "came 2 times to alice@alice.test, at most 1 may be",
        ),
        (["UPDATE queue_recipient SET warn_at = due_at, deadline_at = due_at"], "0 reports and 2 warnings, at most 1"),
    ],
)
def test_a_warning_that_is_missing_or_comes_twice_is_found(statements: list[str], words: str) -> None:
    async def breaking(scene: Scene) -> None:
        await asyncio.sleep(4 * HOUR)
        assert await scene.findings() == []
        change(scene.alices, *statements)
        await asyncio.sleep(HOUR)

    found = after(breaking)
    assert any(words in each for each in found), found


@pytest.mark.parametrize(
    ("outcome", "may_be_twice"),
    [
        (HOST.silent("the host closed the connection"), False),
        (HOST.silent(f"the host closed the connection {MAY_BE_TWICE}"), True),
        (HOST.silent(f"a line that is no reply {MAY_BE_TWICE}", status=PROTOCOL_FAULT), True),
        (HOST.said(Reply(451, None, (MAY_BE_TWICE,)), "the end of the content"), False),
        (HOST.said(Reply(250, None, ("Accepted",)), "the end of the content"), False),
    ],
)
def test_a_copy_is_excused_only_where_the_answer_to_the_whole_letter_is_missing(
    outcome: Outcome, may_be_twice: bool
) -> None:
    assert is_uncertain(outcome) is may_be_twice


@pytest.mark.parametrize(
    ("column", "words"), [("warn_at", "was told delayed after"), ("expires_at", "was told expired after")]
)
def test_a_report_that_comes_too_soon_is_found(column: str, words: str) -> None:
    async def breaking(scene: Scene) -> None:
        soon = EPOCH + scene.play.world.now + 60
        change(scene.alices, f"UPDATE queue_recipient SET {column} = {soon}, deadline_at = {soon}")
        await asyncio.sleep(HOUR)

    found = after(breaking)
    assert any("somebody@stranger.example of <letter-2" in each and words in each for each in found), found


# One more attempt, so many seconds after the last.
ATTEMPT = (
    "INSERT INTO attempt SELECT id + 1, letter, next_hop, at + {later}, host, address, tls, results FROM attempt"
    " WHERE letter IS {which} ORDER BY id DESC LIMIT 1"
)


def test_a_probe_that_comes_too_soon_is_found() -> None:
    found = after(broken("alice", ATTEMPT.format(which="NULL", later=20)))
    assert any("stranger.example was found down, and probed 20.0 seconds later" in each for each in found), found


async def defer(scene: Scene) -> None:
    """The letter that waits is told "later" by its host, once."""
    (stranger,) = scene.play.ledger.strangers
    stranger.manners = Manners(habits=(Habit(Stage.RCPT, Say("450 4.2.0 not now")),))
    await stranger.start()
    await asyncio.sleep(MINUTE)


def test_a_try_that_comes_too_soon_is_found() -> None:
    async def breaking(scene: Scene) -> None:
        await defer(scene)
        assert await scene.findings() == []
        change(scene.alices, ATTEMPT.format(which="NOT NULL", later=20))

    found = after(breaking)
    assert any("was tried 20.0 seconds after attempt 1" in each for each in found), found


def test_a_next_try_that_is_planned_too_late_is_found() -> None:
    async def breaking(scene: Scene) -> None:
        await defer(scene)
        change(scene.alices, "UPDATE queue_recipient SET due_at = due_at + 1")

    found = after(breaking)
    assert any("and is due at" in each and "too late" in each for each in found), found


def test_people_who_are_shown_something_else_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """POP3 shows less than lies on the disk."""

    async def script(world: World) -> list[str]:
        scene = Scene(world)
        await scene.begin()

        visit = Person.visit

        async def sees_less(person: Person, removed: Callable[[int], bool]) -> list[Found]:
            return (await visit(person, removed))[1:]

        monkeypatch.setattr(Person, "visit", sees_less)
        await scene.play.end()
        return [each.text for each in scene.play.findings]

    assert run(1, script)[1] == ["POP3 shows bob@bob.test something else than lies in the mailbox"]


@pytest.mark.parametrize("kind", ["task", "timer", "connection"])
def test_a_server_that_does_not_come_to_rest_is_found(kind: str) -> None:
    """Something goes on although nobody is served and nothing is due."""

    async def linger() -> None:
        loop = asyncio.get_running_loop()
        if kind == "task":
            await asyncio.sleep(DAY)
        elif kind == "timer":
            for _ in range(4):
                loop.call_later(DAY, print)
        else:
            transport, _ = await loop.create_connection(asyncio.Protocol, "192.0.2.2", 25)
            transport.pause_reading()  # it never hears that the other side has given it up

    async def script(world: World) -> list[str]:
        scene = Scene(world)
        await scene.begin()
        work = asyncio.create_task(scene.alices.inside(linger()))
        await scene.play.end()
        work.cancel()
        return [each.text for each in scene.play.findings]

    assert any("alice does not come to rest" in each and kind in each for each in run(1, script)[1])


def test_a_recipient_that_is_claimed_for_ever_is_found() -> None:
    """The server is at rest: nothing is at work that could send it."""

    async def script(world: World) -> list[str]:
        scene = Scene(world)
        await scene.begin()
        owner = scene.alices.house.settler.owner
        until = EPOCH + 100 * DAY
        change(
            scene.alices,
            f"UPDATE queue_recipient SET state = 'claimed', owner = '{owner}', leased_until = {until}",
        )
        await scene.play.end()
        return [each.text for each in scene.play.findings]

    assert any("does not come to rest: somebody@stranger.example of" in each for each in run(1, script)[1])


def test_a_sound_world_has_nothing_to_find() -> None:
    """Through an outage, with everything checked at each start."""

    async def script(world: World) -> list[str]:
        scene = Scene(world)
        await scene.begin()
        for station in scene.play.stations:
            station.crash()
            await scene.play.check("while it is down")
            await scene.play.start(station)
        await asyncio.sleep(6 * DAY)
        account = await scene.play.end()
        assert (account.accepted, account.delivered, account.reported) == (2, 1, 1)
        return [each.text for each in account.findings]

    assert run(1, script)[1] == []


def test_an_operator_learns_that_the_server_went_down() -> None:
    """What runs inside a server when its life ends is not waited for in vain."""

    async def script(world: World) -> None:
        scene = Scene(world)
        await scene.begin()
        asking = asyncio.create_task(scene.alices.inside(asyncio.sleep(100)))
        await asyncio.sleep(1)
        scene.alices.crash()
        with pytest.raises(StationDown):
            await asking

    run(1, script)


def test_what_a_drain_cuts_off_may_come_again() -> None:
    """A world called that a fault: a letter's host fell silent before its answer, while its server was stopping."""

    async def script(world: World) -> None:
        scene = Scene(world)
        await scene.begin()
        letter = await scene.send_and_watch("bob@bob.test")
        world.network.silence(BOB.address)
        await scene.play.stop(scene.alices)
        assert dict(scene.play.ledger.doubts) == {(letter, "bob@bob.test"): 1}

    run(1, script)


def test_a_server_that_stops_in_the_middle_of_a_letter_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """It had time to wait for the answer."""
    stop = Relay.stop
    monkeypatch.setattr(Relay, "stop", lambda relay, _grace: stop(relay, 0.0))

    async def script(world: World) -> list[str]:
        scene = Scene(world)
        await scene.begin()
        there = len(records.read(scene.bobs.folder, is_up=True).placements)
        await scene.send_and_watch("bob@bob.test")
        for _ in range(1000):
            if len(records.read(scene.bobs.folder, is_up=True).placements) > there:
                break
            await asyncio.sleep(0.005)
        await scene.play.stop(scene.alices)
        await scene.play.start(scene.alices)
        await asyncio.sleep(5 * MINUTE)
        return await scene.findings()

    (found,) = run(1, script)[1]
    assert "came 2 times" in found
    assert "at most 1 may be" in found


def test_an_orderly_stop_excuses_nothing() -> None:
    async def script(world: World) -> None:
        scene = Scene(world)
        await scene.begin()
        await scene.send_and_watch("bob@bob.test")
        await scene.play.stop(scene.alices)
        assert dict(scene.play.ledger.doubts) == {}

    run(1, script)


@pytest.mark.parametrize("pause", [0.0, 0.001])
def test_a_store_that_is_being_closed_is_not_found_wrong(pause: float) -> None:
    """A world once said so: a server was stopped while it was checked after its start."""

    async def script(world: World) -> None:
        scene = Scene(world)
        await scene.begin()
        checking = asyncio.create_task(scene.alices.findings())
        await asyncio.sleep(pause)
        assert await scene.alices.stop() == []
        with pytest.raises(StationDown):
            await checking

    run(1, script)
