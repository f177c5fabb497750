# SPDX-License-Identifier: Apache-2.0
"""The relay on virtual time: what is sent, when, over how many connections; nothing polled, nothing lost."""

from __future__ import annotations

import pytest

from posthouse.mail.envelope import BodyType, Notify
from posthouse.outcome import Outcome, RemoteReply, Status
from posthouse.ports import StoreFault
from posthouse.services.routing import StaticRoute
from posthouse.services.schedule import DAY, HOUR, MINUTE, Schedule, Schedules
from posthouse.store.queue_admin import Selection
from tests.fakes import EPOCH, FakeHost
from tests.services.queue_world import CONTENT, PREFIX, World, path
from tests.virtual_loop import run


def test_a_letter_is_sent_with_its_prefix_and_leaves_nothing_in_the_hot_tables():
    async def story():
        world = World()
        bob = world.host()
        await world.relay.start()
        queue_id = world.put("bob@bob.test")
        await world.after(10)
        assert bob.letters == [("alice@alice.test", ("bob@bob.test",), PREFIX + CONTENT)]
        assert world.is_empty()
        (told,) = await world.desk.trace(str(queue_id))
        assert [(r.state, r.outcome.host) for r in told.recipients] == [("delivered", "mx.bob.test")]
        assert [(a.host, a.tls) for a in told.attempts] == [("mx.bob.test", "TLSv1.3")]
        await world.relay.stop()

    run(story())


def test_recipients_of_one_host_share_a_transaction_and_letters_share_a_connection():
    async def story():
        world = World(schedules=Schedules(Schedule(connections=1)))
        bob = world.host()
        await world.relay.start()
        for number in range(30):
            world.put(f"a{number}@bob.test", f"b{number}@bob.test")
        await world.after(60)
        assert bob.connections == 1
        assert len(bob.letters) == 30
        assert all(len(recipients) == 2 for _, recipients, _ in bob.letters)
        assert world.relay.counters.transactions_on_used_connections == 29
        await world.relay.stop()

    run(story())


def test_a_transaction_has_at_most_a_hundred_recipients_or_what_the_host_announces():
    async def story():
        world = World()
        bob, carol = world.host(), world.host("carol.test", "192.0.2.2", extensions={"LIMITS": "RCPTMAX=30", "DSN": ""})
        await world.relay.start()
        world.put(*(f"u{n}@bob.test" for n in range(250)))
        world.put(*(f"u{n}@carol.test" for n in range(70)))
        await world.after(30)
        assert [len(recipients) for _, recipients, _ in bob.letters] == [100, 100, 50]
        assert [len(recipients) for _, recipients, _ in carol.letters] == [30, 30, 10]
        assert len(set(bob.recipients)) == 250
        assert world.is_empty()
        await world.relay.stop()

    run(story())


def test_too_many_recipients_go_in_another_transaction_at_once():
    """RFC 5321 §4.5.3.1.10: 452 after some were accepted is no reason to wait."""

    async def story():
        world = World()
        seen: list[str] = []

        def answer(recipient: str) -> RemoteReply:
            seen.append(recipient)
            if len(seen) in (3, 4):
                return RemoteReply(452, Status(4, 5, 3), "too many recipients")
            return RemoteReply(250, Status(2, 1, 5), "ok")

        bob = world.host(answer=answer)
        await world.relay.start()
        world.put("a@bob.test", "b@bob.test", "c@bob.test", "d@bob.test")
        await world.after(5)
        assert [recipients for _, recipients, _ in bob.letters] == [
            ("a@bob.test", "b@bob.test"),
            ("c@bob.test", "d@bob.test"),
        ]
        assert world.is_empty()
        await world.relay.stop()

    run(story())


