# SPDX-License-Identifier: Apache-2.0
"""Checks DKIM signatures (RFC 6376 §6): what the header says first, the body as it passes, the keys at the end.

A signature either passes or says why it does not; nothing here decides what that means for the letter.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from posthouse.mail.header import Field, split_fields
from posthouse.mailauth.canonical import BodyHash
from posthouse.mailauth.signatures import (
    BodyForm,
    KeyRecords,
    SignatureFault,
    SignatureResult,
    base64_of,
    check_signature,
    domain_of,
    forms,
    key_name,
    names_of,
    need,
    parse_tags,
    public_key,
    signed_octets,
    text_of,
)

MAX_SIGNATURES = 10  # checked per letter: each costs a DNS query and a public-key operation
CLOCK_SKEW = 300.0  # seconds that a signer's clock may be ahead

DkimResult = SignatureResult
KeyLookup = Callable[[str], bytes | None]
"""TXT record of a name such as `sel._domainkey.example.test`, its strings joined; None where there is none."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What became of one DKIM-Signature field: `reason` is one line, "" for a pass. `identity`: i=, or @d=.

    `signature`: the first characters of b=, which tell signatures of one domain apart (RFC 6008).
    """

    result: SignatureResult
    domain: str
    selector: str
    algorithm: str
    reason: str = ""
    identity: str = ""
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """A DKIM-Signature field that is worth looking up a key for. `key_name`: where it is."""

    field: Field
    tags: Mapping[bytes, bytes]
    header_form: bytes
    body_form: BodyForm

    @property
    def key_name(self) -> str:
        return key_name(self.tags)

    @property
    def domain(self) -> str:
        return domain_of(self.tags, b"d")


class DkimCheck:
    """The signatures of one letter: `update` with the body as it comes, then `judge` with the keys."""

    def __init__(self, header: bytes, *, now: float | None = None, fields: Sequence[Field] | None = None) -> None:
        """The first MAX_SIGNATURES from the top count. Without `now` no signature expires. Lines end in CRLF. `fields`
        are those of this header, where it has been split already."""
        self._header = header
        self._fields = split_fields(header) if fields is None else fields
        found = [field for field in self._fields if field.name.lower() == b"dkim-signature"]
        self._read = [self._look_at(field, now) for field in found[:MAX_SIGNATURES]]
        self.hashes = body_hashes(each.body_form for each in self.signatures)

    @property
    def signatures(self) -> list[Signature]:
        """Those that need a key."""
        return [each for each in self._read if isinstance(each, Signature)]

    @property
    def key_names(self) -> list[str]:
        """Each once."""
        return list(dict.fromkeys(each.key_name for each in self.signatures))

    def update(self, chunk: bytes) -> None:
        """Of the body, behind the empty line; in chunks of any size."""
        for each in self.hashes.values():
            each.update(chunk)

    def judge(self, records: KeyRecords) -> list[Verification]:
        """In the order of the fields, after the whole body."""
        return [self._judge(each, records) if isinstance(each, Signature) else each for each in self._read]

    def _look_at(self, field: Field, now: float | None) -> Signature | Verification:
        tags: dict[bytes, bytes] = {}
        try:
            tags = parse_tags(self._header[field.value_start : field.end])
            _check_tags(tags, now)
            header_form, body_form = forms(tags)
        except SignatureFault as fault:
            return _verdict(tags, fault.result, str(fault))
        return Signature(field, tags, header_form, body_form)

    def _judge(self, signature: Signature, records: KeyRecords) -> Verification:
        tags = signature.tags
        try:
            key = public_key(records, tags)
            check_body(self.hashes[signature.body_form], signature.body_form, tags)
            signed = signed_octets(self._header, self._fields, signature.field, signature.header_form, tags)
            check_signature(key, tags, signed)
            check_end(self.hashes[signature.body_form])
        except SignatureFault as fault:
            return _verdict(tags, fault.result, str(fault))
        return _verdict(tags, SignatureResult.PASS)


def body_hashes(wanted: Iterable[BodyForm]) -> dict[BodyForm, BodyHash]:
    """One for each form: signatures of one letter mostly share it."""
    return {each: BodyHash(each.form, each.limit) for each in dict.fromkeys(wanted)}


def check_body(body: BodyHash, form: BodyForm, tags: Mapping[bytes, bytes]) -> None:
    """Raises SignatureFault unless bh= is the hash of this body."""
    if form.limit is not None and body.is_shorter:
        raise SignatureFault("l= is no length within the body")
    if not hmac.compare_digest(body.digest(), base64_of(tags[b"bh"])):
        raise SignatureFault("the body was changed", SignatureResult.FAIL)


def check_end(body: BodyHash) -> None:
    """Of a good signature. Raises SignatureFault where the body goes on behind what was signed: RFC 6376 §6.1.3 and
    §8.2 let us choose, and what anybody has added may be all that people see."""
    if body.is_cut:
        raise SignatureFault("the body goes on behind what was signed (l=)", SignatureResult.POLICY)


def verify(header: bytes, body: bytes, lookup: KeyLookup, *, now: float | None = None) -> list[Verification]:
    """Check a letter that is in memory. `body` follows the empty line. What `lookup` raises passes through."""
    check = DkimCheck(header, now=now)
    check.update(body)
    return check.judge({name: lookup(name) for name in check.key_names})


def _verdict(tags: Mapping[bytes, bytes], result: SignatureResult, reason: str = "") -> Verification:
    domain, selector = _shown(tags, b"d"), _shown(tags, b"s")
    return Verification(
        result,
        domain,
        selector,
        text_of(tags, b"a"),
        reason,
        tags.get(b"i", b"").decode("utf-8", "replace") or f"@{domain}",
        tags.get(b"b", b"")[:8].decode("ascii", "replace"),
    )


def _shown(tags: Mapping[bytes, bytes], name: bytes) -> str:
    try:
        return domain_of(tags, name)
    except SignatureFault:
        return text_of(tags, name)


def _check_tags(tags: Mapping[bytes, bytes], now: float | None) -> None:
    # RFC 6376 §6.1.1
    need(tags, (b"v", b"a", b"b", b"bh", b"d", b"h", b"s"))
    if tags[b"v"] != b"1":
        raise SignatureFault("unknown version")
    if b"from" not in names_of(tags):
        raise SignatureFault("From is not signed")
    domain, agent = domain_of(tags, b"d"), domain_of(tags, b"i")
    domain_of(tags, b"s")
    if agent and agent != domain and not agent.endswith("." + domain):
        raise SignatureFault("i= is not within d=")
    if b"q" in tags and b"dns/txt" not in tags[b"q"].lower():
        raise SignatureFault("no known way to get the key")
    try:
        signed_at, expires = (int(tags[name]) if name in tags else None for name in (b"t", b"x"))
    except ValueError:
        raise SignatureFault("t= or x= is no number") from None
    if now is not None and expires is not None and now > expires:
        raise SignatureFault("the signature has expired", SignatureResult.FAIL)
    if now is not None and signed_at is not None and signed_at > now + CLOCK_SKEW:
        raise SignatureFault("the signature comes from the future", SignatureResult.FAIL)
