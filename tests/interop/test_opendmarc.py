# SPDX-License-Identifier: Apache-2.0
"""Debian's opendmarc (with opendkim before it, behind a real Postfix) and posthouse judge the same letters alike.

Both get each letter from the same address, with the same envelope, and ask the same DNS.
"""

from __future__ import annotations

import re
import smtplib
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from posthouse.mailauth.canonical import BodyHash
from posthouse.mailauth.dkim import DkimSigner

from . import maildir
from .house import BOB, House
from .milters import opendmarc, verifier
from .postfix import Postfix, now
from .programs import PATIENCE, free_port, require_root
from .zone import Dns, Zone, dkim_record, txt

pytestmark = pytest.mark.interop

HOST = "mail.postfix.test"
BOB_THERE = "bob@postfix.test"
SELECTOR = "s"
POLICIES = {
    "none.test": ["v=DMARC1; p=none"],
    "quarantine.test": ["v=DMARC1; p=quarantine"],
    "reject.test": ["v=DMARC1; p=reject; rua=mailto:d@reject.test"],
    "sub.test": ["v=DMARC1; p=reject; sp=none"],
    "strict.test": ["v=DMARC1; p=reject; adkim=s; aspf=s"],
    "other.test": [],  # publishes no policy
    "broken.test": ["v=DMARC2; p=reject"],
}
STRANGER = "mail.other.test"  # in EHLO
BODY = b"A line.\r\nAnother one.\r\n"


@dataclass(frozen=True, slots=True)
class Case:
    """`sender`: of the envelope; the domain `liar.DOMAIN` has an SPF record that lets nobody send, others let us.
    `signed`: by which domain. `action`: what a server does that honours the policy."""

    name: str
    author: str
    sender: str
    signed: str = ""
    is_changed: bool = False
    hello: str = ""
    result: str = "pass"
    action: str = "accept"

    def judged(self) -> Judged:
        """By us."""
        return Judged(False) if self.action == "reject" else Judged(True, self.result, self.action)


CASES = [
    Case("by spf", "reject.test", "a@reject.test"),
    Case("by dkim", "reject.test", "a@other.test", "reject.test"),
    Case("by dkim, spf fails", "reject.test", "a@liar.reject.test", "reject.test"),
    Case("by both", "reject.test", "a@reject.test", "reject.test"),
    Case("by spf, signature changed", "reject.test", "a@reject.test", "reject.test", is_changed=True),
    Case("by spf of a subdomain", "reject.test", "a@sub.reject.test"),
    Case("by dkim of a subdomain", "reject.test", "a@other.test", "sub.reject.test"),
    Case("a subdomain's author by dkim", "sub.reject.test", "a@other.test", "reject.test"),
    Case("a subdomain's author by spf", "sub.reject.test", "a@reject.test"),
    Case("no reverse-path, by the name in EHLO", "reject.test", "", hello="mail.reject.test"),
    Case("strict by spf", "strict.test", "a@strict.test"),
    Case("strict by dkim", "strict.test", "a@other.test", "strict.test"),
    Case("no policy", "other.test", "a@liar.other.test", result="none"),
    Case("p=none", "none.test", "a@liar.none.test", result="fail"),
    Case("p=quarantine", "quarantine.test", "a@liar.quarantine.test", result="fail", action="quarantine"),
    Case("p=reject", "reject.test", "a@liar.reject.test", result="fail", action="reject"),
    Case("p=reject, all pass for another", "reject.test", "a@other.test", "other.test", result="fail", action="reject"),
    Case("p=reject, signature changed", "reject.test", "a@other.test", "reject.test", True, "", "fail", "reject"),
    Case("p=reject for a subdomain", "sub.reject.test", "a@other.test", result="fail", action="reject"),
    Case("no reverse-path, a stranger's EHLO", "reject.test", "", result="fail", action="reject"),
    Case("sp=none for a subdomain", "x.sub.test", "a@other.test", result="fail"),
    Case("sp is not for the domain itself", "sub.test", "a@other.test", result="fail", action="reject"),
    Case("a subdomain's own policy", "own.sub.test", "a@other.test", result="fail", action="quarantine"),
]

