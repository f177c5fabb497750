# SPDX-License-Identifier: Apache-2.0
"""The SMTP client on real sockets: connecting, TLS in all its uses, flow control, ends."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial

import pytest

from posthouse.mail.address import parse_address
from posthouse.mail.envelope import Envelope, ForwardPath, ReversePath
from posthouse.net import smtp_transport
from posthouse.net.session import TlsRefused
from posthouse.net.smtp_connection import UNREAD_BOUND, SmtpConnection
from posthouse.net.smtp_tls import LoopTlsStarter, server_name
from posthouse.net.smtp_transport import MAX_REMEMBERED_HOSTS, SmtpTransport
from posthouse.net.tls import CertificateFiles
from posthouse.outcome import Status
from posthouse.ports import ConnectFault, MailConnection, MailTransport, TlsInfo
from posthouse.protocol.smtp.client import SmtpClient
from tests.net.smtp_host import Guest, hosting, until

ON_BOTH_LOOPS = True

LETTER = [b"Received: here\r\n", memoryview(b"Subject: hello\r\n\r\n.dot\r\n")]
ENVELOPE = Envelope(
    ReversePath(parse_address("alice@alice.test")),
    (ForwardPath(parse_address("bob@bob.test")), ForwardPath(parse_address("carol@bob.test"))),
)


class Chance:
    def octets(self, count: int) -> bytes:
        return bytes(count)


@pytest.fixture
def server_tls(files: CertificateFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    return context


def transport(ca_file: str | None = None) -> SmtpTransport:
    return SmtpTransport(Chance(), LoopTlsStarter(ca_file=ca_file))


async def deliver(connection: SmtpConnection) -> list[str]:
    return [str(outcome.status) for outcome in await connection.send(ENVELOPE, LETTER)]


async def fault(awaitable: object) -> ConnectFault:
    with pytest.raises(ConnectFault) as caught:
        await awaitable  # type: ignore[misc]  # a coroutine
    return caught.value


def test_the_ports_are_fulfilled() -> None:
    port: MailTransport = transport()
    connection: type[MailConnection] = SmtpConnection
    assert port is not None
    assert connection is not None


@pytest.mark.parametrize("keywords", [(), ("PIPELINING", "SIZE 1000000", "8BITMIME")])
async def test_letters_over_one_connection(keywords: tuple[str, ...]) -> None:
    async def script(guest: Guest) -> None:
        await guest.greet(*keywords)
        for _ in range(3):
            content = await guest.letter()
            assert content == b"Received: here\r\nSubject: hello\r\n\r\n..dot\r\n.\r\n"
        await guest.quit()

    async with hosting(script) as host:
        connection = await transport().connect(host.target())
        assert connection.is_usable
        assert connection.tls is None
        assert connection.extensions["HELP"] == ""
        for _ in range(3):
            assert await deliver(connection) == ["2.6.0", "2.6.0"]
        await connection.close()
        assert not connection.is_usable
        assert len(host.visits) == 1


async def test_lmtp() -> None:
    async def script(guest: Guest) -> None:
        await guest.greet("PIPELINING", verb="LHLO")
        await guest.letter()
        await guest.say("452 4.2.2 full")

    async with hosting(script) as host:
        connection = await transport().connect(host.target(is_lmtp=True, tls="none"))
        assert await deliver(connection) == ["2.6.0", "4.2.2"]
        await connection.close()


# --- TLS ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", ["opportunistic", "require", "verify"])
async def test_starttls(use: str, server_tls: ssl.SSLContext, files: CertificateFiles) -> None:
    """A self-signed certificate is enough unless it is to be verified, then it must be trusted."""

    async def script(guest: Guest) -> None:
        await guest.greet("STARTTLS", "PIPELINING")
        await guest.start_tls(server_tls)
        await guest.ehlo("PIPELINING", "SIZE 5000")
        await guest.letter()
        await guest.quit()

    async with hosting(script) as host:
        ca_file = str(files.certificate) if use == "verify" else None
        connection = await transport(ca_file).connect(host.target(tls=use))
        assert connection.tls is not None
        assert connection.tls.version == "TLSv1.3"
        assert connection.tls.server_name == "mail.example.test"
        assert connection.tls.is_verified == (use == "verify")
        assert "STARTTLS" not in connection.extensions
        [outcome, _] = await connection.send(ENVELOPE, LETTER)
        assert outcome.tls == ("TLSv1.3 (certificate)" if use == "verify" else "TLSv1.3")
        await connection.close()


async def test_implicit_tls(server_tls: ssl.SSLContext, files: CertificateFiles) -> None:
    """The greeting may come with the end of the handshake; it must not be taken for plaintext."""

    async def script(guest: Guest) -> None:
        await guest.greet("PIPELINING")
        await guest.letter()
        await guest.quit()

    async with hosting(script, tls=server_tls) as host:
        connection = await transport(str(files.certificate)).connect(host.target(tls="implicit"))
        assert connection.tls is not None
        assert connection.tls.is_verified
        assert await deliver(connection) == ["2.6.0", "2.6.0"]
        await connection.close()


@pytest.mark.parametrize("use", ["verify", "implicit"])
@pytest.mark.parametrize("trust", [False, True])
async def test_a_certificate_that_is_not_good_is_refused(
    use: str, trust: bool, server_tls: ssl.SSLContext, files: CertificateFiles
) -> None:
    """Not trusted, or for another name."""

    async def script(guest: Guest) -> None:
        await guest.greet("STARTTLS")
        await guest.start_tls(server_tls)
        await guest.hear()

    async with hosting(script, tls=server_tls if use == "implicit" else None) as host:
        ca_file = str(files.certificate) if trust else None
        name = "other.example.test" if trust else "mail.example.test"
        found = await fault(transport(ca_file).connect(host.target(tls=use, host=name)))
        assert found.outcome.status == Status(4, 7, 5)
        assert found.outcome.diagnostic.startswith(f"TLS did not start: the certificate is not good for {name}")
        assert found.host_is_down
        assert len(host.visits) <= 1


async def broken_tls(guest: Guest) -> None:
    await guest.greet("STARTTLS")
    assert await guest.hear() == "STARTTLS"
    await guest.say("220 go", "what is a handshake?")


async def closes_at_starttls(guest: Guest) -> None:
    await guest.greet("STARTTLS")
    assert await guest.hear() == "STARTTLS"


@pytest.mark.parametrize("broken", [broken_tls, closes_at_starttls])
async def test_opportunistic_tls_that_fails_is_tried_once_without(broken: object) -> None:
    """RFC 7435 §3"""

    async def plain(guest: Guest) -> None:
        await guest.greet("STARTTLS")
        await guest.letter()
        await guest.quit()

    async with hosting(broken, plain) as host:  # type: ignore[arg-type]  # one of the two above
        connection = await transport().connect(host.target())
        assert connection.tls is None
        assert await deliver(connection) == ["2.6.0", "2.6.0"]
        await connection.close()
        assert len(host.visits) == 2


@pytest.mark.parametrize("changes", [{"tls": "require"}, {"username": "alice", "password": "secret"}])
async def test_required_tls_that_fails_is_not_tried_without(changes: dict[str, str]) -> None:
    """Required, or needed to protect a password."""
    async with hosting(broken_tls) as host:
        found = await fault(transport().connect(host.target(**changes)))
        assert found.outcome.status == Status(4, 7, 5)
        assert len(host.visits) == 1
        assert not any("AUTH" in line for line in host.visits[0].heard)


async def test_plaintext_before_the_handshake_is_not_believed(server_tls: ssl.SSLContext) -> None:
    """CVE-2011-0411 on the wire: the forged EHLO reply comes in the same segment as the 220."""

    async def script(guest: Guest) -> None:
        await guest.greet("STARTTLS")
        assert await guest.hear() == "STARTTLS"
        guest.writer.write(b"220 go\r\n250-evil\r\n250 AUTH PLAIN\r\n")
        await guest.writer.start_tls(server_tls)
        await guest.ehlo("SIZE 77")
        await guest.quit()

    async with hosting(script) as host:
        connection = await transport().connect(host.target(tls="require"))
        assert connection.extensions == {"SIZE": "77", "HELP": ""}
        await connection.close()


async def test_tls_is_a_seam() -> None:
    """A simulated world says what was agreed on."""

    class Agreed:
        def __init__(self) -> None:
            self.asked: list[tuple[str, bool]] = []

        async def start(
            self, transport: asyncio.Transport, protocol: asyncio.Protocol, host: str, *, is_verified: bool, dane: None
        ) -> tuple[asyncio.Transport, TlsInfo]:
            self.asked.append((host, is_verified))
            if host == "refused.test":
                raise TlsRefused("no")
            return transport, TlsInfo("TLSv1.3", "none", host, is_verified)

    async def script(guest: Guest) -> None:
        await guest.greet("STARTTLS")
        assert await guest.hear() == "STARTTLS"
        await guest.say("220 go")
        await guest.ehlo()
        await guest.quit()

    world = Agreed()
    async with hosting(script) as host:
        connection = await SmtpTransport(Chance(), world).connect(host.target(tls="verify"))
        assert connection.tls == TlsInfo("TLSv1.3", "none", "mail.example.test", True)
        await connection.close()
        found = await fault(SmtpTransport(Chance(), world).connect(host.target(tls="verify", host="refused.test")))
        assert found.outcome.status == Status(4, 7, 5)
    assert world.asked == [("mail.example.test", True), ("refused.test", True)]


def test_server_names() -> None:
    assert server_name("Mail.Example.test.") == "Mail.Example.test"
    assert server_name("[192.0.2.1]") == "192.0.2.1"
    assert server_name("[IPv6:2001:db8::1]") == "2001:db8::1"
    for name in ("", ".", "a..b", "ü.test", "x" * 64 + ".test", "a." * 150):
        assert server_name(name) is None


# --- AUTH -----------------------------------------------------------------------------------------


async def test_login_on_loopback_needs_no_tls() -> None:
    async def script(guest: Guest) -> None:
        await guest.greet("AUTH PLAIN")
        assert await guest.hear() == "AUTH PLAIN AGFsaWNlAHNlY3JldA=="
        await guest.say("235 ok")
        await guest.quit()

    async with hosting(script) as host:
        connection = await transport().connect(host.target(username="alice", password="secret"))
        assert connection.is_usable
        await connection.close()


async def test_a_password_is_not_given_to_any_certificate(
    server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opportunistic TLS is for mail. Whoever stands between could show a certificate of his own."""
    monkeypatch.setattr(smtp_transport, "_is_loopback", lambda _: False)

    async def script(guest: Guest) -> None:
        await guest.greet("STARTTLS")
        await guest.start_tls(server_tls)
        await guest.hear()

    async with hosting(script) as host:
        found = await fault(transport().connect(host.target(username="alice", password="secret")))
        assert found.outcome.status == Status(4, 7, 5)
        assert not any("AUTH" in line for line in host.visits[0].heard)


