# SPDX-License-Identifier: Apache-2.0
"""The relay when something of ours fails: nothing stays claimed, nothing goes in circles, every letter ends."""

from __future__ import annotations

from posthouse.outcome import DELIVERED, Outcome, RemoteReply, Status
from posthouse.ports import BlobLocation, Content, StoreFault
from posthouse.services.delivery import RecipientsGone
from posthouse.services.schedule import DAY, HOUR, Schedule, Schedules
from posthouse.store.queue_rows import LOCAL
from tests.fakes import FakePosting
from tests.services.queue_world import CONTENT, World
from tests.virtual_loop import run


def test_a_report_that_cannot_be_composed_does_not_go_in_circles():
    """Its host is down and its warning is due; composing fails each time: the deadline is put off, not met at once."""

    async def story():
        world = World()
        world.host(is_up=False)
        world.put("bob@bob.test")

        async def broken(octets, to, trace):
            raise RuntimeError("cannot be composed")

        mended = world.poster.prepare
        world.poster.prepare = broken
        await world.relay.start()
        await world.after(6 * DAY)
        assert world.states() == {"due": 1}, "expired, but nobody was told yet: it is visible"
        world.poster.prepare = mended
        await world.after(2 * HOUR)
        assert world.states() == {}
        assert len(world.poster.posted) == 1
        await world.relay.stop()

    run(story())


def test_a_report_quotes_a_letter_that_was_moved_to_another_pack_while_it_was_on_its_way():
    """Found by power cut 9146: compaction had moved it between the claim and the answer, and the report did not say
    which letter it was about."""

    async def story():
        world = World()
        bob = world.host()
        blobs, database = world.database.blobs, world.database
        moved = []

        def answer(recipient: str) -> RemoteReply:
            [(pack, offset, length)] = database.look(
                lambda reader: reader.rows("SELECT pack, pack_offset, length FROM blob")
            )
            old = BlobLocation(pack, offset, length)
            new = blobs.append(Content(length, b"", octets=CONTENT), b"")
            database.run(
                lambda tx: tx.run("UPDATE blob SET pack = :pack, pack_offset = :at", pack=new.pack, at=new.offset)
            )
            blobs.forget([old])
            moved.append(new)
            return RemoteReply(550, Status(5, 1, 1), "nobody here by that name")

        bob.answer = answer
        world.put("bob@bob.test")
        await world.relay.start()
        await world.after(HOUR)
        assert len(moved) == 1
        [(octets, to)] = world.poster.posted
        assert to == "alice@alice.test"
        assert CONTENT.partition(b"\r\n")[0] in octets
        await world.relay.stop()

    run(story())


def test_what_cannot_be_given_back_now_is_given_back_when_the_disk_is_well():
    """A claim of a live incarnation is taken back by nobody else: it would wait for the next start."""

    async def story():
        world = World()
        bob = world.host()
        world.put("bob@bob.test")
        written = world.database.write
        units = 0

        async def failing(unit):
            nonlocal units
            units += 1
            if 2 < units < 6:  # the start writes once, the claim is the second
                raise StoreFault("no space", is_full=True)
            return await written(unit)

        await world.relay.start()
        world.database.write = failing
        units = 1

        async def no_content(location):
            raise RuntimeError("a defect")

        opened = world.database.blobs.open
        world.database.blobs.open = no_content
        await world.after(30)
        world.database.blobs.open = opened
        await world.after(2 * HOUR)
        assert units >= 6
        assert bob.recipients == ["bob@bob.test"]
        assert world.states() == {}
        await world.relay.stop()

    run(story())


def test_a_letter_that_makes_the_client_fail_is_given_up_in_the_end_and_stops_nobody():
    async def story():
        world = World(schedules=Schedules(Schedule(connections=1)))
        bob = world.host()
        tries = 0

        def answer(recipient: str) -> RemoteReply:
            nonlocal tries
            if recipient.startswith("poison"):
                tries += 1
                raise ValueError("a defect of the client")
            return RemoteReply(250, DELIVERED, "fine")

        bob.answer = answer
        world.put("poison@bob.test")
        world.put("bob@bob.test")
        await world.relay.start()
        await world.after(HOUR)
        assert bob.recipients == ["bob@bob.test"]
        await world.after(6 * DAY)
        assert tries < 300, "it waits as after any attempt"
        assert world.states() == {}
        assert len(world.poster.posted) == 2, "a warning and the end"
        await world.relay.stop()

    run(story())


