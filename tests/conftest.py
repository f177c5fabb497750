# SPDX-License-Identifier: Apache-2.0
"""For all tests: plain log lines, and a PostgreSQL server for those that ask for one (marked `interop`).

structlog's default draws tracebacks with every local variable, which takes longer than most tests.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from tests.cluster import running_cluster

structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(key_order=["level", "event"]),
    ],
    cache_logger_on_first_use=False,  # so that structlog.testing.capture_logs reaches every logger
)


_PLAIN = structlog.get_config()


@pytest.fixture(autouse=True)
def plain_log() -> None:
    """Whatever a command that was run in this process has set up: some tell warnings only."""
    structlog.configure(**_PLAIN)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The DSN of a server of the tests' own, or of the one that POSTHOUSE_TEST_POSTGRES names."""
    with running_cluster() as dsn:
        yield dsn
