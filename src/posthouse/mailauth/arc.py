# SPDX-License-Identifier: Apache-2.0
"""ARC (RFC 8617): is the chain of custody whole? The header first, the body as it passes, the keys at the end.

Invariant: a chain passes only if its newest message signature and every seal do; one broken link, and it fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from posthouse.mail.header import Field, split_fields
from posthouse.mailauth.canonical import RELAXED
from posthouse.mailauth.dkim_verify import body_hashes, check_body, check_end
from posthouse.mailauth.results import AuthResults, parse_results
from posthouse.mailauth.signatures import (
    BodyForm,
    KeyRecords,
    SignatureFault,
    SignatureResult,
    canonical_field,
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
    unsigned_field,
)

MAX_SETS = 50  # RFC 8617 §4.2.1: an instance is at most 50
# Sets of which keys are asked for: each costs up to two queries and two public-key operations. Real chains have two or
# three; RFC 8617 §5.2 lets a verifier have its own limits.
MAX_CHECKED = 20
RESULTS_NAME = b"arc-authentication-results"
MESSAGE_NAME = b"arc-message-signature"
SEAL_NAME = b"arc-seal"
_NAMES = (RESULTS_NAME, MESSAGE_NAME, SEAL_NAME)


class ChainResult(StrEnum):
    """RFC 8617 §4.4: what the next seal says in cv=. A fault of DNS is told apart: nobody can say yet."""

    NONE = "none"
    PASS = "pass"  # noqa: S105 - the result's name
    FAIL = "fail"
    TEMPERROR = "temperror"


@dataclass(frozen=True, slots=True)
class Chain:
    """`count`: the highest instance. `sealers`: d= of each seal, the oldest first. `oldest_pass`: the first instance
    since which every message signature has held (RFC 8617 §5.2; 0: all of them have), for those who weigh a chain."""

    result: ChainResult
    count: int = 0
    sealers: tuple[str, ...] = ()
    reason: str = ""
    oldest_pass: int = 0


@dataclass(frozen=True, slots=True)
class _Signed:
    field: Field
    tags: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class _Set:
    """One hop's three fields."""

    results: Field
    message: _Signed
    seal: _Signed
    header_form: bytes
    body_form: BodyForm


