# SPDX-License-Identifier: Apache-2.0
"""DANE for SMTP: which TLSA records count, and whether a chain of certificates is what they promise (RFC 7672).

Invariant: `authenticate` returns only for a chain that one usable record vouches for: the server's own certificate
(DANE-EE), or an issuer of it whose chain, dates, constraints and names are checked (DANE-TA).
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder, Store, VerificationError

from posthouse.mailauth.der import subject_public_key_info
from posthouse.ports import TlsaRecord

TRUST_ANCHOR, END_ENTITY = 2, 3  # RFC 7218: DANE-TA, DANE-EE
CERTIFICATE, PUBLIC_KEY = 0, 1
FULL, SHA_256, SHA_512 = 0, 1, 2
_DIGESTS: dict[int, tuple[Callable[[bytes], bytes], int]] = {
    SHA_256: (lambda octets: hashlib.sha256(octets).digest(), 32),
    SHA_512: (lambda octets: hashlib.sha512(octets).digest(), 64),
}
MAX_RECORDS = 50  # of one host; it changes keys with two or four of them, and each may cost parsing and hashing
MAX_CHAIN = 10  # certificates looked at; public chains have three, and each costs a signature
MAX_ANCHORS = 4  # tried one after the other: each is a whole verification

# What libraries raise for octets from strangers that are no certificate, or one of a kind that they do not know.
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


class DaneFault(Exception):  # noqa: N818 - the peer's certificate, not a fault of ours
    """The chain is not what the records promise; `result` in the words of RFC 8460 §4.3."""

    def __init__(self, result: str, reason: str) -> None:
        super().__init__(reason)
        self.result = result


@dataclass(frozen=True, slots=True)
class _Presented:
    """A certificate of the chain. `parsed` None: DANE-EE can match it all the same."""

    der: bytes
    public_key: bytes | None
    parsed: x509.Certificate | None

    @classmethod
    def read(cls, der: bytes) -> _Presented:
        try:
            key = subject_public_key_info(der)
        except ValueError:
            return cls(der, None, None)
        try:
            return cls(der, key, x509.load_der_x509_certificate(der))
        except _UNREADABLE:
            return cls(der, key, None)


def usable(records: Iterable[TlsaRecord]) -> tuple[TlsaRecord, ...]:
    """Those that say something to us (RFC 7672 §3.1, RFC 6698 §4.1), of each kind the strongest digest (RFC 7671 §9).

    PKIX-TA(0) and PKIX-EE(1) are unusable: §3.1.3."""
    good = [record for record in islice(dict.fromkeys(records), MAX_RECORDS) if _is_usable(record)]
    strongest: dict[tuple[int, int], int] = {}
    for record in good:
        kind = record.usage, record.selector
        strongest[kind] = max(strongest.get(kind, FULL), record.matching)
    return tuple(record for record in good if record.matching in (FULL, strongest[record.usage, record.selector]))


def _is_usable(record: TlsaRecord) -> bool:
    if record.usage not in (TRUST_ANCHOR, END_ENTITY) or record.selector not in (CERTIFICATE, PUBLIC_KEY):
        return False
    if record.matching in _DIGESTS:
        return len(record.data) == _DIGESTS[record.matching][1]
    if record.matching != FULL:
        return False
    try:
        if record.selector == CERTIFICATE:
            x509.load_der_x509_certificate(record.data)
        else:
            load_der_public_key(record.data)
    except _UNREADABLE:
        return False
    return True


def authenticate(chain: Sequence[bytes], records: Sequence[TlsaRecord], names: Sequence[str], now: float) -> str:
    """By what the peer is authenticated: "DANE-EE" or "DANE-TA". Raises DaneFault.

    `chain`: what the peer showed, in DER, its own certificate first. `records`: usable ones. `names`: what the
    certificate may be for (§3.2.2). `now`: seconds since the epoch."""
    if not chain:
        raise DaneFault("validation-failure", "the host shows no certificate")
    shown = [_Presented.read(der) for der in chain[:MAX_CHAIN]]
    # §3.1.1: neither names nor dates count.
    if any(record.usage == END_ENTITY and _matches(record, shown[0]) for record in records):
        return "DANE-EE"
    anchored = [record for record in records if record.usage == TRUST_ANCHOR]
    if not anchored:
        raise DaneFault("validation-failure", "no TLSA record is that of the host's certificate")
    leaf = shown[0].parsed
    if leaf is None:
        raise DaneFault("certificate-not-trusted", "the host's certificate cannot be read")
    _verify_chain(leaf, shown, anchored, datetime.datetime.fromtimestamp(now, datetime.UTC))
    if not any(_is_for(leaf, name) for name in names):
        raise DaneFault("certificate-host-mismatch", f"the certificate is not for {' or '.join(names)}")
    return "DANE-TA"


def _matches(record: TlsaRecord, shown: _Presented) -> bool:
    octets = shown.der if record.selector == CERTIFICATE else shown.public_key
    if octets is None:
        return False
    digest = _DIGESTS.get(record.matching)
    return record.data == (octets if digest is None else digest[0](octets))


# --- DANE-TA --------------------------------------------------------------------------------------


def _verify_chain(
    leaf: x509.Certificate, shown: Sequence[_Presented], records: Sequence[TlsaRecord], now: datetime.datetime
) -> None:
    """Raises DaneFault. The first certificate is never its own issuer's, so it is no trust anchor."""
    others = _intermediates(shown[1:])
    reason = ""
    anchors = islice(_anchors(shown[1:], records), MAX_ANCHORS)
    signed = islice(_signed_by_bare_keys([leaf, *others], shown[1:], records), MAX_ANCHORS)
    for anchor in (*anchors, *signed):
        reason = _verify(leaf, others, anchor, now)
        if not reason:
            return
    reason = reason or "no TLSA record is that of an issuer of the host's certificate"
    raise DaneFault("certificate-expired" if _has_ended(leaf, now) else "certificate-not-trusted", reason)


