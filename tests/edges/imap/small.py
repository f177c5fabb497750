# SPDX-License-Identifier: Apache-2.0
"""A server that does everything in pieces of a letter or two, and keeps nothing that nobody looks at.

What happens at the seams of pages, and between the pieces of a long answer, needs a mailbox of thousands otherwise.
"""

from __future__ import annotations

import pytest

from posthouse.edges.imap import fetching
from posthouse.edges.imap import storing as storing_edge
from posthouse.services.mailbox import arrays, listing, search, storing
from posthouse.store import catalogue, crossing, reading


def in_small_pieces(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fetching, "ROWS", 2)
    patch.setattr(fetching, "PAGE", 2)
    patch.setattr(fetching, "PIECE", 10)
    patch.setattr(storing_edge, "PAGE", 2)
    patch.setattr(storing, "READ_AT_ONCE", 1)
    patch.setattr(search, "BODIES_AT_ONCE", 1)
    patch.setattr(listing, "PAGE", 1)
    patch.setattr(catalogue, "PAGE", 3)
    patch.setattr(reading, "PAGE", 2)
    patch.setattr(crossing, "AT_ONCE", 1)
    patch.setattr(arrays, "KEPT_LETTERS", 0)