class ArcCheck:
    """The chain of one letter: `update` with the body as it comes, then `judge` with the keys."""

    def __init__(self, header: bytes, *, fields: Sequence[Field] | None = None) -> None:
        """`fields` are those of this header, where it has been split already."""
        self._header = header
        self._fields = split_fields(header) if fields is None else fields
        self._sets: list[_Set] = []
        self._fault: SignatureFault | None = None
        self.count = 0
        try:
            self._sets = self._collect()
        except SignatureFault as fault:
            self._fault = fault
        self.hashes = body_hashes(each.body_form for each in self._sets)

    @property
    def has_chain(self) -> bool:
        return self.count > 0

    @property
    def is_closed(self) -> bool:
        """The newest seal says cv=fail: nobody may add to such a chain (RFC 8617 §5.1)."""
        newest = None
        for field in self._fields:
            if field.name.lower() == SEAL_NAME:
                newest = field
                break
        if newest is None:
            return False
        try:
            return text_of(parse_tags(self._header[newest.value_start : newest.end]), b"cv") == ChainResult.FAIL
        except SignatureFault:
            return False

    def results_of(self, instance: int) -> AuthResults | None:
        """What that hop had found when the letter came to it; None where it cannot be read. Of a whole chain only."""
        field = self._sets[instance - 1].results
        return parse_results(self._header[field.value_start : field.end].partition(b";")[2])

    @property
    def key_names(self) -> list[str]:
        """Each once, the newest first."""
        found: dict[str, None] = {}
        for each in reversed(self._sets):
            found[key_name(each.message.tags)] = None
            found[key_name(each.seal.tags)] = None
        return list(found)

    def update(self, chunk: bytes) -> None:
        """Of the body, behind the empty line; in chunks of any size."""
        for each in self.hashes.values():
            each.update(chunk)

    def judge(self, records: KeyRecords) -> Chain:
        """After the whole body (RFC 8617 §5.2)."""
        if not self.count:
            return Chain(ChainResult.NONE)
        sealers = tuple(domain_of(each.seal.tags, b"d") for each in self._sets)
        try:
            if self._fault is not None:
                raise self._fault
            self._check_message(self._sets[-1], records)
            for each in reversed(self._sets):
                self._check_seal(each, records)
        except SignatureFault as fault:
            is_unknown = fault.result is SignatureResult.TEMPERROR
            result = ChainResult.TEMPERROR if is_unknown else ChainResult.FAIL
            return Chain(result, self.count, sealers, str(fault))
        return Chain(ChainResult.PASS, self.count, sealers, oldest_pass=self._oldest_pass(records))

    # --- reading ----------------------------------------------------------------------------------

    def _collect(self) -> list[_Set]:
        """The sets in order of their instances. Raises SignatureFault for a chain that is none (steps 1 to 3)."""
        found: dict[tuple[bytes, int], tuple[Field, Mapping[bytes, bytes]]] = {}
        fields = [field for field in self._fields if field.name.lower() in _NAMES]
        self.count = min(1, len(fields))
        if len(fields) > MAX_SETS * len(_NAMES):
            raise SignatureFault(f"there are more than {MAX_SETS} sets")
        for field in fields:
            name = field.name.lower()
            value = self._header[field.value_start : field.end]
            # Authentication-Results are no tag list behind their instance.
            tags = parse_tags(value.partition(b";")[0] if name == RESULTS_NAME else value)
            key = name, _instance(tags)
            self.count = max(self.count, key[1])
            if key in found:
                raise SignatureFault(f"instance {key[1]} is there twice")
            found[key] = field, tags
        count = self.count
        if len(found) != count * len(_NAMES):  # instances are from 1 to the highest, and each field is there once
            raise SignatureFault("the sets are not complete")
        if count > MAX_CHECKED:
            raise SignatureFault(f"there are more than {MAX_CHECKED} sets, which nobody checks here")
        return [self._set(number, found) for number in range(1, count + 1)]

    def _set(self, number: int, found: Mapping[tuple[bytes, int], tuple[Field, Mapping[bytes, bytes]]]) -> _Set:
        message, seal = _Signed(*found[MESSAGE_NAME, number]), _Signed(*found[SEAL_NAME, number])
        need(message.tags, (b"a", b"b", b"bh", b"d", b"h", b"s"))
        need(seal.tags, (b"a", b"b", b"cv", b"d", b"s"))
        # RFC 8617 §4.1.2: seals never are among what a message signature signs. §4.1.3: a seal has no h=.
        if SEAL_NAME in names_of(message.tags) or b"from" not in names_of(message.tags):
            raise SignatureFault(f"message signature {number} does not sign what it should")
        if b"h" in seal.tags:
            raise SignatureFault(f"seal {number} has h=")
        wanted = ChainResult.PASS if number > 1 else ChainResult.NONE
        if text_of(seal.tags, b"cv") != wanted:
            raise SignatureFault(f"seal {number} says that the chain is not whole")
        for tags in (message.tags, seal.tags):
            key_name(tags)  # what names no key is no signature
        header_form, body_form = forms(message.tags)
        return _Set(found[RESULTS_NAME, number][0], message, seal, header_form, body_form)

    # --- checking ---------------------------------------------------------------------------------

    def _check_message(self, each: _Set, records: KeyRecords) -> None:
        """RFC 8617 §5.2 step 4: as a DKIM signature, but without v= and with i= as the instance."""
        tags = _without_instance(each.message.tags)
        key = public_key(records, tags)
        check_body(self.hashes[each.body_form], each.body_form, tags)
        check_end(self.hashes[each.body_form])
        # Sealers of the drafts' time left c= out and meant relaxed, RFC 8617 §4.1.2 means simple by it.
        left_out = (RELAXED,) if b"c" not in tags else ()
        fault: SignatureFault | None = None
        for form in (each.header_form, *left_out):
            signed = signed_octets(self._header, self._fields, each.message.field, form, tags)
            try:
                check_signature(key, tags, signed)
            except SignatureFault as this:
                fault = fault or this
            else:
                return
        assert fault is not None, "one form at least was tried"
        raise fault

    def _check_seal(self, each: _Set, records: KeyRecords) -> None:
        tags = _without_instance(each.seal.tags)
        before = self.fields_in_order[: self._sets.index(each) * len(_NAMES)]
        covered = [*before, each.results, each.message.field]
        check_signature(public_key(records, tags), tags, sealed_octets(self._header, covered, each.seal.field))

    @property
    def fields_in_order(self) -> list[Field]:
        """All fields of a whole chain, as a seal signs them."""
        return [field for each in self._sets for field in (each.results, each.message.field, each.seal.field)]

    def _oldest_pass(self, records: KeyRecords) -> int:
        for each in reversed(self._sets[:-1]):
            try:
                self._check_message(each, records)
            except SignatureFault:
                return self._sets.index(each) + 2
        return 0


def sealed_octets(header: bytes, covered: Iterable[Field], seal: Field) -> bytes:
    """What a seal signs: all sets in order, in relaxed form, itself last and with b= empty (RFC 8617 §5.1.1)."""
    pieces = [canonical_field(header, field, RELAXED) for field in covered]
    return b"\r\n".join([*pieces, unsigned_field(header, seal, RELAXED)])


def _instance(tags: Mapping[bytes, bytes]) -> int:
    text = tags.get(b"i", b"")
    if not text.isdigit() or len(text) > 2 or not 1 <= int(text) <= MAX_SETS:
        raise SignatureFault("a set has no instance")
    return int(text)


def _without_instance(tags: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """i= is no identity here."""
    return {name: value for name, value in tags.items() if name != b"i"}
