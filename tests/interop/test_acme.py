# SPDX-License-Identifier: Apache-2.0
"""Certificates from Pebble by each challenge; what is served afterwards, and what happens when it does not work."""

from __future__ import annotations

import asyncio
import imaplib
import json
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from posthouse import config
from posthouse.app import House, open_house
from posthouse.composing.ground import real_machine
from posthouse.net.disk import PosixDisk
from posthouse.net.http import HttpServer
from posthouse.outcome import Refusal
from posthouse.services.acme.words import Reason
from posthouse.services.certificate_shelf import CertificateShelf

from .authority import EAB_KEY, EAB_KEY_ID, Pebble
from .bind import Bind
from .house import ALICE, PASSWORD
from .house import House as Process
from .programs import wait_until

pytestmark = pytest.mark.interop

NAME = "mail.house.test"


@pytest.fixture(scope="module")
def pebble(base: Path) -> Iterator[Pebble]:
    authority = Pebble(base / "pebble")
    authority.start()
    yield authority
    authority.stop()


@asynccontextmanager
async def in_process(folder: Path, settings: str, http_port: int) -> AsyncIterator[House]:
    """A house in this process, whose challenges are answered at a port; its listeners are not needed."""
    folder.mkdir(mode=0o700)  # noqa: ASYNC240 - nothing else runs in this loop
    house = open_house(folder, config.parse(f'hostname = "{NAME}"\n{settings}'.encode(), "test"), real_machine())

    async def answer(request: Request) -> Response:
        text = house.challenges.http_answer(request.path_params["token"])
        return PlainTextResponse("no" if text is None else text, 404 if text is None else 200)

    sock = socket.create_server(("127.0.0.1", http_port))
    server = HttpServer(Starlette(routes=[Route("/.well-known/acme-challenge/{token}", answer)]), [sock])
    await server.start()
    try:
        yield house
    finally:
        async with house.certificates._lock:  # not in the middle of a request
            await house.certificates.stop()
        await server.stop()
        await house.close()


async def until_issued(house: House, seconds: float = 30.0) -> None:
    """Start the service and wait for its first certificate."""
    installed = asyncio.Event()
    house.certificates.watch(installed.set)
    house.certificates.start()
    async with asyncio.timeout(seconds):
        await installed.wait()


async def test_http_01(pebble: Pebble, tmp_path: Path) -> None:
    names = f'["{NAME}", "mta-sts.house.test"]'
    async with in_process(tmp_path / "house", pebble.settings(names=names), pebble.http) as house:
        await until_issued(house)
        [status] = await house.certificates.list()
        assert (status.state, status.names) == ("good", (NAME, "mta-sts.house.test"))
        served = tmp_path / "house" / "acme" / "main" / "served.pem"
        assert served.stat().st_mode & 0o777 == 0o600
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(served)


async def test_a_certificate_is_renewed_with_the_same_key(pebble: Pebble, tmp_path: Path) -> None:
    async with in_process(tmp_path / "house", pebble.settings(), pebble.http) as house:
        await until_issued(house)
        [first] = await house.certificates.list()
        second = await house.certificates.renew("main")
        assert second.key_digest == first.key_digest
        third = await house.certificates.renew("main", new_key=True)
        assert third.key_digest != first.key_digest
        assert third.state == "good"


@pytest.mark.parametrize(("reason", "code"), [("key-compromise", 1), ("superseded", 4)])
async def test_revocation(pebble: Pebble, tmp_path: Path, reason: Reason, code: int) -> None:
    """Signed by the certificate's key or by the account; the next one is there at once."""
    shelf = CertificateShelf(tmp_path / "house", PosixDisk(), lambda _: "")
    async with in_process(tmp_path / "house", pebble.settings(), pebble.http) as house:
        await until_issued(house)
        first = shelf.served("main")
        assert first is not None
        second = await house.certificates.revoke("main", reason)
        assert second.state == "good"
        assert (second.key_digest != first.facts.key_digest) == (reason == "key-compromise")
        assert pebble.revocation(first.certificate) == ("Revoked", code)
        present = shelf.served("main")
        assert present is not None
        assert pebble.revocation(present.certificate)[0] == "Valid"


async def test_many_refused_nonces(base: Path, tmp_path: Path) -> None:
    authority = Pebble(base / "pebble-nonces", bad_nonces=25)
    authority.start()
    try:
        async with in_process(tmp_path / "house", authority.settings(), authority.http) as house:
            await until_issued(house)
    finally:
        authority.stop()


