# SPDX-License-Identifier: Apache-2.0
"""May this stranger send this here? Mail from other servers (MX) and from a trusted neighbour (LMTP).

Invariant: only addresses of local domains are accepted, in no configuration anything else: never an open relay.
"""

from __future__ import annotations

from collections.abc import Callable

from posthouse.mail.address import Address
from posthouse.mail.envelope import ForwardPath, ReversePath
from posthouse.mail.header import HeaderScan
from posthouse.mail.trace import Hop, is_looping, received, was_delivered_to
from posthouse.outcome import (
    BAD_CONTENT,
    NOT_AUTHORIZED,
    RATE_LIMITED,
    ROUTING_LOOP,
    SYSTEM_FULL,
    TOO_MANY_RECIPIENTS,
    Refusal,
    Status,
)
from posthouse.ports import BlobStore, Clock
from posthouse.services.acceptance import Acceptance
from posthouse.services.delivery import Origin
from posthouse.services.directory import Directory, Resolution
from posthouse.services.entry_check import EntryCheck, Judgement
from posthouse.services.forwarding import Forwarding
from posthouse.services.guard import place_of
from posthouse.services.host_signing import HostSigning
from posthouse.services.incoming import IncomingLetter
from posthouse.services.letter_claims import Custody
from posthouse.services.limits import RateLimit
from posthouse.services.transaction import Client, MailTransaction, Receipt, Recipient
from posthouse.services.verification import LetterCheck

REFUSED_BECAUSE: dict[tuple[int, ...], str] = {
    (4, 2, 2): "That mailbox is full, try again later",
    (5, 2, 2): "The letter is larger than that mailbox may ever hold",
    (5, 1, 1): "No such mailbox here",
    (5, 2, 1): "This mailbox is disabled",
    (5, 4, 6): "This address forwards in a circle",
}

ONLY_REPORTS = "That address takes only reports about a letter that was passed on"
UNCHECKED = Judgement()


class Reception:
    def __init__(
        self,
        directory: Directory,
        acceptance: Acceptance,
        blobs: BlobStore,
        clock: Clock,
        *,
        hostname: str,
        max_received: int,
        rate: RateLimit,
        is_full: Callable[[], bool],
        kind: str = "mx",
        entry_check: EntryCheck | None = None,
        forwarding: Forwarding | None = None,
        host_signing: HostSigning | None = None,
    ) -> None:
        """`rate` counts letters per peer's place; `kind` is for the metrics. `entry_check`: of what comes from other
        servers; None for a neighbour, whose word on a letter is taken. `forwarding` knows rewritten senders,
        `host_signing` seals what was checked and is passed on."""
        self.directory = directory
        self.acceptance = acceptance
        self.kind = kind
        self.blobs = blobs
        self.clock = clock
        self.hostname = hostname
        self.max_received = max_received
        self.entry_check = entry_check
        self.forwarding = forwarding
        self.host_signing = host_signing
        self._rate = rate
        self._is_full = is_full
        self._letters = 0

    async def begin(self, client: Client, path: ReversePath) -> MailTransaction:
        """MAIL FROM. Raises Refusal."""
        if self._is_full():
            raise Refusal(SYSTEM_FULL, "Insufficient storage here, try again later")
        if not client.peer.is_loopback and not self._rate.take(place_of(client.peer)):
            raise Refusal(RATE_LIMITED, "Too many letters from your address, try again in a minute")
        self._letters += 1
        return _Arrival(self, client, path, f"{client.peer.trace}-{self._letters:x}")


