# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL server for those tests that ask for one (marked `interop`)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import running_cluster


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The DSN of a server of the tests' own, or of the one that POSTHOUSE_TEST_POSTGRES names."""
    with running_cluster() as dsn:
        yield dsn
