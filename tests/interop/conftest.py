# SPDX-License-Identifier: Apache-2.0
"""One posthouse, one PostgreSQL and one folder for the run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .house import ALICE, BOB, House
from .imap_server import DovecotImap, ImapServer, Person, PosthouseImap


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


@pytest.fixture(scope="session")
def dovecot_imap(base: Path) -> Iterator[DovecotImap]:
    dovecot = DovecotImap(base / "dovecot-imap")
    dovecot.start()
    yield dovecot
    dovecot.stop()


@pytest.fixture(params=["posthouse", "dovecot"])
def person(request: pytest.FixtureRequest) -> Iterator[Person]:
    """Somebody new, here or at Dovecot's; what the server logged is shown when the test fails."""
    server: ImapServer
    if request.param == "posthouse":
        server = PosthouseImap(request.getfixturevalue("shared_house"))
    else:
        server = request.getfixturevalue("dovecot_imap")
    before = server.log.stat().st_size if server.log.exists() else 0
    yield Person(server)
    print(server.log.read_text("utf-8", "replace")[before:][-8000:])  # noqa: T201
