# SPDX-License-Identifier: Apache-2.0
"""TLS on the driver: STARTTLS, implicit TLS, what was said in the clear, broken handshakes."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from posthouse.net.clock import SystemClock
from posthouse.net.session import ConnectionLimits, TlsRefused
from posthouse.net.tls import TLS_RECORD, CertificateFiles, CertificateStore, LoopTlsUpgrader
from posthouse.ports import TlsInfo
from tests.net.conftest import make_files
from tests.net.echo import Client, House, within

ON_BOTH_LOOPS = True
QUICK = ConnectionLimits(handshake=0.1, write_stall=1.0, linger=0.1, close=0.5)


async def start_tls(client: Client, trusting: ssl.SSLContext) -> None:
    assert await client.say(b"STARTTLS") == b"go\r\n"
    await within(lambda: client.writer.start_tls(trusting, server_hostname="mail.example.test"))


async def test_starttls(upgrader: LoopTlsUpgrader, trusting: ssl.SSLContext) -> None:
    async with House(tls=upgrader) as house:
        client = await house.connect()
        await client.line()
        await start_tls(client, trusting)
        assert await client.say(b"secret") == b"secret\r\n"
        assert await client.say(b"QUIT") == b"bye\r\n"
        assert await client.rest() == b""
        await client.close()
    [session] = house.sessions
    assert session.lines == [b"STARTTLS", b"secret", b"QUIT"]
    assert session.was_secured
    assert session.engine.tls == session.tls
    assert session.tls is not None
    assert session.tls.version == "TLSv1.3"
    assert session.tls.server_name == "mail.example.test"
    assert session.ends == 1


async def test_implicit_tls_is_known_before_the_session_begins(
    upgrader: LoopTlsUpgrader, trusting: ssl.SSLContext
) -> None:
    async with House(tls=upgrader, is_implicit_tls=True) as house:
        client = await house.connect(trusting)
        assert await client.line() == b"hello\r\n"
        assert await client.say(b"big 3000000") == b"here\r\n"
        assert len(await within(lambda: client.reader.readexactly(3000002))) == 3000002
        assert await client.say(b"QUIT") == b"bye\r\n"
        await client.close()
    [session] = house.sessions
    assert session.tls is not None
    assert not session.was_secured


def client_hello_and_more(sock: socket.socket, trusting: ssl.SSLContext, more: bytes) -> bytes:
    """Do a TLS 1.3 handshake by hand and send the first command in the same packet as its end."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting.wrap_bio(incoming, outgoing, server_hostname="mail.example.test")
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            sock.sendall(outgoing.read())
            incoming.write(sock.recv(65536))
    tls.write(more)
    sock.sendall(outgoing.read())
    got = b""
    while True:
        try:
            part = tls.read(65536)
        except ssl.SSLWantReadError:
            octets = sock.recv(65536)
            if not octets:
                return got
            incoming.write(octets)
            continue
        except ssl.SSLZeroReturnError:
            return got
        if not part:
            return got
        got += part


@pytest.mark.parametrize("is_implicit", [True, False])
async def test_first_command_in_the_packet_that_ends_the_handshake(
    upgrader: LoopTlsUpgrader, trusting: ssl.SSLContext, is_implicit: bool
) -> None:
    """It comes before the driver's task has heard of the handshake, and must not be taken for plaintext."""

    def talk() -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            if not is_implicit:
                assert sock.recv(100) == b"hello\r\n"
                sock.sendall(b"STARTTLS\r\n")
                assert sock.recv(100) == b"go\r\n"
            return client_hello_and_more(sock, trusting, b"early\r\nQUIT\r\n")

    async with House(tls=upgrader, is_implicit_tls=is_implicit) as house:
        port = house.port
        got = await asyncio.to_thread(talk)
    assert got == (b"hello\r\n" if is_implicit else b"") + b"early\r\nbye\r\n"


async def test_plaintext_pipelined_behind_starttls_is_never_executed(upgrader: LoopTlsUpgrader) -> None:
    """CVE-2011-0411: neither before nor after the handshake."""
    async with House(tls=upgrader) as house:
        client = await house.connect()
        await client.line()
        client.write(b"STARTTLS", b"injected")
        assert await client.line() == b"go\r\n"
        client.write(b"injected too")  # where the ClientHello should come
        assert b"injected" not in await client.rest()
        await client.close()
        await within(house.ended.wait)
    assert house.sessions[0].lines == [b"STARTTLS"]