def test_a_host_that_is_down_is_probed_once_on_the_schedule_whatever_waits():
    async def story():
        world = World()
        bob = world.host(is_up=False)
        await world.relay.start()
        for number in range(200):
            world.put(f"u{number}@bob.test")
        writes = world.database.writes
        await world.after(2 * HOUR)
        assert bob.probes == pytest.approx([0, 60, 360, 1260, 3060, 4860, 6660], abs=1)
        assert world.states() == {"due": 200}
        assert world.database.writes - writes < 4 * len(bob.probes)  # rows of the destination, not of the letters
        bob.is_up = True
        await world.after(30 * MINUTE)
        assert len(bob.letters) == 200
        assert len(bob.probes) <= 8 + 4  # the schedule's probe, and further connections for the backlog
        assert world.is_empty()
        await world.relay.stop()

    run(story())


def test_new_mail_for_a_host_that_is_down_waits_for_the_next_probe():
    async def story():
        world = World()
        bob = world.host(is_up=False)
        await world.relay.start()
        world.put("a@bob.test")
        await world.after(20)
        world.put("b@bob.test")
        await world.after(20)
        assert len(bob.probes) == 1
        await world.after(30)
        assert len(bob.probes) == 2
        await world.relay.stop()

    run(story())


def test_a_deferred_letter_follows_the_schedule_and_others_are_not_held_up_by_it():
    async def story():
        world = World()
        tries: list[float] = []

        def answer(recipient: str) -> RemoteReply:
            if recipient == "grey@bob.test":
                tries.append(round(world.clock.wall() - EPOCH))
                return RemoteReply(451, Status(4, 7, 1), "greylisted")
            return RemoteReply(250, Status(2, 1, 5), "ok")

        bob = world.host(answer=answer)
        await world.relay.start()
        world.put("grey@bob.test")
        await world.after(HOUR)
        assert tries == pytest.approx([0, 60, 360, 1260, 3060], abs=2)
        world.put("carol@bob.test")
        await world.after(5)
        assert bob.recipients == ["carol@bob.test"]
        await world.relay.stop()

    run(story())


def test_a_letter_is_warned_about_once_and_given_up_at_the_end_of_its_time():
    """The story of the house: tried for five days, then its sender is told."""

    async def story():
        world = World()
        bob = world.host(is_up=False)
        await world.relay.start()
        queue_id = world.put("bob@bob.test")
        await world.after(4 * HOUR + 31 * MINUTE)
        assert len(world.poster.posted) == 1
        assert b"delayed" in world.poster.posted[0][0]
        await world.after(5 * DAY)
        assert len(world.poster.posted) == 2
        octets, to = world.poster.posted[1]
        assert to == "alice@alice.test"
        assert b"Action: failed" in octets
        assert b"Subject: news" in octets
        (told,) = await world.desk.trace(str(queue_id))
        assert [r.state for r in told.recipients] == ["expired"]
        assert len(told.attempts) == len(bob.probes) > 200
        await world.after(HOUR)
        assert world.states() == {}
        assert (await world.desk.purge(30 * DAY), world.is_empty()) == (1, True)
        await world.relay.stop()

    run(story())


def test_a_letter_deferred_by_its_host_gets_a_last_try_when_it_expires():
    async def story():
        world = World(schedules=Schedules(Schedule(retry=(700.0,), expire=1000.0, warn=None)))
        bob = world.host(answer=lambda recipient: RemoteReply(450, Status(4, 2, 1), "busy"))
        await world.relay.start()
        world.put("bob@bob.test")
        await world.after(2000)
        assert bob.probes == pytest.approx([0, 700, 1000], abs=1)
        assert len(world.poster.posted) == 1
        assert world.is_empty()
        await world.relay.stop()

    run(story())


def test_a_refused_recipient_fails_alone_and_its_sender_is_told():
    async def story():
        world = World()
        refusals = {"nobody@bob.test": RemoteReply(550, Status(5, 1, 1), "no such user")}
        world.host(answer=lambda recipient: refusals.get(recipient, RemoteReply(250, Status(2, 1, 5), "ok")))
        await world.relay.start()
        queue_id = world.put("bob@bob.test", "nobody@bob.test")
        await world.after(10)
        (told,) = await world.desk.trace(str(queue_id))
        assert [(r.address, r.state) for r in told.recipients] == [
            ("bob@bob.test", "delivered"),
            ("nobody@bob.test", "failed"),
        ]
        ((octets, _),) = world.poster.posted
        assert b"nobody@bob.test" in octets
        assert b"bob@bob.test\r\nAction" not in octets.replace(b"nobody@bob.test", b"")
        await world.relay.stop()

    run(story())


