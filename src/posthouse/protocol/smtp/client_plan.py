# SPDX-License-Identifier: Apache-2.0
"""How a letter can go to this host, decided before a word is said: what it needs, what the host offers.

Invariant: a letter that the host cannot take unharmed is refused here with the reason; nothing is sent as
something that it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from posthouse.mail.envelope import BodyType, Envelope, ForwardPath
from posthouse.outcome import (
    CONVERSION_REQUIRED,
    MESSAGE_TOO_BIG,
    NON_ASCII_NOT_ALLOWED,
    TOO_MANY_RECIPIENTS,
    Outcome,
    Status,
)
from posthouse.ports import Buffer
from posthouse.protocol.smtp.client_content import BDAT_CHUNK, BDAT_WORTHWHILE, Traits, look_at
from posthouse.protocol.smtp.client_offer import Offer
from posthouse.protocol.smtp.client_outcomes import UTF8_HEADER_NOT_ALLOWED, Host


@dataclass(frozen=True, slots=True)
class Plan:
    """`refused` has one entry per forward-path: None where the host is to be asked."""

    size: int  # octets on the wire, without dot-stuffing
    body: BodyType  # as said in MAIL
    smtputf8: bool  # whether MAIL says it
    uses_bdat: bool
    refused: tuple[Outcome | None, ...]

    @property
    def is_lines(self) -> bool:
        """Whether the content is lines, and not BINARYMIME."""
        return self.body is not BodyType.BINARY

    @property
    def chunk_count(self) -> int:
        return max(1, -(-self.size // BDAT_CHUNK))

    @property
    def is_hopeless(self) -> bool:
        return all(outcome is not None for outcome in self.refused)


class SessionCounts:
    """What a session has used of the server's LIMITS (RFC 9422 §4)."""

    def __init__(self) -> None:
        self.transactions = 0
        self.has_no_room = False  # a recipient was put off because of RCPTDOMAINMAX
        self.domains: dict[str, None] = {}  # as an ordered set

    def may_ask(self, path: ForwardPath, offer: Offer) -> bool:
        """Whether the domain of this path fits into RCPTDOMAINMAX; if so it is counted."""
        most = offer.limits.rcpt_domain_max
        domain = path.address.domain.name
        if most is not None and domain not in self.domains and len(self.domains) >= most:
            self.has_no_room = True
            return False
        self.domains[domain] = None
        return True


def make_plan(
    envelope: Envelope,
    content: Sequence[Buffer],
    offer: Offer,
    host: Host,
    counts: SessionCounts,
    *,
    may_bdat: bool,
) -> Plan:
    """Decide; refusals that concern the whole letter stand for every recipient."""
    traits = look_at(content)
    body = _body(envelope, traits)
    is_binary = body is BodyType.BINARY
    size = traits.size - 2 * (is_binary and traits.lacks_final_crlf)
    # RFC 6531 §3.4: said only where something needs it; 8-bit content may hold a message that does.
    smtputf8 = "SMTPUTF8" in offer and (
        _has_wide_address(envelope) or (envelope.reverse_path.smtputf8 and not traits.is_ascii)
    )
    uses_bdat = "CHUNKING" in offer and (is_binary or (may_bdat and size >= BDAT_WORTHWHILE))
    refusal = _refuse_letter(envelope, traits, body, offer)
    if refusal is not None:
        status, why = refusal
        outcome = host.silent(why, status=status)
        return Plan(size, body, smtputf8, uses_bdat, (outcome,) * len(envelope.forward_paths))
    refused = _refuse_recipients(envelope, offer, host, counts)
    return Plan(size, body, smtputf8, uses_bdat, refused)


def _body(envelope: Envelope, traits: Traits) -> BodyType:
    """What the content is, rather than what was once declared."""
    if envelope.reverse_path.body is BodyType.BINARY:
        return BodyType.BINARY
    return BodyType.SEVEN_BIT if traits.is_ascii else BodyType.EIGHT_BIT


def _has_wide_address(envelope: Envelope) -> bool:
    sender = envelope.reverse_path.address
    if sender is not None and not sender.is_ascii:
        return True
    return any(not path.address.is_ascii for path in envelope.forward_paths)


def _refuse_letter(envelope: Envelope, traits: Traits, body: BodyType, offer: Offer) -> tuple[Status, str] | None:
    if offer.max_size is not None and traits.size > offer.max_size:
        # RFC 1870 §6.2: no use in trying.
        return MESSAGE_TOO_BIG, f"the letter has {traits.size} octets, the host takes {offer.max_size} at most"
    sender = envelope.reverse_path.address
    if "SMTPUTF8" not in offer:
        if sender is not None and not sender.is_ascii:
            return NON_ASCII_NOT_ALLOWED, "the sender's address is not ASCII and the host does not offer SMTPUTF8"
        if envelope.reverse_path.smtputf8 and not traits.has_ascii_header:
            return UTF8_HEADER_NOT_ALLOWED, "the header is not ASCII and the host does not offer SMTPUTF8"
    if body is BodyType.BINARY and not ("BINARYMIME" in offer and "CHUNKING" in offer):
        why = "the content is binary and the host does not offer BINARYMIME with CHUNKING"
        return CONVERSION_REQUIRED, why
    if body is BodyType.EIGHT_BIT and "8BITMIME" not in offer:
        # RFC 6152 §3: convert or return; conversion would break signatures, so it is returned.
        return CONVERSION_REQUIRED, "the content is 8-bit and the host does not offer 8BITMIME"
    return None


def _refuse_recipients(
    envelope: Envelope, offer: Offer, host: Host, counts: SessionCounts
) -> tuple[Outcome | None, ...]:
    refused: list[Outcome | None] = []
    left = offer.limits.rcpt_max
    too_many = host.silent("the host's limit of recipients is reached", status=TOO_MANY_RECIPIENTS)
    for path in envelope.forward_paths:
        if not path.address.is_ascii and "SMTPUTF8" not in offer:
            # A-labels need no SMTPUTF8; a local part beyond ASCII has no other form (RFC 6530 §7.2).
            why = "the recipient's address is not ASCII and the host does not offer SMTPUTF8"
            refused.append(host.silent(why, status=NON_ASCII_NOT_ALLOWED))
        elif left == 0 or not counts.may_ask(path, offer):
            refused.append(too_many)
        else:
            left = None if left is None else left - 1
            refused.append(None)
    return tuple(refused)
