# SPDX-License-Identifier: Apache-2.0
"""May this user send this, as whom? Completes the letter (RFC 6409 §8) and has it signed.

Invariant: nothing leaves under a reverse-path or From that the user does not own.
"""

from __future__ import annotations

from collections.abc import Callable

from posthouse.mail.address import Address
from posthouse.mail.address_list import addresses, parse_address_list
from posthouse.mail.dates import format_date
from posthouse.mail.envelope import ForwardPath, ReversePath
from posthouse.mail.header import HeaderScan, insert_fields, remove_fields, scan_header
from posthouse.mail.trace import is_looping
from posthouse.outcome import (
    AUTH_REQUIRED,
    BAD_CONTENT,
    MAILBOX_DISABLED,
    NOT_AUTHORIZED,
    RATE_LIMITED,
    ROUTING_LOOP,
    SYSTEM_FULL,
    Refusal,
)
from posthouse.ports import BlobStore, Clock, Entropy
from posthouse.services.acceptance import Acceptance
from posthouse.services.delivery import Origin
from posthouse.services.directory import Account, Directory
from posthouse.services.incoming import FinishedLetter, IncomingLetter
from posthouse.services.limits import RateLimit
from posthouse.services.reception import check_room, received_field, refusal_text
from posthouse.services.signing import Signing
from posthouse.services.transaction import Client, MailTransaction, Receipt, Recipient

# RFC 6409 §8: fields that a submission server adds or takes away. Bcc must not reach anyone (RFC 5322 §3.6.3).
PRIVATE_FIELDS = (b"bcc", b"resent-bcc", b"return-path")
# Octets of a field that names who writes: a hundred authors with their names. Reading a list takes 2 µs an octet.
MAX_AUTHORS = 8 * 1024


class Submission:
    def __init__(
        self,
        directory: Directory,
        acceptance: Acceptance,
        signing: Signing,
        blobs: BlobStore,
        clock: Clock,
        entropy: Entropy,
        *,
        hostname: str,
        max_received: int,
        rate: RateLimit,
        is_full: Callable[[], bool],
    ) -> None:
        """`rate` counts recipients per account."""
        self.directory = directory
        self.acceptance = acceptance
        self.signing = signing
        self.blobs = blobs
        self.clock = clock
        self.entropy = entropy
        self.hostname = hostname
        self.max_received = max_received
        self.rate = rate
        self._is_full = is_full

    async def begin(self, client: Client, path: ReversePath) -> MailTransaction:
        """MAIL FROM of a user. Raises Refusal."""
        if client.account is None:
            raise Refusal(AUTH_REQUIRED, "Authentication required")
        account = await self.directory.account(client.account.name)
        if account is None or account.id != client.account.id or not account.is_active:
            raise Refusal(MAILBOX_DISABLED, "This account is disabled")  # since it logged in
        if self._is_full():
            raise Refusal(SYSTEM_FULL, "Insufficient storage here, try again later")
        if path.address is not None and not await self.directory.may_send_as(account, path.address):
            raise Refusal(NOT_AUTHORIZED, "You may not send as that address")
        return _Sending(self, client, account, path, self.entropy.octets(8).hex())


class _Sending(MailTransaction):
    def __init__(self, office: Submission, client: Client, account: Account, path: ReversePath, trace: str) -> None:
        super().__init__(client, path)
        self._office = office
        self._account = account
        self._trace = trace
        self._body_hash = office.signing.body_hash()

    async def admit(self, path: ForwardPath) -> Recipient:
        if not self._office.rate.take(str(self._account.id)):
            raise Refusal(RATE_LIMITED, "Too many recipients in this hour, try again later")
        resolution = await self._office.directory.resolve(path.address)
        if resolution.domain_is_local:
            if resolution.status is not None:
                raise Refusal(resolution.status, refusal_text(resolution.status))
            await check_room(self._office.acceptance, resolution, self.reverse_path.size)
        return Recipient(path, resolution)

    def incoming(self) -> IncomingLetter:
        return IncomingLetter(self._office.blobs, edit_header=self._complete, body_listener=self._body_hash)

    async def accept(self, incoming: IncomingLetter) -> Receipt:
        letter = await incoming.finish()
        if is_looping(letter.scan, self._office.max_received):
            raise Refusal(ROUTING_LOOP, "Too many hops: the letter goes in a circle")
        author = await self._check_author(letter)
        now = self._office.clock.wall()
        signature = await self._office.signing.sign(author.domain, letter.scan.block, self._body_hash, now)
        fields = received_field(self, self._office.hostname, self._trace, now)
        origin = Origin(self._trace, now, signature + fields, source=self._account.name, account=self._account)
        await self._office.acceptance.accept(letter, self.reverse_path, self.recipients, origin, "submission")
        return Receipt(self._trace)

    def _complete(self, header: bytes) -> bytes:
        """Add Message-ID, Date and (for several authors) Sender where they are missing; take Bcc out."""
        office = self._office
        if header.startswith((b" ", b"\t")):  # it would go on with what is put before it
            raise Refusal(BAD_CONTENT, "The header begins with a blank")
        header = remove_fields(header, PRIVATE_FIELDS)
        scan = scan_header(header)
        missing = b""
        if b"message-id" not in scan:
            unique = office.entropy.octets(16).hex()
            missing += f"Message-ID: <{unique}@{office.hostname}>\r\n".encode()
        if b"date" not in scan:
            missing += f"Date: {format_date(office.clock.wall())}\r\n".encode()
        if b"sender" not in scan and len(addresses((scan.get(b"from") or b"")[:MAX_AUTHORS])) > 1:
            missing += f"Sender: <{self._account.address}>\r\n".encode()
        if not missing:
            return header
        return insert_fields(header if header.strip() else b"\r\n", missing)

    async def _check_author(self, letter: FinishedLetter) -> Address:
        """The first address in From, when all that say who writes are the user's to use. RFC 6409 §8.1."""
        scan = letter.scan
        # A From could hide behind what the scan has read, or in a line that only some readers take for a field.
        if scan.is_too_big:
            raise Refusal(BAD_CONTENT, "The header is too large, or has too many fields")
        if not scan.is_well_formed and not all(field.name for field in scan.fields):
            raise Refusal(BAD_CONTENT, "The header has a line that is not a field")
        if scan.count(b"from") != 1 or scan.count(b"sender") > 1:  # RFC 5322 §3.6; readers show the first or the last
            raise Refusal(BAD_CONTENT, "The header needs exactly one From field and at most one Sender")
        authors = _written_addresses(scan, b"from")
        if not authors:
            raise Refusal(BAD_CONTENT, "The From field holds no address")
        # Several authors are all shown as such, so one of one's own among them is not enough. Of Resent fields the
        # first is who sends it now (RFC 5322 §3.6.6).
        for name in (b"from", b"sender", b"resent-from", b"resent-sender"):
            for address in authors if name == b"from" else _written_addresses(scan, name):
                if not await self._office.directory.may_send_as(self._account, address):
                    raise Refusal(NOT_AUTHORIZED, f"You may not send as the address in {name.decode().title()}")
        return authors[0]


def _written_addresses(scan: HeaderScan, name: bytes) -> list[Address]:
    """The addresses of a field that all readers understand alike. Raises Refusal: an unreadable member would hide
    from the check and might be shown by somebody's mail program."""
    value = scan.get(name)
    if value is None:
        return []
    if len(value) > MAX_AUTHORS or not parse_address_list(value).is_clean:
        raise Refusal(BAD_CONTENT, f"The {name.decode().title()} field is not well formed")
    return addresses(value)