def test_the_null_reverse_path_is_never_answered():
    async def story():
        world = World()
        world.host(answer=lambda recipient: RemoteReply(550, Status(5, 1, 1), "no such user"))
        await world.relay.start()
        world.put("bob@bob.test", sender="")
        await world.after(10)
        assert world.poster.prepared == []
        assert world.relay.counters.failed == 1
        assert world.is_empty()
        await world.relay.stop()

    run(story())


def test_success_is_told_as_relayed_only_where_the_next_host_knows_no_dsn():
    async def story():
        world = World()
        world.host()
        world.host("old.test", "192.0.2.2", extensions={})
        await world.relay.start()
        world.put(path("bob@bob.test", Notify.SUCCESS))
        world.put(path("bob@old.test", Notify.SUCCESS), path("eve@old.test"))
        await world.after(10)
        ((octets, _),) = world.poster.posted
        assert b"Action: relayed" in octets
        assert b"eve@old.test" not in octets
        await world.relay.stop()

    run(story())


@pytest.mark.parametrize(
    ("fields", "extensions", "status"),
    [
        ({"needs_eight_bit": True}, {"SMTPUTF8": ""}, "5.6.3"),
        ({"needs_smtputf8": True}, {"8BITMIME": ""}, "5.6.7"),
        ({}, {"SIZE": "40"}, "5.3.4"),
    ],
)
def test_what_a_host_cannot_take_fails_honestly(fields, extensions, status):
    async def story():
        world = World()
        bob = world.host(extensions=extensions)
        await world.relay.start()
        queue_id = world.put("bob@bob.test", **fields)
        await world.after(10)
        assert bob.envelopes == []
        (told,) = await world.desk.trace(str(queue_id))
        assert [str(r.outcome.status) for r in told.recipients] == [status]
        assert told.attempts[0].host == "mx.bob.test"
        assert len(world.poster.posted) == 1
        await world.relay.stop()

    run(story())


def test_the_envelope_says_what_the_letter_needs():
    async def story():
        world = World()
        bob = world.host()
        await world.relay.start()
        world.put("jürgen@bob.test", needs_eight_bit=True)
        await world.after(10)
        reverse_path = bob.envelopes[0].reverse_path
        assert (reverse_path.body, reverse_path.smtputf8) == (BodyType.EIGHT_BIT, True)
        assert reverse_path.size == len(PREFIX + CONTENT)
        await world.relay.stop()

    run(story())


def test_a_second_mail_host_is_tried_when_the_first_gives_no_answer_and_remembered():
    async def story():
        world = World()
        second = world.host()
        world.resolver.domain("bob.test", (10, "dead.bob.test"), (20, "mx.bob.test"))
        world.resolver.host("dead.bob.test", "192.0.2.9")
        await world.relay.start()
        world.put("bob@bob.test")
        await world.after(10)
        world.put("bob@bob.test")
        await world.after(10)
        assert len(second.letters) == 2
        assert [target.address for target in world.transport.targets] == ["192.0.2.9", "192.0.2.1", "192.0.2.1"]
        await world.relay.stop()

    run(story())


@pytest.mark.parametrize(("code", "state"), [(554, "failed"), (421, "due")])
def test_a_greeting_decides_for_all_who_wait(code, state):
    async def story():
        world = World()
        world.host(greeting=RemoteReply(code, None, "not now"))
        await world.relay.start()
        ids = [world.put("bob@bob.test"), world.put("eve@bob.test")]
        await world.after(10)
        for queue_id in ids:
            (told,) = await world.desk.trace(str(queue_id))
            assert [r.state for r in told.recipients] == [state]
            assert told.attempts[-1].results[0][0].reply.code == code
        assert len(world.poster.posted) == (2 if code == 554 else 0)
        await world.relay.stop()

    run(story())


