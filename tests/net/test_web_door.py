# SPDX-License-Identifier: Apache-2.0
"""The door for strangers who speak HTTP: TLS by name, limits in number and time, and the end."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from posthouse.net.admission import Admission
from posthouse.net.clock import SystemClock
from posthouse.net.http import HttpServer
from posthouse.net.session import TlsUpgrader
from posthouse.net.tls import CertificateStore, LoopTlsUpgrader
from posthouse.net.web_door import WebDoor, WebLimits
from tests.net.conftest import make_files

ON_BOTH_LOOPS = True
PATIENCE = 10.0  # seconds until a test gives up
QUICK = WebLimits(header=2048, handshake=0.2, exchange=0.2, idle=1)
PATIENT = WebLimits(header=2048, handshake=5.0, exchange=5.0, idle=5)
GET = b"GET /%s HTTP/1.1\r\nHost: a.test\r\n\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    if scope["path"] == "/never":
        await asyncio.Event().wait()
    body = b"x" * 2_000_000 if scope["path"] == "/big" else f"{scope['scheme']} {scope['path']} {size}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


class Served:
    def __init__(self, door: WebDoor, server: HttpServer, port: int) -> None:
        self.door = door
        self.server = server
        self.port = port
        self.talks: list[Talk] = []

    async def connect(self, trusting: ssl.SSLContext | None = None, name: str = "mail.example.test") -> Talk:
        opened = asyncio.open_connection(
            "127.0.0.1", self.port, ssl=trusting, server_hostname=name if trusting else None
        )
        talk = Talk(*await asyncio.wait_for(opened, PATIENCE))
        self.talks.append(talk)
        return talk

    async def until(self, count: int) -> None:
        """So many connections are there."""
        async with asyncio.timeout(PATIENCE):
            while not len(self.door.connections) == self.door.admission.count == count:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)


class Talk:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def say(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def answer(self) -> tuple[bytes, bytes]:
        """Status line and body."""
        async with asyncio.timeout(PATIENCE):
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            [length] = [int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length")] or [0]
            return head.partition(b"\r\n")[0], await self.reader.readexactly(length)

    async def end(self) -> bytes:
        """What comes until the server closes, however it does."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.read()
            except (ConnectionError, ssl.SSLError):
                return b""

    def close(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def serving(
    tls: TlsUpgrader | None = None, limits: WebLimits = PATIENT, admission: Admission | None = None
) -> AsyncIterator[Served]:
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    door = WebDoor(admission or Admission(), tls, limits)
    server = HttpServer(application, [sock], door=door, grace=1.0)
    port = sock.getsockname()[1]
    await server.start()
    served = Served(door, server, port)
    try:
        yield served
    finally:
        for talk in served.talks:
            talk.close()
        async with asyncio.timeout(PATIENCE):
            await server.stop()
        assert not door.connections
        assert door.admission.count == 0


async def test_plain() -> None:
    async with serving() as served:
        talk = await served.connect()
        for number in range(3):
            talk.say(GET % b"%d" % number)
            assert await talk.answer() == (b"HTTP/1.1 200 OK", b"http /%d 0" % number)
        talk.close()
        await served.until(0)


async def test_tls_by_name(tmp_path: Path, trusting: ssl.SSLContext, files: Any) -> None:
    other = make_files(tmp_path, "mta-sts.other.test")
    upgrader = LoopTlsUpgrader(CertificateStore([files, other], SystemClock()))
    trusting_other = ssl.create_default_context(cafile=str(other.certificate))
    async with serving(upgrader) as served:
        for context, name in ((trusting, "mail.example.test"), (trusting_other, "mta-sts.other.test")):
            talk = await served.connect(context, name)
            talk.say(GET % b"x")
            assert (await talk.answer())[1] == b"https /x 0"
            talk.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            await served.connect(trusting, "mta-sts.other.test")
        await served.until(0)


async def test_a_renewed_certificate_is_served_at_once(tmp_path: Path) -> None:
    files = make_files(tmp_path, "mail.example.test")
    store = CertificateStore([files], SystemClock())
    async with serving(LoopTlsUpgrader(store)) as served:
        old = await served.connect(ssl.create_default_context(cafile=str(files.certificate)))
        files.certificate.unlink()
        make_files(tmp_path, "mail.example.test")
        store.reload()
        new = await served.connect(ssl.create_default_context(cafile=str(files.certificate)))
        for talk in (old, new):  # who was there before goes on
            talk.say(GET % b"x")
            assert (await talk.answer())[1] == b"https /x 0"
            talk.close()
        await served.until(0)


def hello_and_request(port: int, trusting: ssl.SSLContext, request: bytes) -> bytes:
    """The request in the same packet as the end of the handshake, by hand."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting.wrap_bio(incoming, outgoing, server_hostname="mail.example.test")
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:

        def take() -> None:
            octets = sock.recv(65536)
            assert octets, "the server has closed"
            incoming.write(octets)

        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                take()
        tls.write(request)
        sock.sendall(outgoing.read())
        got = b""
        while b"https" not in got:
            try:
                got += tls.read(65536)
            except ssl.SSLWantReadError:
                take()
        return got


async def test_a_request_that_comes_with_the_end_of_the_handshake(
    upgrader: LoopTlsUpgrader, trusting: ssl.SSLContext
) -> None:
    async with serving(upgrader) as served:
        for _ in range(5):
            got = await asyncio.to_thread(hello_and_request, served.port, trusting, GET % b"early")
            assert got.endswith(b"https /early 0")
        await served.until(0)


async def test_octet_by_octet(upgrader: LoopTlsUpgrader, trusting: ssl.SSLContext) -> None:
    async with serving(upgrader) as served:
        talk = await served.connect(trusting)
        for octet in b"POST /p HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc":
            talk.say(bytes((octet,)))
            await talk.writer.drain()
            await asyncio.sleep(0)
        assert (await talk.answer())[1] == b"https /p 3"
        talk.close()


async def test_requests_that_do_not_wait_for_answers() -> None:
    async with serving() as served:
        talk = await served.connect()
        talk.say(b"".join(GET % b"%d" % number for number in range(20)))
        for number in range(20):
            assert (await talk.answer())[1] == b"http /%d 0" % number
        talk.close()


async def test_what_is_not_http() -> None:
    async with serving() as served:
        for nonsense in (
            b"EHLO mail.example.test\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00",
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x00" * 100,
        ):
            talk = await served.connect()
            talk.say(nonsense + b"\r\n\r\n")
            assert (await talk.end()).startswith(b"HTTP/1.1 400 ")
        await served.until(0)


async def test_nonsense_behind_a_request(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as served:
        for path in (b"x", b"never"):
            talk = await served.connect()
            talk.say(GET % path + b"\x00nonsense\r\n\r\n")
            await talk.end()
            await served.until(0)
    # That one never ends by itself, and the end of the server tells so.
    told = [record.getMessage() for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]
    assert [text for text in told if "Cancel 1 running task" not in text] == []


async def test_what_is_not_tls(upgrader: LoopTlsUpgrader) -> None:
    async with serving(upgrader) as served:
        talk = await served.connect()
        talk.say(GET % b"x")
        assert b"HTTP" not in await talk.end()
        await served.until(0)


async def test_a_header_without_end_is_cut_off() -> None:
    async with serving() as served:
        talk = await served.connect()
        talk.say(b"GET / HTTP/1.1\r\nHost: a.test\r\nX: " + b"x" * 4000)
        assert (await talk.end()).startswith(b"HTTP/1.1 400 ")
        await served.until(0)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET / HT",
        b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nabc",
        GET % b"never",
        GET % b"big",  # and nobody reads it
    ],
)
async def test_who_is_too_slow_is_dropped(said: bytes) -> None:
    async with serving(limits=QUICK) as served:
        talk = await served.connect()
        talk.reader._transport.pause_reading()  # type: ignore[attr-defined]
        talk.say(said)
        await served.until(1)
        await served.until(0)
        talk.close()


async def test_drops_of_a_request_buy_no_time() -> None:
    async with serving(limits=QUICK) as served:
        talk = await served.connect()
        began = asyncio.get_running_loop().time()
        talk.say(b"GET / HTTP/1.1\r\n")
        while not talk.reader.at_eof() and asyncio.get_running_loop().time() - began < PATIENCE:
            talk.say(b"X: y\r\n")
            try:
                await asyncio.wait_for(talk.reader.read(1), 0.02)
            except TimeoutError:
                continue
            except ConnectionError:
                break
        await served.until(0)
        assert asyncio.get_running_loop().time() - began < PATIENCE
        talk.close()


async def test_a_handshake_that_does_not_end(upgrader: LoopTlsUpgrader) -> None:
    async with serving(upgrader, QUICK) as served:
        for said in (b"", b"\x16\x03\x01"):
            talk = await served.connect()
            talk.say(said)
            assert await talk.end() == b""
            talk.close()
        await served.until(0)


async def test_a_connection_is_kept_for_a_while_only() -> None:
    async with serving(limits=WebLimits(idle=0)) as served:
        talk = await served.connect()
        talk.say(GET % b"x")
        assert (await talk.answer())[1] == b"http /x 0"
        assert await talk.end() == b""
        await served.until(0)


async def once(served: Served, context: ssl.SSLContext | None) -> bytes:
    talk = await served.connect(context)
    talk.say(GET % b"x")
    return (await talk.answer())[1]


async def test_too_many_connections(upgrader: LoopTlsUpgrader, trusting: ssl.SSLContext) -> None:
    for tls, context in ((None, None), (upgrader, trusting)):
        async with serving(tls, admission=Admission(total=2)) as served:
            first, second = await served.connect(context), await served.connect(context)
            await served.until(2)
            with pytest.raises((ConnectionError, ssl.SSLError, asyncio.IncompleteReadError)):
                await once(served, context)
            first.close()
            await served.until(1)
            assert (await once(served, context)).endswith(b"/x 0")
            assert second in served.talks


async def test_the_end_does_not_wait_for_those_who_do_nothing(
    upgrader: LoopTlsUpgrader, trusting: ssl.SSLContext
) -> None:
    async with serving(upgrader) as served:
        handshake = await served.connect()
        idle = await served.connect(trusting)
        half = await served.connect(trusting)
        half.say(b"GET / HT")
        answered = await served.connect(trusting)
        answered.say(GET % b"x")
        await answered.answer()
        stuck = await served.connect(trusting)
        stuck.say(GET % b"never")
        await served.until(5)
        async with asyncio.timeout(PATIENCE):
            await served.server.stop()
        assert not served.door.connections
        for talk in (handshake, idle, half, answered, stuck):
            await talk.end()
