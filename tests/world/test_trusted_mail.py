# SPDX-License-Identifier: Apache-2.0
"""Servers of the world believe each other, and nobody who says he is one of them."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.mail.header import scan_header
from posthouse.mailauth.results import parse_results
from posthouse.ports import Reader
from posthouse.sim.station import Station
from posthouse.sim.strangers_client import Call, Guise
from posthouse.sim.strangers_manners import GOOD
from posthouse.sim.world import MINUTE
from tests.world.odd import Odd
from tests.world.odd import play as play_with_a_stranger
from tests.world.story import Story, play

ALICE = "alice@alice.test"


def verdict(letter: bytes) -> dict[str, str]:
    """What our Authentication-Results says, by method."""
    found = parse_results(scan_header(letter).raw(b"authentication-results")[0])
    assert found is not None
    return {each.method: each.result for each in found.statements}


async def lying_in(station: Station, mailbox: str) -> int:
    def query(reader: Reader) -> int:
        row = reader.row("SELECT SUM(total) FROM mailbox WHERE name = :name", name=mailbox)
        return 0 if row is None else int(row[0])

    return await station.inside(station.house.database.read(query))


PASSED = dict.fromkeys(("iprev", "spf", "dkim", "dmarc"), "pass")


def test_a_users_letter_passes_at_the_other_server() -> None:
    async def script(story: Story) -> list[bytes]:
        await story.alices.start()
        await story.bobs.start()
        await story.alice.submit(story.alice.letter(["bob@bob.test"], "Hello Bob\r\n"))
        await asyncio.sleep(10)
        return await story.bob.read()

    (letter,) = play(script)
    assert verdict(letter) == PASSED


@pytest.mark.parametrize("name", ["alice.test", "mail.alice.test"])
@pytest.mark.parametrize("kind", ["servfail", "timeout", "nxdomain"])
def test_trouble_with_the_sending_domains_names_makes_no_junk(name: str, kind: str) -> None:
    """The signature holds; only SPF and the reverse name are hurt."""

    async def script(story: Story) -> list[bytes]:
        await story.alices.start()
        await story.bobs.start()
        story.world.dns.fail(name, kind)
        await story.alice.submit(story.alice.letter(["bob@bob.test"], "Hello Bob\r\n"))
        await asyncio.sleep(5 * MINUTE)
        return await story.bob.read()

    (letter,) = play(script)
    found = verdict(letter)
    assert (found["dkim"], found["dmarc"]) == ("pass", "pass")
    assert found != PASSED


@pytest.mark.parametrize("name", ["_dmarc.alice.test", "key"])
def test_a_key_or_policy_that_dns_does_not_give_makes_no_junk(name: str) -> None:
    async def script(story: Story) -> list[bytes]:
        await story.alices.start()
        await story.bobs.start()
        key = next(each for each in story.world.dns.names() if each.endswith("._domainkey.alice.test"))
        story.world.dns.fail(key if name == "key" else name, "timeout")
        story.world.dns.fail("alice.test", "timeout")
        await story.alice.submit(story.alice.letter(["bob@bob.test"], "Hello Bob\r\n"))
        await asyncio.sleep(5 * MINUTE)
        return await story.bob.read()

    (letter,) = play(script)
    assert verdict(letter)["dmarc"] == "temperror"


@pytest.mark.parametrize(
    ("guise", "dmarc", "inbox", "junk"),
    [
        (Guise.HONEST, "pass", 1, 0),
        (Guise.FORGED, "fail", 0, 1),
        (Guise.BELOW, "fail", 0, 1),
        (Guise.TWICE, "", 0, 0),
        (Guise.NOBODY, "", 0, 0),
    ],
)
def test_a_stranger_is_believed_what_is_true(guise: Guise, dmarc: str, inbox: int, junk: int) -> None:
    async def script(odd: Odd) -> None:
        sent = await odd.stranger.write(ALICE, guise=guise)
        assert sent.is_acknowledged == bool(inbox or junk)
        assert await lying_in(odd.alices, "INBOX") == inbox
        assert await lying_in(odd.alices, "Junk") == junk
        if not sent.is_acknowledged:
            assert any(reply.startswith("550 5.6.0") for reply in sent.replies)
            return
        (story,) = await odd.alices.inside(odd.alices.house.queue_desk.trace(sent.message_id))
        assert story.verdict is not None
        told = {each.method: each.result for each in story.verdict.statements}
        assert (told["spf"], told["dkim"], told["dmarc"]) == ("pass", "none", dmarc)
        if inbox:
            assert verdict((await odd.alice.read())[0]) == PASSED | {"dkim": "none"}

    play_with_a_stranger(GOOD, script)


def test_a_check_is_given_up_with_its_session() -> None:
    """DNS is still silent when the connection breaks; the world looks for tasks that are left."""

    async def script(odd: Odd) -> None:
        odd.world.dns.fail("odd.test", "timeout")
        sent = await odd.stranger.write(ALICE, call=Call.BREAK_IN_CONTENT)
        assert not sent.is_acknowledged
        await asyncio.sleep(1)
        assert odd.alices.going_on() == []

    play_with_a_stranger(GOOD, script)
