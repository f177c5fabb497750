# SPDX-License-Identifier: Apache-2.0
"""What this host says in its own name, signed: its reports (DKIM), and what it has found about letters that it passes
on (ARC).

Invariant: nothing fails for want of a key. Without one, or with one that cannot sign, a letter goes on as it is.
"""

from __future__ import annotations

from posthouse.mail.address import Domain
from posthouse.mail.header import scan_header
from posthouse.mailauth.arc_seal import seal
from posthouse.mailauth.dkim import DkimSigner
from posthouse.services.letter_claims import Custody
from posthouse.services.signing import Signing
from posthouse.telemetry import logger


class HostSigning:
    """`hostname`: its key signs, or else that of the closest domain above it that is served here: a signature of
    example.test is aligned with a From of mail.example.test (RFC 9989 §4.4), and its record is in DNS already."""

    def __init__(self, signing: Signing, hostname: str) -> None:
        self._signing = signing
        self._names = names_above(hostname)
        self._log = logger("signing")

    async def sign(self, letter: bytes, now: float) -> bytes:
        """The letter with its signatures."""
        scan = scan_header(letter)
        body = self._signing.body_hash()
        body.update(memoryview(letter)[scan.header_size :].tobytes())
        try:
            fields = [signer.sign(scan.block, body, now) for signer in await self._signers()]
        except ValueError as error:
            self._log.error("report not signed", reason=str(error))
            return letter
        return b"".join([*fields, letter])

    async def seal(self, custody: Custody, results: bytes, now: float) -> bytes:
        """The fields of one more set (RFC 8617 §5.1), b"" where none may be added or nobody can. `results`: what
        Authentication-Results says of the letter."""
        signers = await self._signers()
        if not signers:
            return b""
        # One algorithm for one set; RFC 8463 is younger than many who verify chains.
        rsa = [signer for signer in signers if signer.algorithm == "rsa-sha256"]
        try:
            return seal(
                (rsa or signers)[-1],
                custody.header,
                custody.body,
                check=custody.check,
                chain=custody.chain,
                results=results,
                timestamp=now,
            )
        except ValueError as error:  # a letter without From, which the operator's terms let pass
            self._log.info("letter not sealed", reason=str(error))
            return b""

    async def _signers(self) -> list[DkimSigner]:
        for name in self._names:
            found = await self._signing.signers(name)
            if found:
                return found
        return []


def names_above(hostname: str) -> list[str]:
    """The name and those above it, without the top level."""
    labels = Domain.parse(hostname).name.split(".")
    return [".".join(labels[start:]) for start in range(max(1, len(labels) - 1))]
