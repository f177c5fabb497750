# SPDX-License-Identifier: Apache-2.0
"""TLS to other mail servers by policy: DANE, MTA-STS, what is told of it, and what happens where it fails."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from posthouse.mailauth.dane import usable
from posthouse.net.clock import SystemClock
from posthouse.net.smtp_tls import LoopTlsStarter, peer_chain
from posthouse.net.smtp_transport import SmtpTransport
from posthouse.outcome import Outcome, Status
from posthouse.ports import ConnectFault, DaneDemand, Target, TlsaRecord
from tests.mailauth.certificates import Issued, issue, record
from tests.net.smtp_host import Guest, hosting
from tests.net.test_smtp_transport import Chance, deliver

ON_BOTH_LOOPS = True
HOST = "mail.example.test"
NOW = SystemClock().wall()
ROOT = issue("root", is_ca=True, now=NOW)
MIDDLE = issue("middle", ROOT, is_ca=True, now=NOW)
LEAF = issue(HOST, MIDDLE, names=[HOST], now=NOW)
OLD = issue(HOST, MIDDLE, names=[HOST], begins=-30, ends=-2, now=NOW)
ELSEWHERE = issue("mail.eve.test", MIDDLE, names=["mail.eve.test"], now=NOW)
NAMELESS = issue(HOST, MIDDLE, now=NOW)  # no subject alternative name
SELF = issue(HOST, names=[HOST], now=NOW)


class Names:
    """What clients said as server name."""

    def __init__(self) -> None:
        self.heard: list[str | None] = []

    def __call__(self, _tls: object, name: str | None, _context: object) -> None:
        self.heard.append(name)


def server(issued: Issued, folder: Path, names: Names | None = None) -> ssl.SSLContext:
    path = folder / "chain.pem"
    path.write_bytes(issued.pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    context.sni_callback = names  # type: ignore[assignment]  # a callable of the same form
    return context


def transport(folder: Path) -> SmtpTransport:
    """One that trusts our root."""
    roots = folder / "roots.pem"
    roots.write_bytes(ROOT.pem().partition(b"-----END PRIVATE KEY-----\n")[2])
    return SmtpTransport(Chance(), LoopTlsStarter(ca_file=str(roots)))


def demand(*records: TlsaRecord, base: str = HOST, names: tuple[str, ...] = (HOST,)) -> DaneDemand:
    return DaneDemand(usable(records), base, names)


def serving(context: ssl.SSLContext) -> object:
    async def script(guest: Guest) -> None:
        await guest.greet("STARTTLS")
        await guest.start_tls(context)
        await guest.ehlo("REQUIRETLS")
        await guest.letter()
        await guest.quit()

    return script


async def clear(guest: Guest) -> None:
    await guest.greet("PIPELINING")
    await guest.letter()
    await guest.quit()


@pytest.mark.parametrize(
    ("leaf", "made", "trust"),
    [
        (LEAF, demand(record(3, 1, 1, LEAF)), "DANE-EE"),
        (LEAF, demand(record(2, 0, 1, ROOT)), "DANE-TA"),
        (LEAF, demand(record(2, 1, 2, MIDDLE)), "DANE-TA"),
        (LEAF, demand(record(2, 0, 1, ROOT), base="mx.eve.test", names=("mx.eve.test", HOST)), "DANE-TA"),
        (SELF, demand(record(3, 0, 1, SELF)), "DANE-EE"),
        (OLD, demand(record(3, 1, 1, OLD), base="mx.eve.test"), "DANE-EE"),
    ],
)
async def test_dane(leaf: Issued, made: DaneDemand, trust: str, tmp_path: Path) -> None:
    names = Names()
    async with hosting(serving(server(leaf, tmp_path, names))) as host:
        connection = await transport(tmp_path).connect(host.target(tls="dane", dane=made, is_way_sure=True))
        assert connection.tls is not None
        assert (connection.tls.is_verified, connection.tls.is_way_sure) == (True, True)
        assert connection.tls.words == f"TLSv1.3 ({trust})"
        assert connection.trouble is None
        assert names.heard == [made.base]  # RFC 7672 §8.1
        assert await deliver(connection) == ["2.6.0", "2.6.0"]
        await connection.close()


@pytest.mark.parametrize(
    ("leaf", "made", "result"),
    [
        (LEAF, demand(record(3, 1, 1, SELF)), "validation-failure"),
        (LEAF, demand(record(2, 0, 1, SELF)), "certificate-not-trusted"),
        (OLD, demand(record(2, 0, 1, ROOT)), "certificate-expired"),
        (ELSEWHERE, demand(record(2, 0, 1, ROOT)), "certificate-host-mismatch"),
    ],
)
async def test_dane_that_fails_is_no_session(leaf: Issued, made: DaneDemand, result: str, tmp_path: Path) -> None:
    """And nothing less is tried: RFC 7672 §2.2."""
    async with hosting(serving(server(leaf, tmp_path)), clear) as host:
        with pytest.raises(ConnectFault) as caught:
            await transport(tmp_path).connect(host.target(tls="dane", dane=made))
        assert len(host.visits) == 1
        assert [line.split()[0] for line in host.visits[0].heard] == ["EHLO", "STARTTLS"]
    assert caught.value.is_policy
    assert caught.value.outcome.is_deferred
    assert caught.value.trouble is not None
    assert (caught.value.trouble.result, caught.value.trouble.sending_ip) == (result, "127.0.0.1")
    assert caught.value.trouble.is_judged


@pytest.mark.parametrize("use", ["dane", "verify", "require"])
async def test_a_host_without_tls(use: str, tmp_path: Path) -> None:
    made = demand(record(3, 1, 1, LEAF)) if use == "dane" else None
    async with hosting(clear) as host:
        with pytest.raises(ConnectFault) as caught:
            await transport(tmp_path).connect(host.target(tls=use, dane=made))
    assert caught.value.trouble is not None
    assert caught.value.trouble.result == "starttls-not-supported"
    assert caught.value.trouble.is_judged
    assert caught.value.is_policy
    assert str(caught.value.outcome.status) == "4.7.4"


@pytest.mark.parametrize(
    ("reply", "is_judged"),
    [
        ("454 TLS not available for now", False),  # RFC 3207 §4
        ("502 what is that?", True),
        ("220 go", False),  # and then no handshake
        (None, False),
    ],
)
async def test_what_may_pass_is_no_judgement(reply: str | None, is_judged: bool, tmp_path: Path) -> None:
    """A REQUIRETLS letter is returned for what the host is seen to be, not for a connection that broke."""

    async def script(guest: Guest) -> None:
        await guest.greet("STARTTLS")
        assert await guest.hear() == "STARTTLS"
        if reply is not None:
            await guest.say(reply)

    async with hosting(script) as host:
        with pytest.raises(ConnectFault) as caught:
            await transport(tmp_path).connect(host.target(tls="verify"))
    assert caught.value.trouble is not None
    assert caught.value.trouble.is_judged == is_judged


@pytest.mark.parametrize(
    ("leaf", "result"),
    [
        (LEAF, None),
        (OLD, "certificate-expired"),
        (ELSEWHERE, "certificate-host-mismatch"),
        (NAMELESS, "certificate-host-mismatch"),  # RFC 8461 §4.2: the name must stand in the alternative names
        (SELF, "certificate-not-trusted"),
    ],
)
@pytest.mark.parametrize("use", ["verify", "try-verify"])
async def test_certificates(leaf: Issued, result: str | None, use: str, tmp_path: Path) -> None:
    names = Names()
    async with hosting(serving(server(leaf, tmp_path, names))) as host:
        target = host.target(tls=use, trust="MTA-STS", is_way_sure=True)
        if result is not None and use == "verify":
            with pytest.raises(ConnectFault) as caught:
                await transport(tmp_path).connect(target)
            assert caught.value.trouble is not None
            assert caught.value.trouble.result == result
            assert caught.value.trouble.is_judged
            assert caught.value.is_policy
            return
        connection = await transport(tmp_path).connect(target)
        assert connection.tls is not None
        assert set(names.heard) == {HOST}  # RFC 8461 §7.1
        assert len(host.visits) == (1 if result is None else 2)
        assert (None if connection.trouble is None else connection.trouble.result) == result
        assert connection.tls.words == ("TLSv1.3 (MTA-STS)" if result is None else "TLSv1.3")
        assert connection.tls.is_way_sure == (result is None)
        assert await deliver(connection) == ["2.6.0", "2.6.0"]
        await connection.close()


async def test_both(tmp_path: Path) -> None:
    """A host behind an unsigned MX record that has TLSA records and an enforced policy must satisfy both."""
    both = host_fields = {"tls": "verify", "trust": "MTA-STS"}
    async with hosting(serving(server(LEAF, tmp_path))) as host:
        good = host.target(dane=demand(record(3, 1, 1, LEAF)), **both)
        connection = await transport(tmp_path).connect(good)
        assert connection.tls is not None
        assert connection.tls.words == "TLSv1.3 (DANE-EE, MTA-STS)"
        await deliver(connection)
        await connection.close()
        with pytest.raises(ConnectFault):
            await transport(tmp_path).connect(host.target(dane=demand(record(3, 1, 1, SELF)), **host_fields))
    async with hosting(serving(server(SELF, tmp_path))) as host:
        with pytest.raises(ConnectFault) as caught:
            await transport(tmp_path).connect(host.target(dane=demand(record(3, 1, 1, SELF)), **host_fields))
        assert caught.value.trouble is not None
        assert caught.value.trouble.result == "certificate-not-trusted"


async def test_testing_goes_on_in_the_clear_where_it_must(tmp_path: Path) -> None:
    """RFC 8461 §5: as though there were no policy, but told."""
    async with hosting(clear) as host:
        connection = await transport(tmp_path).connect(host.target(tls="try-verify", trust="MTA-STS"))
        assert connection.tls is None
        assert connection.trouble is not None
        assert connection.trouble.result == "starttls-not-supported"
        await deliver(connection)
        await connection.close()


async def test_a_handshake_that_breaks_is_told_though_the_letter_goes(tmp_path: Path) -> None:
    async def breaks(guest: Guest) -> None:
        await guest.greet("STARTTLS")
        assert await guest.hear() == "STARTTLS"
        await guest.say("220 go", "this is no TLS")

    async with hosting(breaks, clear) as host:
        connection = await transport(tmp_path).connect(host.target())
        assert connection.tls is None
        assert connection.trouble is not None
        assert connection.trouble.result == "validation-failure"
        assert connection.trouble.reason
        await deliver(connection)
        await connection.close()


class _Public:
    """As in Python 3.13 and later."""

    def get_unverified_chain(self) -> list[bytes]:
        return [b"leaf", b"issuer"]


class _LeafOnly:
    def getpeercert(self, *, binary_form: bool) -> bytes | None:
        return b"leaf" if binary_form else None


def test_where_the_chain_comes_from() -> None:
    assert peer_chain(_Public()) == [b"leaf", b"issuer"]
    assert peer_chain(_LeafOnly()) == [b"leaf"]


@pytest.mark.parametrize("use", ["opportunistic", "try-verify"])
async def test_a_password_goes_to_a_proven_host_alone(use: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the host's own policy would let pass."""
    tried: list[str] = []

    async def attempt(target: Target) -> None:
        tried.append(target.tls)
        raise ConnectFault(Outcome(Status(4, 4, 1), "no connection"))

    one = SmtpTransport(Chance())
    monkeypatch.setattr(one, "_attempt", attempt)
    target = Target("mail.example.test", "192.0.2.1", tls=use, username="alice", password="secret")
    with pytest.raises(ConnectFault):
        await one.connect(target)
    assert tried == ["verify"]
