# SPDX-License-Identifier: Apache-2.0
"""Just enough DER to cut the public key out of a certificate as it stands there.

Digests of TLSA records are over these very octets; a library that writes a key anew may write it otherwise.
"""

from __future__ import annotations

_SEQUENCE = 0x30
_VERSION = 0xA0  # [0] EXPLICIT


def subject_public_key_info(certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a certificate in DER (RFC 5280 §4.1). Raises ValueError."""
    start, end = _content(certificate, 0, len(certificate))
    start, end = _content(certificate, start, end)  # TBSCertificate
    if start < end and certificate[start] == _VERSION:
        start = _skip(certificate, start, end)
    for _ in ("serialNumber", "signature", "issuer", "validity", "subject"):
        start = _skip(certificate, start, end)
    _content(certificate, start, end)
    return certificate[start : _skip(certificate, start, end)]


def _content(octets: bytes, start: int, end: int) -> tuple[int, int]:
    """Where the content of the SEQUENCE at `start` begins and ends."""
    if start >= end or octets[start] != _SEQUENCE:
        raise ValueError("no SEQUENCE where a certificate has one")
    return _bounds(octets, start, end)


def _skip(octets: bytes, start: int, end: int) -> int:
    return _bounds(octets, start, end)[1]


def _bounds(octets: bytes, start: int, end: int) -> tuple[int, int]:
    if start + 2 > end:
        raise ValueError("an element is cut off")
    size, begin = octets[start + 1], start + 2
    if size & 0x80:
        count = size & 0x7F
        if not 0 < count <= 4:
            raise ValueError("a length has no definite form of up to four octets")
        begin += count
        size = int.from_bytes(octets[start + 2 : begin])
    if begin + size > end:
        raise ValueError("an element is cut off")
    return begin, begin + size