async def test_external_account_binding(base: Path, tmp_path: Path) -> None:
    key = tmp_path / "eab"
    key.write_text(EAB_KEY + "\n")
    authority = Pebble(base / "pebble-eab", eab=True)
    authority.start()
    try:
        async with in_process(tmp_path / "without", authority.settings(), authority.http) as house:
            house.certificates.start()
            with pytest.raises(Refusal, match=r"customers only.*acme\.eab_key_id"):
                await house.certificates.renew("main")
        bound = authority.settings(eab_key_id=f'"{EAB_KEY_ID}"', eab_key_file=f'"{key}"')
        async with in_process(tmp_path / "with", bound, authority.http) as house:
            await until_issued(house)
    finally:
        authority.stop()


async def test_an_order_that_fails_leaves_what_is_served(pebble: Pebble, tmp_path: Path) -> None:
    folder = tmp_path / "house"
    async with in_process(folder, pebble.settings(), pebble.http) as house:
        await until_issued(house)
        served = (folder / "acme" / "main" / "served.pem").read_bytes()
        house.challenges.http_answer = lambda token: "nonsense"  # type: ignore[method-assign]
        with pytest.raises(Refusal, match=rf"{NAME}: http-01 has failed: .*\(unauthorized\)"):
            await house.certificates.renew("main")
        [status] = await house.certificates.list()
        assert status.state == "failing"
        assert "http-01 has failed" in status.error
        assert (folder / "acme" / "main" / "served.pem").read_bytes() == served
        del house.challenges.http_answer  # type: ignore[method-assign]
        assert (await house.certificates.renew("main")).state == "good"


async def test_an_authority_that_has_forgotten_us(base: Path, tmp_path: Path) -> None:
    authority = Pebble(base / "pebble-forgetful")
    authority.start()
    try:
        async with in_process(tmp_path / "house", authority.settings(), authority.http) as house:
            await until_issued(house)
            authority.stop()
            authority.start()  # it keeps nothing on disk
            assert (await house.certificates.renew("main")).state == "good"
    finally:
        authority.stop()


async def test_what_is_served_while_it_is_renewed(base: Path) -> None:
    """A process of its own: tls-alpn-01 at the port for IMAP over TLS, where people are logged in meanwhile."""
    authority = Pebble(base / "pebble-tls")
    names = '["localhost", "imap.house.test"]'
    house = Process(base / "house-tls", settings=authority.settings(challenge='"tls-alpn-01"', names=names))
    authority.tls = house.ports["imaps"]
    authority.start()
    house.start()
    try:
        await asyncio.to_thread(wait_until, lambda: state(house) == "good", "a certificate", log=house.log)
        context = ssl.create_default_context(cadata=authority.root().decode())
        first = imaplib.IMAP4_SSL("localhost", house.ports["imaps"], ssl_context=context)
        first.login(ALICE, PASSWORD)
        before = serial(first)
        done = house.told("certificate", "renew")
        assert done["state"] == "good"
        second = imaplib.IMAP4_SSL("localhost", house.ports["imaps"], ssl_context=context)
        assert serial(second) != before, "the new certificate is served"
        assert first.select("INBOX")[0] == "OK", "the old connection goes on"
        named = context.wrap_socket(
            socket.create_connection(("127.0.0.1", house.ports["submissions"])), server_hostname="imap.house.test"
        )
        assert named.version() == "TLSv1.3"
        named.close()
        first.logout()
        second.logout()
        findings = house.told("check")["findings"]
        assert any("certificate main of the authority: good until" in each["text"] for each in findings)
    finally:
        house.stop()
        authority.stop()


async def test_dns_01_with_a_wildcard_in_bind(base: Path) -> None:
    """Wildcard and parent need two records of one name; nothing is left in the zone. No server needs to run."""
    bind = Bind(base / "bind-dns01", "house.test")
    bind.start()
    authority = Pebble(base / "pebble-dns", dns=bind.port)
    authority.start()
    try:
        names = '["house.test", "*.house.test"]'
        settings = authority.settings(challenge='"dns-01"', names=names) + bind.settings
        house = Process(base / "house-dns", settings=settings)
        done = house.told("certificate", "renew")
        assert (done["state"], done["names"]) == ("good", ["house.test", "*.house.test"])
        assert bind.values("_acme-challenge.house.test", "TXT") == []
    finally:
        authority.stop()
        bind.stop()


