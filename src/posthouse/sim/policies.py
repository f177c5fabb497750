# SPDX-License-Identifier: Apache-2.0
"""MTA-STS in a world: domains that publish a policy, what goes wrong with it, and whether others obey it.

Invariant checked: who surely has a policy that is enforced puts no letter into a session that does not fit it (RFC 8461
§5); and when everything is well again, nothing is kept back for the policy's sake.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from posthouse.services.own_policy import OwnPolicy
from posthouse.services.protection import NOT_PROTECTED
from posthouse.sim import records
from posthouse.sim.ledger import Finding
from posthouse.sim.machine import EPOCH
from posthouse.sim.misfortunes import DNS_TROUBLES
from posthouse.sim.play import Play
from posthouse.sim.policy_hosts import Mood, PolicyHost
from posthouse.sim.station import Station, certificate_of
from posthouse.sim.tls import WorldTls
from posthouse.sim.witness import Session, Witness

HOUR = 3600.0
DAY = 24 * HOUR
AGES = (6 * HOUR, DAY, 14 * DAY)  # max_age of policies; some end while a world lasts
LENGTHS = (HOUR, 6 * HOUR, DAY)  # seconds of an episode, at most
MOST_EPISODES = 3  # of one domain
HIDES_RECORD = 0.5  # the share of those between who answer that there is none; others name a policy that is not there
KEPT = 2.0  # seconds until a policy that came is in the store, where no end of a server takes it
# Seconds before a session in which its server may have decided by what it knew before: DNS and the page take so long.
DECIDED = 60.0
GRACE = HOUR  # after the last misfortune, until everything that waits has been tried again


def publish(play: Play) -> list[PolicyHost]:
    """A policy and its host for each domain whose plan wants one."""
    world = play.world
    chance = Random(f"{world.seed}/policies")  # noqa: S311 - reproducible on purpose
    return [
        PolicyHost(
            station.plan.domain,
            station.plan.address.replace("192.0.2.", "192.0.2.10"),
            OwnPolicy(station.plan.sts, int(chance.choice(AGES)), (station.plan.hostname,)),
            network=world.network,
            dns=world.dns,
        )
        for station in play.stations
        if station.plan.sts != "off"
    ]


# --- what goes wrong ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scene:
    """`until`: seconds since the world began."""

    play: Play
    host: PolicyHost
    station: Station
    chance: Random
    until: float


async def bad_page(scene: Scene) -> None:
    """The web server does something else."""
    scene.host.mood = scene.chance.choice([each for each in Mood if each is not Mood.GOOD])
    scene.play.world.note(f"{scene.host.name} is {scene.host.mood.name}")
    await scene.play.sleep_until(scene.until)
    scene.host.mood = Mood.GOOD


async def new_policy(scene: Scene) -> None:
    """Another one, with another id."""
    scene.host.change(_other(scene))
    scene.host.announce()


async def early_record(scene: Scene) -> None:
    """The record is changed before the page: others fetch the old one once more, under the new id."""
    old, new = scene.host.policy, _other(scene)
    scene.host.change(new)
    scene.host.announce()
    scene.host.change(old)
    await scene.play.sleep_until(scene.until)
    scene.host.change(new)


async def no_record(scene: Scene) -> None:
    """DNS says nothing of a policy, or of its host."""
    name = scene.chance.choice((scene.host.name, f"_mta-sts.{scene.host.domain}"))
    scene.play.world.dns.fail(name, scene.chance.choice(DNS_TROUBLES), until=scene.until)


async def bad_certificate(scene: Scene) -> None:
    """What the mail host shows to other servers fits no policy, or it knows no TLS any more."""
    right = certificate_of(scene.station.plan)
    scene.station.tls.at_smtp = scene.chance.choice(
        (
            replace(right, names=(f"old.{scene.host.domain}",)),
            replace(right, is_trusted=False),
            replace(right, is_broken=True),
        )
    )
    await scene.play.sleep_until(scene.until)
    scene.station.tls.at_smtp = right


async def downgrade(scene: Scene) -> None:
    """As if somebody stood between: the policy is hidden, and the mail host shows what he has (RFC 8461 §10.2)."""
    host, dns = scene.host, scene.play.world.dns
    host.mood = Mood.GONE
    if scene.chance.random() < HIDES_RECORD:
        dns.fail(f"_mta-sts.{host.domain}", "nxdomain", until=scene.until)
    else:
        dns.of(f"_mta-sts.{host.domain}").txt[:] = [b"v=STSv1; id=20270101;"]
    await bad_certificate(scene)
    host.mood = Mood.GOOD
    host.announce()


def _other(scene: Scene) -> OwnPolicy:
    """Of the same mode: who has weakened a policy could not complain."""
    ages = [age for age in AGES if int(age) != scene.host.policy.max_age]
    return replace(scene.host.policy, max_age=int(scene.chance.choice(ages)))


EPISODES: Mapping[str, Callable[[Scene], Awaitable[None]]] = {
    "bad policy page": bad_page,
    "new policy": new_policy,
    "policy record before its page": early_record,
    "no policy record": no_record,
    "bad certificate": bad_certificate,
    "downgrade": downgrade,
}
CHOICES = (*EPISODES, "bad certificate", "downgrade", "downgrade")


def episodes(play: Play, hosts: Sequence[PolicyHost], calm: float) -> Iterator[Coroutine[Any, Any, None]]:
    """Of each host some, that end before `calm`."""
    chance = Random(f"{play.world.seed}/episodes")  # noqa: S311 - as above
    for host in hosts:
        for _ in range(chance.randint(1, MOST_EPISODES)):
            at = chance.uniform(0, calm)
            until = min(at + chance.choice(LENGTHS) * chance.random(), calm)
            yield _episode(play, host, chance.choice(CHOICES), at, until, Random(chance.getrandbits(64)))  # noqa: S311


async def _episode(play: Play, host: PolicyHost, name: str, at: float, until: float, chance: Random) -> None:
    station = next(each for each in play.stations if each.plan.domain == host.domain)
    await play.sleep_until(at)
    play.world.note(f"{host.domain}: {name}, until {until:.1f}")
    await EPISODES[name](Scene(play, host, station, chance, until))
    play.ledger.survived[name] += 1


# --- whether it is obeyed -------------------------------------------------------------------------


def check(play: Play, hosts: Sequence[PolicyHost], calm: float) -> Iterator[Finding]:
    """At the end of a world, whose last misfortune was over at `calm`."""
    witness = play.world.witness
    by_domain = {host.domain: host for host in hosts}
    for each in witness.handovers:
        host = by_domain.get(each.session.domain)
        if host is None or not each.session.is_usual:
            continue
        policies = policies_of(witness, host, each.session)
        if all(policy is not None and not fits(each.session, policy) for policy in policies):
            text = f"{each.session.server}: a letter went at {each.at:.1f} into a session with {each.session.host}"
            yield Finding(f"{text} that the policy of {host.domain} forbids: {each.session.tls}")
    for station in play.stations:
        for attempt in records.read(station.folder, is_up=True).attempts:
            if attempt.next_hop in by_domain and attempt.at - EPOCH > calm + GRACE:
                for outcome, _ in attempt.results:
                    if outcome.status == NOT_PROTECTED:
                        text = f"{station.plan.name}: {attempt.next_hop} is well, and kept from its letters"
                        yield Finding(f"{text}: {outcome.diagnostic}")


def policies_of(witness: Witness, host: PolicyHost, session: Session) -> list[OwnPolicy | None]:
    """Those by which a session may have been made: the last that its server surely had before, or none; and what came
    too shortly before, or was perhaps not kept."""
    found: list[OwnPolicy | None] = []
    for page in reversed(witness.pages):
        if (page.server, page.url) != (session.server, host.url) or page.at > session.begun:
            continue
        policy = host.versions.get(page.body) if page.is_good else None
        if policy is None:
            continue
        if page.at + policy.max_age <= session.begun:
            break
        found.append(policy)
        is_kept = not any(page.at <= end <= page.at + KEPT for end in witness.stops.get(session.server, ()))
        if is_kept and page.at <= session.begun - DECIDED:
            return found
    return [*found, None]


def fits(session: Session, policy: OwnPolicy) -> bool:
    """RFC 8461 §4.1, §4.2."""
    if policy.mode != "enforce":
        return True
    shown = session.tls.shown if isinstance(session.tls, WorldTls) else None
    return policy.covers(session.host) and shown is not None and shown.is_trusted and session.host in shown.names
