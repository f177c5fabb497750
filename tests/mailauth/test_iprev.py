# SPDX-License-Identifier: Apache-2.0
"""iprev (RFC 8601 §3): every result of §2.7.3."""

from __future__ import annotations

import asyncio
import ipaddress

import pytest

from posthouse.mailauth import iprev as module
from posthouse.mailauth.iprev import MAX_NAMES, IprevResult, IprevVerdict, check_iprev
from tests.mailauth.zones import Records, Zone

ADDRESS = ipaddress.ip_address("192.0.2.3")
REVERSE = ADDRESS.reverse_pointer


def names(*hosts: str) -> dict[str, Records]:
    return {REVERSE: [{"PTR": host} for host in hosts]}


@pytest.mark.parametrize(
    ("zone", "result", "name", "reason"),
    [
        ({**names("mx.test"), "mx.test": [{"A": "192.0.2.3"}]}, IprevResult.PASS, "mx.test", ""),
        (
            {**names("a.test", "ill.test", "b.test"), "ill.test": ["TIMEOUT"], "b.test": [{"A": "192.0.2.3"}]},
            IprevResult.PASS,
            "b.test",
            "",
        ),
        ({**names("mx.test"), "mx.test": [{"A": "192.0.2.4"}]}, IprevResult.FAIL, "", "mx.test is not at that address"),
        ({**names("mx.test"), "mx.test": [{"AAAA": "::1"}]}, IprevResult.FAIL, "", "mx.test is not at that address"),
        (names("gone.test"), IprevResult.FAIL, "", "gone.test is not at that address"),
        (names(""), IprevResult.FAIL, "", " is not at that address"),
        (
            {**names("a.test", "ill.test"), "ill.test": ["TIMEOUT"]},
            IprevResult.TEMPERROR,
            "",
            "ill.test A: no answer in time",
        ),
        ({REVERSE: ["TIMEOUT"]}, IprevResult.TEMPERROR, "", f"{REVERSE} PTR: no answer in time"),
        ({}, IprevResult.PERMERROR, "", "the address has no name"),
        ({REVERSE: []}, IprevResult.PERMERROR, "", "the address has no name"),
    ],
)
async def test_results(zone: dict[str, Records], result: IprevResult, name: str, reason: str) -> None:
    assert await check_iprev(Zone(zone), ADDRESS) == IprevVerdict(result, ADDRESS, name, reason)


async def test_ipv4_that_comes_as_ipv6_is_ipv4() -> None:
    zone = Zone({**names("mx.test"), "mx.test": [{"A": "192.0.2.3"}]})
    verdict = await check_iprev(zone, ipaddress.ip_address("::ffff:192.0.2.3"))
    assert (verdict.result, verdict.address) == (IprevResult.PASS, ADDRESS)


async def test_ipv6() -> None:
    address = ipaddress.ip_address("2001:db8::1")
    zone = Zone({address.reverse_pointer: [{"PTR": "mx.test"}], "mx.test": [{"AAAA": "2001:db8:0::1"}]})
    assert (await check_iprev(zone, address)).result is IprevResult.PASS


async def test_no_more_names_than_ten_are_asked_about() -> None:
    zone = Zone(names(*(f"h{i}.test" for i in range(50))))
    assert (await check_iprev(zone, ADDRESS)).result is IprevResult.FAIL
    assert len(zone.asked) == 1 + MAX_NAMES


async def test_a_check_takes_no_longer_than_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Zone):
        async def names(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> list[str]:
            await asyncio.get_running_loop().create_future()
            raise AssertionError

    monkeypatch.setattr(module, "MAX_SECONDS", 0.0)
    assert (await check_iprev(Silent({}), ADDRESS)).result is IprevResult.TEMPERROR
