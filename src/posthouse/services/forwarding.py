# SPDX-License-Identifier: Apache-2.0
"""Letters that are passed on to other servers: under which reverse-path they leave, and who gets what comes back to it.

Invariant: what is taken for a rewritten address goes to the one sender that it was made for, and only reports do (the
null reverse-path): nobody can send anything else through here by such an address.
"""

from __future__ import annotations

from dataclasses import replace

from posthouse.mail.address import Address, Domain, parse_address
from posthouse.mail.envelope import ReversePath
from posthouse.mail.srs import LetterReference, Srs, SrsFault, is_rewritten
from posthouse.outcome import BAD_MAILBOX, NOT_AUTHORIZED, Refusal
from posthouse.ports import Clock, Database
from posthouse.services.directory import Directory, Resolution
from posthouse.store import letter_story
from posthouse.store.queue_rows import ClaimedLetter
from posthouse.store.sealing import SecretKey


class Forwarding:
    def __init__(
        self, database: Database, directory: Directory, clock: Clock, key: SecretKey, *, domain: str, rewrites: bool
    ) -> None:
        """`domain`: where rewritten addresses are. `rewrites` False: senders stay as they are, but what comes back to
        addresses of before still finds them."""
        self._database = database
        self._directory = directory
        self._clock = clock
        self._key = key
        self.set_terms(domain=domain, rewrites=rewrites)

    def set_terms(self, *, domain: str, rewrites: bool) -> None:
        """Also when the configuration was reloaded."""
        self._srs = Srs(self._keyed, Domain.parse(domain))
        self._rewrites = rewrites

    async def reverse_path(self, letter: ClaimedLetter) -> ReversePath:
        """As the next host is told it. A letter in the queue whose sender is none of ours came from another server and
        is passed on: its sender's domain does not know this host (RFC 7208 §10.3)."""
        path = letter.reverse_path
        sender = path.address
        if sender is None or not self._rewrites or await self._directory.is_local_domain(sender.domain.name):
            return path
        if sender.domain == self._srs.domain:
            return path
        return replace(path, address=self._srs.rewrite(sender, letter.received_at, letter.id))

    async def resolve(self, address: Address, sender: ReversePath) -> Resolution | None:
        """Where a letter to a rewritten address goes; None for any other address. Raises Refusal."""
        if address.domain != self._srs.domain or not is_rewritten(address.local_part):
            return None
        try:
            found = self._srs.restore(address.local_part, self._clock.wall())
        except SrsFault as fault:
            raise Refusal(BAD_MAILBOX, f"No such mailbox here: {fault}") from None
        if not sender.is_null:
            # RFC 3464 §2: reports have the null reverse-path, and RFC 3834 §3.3 wants it of automatic answers.
            raise Refusal(NOT_AUTHORIZED, "That address takes only reports about a letter that was passed on")
        original = await self._sender_of(found) if isinstance(found, LetterReference) else found
        if original is None:
            raise Refusal(BAD_MAILBOX, "No such mailbox here: that letter is forgotten")
        there = await self._directory.resolve(original)
        if there.domain_is_local:
            return replace(there, address=address)
        return Resolution(address, domain_is_local=True, remote=(original,), is_alias=True)

    async def _sender_of(self, reference: LetterReference) -> Address | None:
        text = await self._database.read(lambda reader: letter_story.reverse_path(reader, reference.letter))
        return parse_address(text) if text else None

    def _keyed(self, octets: bytes) -> bytes:
        return self._key.keyed_hash("srs", octets, size=16)
