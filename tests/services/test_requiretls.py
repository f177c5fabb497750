# SPDX-License-Identifier: Apache-2.0
"""Letters that ask something of their way (RFC 8689): only where it is kept, or rather unprotected than not at all."""

from __future__ import annotations

from dataclasses import replace
from email import message_from_bytes

import pytest

from posthouse.mail.address import parse_address
from posthouse.mail.dsn import Action
from posthouse.mail.envelope import DsnReturn, ReversePath, TlsWish
from posthouse.mail.header import scan_header
from posthouse.mail.tls_required import wish_of
from posthouse.outcome import DNS_FAULT, Outcome, RemoteReply, Status
from posthouse.ports import ConnectFault, Target, TlsInfo, TlsTrouble
from posthouse.services.delivery import finished
from posthouse.services.guarded_transport import GuardedTransport, keeps_promise
from posthouse.services.schedule import MINUTE, Schedule, Schedules
from posthouse.services.tls_journal import TlsJournal
from posthouse.store.queue_rows import pack_reverse_path, unpack_reverse_path
from tests.fakes import FakeConnection, FakeTransport
from tests.services import test_bounce, test_protection
from tests.services.queue_world import World
from tests.virtual_loop import run

ALICE = parse_address("alice@alice.test")
PLAIN = {"PIPELINING": "", "8BITMIME": "", "SMTPUTF8": "", "DSN": ""}
PROMISING = PLAIN | {"REQUIRETLS": ""}
SURE = TlsInfo("TLSv1.3", "AES", is_verified=True, trust="MTA-STS", is_way_sure=True)
UNSURE = TlsInfo("TLSv1.3", "AES")
NOT_PROTECTED = Status(4, 7, 5)


class Picky(FakeTransport):
    """Hosts whose policy the host itself does not keep (`in_breach`), and hosts that show more to letters that ask for
    it (`shows`)."""

    def __init__(self) -> None:
        super().__init__()
        self.in_breach: dict[str, Status] = {}
        self.shows: dict[str, TlsInfo] = {}

    async def connect(self, target: Target) -> FakeConnection:
        status = self.in_breach.get(target.address)
        if status is not None and target.wish is not TlsWish.OPTIONAL:
            outcome = Outcome(status, "the certificate is bad", target.host, target.address)
            raise ConnectFault(outcome, trouble=TlsTrouble("certificate-expired", ""), is_policy=True)
        connection = await super().connect(target)
        if target.wish is TlsWish.REQUIRED:
            connection.tls = self.shows.get(target.address, connection.tls)
        return connection


def required(sender: str = "alice@alice.test") -> ReversePath:
    return ReversePath(parse_address(sender) if sender else None, wish=TlsWish.REQUIRED)


def optional() -> ReversePath:
    return ReversePath(ALICE, wish=TlsWish.OPTIONAL)


def play(script, **fields):
    async def story():
        world = World(**fields)
        world.transport = Picky()
        world.build()
        await script(world)
        await world.relay.stop()

    run(story())


async def send(world: World, path: ReversePath, *recipients: str) -> None:
    world.put(*(recipients or ("bob@bob.test",)), reverse_path=path)
    await world.relay.start()
    await world.after(30)


# --- REQUIRETLS -----------------------------------------------------------------------------------


def test_the_promise_is_passed_on():
    async def script(world):
        bob = world.host(extensions=PROMISING, tls=SURE)
        await send(world, required())
        (envelope,) = bob.envelopes
        assert envelope.reverse_path.wish is TlsWish.REQUIRED
        assert bob.connections == 1

    play(script)


@pytest.mark.parametrize(
    ("extensions", "tls", "status"),
    [
        (PLAIN, SURE, "5.7.30"),
        (PROMISING, UNSURE, "5.7.30"),
        (PROMISING, replace(SURE, is_way_sure=False), "5.7.30"),
        (PROMISING, None, "5.7.30"),
    ],
)
def test_without_the_promise_it_is_returned_at_once(extensions, tls, status):
    async def script(world):
        bob = world.host(extensions=extensions, tls=tls)
        await send(world, required())
        assert bob.letters == []
        ((report, to),) = world.poster.posted
        assert to == "alice@alice.test"
        assert f"Status: {status}" in report.decode()
        assert world.poster.wishes == [TlsWish.REQUIRED]

    play(script)


def test_a_session_that_is_not_good_enough_is_not_all_there_is():
    """The ordinary session was opportunistic; the letter asks for more and gets it, over one of its own."""

    async def script(world):
        bob = world.host(extensions=PROMISING, tls=UNSURE)
        world.transport.shows["192.0.2.1"] = SURE
        await send(world, required())
        assert [each.reverse_path.wish for each in bob.envelopes] == [TlsWish.REQUIRED]
        assert bob.open_now == 0
        assert world.poster.posted == []

    play(script)


