# SPDX-License-Identifier: Apache-2.0
"""Letters that leave by policy: DANE and MTA-STS towards a real Postfix, REQUIRETLS between two of ours, on DNS that is
really signed and really validated."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import smtplib
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mailauth.certificates import Issued, issue, record

from .house import ALICE, PASSWORD, House
from .letters import letter
from .postfix import Postfix
from .programs import PATIENCE, require_root, wait_until

zone = pytest.importorskip("tests.interop.zone", reason="the fixture of signed zones is not there")
pytestmark = pytest.mark.interop

# The domain by which Postfix is found, how the letter's session is told (None: it waits), and a word of the reason.
WAYS: dict[str, tuple[str | None, str]] = {
    "ee.test": ("TLSv1.3 (DANE-EE)", ""),
    "ta.test": ("TLSv1.3 (DANE-TA)", ""),
    "both.test": ("TLSv1.3 (DANE-EE)", ""),  # as while a key changes (RFC 7671 §8.1)
    "alias.test": ("TLSv1.3 (DANE-EE)", ""),  # the MX is a CNAME (RFC 7672 §2.2.2)
    "unusable.test": ("TLSv1.3", ""),
    "bare.test": ("TLSv1.3", ""),
    "unsigned.test": ("TLSv1.3", ""),  # its TLSA record is wrong, but nobody has signed it
    "guest.test": ("TLSv1.3 (DANE-EE, unsigned MX)", ""),  # unsigned itself, its host's zone is not (§2.2.1)
    "wrong.test": (None, "no TLSA record is that of the host's certificate"),
    "expired.test": (None, "not known now"),  # signatures that do not hold: SERVFAIL
    "sts.test": ("TLSv1.3 (MTA-STS)", ""),
    "tried.test": ("TLSv1.3 (MTA-STS)", ""),
    "stray.test": (None, "does not name this host"),
    "shaky.test": ("TLSv1.3", ""),  # in testing: named wrongly, delivered all the same
    "moved.test": ("TLSv1.3", ""),  # its policy is a redirect
}
POLICIES = {
    "sts.test": b"version: STSv1\r\nmode: enforce\r\nmx: *.sts.test\r\nmax_age: 86400\r\n",
    "tried.test": b"version: STSv1\r\nmode: testing\r\nmx: mx.tried.test\r\nmax_age: 86400\r\n",
    "stray.test": b"version: STSv1\r\nmode: enforce\r\nmx: mx.elsewhere.test\r\nmax_age: 86400\r\n",
    "shaky.test": b"version: STSv1\r\nmode: testing\r\nmx: mx.elsewhere.test\r\nmax_age: 86400\r\n",
    "moved.test": b"",
}
# What is counted for the reports of a domain.
COUNTED = {
    "ee.test": [("tlsa", "")],
    "wrong.test": [("tlsa", "validation-failure")],
    "unusable.test": [("tlsa", "tlsa-invalid")],
    "bare.test": [("no-policy-found", "")],
    "sts.test": [("sts", "")],
    "stray.test": [("sts", "validation-failure")],
    "shaky.test": [("sts", "validation-failure")],
    "moved.test": [("no-policy-found", ""), ("sts", "sts-policy-fetch-error")],
}
SIGNING = {"unsigned.test", "guest.test", *POLICIES}


class Site:
    """The web servers of all policy hosts, one after the other on one address, by server name."""

    def __init__(self, address: str, folder: Path, root: Issued, now: float) -> None:
        self._loop = asyncio.new_event_loop()
        path = folder / "site.pem"
        path.write_bytes(issue("site", root, names=[f"mta-sts.{name}" for name in POLICIES], now=now).pem())
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(path)
        self._address = address
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        self._thread.start()
        serving = asyncio.start_server(self._answer, self._address, 443, ssl=self._context)
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result(PATIENCE)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        domain = next(line for line in head.split("\r\n") if line.startswith("host: mta-sts."))[14:]
        assert head.startswith("get /.well-known/mta-sts.txt ")
        body = POLICIES[domain]
        status = f"200 OK\r\nContent-Length: {len(body)}" if body else "301 Moved\r\nLocation: https://sts.test/"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n".encode() + body)
        with contextlib.suppress(OSError):
            await writer.drain()
            writer.close()


class Post:
    """Our house, a Postfix behind many domains, another house of ours behind one."""

    def __init__(self, base: Path, environment: pytest.MonkeyPatch) -> None:
        require_root("mail on port 25 and web on port 443")
        self._running = contextlib.ExitStack()
        now = datetime.datetime.now(datetime.UTC).timestamp()
        folder = base / "transport"
        folder.mkdir()
        self.dns = zone.Dns(base / "transport-dns", *(zone.Zone(n, (), signing(n)) for n in (*WAYS, "bound.test")))
        self.mail, self.web = zone.free_address(25), zone.free_address(443)
        self.root = issue("root", is_ca=True, now=now)
        names = [f"mx.{name}" for name in WAYS]
        self.leaf = issue("postfix", self.root, names=names, now=now)
        roots = folder / "roots.pem"
        roots.write_bytes(self.root.pem().partition(b"-----END PRIVATE KEY-----\n")[2])
        environment.setenv("SSL_CERT_FILE", str(roots))  # the world's authorities, for our own processes
        self.site = Site(self.web, folder, self.root, now)
        self.postfix = Postfix(
            base / "transport-postfix",
            {},
            address=self.mail,
            port=25,
            settings=f"virtual_mailbox_domains = {', '.join(WAYS)}\nvirtual_mailbox_maps = static:bob/\n",
        )
        chain = self.postfix.folder / "tls" / "chain.pem"
        chain.write_bytes(self.leaf.pem())
        main = self.postfix.folder / "config" / "main.cf"
        main.write_text(main.read_text() + f"smtpd_tls_chain_files = {chain}\n")
        settings = f'[resolver]\nservers = ["{self.dns.server}"]\n[transport]\nprivate_web = true\n'
        self.house = House(base / "transport-house", settings=settings)
        self.other = House(base / "transport-other", smtp_port=25)
        self.other.command("domain", "add", "bound.test")
        self.other.command("account", "add", "bob@bound.test", "--password-stdin")

    def start(self) -> None:
        """What has started is stopped, even if another part does not."""
        self.dns.start()
        self._running.callback(self.dns.stop)
        for part in (self.other, self.site, self.postfix, self.house):
            part.start()
            self._running.callback(part.stop)
        self.dns.publish({name: self.records(name) for name in WAYS} | {"bound.test": self.bound_records()})

    def records(self, name: str) -> list[str]:
        at = "_25._tcp.mx IN TLSA"
        right, wrong = f"{at} {record(3, 1, 1, self.leaf)}", f"{at} 3 1 1 {'00' * 32}"
        tlsa = {
            "ta.test": [f"{at} {record(2, 0, 1, self.root)}"],
            "both.test": [wrong, right],
            "unusable.test": [f"{at} 0 0 1 {'00' * 32}"],
            "wrong.test": [wrong],
            "unsigned.test": [wrong],
            "bare.test": [],
        }.get(name, [] if name in POLICIES else [right])
        hosts = {"alias.test": ["alias IN CNAME mx", "@ IN MX 10 alias"], "guest.test": ["@ IN MX 10 mx.ee.test."]}
        sts = [f"mta-sts IN A {self.web}", '_mta-sts IN TXT "v=STSv1; id=1"'] if name in POLICIES else []
        return [*hosts.get(name, ["@ IN MX 10 mx"]), f"mx IN A {self.mail}", *tlsa, *sts]

    def bound_records(self) -> list[str]:
        own = zone.tlsa(self.other.certificate)
        return ["@ IN MX 10 mx", "mx IN A 127.0.0.1", f"_25._tcp.mx IN TLSA {own}"]

    def stop(self) -> None:
        self._running.close()


def signing(name: str) -> Any:
    if name == "expired.test":
        return zone.Signing.EXPIRED
    return zone.Signing.NONE if name in SIGNING else zone.Signing.GOOD


@pytest.fixture(scope="module")
def post(base: Path) -> Iterator[Post]:
    with pytest.MonkeyPatch.context() as environment:
        post = Post(base, environment)
        try:
            post.start()
            yield post
        finally:
            post.stop()


def attempts(house: House, ident: str) -> list[Any]:
    """Those of the letter itself, not of its destination."""
    (found,) = house.told("trace", f"{ident}@house.test")
    return [attempt for attempt in found["attempts"] if attempt["letter"] is not None]


def the_last(house: House, ident: str) -> tuple[str, Any]:
    """How its session was protected, and what became of its one recipient."""
    wait_until(lambda: attempts(house, ident), f"the letter {ident} to be tried", log=house.log)
    attempt = attempts(house, ident)[-1]
    ((outcome, _),) = attempt["results"]
    return attempt["tls"], outcome


def submit(house: House, to: str, octets: bytes, *options: str) -> None:
    context = ssl.create_default_context(cafile=str(house.certificate))
    with smtplib.SMTP_SSL("localhost", house.ports["submissions"], context=context, timeout=PATIENCE) as smtp:
        smtp.login(ALICE, PASSWORD)
        smtp.sendmail(ALICE, [to], octets, mail_options=["BODY=8BITMIME", *options])


def marked(octets: bytes, ident: str) -> bytes:
    return f"Message-ID: <{ident}@house.test>\r\n".encode() + octets


@pytest.mark.parametrize("name", list(WAYS))
def test_policies_of_domains(post: Post, name: str) -> None:
    told, reason = WAYS[name]
    to, ident = f"bob@{name}", f"policy.{name}"
    submit(post.house, to, marked(letter(f"by {name}", ALICE, to), ident))
    if told is None:
        wait_until(lambda: reason in post.house.log.read_text(), f"{name} to be refused", log=post.house.log)
        assert attempts(post.house, ident) == []
        return
    tls, outcome = the_last(post.house, ident)
    assert tls == told
    assert outcome["status"].startswith("2."), outcome


def test_what_was_counted(post: Post) -> None:
    """Written at the stop at the latest."""
    import sqlite3

    post.house.stop()
    with contextlib.closing(sqlite3.connect(post.house.folder / "posthouse.sqlite3")) as database:
        rows = database.execute("SELECT policy_domain, policy_type, result, count FROM tls_result").fetchall()
    post.house.start()
    for name, wanted in COUNTED.items():
        assert sorted({row[1:3] for row in rows if row[0] == name}) == wanted, name


@pytest.mark.parametrize(
    ("to", "status"),
    [
        ("bob@bound.test", "2.0.0"),
        ("bob@ee.test", "5.7.30"),  # authenticated, but Postfix makes no such promise
        ("bob@unsigned.test", "5.7.10"),
    ],
)
def test_a_letter_that_requires_tls(post: Post, to: str, status: str) -> None:
    ident = f"bound.{to.replace('@', '.')}"
    submit(post.house, to, marked(letter("secret", ALICE, to), ident), "REQUIRETLS")
    tls, outcome = the_last(post.house, ident)
    assert outcome["status"] == status, outcome
    if status.startswith("2"):
        assert tls == "TLSv1.3 (DANE-EE)"
        (carried,) = post.other.take("bob@bound.test")
        assert b"secret" in carried
    else:
        (report,) = post.house.take(ALICE)
        assert status.encode() in report
        assert b"text/rfc822-headers" in report


def test_a_letter_that_would_rather_go_unprotected(post: Post) -> None:
    """Last: the destination is down for all others."""
    to, ident = "bob@wrong.test", "optional"
    octets = b"TLS-Required: No\r\n" + letter("your certificate", ALICE, to)
    submit(post.house, to, marked(octets, ident))
    tls, outcome = the_last(post.house, ident)
    assert outcome["status"].startswith("2."), outcome
    assert tls == "TLSv1.3"


def test_check_says_that_dane_works(post: Post) -> None:
    said = post.house.command("check")
    assert "DNSSEC answers are validated" in said