def test_a_wrong_password_at_our_smart_host_returns_nobodys_mail():
    async def story():
        world = World(routes={"*": StaticRoute("192.0.2.5", 587, username="us", password="wrong")})
        world.transport.hosts["192.0.2.5"] = FakeHost(greeting=RemoteReply(535, Status(5, 7, 8), "no"))
        await world.relay.start()
        world.put("bob@bob.test", next_hop="*")
        await world.after(10)
        assert world.states() == {"due": 1}
        await world.relay.stop()

    run(story())


def test_the_smart_host_takes_all_domains_in_one_transaction_and_rows_go_home_when_it_is_gone():
    async def story():
        world = World(routes={"*": StaticRoute("192.0.2.5", 587)})
        smart = world.transport.hosts["192.0.2.5"] = FakeHost()
        bob = world.host()
        await world.relay.start()
        world.put("a@bob.test", "b@carol.test", next_hop=world.routing.next_hop(path("a@bob.test").address.domain))
        await world.after(10)
        assert [recipients for _, recipients, _ in smart.letters] == [("a@bob.test", "b@carol.test")]
        world.routing.set_routes({})
        world.put("c@bob.test", next_hop="*")
        await world.after(10)
        assert bob.recipients == ["c@bob.test"]
        assert world.is_empty()
        await world.relay.stop()

    run(story())


def test_a_domain_that_does_not_exist_fails_and_a_broken_name_server_defers():
    async def story():
        world = World()
        world.resolver.broken.add("slow.test")
        await world.relay.start()
        gone, slow = world.put("a@gone.test"), world.put("a@slow.test")
        await world.after(10)
        (told,) = await world.desk.trace(str(gone))
        assert [(r.state, str(r.outcome.status)) for r in told.recipients] == [("failed", "5.1.2")]
        (told,) = await world.desk.trace(str(slow))
        assert [(r.state, str(r.outcome.status)) for r in told.recipients] == [("due", "4.4.3")]
        assert told.recipients[0].due_at == pytest.approx(EPOCH + 60, abs=1)
        await world.relay.stop()

    run(story())


def test_a_huge_destination_does_not_starve_the_others():
    async def story():
        world = World(connections=3)
        huge = world.host("huge.test", "192.0.2.9", takes=1.0)
        hosts = [world.host(f"d{n}.test", f"192.0.2.{n + 20}") for n in range(8)]
        for number in range(500):
            world.put(f"u{number}@huge.test")
        for number in range(8):
            world.put(f"u@d{number}.test")
        await world.relay.start()
        await world.after(60)
        assert [len(host.letters) for host in hosts] == [1] * 8
        assert 0 < len(huge.letters) < 200
        assert huge.most_open <= 3
        await world.after(300)
        assert len(huge.letters) == 500
        await world.relay.stop()

    run(story())


def test_connections_to_one_destination_are_limited():
    async def story():
        world = World(schedules=Schedules(Schedule(connections=2)))
        bob = world.host(takes=1.0)
        for number in range(100):
            world.put(f"u{number}@bob.test")
        await world.relay.start()
        await world.after(200)
        assert bob.most_open == 2
        assert len(bob.letters) == 100
        assert bob.connections == 2
        await world.relay.stop()

    run(story())


def test_a_host_that_drops_every_transaction_rests_like_one_that_is_down():
    async def story():
        world = World()
        bob = world.host(drops=True)
        for number in range(50):
            world.put(f"u{number}@bob.test")
        await world.relay.start()
        await world.after(50)
        assert len(bob.envelopes) <= 8  # three in a row, and what ran beside them
        assert world.states() == {"due": 50}
        await world.relay.stop()

    run(story())


def test_one_letter_that_upsets_its_host_does_not_stop_the_others():
    async def story():
        world = World(schedules=Schedules(Schedule(connections=1)))
        bob = world.host(answer=lambda r: RemoteReply(421 if r.startswith("poison") else 250, None, "!"))
        world.put("poison@bob.test")
        for number in range(20):
            world.put(f"u{number}@bob.test")
        await world.relay.start()
        await world.after(90)
        assert len(bob.letters) == 20
        assert world.states() == {"due": 1}
        await world.relay.stop()

    run(story())


