# SPDX-License-Identifier: Apache-2.0
"""DANE (RFC 7672) between a real Postfix and posthouse, on DNS that is really signed and really validated."""

from __future__ import annotations

import re
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from .house import BOB, DOMAIN, House
from .letters import assert_carries, field, letter
from .postfix import Postfix
from .programs import PATIENCE, free_port, require, require_root, run, wait_until
from .zone import Dns, Signing, Zone, tlsa

pytestmark = pytest.mark.interop

DANA = "dana@postfix.test"
WRONG = "3 1 1 " + "00" * 32
UNUSABLE = "0 0 1 " + "00" * 32  # RFC 7672 §3.1.3: PKIX-TA means nothing to SMTP
# The domain by which the host is found, and what Postfix says of a session with `dane-only`: "" where the letter comes.
WAYS = {
    "good.test": "",
    "both.test": "",  # a record that fits beside one that does not, as while a key changes (RFC 7671 §8.1)
    "alias.test": "",  # the MX is a CNAME (RFC 7672 §2.2.3)
    "wrong.test": "Server certificate not verified",
    "unusable.test": "TLSA records unusable",
    "bare.test": "no TLSA records found",
    "plain.test": "non DNSSEC destination",
    "expired.test": "Host not found, try again",
}


class Post:
    """A Postfix that delivers to nobody whom DANE does not vouch for, and our house behind several domains."""

    def __init__(self, base: Path) -> None:
        require_root("Postfix with DNS of its own")
        self.smtp, there = free_port(), free_port()
        self.dns = Dns(base / "dane-dns", *(Zone(name, (), signing(name)) for name in WAYS))
        self.house = House(base / "dane-house", smtp_port=self.smtp)
        # Each way is chosen by a detail of the address, since the house is the same behind all of them.
        ways = {f"bob+{name}@{DOMAIN}": f"smtp:{name}:{self.smtp}" for name in WAYS}
        self.postfix = Postfix(
            base / "dane-postfix",
            ways,
            port=there,
            settings="smtp_dns_support_level = dnssec\nsmtp_tls_security_level = dane-only\n"
            "dnssec_probe = ns:good.test\nsmtp_host_lookup = dns\n",
            dns=self.dns,
        )

    def start(self) -> None:
        self.dns.start()
        self.house.start()
        self.dns.publish({name: self.records(name) for name in WAYS})
        self.postfix.start()

    def records(self, name: str) -> list[str]:
        """MX, host and its TLSA at the port that is used here."""
        at = f"_{self.smtp}._tcp.mx IN TLSA"
        right = f"{at} {tlsa(self.house.certificate)}"
        found = {
            "wrong.test": [f"{at} {WRONG}"],
            "unusable.test": [f"{at} {UNUSABLE}"],
            "both.test": [f"{at} {WRONG}", right],
            "bare.test": [],
        }.get(name, [right])
        host = ["alias IN CNAME mx", "@ IN MX 10 alias"] if name == "alias.test" else ["@ IN MX 10 mx"]
        return [*host, "mx IN A 127.0.0.1", *found]

    def stop(self) -> None:
        self.postfix.stop()
        self.house.stop()
        self.dns.stop()


def signing(name: str) -> Signing:
    return {"plain.test": Signing.NONE, "expired.test": Signing.EXPIRED}.get(name, Signing.GOOD)


@pytest.fixture(scope="module")
def post(base: Path) -> Iterator[Post]:
    post = Post(base)
    post.start()
    yield post
    post.stop()


@pytest.mark.parametrize("name", list(WAYS))
def test_a_postfix_that_demands_dane(post: Post, name: str) -> None:
    to = f"bob+{name}@{DOMAIN}"
    post.house.empty(BOB)
    sent = letter(f"by {name}", DANA, to)
    with smtplib.SMTP("127.0.0.1", post.postfix.port, timeout=PATIENCE) as smtp:
        assert smtp.sendmail(DANA, [to], sent, mail_options=["BODY=8BITMIME"]) == {}
    line = re.compile(rf"to=<{re.escape(to)}>.*status=(\w+) (.*)")
    wait_until(lambda: line.search(post.postfix.said()), f"Postfix to try {name}", log=post.postfix.log)
    status, why = line.findall(post.postfix.said())[-1]
    if WAYS[name]:
        assert (status, post.house.count(BOB)) == ("deferred", 0), why
        assert WAYS[name] in why
        return
    assert status == "sent", why
    assert re.search(rf"Verified TLS connection established to \w+\.{name}\[", post.postfix.said())
    [found] = post.house.take(BOB)
    assert_carries(found, sent)
    assert "with ESMTPS (TLS" in field(found, "Received")


@pytest.mark.parametrize("is_right", [True, False], ids=["right", "wrong"])
def test_openssl_checks_our_certificate_by_the_same_record(post: Post, is_right: bool) -> None:
    """A second opinion about what a TLSA record for our certificate is."""
    require("openssl")
    record = tlsa(post.house.certificate) if is_right else WRONG
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{post.smtp}", "-starttls", "smtp", "-brief"]
    command += ["-dane_tlsa_domain", "mx.good.test", "-dane_tlsa_rrdata", record, "-verify_return_error"]
    command.append("-dane_ee_no_namechecks")  # RFC 7672 §3.1.1
    said = run(command, stdin=b"QUIT\r\n", codes=(0,) if is_right else (1,))
    assert ("Verification: OK" if is_right else "no matching DANE TLSA records") in said, said
