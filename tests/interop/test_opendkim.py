# SPDX-License-Identifier: Apache-2.0
"""Debian's opendkim behind a real Postfix: it believes what we sign, and we believe what it signs."""

from __future__ import annotations

import re
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from . import maildir
from .house import ALICE, BOB, DOMAIN, House
from .letters import ATTACHMENT, assert_carries, field, letter
from .milters import signer, verifier
from .postfix import Postfix
from .programs import PATIENCE, free_port, require_root
from .zone import Dns, Zone, dkim_record, txt

pytestmark = pytest.mark.interop

THERE = "postfix.test"
DANA = f"dana@{THERE}"
HOST = f"mail.{THERE}"
HEAD = b"From: Alice <" + ALICE.encode() + b">\r\nTo: bob@postfix.test\r\nSubject: "
# What canonical forms are about: blanks, empty lines, folds, and what stands at the end.
ODD = {
    "usual": letter("usual", ALICE, f"bob@{THERE}"),
    "5MiB": letter("large", ALICE, f"bob@{THERE}", attachment=ATTACHMENT),
    "no body": HEAD + b"no body\r\n\r\n",
    "only empty lines": HEAD + b"empty lines\r\n\r\n\r\n\r\n\r\n",
    "no line end": HEAD + b"no line end\r\n\r\nlast",
    "blanks": HEAD + b"  \t blanks  \t\r\nCc:\r\nX-Empty: \t\r\n\r\n a\t\t b  \r\n\t\r\n\r\n  \r\n",
    "folds": HEAD + b"folded\r\n\tonce\r\n  and twice \r\nReferences: <1@a>\r\n\t<2@b>\r\n\r\nbody\r\n",
    "several": HEAD + b"several\r\nComments: one\r\nComments: two\r\nSubject: another\r\n\r\nbody\r\n",
}


class Post:
    """posthouse and a Postfix with a verifying opendkim; both ask one DNS, in which the keys of both are."""

    def __init__(self, base: Path) -> None:
        require_root("opendkim")
        smtp, there = free_port(), free_port()
        keys = {"rsa": generate_private_key(public_exponent=65537, key_size=2048), "ed": Ed25519PrivateKey.generate()}
        self.pem = {
            name: key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) for name, key in keys.items()
        }
        public = keys["rsa"].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        edwards = keys["ed"].public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        published = [
            txt("rsa._domainkey", dkim_record(public)),
            txt("ed._domainkey", dkim_record(edwards, "ed25519")),
        ]
        self.dns = Dns(base / "opendkim-dns", Zone(DOMAIN, []), Zone(THERE, published))
        settings = f'[authentication]\nloopback = true\n[resolver]\nservers = ["{self.dns.server}"]\n'
        self.house = House(
            base / "opendkim-house", routes={THERE: f"127.0.0.1:{there}"}, settings=settings, smtp_port=smtp
        )
        self.base = base
        self.verifier = verifier(base / "opendkim-verifier", HOST)
        # Where its signer's socket will be: each test starts one with its own way to sign.
        self.signer_folder = base / "opendkim-signer"
        milters = f"{self.verifier.socket}, unix:{self.signer_folder}/socket"
        self.postfix = Postfix(
            base / "opendkim-postfix",
            {DOMAIN: f"smtp:[127.0.0.1]:{smtp}"},
            port=there,
            settings=f"smtpd_milters = {milters}\nmilter_default_action = accept\n",
            dns=self.dns,
        )

    def start(self) -> None:
        self.dns.start()
        records = self.house.told("dns", DOMAIN)["records"]
        self.dns.publish({DOMAIN: [each["zone_line"] for each in records if "._domainkey." in each["name"]]})
        self.house.start()
        self.verifier.start(self.dns)
        self.postfix.start()

    def stop(self) -> None:
        self.postfix.stop()
        self.verifier.stop()
        self.house.stop()
        self.dns.stop()

    def hand_over(self, octets: bytes, sender: str = DANA, to: str = BOB) -> None:
        """To Postfix, as a neighbour of its machine."""
        with smtplib.SMTP("127.0.0.1", self.postfix.port, timeout=PATIENCE) as smtp:
            assert smtp.sendmail(sender, [to], octets, mail_options=["BODY=8BITMIME"]) == {}

    def believed(self, letter_there: bytes) -> list[tuple[str, str]]:
        """(algorithm, result) of each signature, as opendkim tells it."""
        told = [each for each in fields(letter_there, "Authentication-Results") if each.startswith(f"{HOST};")]
        assert len(told) == 1, told
        plain = re.sub(r"\([^)]*\)", "", told[0])  # without comments, which have semicolons in them
        found = re.findall(r"dkim=(\w+)[^;]*?header\.a=([\w-]+)", plain)
        return sorted((algorithm, result) for result, algorithm in found)


