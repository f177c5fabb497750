# SPDX-License-Identifier: Apache-2.0
"""Pebble, the ACME server for tests of Let's Encrypt, with its stub for DNS: everything on loopback."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .programs import accepts, found, free_port, require, wait_until

HOST = "ca.test"  # the stub says that every name is at 127.0.0.1
EAB_KEY_ID, EAB_KEY = "kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"


class Pebble:
    """`dns`: the port of a DNS server to look at instead of the stub's."""

    def __init__(
        self, folder: Path, *, dns: int = 0, http: int = 0, tls: int = 0, eab: bool = False, bad_nonces: int = 5
    ) -> None:
        require("pebble", "pebble-challtestsrv")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.http, self.tls = http or free_port(), tls or free_port()
        self.port, self.management, self.stub_port = free_port(), free_port(), free_port()
        self.resolver_port = free_port()
        self.dns = dns or self.resolver_port
        self.ca_file = folder / "ca.pem"
        self.log = folder / "pebble.log"
        self._bad_nonces = bad_nonces
        self._processes: list[subprocess.Popen[bytes]] = []
        _make_certificate(folder, self.ca_file)
        self._eab = eab

    @property
    def directory(self) -> str:
        return f"https://{HOST}:{self.port}/dir"

    def settings(self, **more: str) -> str:
        """Lines of posthouse.toml, values as in TOML."""
        lines = {"agreed": "true", "directory": f'"{self.directory}"', "ca_file": f'"{self.ca_file}"', **more}
        acme = "\n".join(f"{key} = {value}" for key, value in lines.items())
        return f'[resolver]\nservers = ["127.0.0.1:{self.resolver_port}"]\n[acme]\n{acme}\n'

    def start(self) -> None:
        self._write_settings()
        off = ["-http01", "", "-https01", "", "-tlsalpn01", ""]
        stub = [found("pebble-challtestsrv"), *off, "-dns01", f"127.0.0.1:{self.resolver_port}"]
        self._run([*stub, "-management", f"127.0.0.1:{self.stub_port}", "-defaultIPv6", ""])
        self._run(
            [found("pebble"), "-config", str(self.folder / "pebble.json"), "-dnsserver", f"127.0.0.1:{self.dns}"],
            PEBBLE_VA_NOSLEEP="1",
            PEBBLE_WFE_NONCEREJECT=str(self._bad_nonces),
            PEBBLE_AUTHZREUSE="0",
        )
        wait_until(lambda: accepts(self.port), "pebble to listen", log=self.log)
        wait_until(lambda: accepts(self.stub_port), "the stub to listen", log=self.log)

    def _write_settings(self) -> None:
        settings: dict[str, Any] = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": str(self.folder / "pebble.pem"),
            "privateKey": str(self.folder / "pebble.key"),
            "httpPort": self.http,
            "tlsPort": self.tls,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": self._eab,
        }
        if self._eab:
            settings["externalAccountMACKeys"] = {EAB_KEY_ID: EAB_KEY}
        (self.folder / "pebble.json").write_text(json.dumps({"pebble": settings}))

    def _run(self, words: list[str | None], **environment: str) -> None:
        with self.log.open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    [str(word) for word in words],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **environment},
                )
            )

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(10)
        self._processes.clear()

    def revocation(self, certificate: bytes) -> tuple[str, int | None]:
        """Of a certificate in DER form: "Valid" or "Revoked", and the reason's number (RFC 5280 §5.3.1)."""
        serial = x509.load_der_x509_certificate(certificate).serial_number
        answer = httpx2.get(f"https://127.0.0.1:{self.management}/cert-status-by-serial/{serial:x}", verify=False)
        said = answer.json()
        return said["Status"], said.get("Reason")

    def root(self) -> bytes:
        """The certificate that everything it issues leads to."""
        answer = httpx2.get(f"https://127.0.0.1:{self.management}/roots/0", verify=False)
        return answer.content


def _make_certificate(folder: Path, ca_file: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)

    def sign(
        name: str, key: ec.EllipticCurvePrivateKey, by: tuple[x509.Name, ec.EllipticCurvePrivateKey], *, is_ca: bool
    ) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(by[0])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by[1].public_key()), critical=False)
            .sign(by[1], hashes.SHA256())
        )

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ca-of-ca.test")])
    ca = sign("ca-of-ca.test", ca_key, (ca_name, ca_key), is_ca=True)
    leaf = sign(HOST, key, (ca_name, ca_key), is_ca=False)
    pem = serialization.Encoding.PEM
    ca_file.write_bytes(ca.public_bytes(pem))
    (folder / "pebble.pem").write_bytes(leaf.public_bytes(pem))
    (folder / "pebble.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
