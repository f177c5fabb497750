# SPDX-License-Identifier: Apache-2.0
"""The certificate service in virtual time, with an authority by script, a zone in memory and real files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509

from posthouse.net.disk import PosixDisk
from posthouse.net.tls import CertificateFiles, why_unusable
from posthouse.ports import Disk
from posthouse.services.acme.accounts import Accounts
from posthouse.services.acme.jws import encode
from posthouse.services.acme.solving import DnsSolver, HttpSolver, TlsSolver
from posthouse.services.acme.x509 import ACME_IDENTIFIER, ServerKey
from posthouse.services.certificate_keys import CertificateKeys
from posthouse.services.certificate_shelf import CertificateShelf
from posthouse.services.certificate_terms import Authority, CertificatePlan
from posthouse.services.certificates import Certificates
from posthouse.services.challenges import Challenges
from posthouse.services.key_rollover import KeyNotice
from posthouse.telemetry import Metrics
from tests.fakes import FakeClock, FakeEntropy

from .authority import DIRECTORY, FakeAuthority
from .world import InlineWorkers
from .zone import FakeZone

HOST = "mail.example.test"


class CertificateWorld:
    def __init__(
        self,
        folder: Path,
        *plans: CertificatePlan,
        authority: Authority = Authority(DIRECTORY, ("admin@example.test",)),  # noqa: B008 - a frozen value
        disk: Disk | None = None,
        by_hand: Iterable[str] = (),
        first_key: ServerKey | None = None,
        keeps: FakeAuthority | None = None,
        zone: FakeZone | None = None,
    ) -> None:
        """`keeps`: the authority of a world before, when the server starts again."""
        self.clock, self.entropy = FakeClock(), FakeEntropy(0 if keeps is None else keeps.posts)
        self.workers = InlineWorkers()
        self.metrics = Metrics()
        self.zone = zone or FakeZone("example.test")
        self.challenges = Challenges(self.clock, self.entropy)
        self.ca = keeps or FakeAuthority(self.clock, self.look)
        self.ca.look = self.look
        self.installed = 0
        self.plans = plans or (CertificatePlan("main", (HOST,), "http-01"),)
        self.shelf = CertificateShelf(
            folder, disk or PosixDisk(), lambda path: why_unusable(CertificateFiles(path, path))
        )
        keys = CertificateKeys(
            self.plans,
            self.shelf,
            KeyNotice(self.zone, self.zone),
            clock=self.clock,
            entropy=self.entropy,
            workers=self.workers,
            hostname=HOST,
            first_key=lambda: first_key,
        )
        self.certificates = Certificates(
            self.plans,
            authority,
            self.shelf,
            Accounts(self.shelf, authority, self.ca, clock=self.clock, entropy=self.entropy, workers=self.workers),
            {
                "http-01": HttpSolver(self.challenges),
                "tls-alpn-01": TlsSolver(self.challenges),
                "dns-01": DnsSolver(self.zone, self.zone, 60.0),
            },
            keys,
            clock=self.clock,
            entropy=self.entropy,
            workers=self.workers,
            metrics=self.metrics,
            by_hand=lambda: by_hand,
        )
        self.certificates.watch(self._install)

    def look(self, kind: str, name: str, token: str, proof: str) -> bool:
        """As the authority sees it."""
        match kind:
            case "http-01":
                return self.challenges.http_answer(token) == proof
            case "tls-alpn-01":
                pem = self.challenges.tls_names().get(name)
                self.challenges.tls_asked(name)
                return pem is not None and _proves(pem, name, proof)
            case _:
                value = encode(hashlib.sha256(proof.encode()).digest())
                return value in self.zone.values(f"_acme-challenge.{name}", "TXT")

    def _install(self) -> None:
        self.installed += 1


def _proves(pem: bytes, name: str, proof: str) -> bool:
    certificate = x509.load_pem_x509_certificate(pem[pem.index(b"-----BEGIN CERTIFICATE") :])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    identifier = certificate.extensions.get_extension_for_oid(ACME_IDENTIFIER)
    assert identifier.critical
    assert isinstance(identifier.value, x509.UnrecognizedExtension)
    digest = hashlib.sha256(proof.encode()).digest()
    return names.get_values_for_type(x509.DNSName) == [name] and identifier.value.value == b"\x04\x20" + digest
