# SPDX-License-Identifier: Apache-2.0
"""Certificates of every kind, made for tests: issuers, their issuers, servers."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID, ObjectIdentifier

from posthouse.mailauth.der import subject_public_key_info
from posthouse.ports import TlsaRecord

NOW = 1_800_000_000.0  # 2027-01-15
DAY = datetime.timedelta(days=1)


@dataclass
class Issued:
    certificate: x509.Certificate
    key: Any
    chain: list[bytes] = field(default_factory=list)  # its own first, then its issuers up to the root

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def public_key(self) -> bytes:
        return subject_public_key_info(self.der)

    def pem(self) -> bytes:
        """Key and chain in one file, as Python's `load_cert_chain` takes it."""
        secret = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return secret + b"".join(
            x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM) for der in self.chain
        )


def issue(
    name: str,
    issuer: Issued | None = None,
    *,
    names: Sequence[str] | None = None,
    is_ca: bool = False,
    path_length: int | None = None,
    begins: float = -40,
    ends: float = 40,
    key: Any = None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    has_constraints: bool = True,
    now: float = NOW,
    signer: Any = None,
) -> Issued:
    """`begins`, `ends`: in days from now. Without `issuer` it signs itself, or `signer` signs it in its own name."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    today = datetime.datetime.fromtimestamp(now, datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today + begins * DAY)
        .not_valid_after(today + ends * DAY)
    )
    if has_constraints:
        builder = builder.add_extension(x509.BasicConstraints(is_ca, path_length if is_ca else None), critical=True)
    if names is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), False)
    for extension, is_critical in extensions:
        builder = builder.add_extension(extension, is_critical)
    signing = signer or (key if issuer is None else issuer.key)
    made = builder.sign(signing, None if isinstance(signing, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    issued = Issued(made, key)
    issued.chain = [issued.der, *(issuer.chain if issuer is not None else [])]
    return issued


def record(usage: int, selector: int, matching: int, of: Issued | bytes) -> TlsaRecord:
    """The TLSA record of a certificate."""
    if isinstance(of, bytes):
        return TlsaRecord(usage, selector, matching, of)
    octets = of.public_key if selector == 1 else of.der
    if matching == 1:
        octets = hashlib.sha256(octets).digest()
    elif matching == 2:
        octets = hashlib.sha512(octets).digest()
    return TlsaRecord(usage, selector, matching, octets)


SERVER_AUTH = ObjectIdentifier("1.3.6.1.5.5.7.3.1")
CLIENT_AUTH = ObjectIdentifier("1.3.6.1.5.5.7.3.2")
