# SPDX-License-Identifier: Apache-2.0
"""HTTPS to other people's servers, against a server on loopback with an authority of the test's own."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from posthouse.composing.ground import Ground, real_machine
from posthouse.config import Settings
from posthouse.net import web_client
from posthouse.net.clock import SystemClock
from posthouse.net.web_client import USER_AGENT, HttpsClient, is_public
from posthouse.ports import IPAddress, NameNotFound, ResolverFault, WebClient, WebFault
from tests.mailauth.certificates import Issued, issue
from tests.net.static_resolver import StaticResolver

ON_BOTH_LOOPS = True
HOST = "mta-sts.bob.test"
NOW = SystemClock().wall()
ROOT = issue("root", is_ca=True, now=NOW)
GOOD = issue(HOST, ROOT, names=[HOST], now=NOW)
OLD = issue(HOST, ROOT, names=[HOST], begins=-30, ends=-2, now=NOW)
ELSEWHERE = issue("mail.eve.test", ROOT, names=["mail.eve.test"], now=NOW)
WILD = issue("wild", ROOT, names=["*.bob.test"], now=NOW)
FOREIGN = issue(HOST, issue("other root", is_ca=True, now=NOW), names=[HOST], now=NOW)
ADDRESSED = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
NUMBER = issue("number", ROOT, extensions=[(ADDRESSED, False)], now=NOW)
SELF = issue(HOST, names=[HOST], now=NOW)

Script = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


class Site:
    """What was asked of it, and by which names."""

    def __init__(self, folder: Path) -> None:
        self.port = 0
        self.requests: list[bytes] = []
        self.names: list[str | None] = []
        self.resolver = StaticResolver({HOST: {"ADDRESS": [ipaddress.ip_address("127.0.0.1")]}})
        roots = folder / "roots.pem"
        roots.write_bytes(ROOT.pem().partition(b"-----END PRIVATE KEY-----\n")[2])
        self.client: WebClient = HttpsClient(self.resolver, ca_file=str(roots))
        self.for_strangers: WebClient = HttpsClient(self.resolver, ca_file=str(roots), only_public=True)

    def url(self, path: str = "/.well-known/mta-sts.txt", host: str = HOST) -> str:
        return f"https://{host}:{self.port}{path}"

    async def get(self, path: str = "/.well-known/mta-sts.txt", *, limit: int = 1000, seconds: float = 10.0) -> tuple:
        reply = await self.client.get(self.url(path), limit=limit, seconds=seconds)
        return reply.status, reply.body

    async def fault(self, **fields: object) -> WebFault:
        with pytest.raises(WebFault) as caught:
            await self.get(**fields)  # type: ignore[arg-type]  # a test's short cut
        return caught.value


def saying(head: str, body: bytes = b"") -> Script:
    async def script(_request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)

    return script


FINE = saying("HTTP/1.1 200 OK\nContent-Type: text/plain\nContent-Length: 5", b"hello")


@asynccontextmanager
async def serving(script: Script, folder: Path, issued: Issued = GOOD) -> AsyncIterator[Site]:
    site = Site(folder)
    path = folder / "site.pem"
    path.write_bytes(issued.pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    context.sni_callback = lambda _tls, name, _context: site.names.append(name)
    tasks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            size = next(
                (int(line[16:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
            )
            site.requests.append(head + await reader.readexactly(size))
            await script(site.requests[-1], writer)
            await writer.drain()
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            pass  # the client went away, as some tests want
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(talk(reader, writer))
        tasks.add(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


@pytest.mark.parametrize("issued", [GOOD, WILD])
async def test_get(issued: Issued, tmp_path: Path) -> None:
    async with serving(FINE, tmp_path, issued) as site:
        reply = await site.client.get(site.url("/a/b?c=d"), limit=5, seconds=10)
        assert (reply.status, reply.body, reply.headers["content-type"]) == (200, b"hello", "text/plain")
        assert site.requests[0].startswith(b"GET /a/b?c=d HTTP/1.1\r\n")
        assert f"host: {HOST}:{site.port}\r\n".encode() in site.requests[0].lower()
        assert site.requests[0].count(f"\r\nUser-Agent: {USER_AGENT}\r\n".encode()) == 1  # RFC 8555 §6.1
        assert site.names == [HOST]  # RFC 8461 §7.1


async def test_post(tmp_path: Path) -> None:
    async with serving(FINE, tmp_path) as site:
        headers = {"Content-Type": "application/tlsrpt+gzip"}
        reply = await site.client.post(site.url("/r"), b"\x1f\x8breport", headers=headers, limit=100, seconds=10)
        assert reply.status == 200
        assert site.requests[0].startswith(b"POST /r HTTP/1.1\r\n")
        assert site.requests[0].endswith(b"\r\n\r\n\x1f\x8breport")
        assert b"application/tlsrpt+gzip" in site.requests[0]


@pytest.mark.parametrize(
    ("issued", "result"),
    [
        (ELSEWHERE, "certificate-host-mismatch"),
        (OLD, "certificate-expired"),
        (FOREIGN, "certificate-not-trusted"),
        (SELF, "certificate-not-trusted"),
    ],
)
async def test_certificates_that_are_not_good(issued: Issued, result: str, tmp_path: Path) -> None:
    async with serving(FINE, tmp_path, issued) as site:
        fault = await site.fault()
        assert fault.result == result
        assert HOST in str(fault)
        assert site.requests == []


@pytest.mark.parametrize(
    "script",
    [
        saying("HTTP/1.1 200 OK\nContent-Length: 1001", b"x" * 1001),
        saying("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n"),
        saying("HTTP/1.1 200 OK\nConnection: close", b"x" * 100_000),
    ],
)
async def test_too_large_answers_are_cut_off(script: Script, tmp_path: Path) -> None:
    async with serving(script, tmp_path) as site:
        fault = await site.fault()
        assert "1000 octets" in str(fault)
        assert fault.result == ""


async def test_compressed_answers_are_left_as_they_are(tmp_path: Path) -> None:
    """No bomb goes off: octets are counted and given as they came."""
    script = saying("HTTP/1.1 200 OK\nContent-Encoding: gzip\nContent-Length: 3", b"\x1f\x8b\x08")
    async with serving(script, tmp_path) as site:
        assert await site.get() == (200, b"\x1f\x8b\x08")
        assert b"accept-encoding: identity" in site.requests[0].lower()


async def test_a_server_that_says_nothing(tmp_path: Path) -> None:
    hung = asyncio.Event()

    async def script(_request: bytes, _writer: asyncio.StreamWriter) -> None:
        await hung.wait()

    async with serving(script, tmp_path) as site:
        fault = await site.fault(seconds=0.3)
        assert "no answer within" in str(fault)


async def test_a_server_that_stops_in_the_middle(tmp_path: Path) -> None:
    """It began in time; the whole of it never comes."""
    hung = asyncio.Event()

    async def script(_request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx")
        await writer.drain()
        await hung.wait()

    async with serving(script, tmp_path) as site:
        assert "no answer within" in str(await site.fault(seconds=0.3))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_not_followed(status: int, tmp_path: Path) -> None:
    script = saying(f"HTTP/1.1 {status} Moved\nLocation: https://{HOST}/elsewhere\nContent-Length: 0")
    async with serving(script, tmp_path) as site:
        assert await site.get() == (status, b"")
        assert len(site.requests) == 1


@pytest.mark.parametrize(
    "script",
    [
        saying("nonsense"),
        saying("HTTP/1.1 200 OK\nContent-Length: 50", b"too short"),
        saying("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", b"zz\r\n"),
        saying("HTTP/1.1 200 OK\n" + "X: y\n" * 100_000 + "Content-Length: 0"),
    ],
)
async def test_answers_that_are_none(script: Script, tmp_path: Path) -> None:
    async with serving(script, tmp_path) as site:
        assert (await site.fault()).result == ""


@pytest.mark.parametrize(
    "url",
    [
        "http://mta-sts.bob.test/",
        "https://",
        "https:///path",
        "ftp://mta-sts.bob.test/",
        "https://user:secret@mta-sts.bob.test/",
        "https://[::1/",
        "https://mta-sts.bob.test:99999/",
        "nonsense",
        f"https://{HOST}:1/\x7f",
        f"https://{HOST}:1/?\x00",
        f"https://{HOST}:1/\ud800",
        f"https://{HOST}:1/{'a' * 70_000}",
    ],
)
async def test_what_is_no_https_address(url: str, tmp_path: Path) -> None:
    with pytest.raises(WebFault):
        await Site(tmp_path).client.get(url, limit=10, seconds=1)


@pytest.mark.parametrize("host", ["m\u00e4rz.test", "a" * 64 + ".test", "a\x00b.test", "%00", "a..b", ".test", "a b"])
async def test_names_that_cannot_be_said(host: str, tmp_path: Path) -> None:
    """Whatever a stranger's DNS says of them."""
    async with serving(FINE, tmp_path) as site:
        site.resolver.zone[host] = site.resolver.zone[HOST]
        with pytest.raises(WebFault):
            await site.client.get(site.url(host=host), limit=10, seconds=1)
        assert site.requests == []


