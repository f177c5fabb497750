# SPDX-License-Identifier: Apache-2.0
"""Where mail goes (RFC 5321 §5.1, RFC 7505), and which answers of DNS are worth waiting for."""

from __future__ import annotations

import pytest

from posthouse.mail.address import Domain
from posthouse.services.routing import RouteGone, Routing, RoutingFault, StaticRoute
from tests.fakes import FakeEntropy, FakeResolver


def routing(resolver: FakeResolver, seed: int = 0, **fields) -> Routing:
    return Routing(resolver, FakeEntropy(seed), "mail.alice.test", **fields)


async def addresses(router: Routing, next_hop: str) -> list[str]:
    return [target.address for target in await router.targets(next_hop)]


async def fault(router: Routing, next_hop: str) -> str:
    with pytest.raises(RoutingFault) as caught:
        await router.targets(next_hop)
    return str(caught.value.outcome.status)


@pytest.fixture
def resolver() -> FakeResolver:
    made = FakeResolver()
    made.host("a.bob.test", "192.0.2.1", "2001:db8::1")
    made.host("b.bob.test", "192.0.2.2")
    made.host("c.bob.test", "192.0.2.3")
    return made


async def test_mail_hosts_are_tried_in_order_of_preference_all_addresses_of_each(resolver):
    resolver.domain("bob.test", (20, "b.bob.test"), (10, "a.bob.test"))
    targets = await routing(resolver).targets("bob.test")
    assert [(t.host, t.address, t.port, t.tls, t.helo) for t in targets] == [
        ("a.bob.test", "192.0.2.1", 25, "opportunistic", "mail.alice.test"),
        ("a.bob.test", "2001:db8::1", 25, "opportunistic", "mail.alice.test"),
        ("b.bob.test", "192.0.2.2", 25, "opportunistic", "mail.alice.test"),
    ]


async def test_equals_are_shuffled(resolver):
    resolver.domain("bob.test", (10, "b.bob.test"), (10, "c.bob.test"), (5, "a.bob.test"))
    orders = {tuple(await addresses(routing(resolver, seed), "bob.test")) for seed in range(20)}
    assert len(orders) == 2
    assert all(order[:2] == ("192.0.2.1", "2001:db8::1") for order in orders)


async def test_a_domain_without_mx_is_its_own_mail_host(resolver):
    resolver.host("bob.test", "192.0.2.9")
    assert await addresses(routing(resolver), "bob.test") == ["192.0.2.9"]


async def test_mx_records_forbid_the_domains_own_address(resolver):
    resolver.host("bob.test", "192.0.2.9")
    resolver.domain("bob.test", (10, "nowhere.bob.test"))
    assert await fault(routing(resolver), "bob.test") == "5.4.4"


@pytest.mark.parametrize(("records", "status"), [([(0, "")], "5.1.10"), ([], "5.4.4")])
async def test_null_mx_and_no_address_at_all(resolver, records, status):
    resolver.domain("bob.test", *records)
    assert await fault(routing(resolver), "bob.test") == status


async def test_a_domain_that_does_not_exist(resolver):
    assert await fault(routing(resolver), "gone.test") == "5.1.2"


async def test_a_name_server_that_fails_is_a_reason_to_wait(resolver):
    resolver.broken.add("bob.test")
    assert await fault(routing(resolver), "bob.test") == "4.4.3"


async def test_a_mail_host_whose_address_is_unknown_now_is_passed_over_or_waited_for(resolver):
    resolver.domain("bob.test", (10, "slow.bob.test"), (20, "b.bob.test"))
    resolver.broken.add("slow.bob.test")
    assert await addresses(routing(resolver), "bob.test") == ["192.0.2.2"]
    resolver.domain("bob.test", (10, "slow.bob.test"), (20, "missing.bob.test"))
    assert await fault(routing(resolver), "bob.test") == "4.4.3"


