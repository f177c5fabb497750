# SPDX-License-Identifier: Apache-2.0
"""The machine's own time and chance. Invariant: nothing else in the house asks for either."""

from __future__ import annotations

import os
import time


class SystemClock:
    """The Clock port on the operating system."""

    def wall(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class SystemEntropy:
    """The Entropy port on the operating system's random source."""

    def octets(self, count: int) -> bytes:
        return os.urandom(count)
