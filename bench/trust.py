# SPDX-License-Identifier: Apache-2.0
"""What trusted mail costs: processor time for checking and for signing one letter of 10 KiB, DNS answers at hand.

Invariant: every letter that is timed passes SPF, DKIM and DMARC. Run it with `python -m bench.trust`; it prints
milliseconds per letter, the best of several rounds.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from posthouse.mail.address import parse_address
from posthouse.mail.envelope import ReversePath
from posthouse.mailauth.canonical import BodyHash
from posthouse.mailauth.dkim import DkimSigner
from posthouse.net.clock import SystemClock
from posthouse.ports import IPAddress, MxRecord, NameNotFound, Peer
from posthouse.services.disposition import Terms
from posthouse.services.entry_check import EntryCheck
from posthouse.services.transaction import Client
from posthouse.services.verification import Verifier
from posthouse.telemetry import Metrics

ROUNDS = 5
LETTERS = 300  # of a round
SIZE = 10 * 1024
NOW = 1_700_000_000.0
HOST = "mail.author.test"
PEER = Peer("192.0.2.7", 40_000, "192.0.2.1", 25, "bench")
HEADER = (
    b"From: Author <a@author.test>\r\nTo: Bob <bob@bob.test>\r\nSubject: A letter of the usual size\r\n"
    b"Date: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@author.test>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
)
LINE = b"A line of a letter as people write them, with some seventy octets.\r\n"


class Zone:
    """Answers at once, as a cache does."""

    def __init__(self, texts: dict[str, bytes]) -> None:
        self._texts = texts

    async def txt(self, name: str) -> list[bytes]:
        if name not in self._texts:
            raise NameNotFound(name)
        return [self._texts[name]]

    async def mx(self, _domain: str) -> list[MxRecord]:
        return [MxRecord(10, HOST)]

    async def addresses(self, _host: str, version: int = 0) -> list[IPAddress]:
        return [ipaddress.ip_address(PEER.address)] if version != 6 else []

    async def names(self, _address: IPAddress) -> list[str]:
        return [HOST]


def keys() -> list[tuple[DkimSigner, bytes]]:
    """RSA of 2048 bits and Ed25519, with their records: what a domain of ours has."""
    rsa, edwards = generate_private_key(public_exponent=65537, key_size=2048), Ed25519PrivateKey.generate()
    made = []
    for name, private, form, layout in (
        ("rsa", rsa, Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        ("ed25519", edwards, Encoding.Raw, PublicFormat.Raw),
    ):
        octets = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        public = base64.b64encode(private.public_key().public_bytes(form, layout))
        signer = DkimSigner("author.test", name, octets)
        made.append((signer, b"v=DKIM1; k=" + name.encode() + b"; p=" + public))
    return made


def best(work: Callable[[], None]) -> float:
    """Milliseconds of processor time for one letter."""
    rounds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        rounds.append((time.process_time() - start) / LETTERS * 1000)
    return min(rounds)


def sign(signers: list[DkimSigner], body: bytes) -> bytes:
    stream = BodyHash()
    stream.update(body)
    return b"".join(signer.sign(HEADER, stream, NOW) for signer in signers)


def main() -> None:
    body = LINE * (SIZE // len(LINE))
    made = keys()
    zone = Zone(
        {
            "author.test": b"v=spf1 include:_spf.author.test mx -all",
            "_spf.author.test": b"v=spf1 ip4:198.51.100.0/24 ~all",
            "_dmarc.author.test": b"v=DMARC1; p=reject; rua=mailto:d@author.test",
            **{f"{signer.selector}._domainkey.author.test": record for signer, record in made},
        }
    )
    verifier = Verifier(zone, SystemClock(), authserv_id="mail.example.test", hostname="mail.example.test")
    check = EntryCheck(verifier, Terms(), Metrics())
    client, path = Client(PEER, hello=HOST), ReversePath(parse_address("a@author.test"))

    async def verify(header: bytes) -> None:
        for _ in range(LETTERS):
            letter = check.begin(client, path)
            assert letter is not None
            letter.read_header(header)
            letter.update(body)
            judged = check.judge(await letter.findings(), "bench")
            await letter.close()
            assert b"dmarc=pass" in judged.field
            assert b"spf=pass" in judged.field

    for names in (("rsa",), ("rsa", "ed25519")):
        signers = [signer for signer, _ in made if signer.selector in names]
        header = sign(signers, body) + HEADER + b"\r\n"

        def signing(signers: list[DkimSigner] = signers) -> None:
            for _ in range(LETTERS):
                sign(signers, body)

        def checking(header: bytes = header) -> None:
            asyncio.run(verify(header))

        told = " and ".join(names)
        print(f"signing with {told}: {best(signing):.3f} ms")
        print(f"SPF, iprev, DKIM ({told}) and DMARC: {best(checking):.3f} ms")


if __name__ == "__main__":
    main()