@pytest.mark.parametrize("fault", [NameNotFound("x"), ResolverFault("x"), None])
async def test_hosts_without_an_address(fault: Exception | None, tmp_path: Path) -> None:
    class Silent(StaticResolver):
        async def addresses(self, host: str, version: int = 0) -> list[IPAddress]:
            if fault is not None:
                raise fault
            return []

    with pytest.raises(WebFault):
        await HttpsClient(Silent()).get(f"https://{HOST}/", limit=10, seconds=1)


async def test_the_next_address_is_tried(tmp_path: Path) -> None:
    async with serving(FINE, tmp_path) as site:
        site.resolver.zone[HOST]["ADDRESS"] = [
            ipaddress.ip_address("::1"),
            ipaddress.ip_address("127.0.0.1"),
        ]  # nothing listens on ::1
        assert await site.get() == (200, b"hello")


async def test_nobody_listens(tmp_path: Path) -> None:
    async with serving(FINE, tmp_path) as site:
        pass
    fault = await site.fault()
    assert "no connection" in str(fault)
    assert fault.result == ""


# --- addresses without names ----------------------------------------------------------------------


async def test_an_address_is_reached_without_its_name(tmp_path: Path) -> None:
    async with serving(FINE, tmp_path, NUMBER) as site:
        reply = await site.client.get(site.url("/directory", host="127.0.0.1"), limit=5, seconds=10)
        assert reply.body == b"hello"
        assert f"host: 127.0.0.1:{site.port}\r\n".encode() in site.requests[0].lower()
        assert site.names == [None], "RFC 6066 §3: no literal is a server name"