# Where opendmarc 1.4.2 says something else. RFC 9989 §4.10: what does not begin with v=DMARC1 is no policy record. And
# §4.4: strict is the same name; its own change for that (#354 of its repository) came after this version.
DIFFERENT = [
    (Case("a record of another version", "broken.test", "a@liar.broken.test", result="none"), "permerror"),
    (Case("strict, spf of a subdomain", "strict.test", "a@sub.strict.test", result="fail", action="reject"), "pass"),
    (
        Case(
            "strict, dkim of a subdomain", "strict.test", "a@other.test", "sub.strict.test", False, "", "fail", "reject"
        ),
        "pass",
    ),
]


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a letter. `result`: of DMARC, where the letter was taken. `action`: what we have done; opendmarc
    leaves quarantine to those behind it."""

    is_taken: bool
    result: str = ""
    action: str = ""


class Court:
    """Both judges with one DNS."""

    def __init__(self, base: Path, address: str) -> None:
        require_root("opendmarc")
        self.address = address
        key = generate_private_key(public_exponent=65537, key_size=2048)
        self._private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self._dns = Dns(base / "opendmarc-dns", *(self._zone(name, dkim_record(public)) for name in POLICIES))
        smtp, there = free_port(), free_port()
        self.house = House(
            base / "opendmarc-house",
            settings='[authentication]\nloopback = true\nreject = "reject"\n'
            f'[resolver]\nservers = ["{self._dns.server}"]\n',
            smtp_port=smtp,
        )
        self._milters = [
            verifier(base / "opendmarc-opendkim", HOST),
            opendmarc(base / "opendmarc", HOST, rejects=True),
        ]
        sockets = ", ".join(each.socket for each in self._milters)
        self.postfix = Postfix(
            base / "opendmarc-postfix",
            {},
            port=there,
            settings=f"smtpd_milters = {sockets}\nmilter_default_action = tempfail\n",
            dns=self._dns,
        )

    def _zone(self, name: str, key: str) -> Zone:
        allowed = f"v=spf1 ip4:{self.address} -all"
        records = [txt(where, allowed) for where in ("@", "mail", "sub")]
        records += [txt("liar", "v=spf1 -all"), *(txt(f"{SELECTOR}._domainkey{at}", key) for at in ("", ".sub"))]
        records += [txt("_dmarc", policy) for policy in POLICIES[name]]
        if name == "sub.test":
            records.append(txt("_dmarc.own", "v=DMARC1; p=quarantine"))
        return Zone(name, records)

    def start(self) -> None:
        self._dns.start()
        for each in self._milters:
            each.start(self._dns)
        self.house.start()
        self.postfix.start()

    def stop(self) -> None:
        self.postfix.stop()
        self.house.stop()
        for each in self._milters:
            each.stop()
        self._dns.stop()

    def letter(self, case: Case, message_id: str) -> bytes:
        header = (
            f"From: A <a@{case.author}>\r\nTo: b@x.test\r\nSubject: {case.name}\r\nMessage-ID: {message_id}\r\n"
            "Date: Thu, 29 Feb 2024 08:30:00 +0000\r\n"
        ).encode()
        signature, body = b"", BODY
        if case.signed:
            stream = BodyHash()
            stream.update(body)
            signature = DkimSigner(case.signed, SELECTOR, self._private).sign(header, stream, now())
        if case.is_changed:
            body = body.replace(b"Another", b"One more")
        return signature + header + b"\r\n" + body

    def judge(self, case: Case) -> tuple[Judged, Judged]:
        """(opendmarc's judgement, ours)"""
        message_id = f"<{re.sub('[^a-z]', '.', case.name.lower())}@letters.test>"
        octets = self.letter(case, message_id)
        box = self.postfix.box("bob")
        before = len(maildir.letters(box))
        theirs = ours = Judged(False)
        if self.bring(case, self.postfix.port, BOB_THERE, octets):
            there = maildir.wait_for(box, before + 1, self.postfix.log)[-1]
            theirs = Judged(True, opendmarc_result(there))
        if self.bring(case, self.house.ports["smtp"], BOB, octets):
            [story] = self.house.told("trace", message_id)
            verdict = story["verdict"]
            [result] = [each["result"] for each in verdict["statements"] if each["method"] == "dmarc"]
            ours = Judged(True, result, verdict["action"])
        return theirs, ours

    def bring(self, case: Case, port: int, to: str, octets: bytes) -> bool:
        """Whether the letter was taken."""
        source = (self.address, 0)
        with smtplib.SMTP("127.0.0.1", port, case.hello or STRANGER, PATIENCE, source_address=source) as smtp:
            try:
                smtp.sendmail(case.sender, [to], octets)
            except smtplib.SMTPDataError as refused:
                if refused.smtp_code != 550 or b"DMARC" not in refused.smtp_error:
                    raise
                return False
        return True


def own_address() -> str:
    """An address of this machine that is not loopback: libspf2 lets letters from there pass without a question."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737: nobody's, and nothing is sent
        except OSError:
            pytest.skip("this machine has no address but loopback, from which opendmarc believes everything")
        found: str = probe.getsockname()[0]
        return found


@pytest.fixture(scope="module")
def court(base: Path) -> Iterator[Court]:
    court = Court(base, own_address())
    court.start()
    yield court
    court.stop()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_both_judge_alike(court: Court, case: Case) -> None:
    """The same result where it is told, and refused where a policy of p=reject is to be honoured."""
    theirs, ours = court.judge(case)
    assert ours == case.judged()
    assert theirs == replace(ours, action="")


@pytest.mark.parametrize(("case", "said"), DIFFERENT, ids=lambda each: getattr(each, "name", each))
def test_where_they_differ(court: Court, case: Case, said: str) -> None:
    theirs, ours = court.judge(case)
    assert theirs == Judged(True, said)
    assert ours == case.judged()


def opendmarc_result(octets: bytes) -> str:
    """Of its own Authentication-Results, above that of opendkim."""
    head = octets.partition(b"\r\n\r\n")[0]
    [found] = re.findall(rb"\r\nAuthentication-Results: [^;]+; dmarc=(\w+)", head)
    result: str = found.decode()
    return result
