# SPDX-License-Identifier: Apache-2.0
"""For all tests: plain log lines. structlog's default draws tracebacks with every local variable, which takes longer
than most tests."""

import structlog

structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(key_order=["level", "event"]),
    ],
    cache_logger_on_first_use=False,  # so that structlog.testing.capture_logs reaches every logger
)
