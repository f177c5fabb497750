# SPDX-License-Identifier: Apache-2.0
"""ClientHellos of a real library, of ours, cut short and garbled."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocol.client_hello import MAX_OCTETS, ClientHello, read_client_hello

NAMES = st.from_regex(r"[a-z0-9.-]{0,40}", fullmatch=True)
PROTOCOLS = st.lists(st.binary(min_size=1, max_size=20), max_size=8)


def number(value: int, size: int) -> bytes:
    return value.to_bytes(size, "big")


def vector(content: bytes, size: int) -> bytes:
    return number(len(content), size) + content


def hello(name: str, protocols: list[bytes], *, before: bytes = b"") -> bytes:
    extensions = before
    if name:
        extensions += number(0, 2) + vector(vector(b"\0" + vector(name.encode(), 2), 2), 2)
    if protocols:
        extensions += number(16, 2) + vector(vector(b"".join(vector(each, 1) for each in protocols), 2), 2)
    body = b"\3\3" + bytes(32) + vector(bytes(32), 1) + vector(b"\x13\1", 2) + vector(b"\0", 1) + vector(extensions, 2)
    return b"\1" + vector(body, 3)


def real_hello(name: str, protocols: list[str]) -> bytes:
    context = ssl.create_default_context()
    if protocols:
        context.set_alpn_protocols(protocols)
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(coming, going, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return going.read()[5:]  # without the record's header


@pytest.mark.parametrize("protocols", [[], ["acme-tls/1"], ["h2", "http/1.1"]])
def test_of_a_real_library(protocols: list[str]) -> None:
    found = read_client_hello(real_hello("Mail.Example.Test", protocols))
    assert found == ClientHello("mail.example.test", tuple(each.encode() for each in protocols))


@given(NAMES, PROTOCOLS)
def test_round_trip(name: str, protocols: list[bytes]) -> None:
    assert read_client_hello(hello(name, protocols, before=b"\xff\1\0\1\0")) == ClientHello(name, tuple(protocols))


def test_cut_anywhere_it_asks_for_nothing() -> None:
    whole = hello("a.test", [b"acme-tls/1"])
    for end in range(len(whole)):
        assert read_client_hello(whole[:end]) == ClientHello(), end


@given(st.binary(max_size=300))
def test_any_octets(octets: bytes) -> None:
    for message in (octets, b"\1" + vector(octets, 3), b"\1" + vector(b"\3\3" + bytes(38) + octets, 3)):
        found = read_client_hello(message)
        assert len(found.protocols) <= 32


@pytest.mark.parametrize(
    "message",
    [
        b"\2" + hello("a.test", [])[1:],  # a ServerHello
        hello("a.test", [b"x"], before=b"\0\0\xff\xff"),  # an extension longer than all
        bytes(MAX_OCTETS + 1),
    ],
)
def test_what_is_no_client_hello(message: bytes) -> None:
    assert read_client_hello(message) == ClientHello()


def test_only_so_many_protocols_are_kept() -> None:
    assert len(read_client_hello(hello("a.test", [b"x"] * 200)).protocols) == 32
