# SPDX-License-Identifier: Apache-2.0
"""One posthouse, one PostgreSQL and one folder for the run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .house import ALICE, BOB, House


@pytest.fixture(scope="session")
def base() -> Iterator[Path]:
    """A folder that daemons with users of their own may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="posthouse-interop-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_house(base: Path) -> Iterator[House]:
    """A posthouse that sends nowhere: for clients."""
    house = House(base / "house")
    house.start()
    yield house
    house.stop()


@pytest.fixture
def house(shared_house: House) -> Iterator[House]:
    """The same, with empty mailboxes; what it logged during a test is shown when the test fails."""
    shared_house.empty(ALICE, BOB)
    before = shared_house.log.stat().st_size
    yield shared_house
    print(shared_house.log.read_text("utf-8", "replace")[before:][-8000:])  # noqa: T201