def test_future_release_waits_and_hold_waits_for_its_release():
    async def story():
        world = World()
        bob = world.host()
        await world.relay.start()
        world.put("later@bob.test", not_before=EPOCH + 3600)
        held = world.put("held@bob.test", is_held=True)
        await world.after(3599)
        assert bob.letters == []
        await world.after(2)
        assert bob.recipients == ["later@bob.test"]
        await world.after(10 * DAY)
        assert world.states() == {"held": 1}
        assert (await world.desk.release(Selection(queue_id=held))).changed == 1
        await world.after(5)
        assert bob.recipients == ["later@bob.test", "held@bob.test"]
        await world.relay.stop()

    run(story())


def test_local_mail_that_waited_is_delivered_in_the_unit_that_records_it():
    async def story():
        world = World()
        await world.relay.start()
        queue_id = world.put("carol@alice.test", next_hop="local", not_before=EPOCH + 60)
        await world.after(59)
        assert world.local.delivered == []
        await world.after(2)
        assert world.local.delivered == ["carol@alice.test"]
        (told,) = await world.desk.trace(str(queue_id))
        assert [(r.state, r.next_hop) for r in told.recipients] == [("delivered", "local")]
        world.local.refuses = Outcome(Status(5, 1, 1), "gone meanwhile")
        world.put("dave@alice.test", next_hop="local")
        await world.after(5)
        assert len(world.poster.posted) == 1
        assert world.is_empty()
        await world.relay.stop()

    run(story())


def test_retry_now_does_not_wait_for_the_destination():
    async def story():
        world = World()
        bob = world.host(is_up=False)
        await world.relay.start()
        world.put("bob@bob.test")
        await world.after(10 * MINUTE)
        bob.is_up = True
        probes = len(bob.probes)
        assert (await world.desk.retry_now(Selection.parse("bob.test"))).changed == 1
        await world.after(1)
        assert len(bob.probes) == probes + 1
        assert bob.recipients == ["bob@bob.test"]
        await world.relay.stop()

    run(story())


def test_a_hold_during_an_attempt_takes_effect_after_it():
    async def story():
        world = World()
        bob = world.host(takes=10.0, answer=lambda r: RemoteReply(451, Status(4, 3, 0), "later"))
        await world.relay.start()
        world.put("bob@bob.test")
        await world.after(5)
        assert world.states() == {"claimed": 1}
        assert (await world.desk.hold(Selection.parse("bob@bob.test"))).changed == 1
        await world.after(DAY)
        assert world.states() == {"held": 1}
        assert len(bob.probes) == 1
        await world.relay.stop()

    run(story())


@pytest.mark.parametrize("tell_sender", [True, False])
def test_drop_ends_a_letter_with_or_without_a_report(tell_sender):
    async def story():
        world = World()
        world.host(is_up=False)
        await world.relay.start()
        queue_id = world.put("bob@bob.test", "eve@bob.test")
        world.put("held@bob.test", is_held=True)
        await world.after(5)
        done = await world.desk.drop(Selection.parse("bob.test"), tell_sender=tell_sender)
        assert (done.changed, done.busy) == (3, 0)
        assert len(world.poster.posted) == (2 if tell_sender else 0)
        (told,) = await world.desk.trace(str(queue_id))
        assert [r.state for r in told.recipients] == ["failed", "failed"]
        assert world.states() == {}
        await world.relay.stop()

    run(story())


def test_a_drain_finishes_what_runs_and_gives_back_the_rest():
    async def story():
        world = World(schedules=Schedules(Schedule(connections=1)))
        bob = world.host(takes=2.0)
        for number in range(10):
            world.put(f"u{number}@bob.test")
        await world.relay.start()
        await world.after(3)
        await world.relay.stop(grace=30)
        assert len(bob.letters) == 2
        assert world.states() == {"due": 8}
        assert bob.open_now == 0

    run(story())


