# SPDX-License-Identifier: Apache-2.0
"""Letters that are passed on to other servers: under which reverse-path they leave, and who gets what comes back to it.

Invariant: what is taken for a rewritten address goes to the one sender that it was made for, and only reports do (the
null reverse-path, `Reception` sees to it): nobody can send anything else through here by such an address.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from posthouse.mail.address import Address, Domain, parse_address
from posthouse.mail.envelope import ReversePath
from posthouse.mail.srs import DAY, LetterReference, Srs, SrsFault, is_rewritten
from posthouse.mailauth.organization import may_be_related
from posthouse.outcome import BAD_MAILBOX, Refusal
from posthouse.ports import Clock, Database
from posthouse.services.directory import Directory, Resolution
from posthouse.store import letter_story, verdicts
from posthouse.store.queue_rows import ClaimedLetter
from posthouse.store.sealing import SecretKey

# Seconds in which each try of a letter leaves under the address of the day it came. One that waits longer (held by an
# operator, or queued by a longer schedule) gets an address of today: else it would be sent with one that has expired.
FRESH = 7 * DAY
# A letter that came back to us under an address that another host has made of ours stands for two; three is a fault.
MAX_TURNS = 3


class Forwarding:
    def __init__(
        self,
        database: Database,
        directory: Directory,
        clock: Clock,
        key: SecretKey,
        *,
        hostname: str,
        domain: str,
        rewrites: bool,
    ) -> None:
        """`domain`: where rewritten addresses are. `rewrites` False: senders stay as they are, but what comes back to
        addresses of before still finds them, also to those at `hostname`, where they are unless told otherwise."""
        self._database = database
        self._directory = directory
        self._clock = clock
        self._key = key
        self._hostname = Domain.parse(hostname)
        self._domains = {self._hostname}
        self.set_terms(domain=domain, rewrites=rewrites)

    def set_terms(self, *, domain: str, rewrites: bool) -> None:
        """Also when the configuration was reloaded."""
        self._srs = Srs(self._keyed, Domain.parse(domain))
        self._domains.add(self._srs.domain)
        self._rewrites = rewrites

    async def reverse_path(self, letter: ClaimedLetter) -> ReversePath:
        """As the next host is told it. A letter in the queue whose sender is none of ours came from another server and
        is passed on: its sender's domain does not know this host (RFC 7208 §10.3)."""
        path = letter.reverse_path
        sender = path.address
        if sender is None or not self._rewrites or sender.domain in self._domains:
            return path
        unproven = await self._unproven_authors(letter)
        if await self._directory.is_local_domain(sender.domain.name):
            # A user's, or so it says: then it must not leave in the name of a domain that does not know it.
            if not unproven:
                return path
        elif any(may_be_related(author, self._srs.domain.name) for author in unproven):
            # A reverse-path of ours would make the next host believe the author: SPF passes for it, and is aligned.
            return path
        now = self._clock.wall()
        day = letter.received_at if 0 <= now - letter.received_at <= FRESH else now
        return replace(path, address=self._srs.rewrite(sender, day, letter.id))

    async def leaves_as(self, path: ReversePath) -> str:
        """In whose name SPF passes at the next host for a letter from another server whose author nobody has proven, ""
        where that is none of ours. The null reverse-path has the name in EHLO (RFC 7208 §2.4)."""
        sender = path.address
        if sender is None:
            return self._hostname.name
        if sender.domain in self._domains:
            return sender.domain.name
        if await self._directory.is_local_domain(sender.domain.name):
            return self._srs.domain.name if self._rewrites else sender.domain.name
        return ""

    async def resolve(self, address: Address) -> Resolution | None:
        """Where a report to a rewritten address goes; None for any other address. Raises Refusal."""
        if not self._is_ours(address):
            return None
        original = await self._original(address)
        there = await self._directory.resolve(original)
        if there.domain_is_local:
            return replace(there, address=address)
        return Resolution(address, domain_is_local=True, remote=(original,), is_alias=True)

    def _is_ours(self, address: Address) -> bool:
        return address.domain in self._domains and is_rewritten(address.local_part)

    async def _original(self, address: Address) -> Address:
        """Whom a rewritten address stands for in the end. Raises Refusal."""
        now = self._clock.wall()
        for _ in range(MAX_TURNS):
            try:
                found = self._srs.restore(address.local_part, now)
            except SrsFault as fault:
                raise Refusal(BAD_MAILBOX, f"No such mailbox here: {fault}") from None
            original = await self._sender_of(found) if isinstance(found, LetterReference) else found
            if original is None:
                raise Refusal(BAD_MAILBOX, "No such mailbox here: that letter is forgotten")
            if not self._is_ours(original):
                return original
            address = original
        raise Refusal(BAD_MAILBOX, "No such mailbox here: that address leads in a circle")

    async def _unproven_authors(self, letter: ClaimedLetter) -> list[str]:
        """Whom the checks here did not believe; none of a letter that was not checked."""
        verdict = await self._database.read(partial(verdicts.of, letter=letter.id))
        return [
            value
            for each in (() if verdict is None else verdict.statements)
            if each.method == "dmarc" and each.result not in ("pass", "none")
            for kind, name, value in each.properties
            if (kind, name) == ("header", "from")
        ]

    async def _sender_of(self, reference: LetterReference) -> Address | None:
        text = await self._database.read(lambda reader: letter_story.reverse_path(reader, reference.letter))
        return parse_address(text) if text else None

    def _keyed(self, octets: bytes) -> bytes:
        return self._key.keyed_hash("srs", octets, size=16)