def test_each_host_is_looked_at_in_turn():
    async def script(world):
        world.resolver.domain("bob.test", (10, "mx.bob.test"), (20, "mx2.bob.test"), (30, "mx3.bob.test"))
        first = world.host(extensions=PLAIN, tls=SURE)
        for number in (2, 3):
            world.resolver.host(f"mx{number}.bob.test", f"192.0.2.{number}")
        world.resolver.domain("bob.test", (10, "mx.bob.test"), (20, "mx2.bob.test"), (30, "mx3.bob.test"))
        second = world.transport.hosts["192.0.2.3"] = type(first)(extensions=PROMISING, tls=SURE)
        await send(world, required())
        assert first.letters == []
        assert len(second.letters) == 1

    play(script)


@pytest.mark.parametrize(
    ("status", "trouble", "wanted"),
    [
        (NOT_PROTECTED, TlsTrouble("certificate-expired", "", is_judged=True), "5.7.10"),
        (Status(4, 7, 4), TlsTrouble("starttls-not-supported", "", is_judged=True), "5.7.10"),
        (Status(4, 7, 4), TlsTrouble("starttls-not-supported", ""), ""),
        (NOT_PROTECTED, TlsTrouble("validation-failure", "the handshake broke"), ""),
        (DNS_FAULT, TlsTrouble("dnssec-invalid", ""), ""),
        (DNS_FAULT, None, ""),
    ],
)
def test_what_refuses_protection_is_final_and_what_is_not_known_is_not(status, trouble, wanted):
    """RFC 8689 §4.2.1. One host serves ordinary letters but not these."""

    async def script(world):
        bob = world.host(extensions=PLAIN, tls=UNSURE)

        async def connect(target):
            if target.wish is TlsWish.REQUIRED:
                raise ConnectFault(Outcome(status, "no"), trouble=trouble, is_policy=True)
            return await FakeTransport.connect(world.transport, target)

        world.transport.connect = connect
        world.build()
        await send(world, required())
        assert bob.letters == []
        reports = [octets.decode() for octets, _ in world.poster.posted]
        assert len(reports) == bool(wanted)
        assert all(f"Status: {wanted}" in report for report in reports)
        assert world.states() == ({} if wanted else {"due": 1})

    play(script)


def test_a_host_that_is_silent_is_tried_again():
    async def script(world):
        bob = world.host(extensions=PLAIN, tls=UNSURE)
        world.resolver.host("mx2.bob.test", "192.0.2.2")
        world.resolver.domain("bob.test", (10, "mx.bob.test"), (20, "mx2.bob.test"))
        await send(world, required())
        assert world.states() == {"due": 1}, "the second host may keep the promise when it is back"
        world.transport.hosts["192.0.2.2"] = type(bob)(extensions=PROMISING, tls=SURE)
        await world.after(2 * MINUTE)
        assert len(world.transport.hosts["192.0.2.2"].letters) == 1

    play(script)


def test_other_letters_are_not_kept_waiting():
    async def script(world):
        bob = world.host(extensions=PLAIN, tls=UNSURE)
        world.put("one@bob.test")
        await send(world, required(), "bob@bob.test")
        world.put("two@bob.test")
        await world.after(5)
        assert bob.recipients == ["one@bob.test", "two@bob.test"]

    play(script)


def test_a_report_is_not_dropped_for_want_of_the_promise():
    """RFC 8689 §5."""

    async def script(world):
        bob = world.host(extensions=PROMISING, tls=UNSURE)
        await send(world, required(""))
        (envelope,) = bob.envelopes
        assert envelope.reverse_path.wish is TlsWish.USUAL, "it is not said on a session that does not deserve it"

    play(script)


# --- TLS-Required: No -----------------------------------------------------------------------------


def test_optional_letters_go_where_the_policy_stops_all_others():
    async def script(world):
        bob = world.host(tls=UNSURE)
        world.transport.in_breach["192.0.2.1"] = NOT_PROTECTED
        world.put("plain@bob.test")
        await send(world, optional(), "urgent@bob.test")
        assert bob.recipients == ["urgent@bob.test"]
        assert world.states() == {"due": 1}
        world.put("later@bob.test", reverse_path=optional())
        await world.after(10 * MINUTE)
        assert bob.recipients == ["urgent@bob.test", "later@bob.test"], "with the next probe"
        del world.transport.in_breach["192.0.2.1"]
        await world.after(60 * MINUTE)
        assert bob.recipients[-1] == "plain@bob.test"
        assert world.is_empty()

    play(script, schedules=Schedules(Schedule(retry=(MINUTE, 5 * MINUTE))))


