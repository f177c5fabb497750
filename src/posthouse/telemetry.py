# SPDX-License-Identifier: Apache-2.0
"""Structured log, metrics, trace ids. One line per event, fields not prose.

The loggers are structlog's; `configure` is called once by the entry point. Field names are the glossary's.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

Log = Any  # structlog.typing.FilteringBoundLogger, whose methods are dynamic


def configure(*, as_json: bool, level: str = "info") -> None:
    """JSON lines for machines (and journald), aligned text for a terminal; both on standard error."""
    renderer: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=False) if as_json else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks if as_json else structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def logger(part: str) -> Log:
    """The logger of one part of the house (`smtp`, `relay`, `store`, …)."""
    return structlog.get_logger(part=part)


def trace_id(octets: bytes) -> str:
    """A short id that follows a letter from connection to delivery; octets come from Entropy (8 of them)."""
    return octets.hex()
