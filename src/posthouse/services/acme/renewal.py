# SPDX-License-Identifier: Apache-2.0
"""When a certificate is to be renewed: as the authority suggests (RFC 9773), or when a third of its life is left.

Invariant: times alone; the same certificate, window and chance give the same time.
"""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.services.acme.words import RenewalInfo
from posthouse.services.acme.x509 import LeafFacts

# Of the whole life, where the authority suggests nothing: what large authorities advise for 90 days and for 6.
LEFT = 1 / 3
# Of the whole life: renewals are spread over so much time before, so that not all who began on one day come at once.
SPREAD = 1 / 30
# RFC 9773 §4.3.2: reasonable limits of Retry-After; §4.3.3: six hours where nothing usable came.
LEAST_PAUSE = 60.0
MOST_PAUSE = 86400.0
DEFAULT_PAUSE = 6 * 3600.0
# Seconds before the next attempt, by the number of those that failed. Authorities limit failed validations (five for
# an account, a name and an hour are usual), and what is wrong is mended by people as a rule.
RETRIES = (600.0, 1800.0, 3600.0, 2 * 3600.0, 4 * 3600.0, 6 * 3600.0)


@dataclass(frozen=True, slots=True)
class Window:
    """What the authority suggests, in seconds since the epoch."""

    start: float
    end: float
    explanation: str = ""


def window_of(info: RenewalInfo) -> Window | None:
    """None for one that ends before it begins, which counts as no answer (RFC 9773 §4.2)."""
    try:
        start, end = info.suggested_window.start.timestamp(), info.suggested_window.end.timestamp()
    except (ValueError, OverflowError):
        return None
    return Window(start, end, info.explanation_url) if start < end else None


def renewal_at(facts: LeafFacts, window: Window | None, chance: float) -> float:
    """`chance`: from 0 to 1, drawn once for a certificate and a window."""
    life = facts.expires_at - facts.issued_at
    if window is not None:
        chosen = window.start + chance * (window.end - window.start)  # RFC 9773 §4.2: uniform within it
        return min(chosen, facts.expires_at - life * SPREAD)  # whatever is suggested: before it ends
    return facts.expires_at - life * (LEFT + SPREAD * chance)


def ask_again_in(retry_after: float | None) -> float:
    """Seconds until the next question for renewal information."""
    return DEFAULT_PAUSE if retry_after is None else min(max(retry_after, LEAST_PAUSE), MOST_PAUSE)


def retry_in(failures: int, retry_after: float | None, facts: LeafFacts | None = None) -> float:
    """Seconds until the next attempt after so many failed ones in a row, at least 1. `facts`: of what is served; a
    short life leaves room for several attempts in its last third."""
    pause = RETRIES[min(failures, len(RETRIES)) - 1]
    if facts is not None:
        pause = min(pause, max((facts.expires_at - facts.issued_at) * SPREAD, LEAST_PAUSE))
    return max(pause, retry_after or 0.0)
