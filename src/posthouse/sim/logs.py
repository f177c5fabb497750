# SPDX-License-Identifier: Apache-2.0
"""Takes what servers log, instead of the process's own log. Invariant: afterwards logging is as it was before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog

Record = Callable[[str, MutableMapping[str, Any]], None]  # the method ("info", "error"), the event


@contextmanager
def recording(record: Record) -> Iterator[None]:
    def process(_logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        record(method, event)
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[process],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)
