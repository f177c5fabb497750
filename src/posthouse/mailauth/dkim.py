# SPDX-License-Identifier: Apache-2.0
"""DKIM signing (RFC 6376) with RSA-SHA256 (RFC 8301) and Ed25519-SHA256 (RFC 8463), relaxed/relaxed.

Invariant: From and what people see of a letter are always signed, and signed once more than they occur, so
that nobody can add a second one unnoticed.
"""

from __future__ import annotations

import base64
import hashlib

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import load_der_private_key

from posthouse.mail.header import HeaderScan, scan_header
from posthouse.mailauth.canonical import BodyHash, relaxed_field

__all__ = ["OVERSIGNED", "SIGNED", "BodyHash", "DkimSigner"]

MIN_RSA_BITS = 1024  # RFC 8301 §3.2: signers must not use less
_LINE = 72  # characters of a folded line's content, so that lines stay under 78 columns

# RFC 6376 §5.4.1. Signed once more than present: a field added on the way breaks the signature.
OVERSIGNED = (
    b"from",
    b"to",
    b"cc",
    b"subject",
    b"date",
    b"message-id",
    b"reply-to",
    b"in-reply-to",
    b"references",
    b"mime-version",
    b"content-type",
    b"content-transfer-encoding",
)
# Signed as often as present: lists that send on may add these. RFC 8058 §4 wants both unsubscribe fields signed.
SIGNED = (
    b"sender",
    b"content-disposition",
    b"content-id",
    b"auto-submitted",
    b"list-id",
    b"list-unsubscribe",
    b"list-unsubscribe-post",
    b"tls-report-domain",  # RFC 8460 §5.3, this one and the next
    b"tls-report-submitter",
    b"tls-required",
)

_DIGEST = utils.Prehashed(hashes.SHA256())
_PKCS1 = padding.PKCS1v15()


class DkimSigner:
    """One key of one domain. Raises ValueError when the key (PKCS #8 DER) cannot sign."""

    def __init__(self, domain: str, selector: str, private_key: bytes) -> None:
        try:
            key = load_der_private_key(private_key, None)
        except (TypeError, UnsupportedAlgorithm) as error:
            raise ValueError(str(error)) from None
        if isinstance(key, rsa.RSAPrivateKey):
            if key.key_size < MIN_RSA_BITS:
                raise ValueError(f"the RSA key has fewer than {MIN_RSA_BITS} bits")
            self.algorithm = "rsa-sha256"
        elif isinstance(key, ed25519.Ed25519PrivateKey):
            self.algorithm = "ed25519-sha256"
        else:
            raise ValueError("the key is neither RSA nor Ed25519")
        self._key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey = key
        self.domain = domain
        self.selector = selector

    def sign(self, header: bytes, body: BodyHash, timestamp: float) -> bytes:
        """The DKIM-Signature field, folded, with its CRLF, to be put on top of this header.

        `header` is the header block as it will be sent; `body` was fed everything behind the empty line.
        Raises ValueError for a letter without From (RFC 6376 §5.4).
        """
        scan = scan_header(header)
        if b"from" not in scan:
            raise ValueError("a letter without From cannot be signed")
        names, signed = signed_fields(scan)
        value = (
            f" v=1; a={self.algorithm}; c=relaxed/relaxed; d={self.domain};\r\n"
            f"\ts={self.selector}; t={int(timestamp)};\r\n"
            f"\th={fold_names(names)};\r\n"
            f"\tbh={base64.b64encode(body.digest()).decode()};\r\n"
            "\tb="
        ).encode("ascii")
        signed.append(relaxed_field(b"dkim-signature", value))
        return b"DKIM-Signature:" + value + self.signature_of(b"\r\n".join(signed)) + b"\r\n"

    def signature_of(self, octets: bytes) -> bytes:
        """What stands behind b=, folded."""
        signature = base64.b64encode(self._sign_digest(hashlib.sha256(octets).digest()))
        lines = [signature[start : start + _LINE] for start in range(0, len(signature), _LINE)]
        return b"\r\n\t".join(lines)

    def _sign_digest(self, digest: bytes) -> bytes:
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(digest, _PKCS1, _DIGEST)
        return self._key.sign(digest)  # RFC 8463 §3: PureEdDSA over the SHA-256 digest


def signed_fields(scan: HeaderScan) -> tuple[list[str], list[bytes]]:
    """The names for h= and the fields they stand for; of several the last is signed first (RFC 6376 §5.4.2)."""
    names: list[str] = []
    signed: list[bytes] = []
    for group, extra in ((OVERSIGNED, 1), (SIGNED, 0)):
        for name in group:
            values = scan.raw(name)
            signed += [relaxed_field(name, value) for value in reversed(values)]
            names += [name.decode("ascii")] * (len(values) + extra)
    return names, signed


def fold_names(names: list[str]) -> str:
    lines: list[str] = []
    line = names[0]
    for name in names[1:]:
        if len(line) + len(name) + 4 > _LINE:
            lines.append(line + ":")
            line = name
        else:
            line = f"{line}:{name}"
    return "\r\n\t ".join([*lines, line])
