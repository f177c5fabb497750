# SPDX-License-Identifier: Apache-2.0
"""Letters that follow each other share what DNS says of their client; nothing is believed for long, no fault at all."""

from __future__ import annotations

import ipaddress

import pytest

from posthouse.ports import IPAddress
from posthouse.services.client_checks import KEPT_SECONDS, MAX_KEPT, ClientChecks
from tests.fakes import FakeResolver, SetClock
from tests.virtual_loop import run

HOST = "mx.author.test"
ADDRESS = ipaddress.ip_address("192.0.2.7")
OTHER = ipaddress.ip_address("192.0.2.8")


class Names(FakeResolver):
    """A host with two addresses, of which its domain's mail may come from one."""

    def __init__(self) -> None:
        super().__init__()
        self.host(HOST, "192.0.2.7", "192.0.2.8")
        self.text("author.test", b"v=spf1 ip4:192.0.2.7 -all")
        self.text(HOST, b"v=spf1 ip4:192.0.2.7 -all")


def checks() -> tuple[ClientChecks, Names, SetClock]:
    clock = SetClock()
    return ClientChecks(clock, receiver="mail.example.test"), Names(), clock


def test_a_client_is_looked_up_once_in_a_while() -> None:
    clients, dns, clock = checks()

    async def work() -> None:
        first = await clients.iprev(dns, ADDRESS)
        assert (first.result, first.name) == ("pass", HOST)
        clock.now += KEPT_SECONDS - 0.1
        dns.host(HOST, "192.0.2.8")
        assert await clients.iprev(dns, ADDRESS) is first
        clock.now += 0.1
        assert (await clients.iprev(dns, ADDRESS)).result == "permerror"
        assert (await clients.iprev(dns, OTHER)).result == "pass"

    run(work())


def test_a_sender_is_looked_up_once_in_a_while() -> None:
    clients, dns, clock = checks()

    async def work() -> None:
        first = await clients.spf(dns, ADDRESS, "a@author.test", HOST)
        assert first.result == "pass"
        clock.now += KEPT_SECONDS - 0.1
        dns.text("author.test", b"v=spf1 -all")
        assert await clients.spf(dns, ADDRESS, "a@author.test", HOST) is first
        clock.now += 0.1
        assert (await clients.spf(dns, ADDRESS, "a@author.test", HOST)).result == "fail"

    run(work())


@pytest.mark.parametrize(
    ("address", "sender", "hello", "result"),
    [
        (OTHER, "a@author.test", HOST, "fail"),
        (ADDRESS, "b@author.test", HOST, "neutral"),  # the record asks about the local part
        (ADDRESS, "a@author.test", "mx.else.test", "neutral"),  # and about the name in EHLO
        (ADDRESS, "a@else.test", HOST, "none"),
        (ADDRESS, "", HOST, "pass"),
    ],
)
def test_a_verdict_is_for_one_address_sender_and_name_alone(
    address: IPAddress, sender: str, hello: str, result: str
) -> None:
    clients, dns, _ = checks()
    dns.text("author.test", b"v=spf1 -ip4:192.0.2.8 exists:%{l}.%{h}.author.test ?all")
    dns.host(f"a.{HOST}.author.test", "127.0.0.2")

    async def work() -> None:
        assert (await clients.spf(dns, ADDRESS, "a@author.test", HOST)).result == "pass"
        verdict = await clients.spf(dns, address, sender, hello)
        assert (verdict.result, verdict.identity) == (result, "mailfrom" if sender else "helo")

    run(work())


def test_a_fault_of_dns_is_not_kept() -> None:
    clients, dns, _ = checks()

    async def work() -> None:
        dns.broken = {"author.test", "192.0.2.7"}
        assert (await clients.spf(dns, ADDRESS, "a@author.test", HOST)).result == "temperror"
        assert (await clients.iprev(dns, ADDRESS)).result == "temperror"
        dns.broken = set()
        assert (await clients.spf(dns, ADDRESS, "a@author.test", HOST)).result == "pass"
        assert (await clients.iprev(dns, ADDRESS)).result == "pass"

    run(work())


def test_many_clients_do_not_fill_the_memory() -> None:
    clients, dns, _ = checks()

    async def work() -> None:
        await clients.spf(dns, ADDRESS, "first@author.test", HOST)
        for number in range(MAX_KEPT):
            await clients.spf(dns, ADDRESS, f"{number}@author.test", HOST)
        asked = len(dns.asked)
        await clients.spf(dns, ADDRESS, f"{MAX_KEPT - 1}@author.test", HOST)
        assert len(dns.asked) == asked
        await clients.spf(dns, ADDRESS, "first@author.test", HOST)
        assert len(dns.asked) > asked

    run(work())
