# SPDX-License-Identifier: Apache-2.0
"""What the operators of a world do: to the queue (hold, release, retry, drop) and to accounts.

Invariant: an operator who does not know whether a command was done, because the server went down, gives it again
when it is up; what must not last (a disabled account, a small quota) ends before the world does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from math import inf

from posthouse.ports import StoreFault
from posthouse.sim import records
from posthouse.sim.ledger import bare
from posthouse.sim.people import Person
from posthouse.sim.play import Play
from posthouse.sim.station import Station, StationDown
from posthouse.store.queue_admin import Selection

AGAIN = 60.0  # seconds after which a command is given once more
SMALL_QUOTA = 3_000  # octets: a few letters
EVERYTHING = Selection()

Deed = Callable[[Play, Station, float], Awaitable[None]]


async def hold(play: Play, station: Station, until: float) -> None:
    selection = _selection(play, station)
    await _do(play, station, lambda: station.house.queue_desk.hold(selection))
    await play.sleep_until(until)
    await release(play, station, until)


async def release(play: Play, station: Station, _until: float) -> None:
    await _do(play, station, lambda: station.house.queue_desk.release(EVERYTHING), is_impatient=True)


async def retry(play: Play, station: Station, _until: float) -> None:
    selection = _selection(play, station)
    await _do(play, station, lambda: station.house.queue_desk.retry_now(selection), is_impatient=True)


async def drop(play: Play, station: Station, _until: float) -> None:
    """One letter, for all whom it has not reached."""
    if not station.is_up:
        return
    waiting = [row for row in records.read(station.folder, is_up=True).queue if row.state in ("due", "held")]
    if not waiting:
        return
    chosen = play.chance.choice(waiting)
    mine = [row for row in waiting if row.letter == chosen.letter]
    tells = play.chance.random() < 0.5
    # Noted before it is done: it may be done without an answer.
    play.ledger.dropped.update(((bare(row.message_id), row.address), None) for row in mine)
    play.world.note(f"{station.plan.name}: <{chosen.message_id}> is dropped by an operator")
    selection = Selection(queue_id=chosen.letter)
    await _do(play, station, lambda: station.house.queue_desk.drop(selection, tell_sender=tells), is_impatient=True)


async def disable(play: Play, station: Station, until: float) -> None:
    """One person of a server at a time: where all are, nobody is left to read the reports, and they end in the log."""
    person = _person(play, station)
    if station.plan.name in play.ledger.disabling:
        return
    play.ledger.disabling[station.plan.name] = None
    play.ledger.disabled[person.name] = inf
    await _do(play, station, lambda: station.house.administration.disable(person.name))
    await play.sleep_until(until)
    await _do(play, station, lambda: station.house.administration.enable(person.name))
    play.ledger.disabled[person.name] = play.world.now
    del play.ledger.disabling[station.plan.name]


async def change_password(play: Play, station: Station, _until: float) -> None:
    person = _person(play, station)
    new = f"{person.password}!"
    await _do(play, station, lambda: station.house.administration.set_password(person.name, new))
    person.password = new


async def shrink_quota(play: Play, station: Station, until: float) -> None:
    person = _person(play, station)
    await _do(play, station, lambda: station.house.administration.set_quota(person.name, SMALL_QUOTA))
    await play.sleep_until(until)
    await _do(play, station, lambda: station.house.administration.set_quota(person.name, None))


DEEDS: Mapping[str, Deed] = {
    "hold and release": hold,
    "release": release,
    "retry": retry,
    "drop": drop,
    "disable and enable": disable,
    "password": change_password,
    "quota": shrink_quota,
}


async def act(play: Play, at: float, until: float) -> None:
    """One deed by chance, begun at that time."""
    name = play.chance.choice(list(DEEDS))
    station = play.chance.choice(play.stations)
    await play.sleep_until(at)
    play.world.note(f"{station.plan.name}: the operator does: {name}")
    await DEEDS[name](play, station, until)
    play.ledger.deeds[name] += 1


async def _do(
    play: Play, station: Station, command: Callable[[], Awaitable[object]], *, is_impatient: bool = False
) -> None:
    """Until it is done, whatever happens to the server meanwhile. `is_impatient`: no schedule holds after it."""
    while True:
        if station.is_up:
            # Before and after: between them, nobody knows when, it takes effect.
            asked = play.ledger.retried.setdefault(station.plan.name, []) if is_impatient else []
            asked.append(play.world.now)
            try:
                await station.inside(_run(command))
            except (StationDown, StoreFault) as fault:
                play.world.note(f"{station.plan.name}: the operator's command may be undone: {fault}")
            else:
                return
            finally:
                asked.append(play.world.now)
        await asyncio.sleep(AGAIN)


async def _run(command: Callable[[], Awaitable[object]]) -> None:
    await command()


def _selection(play: Play, station: Station) -> Selection:
    domains = [each.plan.domain for each in play.stations if each is not station]
    domains += [each.domain for each in play.ledger.strangers]
    return play.chance.choice((EVERYTHING, *(Selection(domain=domain) for domain in domains)))


def _person(play: Play, station: Station) -> Person:
    return play.chance.choice([each for each in play.people if each.home == station.plan.hostname])
