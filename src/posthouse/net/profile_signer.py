# SPDX-License-Identifier: Apache-2.0
"""Signs configuration profiles with the server's certificate (CMS, RFC 5652), so that a device shows whose they are.

Invariant: signed only with a certificate that is for the server's name and not of our own making: a signature that
nobody trusts is shown as a warning, none is shown as none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7Options, PKCS7SignatureBuilder

from posthouse.net.certificate import CertificateFault
from posthouse.net.served import ServedCertificate
from posthouse.telemetry import logger

_log = logger("web")


class ProfileSigner:
    def __init__(self, served: Callable[[], ServedCertificate | None]) -> None:
        """`served`: the certificate that clients of the server's name get; None where there is none."""
        self._served = served

    def sign(self, octets: bytes) -> bytes | None:
        """SignedData in DER with the octets in it; None: they are to go unsigned. Reads files, so for a worker."""
        try:
            found = self._served()
            if found is None or found.facts.is_own:
                return None
            chain = x509.load_pem_x509_certificates(found.files.certificate.read_bytes())
            key = load_pem_private_key(found.files.key.read_bytes(), None)
        except (CertificateFault, OSError, ValueError, TypeError, UnsupportedAlgorithm) as fault:
            _log.warning("a profile goes unsigned", reason=str(fault))
            return None
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            return None  # what devices cannot verify
        return _signed(octets, chain, key)


def _signed(
    octets: bytes, chain: Sequence[x509.Certificate], key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
) -> bytes:
    builder = PKCS7SignatureBuilder().set_data(octets).add_signer(chain[0], key, hashes.SHA256())
    for each in chain[1:]:
        builder = builder.add_certificate(each)
    return builder.sign(Encoding.DER, [PKCS7Options.Binary])
