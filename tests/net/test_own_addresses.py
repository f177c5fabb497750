# SPDX-License-Identifier: Apache-2.0
"""Which addresses of this machine the world may know."""

from __future__ import annotations

import ipaddress

import pytest

from posthouse.net import own_addresses as module
from posthouse.net.own_addresses import own_addresses

V4, V6 = ipaddress.ip_address("8.8.4.4"), ipaddress.ip_address("2606:4700::1")


def test_those_that_are_named() -> None:
    listens = [
        "8.8.4.4:25",
        "[2606:4700::1]:25",
        "8.8.4.4:2525",
        "10.0.0.1:25",
        "127.0.0.1:25",
        "unix:/x",
        "mail.test:25",
    ]
    assert own_addresses(listens) == (V4, V6)
    assert own_addresses([]) == ()


@pytest.mark.parametrize(
    ("listen", "found"), [("*:25", (V4, V6)), ("0.0.0.0:25", (V4,)), ("[::]:25", (V6,)), ("127.0.0.1:25", ())]
)
def test_those_of_the_routes(monkeypatch: pytest.MonkeyPatch, listen: str, found: tuple[object, ...]) -> None:
    monkeypatch.setattr(module, "_source", lambda way: V4 if way == module.FAR_AWAY[0] else V6)
    assert own_addresses([listen]) == found


def test_private_ones_and_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_source", lambda way: ipaddress.ip_address("192.168.1.5"))
    assert own_addresses(["*:25"]) == ()
    monkeypatch.setattr(module, "_source", lambda way: None)
    assert own_addresses(["*:25"]) == ()


def test_asking_the_system_sends_nothing_and_never_fails() -> None:
    for address in own_addresses(["*:25"]):
        assert address.is_global
