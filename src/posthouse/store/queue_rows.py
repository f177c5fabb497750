# SPDX-License-Identifier: Apache-2.0
"""The words of the queue (states, letters, recipients, rulings) and how they are packed into rows.

Invariant: what is unpacked equals what was packed; every reader of queue rows goes through here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from posthouse.mail.address import Address, parse_address
from posthouse.mail.envelope import BodyType, DsnReturn, ForwardPath, Notify, ReversePath, TlsWish
from posthouse.outcome import Outcome, RemoteReply, Status
from posthouse.ports import BlobLocation

LOCAL = "local"  # the next hop of recipients in mailboxes here (held or deferred submissions)
SMART_HOST = "*"  # the next hop of all who go through the catch-all route: one destination, one back-off


class State(StrEnum):
    """A recipient of a queued letter is in exactly one of these (docs/queue-states.md)."""

    DUE = "due"
    CLAIMED = "claimed"
    HELD = "held"
    DELIVERED = "delivered"
    FAILED = "failed"
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        return self in (State.DELIVERED, State.FAILED, State.EXPIRED)


@dataclass(frozen=True, slots=True)
class QueuedRecipient:
    """A recipient on its way into the queue. Times are epoch seconds.

    `next_hop` as `Routing.next_hop` gives it, or "local". `warn_at` None: the sender is never told of a delay.
    """

    path: ForwardPath
    next_hop: str
    not_before: float
    expires_at: float
    is_held: bool = False
    warn_at: float | None = None


@dataclass(frozen=True, slots=True)
class QueuedLetter:
    """A letter on its way into the queue. `prefix` goes before the content on the wire (Received, signatures);
    `size` is the content's, in octets; `account` the submitter's, None for mail from elsewhere."""

    reverse_path: ReversePath
    prefix: bytes
    account: int | None
    language: str
    message_id: str
    size: int
    needs_eight_bit: bool
    needs_smtputf8: bool
    received_at: float
    trace: str
    recipients: tuple[QueuedRecipient, ...]


@dataclass(frozen=True, slots=True)
class ClaimedRecipient:
    """A recipient that this incarnation works on. `attempts` are those before this one."""

    id: int
    path: ForwardPath
    next_hop: str
    due_at: float
    warn_at: float | None
    expires_at: float
    attempts: int


@dataclass(frozen=True, slots=True)
class ClaimedLetter:
    """What an attempt needs: the envelope, where the content lies, the claimed recipients of one next hop."""

    id: int
    location: BlobLocation
    account: int | None
    reverse_path: ReversePath
    prefix: bytes
    language: str
    message_id: str
    size: int
    needs_eight_bit: bool
    needs_smtputf8: bool
    received_at: float
    trace: str
    recipients: tuple[ClaimedRecipient, ...]


@dataclass(frozen=True, slots=True)
class Ruling:
    """What becomes of one claimed recipient: the state it goes to, and why.

    `due_at` and `warn_at` matter for DUE only. `is_attempt` False: nothing was tried for it alone (its
    destination is down), so its own count of attempts stays.
    """

    recipient: int
    state: State
    outcome: Outcome
    due_at: float = 0.0
    warn_at: float | None = None
    is_attempt: bool = True


@dataclass(frozen=True, slots=True)
class Attempt:
    """One mail transaction, or (`letter` None) a session that did not come about."""

    letter: int | None
    next_hop: str
    at: float
    host: str
    address: str
    tls: str
    results: tuple[tuple[Outcome, tuple[str, ...]], ...]  # outcome, the recipients that met it


class LeaseLost(Exception):  # noqa: N818 - an answer of the queue, not a fault
    """These recipients are no longer claimed by the one who rules on them; nothing was recorded."""

    def __init__(self, recipients: tuple[int, ...]) -> None:
        super().__init__(f"{len(recipients)} recipients are claimed by somebody else")
        self.recipients = recipients


# --- packing ----------------------------------------------------------------------------------------

_NOTIFY_BITS = ((Notify.NEVER, 1), (Notify.SUCCESS, 2), (Notify.FAILURE, 4), (Notify.DELAY, 8))
_encode = msgspec.msgpack.Encoder().encode
_PackedOutcome = tuple[str, str, str, str, str, int, str, str]
_decode_outcome = msgspec.msgpack.Decoder(_PackedOutcome).decode
_decode_results = msgspec.msgpack.Decoder(list[tuple[_PackedOutcome, list[str]]]).decode


class _PackedPath(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Everything of a reverse-path but its address. New fields only ever go to the end, with a default."""

    size: int | None
    body: str
    smtputf8: bool
    dsn_return: str | None
    envelope_id: str | None
    auth: str | None
    wish: str = ""


