# SPDX-License-Identifier: Apache-2.0
"""What a letter needs and what a host takes: the envelope for it, or why it cannot be sent there.

Invariant: a letter is sent as it is or not at all; nothing is converted on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from posthouse.mail.envelope import BodyType, Envelope, TlsWish
from posthouse.outcome import CONVERSION_REQUIRED, MESSAGE_TOO_BIG, NON_ASCII_NOT_ALLOWED, Outcome
from posthouse.ports import MailConnection
from posthouse.store.queue_rows import ClaimedLetter, ClaimedRecipient

RECIPIENTS_PER_TRANSACTION = 100  # RFC 5321 §4.5.3.1.8: every server takes at least 100


def recipient_limit(connection: MailConnection) -> int:
    """RFC 9422 §4.2: a host may announce fewer recipients per transaction than a hundred, or more."""
    for item in connection.extensions.get("LIMITS", "").upper().split():
        name, _, value = item.partition("=")
        if name == "RCPTMAX" and value.isascii() and value.isdigit() and int(value) > 0:
            return min(int(value), RECIPIENTS_PER_TRANSACTION)
    return RECIPIENTS_PER_TRANSACTION


def obstacle(
    connection: MailConnection, letter: ClaimedLetter, recipients: Sequence[ClaimedRecipient], size: int
) -> Outcome | None:
    """Why this letter cannot be sent to this host at all, said before wasting its time and ours."""
    extensions = connection.extensions
    tls = connection.tls.words if connection.tls else ""
    if _needs_smtputf8(letter, recipients) and "SMTPUTF8" not in extensions:
        # RFC 6531 §3.5; rewriting addresses would lose the sender's meaning.
        return Outcome(NON_ASCII_NOT_ALLOWED, "the next mail host does not take international addresses", tls=tls)
    if letter.needs_eight_bit and "8BITMIME" not in extensions:
        # RFC 6152 §3: convert or return; converting would break signatures.
        return Outcome(CONVERSION_REQUIRED, "the next mail host does not take eight-bit text", tls=tls)
    limit = extensions.get("SIZE", "")
    if limit.isascii() and limit.isdigit() and 0 < int(limit) < size:
        # RFC 1870 §6.1
        return Outcome(MESSAGE_TOO_BIG, f"the letter has {size} octets, the next mail host takes {limit}", tls=tls)
    return None


def envelope(
    letter: ClaimedLetter, recipients: Sequence[ClaimedRecipient], size: int, *, keeps_promise: bool = False
) -> Envelope:
    """`keeps_promise`: the session is one on which REQUIRETLS may be said (RFC 8689 §2)."""
    path = letter.reverse_path
    body = path.body
    if letter.needs_eight_bit and body is BodyType.SEVEN_BIT:
        body = BodyType.EIGHT_BIT
    is_utf8 = _needs_smtputf8(letter, recipients)
    wish = path.wish if keeps_promise and path.wish is TlsWish.REQUIRED else TlsWish.USUAL
    reverse_path = replace(path, size=size, body=body, smtputf8=is_utf8, hold_until=None, wish=wish)
    return Envelope(reverse_path, tuple(recipient.path for recipient in recipients))


def _needs_smtputf8(letter: ClaimedLetter, recipients: Sequence[ClaimedRecipient]) -> bool:
    sender = letter.reverse_path.address
    if letter.needs_smtputf8 or (sender is not None and not sender.is_ascii):
        return True
    return not all(recipient.path.address.is_ascii for recipient in recipients)
