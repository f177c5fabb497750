# SPDX-License-Identifier: Apache-2.0
"""When the sender is told what became of a letter, and when never (RFC 3461, RFC 3464).

Invariant: nothing here ever answers the null reverse-path, so a DSN never causes a DSN. A report is composed
before the unit of work that changes the state it tells of, and posted inside that unit: both or neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from posthouse.mail.address import Address, parse_address
from posthouse.mail.dsn import Action, DsnRecipient, DsnReport, compose_dsn
from posthouse.mail.envelope import DsnReturn, ForwardPath, Notify, ReversePath, TlsWish
from posthouse.outcome import Outcome
from posthouse.ports import BlobLocation, BlobStore, Clock, Entropy, StoreFault, Transaction

RETURNED_IN_FULL = 50_000  # octets of a letter that comes back whole unasked: mostly text that its author wants again
MAX_RETURNED = 2 << 20  # octets that come back with RET=FULL: a report is composed in memory
MAX_HEADER = 128 << 10  # octets of a header that come back: more is no header that a person reads


class Posting(Protocol):
    """A letter that is put in within somebody's unit of work: call it there, and `announce` it after the commit."""

    def __call__(self, tx: Transaction) -> None: ...

    def announce(self) -> None: ...


class DsnPoster(Protocol):
    """Whoever can deliver a report of ours: into a mailbox here, or through the queue."""

    async def prepare(self, octets: bytes, to: Address, trace: str, *, wish: TlsWish = TlsWish.USUAL) -> Posting:
        """What to run in the unit of work that makes the report true."""


class ReportSigning(Protocol):
    """Whoever signs what this host says in its own name."""

    async def sign(self, letter: bytes, now: float) -> bytes:
        """The letter with its signatures; as it is where nobody can sign."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What happened to one recipient, to be told if its sender wants to know."""

    path: ForwardPath
    action: Action
    outcome: Outcome
    at: float
    will_retry_until: float | None = None


@dataclass(frozen=True, slots=True)
class LetterToReport:
    """The letter that a report is about. `ident` is its id in our logs (the queue id where it has one).
    `location` None: only `prefix` (with the header in it) is known, as before the letter's own commit."""

    reverse_path: ReversePath
    language: str
    arrived_at: float
    trace: str
    ident: str
    prefix: bytes
    location: BlobLocation | None
    size: int
    received_from: str | None = None


def wants(path: ForwardPath, action: Action) -> bool:
    """Whether the sender asked for this (RFC 3461 §4.1). Unset means: failures, and delays if the MTA likes."""
    notify = path.notify if path.notify is not None else Notify.FAILURE | Notify.DELAY
    if Notify.NEVER in notify:
        return False
    if action is Action.FAILED:
        return Notify.FAILURE in notify
    if action is Action.DELAYED:
        return Notify.DELAY in notify
    return Notify.SUCCESS in notify


class Bounce:
    """Composes reports. `sender` is the address in From: of every report, a postmaster that people can answer;
    `signing` makes others believe that it is."""

    def __init__(
        self,
        blobs: BlobStore,
        poster: DsnPoster,
        clock: Clock,
        entropy: Entropy,
        hostname: str,
        *,
        sender: Address | None = None,
        signing: ReportSigning | None = None,
    ) -> None:
        self._blobs = blobs
        self._poster = poster
        self._clock = clock
        self._entropy = entropy
        self._hostname = hostname
        self._signing = signing
        self._sender = sender or parse_address(f"MAILER-DAEMON@{hostname}")
        self.written = 0  # reports prepared since the start, for metrics

    async def prepare(self, letter: LetterToReport, notices: Iterable[Notice]) -> list[Posting]:
        """The postings for one letter, one report per kind of news; empty when nobody wants to know.

        What is returned is to be run in the unit of work that records what the notices say, and announced after it.
        """
        to = letter.reverse_path.address
        if to is None:
            return []
        wanted: dict[Action, list[Notice]] = {}
        for notice in notices:
            if wants(notice.path, notice.action):
                wanted.setdefault(notice.action, []).append(notice)
        postings: list[Posting] = []
        for action in sorted(wanted):
            original, is_full = await self._original(letter, action)
            octets = compose_dsn(self._report(letter, to, wanted[action], original, is_full=is_full))
            if self._signing is not None:
                octets = await self._signing.sign(octets, self._clock.wall())
            # RFC 8689 §5: a report quotes the letter, so it is protected as that was.
            wish = letter.reverse_path.wish if letter.reverse_path.wish is TlsWish.REQUIRED else TlsWish.USUAL
            postings.append(await self._poster.prepare(octets, to, letter.trace, wish=wish))
            self.written += 1
        return postings

    def _report(
        self, letter: LetterToReport, to: Address, notices: Sequence[Notice], original: bytes, *, is_full: bool
    ) -> DsnReport:
        return DsnReport(
            reporting_mta=self._hostname,
            sender=self._sender,
            to=to,
            language=letter.language,
            arrived_at=letter.arrived_at,
            recipients=tuple(_recipient(notice, letter.ident) for notice in notices),
            original=original,
            original_is_full=is_full,
            message_id=f"{self._entropy.octets(12).hex()}@{self._hostname}",
            boundary=f"=_{self._entropy.octets(12).hex()}",
            date=self._clock.wall(),
            envelope_id=letter.reverse_path.envelope_id,
            received_from_mta=letter.received_from,
        )

    async def _original(self, letter: LetterToReport, action: Action) -> tuple[bytes, bool]:
        """(octets, whether they are the whole letter). RFC 3461 §4.3: RET is about failures only; all other
        reports have the header alone; where RET is not given the choice is ours."""
        if letter.location is None:
            return _header(letter.prefix), False
        try:
            content = await self._blobs.open(letter.location)
        except StoreFault:
            return letter.prefix, False  # the news must reach its reader even when the letter cannot be read
        size = len(letter.prefix) + len(content)
        is_bound = letter.reverse_path.wish is TlsWish.REQUIRED  # RFC 8689 §5: as if RET=HDRS, whatever RET says
        limit = {DsnReturn.FULL: MAX_RETURNED, DsnReturn.HEADERS: -1, None: RETURNED_IN_FULL}
        if action is Action.FAILED and not is_bound and size <= limit[letter.reverse_path.dsn_return]:
            return letter.prefix + bytes(content), True
        return _header(letter.prefix + bytes(content[:MAX_HEADER])), False


def _recipient(notice: Notice, ident: str) -> DsnRecipient:
    outcome = notice.outcome
    return DsnRecipient(
        address=notice.path.address,
        action=notice.action,
        status=outcome.status,
        diagnostic=outcome.diagnostic,
        reply=outcome.reply,
        remote_mta=outcome.host,
        original_recipient=notice.path.original_recipient,
        last_attempt_at=notice.at,
        will_retry_until=notice.will_retry_until,
        final_log_id=ident,
    )


def _header(octets: bytes) -> bytes:
    """Up to and with the empty line, or what there is of it."""
    end = octets.find(b"\r\n\r\n")
    return octets[: end + 4] if end >= 0 else octets[:MAX_HEADER]
