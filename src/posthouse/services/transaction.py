# SPDX-License-Identifier: Apache-2.0
"""One mail transaction, from MAIL to the final dot, whoever the client is.

RCPT decides and the commit does not change its mind: an accepted recipient is a promise (RFC 5321 §4.1.1.4).
`Reception` (other servers, LMTP) and `Submission` (users) each fill in their own rules.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from posthouse.mail.envelope import ForwardPath, ReversePath
from posthouse.outcome import (
    SYSTEM_FAULT,
    SYSTEM_FULL,
    TOO_MANY_RECIPIENTS,
    Refusal,
)
from posthouse.ports import Peer, StoreFault, TlsInfo
from posthouse.services.directory import Account, Resolution
from posthouse.services.incoming import IncomingLetter

# What the aliases among the recipients of one letter may stand for in all, each counted in full: ten of the largest.
# Planning a member costs 4 µs of everybody's time, so a stranger who names a list a thousand times over (list+1@,
# list+2@, …) must not have it planned a thousand times.
MAX_MEMBERS = 10_000


@dataclass(slots=True)
class Client:
    """Who is at the other end of a session, as far as it is known by now."""

    peer: Peer
    hello: str = ""
    is_extended: bool = False  # said EHLO or LHLO
    protocol: str = "SMTP"  # for Received: SMTP, ESMTP, ESMTPS, ESMTPA, ESMTPSA, LMTP, UTF8SMTP… (RFC 3848)
    tls: TlsInfo | None = None
    account: Account | None = None


@dataclass(frozen=True, slots=True)
class Recipient:
    """An accepted forward-path and where it leads."""

    path: ForwardPath
    resolution: Resolution


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the client is told after the commit: `trace` finds the letter with `posthouse trace`."""

    trace: str


class MailTransaction(ABC):
    """Collects recipients and content; `finish` makes the letter durable."""

    def __init__(self, client: Client, reverse_path: ReversePath) -> None:
        self.client = client
        self.reverse_path = reverse_path
        self.recipients: list[Recipient] = []
        self._incoming: IncomingLetter | None = None
        self._members = 0  # of the aliases among the recipients

    @abstractmethod
    async def admit(self, path: ForwardPath) -> Recipient:
        """Accept one recipient or raise Refusal."""

    @abstractmethod
    def incoming(self) -> IncomingLetter:
        """Where the content goes."""

    @abstractmethod
    async def accept(self, incoming: IncomingLetter) -> Receipt:
        """Judge the whole letter and commit it, or raise Refusal (for every recipient)."""

    async def add_recipient(self, path: ForwardPath) -> None:
        """Raises Refusal; the recipients before stay."""
        recipient = await self.admit(path)
        resolution = recipient.resolution
        if resolution.is_alias:
            members = self._members + len(resolution.accounts) + len(resolution.remote)
            if members > MAX_MEMBERS:
                raise Refusal(TOO_MANY_RECIPIENTS, "Too many recipients behind these addresses, send others apart")
            self._members = members
        self.recipients.append(recipient)

    async def begin_content(self) -> None:
        if self._incoming is None:
            self._incoming = self.incoming()

    async def add_content(self, chunk: bytes) -> None:
        assert self._incoming is not None
        try:
            await self._incoming.add(chunk)
        except StoreFault as fault:
            raise store_refusal(fault) from fault

    async def finish(self) -> Receipt:
        assert self._incoming is not None
        incoming, self._incoming = self._incoming, None
        try:
            return await self.accept(incoming)
        except StoreFault as fault:
            raise store_refusal(fault) from fault
        finally:
            await incoming.discard()

    async def discard(self) -> None:
        if self._incoming is not None:
            incoming, self._incoming = self._incoming, None
            await incoming.discard()


def store_refusal(fault: StoreFault) -> Refusal:
    """RFC 5321 §4.5.3.1.10 and DESIGN §2: 452 4.3.1 for want of space, 451 4.3.0 for any other fault."""
    if fault.is_full:
        return Refusal(SYSTEM_FULL, "Insufficient storage here, try again later")
    return Refusal(SYSTEM_FAULT, "A fault of this server, nothing was stored, try again later")
