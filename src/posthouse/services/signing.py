# SPDX-License-Identifier: Apache-2.0
"""Signs what users send with the keys of their domain (DKIM, RFC 6376), one signature per active key.

Invariant: a letter of a domain with keys leaves signed; a key that cannot be used is logged, not sent around.
"""

from __future__ import annotations

from posthouse.mail.address import Domain
from posthouse.mailauth.dkim import BodyHash, DkimSigner
from posthouse.services.bounded import Bounded
from posthouse.services.keys import DomainKeys
from posthouse.telemetry import logger

MAX_SIGNERS = 1000  # loaded private keys, some 10 KB each


class Signing:
    def __init__(self, keys: DomainKeys) -> None:
        self._keys = keys
        self._signers: Bounded[int, DkimSigner] = Bounded(MAX_SIGNERS)
        self._log = logger("signing")

    def body_hash(self) -> BodyHash:
        """Feed it the body while it passes; one hash serves all keys (both algorithms sign the same SHA-256)."""
        return BodyHash()

    async def sign(self, domain: Domain, header: bytes, body: BodyHash, now: float) -> bytes:
        """The DKIM-Signature fields for a letter of this domain, each ending in CRLF; b"" without keys."""
        return b"".join([signer.sign(header, body, now) for signer in await self.signers(domain.name)])

    async def signers(self, domain: str) -> list[DkimSigner]:
        """What signs for a domain, the oldest key first."""
        found = []
        for key in await self._keys.active(domain):
            signer = self._signers.get(key.id)
            if signer is None:
                try:
                    signer = DkimSigner(key.domain, key.selector, key.private_key)
                except ValueError as error:
                    self._log.error("key not usable", domain=key.domain, selector=key.selector, reason=str(error))
                    continue
                self._signers.put(key.id, signer)
            found.append(signer)
        return found
