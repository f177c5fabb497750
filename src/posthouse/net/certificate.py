# SPDX-License-Identifier: Apache-2.0
"""Certificates as files: what is in them, and the self-signed one that a new server starts with."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from posthouse.config import MAIN_CERTIFICATE, Settings

# Clients that were told to trust it ask again after a change, so it lasts; two years is what some refuse above.
SELF_SIGNED_DAYS = 730
RENEW_DAYS = 30  # a self-signed certificate with less time left is made anew at start
_BEGIN = b"-----BEGIN CERTIFICATE-----"
SELF_SIGNED_ORGANIZATION = "posthouse self-signed"  # how we know our own again
# What the library raises for odd signatures, fields given twice and kinds of names that it does not know.
UNREADABLE = (UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, x509.InvalidVersion)
ISSUED_FOLDER, ISSUED_FILE = "acme", "served.pem"  # of a data directory; services/certificate_shelf.py writes there


class CertificateFault(Exception):  # noqa: N818 - as StoreFault
    """A certificate or key cannot be used; the message names the file and what to do."""


@dataclass(frozen=True, slots=True)
class SelfSigned:
    """Where our own certificate lies, and its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What a server needs to know about its certificate."""

    names: tuple[str, ...]  # DNS names in lower case, wildcards as `*.example.test`; IP addresses as text
    expires_at: float  # seconds since the epoch
    binding: bytes  # tls-server-end-point (RFC 5929 §4.1)
    is_own: bool  # self-signed by us


def self_signed_files(folder: Path) -> SelfSigned:
    """`folder`: the data directory."""
    return SelfSigned(folder / "tls" / "self-signed.pem", folder / "tls" / "self-signed.key")


def issued_files(folder: Path, settings: Settings) -> list[Path]:
    """Where the certificates of an authority are, or will be: key and chain in one file each."""
    names = [MAIN_CERTIFICATE, *settings.acme.certificates] if settings.acme.agreed else []
    return [folder / ISSUED_FOLDER / name / ISSUED_FILE for name in names]


def read_facts(path: Path) -> CertificateFacts:
    """Of the first certificate in a PEM file. Raises CertificateFault."""
    try:
        octets = path.read_bytes()
        # A key may stand before it.
        return _facts_of(x509.load_pem_x509_certificate(octets[max(octets.find(_BEGIN), 0) :]))
    except OSError as error:
        raise CertificateFault(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, *UNREADABLE) as error:
        raise CertificateFault(f"{path}: holds no certificate in PEM form that can be used ({error})") from None


def _facts_of(certificate: x509.Certificate) -> CertificateFacts:
    organizations = certificate.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return CertificateFacts(
        names=_names(certificate),
        expires_at=certificate.not_valid_after_utc.timestamp(),
        binding=_binding(certificate),
        is_own=bool(organizations) and organizations[0].value == SELF_SIGNED_ORGANIZATION,
    )


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return tuple(str(name.value).lower() for name in common)
    dns = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    return (*dns, *(str(address) for address in names.get_values_for_type(x509.IPAddress)))


def _binding(certificate: x509.Certificate) -> bytes:
    # RFC 5929 §4.1: hashed with the hash of the certificate's own signature, but MD5 and SHA-1 become SHA-256.
    # A signature without a hash of its own (Ed25519) has no defined binding; SHA-256 is what implementations use.
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None or algorithm.name in ("md5", "sha1"):
        algorithm = hashes.SHA256()
    return certificate.fingerprint(algorithm)


def ensure_self_signed(certificate: Path, key: Path, names: Sequence[str], now: float) -> bool:
    """Make a self-signed certificate for the names unless a usable one is there; True: made.

    A certificate that we did not make is never touched; ours is replaced when it expires within RENEW_DAYS or
    lacks a name, and keeps its key, which TLSA records may name. `now` in seconds since the epoch.
    """
    wanted = tuple(dict.fromkeys(name.lower() for name in names))
    if certificate.exists() and key.exists():
        facts = read_facts(certificate)
        is_good = set(wanted) <= set(facts.names) and facts.expires_at - now > RENEW_DAYS * 86400
        if is_good or not facts.is_own:
            return False
    _write_self_signed(certificate, key, wanted, now)
    return True


def _write_self_signed(certificate: Path, key: Path, names: tuple[str, ...], now: float) -> None:
    private = _key_in(key) or ec.generate_private_key(ec.SECP256R1())  # 0.6 ms a handshake; RSA-2048 half as much again
    start = datetime.datetime.fromtimestamp(now, datetime.UTC) - datetime.timedelta(hours=1)  # clocks differ
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, SELF_SIGNED_ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64]),  # RFC 5280 A.1: ub-common-name
        ]
    )
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=SELF_SIGNED_DAYS))
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        # CA:TRUE so that people can import it as a trusted root; with this server's key alone it signs nobody else.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .sign(private, hashes.SHA256())
    )
    secret = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # The key first: a certificate without its key would look complete after a crash in between.
    _replace(key, secret, 0o600)
    _replace(certificate, built.public_bytes(serialization.Encoding.PEM), 0o644)


def _key_in(path: Path) -> ec.EllipticCurvePrivateKey | None:
    """None where there is none, or none that we would have made."""
    try:
        found = serialization.load_pem_private_key(path.read_bytes(), None)
    except (FileNotFoundError, ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return found if isinstance(found, ec.EllipticCurvePrivateKey) else None


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _replace(path: Path, octets: bytes, mode: int) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