async def test_a_certificate_must_be_good_for_the_address(tmp_path: Path) -> None:
    async with serving(FINE, tmp_path) as site:
        with pytest.raises(WebFault) as caught:
            await site.client.get(site.url(host="127.0.0.1"), limit=5, seconds=10)
        assert caught.value.result == "certificate-host-mismatch"


async def test_an_address_of_version_6_stands_in_brackets(tmp_path: Path) -> None:
    with pytest.raises(WebFault, match="no connection"):  # it was understood, and nobody listens there
        await Site(tmp_path).client.get("https://[::1]:9/", limit=5, seconds=10)


# --- addresses that strangers choose --------------------------------------------------------------


@pytest.mark.parametrize("host", [HOST, "127.0.0.1"])
async def test_strangers_lead_nobody_into_private_networks(host: str, tmp_path: Path) -> None:
    async with serving(FINE, tmp_path, NUMBER if host != HOST else GOOD) as site:
        site.resolver.zone[HOST]["ADDRESS"] = [ipaddress.ip_address(each) for each in ("::ffff:127.0.0.1", "127.0.0.1")]
        with pytest.raises(WebFault, match="no public address"):
            await site.for_strangers.get(site.url(host=host), limit=5, seconds=10)
        with pytest.raises(WebFault, match="no public address"):
            await site.for_strangers.post(site.url(host=host), b"x", headers={}, limit=5, seconds=10)
        assert site.requests == []


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),  # a network that reaches IPv4 by NAT64
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.0.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("::127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::1", False),
        ("fe80::1", False),
        ("fec0::1", False),
        ("fd00::1", False),
        ("ff02::1", False),
    ],
)
async def test_what_is_public(address: str, expected: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) == expected


@pytest.mark.parametrize(
    ("private_web", "has_public", "expected"),
    [(False, True, "public"), (True, True, "any"), (False, False, "any")],
)
async def test_which_client_asks_for_strangers(private_web: bool, has_public: bool, expected: str) -> None:
    machine = replace(
        real_machine(),
        web=lambda _: "any",  # names instead of clients
        public_web=(lambda _: "public") if has_public else None,
    )
    settings = Settings.model_validate({"hostname": "mx.alice.test", "transport": {"private_web": private_web}})
    ground = object.__new__(Ground)  # of all rooms it needs these two
    object.__setattr__(ground, "settings", settings)
    object.__setattr__(ground, "machine", machine)
    assert ground.web_for_strangers(StaticResolver()) == expected


def test_the_real_machine_keeps_strangers_out() -> None:
    public = real_machine().public_web
    assert public is not None
    client = public(StaticResolver())
    assert isinstance(client, HttpsClient)
    assert client._only_public


class InOrder(StaticResolver):
    async def addresses(self, host: str, version: int = 0) -> list[IPAddress]:
        return self._look(host, "ADDRESS")


async def test_an_address_that_is_silent_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_client, "CONNECT_SECONDS", 0.2)
    held: list[asyncio.StreamWriter] = []
    async with serving(FINE, tmp_path) as site:
        silent = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.2", site.port)
        both = [ipaddress.ip_address(text) for text in ("127.0.0.2", "127.0.0.1")]
        client = HttpsClient(InOrder({HOST: {"ADDRESS": both}}), ca_file=str(tmp_path / "roots.pem"))
        try:
            reply = await client.get(site.url(), limit=10, seconds=10)
        finally:
            silent.close()
            for writer in held:
                writer.close()
        assert (reply.status, reply.body) == (200, b"hello")
        assert len(held) == 1
