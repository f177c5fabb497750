# SPDX-License-Identifier: Apache-2.0
"""Which certificate a name gets, what a TLSA record says of it, and profiles signed with it."""

from __future__ import annotations

import datetime
import hashlib
import plistlib
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs7

from posthouse.net.certificate import CertificateFault
from posthouse.net.clock import SystemClock
from posthouse.net.profile_signer import ProfileSigner
from posthouse.net.served import ServedCertificate, served_for
from posthouse.net.tls import CertificateFiles, CertificateStore
from tests.net.conftest import make_files

PROFILE = plistlib.dumps({"a": "b"})


def issue(folder: Path, key: Any, *names: str) -> CertificateFiles:
    """A chain of two: somebody else's authority has signed it."""
    folder.mkdir()
    authority = ec.generate_private_key(ec.SECP256R1())
    chain = [
        _certificate(key.public_key(), names[0], "An Authority", authority, names),
        _certificate(authority.public_key(), "An Authority", "An Authority", authority, ()),
    ]
    files = CertificateFiles(folder / "chain.pem", folder / "key.pem")
    files.certificate.write_bytes(b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain))
    files.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def _certificate(public: Any, subject: str, issuer: str, key: Any, names: Sequence[str]) -> x509.Certificate:
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=9000))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), False)
    builder = builder.add_extension(x509.BasicConstraints(ca=not names, path_length=None), critical=True)
    return builder.sign(key, hashes.SHA256())


def test_the_choice_is_that_of_the_handshake(tmp_path: Path) -> None:
    files = [
        issue(tmp_path / "default", ec.generate_private_key(ec.SECP256R1()), "first.test"),
        issue(tmp_path / "wild", ec.generate_private_key(ec.SECP256R1()), "*.a.test"),
        issue(tmp_path / "exact", ec.generate_private_key(ec.SECP256R1()), "mail.a.test"),
        issue(tmp_path / "later", ec.generate_private_key(ec.SECP256R1()), "mail.a.test"),
    ]
    store = CertificateStore(files, SystemClock())
    for name, number in (("mail.a.test", 2), ("other.a.test", 1), ("b.test", 0), ("x.y.a.test", 0)):
        found = served_for(name, files)
        assert found is not None
        assert found.files == files[number], name
        assert found.key_digest == hashlib.sha256(_served_key(store, name)).digest()


def _served_key(store: CertificateStore, name: str) -> bytes:
    """What a client of that name is shown."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    there, here = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(there, here, server_hostname=name)
    server = store.context.wrap_bio(here, there, server_side=True)
    for _ in range(4):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    certificate = x509.load_der_x509_certificate(client.getpeercert(binary_form=True) or b"")
    return certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def test_no_files_and_files_that_are_none(tmp_path: Path) -> None:
    assert served_for("a.test", []) is None
    with pytest.raises(CertificateFault):
        served_for("a.test", [CertificateFiles(tmp_path / "none", tmp_path / "none")])


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)])
def test_a_profile_is_signed_with_the_whole_chain(tmp_path: Path, key: Any) -> None:
    files = issue(tmp_path / "x", key, "mail.a.test")
    signed = ProfileSigner(lambda: served_for("mail.a.test", [files])).sign(PROFILE)
    assert signed is not None
    assert PROFILE in signed
    names = [each.subject.rfc4514_string() for each in pkcs7.load_der_pkcs7_certificates(signed)]
    assert sorted(names) == ["CN=An Authority", "CN=mail.a.test"]


def test_what_cannot_be_signed_goes_unsigned(tmp_path: Path) -> None:
    own = make_files(tmp_path, "mail.a.test")
    odd = issue(tmp_path / "odd", ed25519.Ed25519PrivateKey.generate(), "mail.a.test")
    broken = issue(tmp_path / "broken", ec.generate_private_key(ec.SECP256R1()), "mail.a.test")
    broken.key.write_bytes(b"nothing")
    gone = CertificateFiles(tmp_path / "none", tmp_path / "none")
    for files in ([own], [odd], [broken], [gone], []):

        def served(files: list[CertificateFiles] = files) -> ServedCertificate | None:
            return served_for("mail.a.test", files)

        assert ProfileSigner(served).sign(PROFILE) is None