_decode_path = msgspec.msgpack.Decoder(_PackedPath).decode


def address_of(text: str) -> Address | None:
    return parse_address(text) if text else None


def pack_reverse_path(path: ReversePath) -> bytes:
    """Everything but the address. hold_until is over once the letter is in the queue (not_before has it)."""
    dsn_return = path.dsn_return.value if path.dsn_return else None
    fields = (path.size, path.body.value, path.smtputf8, dsn_return, path.envelope_id, path.auth)
    return _encode((*fields, path.wish.value) if path.wish else fields)


def unpack_reverse_path(address: str, parameters: bytes) -> ReversePath:
    found = _decode_path(parameters)
    return ReversePath(
        address=address_of(address),
        size=found.size,
        body=BodyType(found.body),
        smtputf8=found.smtputf8,
        dsn_return=DsnReturn(found.dsn_return) if found.dsn_return else None,
        envelope_id=found.envelope_id,
        auth=found.auth,
        wish=TlsWish(found.wish),
    )


def pack_notify(notify: Notify | None) -> int | None:
    return None if notify is None else sum(bit for flag, bit in _NOTIFY_BITS if flag in notify)


def unpack_notify(bits: int | None) -> Notify | None:
    if bits is None:
        return None
    notify = Notify(0)
    for flag, bit in _NOTIFY_BITS:
        if bits & bit:
            notify |= flag
    return notify


def unpack_forward_path(address: str, notify: int | None, original_recipient: str | None) -> ForwardPath:
    return ForwardPath(parse_address(address), unpack_notify(notify), original_recipient)


def flat_outcome(outcome: Outcome) -> _PackedOutcome:
    """As plain values, for msgpack in rows and JSON elsewhere."""
    reply = outcome.reply
    return (
        str(outcome.status),
        outcome.diagnostic,
        outcome.host,
        outcome.address,
        outcome.tls,
        reply.code if reply else 0,
        str(reply.status) if reply and reply.status else "",
        reply.text if reply else "",
    )


def outcome_from(flat: Sequence[object]) -> Outcome:
    """The inverse of `flat_outcome`."""
    status, diagnostic, host, address, tls, code, reply_status, text = flat
    parsed = Status.parse(str(status))
    assert parsed is not None
    reply = None
    if code:
        assert isinstance(code, int)
        reply = RemoteReply(code, Status.parse(str(reply_status)), str(text))
    return Outcome(parsed, str(diagnostic), str(host), str(address), str(tls), reply)


def pack_outcome(outcome: Outcome) -> bytes:
    return _encode(flat_outcome(outcome))


def unpack_outcome(packed: bytes | None) -> Outcome | None:
    return None if packed is None else outcome_from(_decode_outcome(packed))


def pack_results(results: Iterable[tuple[Outcome, tuple[str, ...]]]) -> bytes:
    return _encode([(flat_outcome(outcome), recipients) for outcome, recipients in results])


def unpack_results(packed: bytes) -> tuple[tuple[Outcome, tuple[str, ...]], ...]:
    return tuple((outcome_from(flat), tuple(recipients)) for flat, recipients in _decode_results(packed))


def group_results(results: Iterable[tuple[str, Outcome]]) -> tuple[tuple[Outcome, tuple[str, ...]], ...]:
    """(recipient, outcome) pairs as (outcome, recipients): a thousand equal outcomes are kept once."""
    groups: dict[Outcome, list[str]] = {}
    for recipient, outcome in results:
        groups.setdefault(outcome, []).append(recipient)
    return tuple((outcome, tuple(recipients)) for outcome, recipients in groups.items())
