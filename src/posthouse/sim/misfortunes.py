# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in a world: servers stop and crash, power fails, the network and DNS do what they do.

Invariant: every misfortune ends at the time that was given to it; one that cannot be now (its server is down
already) is left out and not counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from random import Random

from posthouse.sim import strangers_manners
from posthouse.sim.play import Play
from posthouse.sim.station import Station

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR
# Seconds that a misfortune lasts at most, one of these by chance; some are beyond the five days of the queue.
LENGTHS = (MINUTE, MINUTE, HOUR, HOUR, DAY, 6 * DAY)
SPEEDS = (300.0, 3_000.0, 30_000.0)  # octets per second of a slow line: an old modem to ADSL
DELAYS = (1.0, 20.0, 70.0)  # seconds that every packet takes longer
DNS_TROUBLES = ("servfail", "servfail", "timeout", "timeout", "nxdomain")


@dataclass(frozen=True, slots=True)
class Place:
    """Where it happens. `until`: seconds since the world began."""

    play: Play
    station: Station
    until: float

    @property
    def host(self) -> str:
        return self.station.plan.address

    @property
    def chance(self) -> Random:
        return self.play.chance


Misfortune = Callable[[Place], Awaitable[bool]]  # whether it took place


async def stop(place: Place) -> bool:
    """As by SIGTERM."""
    if not place.station.is_up:
        return False
    await place.play.stop(place.station)
    return await _start_again(place)


async def crash(place: Place) -> bool:
    """As by kill -9."""
    if not place.station.is_up:
        return False
    place.station.crash()
    return await _start_again(place)


async def power_cut(place: Place) -> bool:
    """The power fails: the network is silent at once, and what the disk has not synced may be gone."""
    if not place.station.is_up or not place.station.plan.records_disk:
        return False
    place.station.cut_power(place.chance)
    return await _start_again(place)


async def restart(place: Place) -> bool:
    """Stopped, and started at once."""
    if not place.station.is_up:
        return False
    await place.play.stop(place.station)
    await place.play.start(place.station)
    return True


async def _start_again(place: Place) -> bool:
    await place.play.sleep_until(place.until)
    await place.play.start(place.station)
    return True


async def cut(place: Place) -> bool:
    """The line to one other host is down; what was on its way arrives later."""
    network = place.play.world.network
    other = place.chance.choice(_others(place))
    network.cut(place.host, other)
    await place.play.sleep_until(place.until)
    network.mend(place.host, other)
    return True


async def partition(place: Place) -> bool:
    """The line to everybody else is down, but for the people of that server."""
    network = place.play.world.network
    network.partition([place.host], _others(place))
    await place.play.sleep_until(place.until)
    network.heal()
    return True


async def silence(place: Place) -> bool:
    """Nothing comes in or goes out, and nobody is told."""
    network = place.play.world.network
    network.silence(place.host)
    await place.play.sleep_until(place.until)
    network.unsilence(place.host)
    return True


async def reset(place: Place) -> bool:
    """All connections break, at once."""
    place.play.world.network.reset(place.host)
    return True


async def slow(place: Place) -> bool:
    network = place.play.world.network
    network.slow(place.host, place.chance.choice(SPEEDS))
    await place.play.sleep_until(place.until)
    network.slow(place.host, None)
    return True


async def delay(place: Place) -> bool:
    network = place.play.world.network
    network.delay(place.host, place.chance.choice(DELAYS))
    await place.play.sleep_until(place.until)
    network.delay(place.host, 0)
    return True


async def refuse(place: Place) -> bool:
    network = place.play.world.network
    network.refuse(place.host)
    await place.play.sleep_until(place.until)
    network.accept(place.host)
    return True


async def unreachable(place: Place) -> bool:
    network = place.play.world.network
    network.unreachable(place.host)
    await place.play.sleep_until(place.until)
    network.accept(place.host)
    return True