async def test_plaintext_in_one_packet_with_starttls_then_a_good_handshake(
    upgrader: LoopTlsUpgrader, trusting: ssl.SSLContext
) -> None:
    async with House(tls=upgrader) as house:
        client = await house.connect()
        await client.line()
        client.write(b"STARTTLS", b"injected")
        assert await client.line() == b"go\r\n"
        await within(lambda: client.writer.start_tls(trusting, server_hostname="mail.example.test"))
        assert await client.say(b"mine") == b"mine\r\n"
        await client.close()
    assert b"injected" not in house.sessions[0].lines


@pytest.mark.parametrize("is_implicit", [True, False])
async def test_half_open_handshake_ends_by_its_limit(upgrader: LoopTlsUpgrader, is_implicit: bool) -> None:
    async with House(tls=upgrader, is_implicit_tls=is_implicit, limits=QUICK) as house:
        client = await house.connect()
        if not is_implicit:
            await client.line()
            assert await client.say(b"STARTTLS") == b"go\r\n"
        client.writer.write(b"\x16\x03\x01")
        assert await client.rest() == b""
        await client.close()
        await within(lambda: house.becomes(0))
    assert [session.ends for session in house.sessions] == ([] if is_implicit else [1])


async def test_peer_that_breaks_off_the_handshake(upgrader: LoopTlsUpgrader) -> None:
    async with House(tls=upgrader) as house:
        client = await house.connect()
        await client.line()
        assert await client.say(b"STARTTLS") == b"go\r\n"
        await client.close()
        await within(house.ended.wait)
    assert house.sessions[0].ends == 1


async def test_client_that_does_not_trust_the_certificate(upgrader: LoopTlsUpgrader) -> None:
    async with House(tls=upgrader, is_implicit_tls=True) as house:
        with pytest.raises(ssl.SSLCertVerificationError):
            await house.connect(ssl.create_default_context())
        client = await house.connect()  # and the listener goes on
        await client.close()
        await within(lambda: house.becomes(0))


async def test_idle_peer_on_tls_is_told(upgrader: LoopTlsUpgrader, trusting: ssl.SSLContext) -> None:
    async with House(limit=0.1, tls=upgrader, is_implicit_tls=True) as house:
        client = await house.connect(trusting)
        assert await client.rest() == b"hello\r\ntoo slow\r\n"
        await client.close()


async def test_shut_down_during_a_handshake(upgrader: LoopTlsUpgrader) -> None:
    async with House(tls=upgrader, is_implicit_tls=True) as house:
        client = await house.connect()
        await within(lambda: house.becomes(1))
        await within(lambda: house.listener.stop(1.0))
        assert await client.rest() == b""
        await client.close()


async def test_tls_1_1_is_refused(upgrader: LoopTlsUpgrader, trusting: ssl.SSLContext) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with House(tls=upgrader, is_implicit_tls=True) as house:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):  # the latter where the alert comes too late
            await house.connect(old)


async def test_binding_is_given_for_tls_1_2_and_not_for_1_3(files: CertificateFiles, upgrader: LoopTlsUpgrader) -> None:
    """RFC 9266 §3 wants tls-exporter over TLS 1.3, which Python's ssl has not."""
    import hashlib

    older = ssl.create_default_context(cafile=str(files.certificate))
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    async with House(tls=upgrader, is_implicit_tls=True) as house:
        client = await house.connect(older)
        await client.line()
        der = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        await client.close()
        newer = ssl.create_default_context(cafile=str(files.certificate))
        client = await house.connect(newer)
        await client.line()
        await client.close()
    first, second = (session.tls for session in house.sessions)
    assert first is not None
    assert second is not None
    assert (first.version, first.binding) == ("TLSv1.2", hashlib.sha256(der).digest())
    assert (second.version, second.binding) == ("TLSv1.3", None)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_sessions_are_resumed_across_names(tmp_path: Path, version: ssl.TLSVersion) -> None:
    one = make_files(tmp_path / "one", "mail.example.test")
    two = make_files(tmp_path / "two", "*.other.test")
    upgrader = LoopTlsUpgrader(CertificateStore([one, two], SystemClock()))
    trusting = ssl.create_default_context(cafile=str(one.certificate))
    trusting.load_verify_locations(cafile=str(two.certificate))
    trusting.maximum_version = version

    def talk(name: str, session: Any) -> tuple[Any, bool]:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            tls = trusting.wrap_socket(sock, server_hostname=name, session=session)
            with tls:
                tls.recv(100)
                tls.sendall(b"QUIT\r\n")
                tls.recv(100)
                reused = tls.session_reused
                assert reused is not None
                return tls.session, reused

    async with House(tls=upgrader, is_implicit_tls=True) as house:
        port = house.port
        for name in ("mail.example.test", "pop.other.test"):
            ticket, is_reused = await asyncio.to_thread(talk, name, None)
            assert not is_reused
            assert (await asyncio.to_thread(talk, name, ticket))[1]