async def test_a_key_waits_for_its_record_in_bind(base: Path) -> None:
    """Rollover with DANE: the next key's record is put beside the present one, and the old one goes in the end."""
    bind = Bind(base / "bind-tlsa", "house.test")
    bind.start()
    authority = Pebble(base / "pebble-tlsa", dns=bind.port)
    authority.start()
    settings = authority.settings(challenge='"dns-01"', names='["mx.house.test"]') + bind.settings
    house = Process(base / "house-tlsa", settings=settings)
    text = (house.folder / "posthouse.toml").read_text()
    (house.folder / "posthouse.toml").write_text(text.replace('hostname = "localhost"', 'hostname = "mx.house.test"'))
    house.start()
    try:
        await asyncio.to_thread(wait_until, lambda: state(house) == "good", "a certificate", log=house.log)
        [old] = house.told("certificate", "list")
        name = "_25._tcp.mx.house.test"
        bind.change(f"update add {name} 2 TLSA 3 1 1 {old['key_digest']}")
        made = house.told("certificate", "rollover")
        assert made["sight"] == {"is_used": True, "is_shown": True, "ttl": 2.0, "text": ""}
        following = made["certificate"]["next_digest"]
        both = [f"3 1 1 {digest}" for digest in sorted((old["key_digest"], following))]
        assert [each.lower() for each in bind.values(name, "TLSA")] == both
        assert made["certificate"]["key_digest"] == old["key_digest"], "not before two TTLs"
        await asyncio.to_thread(
            wait_until,
            lambda: house.told("certificate", "list")[0]["key_digest"] == following,
            "the new key",
            log=house.log,
        )
        await asyncio.to_thread(
            wait_until, lambda: bind.values(name, "TLSA") == [f"3 1 1 {following}"], "the old record to go"
        )
    finally:
        house.stop()
        authority.stop()
        bind.stop()


def state(house: Process) -> str:
    return str(house.told("certificate", "list")[0]["state"])


def serial(client: imaplib.IMAP4_SSL) -> int:
    octets = client.sock.getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(octets).serial_number


async def test_dns_update_with_bind(base: Path) -> None:
    bind = Bind(base / "bind-update", "house.test", '@ TXT "google-site-verification=x"\n@ MX 10 elsewhere.test.')
    bind.start()
    try:
        house = Process(base / "house-update", settings=bind.settings)
        dry = house.told("dns", "house.test", "--update", "--dry-run")
        assert dry["dry_run"]
        assert bind.values("house.test", "TXT") == ['"google-site-verification=x"']
        steps = told_or_failed(house, "dns", "house.test", "--update")
        by_kind = {(each["name"], each["kind"]): each for each in steps}
        assert by_kind["house.test", "MX"]["action"] == "kept"
        assert by_kind["house.test", "MX"]["note"] == "there is MX 10 elsewhere.test.; --replace"
        assert by_kind["localhost", "TXT"]["action"] == "elsewhere"
        assert sorted(bind.values("house.test", "TXT")) == ['"google-site-verification=x"', '"v=spf1 mx -all"']
        [selector] = [each["name"] for each in steps if each["name"].endswith("-rsa._domainkey.house.test")]
        [key] = bind.values(selector, "TXT")
        assert key.startswith('"v=DKIM1; k=rsa; p=')
        assert bind.values("_submissions._tcp.house.test", "SRV") == [f"0 1 {house.ports['submissions']} localhost."]
        told_or_failed(house, "dns", "house.test", "--update", "--replace")
        assert bind.values("house.test", "MX") == ["10 localhost."]
        again = told_or_failed(house, "dns", "house.test", "--update")
        assert {each["action"] for each in again} == {"there", "elsewhere"}
        bind.change(f"update delete {selector} TXT", f'update add {selector} 60 TXT "v=DKIM1; k=rsa; p=other"')
        kept = told_or_failed(house, "dns", "house.test", "--update")
        assert [each["action"] for each in kept if each["name"] == selector] == ["kept"]
    finally:
        bind.stop()


async def test_a_wrong_tsig_key(base: Path) -> None:
    bind = Bind(base / "bind-wrong", "house.test")
    bind.start()
    try:
        house = Process(base / "house-wrong", settings=bind.settings)
        bind.key_file.write_text("d3Jvbmc=\n")
        steps = told_or_failed(house, "dns", "house.test", "--update")
        assert {each["action"] for each in steps} == {"failed", "elsewhere"}
        assert any("dns_update.key_name" in each["note"] for each in steps)
        assert bind.values("house.test", "TXT") == []
    finally:
        bind.stop()


def told_or_failed(house: Process, *words: str) -> list[dict[str, str]]:
    """The steps of a command that ends with 1 when one of them has failed."""
    done = subprocess.run(
        [sys.executable, "-m", "posthouse", *words, "--json", "--data", str(house.folder)],
        capture_output=True,
        check=False,
        timeout=60,
    )
    steps: list[dict[str, str]] = json.loads(done.stdout)["steps"]
    assert done.returncode == int(any(each["action"] == "failed" for each in steps)), done.stderr
    return steps
