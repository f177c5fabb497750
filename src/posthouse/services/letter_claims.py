# SPDX-License-Identifier: Apache-2.0
"""What a letter says of itself: who has written it, who has signed it, and through whose hands it has come.

Invariant: it is read once, from the header as it came; nothing in it is believed before a key from DNS has been put to
it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from posthouse.mail.header import scan_header, split_fields
from posthouse.mailauth.arc import ArcCheck, Chain, ChainResult
from posthouse.mailauth.author import authors_of
from posthouse.mailauth.canonical import RELAXED, BodyHash
from posthouse.mailauth.dkim_verify import DkimCheck, Verification
from posthouse.mailauth.dmarc import DmarcResult, DmarcVerdict
from posthouse.mailauth.signatures import BodyForm, KeyRecords

_WHOLE = BodyForm(RELAXED)


@dataclass(frozen=True, slots=True)
class Custody:
    """What a seal needs of a letter that is passed on: its header as it came, the hash of its body in relaxed form, the
    chain so far and how to read it."""

    header: bytes
    body: BodyHash
    check: ArcCheck
    chain: Chain


class LetterClaims:
    """Of one letter. `update` takes the body as it passes; then what was signed can be judged with the keys."""

    def __init__(self, header: bytes, *, now: float, is_forwarded: bool = False) -> None:
        fields = split_fields(header)
        scan = scan_header(header)
        self.header = header
        self.authors = authors_of(scan)
        self.from_fields = scan.count(b"from")
        self._dkim = DkimCheck(header, now=now, fields=fields)
        self._arc = ArcCheck(header, fields=fields)
        self._is_forwarded = is_forwarded
        # Of a letter that is passed on, where no signature has it made already.
        self._relaxed = BodyHash() if is_forwarded and self._shared_hash() is None else None

    @property
    def key_names(self) -> list[str]:
        """Those of signatures first."""
        return [*self._dkim.key_names, *self._arc.key_names]

    def update(self, chunk: bytes) -> None:
        """Of the body, behind the empty line."""
        self._dkim.update(chunk)
        if self._arc.has_chain:
            self._arc.update(chunk)
        if self._relaxed is not None:
            self._relaxed.update(chunk)

    def signatures(self, records: KeyRecords) -> tuple[Verification, ...]:
        return tuple(self._dkim.judge(records))

    def chain(self, records: KeyRecords) -> Chain:
        return self._arc.judge(records)

    def custody(self, chain: Chain) -> Custody | None:
        """None: the letter is not passed on."""
        body = self._shared_hash() or self._relaxed
        return Custody(self.header, body, self._arc, chain) if self._is_forwarded and body is not None else None

    def voucher(self, chain: Chain, dmarc: Sequence[DmarcVerdict], trusted: Collection[str]) -> str:
        """A trusted sealer that has seen the author pass where DMARC fails now, "" without. Sealers are looked at from
        the newest on, up to the first that is not trusted: whoever comes before may have written what the letter says
        now."""
        if chain.result is not ChainResult.PASS or len(dmarc) != 1 or dmarc[0].result is not DmarcResult.FAIL:
            return ""
        for instance in range(chain.count, 0, -1):
            sealer = chain.sealers[instance - 1]
            if sealer not in trusted:
                return ""
            said = self._arc.results_of(instance)
            for each in said.statements if said is not None else ():
                is_pass = each.method == "dmarc" and each.result == "pass"
                if is_pass and each.get("header", "from").lower() == dmarc[0].author:
                    return sealer
        return ""

    def _shared_hash(self) -> BodyHash | None:
        """Of the whole body in relaxed form, where a signature is over that."""
        return self._dkim.hashes.get(_WHOLE) or self._arc.hashes.get(_WHOLE)
