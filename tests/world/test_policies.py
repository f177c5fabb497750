# SPDX-License-Identifier: Apache-2.0
"""MTA-STS in worlds: servers that do not obey a policy are found out, and so are those that never trust again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from posthouse.mailauth.mta_sts import StsPolicy
from posthouse.ports import WebFault
from posthouse.services.own_policy import OwnPolicy
from posthouse.services.protection import Guarded, Protection
from posthouse.services.sts_policies import NOTHING, Fetched, StsPolicies
from posthouse.services.tls_journal import AppliedPolicy
from posthouse.sim.dns import WorldDns, WorldResolver
from posthouse.sim.loop import Life, WorldLoop
from posthouse.sim.network import Network
from posthouse.sim.policies import DECIDED, KEPT, fits, policies_of
from posthouse.sim.policy_hosts import Mood, PolicyHost
from posthouse.sim.results import Player
from posthouse.sim.tls import Certificate, WorldTls
from posthouse.sim.web import WorldWeb
from posthouse.sim.witness import Page, Session, Witness
from tests.world.planted import player, problems_of

__all__ = ["player"]

HOST, DOMAIN = "mail.bob.test", "bob.test"
ENFORCED = OwnPolicy("enforce", 86_400, (HOST,))
NEWER = replace(ENFORCED, max_age=3_600)
GOOD = WorldTls("TLSv1.3", "", HOST, shown=Certificate((HOST,)))
find, fetch = StsPolicies._find, StsPolicies._try_to_fetch


async def ignore(protection: Protection, target: Any, proof: Any) -> Guarded:
    await protection._policies.of(proof.domain)
    return Guarded(target, AppliedPolicy(proof.domain))


async def ask_dns_alone(policies: StsPolicies, domain: str) -> Fetched:
    """Without a record there is no policy: whoever answers for DNS decides."""
    return NOTHING if await policies._record(domain, is_needed=True) is None else await find(policies, domain)


async def forget_the_old(policies: StsPolicies, *arguments: Any) -> Fetched:
    found = await fetch(policies, *arguments)
    return Fetched(None, found.trouble) if found.trouble else found


def distrust(*_arguments: Any) -> bool:
    return False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "name", "fault", "first", "words"),
    [
        pytest.param(Protection, "_by_sts", ignore, 0, "forbids", id="ignored"),
        pytest.param(StsPolicies, "_find", ask_dns_alone, 3, "forbids", id="forgotten with its record"),
        pytest.param(StsPolicies, "_try_to_fetch", forget_the_old, 19, "forbids", id="forgotten for a new one"),
        pytest.param(StsPolicy, "allows", distrust, 0, "is well, and kept from its letters", id="never content"),
    ],
)
def test_a_server_that_deals_badly_with_policies_is_found_out(
    player: Player,
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    name: str,
    fault: Callable[..., Any],
    first: int,
    words: str,
) -> None:
    monkeypatch.setattr(where, name, fault)
    assert problems_of(player, range(first, first + 3), words)


# --- what a server was bound by -------------------------------------------------------------------


def session(begun: float, tls: WorldTls | None = GOOD, host: str = HOST) -> Session:
    return Session(begun, begun + 1, "alice", DOMAIN, host, tls, is_usual=True)


@pytest.mark.parametrize(
    ("tls", "host", "expected"),
    [
        (GOOD, HOST, True),
        (None, HOST, False),
        (replace(GOOD, shown=Certificate(("old.bob.test",))), HOST, False),
        (replace(GOOD, shown=Certificate((HOST,), is_trusted=False)), HOST, False),
        (replace(GOOD, shown=Certificate(("dead.bob.test",))), "dead.bob.test", False),
    ],
)
def test_which_sessions_fit(tls: WorldTls | None, host: str, expected: bool) -> None:
    assert fits(session(0, tls, host), ENFORCED) is expected
    assert fits(session(0, tls, host), replace(ENFORCED, mode="testing"))


def page(at: float, policy: OwnPolicy = ENFORCED, *, is_good: bool = True) -> Page:
    return Page(at, "alice", f"https://mta-sts.{DOMAIN}/.well-known/mta-sts.txt", policy.text.encode(), is_good)


@pytest.mark.parametrize(
    ("pages", "stops", "begun", "expected"),
    [
        ([], [], 100.0, [None]),
        ([page(10)], [], 100.0, [ENFORCED]),
        ([page(10, is_good=False)], [], 100.0, [None]),
        ([page(10), page(101)], [], 100.0, [ENFORCED]),
        ([page(10), page(95, NEWER)], [], 100.0, [NEWER, ENFORCED]),
        ([page(10), page(95, NEWER)], [], 96 + DECIDED, [NEWER]),
        ([page(10)], [10 + KEPT], 100.0, [ENFORCED, None]),
        ([page(10)], [11 + KEPT], 100.0, [ENFORCED]),
        ([page(10)], [], 86_411.0, [None]),
        ([page(10), page(20, NEWER)], [], 3_621.0, [None]),
    ],
)
def test_by_which_policies_a_session_may_be_made(
    pages: list[Page], stops: list[float], begun: float, expected: list[OwnPolicy | None]
) -> None:
    loop = WorldLoop()  # type: ignore[abstract]  # as sim/world.py
    host = PolicyHost(DOMAIN, "192.0.2.102", ENFORCED, network=Network(loop, "0"), dns=WorldDns())
    host.change(NEWER)
    loop.close()
    witness = Witness(lambda: 0.0, pages=pages, stops={"alice": stops})
    assert policies_of(witness, host, session(begun)) == expected


# --- the web of a world ---------------------------------------------------------------------------


@pytest.mark.parametrize("mood", list(Mood))
def test_what_a_policy_host_answers(mood: Mood) -> None:
    loop, dns, told = WorldLoop(), WorldDns(), []  # type: ignore[abstract]  # as sim/world.py
    network = loop.network = Network(loop, "0")
    host = PolicyHost(DOMAIN, "192.0.2.102", ENFORCED, network=network, dns=dns)
    host.mood = mood
    client = Life("client", "192.0.2.1")

    async def ask() -> tuple[int, str, bytes] | str:
        web = WorldWeb(WorldResolver(dns), lambda url, _reply: told.append(url))
        try:
            reply = await web.get(host.url, limit=1_000, seconds=20)
        except TimeoutError:
            return "late"
        except WebFault as fault:
            return fault.result or "fault"
        return reply.status, reply.headers["content-type"], reply.body

    async def script() -> tuple[int, str, bytes] | str:
        await host.start()
        answer = await loop.create_task(ask(), context=client.context)
        await asyncio.sleep(60)
        host.end()
        return answer

    text = ENFORCED.text.encode()
    expected: dict[Mood, tuple[int, str, bytes] | str] = {
        Mood.GOOD: (200, "text/plain", text),
        Mood.BROKEN: (500, "text/plain", text),
        Mood.MOVED: (301, "text/plain", text),
        Mood.NONSENSE: (200, "text/plain", b"<p>Welcome to our new site</p>"),
        Mood.HTML: (200, "text/html", text),
        Mood.SLOW: "fault",
        Mood.WRONG_NAME: "certificate-not-trusted",
        Mood.UNTRUSTED: "certificate-not-trusted",
        Mood.GONE: "validation-failure",
    }
    assert loop.run(script()) == expected[mood]
    assert loop.faults == []
    assert told == ([host.url] if isinstance(expected[mood], tuple) else [])
    loop.close()