async def test_certificate_by_name(tmp_path: Path) -> None:
    """SNI: exact name, wildcard, unknown and no name."""
    one = make_files(tmp_path / "one", "mail.example.test", "*.example.test")
    two = make_files(tmp_path / "two", "mail.other.test")
    upgrader = LoopTlsUpgrader(CertificateStore([one, two], SystemClock()))
    anybody = ssl.create_default_context()
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    der = {path: ssl.PEM_cert_to_DER_cert(path.certificate.read_text()) for path in (one, two)}
    table = [
        ("mail.example.test", one),
        ("POP.example.test", one),
        ("mail.other.test", two),
        ("sub.mail.other.test", one),
        ("127.0.0.1", one),  # no SNI for addresses
    ]
    async with House(tls=upgrader, is_implicit_tls=True) as house:
        for name, expected in table:
            client = await house.connect(anybody, name)
            await client.line()
            assert client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True) == der[expected], name
            await client.close()


async def test_reload_serves_the_new_certificate_and_keeps_open_connections(tmp_path: Path) -> None:
    files = make_files(tmp_path, "mail.example.test")
    store = CertificateStore([files], SystemClock())
    before = ssl.create_default_context(cafile=str(files.certificate))
    async with House(tls=LoopTlsUpgrader(store), is_implicit_tls=True) as house:
        old = await house.connect(before)
        await old.line()
        context = store.context
        assert store.refresh()
        assert store.context is context, "nothing has changed"
        files.certificate.unlink()
        make_files(tmp_path, "mail.example.test")
        assert store.refresh()
        new = await house.connect(ssl.create_default_context(cafile=str(files.certificate)))
        assert await new.line() == b"hello\r\n"
        assert await old.say(b"still") == b"still\r\n"
        with pytest.raises(ssl.SSLCertVerificationError):
            await house.connect(before)
        for client in (old, new):
            await client.close()


def test_a_reload_keeps_an_authoritys_certificate_that_cannot_be_read_just_now(tmp_path: Path) -> None:
    """Rather than to serve the self-signed one in its place."""
    folders = tmp_path / "given", tmp_path / "own"
    for folder in folders:
        folder.mkdir()
    given, own = (make_files(folder, f"{folder.name}.example.test") for folder in folders)
    store = CertificateStore([replace(given, is_optional=True), own], SystemClock())
    before = store.facts
    octets = given.certificate.read_bytes()
    given.certificate.write_bytes(b"")
    store.reload()
    assert store.facts == before
    assert not store.refresh()
    given.certificate.write_bytes(octets)
    store.reload()
    assert store.refresh()


def test_nobody_is_asked_for_the_password_of_a_key(tmp_path: Path) -> None:
    """The whole server would wait for it."""
    files = make_files(tmp_path, "mail.example.test")
    key = load_pem_private_key(files.key.read_bytes(), None)
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    code = (
        "import sys; from pathlib import Path; from posthouse.net.tls import CertificateFiles, why_unusable;"
        " print(why_unusable(CertificateFiles(Path(sys.argv[1]), Path(sys.argv[2]))))"
    )
    silent, holder = os.pipe()  # where an answer would come from, and never comes
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, files.certificate, files.key],
            stdin=silent,
            capture_output=True,
            timeout=30,
            start_new_session=True,
            check=True,
        )
    finally:
        os.close(silent)
        os.close(holder)
    assert b"password" in done.stdout
    assert b"pass phrase" not in done.stderr


async def test_simulated_upgrader() -> None:
    """The seam of the simulated world: TLS that is only said, and TLS that is refused."""

    class Said:
        def __init__(self, tls: TlsInfo | None) -> None:
            self.tls = tls

        async def upgrade(
            self, transport: asyncio.Transport, protocol: asyncio.Protocol, limit: float, early: bytes
        ) -> tuple[asyncio.Transport, TlsInfo]:
            if self.tls is None:
                raise TlsRefused("simulated")
            transport.resume_reading()
            return transport, self.tls

    async with House(tls=Said(TlsInfo("TLSv1.3", "none"))) as house:
        client = await house.connect()
        await client.line()
        assert await client.say(b"STARTTLS") == b"go\r\n"
        assert await client.say(b"on") == b"on\r\n"
        await client.close()
    assert house.sessions[0].tls == TlsInfo("TLSv1.3", "none")
    async with House(tls=Said(None)) as house:
        client = await house.connect()
        await client.line()
        assert await client.say(b"STARTTLS") == b"go\r\n"
        assert await client.rest() == b""
        await client.close()


def test_buffers_of_plain_asyncio_are_one_record(upgrader: LoopTlsUpgrader) -> None:
    from asyncio import sslproto

    assert sslproto.SSLProtocol.max_size == TLS_RECORD