def fields(octets: bytes, name: str) -> list[str]:
    head = octets.partition(b"\r\n\r\n")[0].decode("ascii", "replace")
    unfolded = re.sub(r"\r\n(?=[ \t])", "", head)
    return [line.partition(":")[2].strip() for line in unfolded.split("\r\n") if line.startswith(f"{name}:")]


@pytest.fixture(scope="module")
def post(base: Path) -> Iterator[Post]:
    post = Post(base)
    post.start()
    yield post
    post.stop()


@pytest.mark.parametrize("name", list(ODD))
def test_opendkim_believes_what_we_sign(post: Post, name: str) -> None:
    """Both of our signatures, on every kind of letter."""
    before = len(maildir.letters(post.postfix.box("bob")))
    post.house.submit(ODD[name], [f"bob@{THERE}"])
    found = maildir.wait_for(post.postfix.box("bob"), before + 1, post.house.log)[-1]
    assert post.believed(found) == [("ed25519-sha256", "pass"), ("rsa-sha256", "pass")], found[:3000]


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"usual", b"other"), (b"\xe4\xb8\x80\xe5\xb0\x81", b"\xe4\xb8\xa4\xe5\xb0\x81"), (b"To: Bob", b"To: Eve")],
    ids=["subject", "body", "to"],
)
def test_opendkim_does_not_believe_what_was_changed(post: Post, old: bytes, new: bytes) -> None:
    box = post.postfix.box("bob")
    before = len(maildir.letters(box))
    post.house.submit(ODD["usual"], [f"bob@{THERE}"])
    signed = maildir.wait_for(box, before + 1, post.house.log)[-1]
    signed = signed[signed.index(b"DKIM-Signature:") :]
    assert old in signed
    post.hand_over(signed.replace(old, new), ALICE, f"bob@{THERE}")
    found = maildir.wait_for(box, before + 2, post.postfix.log)[-1]
    assert {result for _, result in post.believed(found)} == {"fail"}


# Not Ed25519 with simple: opendkim 2.11 then folds its own field before b= when it has already signed it unfolded,
# which only relaxed bears (RFC 6376 §3.4.1). dkimpy does not believe it either.
WAYS = [
    *(("rsa", "rsa-sha256", f"{head}/{body}") for head in ("simple", "relaxed") for body in ("simple", "relaxed")),
    *(("ed", "ed25519-sha256", f"relaxed/{body}") for body in ("simple", "relaxed")),
]


@pytest.mark.parametrize(("selector", "algorithm", "canonicalization"), WAYS)
def test_we_believe_what_opendkim_signs(post: Post, selector: str, algorithm: str, canonicalization: str) -> None:
    post.house.empty(BOB)
    one = signer(fresh(post.signer_folder), THERE, selector, post.pem[selector], algorithm, canonicalization)
    one.start(post.dns)
    try:
        for octets in ODD.values():
            post.hand_over(octets.replace(ALICE.encode(), DANA.encode()))
        letters = post.house.take(BOB, len(ODD))
    finally:
        one.stop()
    for found in letters:
        assert f"c={canonicalization}" in field(found, "DKIM-Signature").replace(" ", "")
        told = field(found, "Authentication-Results")
        assert re.search(rf"dkim=pass[^;]*header\.a={algorithm}", told), found[:3000]


def test_we_do_not_believe_what_was_changed_behind_opendkim(post: Post) -> None:
    post.house.empty(BOB)
    one = signer(fresh(post.signer_folder), THERE, "rsa", post.pem["rsa"], "rsa-sha256", "relaxed/relaxed")
    one.start(post.dns)
    try:
        sent = letter("honest", DANA, BOB)
        post.hand_over(sent)
        [found] = post.house.take(BOB)
    finally:
        one.stop()
    assert_carries(found, sent)
    assert "dkim=pass" in field(found, "Authentication-Results")
    changed = found[found.index(b"DKIM-Signature:") :].replace(b"honest", b"honeyed")
    post.house.receive(changed, BOB, sender=DANA)
    [again] = post.house.take(BOB)
    assert "dkim=fail" in field(again, "Authentication-Results")


def fresh(folder: Path) -> Path:
    """Each signer writes its files anew, in the place that Postfix knows."""
    for path in folder.iterdir() if folder.exists() else ():
        path.unlink()
    if folder.exists():
        folder.rmdir()
    return folder
