# SPDX-License-Identifier: Apache-2.0
"""Certificates and their keys as octets: what is asked for, what came, and what is in it.

Invariant: a chain is taken only when its first certificate is for the key and the names that were asked for, and its
time is now.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from posthouse.ports import Entropy
from posthouse.services.acme.jws import encode, load_key, make_ec_key
from posthouse.services.acme.words import AcmeFault

KeyKind = Literal["ec", "rsa"]
# What the library raises for odd curves, fields given twice and kinds of names that it does not know.
UNREADABLE = (UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, x509.InvalidVersion)
ServerKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

RSA_BITS = 2048  # what every authority takes and every client can do
ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")  # RFC 8737 §3: id-pe-acmeIdentifier
CHALLENGE_DAYS = 7  # of a certificate that answers a challenge; an order lives no longer
SERIAL_OCTETS = 16
# Seconds by which a certificate may begin in the future: clocks that are set by the network differ by less.
CLOCK_SLACK = 300.0


class TooEarly(AcmeFault):
    """The chain is good and will be of use: the same again later."""


@dataclass(frozen=True, slots=True)
class LeafFacts:
    """Of the server's own certificate in a chain. Times in seconds since the epoch."""

    names: tuple[str, ...]  # DNS names, lower case
    issued_at: float
    expires_at: float
    renewal_id: str  # RFC 9773 §4.1; "" where the certificate does not say who signed it
    key_digest: str  # SHA-256 of the public key: the third part of TLSA "3 1 1" (RFC 6698 §2.1)
    issuer: str


def make_key(kind: KeyKind, entropy: Entropy) -> ServerKey:
    """RSA takes its chance and some 100 ms from the library."""
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    return make_ec_key(entropy)


def key_pem(key: ServerKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_key(pem: bytes) -> ServerKey:
    """Raises ValueError."""
    key = load_key(pem)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ValueError("neither an EC nor an RSA key")
    return key


def key_kind(key: ServerKey) -> KeyKind:
    return "ec" if isinstance(key, ec.EllipticCurvePrivateKey) else "rsa"


def key_digest(key: ServerKey | x509.Certificate) -> str:
    """RFC 6698 §2.1.2 and §2.1.3, selector 1 and matching type 1: SHA-256 of SubjectPublicKeyInfo, in hex."""
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(public).hexdigest()


def signing_request(key: ServerKey, names: Sequence[str]) -> str:
    """PKCS #10 in base64url (RFC 8555 §7.4): the names alone, and no subject, which authorities ignore."""
    built = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return encode(built.public_bytes(Encoding.DER))


def leaf_der(pem: bytes) -> bytes:
    """The first certificate in `pem`. Raises ValueError."""
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def read_leaf(pem: bytes) -> LeafFacts:
    """Of the first certificate in `pem`. Raises ValueError."""
    try:
        return _read_leaf(pem)
    except UNREADABLE as error:
        raise ValueError(f"a certificate that cannot be read: {error}") from None


def _read_leaf(pem: bytes) -> LeafFacts:
    leaf = x509.load_pem_x509_certificate(pem)
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = tuple(name.lower() for name in found.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        names = ()
    return LeafFacts(
        names=names,
        issued_at=leaf.not_valid_before_utc.timestamp(),
        expires_at=leaf.not_valid_after_utc.timestamp(),
        renewal_id=_renewal_id(leaf),
        key_digest=key_digest(leaf),
        issuer=leaf.issuer.rfc4514_string(),
    )


def take_chain(pem: bytes, key: ServerKey, names: Sequence[str], now: float) -> bytes:
    """The chain as it is to be kept: certificates alone, whatever else came with them. Raises AcmeFault, TooEarly."""
    try:
        chain = x509.load_pem_x509_certificates(pem)
        facts = read_leaf(pem)
    except ValueError as error:
        raise AcmeFault(f"the authority gave something that is no certificate: {error}") from None
    if facts.key_digest != key_digest(key):
        raise AcmeFault("the authority gave a certificate for another key")
    missing = sorted(set(names) - set(facts.names))
    if missing:
        raise AcmeFault(f"the authority gave a certificate without {', '.join(missing)}")
    # Those above the signer may be old ones of a root that verifiers know anyway.
    for each in chain[:2]:
        _check_time(each, now)
    return b"".join(each.public_bytes(Encoding.PEM) for each in chain)


def _check_time(certificate: x509.Certificate, now: float) -> None:
    try:
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except ValueError as error:  # years that Python does not have
        raise AcmeFault(f"the authority gave a certificate with a date that cannot be: {error}") from None
    if ends.timestamp() <= now:
        raise AcmeFault(f"the authority gave a certificate that has ended at {ends} (is the clock right?)")
    if begins.timestamp() > now + CLOCK_SLACK:
        raise TooEarly(f"the authority gave a certificate that begins at {begins} (is the clock right?)")


def challenge_certificate(name: str, authorization: str, now: float, entropy: Entropy) -> bytes:
    """RFC 8737 §3: a self-signed certificate, with its key before it, that answers tls-alpn-01 for one name."""
    key = make_ec_key(entropy)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ACME challenge")])
    start = datetime.datetime.fromtimestamp(now, datetime.UTC) - datetime.timedelta(hours=1)  # clocks differ
    # The extension's value is an OCTET STRING of 32 octets, in DER.
    digest = b"\x04\x20" + hashlib.sha256(authorization.encode()).digest()
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(entropy.octets(SERIAL_OCTETS), "big") >> 1 or 1)  # RFC 5280 §4.1.2.2: positive
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=CHALLENGE_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.UnrecognizedExtension(ACME_IDENTIFIER, digest), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key_pem(key) + built.public_bytes(Encoding.PEM)


def _renewal_id(leaf: x509.Certificate) -> str:
    try:
        authority = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return ""
    if authority is None:
        return ""
    serial = leaf.serial_number  # DER keeps one bit for the sign
    return f"{encode(authority)}.{encode(serial.to_bytes(serial.bit_length() // 8 + 1, 'big', signed=True))}"
