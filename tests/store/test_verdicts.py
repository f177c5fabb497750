# SPDX-License-Identifier: Apache-2.0
"""What the checks found is kept with its letter, told with its story and forgotten with its history."""

from __future__ import annotations

from posthouse.mail.address import parse_address
from posthouse.mail.envelope import ForwardPath, ReversePath
from posthouse.services.delivery import Delivery, Origin, Plan, finished, letter_in
from posthouse.services.directory import Resolution
from posthouse.services.routing import Routing
from posthouse.services.schedule import Schedules
from posthouse.services.transaction import Recipient
from posthouse.store import history, letter_story, verdicts
from posthouse.store.letters import Place
from posthouse.store.mailboxes import by_special_use, inbox
from posthouse.store.verdicts import Told, Verdict
from tests.fakes import FakeEntropy, FakeResolver
from tests.services.world import World

NOW = 1_700_000_000.0
VERDICT = Verdict(
    peer="192.0.2.7",
    author="author.test",
    action="quarantine",
    local="a setting says so",
    policy_domain="author.test",
    aligned=("spf", "author.test"),
    statements=(Told("spf", "pass", "", (("smtp", "mailfrom", "author.test"),)), Told("dmarc", "fail", "why", ())),
)
LETTER = finished(b"From: a@author.test\r\nMessage-ID: <1@author.test>\r\n\r\nx\r\n")
ORIGIN = Origin("t1", NOW, b"Received: by mail.example.test\r\n", "192.0.2.7 (mx)", verdict=VERDICT, is_junk=True)


async def account(world: World) -> int:
    await world.administration.add_domain("bob.test")
    await world.administration.add_account("bob@bob.test", "secret secret")
    found = await world.directory.account("bob@bob.test")
    assert found is not None
    return found.id


def plan(account: int, mailbox: int) -> Plan:
    return Plan(
        letter=letter_in(LETTER, ReversePath(None), ORIGIN),
        places=(Place(account, mailbox, b"Delivered-To: bob@bob.test\r\n", is_junk=True),),
        queued=None,
        source=ORIGIN.source,
        delivered=("bob@bob.test",),
        verdict=VERDICT,
    )


async def test_a_letter_has_its_verdict_in_its_story() -> None:
    world = World()
    bob = await account(world)
    mailbox = await world.database.read(lambda reader: inbox(reader, bob))
    assert mailbox is not None
    await world.database.write(plan(bob, mailbox).run)
    stories, _ = await world.database.read(lambda reader: letter_story.trace(reader, "1@author.test", NOW))
    assert [story.verdict for story in stories] == [VERDICT]


async def test_junk_goes_to_whatever_mailbox_is_for_it_and_without_one_to_inbox() -> None:
    world = World()
    bob = await account(world)
    mailbox = await world.database.read(lambda reader: inbox(reader, bob))
    assert mailbox is not None
    junk = await world.database.read(lambda reader: by_special_use(reader, bob, "\\Junk"))
    assert junk is not None
    accepted = await world.database.write(plan(bob, mailbox).run)
    assert [placed.mailbox for placed in accepted.placed] == [junk.id]
    await world.database.write(lambda tx: tx.run("UPDATE mailbox SET special_use = NULL WHERE id = :id", id=junk.id))
    accepted = await world.database.write(plan(bob, mailbox).run)
    assert [placed.mailbox for placed in accepted.placed] == [mailbox]


async def test_it_is_not_forgotten_while_its_letter_waits() -> None:
    """Under which sender the letter leaves hangs on it, however long an operator has held it."""
    world = World()
    path = ForwardPath(parse_address("bob@elsewhere.test"))
    recipient = Recipient(path, Resolution(path.address, domain_is_local=True, remote=(path.address,), is_alias=True))
    delivery = Delivery(Routing(FakeResolver(), FakeEntropy(), "mail.example.test"), Schedules(), world.bus)
    plan = delivery.plan(LETTER, ReversePath(None), [recipient], ORIGIN)
    queued = (await world.database.write(plan.run)).queue_id
    assert queued is not None
    await world.database.write(lambda tx: verdicts.record(tx, queued + 1, NOW, VERDICT))
    assert await world.database.write(lambda tx: history.purge(tx, NOW + 5)) == 1
    assert await world.database.read(lambda reader: verdicts.of(reader, queued)) == VERDICT
    await world.database.write(lambda tx: tx.run("DELETE FROM queue_letter WHERE id = :id", id=queued))
    assert await world.database.write(lambda tx: history.purge(tx, NOW + 5)) == 1
    assert await world.database.read(lambda reader: verdicts.of(reader, queued)) is None


async def test_it_is_forgotten_with_the_history() -> None:
    world = World()
    await world.database.write(lambda tx: verdicts.record(tx, 1, NOW, VERDICT))
    await world.database.write(lambda tx: verdicts.record(tx, 2, NOW + 10, VERDICT))
    assert await world.database.write(lambda tx: history.purge(tx, NOW + 5)) == 1
    assert await world.database.read(lambda reader: verdicts.of(reader, 1)) is None
    assert await world.database.read(lambda reader: verdicts.of(reader, 2)) == VERDICT
    assert await world.database.write(lambda tx: history.purge(tx, NOW + 5)) == 0
