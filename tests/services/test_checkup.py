# SPDX-License-Identifier: Apache-2.0
"""`posthouse check` of the machine itself; of a domain in test_domain_check.py."""

from __future__ import annotations

import ipaddress
from typing import Any

from posthouse.ports import NameNotFound
from posthouse.services.checkup import Checkup, Finding
from tests.fakes import FakeClock, FakeResolver
from tests.services.world import InlineWorkers

HOST = "mail.alice.test"


def checkup(resolver: FakeResolver, *findings: Finding) -> Checkup:
    nothing: Any = None
    checks = [lambda: list(findings)]
    return Checkup(
        nothing,
        lambda: resolver,
        nothing,
        nothing,
        InlineWorkers(),
        FakeClock(),
        hostname=HOST,
        local_checks=checks,
    )


async def test_the_host_needs_an_address_that_leads_back() -> None:
    names = FakeResolver()
    mine = Finding("files", "ok", "private")
    assert [each.level for each in await checkup(names, mine).machine()] == ["ok", "error"]
    names.host(HOST, "192.0.2.1", "2001:db8::1")
    assert [each.level for each in await checkup(names).machine()] == ["ok"]


async def test_an_address_that_leads_elsewhere() -> None:
    class Elsewhere(FakeResolver):
        async def names(self, address: Any) -> list[str]:
            if address.version == 6:
                raise NameNotFound(str(address))
            return [HOST]

    names = Elsewhere()
    names.host(HOST, "192.0.2.1", "2001:db8::1")
    found = await checkup(names).machine()
    assert [each.level for each in found] == ["ok", "warning"]
    assert str(ipaddress.ip_address("2001:db8::1")) in found[1].text
    assert found[1].remedy


async def test_dns_that_does_not_answer_is_no_verdict() -> None:
    names = FakeResolver()
    names.broken = {HOST}
    [found] = await checkup(names).machine()
    assert found.level == "warning"