def test_a_drain_sends_nothing_that_was_not_under_way():
    """A lane that was still connecting claimed a letter and sent it, after the stop had been asked for."""

    async def story():
        world = World()
        bob = world.host(connects_in=2.0)
        world.put("bob@bob.test")
        await world.relay.start()
        await world.after(1)
        await world.relay.stop(grace=30)
        assert bob.letters == []
        assert world.states() == {"due": 1}
        assert bob.open_now == 0

    run(story())


def test_a_drain_does_not_wait_longer_than_its_grace():
    async def story():
        world = World()
        bob = world.host(takes=600.0)
        world.put("bob@bob.test")
        await world.relay.start()
        await world.after(3)
        await world.relay.stop(grace=5)
        assert world.clock.monotonic() == pytest.approx(8, abs=0.1)
        assert bob.letters == []
        assert world.states() == {"due": 1}

    run(story())


def test_a_live_attempt_renews_its_leases():
    async def story():
        world = World()
        world.host(takes=7200.0)
        world.put("bob@bob.test")
        await world.relay.start()
        await world.after(3600)
        (until,) = world.database.look(lambda reader: reader.row("SELECT leased_until FROM queue_recipient"))
        assert until > world.clock.wall()
        await world.relay.stop(grace=0)

    run(story())


def test_nothing_polls_while_nothing_is_due():
    async def story():
        world = World()
        world.host()
        await world.relay.start()
        await world.after(1)
        reads = world.database.reads
        await world.after(30 * DAY)
        assert world.database.reads == reads
        await world.relay.stop()

    run(story())


def test_when_the_clock_goes_forward_what_is_due_goes_out_within_minutes():
    async def story():
        world = World()
        bob = world.host()
        await world.relay.start()
        world.put("bob@bob.test", not_before=EPOCH + 10 * DAY)
        await world.after(10)
        world.clock.skew += 11 * DAY
        await world.after(301)
        assert bob.recipients == ["bob@bob.test"]
        await world.relay.stop()

    run(story())


def test_when_the_clock_goes_back_retries_are_pulled_in_and_future_releases_are_not():
    async def story():
        world = World()
        world.clock.skew = 1000 * DAY
        bob = world.host(answer=lambda r: RemoteReply(451, Status(4, 3, 0), "later"))
        down = world.host("down.test", "192.0.2.7", is_up=False)
        await world.relay.start()
        world.put("bob@bob.test")
        world.put("eve@down.test")
        world.put("later@bob.test", not_before=EPOCH + 2 * DAY + 1000 * DAY)
        await world.after(10)
        world.clock.skew = 0.0
        bob.answer = lambda r: RemoteReply(250, None, "ok")
        down.is_up = True
        await world.after(302)
        assert bob.recipients == ["bob@bob.test"]
        assert down.recipients == ["eve@down.test"]
        assert world.states() == {"due": 1}
        await world.relay.stop()

    run(story())


def test_when_the_disk_refuses_what_the_host_accepted_is_recorded_as_soon_as_it_can_be():
    async def story():
        world = World()
        bob = world.host(takes=5.0)
        await world.relay.start()
        world.put("bob@bob.test")
        await world.after(2)
        world.database.fault = StoreFault("no space", is_full=True)
        await world.after(300)
        assert len(bob.letters) == 1
        world.database.fault = None
        await world.after(60)
        assert len(bob.letters) == 1
        assert world.is_empty()
        await world.relay.stop()

    run(story())


def test_a_letter_whose_content_cannot_be_read_waits():
    async def story():
        world = World()
        bob = world.host()
        world.put("bob@bob.test")
        world.database.blobs.contents.clear()
        await world.relay.start()
        await world.after(10)
        assert bob.envelopes == []
        assert world.states() == {"due": 1}
        await world.relay.stop()

    run(story())


def test_memory_holds_what_is_being_sent_not_what_waits():
    async def story():
        world = World(schedules=Schedules(Schedule(connections=2)))
        world.host(takes=1.0)
        for number in range(500):
            world.put(f"u{number}@bob.test")
        await world.relay.start()
        await world.after(20)
        assert world.relay.state().claimed <= 20
        await world.relay.stop()

    run(story())
