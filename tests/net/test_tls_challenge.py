# SPDX-License-Identifier: Apache-2.0
"""tls-alpn-01 beside ordinary TLS, and certificates that come and go while others are connected."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from posthouse.net.certificate import CertificateFault
from posthouse.net.clock import SystemClock
from posthouse.net.tls import CertificateFiles, CertificateStore, LoopTlsUpgrader
from posthouse.net.tls_challenge import HOOK
from posthouse.services.acme.x509 import ACME_IDENTIFIER, challenge_certificate
from posthouse.services.challenges import Challenges
from tests.fakes import FakeEntropy
from tests.net.conftest import NOW, make_files
from tests.net.echo import House, within

ON_BOTH_LOOPS = True
NAME = "mail.example.test"


@pytest.fixture
def store(tmp_path: Path) -> CertificateStore:
    return CertificateStore([make_files(tmp_path, NAME)], SystemClock())


@pytest.fixture
def challenges(store: CertificateStore) -> Challenges:
    found = Challenges(SystemClock(), FakeEntropy())
    store.answer_challenges(found.tls_names, found.tls_asked)
    found.watch(store.challenges_changed)
    return found


def looking(*protocols: str) -> ssl.SSLContext:
    """As somebody who looks at certificates, and believes none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def handshake(port: int, context: ssl.SSLContext, name: str | None) -> tuple[str | None, x509.Certificate]:
    """What was agreed on, and the certificate."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as sock,
        context.wrap_socket(sock, server_hostname=name) as tls,
    ):
        octets = tls.getpeercert(binary_form=True)
        assert octets is not None
        return tls.selected_alpn_protocol(), x509.load_der_x509_certificate(octets)


def is_challenge(certificate: x509.Certificate) -> bool:
    return any(each.oid == ACME_IDENTIFIER for each in certificate.extensions)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_only_an_authority_gets_the_answer(
    store: CertificateStore, challenges: Challenges, version: ssl.TLSVersion
) -> None:
    async with (
        House(tls=LoopTlsUpgrader(store), is_implicit_tls=True) as house,
        challenges.tls(NAME, "token.thumbprint") as was_asked,
    ):
        for protocols in ((), ("http/1.1",), ("h2", "acme-tls/1"), ("acme-tls/1", "http/1.1")):
            ordinary = looking(*protocols)
            ordinary.maximum_version = version
            agreed, certificate = await asyncio.to_thread(handshake, house.port, ordinary, NAME)
            assert (agreed, is_challenge(certificate)) == (None, False), protocols
        assert not was_asked.is_set()
        authority = looking("acme-tls/1")
        authority.maximum_version = version
        agreed, certificate = await asyncio.to_thread(handshake, house.port, authority, "MAIL.example.test")
        assert agreed == "acme-tls/1"
        identifier = certificate.extensions.get_extension_for_oid(ACME_IDENTIFIER)
        assert identifier.critical
        assert isinstance(identifier.value, x509.UnrecognizedExtension)
        assert identifier.value.value == b"\x04\x20" + hashlib.sha256(b"token.thumbprint").digest()
        await within(was_asked.wait)
        assert not any(session.was_secured for session in house.sessions)


async def test_an_authority_that_is_asked_for_another_hello(store: CertificateStore, challenges: Challenges) -> None:
    """HelloRetryRequest (RFC 8446 §4.1.4): the name is chosen for twice in one handshake."""
    async with challenges.tls(NAME, "token.thumbprint"):
        store.context.set_ecdh_curve("secp384r1")  # not what clients guess
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = looking("acme-tls/1").wrap_bio(to_client, to_server, server_hostname=NAME)
        server = store.context.wrap_bio(to_server, to_client, server_side=True)
        for _ in range(4):
            for side in (client, server):
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
        octets = client.getpeercert(binary_form=True)
        assert octets is not None
        assert is_challenge(x509.load_der_x509_certificate(octets))
        assert client.selected_alpn_protocol() == "acme-tls/1"


async def test_names_without_a_challenge_get_nothing(store: CertificateStore, challenges: Challenges) -> None:
    async with House(tls=LoopTlsUpgrader(store), is_implicit_tls=True) as house:
        async with challenges.tls(NAME, "token.thumbprint"):
            with pytest.raises(OSError, match=r"(?i)unrecognized.name|EOF|reset"):  # asyncio sends no alert
                await asyncio.to_thread(handshake, house.port, looking("acme-tls/1"), "other.example.test")
        agreed, certificate = await asyncio.to_thread(handshake, house.port, looking("acme-tls/1"), NAME)
        assert (agreed, is_challenge(certificate)) == (None, False), "the challenge is over"


async def test_a_reload_keeps_challenges(store: CertificateStore, challenges: Challenges) -> None:
    async with (
        House(tls=LoopTlsUpgrader(store), is_implicit_tls=True) as house,
        challenges.tls(NAME, "token.thumbprint"),
    ):
        store.reload()
        agreed, _ = await asyncio.to_thread(handshake, house.port, looking("acme-tls/1"), NAME)
        assert agreed == "acme-tls/1"


async def test_messages_are_looked_at_only_while_a_challenge_is_open(
    store: CertificateStore, challenges: Challenges
) -> None:
    assert getattr(store.context, HOOK) is None
    async with challenges.tls(NAME, "token.thumbprint"):
        assert getattr(store.context, HOOK) is not None
    assert getattr(store.context, HOOK) is None


# --- certificates that an authority gives ---------------------------------------------------------


async def test_a_certificate_comes_while_people_are_connected(tmp_path: Path) -> None:
    issued = tmp_path / "served.pem"
    own = make_files(tmp_path / "own", NAME)
    store = CertificateStore([CertificateFiles(issued, issued, is_optional=True), own], SystemClock())
    trusting = ssl.create_default_context(cafile=str(own.certificate))
    async with House(tls=LoopTlsUpgrader(store), is_implicit_tls=True) as house:
        client = await house.connect(trusting)
        await client.line()
        _, before = await asyncio.to_thread(handshake, house.port, looking(), NAME)
        assert store.refresh(), "nothing has changed"
        issued.write_bytes(challenge_certificate(NAME, "proof", NOW, FakeEntropy()))
        assert store.refresh()
        _, after = await asyncio.to_thread(handshake, house.port, looking(), NAME)
        assert (is_challenge(before), is_challenge(after)) == (False, True)
        assert await client.say(b"still here") == b"still here\r\n"
        issued.write_bytes(b"nonsense")
        assert not store.refresh(), "not all is taken"
        assert not store.refresh(), "nor has it been since"
        _, last = await asyncio.to_thread(handshake, house.port, looking(), NAME)
        assert last == after, "what was loaded before is served on"
        issued.unlink()
        assert store.refresh()
        _, last = await asyncio.to_thread(handshake, house.port, looking(), NAME)
        assert last == before
        await client.close()


async def test_a_challenge_that_cannot_be_answered_leaves_nothing_behind(
    store: CertificateStore, challenges: Challenges, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("posthouse.net.tls_challenge.tempfile.mkstemp", full)
        with pytest.raises(OSError, match="No space"):
            async with challenges.tls(NAME, "proof"):
                pytest.fail("it is not open")
    assert challenges.tls_names() == {}
    assert getattr(store.context, HOOK) is None
    async with challenges.tls(NAME, "proof"):
        assert getattr(store.context, HOOK) is not None


def test_without_a_single_certificate_nothing_is_served(tmp_path: Path) -> None:
    missing = tmp_path / "none.pem"
    with pytest.raises(CertificateFault, match="none of the certificates"):
        CertificateStore([CertificateFiles(missing, missing, is_optional=True)], SystemClock())
