# SPDX-License-Identifier: Apache-2.0
"""Addresses to listen on, bound sockets, counting connections, running out of file descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posthouse.net.admission import Admission
from posthouse.net.peer import peer_of
from posthouse.net.sockets import ListenAddress, ListenFault, close_sockets, open_sockets, parse_listen_address
from tests.net.echo import House, within

ON_BOTH_LOOPS = True


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0.0.0:25", ListenAddress("0.0.0.0", 25)),
        ("[::]:25", ListenAddress("::", 25)),
        ("[2001:db8::1]:995", ListenAddress("2001:db8::1", 995)),
        ("*:25", ListenAddress("", 25)),
        (":25", ListenAddress("", 25)),
        ("localhost:0", ListenAddress("localhost", 0)),
        ("unix:/run/posthouse/lmtp.sock", ListenAddress(path="/run/posthouse/lmtp.sock")),
    ],
)
def test_addresses(text: str, expected: ListenAddress) -> None:
    assert parse_listen_address(text) == expected
    assert parse_listen_address(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["", "25", "localhost", "::1:25", "host:smtp", "host:65536", "host:-1", "unix:a", "h:²"]
)
def test_mistakes_name_the_remedy(text: str) -> None:
    with pytest.raises(ListenFault, match=r"write it as|brackets|absolute"):
        parse_listen_address(text)


@pytest.fixture
def opened() -> Iterator[list[socket.socket]]:
    sockets: list[socket.socket] = []
    yield sockets
    close_sockets(sockets)


def test_port_in_use_is_explained_and_nothing_stays_open(opened: list[socket.socket]) -> None:
    opened += open_sockets(["127.0.0.1:0"])
    port = opened[0].getsockname()[1]
    with pytest.raises(ListenFault, match="another program is using it"):
        open_sockets(["127.0.0.1:0", f"127.0.0.1:{port}"])


def test_unknown_host() -> None:
    with pytest.raises(ListenFault, match="not known here"):
        open_sockets(["no-such-host.invalid:25"])


def test_foreign_address() -> None:
    with pytest.raises(ListenFault, match="no such address"):
        open_sockets(["192.0.2.1:0"])


def test_every_address_means_both_families_on_one_port(opened: list[socket.socket]) -> None:
    opened += open_sockets(["*:0"])
    assert len({sock.getsockname()[1] for sock in opened}) == 1
    assert all(
        sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) for sock in opened if sock.family == socket.AF_INET6
    )


def test_unix_socket_is_private_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    sockets = open_sockets([f"unix:{path}"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    close_sockets(sockets)
    assert not path.exists()


def test_stale_unix_socket_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    sockets = open_sockets([f"unix:{path}"])
    with pytest.raises(ListenFault, match="another server"):
        open_sockets([f"unix:{path}"])
    close_sockets(sockets)
    path.write_text("not a socket")
    with pytest.raises(ListenFault, match="in the way"):
        open_sockets([f"unix:{path}"])
    assert path.read_text() == "not a socket"


async def test_sessions_over_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "echo.sock"
    async with House(address=f"unix:{path}") as house:
        reader, writer = await asyncio.open_unix_connection(path)
        assert await within(reader.readline) == b"hello\r\n"
        assert house.sessions[0].peer.address == "unix"
        assert house.sessions[0].peer.is_loopback
        writer.close()
        await writer.wait_closed()


async def test_peer_knows_both_ends() -> None:
    async with House() as house:
        client = await house.connect()
        await client.line()
        peer = house.sessions[0].peer
        assert (peer.address, peer.port) == client.writer.get_extra_info("sockname")
        assert (peer.local_address, peer.local_port) == ("127.0.0.1", house.port)
        assert peer.trace == "0001020304050607"
        await client.close()


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (("192.0.2.1", 25), "192.0.2.1"),
        (("::ffff:192.0.2.1", 25, 0, 0), "192.0.2.1"),
        (("fe80::1%eth0", 25, 0, 2), "fe80::1"),
        (("2001:db8::1", 25, 0, 0), "2001:db8::1"),
        ("", "unix"),
        (None, "unix"),
    ],
)
def test_one_peer_has_one_name(name: Any, address: str) -> None:
    class Transport(asyncio.Transport):
        def get_extra_info(self, key: str, default: Any = None) -> Any:
            return name

    assert peer_of(Transport(), "x").address == address


def test_admission_by_address_and_network() -> None:
    admission = Admission(total=6, per_address=2, exempt=[ipaddress.ip_network("192.0.2.128/25")])
    assert [admission.enter("192.0.2.1") for _ in range(3)] == [None, None, "too many connections from your address"]
    assert [admission.enter(f"2001:db8::{n}") is None for n in (1, 2, 3)] == [True, True, False]
    assert [admission.enter("192.0.2.200") is None for _ in range(3)] == [True, True, False]
    assert admission.enter("198.51.100.1") == "too many connections"
    for address in ("192.0.2.1", "192.0.2.1", "2001:db8::9", "2001:db8::9", "192.0.2.200", "192.0.2.200"):
        admission.leave(address)
    assert admission.count == 0
    assert admission.enter("192.0.2.1") is None


def highest_descriptor() -> int:
    return max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())


async def test_listener_survives_running_out_of_descriptors() -> None:
    """EMFILE at accept must not end the service."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    quiet = asyncio.get_running_loop()
    quiet.set_exception_handler(lambda *_: None)  # asyncio reports it and tries again after a second
    async with House() as house:
        first = await house.connect()
        await first.line()
        socks = [socket.socket() for _ in range(3)]
        for sock in socks:
            sock.setblocking(False)
        open_now = highest_descriptor() + 1
        taken: list[int] = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_now, hard))
        try:
            with contextlib.suppress(OSError):  # until EMFILE
                while True:
                    taken.append(os.open("/dev/null", os.O_RDONLY))
            for sock in socks:
                with contextlib.suppress(BlockingIOError):
                    sock.connect(("127.0.0.1", house.port))
            await asyncio.sleep(0.05)
            assert await first.say(b"still here") == b"still here\r\n"
        finally:
            for descriptor in taken:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for sock in socks:
                sock.close()
        second = await house.connect()
        assert await second.line() == b"hello\r\n"
        await first.close()
        await second.close()
