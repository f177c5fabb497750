# SPDX-License-Identifier: Apache-2.0
"""From errors of the machine to StoreFault. Invariant: "full" is said only when more space would help."""

from __future__ import annotations

import errno

from posthouse.ports import BlobLocation, StoreFault

# Where a letter lies whose row was lost. No content has such a digest, so opening it is DamagedContent.
LOST = BlobLocation(0, 0, 0, b"lost")

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def is_full(error: OSError) -> bool:
    return error.errno in FULL


def disk_fault(doing: str, error: OSError) -> StoreFault:
    """`doing` says in a few words what failed."""
    return StoreFault(f"{doing}: {error.strerror or error}", is_full=is_full(error))
