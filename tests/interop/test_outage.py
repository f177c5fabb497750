# SPDX-License-Identifier: Apache-2.0
"""A second mail server goes down and comes back, posthouse itself is killed, and nobody loses a letter."""

from __future__ import annotations

import itertools
import smtplib
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import maildir
from .house import ALICE, BOB, House
from .letters import difference, field, letter
from .postfix import Postfix
from .programs import PATIENCE, accepts, free_port, wait_until

pytestmark = pytest.mark.interop

COUNT = 20
BOB_THERE = "bob@postfix.test"
CLOSE = 3  # kills in a row
# A host that is down is probed again after a second; the letters follow within the next.
LONG = 60.0
_numbers = itertools.count(1)


class World:
    def __init__(self, base: Path, name: str) -> None:
        smtp, there = free_port(), free_port()
        self.house = House(base / f"house-{name}", routes={"postfix.test": f"127.0.0.1:{there}"}, smtp_port=smtp)
        self.postfix = Postfix(base / f"postfix-{name}", {"house.test": f"smtp:[127.0.0.1]:{smtp}"}, port=there)
        self.house.start()
        self.is_up = False

    def open(self) -> None:
        self.postfix.start()
        self.is_up = True

    def close(self) -> None:
        self.postfix.stop()
        self.is_up = False

    def there(self) -> list[bytes]:
        return maildir.letters(self.postfix.box("bob"))

    def end(self) -> None:
        if self.is_up:
            self.close()
        self.house.stop()


@pytest.fixture
def world(base: Path) -> Iterator[World]:
    world = World(base, str(next(_numbers)))
    yield world
    world.end()


def written(sender: str, to: str) -> dict[str, bytes]:
    """COUNT letters by Message-ID."""
    found = [letter(f"number {number}", sender, to, attachment=5000 * (number % 3)) for number in range(COUNT)]
    return {field(octets, "Message-ID"): octets for octets in found}


def copies(found: list[bytes], sent: dict[str, bytes]) -> Counter[str]:
    """How often each letter is there, every copy octet for octet."""
    for octets in found:
        assert difference(octets, sent[field(octets, "Message-ID")]) == ""
    return Counter(field(octets, "Message-ID") for octets in found)


def test_the_neighbour_goes_down_and_comes_back(world: World) -> None:
    """Each letter waits in the queue, and arrives once."""
    sent = written(ALICE, BOB_THERE)
    first, *others = sent.values()
    world.open()
    world.house.submit(first, [BOB_THERE])
    wait_until(world.there, "the first letter", log=world.house.log)
    world.close()
    for octets in others:
        world.house.submit(octets, [BOB_THERE])
    assert len(world.house.queued()) == COUNT - 1
    assert len(world.there()) == 1
    world.open()
    wait_until(lambda: len(world.there()) >= COUNT, "all letters", LONG, log=world.house.log)
    wait_until(lambda: world.house.queued() == [], "an empty queue", log=world.house.log)
    assert copies(world.there(), sent) == Counter(dict.fromkeys(sent, 1))
    assert world.house.letters(ALICE) == []


def test_posthouse_is_killed_while_letters_wait_and_while_they_leave(world: World) -> None:
    """kill -9 with a full queue loses none and doubles none; while letters leave, what was sent and not yet noted is
    sent again: at most one letter for each connection of a kill."""
    sent = written(ALICE, BOB_THERE)
    for number, octets in enumerate(sent.values()):
        world.house.submit(octets, [BOB_THERE])
        if number % 7 == 6:
            world.house.kill()
            world.house.start()
    assert len(world.house.queued()) == COUNT
    world.open()
    for turn in range(CLOSE):
        wait_until(lambda least=turn * 5: len(world.there()) > least, "some letters", LONG, log=world.house.log)
        world.house.kill()
        world.house.start()
    wait_until(lambda: world.house.queued() == [], "an empty queue", LONG, log=world.house.log)
    wait_until(lambda: len(copies(world.there(), sent)) == COUNT, "all letters", log=world.house.log)
    assert sum(copies(world.there(), sent).values()) - COUNT <= CLOSE * 5  # connections_per_destination
    assert world.house.letters(ALICE) == []


def test_posthouse_is_killed_while_letters_are_submitted(world: World) -> None:
    """A client tries again until its letter is acknowledged: then all are there, none twice but those in between."""
    sent = written(ALICE, BOB)
    acknowledged = []

    def submit() -> None:
        for octets in sent.values():
            while True:
                wait_until(lambda: accepts(world.house.ports["submissions"]), "posthouse to listen")
                try:
                    world.house.submit(octets, [BOB])
                except (OSError, smtplib.SMTPException):
                    continue
                acknowledged.append(octets)
                break

    client = threading.Thread(target=submit)
    client.start()
    for least in (3, 8):
        wait_until(lambda least=least: len(acknowledged) >= least, "some letters", log=world.house.log)
        world.house.kill()
        world.house.start()
    client.join(LONG)
    assert len(acknowledged) == COUNT
    found = copies(world.house.letters(BOB), sent)
    assert set(found) == set(sent)
    assert sum(found.values()) <= COUNT + 2


def test_posthouse_goes_down_and_comes_back(world: World) -> None:
    """Postfix keeps the letters meanwhile; killed while they come in, nothing that it acknowledged is missing."""
    world.open()
    sent = written("dana@postfix.test", BOB)
    world.house.kill()
    with smtplib.SMTP("127.0.0.1", world.postfix.port, timeout=PATIENCE) as smtp:
        for octets in sent.values():
            assert smtp.sendmail("dana@postfix.test", [BOB], octets, mail_options=["BODY=8BITMIME"]) == {}
    world.house.start()
    wait_until(lambda: world.house.count(BOB) > 0, "the first letters", LONG, log=world.house.log)
    world.house.kill()
    world.house.start()
    wait_until(lambda: world.house.count(BOB) >= COUNT, "all letters", LONG, log=world.postfix.log)
    found = copies(world.house.letters(BOB), sent)
    assert set(found) == set(sent)
    # A reply that was lost in the kill makes Postfix send again: once for each of its connections.
    assert sum(found.values()) <= COUNT + 20
