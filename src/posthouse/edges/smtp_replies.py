# SPDX-License-Identifier: Apache-2.0
"""Refusals as SMTP replies: which reply code belongs to an enhanced status (RFC 5248 §3, RFC 5321 §4.2.2)."""

from __future__ import annotations

from posthouse.outcome import Refusal, Status
from posthouse.protocol.smtp.replies import Reply

CODES: dict[tuple[int, ...], int] = {
    (4, 2, 2): 452,
    (4, 3, 0): 451,
    (4, 3, 1): 452,
    (4, 3, 2): 421,
    (4, 4, 3): 451,
    (4, 5, 3): 452,
    (4, 7, 0): 454,
    (4, 7, 1): 450,
    (5, 1, 3): 501,
    (5, 1, 7): 501,
    (5, 2, 2): 552,
    (5, 3, 4): 552,
    (5, 4, 6): 554,
    (5, 5, 1): 503,
    (5, 5, 2): 500,
    (5, 5, 4): 501,
    (5, 6, 0): 550,
    (5, 6, 3): 554,
    (5, 6, 7): 553,
    (5, 7, 0): 530,
    (5, 7, 8): 535,
    (5, 7, 11): 538,
}
DEFAULTS = {2: 250, 4: 450, 5: 550}


def code_for(status: Status) -> int:
    return CODES.get(tuple(status), DEFAULTS[status.cls])


def reply_to(refusal: Refusal) -> Reply:
    if refusal.disconnect:
        return Reply(421 if refusal.status.is_transient else 521, refusal.status, (refusal.text,))
    return Reply(code_for(refusal.status), refusal.status, (refusal.text,))


def unwelcome(_peer: object, reason: str) -> bytes:
    """The greeting for a connection too many (RFC 5321 §3.8: 421 closes the channel)."""
    return Reply.of(421, (4, 7, 0), f"{reason}, try again later").encode()