class _Arrival(MailTransaction):
    def __init__(self, office: Reception, client: Client, path: ReversePath, trace: str) -> None:
        super().__init__(client, path)
        self._office = office
        self._trace = trace
        self._check: LetterCheck | None = None
        self._is_probe = False  # of an address for reports, by somebody who sends none

    async def admit(self, path: ForwardPath) -> Recipient:
        if self._is_probe:
            raise Refusal(TOO_MANY_RECIPIENTS, "Send to other recipients apart from an address that takes only reports")
        resolution, is_probe = await self._resolve(path.address)
        if not resolution.domain_is_local:
            raise Refusal(NOT_AUTHORIZED, "Relaying denied: that domain is not served here")
        if resolution.status is not None:
            raise Refusal(resolution.status, refusal_text(resolution.status))
        await check_room(self._office.acceptance, resolution, self.reverse_path.size)
        self._is_probe = is_probe
        return Recipient(path, resolution)

    async def _resolve(self, address: Address) -> tuple[Resolution, bool]:
        """Who is behind it, and whether it is asked about by somebody who may send it nothing. Raises Refusal."""
        forwarding = self._office.forwarding
        back = None if forwarding is None else await forwarding.resolve(address)
        if back is None:
            return await self._office.directory.resolve(address), False
        # RFC 3464 §2: reports have the null reverse-path, and RFC 3834 §3.3 wants it of automatic answers. Some hosts
        # ask for a sender under a name of their own before they take a letter from it, and go no further than RCPT:
        # they hear that it is there, as long as no other recipient would have to share the answer to DATA.
        is_probe = not self.reverse_path.is_null
        if is_probe and self.recipients:
            raise Refusal(NOT_AUTHORIZED, ONLY_REPORTS)
        return back, is_probe

    def incoming(self) -> IncomingLetter:
        if self._is_probe:
            raise Refusal(NOT_AUTHORIZED, ONLY_REPORTS)
        blobs, entry_check = self._office.blobs, self._office.entry_check
        if entry_check is None or entry_check.is_exempt(self.client.peer):
            return IncomingLetter(blobs)
        is_forwarded = any(recipient.resolution.remote for recipient in self.recipients)
        self._check = entry_check.begin(self.client, self.reverse_path, is_forwarded=is_forwarded)
        if self._check is None:
            return IncomingLetter(blobs, edit_header=entry_check.without_claims)
        check = self._check
        return IncomingLetter(blobs, edit_header=check.read_header, body_listener=check, foresee=check.foresee)

    async def discard(self) -> None:
        try:
            await super().discard()
        finally:
            await self._end_check()

    async def finish(self) -> Receipt:
        try:
            return await super().finish()
        finally:
            await self._end_check()

    async def _end_check(self) -> None:
        check, self._check = self._check, None
        if check is not None:
            await check.close()

    async def accept(self, incoming: IncomingLetter) -> Receipt:
        letter = await incoming.finish()
        if letter.scan.block.startswith((b" ", b"\t")):  # it would go on with our own Received: nobody's word but ours
            raise Refusal(BAD_CONTENT, "The header begins with a blank")
        if is_looping(letter.scan, self._office.max_received) or self._came_back(letter.scan):
            raise Refusal(ROUTING_LOOP, "Too many hops: the letter goes in a circle")
        judgement, custody = await self._judge()
        now = self._office.clock.wall()
        fields = judgement.field + received_field(self, self._office.hostname, self._trace, now, judgement.peer_name)
        if letter.lacks_header:
            fields += b"\r\n"
        origin = Origin(
            self._trace,
            now,
            fields,
            source=source_of(self.client),
            verdict=judgement.verdict,
            is_junk=judgement.is_junk,
            # Of a letter without a header all that came is body now, and its fields are none that a seal is over.
            seal=b"" if letter.lacks_header else await self._seal(custody, judgement, now),
        )
        await self._office.acceptance.accept(letter, self.reverse_path, self.recipients, origin, self._office.kind)
        return Receipt(self._trace)

    async def _judge(self) -> tuple[Judgement, Custody | None]:
        """Raises Refusal."""
        if self._check is None:
            return UNCHECKED, None
        assert self._office.entry_check is not None
        leaves_as = ""
        if self._office.forwarding is not None and any(each.resolution.remote for each in self.recipients):
            leaves_as = await self._office.forwarding.leaves_as(self.reverse_path)
        found = await self._check.findings(leaves_as)
        return self._office.entry_check.judge(found, self._trace, self.recipients), found.custody

    async def _seal(self, custody: Custody | None, judgement: Judgement, now: float) -> bytes:
        """For those to whom the letter is passed on. Where nothing was checked there is nothing to vouch for."""
        if custody is None or self._office.host_signing is None:
            return b""
        return await self._office.host_signing.seal(custody, judgement.results, now)

    def _came_back(self, scan: HeaderScan) -> bool:
        """Whether all that it is here for is to be sent on once more (`Delivery.plan` writes the Delivered-To)."""
        return all(
            recipient.resolution.remote and was_delivered_to(scan, recipient.path.address)
            for recipient in self.recipients
        )


def received_field(transaction: MailTransaction, hostname: str, ident: str, now: float, peer_name: str = "") -> bytes:
    client = transaction.client
    hop = Hop(
        helo=client.hello,
        peer_address=client.peer.address,
        by=hostname,
        protocol=client.protocol,
        ident=ident,
        when=now,
        peer_name=peer_name,
        tls_version=client.tls.version if client.tls else "",
        tls_cipher=client.tls.cipher if client.tls else "",
    )
    only = transaction.recipients[0].path.address if len(transaction.recipients) == 1 else None
    return received(hop, only)


async def check_room(acceptance: Acceptance, resolution: Resolution, declared: int | None) -> None:
    """Refuse when everyone to whom the recipient leads would; if only some are full, they are overdrawn."""
    if resolution.remote:
        return
    status = None
    for account in resolution.accounts:
        status = None if account.quota is None else await acceptance.has_room(account.id, declared)
        if status is None:
            return
    if status is not None:
        raise Refusal(status, refusal_text(status))


def source_of(client: Client) -> str:
    """Where a letter came from, for people who look for it."""
    return f"{client.peer.address} ({client.hello})"


def refusal_text(status: Status) -> str:
    return REFUSED_BECAUSE.get(tuple(status), "That address does not accept mail")
