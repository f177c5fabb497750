# SPDX-License-Identifier: Apache-2.0
"""Where the data of other projects is: copied selections here, the whole sets beside the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
SHARED = ROOT.parent / "shared" / "data"


def shared(folder: str) -> Path:
    """A whole data set; skips the test where it is not there."""
    path = SHARED / folder
    if not path.is_dir():
        pytest.skip(f"the whole data set {folder} is not beside the repository (../shared/data)")
    return path