def test_a_host_that_makes_connecting_fail_is_down_like_any_other():
    async def story():
        world = World()
        world.host()

        async def connect(target):
            raise ValueError("a defect of the client")

        world.transport.connect = connect
        world.put("bob@bob.test")
        await world.relay.start()
        await world.after(6 * DAY)
        assert world.states() == {}
        assert len(world.poster.posted) == 2
        await world.relay.stop()

    run(story())


def test_a_lost_lease_leaves_nothing_of_a_local_letter_claimed():
    """The delivery would include the lost ones, so nobody gets it in this unit; the rest is due again."""

    async def story():
        world = World()
        world.put("bob@alice.test", "carol@alice.test", next_hop=LOCAL)
        prepare = world.local.prepare

        async def lose_one(letter, recipients, content):
            plan = await prepare(letter, recipients, content)
            world.database.connection.execute(
                "UPDATE queue_recipient SET owner = 'other' WHERE address = 'carol@alice.test'"
            )
            return plan

        world.local.prepare = lose_one
        await world.relay.start()
        await world.after(10)
        world.local.prepare = prepare
        assert world.local.delivered == []
        await world.after(HOUR)
        assert world.local.delivered == ["bob@alice.test"]
        sql = "SELECT address, state, owner FROM queue_recipient WHERE state = 'claimed'"
        left = world.database.look(lambda reader: reader.rows(sql))
        assert left == [("carol@alice.test", "claimed", "other")]
        await world.relay.stop()

    run(story())


def test_a_mailbox_that_goes_within_the_unit_is_decided_anew():
    async def story():
        world = World()
        world.put("bob@alice.test", next_hop=LOCAL)
        prepare = world.local.prepare

        async def vanishing(letter, recipients, content):
            plan = await prepare(letter, recipients, content)

            def gone(tx):
                raise RecipientsGone((1,))

            return type(plan)(plan.outcomes, FakePosting(gone))

        world.local.prepare = vanishing
        await world.relay.start()
        await world.after(10)
        assert world.states() == {"due": 1}
        world.local.refuses = Outcome(Status(5, 1, 1), "no such mailbox")
        world.local.prepare = prepare
        await world.after(HOUR)
        assert world.states() == {}
        assert len(world.poster.posted) == 1
        await world.relay.stop()

    run(story())


def test_a_report_whose_reader_goes_within_the_unit_is_posted_anew():
    async def story():
        world = World()
        world.host(answer=lambda recipient: RemoteReply(550, Status(5, 1, 1), "no such mailbox"))
        prepare = world.poster.prepare
        asked = 0

        async def first_in_vain(octets, to, trace, *, wish):
            nonlocal asked
            asked += 1
            posting = await prepare(octets, to, trace, wish=wish)

            def gone(tx):
                raise RecipientsGone((1,))

            return FakePosting(gone) if asked == 1 else posting

        world.poster.prepare = first_in_vain
        world.put("bob@bob.test")
        await world.relay.start()
        await world.after(30)
        assert asked == 2
        assert world.states() == {}
        assert len(world.poster.posted) == 1
        await world.relay.stop()

    run(story())


def test_a_clock_that_is_set_back_while_overdue_letters_are_settled_makes_no_circle():
    async def story():
        world = World()
        world.host(is_up=False)
        for number in range(3):
            world.put(f"bob{number}@bob.test")
        settle = world.settler.settle

        async def set_back_then_settle(settlement):
            world.clock.skew -= 12 * HOUR
            await settle(settlement)

        await world.relay.start()
        await world.after(3 * HOUR)
        world.settler.settle = set_back_then_settle
        await world.after(2 * HOUR)
        world.settler.settle = settle
        await world.after(9 * DAY)
        assert world.states() == {}
        await world.relay.stop()

    run(story())