@pytest.mark.parametrize("letters_per_session", [None, 7])
def test_all_optional_letters_go_at_one_probe(letters_per_session):
    """However many wait, and however few a host takes in one session."""

    async def script(world):
        bob = world.host(tls=UNSURE, letters_per_session=letters_per_session)
        world.transport.in_breach["192.0.2.1"] = NOT_PROTECTED
        for number in range(35):
            world.put(f"plain{number}@bob.test")
            world.put(f"urgent{number}@bob.test", reverse_path=optional())
        await world.relay.start()
        await world.after(20)
        assert sorted(bob.recipients) == sorted(f"urgent{number}@bob.test" for number in range(35))
        assert world.states() == {"due": 35}

    play(script)


def test_optional_letters_that_a_host_defers_do_not_keep_it_busy():
    async def script(world):
        bob = world.host(tls=UNSURE, letters_per_session=0)
        world.transport.in_breach["192.0.2.1"] = NOT_PROTECTED
        await send(world, optional())
        assert bob.connections <= 3
        assert world.states() == {"due": 1}

    play(script)


def test_a_clock_that_is_set_back_makes_no_optional_letter_due_again():
    """What is put off in such a probe waits, though its time is before that of the probe's beginning."""

    async def script(world):
        asked = []

        def answer(recipient):
            if not asked:
                world.clock.skew -= 86400
            asked.append(recipient)
            return RemoteReply(450, Status(4, 2, 0), "later")

        world.host(tls=UNSURE, answer=answer)
        world.transport.in_breach["192.0.2.1"] = NOT_PROTECTED
        await send(world, optional())
        assert len(asked) == 1

    play(script)


def test_a_drain_begins_no_optional_letter():
    async def story():
        world = World()
        world.transport = Picky()
        world.build()
        bob = world.host(tls=UNSURE, takes=5.0)
        world.transport.in_breach["192.0.2.1"] = NOT_PROTECTED
        for number in range(3):
            world.put(f"urgent{number}@bob.test", reverse_path=optional())
        await world.relay.start()
        await world.after(2)
        await world.relay.stop(grace=60)
        assert bob.recipients == ["urgent0@bob.test"]
        assert world.states() == {"due": 2}

    run(story())


def test_a_host_that_is_down_is_down_for_optional_letters_too():
    async def script(world):
        bob = world.host(is_up=False)
        await send(world, optional())
        assert world.states() == {"due": 1}
        bob.is_up = True
        await world.after(5 * MINUTE)
        assert len(bob.letters) == 1

    play(script)


def test_optional_letters_that_the_unprotected_host_refuses_are_settled():
    async def script(world):
        bob = world.host(drops=True)
        world.transport.in_breach["192.0.2.1"] = NOT_PROTECTED
        await send(world, optional())
        assert world.states() == {"due": 1}
        bob.drops = False
        await world.after(60 * MINUTE)
        assert len(bob.letters) == 1
        assert world.states() == {}

    play(script)


# --- the transport --------------------------------------------------------------------------------


class Inner:
    """Says yes or no to what it is asked for."""

    def __init__(self, *faults: ConnectFault | None) -> None:
        self.faults = list(faults)
        self.asked: list[Target] = []

    async def connect(self, target: Target) -> object:
        self.asked.append(target)
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault
        return type("Connection", (), {"trouble": None, "extensions": {}, "tls": None})()


EXPIRED = ConnectFault(
    Outcome(NOT_PROTECTED, "expired"), trouble=TlsTrouble("certificate-expired", "", "198.51.100.1"), is_policy=True
)
SILENT = ConnectFault(Outcome(Status(4, 4, 1), "no connection"))


@pytest.mark.parametrize(
    ("wish", "faults", "asked", "counted"),
    [
        (TlsWish.USUAL, (), ["verify"], [("sts", "")]),
        (TlsWish.USUAL, (EXPIRED,), ["verify"], [("sts", "certificate-expired")]),
        (TlsWish.USUAL, (SILENT,), ["verify"], []),  # RFC 8460 §4.3.4
        (TlsWish.OPTIONAL, (EXPIRED,), ["verify", "opportunistic"], []),
        (TlsWish.OPTIONAL, (SILENT,), ["verify"], []),
        (TlsWish.REQUIRED, (EXPIRED,), ["verify"], []),
    ],
)
def test_the_guarded_transport(wish, faults, asked, counted):
    async def script(world):
        world.sts("enforce")
        inner = Inner(*faults)
        transport = GuardedTransport(inner, world.protection, world.journal)
        guard = test_protection.World.guard
        target = (await guard(world)).target
        plain = replace(target, tls="opportunistic", trust="", is_way_sure=False, wish=wish)
        fails = bool(faults) and len(asked) == 1
        if fails:
            with pytest.raises(ConnectFault):
                await transport.connect(plain)
        else:
            await transport.connect(plain)
        assert [each.tls for each in inner.asked] == asked
        assert [row[:2] for row in await world.counted()] == counted

    test_protection.play(script)


