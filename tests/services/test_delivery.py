# SPDX-License-Identifier: Apache-2.0
"""What one unit of work will write for a letter: places here, queue rows for the rest, nothing twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from posthouse.mail.address import parse_address
from posthouse.mail.envelope import BodyType, ForwardPath, Notify, ReversePath
from posthouse.services.delivery import Delivery, Origin, Plan, ReportPoster, finished, forwarded_path
from posthouse.services.directory import Account, Resolution
from posthouse.services.routing import Routing, StaticRoute
from posthouse.services.schedule import Schedule, Schedules
from posthouse.services.transaction import Recipient
from tests.fakes import FakeEntropy, FakeResolver
from tests.services.world import InstantBus, World

NOW = 1_700_000_000.0
TRACE = b"Received: by mail.example.test\r\n"
ORIGIN = Origin("t1", NOW, TRACE, "test")
LETTER = finished(b"From: alice@alice.test\r\nMessage-ID: <1@alice.test>\r\n\r\nx\r\n")
ME = ReversePath(parse_address("alice@alice.test"))


def account(number: int, name: str) -> Account:
    return Account(number, name, parse_address(name), True, None, "en", False, 100 + number)


BOB, CAROL = account(1, "bob@bob.test"), account(2, "carol@bob.test")


def to(text: str, *accounts: Account, remote: tuple[str, ...] = (), notify: Notify | None = None) -> Recipient:
    address = parse_address(text)
    is_local = address.domain.name == "bob.test"
    targets = tuple(parse_address(each) for each in remote) if is_local else (address,)
    resolution = Resolution(address, is_local, accounts, targets, is_alias=len(accounts) + len(targets) > 1)
    return Recipient(ForwardPath(address, notify), resolution)


def delivery(**routes: StaticRoute) -> Delivery:
    routing = Routing(FakeResolver(), FakeEntropy(), "mail.example.test", routes=routes)
    return Delivery(routing, Schedules(Schedule(expire=1000.0)), InstantBus())


def plan(*recipients: Recipient, origin: Origin = ORIGIN, reverse: ReversePath = ME, letter=LETTER) -> Plan:
    return delivery().plan(letter, reverse, recipients, origin)


def test_each_person_gets_one_copy_under_the_address_named_first() -> None:
    made = plan(to("sales@bob.test", BOB, CAROL), to("bob@bob.test", BOB), to("sales@bob.test", BOB, CAROL))
    assert [(place.account, place.mailbox) for place in made.places] == [(1, 101), (2, 102)]
    head = b"Return-Path: <alice@alice.test>\r\nDelivered-To: sales@bob.test\r\n" + TRACE
    assert {place.prefix for place in made.places} == {head}
    assert made.delivered == ("sales@bob.test", "bob@bob.test")
    assert made.queued is None


def test_others_are_queued_with_their_times_and_without_what_is_for_mailboxes() -> None:
    made = plan(to("bob@bob.test", BOB), to("x@elsewhere.test"), to("x@elsewhere.test"))
    assert made.queued is not None
    (recipient,) = made.queued.recipients
    assert (str(recipient.path), recipient.next_hop) == ("x@elsewhere.test", "elsewhere.test")
    assert (recipient.not_before, recipient.expires_at, recipient.is_held) == (NOW, NOW + 1000, False)
    assert made.queued.prefix == TRACE
    assert made.queued.message_id == "1@alice.test"


def test_a_smart_host_is_the_next_hop_of_all_without_a_route() -> None:
    houses = delivery(**{"*": StaticRoute.parse("192.0.2.1:25"), "near.test": StaticRoute.parse("192.0.2.2:25")})
    made = houses.plan(LETTER, ME, [to("x@elsewhere.test"), to("x@near.test")], ORIGIN)
    assert made.queued is not None
    assert [each.next_hop for each in made.queued.recipients] == ["*", "near.test"]


@pytest.mark.parametrize("wait", [{"is_held": True}, {"not_before": NOW + 60}])
def test_a_letter_that_waits_is_in_the_queue_for_everybody(wait: dict[str, float]) -> None:
    made = plan(to("bob@bob.test", BOB), to("x@elsewhere.test"), origin=replace(ORIGIN, **wait))
    assert (made.places, made.delivered) == ((), ())
    assert made.queued is not None
    assert [each.next_hop for each in made.queued.recipients] == ["local", "elsewhere.test"]
    assert [each.not_before for each in made.queued.recipients] == [wait.get("not_before", NOW)] * 2


def test_a_time_that_has_passed_does_not_wait() -> None:
    made = plan(to("bob@bob.test", BOB), origin=replace(ORIGIN, not_before=NOW))
    assert len(made.places) == 1
    assert made.queued is None


def test_the_mark_against_loops_names_a_forwarding_address_that_is_alone() -> None:
    def prefix(*recipients: Recipient, origin: Origin = ORIGIN) -> bytes:
        made = plan(*recipients, origin=origin)
        assert made.queued is not None
        return made.queued.prefix

    away, other = to("away@bob.test", remote=("a@x.test", "b@y.test")), to("other@bob.test", remote=("c@x.test",))
    mark = b"Delivered-To: away@bob.test\r\n"
    assert prefix(away) == mark + TRACE
    assert prefix(away, to("bob@bob.test", BOB)) == mark + TRACE  # who reads here does not see it
    assert prefix(away, other) == TRACE
    assert prefix(away, to("d@x.test")) == TRACE
    assert prefix(away, origin=replace(ORIGIN, is_held=True)) == TRACE


def test_wishes_for_reports_of_a_list_stay_behind() -> None:
    """RFC 3461 §5.2.7: the members of a list do not report success to its writer; one forwarded address does."""
    both = Notify.SUCCESS | Notify.FAILURE
    member = parse_address("x@elsewhere.test")
    for wish, remote, onward in (
        (both, ("x@elsewhere.test", "y@elsewhere.test"), Notify.FAILURE),
        (Notify.SUCCESS, ("x@elsewhere.test", "y@elsewhere.test"), Notify.NEVER),
        (both, ("x@elsewhere.test",), both),
        (None, ("x@elsewhere.test", "y@elsewhere.test"), None),
    ):
        recipient = to("list@bob.test", remote=remote, notify=wish)
        made = forwarded_path(recipient.path, member, recipient.resolution)
        assert made == ForwardPath(member, onward, "rfc822;list@bob.test")


@pytest.mark.parametrize(
    ("octets", "reverse", "eight", "utf8"),
    [
        (b"From: a@b.test\r\n\r\nx\r\n", ME, False, False),
        (b"From: a@b.test\r\n\r\nx\r\n", replace(ME, body=BodyType.EIGHT_BIT), True, False),
        ("From: a@b.test\r\n\r\nü\r\n".encode(), ME, True, False),
        ("From: ü@b.test\r\n\r\nx\r\n".encode(), ME, True, True),
    ],
)
def test_what_the_next_host_must_be_able_to_do(octets: bytes, reverse: ReversePath, *, eight: bool, utf8: bool) -> None:
    made = plan(to("x@elsewhere.test"), reverse=reverse, letter=finished(octets))
    assert made.queued is not None
    assert (made.queued.needs_eight_bit, made.queued.needs_smtputf8) == (eight, utf8)


async def test_a_report_finds_a_reader_even_when_its_reader_is_gone() -> None:
    """A report for an unknown address goes to the postmaster, one for elsewhere into the queue, none in a circle."""
    world = World()
    await world.administration.add_domain("bob.test")
    await world.administration.add_account("bob@bob.test", "secret")
    await world.administration.add_account("boss@bob.test", "secret", is_admin=True)
    poster = ReportPoster(world.directory, delivery(), world.clock)
    boss, bob = await world.directory.account("boss@bob.test"), await world.directory.account("bob@bob.test")
    assert boss
    assert bob
    for reader, reached in (("bob@bob.test", bob.id), ("nobody@bob.test", boss.id)):
        posting = await poster.prepare(b"Subject: failed\r\n\r\n", parse_address(reader), "t1")
        assert posting.plan is not None
        assert [place.account for place in posting.plan.places] == [reached]
        assert posting.plan.places[0].prefix.startswith(b"Return-Path: <>\r\n")
    posting = await poster.prepare(b"Subject: failed\r\n\r\n", parse_address("x@elsewhere.test"), "t1")
    assert posting.plan is not None
    assert posting.plan.queued is not None
    assert posting.plan.queued.reverse_path.is_null
    assert posting.plan.queued.recipients[0].path.notify is Notify.NEVER