def _intermediates(issuers: Sequence[_Presented]) -> list[x509.Certificate]:
    """One for each name and key, however the key is written (a point has three forms). Alike ones say the same, and
    nothing else here moves while the verifier tries every way through them: in `cryptography` 46, without a limit on
    signatures, three took most of a minute."""
    found: dict[tuple[bytes, bytes], x509.Certificate] = {}
    for each in issuers:
        if each.parsed is None:
            continue
        try:
            name = each.parsed.subject.public_bytes()
            is_self_issued = each.parsed.subject == each.parsed.issuer
            key = each.parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except _UNREADABLE:  # also a key that no signature can be checked with
            continue
        kind = name, key
        # What somebody else has signed leads further up; who vouches for himself does so as an anchor, or not at all.
        if kind not in found or (not is_self_issued and found[kind].subject == found[kind].issuer):
            found[kind] = each.parsed
    return list(found.values())


def _anchors(issuers: Sequence[_Presented], records: Sequence[TlsaRecord]) -> Iterator[x509.Certificate]:
    """Those of the chain that a record names, then those that stand in DNS as a whole (RFC 7671 §5.2.2)."""
    for issuer in issuers:
        if issuer.parsed is not None and any(_matches(record, issuer) for record in records):
            yield issuer.parsed
    for record in records:
        if (record.selector, record.matching) == (CERTIFICATE, FULL):
            yield x509.load_der_x509_certificate(record.data)


def _signed_by_bare_keys(
    presented: Sequence[x509.Certificate], issuers: Sequence[_Presented], records: Sequence[TlsaRecord]
) -> Iterator[x509.Certificate]:
    """RFC 7671 §5.2.3: a key in DNS, of which no certificate was shown, may have signed the topmost one. The last shown
    need not be that one: it may lead to the host's certificate, or be of no use."""
    keys = [
        record.data
        for record in records
        if (record.selector, record.matching) == (PUBLIC_KEY, FULL)
        and not any(_matches(record, issuer) for issuer in issuers)
    ]
    for certificate in reversed(presented):
        if any(_is_signed_by(certificate, key) for key in keys[:MAX_ANCHORS]):
            yield certificate


def _has_ended(certificate: x509.Certificate, now: datetime.datetime) -> bool:
    try:
        return certificate.not_valid_after_utc < now
    except _UNREADABLE:  # a year 0, for one
        return False


def _must_sign(_policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("an issuer may not sign certificates")


def _must_serve(_policy: Policy, _certificate: x509.Certificate, usage: x509.ExtendedKeyUsage | None) -> None:
    wanted = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
    if usage is not None and not any(each in usage for each in wanted):
        raise ValueError("the certificate is not for servers")


def _verify(
    leaf: x509.Certificate, others: Sequence[x509.Certificate], anchor: x509.Certificate, now: datetime.datetime
) -> str:
    """Why the chain from the leaf to the anchor does not hold; "" where it does. Private issuers do not follow the
    rules of the public ones about extensions; constraints, dates and signatures count all the same (RFC 5280 §6.1)."""
    issuer = ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    issuer = issuer.may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _must_sign)
    server = ExtensionPolicy.permit_all().may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _must_serve)
    try:
        if anchor == leaf:
            is_in_time = leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc
            return "" if is_in_time else "the certificate is out of date"
        # The verifier for servers insists on its own way to compare names; that for clients compares none.
        verifier = (
            PolicyBuilder()
            .store(Store([anchor]))
            .time(now)
            .max_chain_depth(MAX_CHAIN)
            .extension_policies(ca_policy=issuer, ee_policy=server)
            .build_client_verifier()
        )
        verifier.verify(leaf, list(others))
    except (VerificationError, *_UNREADABLE) as error:
        return " ".join(str(error).split())[:200] or "the chain does not hold"
    return ""


def _is_signed_by(certificate: x509.Certificate, key: bytes) -> bool:
    signature, signed = certificate.signature, certificate.tbs_certificate_bytes
    try:
        public, how = load_der_public_key(key), certificate.signature_algorithm_parameters
        digest = certificate.signature_hash_algorithm
        match public:
            case rsa.RSAPublicKey() if digest is not None and not isinstance(how, ec.ECDSA | None):
                public.verify(signature, signed, how, digest)
            case ec.EllipticCurvePublicKey() if isinstance(how, ec.ECDSA):
                public.verify(signature, signed, how)
            case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
                public.verify(signature, signed)
            case _:
                return False
    except (InvalidSignature, *_UNREADABLE):
        return False
    return True


# --- names ----------------------------------------------------------------------------------------


def _is_for(certificate: x509.Certificate, name: str) -> bool:
    """§3.2.3: DNS-IDs, and the common name only where there are none; "*" is the whole first label."""
    wanted = name.lower().removesuffix(".")
    return any(_is_same_name(presented.lower().removesuffix("."), wanted) for presented in _names(certificate))


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = alternative.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        found = []
    except _UNREADABLE:
        return []
    if found:
        return found
    try:
        return [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except _UNREADABLE:
        return []


def _is_same_name(presented: str, wanted: str) -> bool:
    if presented.startswith("*."):
        first, dot, rest = wanted.partition(".")
        return bool(first and dot and "." in rest) and presented[2:] == rest
    return presented == wanted