async def test_we_and_all_that_are_not_more_preferred_are_left_out(resolver):
    resolver.domain("bob.test", (5, "a.bob.test"), (10, "MAIL.alice.test"), (10, "b.bob.test"), (20, "c.bob.test"))
    assert await addresses(routing(resolver), "bob.test") == ["192.0.2.1", "2001:db8::1"]
    resolver.domain("bob.test", (10, "mail.alice.test"), (20, "c.bob.test"))
    assert await fault(routing(resolver), "bob.test") == "5.4.6"


async def test_our_own_address_under_another_name_is_a_loop_too(resolver):
    resolver.domain("bob.test", (5, "a.bob.test"), (10, "b.bob.test"), (20, "c.bob.test"))
    router = routing(resolver, own_addresses=["192.0.2.2"])
    assert await addresses(router, "bob.test") == ["192.0.2.1", "2001:db8::1"]
    assert await fault(routing(resolver, own_addresses=["192.0.2.1"]), "bob.test") == "5.4.6"
    resolver.host("alias.test", "192.0.2.2")
    assert await fault(router, "alias.test") == "5.4.6"


@pytest.mark.parametrize(("literal", "address"), [("[192.0.2.7]", "192.0.2.7"), ("[IPv6:2001:db8::7]", "2001:db8::7")])
async def test_address_literals_need_no_dns(resolver, literal, address):
    assert await addresses(routing(resolver), literal) == [address]
    assert resolver.asked == []


async def test_an_address_literal_of_ours_is_a_loop(resolver):
    assert await fault(routing(resolver, own_addresses=["192.0.2.7"]), "[192.0.2.7]") == "5.4.6"


async def test_fixed_routes_come_before_dns(resolver):
    router = routing(resolver, routes={"bob.test": StaticRoute("127.0.0.1", 2626)})
    (target,) = await router.targets("bob.test")
    assert (target.address, target.port) == ("127.0.0.1", 2626)
    assert resolver.asked == []


async def test_the_smart_host_takes_what_has_no_route_of_its_own(resolver):
    resolver.host("smart.test", "192.0.2.50")
    smart = StaticRoute("smart.test", 587, "require", "us", "secret")
    router = routing(resolver, routes={"*": smart, "bob.test": StaticRoute("192.0.2.60")})
    assert router.next_hop(Domain("carol.test")) == "*"
    assert router.next_hop(Domain("bob.test")) == "bob.test"
    (target,) = await router.targets("*")
    assert (target.host, target.address, target.port) == ("smart.test", "192.0.2.50", 587)
    assert (target.tls, target.username, target.password) == ("require", "us", "secret")
    assert await addresses(router, "carol.test") == ["192.0.2.50"]
    assert await addresses(router, "bob.test") == ["192.0.2.60"]
    router.set_routes({})
    assert router.next_hop(Domain("carol.test")) == "carol.test"
    with pytest.raises(RouteGone):
        await router.targets("*")


async def test_a_mistake_in_our_own_routes_returns_nobodys_mail(resolver):
    resolver.broken.add("broken.test")
    routes = {"bob.test": StaticRoute("typo.test"), "eve.test": StaticRoute("broken.test")}
    assert await fault(routing(resolver, routes=routes), "bob.test") == "4.4.4"
    assert await fault(routing(resolver, routes=routes), "eve.test") == "4.4.3"


async def test_the_number_of_hosts_and_addresses_is_limited(resolver):
    for number in range(40):
        resolver.host(f"h{number}.big.test", *(f"192.0.2.{n}" for n in range(20)))
    resolver.domain("big.test", *((n, f"h{n}.big.test") for n in range(40)))
    assert len(await addresses(routing(resolver), "big.test")) == 12
    assert len(resolver.asked) == 11


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:2626", "127.0.0.1", 2626),
        ("[::1]:26", "::1", 26),
        ("[::1]", "::1", 25),
        ("mail.example.test", "mail.example.test", 25),
    ],
)
def test_routes_as_text(text, host, port):
    route = StaticRoute.parse(text)
    assert (route.host, route.port) == (host, port)


@pytest.mark.parametrize("text", ["", ":25", "host:0", "host:70000", "host:x"])
def test_routes_that_are_none(text):
    with pytest.raises(ValueError, match="host:port"):
        StaticRoute.parse(text)