def test_a_host_that_the_policy_does_not_name_gets_optional_letters():
    async def script(world):
        world.sts("enforce", "mx.eve.test")
        inner = Inner()
        transport = GuardedTransport(inner, world.protection, TlsJournal(world.database, world.clock, is_on=False))
        (target,) = await _targets(world)
        with pytest.raises(ConnectFault):
            await transport.connect(target)
        assert inner.asked == []
        await transport.connect(replace(target, wish=TlsWish.OPTIONAL))
        assert [(each.tls, each.proof) for each in inner.asked] == [("opportunistic", None)]

    test_protection.play(script)


async def _targets(world):
    return await test_protection.Routing(world.resolver, test_protection.FakeEntropy(), "alice.test").targets(
        "bob.test"
    )


@pytest.mark.parametrize(
    ("tls", "extensions", "is_kept"),
    [
        (SURE, PROMISING, True),
        (SURE, PLAIN, False),
        (UNSURE, PROMISING, False),
        (replace(SURE, is_verified=False), PROMISING, False),
        (replace(SURE, is_way_sure=False), PROMISING, False),
        (None, PROMISING, False),
    ],
)
def test_what_keeps_the_promise(tls, extensions, is_kept):
    connection = type("Connection", (), {"tls": tls, "extensions": extensions})()
    assert keeps_promise(connection) == is_kept


# --- tags, rows, reports --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "wish"),
    [
        (b"TLS-Required: No\r\n", TlsWish.OPTIONAL),
        (b"tls-required:no\r\n", TlsWish.OPTIONAL),
        (b"TLS-Required:\r\n No\r\n", TlsWish.OPTIONAL),
        (b"TLS-Required: Yes\r\n", TlsWish.USUAL),
        (b"TLS-Required:\r\n", TlsWish.USUAL),
        (b"TLS-Required: No, really\r\n", TlsWish.USUAL),
        (b"TLS-Required: No\r\nTLS-Required: No\r\n", TlsWish.USUAL),
        (b"X-TLS-Required: No\r\n", TlsWish.USUAL),
        (b"", TlsWish.USUAL),
    ],
)
def test_the_field(field, wish):
    scan = scan_header(b"From: alice@alice.test\r\n" + field + b"\r\n")
    assert wish_of(ReversePath(ALICE), scan) is wish
    assert wish_of(required(), scan) is TlsWish.REQUIRED, "the envelope goes before the header (§4.1)"


@pytest.mark.parametrize("wish", list(TlsWish))
def test_the_wish_is_kept_with_the_letter(wish):
    path = ReversePath(ALICE, envelope_id="e", wish=wish)
    assert unpack_reverse_path(str(path), pack_reverse_path(path)) == path


def test_letters_that_were_queued_before_there_were_wishes():
    """As version 0.1 packed them: six fields."""
    import msgspec

    packed = msgspec.msgpack.encode((5, "7BIT", False, "FULL", "e", None))
    assert unpack_reverse_path("a@b.test", packed) == ReversePath(
        parse_address("a@b.test"), size=5, dsn_return=DsnReturn.FULL, envelope_id="e"
    )


async def test_a_report_about_such_a_letter_is_its_header_alone():
    """RFC 8689 §5, whatever RET says."""
    house = test_bounce.House()
    letter = house.letter()
    letter = replace(letter, reverse_path=replace(required(), dsn_return=DsnReturn.FULL))
    (report,) = await house.told(letter, test_bounce.notice(action=Action.FAILED))
    parts = [part.get_content_type() for part in message_from_bytes(report.encode()).walk()]
    assert "text/rfc822-headers" in parts
    assert "message/rfc822" not in parts
    assert house.poster.wishes == [TlsWish.REQUIRED]


def test_composed_letters_are_scanned_for_it():
    letter = finished(b"From: a@b.test\r\nTLS-Required: No\r\n\r\nhello\r\n")
    assert wish_of(ReversePath(None), letter.scan) is TlsWish.OPTIONAL