async def dns_trouble(place: Place) -> bool:
    """A name is not there, or nobody answers for it."""
    plan = place.station.plan
    name, kind = place.chance.choice((plan.domain, plan.hostname)), place.chance.choice(DNS_TROUBLES)
    # A name that is not there returns everybody's mail at once: it does not last long.
    until = min(place.until, place.play.world.now + HOUR) if kind == "nxdomain" else place.until
    place.play.world.dns.fail(name, kind, until=until)
    await place.play.sleep_until(until)
    place.play.world.dns.clear(name)
    return True


async def wrong_mx(place: Place) -> bool:
    """The domain's MX is another server for a while, which does not want its mail, or has a dead one before it."""
    plan, dns = place.station.plan, place.play.world.dns
    dead = f"dead.{plan.domain}"
    dns.add_host(dead, "203.0.113.99")
    dns.replace_mx(plan.domain, *place.chance.choice(((dead,), (dead, plan.hostname))))
    await place.play.sleep_until(place.until)
    dns.replace_mx(plan.domain, plan.hostname)
    return True


async def wrong_address(place: Place) -> bool:
    """The mail host's name leads elsewhere for a while, or there too."""
    plan, dns = place.station.plan, place.play.world.dns
    dns.replace_addresses(plan.hostname, *place.chance.choice((("203.0.113.98",), ("2001:db8::98", plan.address))))
    await place.play.sleep_until(place.until)
    dns.replace_addresses(plan.hostname, plan.address)
    return True


async def bad_manners(place: Place) -> bool:
    """A stranger behaves differently for a while, or goes away."""
    if not place.play.ledger.strangers:
        return False
    stranger = place.chance.choice(place.play.ledger.strangers)
    stranger.manners = strangers_manners.draw(place.chance)
    place.play.world.note(f"{stranger.hostname} has {stranger.manners}")
    if place.chance.random() < 0.2 and stranger.is_up:
        stranger.stop()
    await place.play.sleep_until(place.until)
    stranger.manners = strangers_manners.GOOD
    if not stranger.is_up:
        await stranger.start()
    return True


MISFORTUNES: Mapping[str, Misfortune] = {
    "stop": stop,
    "restart": restart,
    "crash": crash,
    "power cut": power_cut,
    "line cut": cut,
    "partition": partition,
    "silence": silence,
    "connections reset": reset,
    "slow line": slow,
    "delay": delay,
    "connections refused": refuse,
    "no route": unreachable,
    "DNS trouble": dns_trouble,
    "wrong MX": wrong_mx,
    "wrong address": wrong_address,
    "bad manners": bad_manners,
}
# Crashes say most about a server, and a world has few misfortunes.
SUDDEN = ("crash", "crash", "connections reset", "silence", "line cut", "stop")
POWER = 0.5  # the share of a server's misfortunes that are power cuts, where its power can be cut
ANSWER = 0.3  # seconds from a commit to the moment at which the other side has noted the answer, about
CHOICES = (
    *(name for name in MISFORTUNES if name != "power cut"),
    "crash",
    "crash",
    "stop",
    "restart",
    "bad manners",
    "bad manners",
)


async def strike(play: Play, at: float, latest: float, *, after: str = "") -> None:
    """One misfortune by chance, begun at that time and over at `latest`. `after`: it waits for the next time that a
    server logs these words, and then for as long as an answer is on its way, about."""
    chance = play.chance
    station = chance.choice(play.stations)
    if station.plan.records_disk and chance.random() < POWER:
        name = "power cut"
    else:
        name = chance.choice(SUDDEN if after else CHOICES)
    length = chance.choice(LENGTHS) * chance.random()
    await play.sleep_until(at)
    if after:
        await play.world.heard(after, latest)
        await asyncio.sleep(chance.uniform(0, ANSWER))
    until = min(play.world.now + length, latest)
    play.world.note(f"{station.plan.name}: {name}, until {until:.1f}")
    if await MISFORTUNES[name](Place(play, station, until)):
        play.ledger.survived[name] += 1
        play.world.note(f"{station.plan.name}: {name} is over")


def _others(place: Place) -> list[str]:
    others = [each.plan.address for each in place.play.stations if each is not place.station]
    return others + [each.address for each in place.play.ledger.strangers]
