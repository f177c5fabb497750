# SPDX-License-Identifier: Apache-2.0
"""SMTP to the mailbox with the question who has written the letter: SPF, DKIM and DMARC of each, letters per second.

Invariant: every letter of a run is in the mailbox with a field that says `spf=pass`, `dkim=pass` and `dmarc=pass`.
"""

from __future__ import annotations

import base64
import ipaddress
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bench.cells import Cell, Family, Target, Task
from bench.names import Names, own_address
from bench.peers import PEERS, USER, Peer, Setup
from bench.smtp import KIB, LOADS, Sender, Shape, measure, run_load
from posthouse.mailauth.canonical import BodyHash
from posthouse.mailauth.dkim import DkimSigner

AUTHOR = "author.example"  # not .test, in which opendkim's libunbound knows that nothing is
HOST = f"mail.{AUTHOR}"
SELECTOR = "s2026"
RSA_BITS = 2048
FILTERED = "Postfix + Dovecot + opendkim + opendmarc"
WORDS = (b"spf=pass", b"dkim=pass", b"dmarc=pass")

HEADER = (
    f"From: Author <a@{AUTHOR}>\r\nTo: Alice <{USER}>\r\nSubject: A letter of the usual size\r\n"
    f"Date: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@{AUTHOR}>\r\nMIME-Version: 1.0\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n"
).encode()
LINE = b"A line of a letter as people write them, with some seventy octets.\r\n"

SHAPES = {
    "10 KiB signed with RSA-2048, 10 sessions": Shape(10, 10 * KIB),
    "10 KiB signed with RSA-2048, 50 sessions": Shape(50, 10 * KIB),
}


def signed(key: RSAPrivateKey, octets: int) -> bytes:
    """A letter of the author, relaxed/relaxed as most are."""
    body = LINE * (octets // len(LINE) + 1)
    stream = BodyHash()
    stream.update(body)
    private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return DkimSigner(AUTHOR, SELECTOR, private).sign(HEADER, stream, time.time()) + HEADER + b"\r\n" + body


def records(key: RSAPrivateKey, address: str) -> dict[tuple[str, str], str]:
    """What the author publishes who sends from `address`: SPF with an include, as a domain at a large provider has."""
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {
        (AUTHOR, "MX"): f"10 {HOST}.",
        (AUTHOR, "TXT"): f"v=spf1 include:_spf.{AUTHOR} -all",
        (f"_spf.{AUTHOR}", "TXT"): f"v=spf1 ip4:198.51.100.0/24 ip4:{address} ~all",
        (f"{SELECTOR}._domainkey.{AUTHOR}", "TXT"): f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}",
        (f"_dmarc.{AUTHOR}", "TXT"): f"v=DMARC1; p=reject; rua=mailto:d@{AUTHOR}",
        (HOST, "A"): address,
        (ipaddress.ip_address(address).reverse_pointer, "PTR"): f"{HOST}.",
    }


class SignedSender(Sender):
    """Puts the letter of a file into one server."""

    def __init__(self, peer: Peer, shape: Shape, letter: Path) -> None:
        super().__init__(peer, shape)
        self._letter = letter

    def load(self, letters: int) -> dict[str, float]:
        command = ["smtp-source", "-d", "-s", str(self.shape.sessions), "-m", str(letters), "-F", str(self._letter)]
        command += ["-M", HOST, "-f", f"a@{AUTHOR}", "-t", USER]
        run_load([*command, f"{self.peer.setup.address}:{self.peer.smtp_port}"])
        return {}

    def check(self) -> None:
        """All of Sender's, and that each letter tells that it was checked and has passed. Raises RuntimeError."""
        super().check()
        for header in self.peer.headers(USER):
            missing = [word.decode() for word in WORDS if word not in header]
            if missing:
                said = header[:1500].decode("ascii", "replace")
                raise RuntimeError(f"a letter came without {', '.join(missing)}: {said}")


def run(task: Task) -> dict[str, float]:
    shape = SHAPES[task.cell.name]
    address = own_address()
    key = generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    letter = task.folder / "letter"
    letter.write_bytes(signed(key, shape.octets).replace(b"\r\n", b"\n"))  # smtp-source sends CRLF for LF
    names = Names(task.folder / "n", records(key, address))
    peer = PEERS[task.peer]()
    try:
        names.start()
        peer.start(task.folder / "s", Setup(address=address, names=names.address))
        return measure(SignedSender(peer, shape, letter), task)
    finally:
        peer.stop()
        names.stop()


NOTE = """\
The same load and the same truth as above; in addition every letter must be in the mailbox with a field that says
that SPF, DKIM and DMARC have passed. Every letter has a DKIM signature with RSA of 2048 bits over relaxed/relaxed; its
author publishes SPF with an include and DMARC with `p=reject`. Beside Postfix and Dovecot run Debian's opendkim (DKIM)
and opendmarc (SPF by libspf2, and DMARC) as milters; posthouse has `[authentication]` as it is by default, and looks
the reverse name up too. All ask one unbound on this machine, which knows these names and nothing else and is not
counted. The letters come from an address of the machine that is not loopback, where it has one: libspf2 would ask
nothing else.
"""


def _cell(name: str) -> Cell:
    return Cell(name, LOADS, 2, targets=(Target(FILTERED, "rate", 3),), overhead=5.0)


FAMILY = Family(
    "checked",
    "SMTP to the mailbox, with SPF, DKIM and DMARC",
    tuple(map(_cell, SHAPES)),
    ("posthouse", FILTERED),
    run,
    NOTE,
)
