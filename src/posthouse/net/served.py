# SPDX-License-Identifier: Apache-2.0
"""Which certificate clients of a name get, by the rule of net/tls.py, for whoever must speak of it: TLSA, profiles."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from posthouse.net.certificate import CertificateFacts, CertificateFault, read_facts
from posthouse.net.tls import CertificateFiles


@dataclass(frozen=True, slots=True)
class ServedCertificate:
    """`key_digest`: SHA-256 of the public key, which is the data of a TLSA record 3 1 1 (RFC 6698 §2.1)."""

    files: CertificateFiles
    facts: CertificateFacts
    key_digest: bytes


def served_for(name: str, files: Sequence[CertificateFiles]) -> ServedCertificate | None:
    """The first one with the name, else the first one with a wildcard for it, else the first of all; None: no files.
    Raises CertificateFault."""
    read = [(each, read_facts(each.certificate)) for each in files]
    wild = "*." + name.partition(".")[2]
    for wanted in (name, wild):
        for each, facts in read:
            if wanted in facts.names:
                return ServedCertificate(each, facts, _key_digest(each))
    return ServedCertificate(*read[0], _key_digest(read[0][0])) if read else None


def _key_digest(files: CertificateFiles) -> bytes:
    try:
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    except (OSError, ValueError) as error:
        raise CertificateFault(f"{files.certificate}: {error}") from None
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(key).digest()