async def test_login_refused() -> None:
    async def script(guest: Guest) -> None:
        await guest.greet("AUTH PLAIN")
        await guest.hear()
        await guest.say("535 5.7.8 no")

    async with hosting(script) as host:
        found = await fault(transport().connect(host.target(username="alice", password="wrong")))
        assert found.outcome.status == Status(4, 7, 8)


# --- no session -----------------------------------------------------------------------------------


async def test_nobody_listens() -> None:
    async with hosting(broken_tls) as host:
        target = host.target()
    found = await fault(transport().connect(target))
    assert found.outcome.status == Status(4, 4, 1)
    assert "refused" in found.outcome.diagnostic.lower()
    assert found.outcome.host == "mail.example.test"
    assert found.outcome.address == "127.0.0.1"
    assert found.host_is_down


async def test_our_own_want_says_nothing_about_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_socket(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    async with hosting(broken_tls) as host:
        monkeypatch.setattr(type(asyncio.get_running_loop()), "create_connection", no_socket, raising=False)
        try:
            found = await fault(transport().connect(host.target()))
        finally:
            monkeypatch.undo()
    assert found.outcome.status == Status(4, 3, 0)
    assert not found.host_is_down


@pytest.mark.parametrize(("greeting", "status"), [("554 5.7.1 no", (5, 7, 1)), ("421 busy", (4, 3, 2))])
async def test_refused_greeting(greeting: str, status: tuple[int, int, int]) -> None:
    async def script(guest: Guest) -> None:
        await guest.say(greeting)

    async with hosting(script) as host:
        found = await fault(transport().connect(host.target()))
        assert found.outcome.status == Status(*status)
        assert found.outcome.reply is not None
        assert found.host_is_down
        assert len(host.visits) == 1


async def test_a_host_that_hangs_up_at_once() -> None:
    async def script(guest: Guest) -> None:
        pass

    async with hosting(script) as host:
        found = await fault(transport().connect(host.target()))
        assert found.outcome.status == Status(4, 4, 2)
        assert found.host_is_down


async def test_a_host_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(guest: Guest) -> None:
        await guest.hear()

    monkeypatch.setattr(SmtpClient, "wait_limit", lambda _: 0.01)
    async with hosting(script) as host:
        found = await fault(transport().connect(host.target()))
        assert found.outcome.diagnostic == "no answer to the greeting in time (at the greeting)"


async def test_a_host_that_dribbles_gains_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is for the whole reply, not for each octet."""

    async def script(guest: Guest) -> None:
        guest.writer.write(b"220-")
        while not guest.writer.is_closing():
            guest.writer.write(b"x")
            await asyncio.sleep(0)

    monkeypatch.setattr(SmtpClient, "wait_limit", lambda _: 0.02)
    async with hosting(script) as host:
        found = await fault(transport().connect(host.target()))
        assert found.outcome.is_deferred


@pytest.mark.parametrize("is_secured", [False, True])
async def test_a_slow_host_is_told_from_one_that_takes_nothing(
    is_secured: bool, server_tls: ssl.SSLContext, files: CertificateFiles
) -> None:
    """What has left is seen, below TLS too: without it a letter over a slow line would time out at every try."""
    reads = asyncio.Event()

    async def script(guest: Guest) -> None:
        await guest.greet("STARTTLS" if is_secured else "SIZE")
        if is_secured:
            await guest.start_tls(server_tls)
            await guest.ehlo("SIZE")
        await reads.wait()
        while await guest.reader.read(64 * 1024):
            pass

    async with hosting(script) as host:
        connection = await transport(str(files.certificate)).connect(host.target())
        wire = connection._wire
        wire.write([bytes(8 << 20)])
        await until(lambda: not wire.has_moved())
        assert wire.has_backlog
        reads.set()
        await until(wire.has_moved)
        connection.abort()


async def test_unknown_use_of_tls_is_our_mistake() -> None:
    async with hosting(broken_tls) as host:
        with pytest.raises(ValueError, match="unknown use of TLS"):
            await transport().connect(host.target(tls="perhaps"))


# --- letters that meet trouble ----------------------------------------------------------------------

BIG = [b"Subject: big\r\n\r\n", (b"x" * 76 + b"\r\n") * 200_000]  # 15 MB


async def until_data(guest: Guest) -> None:
    while (await guest.hear()) != "DATA":
        await guest.say("250 ok")
    await guest.say("354 go")


async def test_large_content_waits_for_a_slow_host(server_tls: ssl.SSLContext) -> None:
    """Flow control: what is not taken is not piled up here, with and without TLS."""
    taken = 0

    def slow(is_tls: bool, go: asyncio.Event) -> object:
        async def script(guest: Guest) -> None:
            nonlocal taken
            await guest.greet("STARTTLS", "PIPELINING")
            if is_tls:
                await guest.start_tls(server_tls)
                await guest.ehlo("PIPELINING")
            await until_data(guest)
            await go.wait()
            taken = 0
            tail = b""
            while not tail.endswith(b"\r\n.\r\n"):
                piece = await guest.reader.read(1 << 18)
                taken += len(piece)
                tail = (tail + piece)[-5:]
            await guest.say("250 done")
            await guest.quit()

        return script

    for use in ("none", "require"):
        go = asyncio.Event()
        async with hosting(slow(use == "require", go)) as host:  # type: ignore[arg-type]  # the script above
            connection = await transport().connect(host.target(tls=use))
            sending = asyncio.ensure_future(connection.send(ENVELOPE, BIG))
            wire = connection._wire
            await until(partial(getattr, wire, "is_stuck"))
            assert wire.transport is not None
            assert wire.transport.get_write_buffer_size() < 1_000_000
            assert not sending.done()
            go.set()
            assert [outcome.is_delivered for outcome in await sending] == [True, True]
            assert taken == sum(len(piece) for piece in BIG) + 3
            await connection.close()


async def test_a_refusal_in_the_middle_of_the_content_is_heard() -> None:
    async def script(guest: Guest) -> None:
        await guest.greet("PIPELINING")
        await until_data(guest)
        await guest.reader.read(1000)
        await guest.say("552 5.3.4 too big")
        await guest.reader.read()

    async with hosting(script) as host:
        connection = await transport().connect(host.target())
        outcomes = await connection.send(ENVELOPE, BIG)
        assert [str(outcome.status) for outcome in outcomes] == ["5.3.4", "5.3.4"]
        assert not connection.is_usable
        await connection.close()


async def test_a_host_that_hangs_up_after_the_final_dot() -> None:
    """The letter stays in the queue: it may arrive twice, it is never lost."""

    async def script(guest: Guest) -> None:
        await guest.greet("PIPELINING")
        await until_data(guest)
        await guest.reader.readuntil(b"\r\n.\r\n")

    async with hosting(script) as host:
        connection = await transport().connect(host.target())
        outcomes = await connection.send(ENVELOPE, LETTER)
        assert [str(outcome.status) for outcome in outcomes] == ["4.4.2", "4.4.2"]
        assert "may arrive twice" in outcomes[0].diagnostic
        again = await connection.send(ENVELOPE, LETTER)
        assert [str(outcome.status) for outcome in again] == ["4.4.2", "4.4.2"]
        await connection.close()


async def test_a_host_that_stops_taking_content_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(guest: Guest) -> None:
        await guest.greet("PIPELINING")
        await until_data(guest)
        await asyncio.Event().wait()

    async with hosting(script) as host:
        connection = await transport().connect(host.target())
        monkeypatch.setattr(SmtpClient, "wait_limit", lambda _: 0.05)
        outcomes = await connection.send(ENVELOPE, BIG)
        assert [str(outcome.status) for outcome in outcomes] == ["4.4.2", "4.4.2"]
        assert outcomes[0].diagnostic == "no answer to the content in time"
        await connection.close()


async def test_an_idle_connection_that_ends_is_not_usable() -> None:
    go = asyncio.Event()

    async def script(guest: Guest) -> None:
        await guest.greet()
        await go.wait()
        await guest.say("421 4.4.2 idle")

    async with hosting(script) as host:
        connection = await transport().connect(host.target())
        assert connection.is_usable
        go.set()
        await until(lambda: not connection.is_usable)
        [outcome, _] = await connection.send(ENVELOPE, LETTER)
        assert outcome.reply is not None
        assert outcome.reply.code == 421
        await connection.close()


async def test_a_host_that_floods_an_idle_connection_is_dropped() -> None:
    async def script(guest: Guest) -> None:
        await guest.greet()
        while True:
            guest.writer.write(b"x" * (UNREAD_BOUND // 4))
            await guest.writer.drain()

    async with hosting(script) as host:
        connection = await transport().connect(host.target())
        await until(lambda: connection._wire.is_lost)
        assert not connection.is_usable
        await connection.close()


async def test_cancelling_a_letter_drops_the_connection() -> None:
    asked = asyncio.Event()

    async def script(guest: Guest) -> None:
        await guest.greet("PIPELINING")
        await guest.hear()
        asked.set()
        await guest.reader.read()

    async with hosting(script) as host:
        connection = await transport().connect(host.target())
        sending = asyncio.ensure_future(connection.send(ENVELOPE, LETTER))
        await asked.wait()
        with pytest.raises(RuntimeError):
            await connection.send(ENVELOPE, LETTER)
        assert not connection.is_usable
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert not connection.is_usable
        await connection.close()


async def test_a_host_whose_chunking_does_not_work_is_remembered() -> None:
    async def first(guest: Guest) -> None:
        await guest.greet("PIPELINING", "CHUNKING")
        while (await guest.hear()).startswith(("MAIL", "RCPT")):
            await guest.say("250 ok")

    async def second(guest: Guest) -> None:
        await guest.greet("PIPELINING", "CHUNKING")
        await until_data(guest)
        await guest.reader.read()

    async with hosting(first, second) as host:
        port = transport()
        for expected in ("BDAT", "DATA"):
            connection = await port.connect(host.target())
            sending = asyncio.ensure_future(connection.send(ENVELOPE, BIG))
            heard = host.visits[-1].heard
            await until(lambda heard=heard, word=expected: heard[-1].startswith(word))
            host.visits[-1].writer.transport.abort()
            await sending
            await connection.close()
        assert len(port._without_bdat) <= MAX_REMEMBERED_HOSTS
