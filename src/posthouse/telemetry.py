# SPDX-License-Identifier: Apache-2.0
"""Structured log, metrics, trace ids. One line per event, fields not prose.

The loggers are structlog's; `configure` is called once by the entry point. Field names are the glossary's.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

FLUSH_SECONDS = 0.1  # how long a line of information may wait for others

Log = Any  # structlog.typing.FilteringBoundLogger, whose methods are dynamic


def configure(*, as_json: bool, level: str = "info") -> None:
    """JSON lines for machines (and journald), aligned text for a terminal; both on standard error."""
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if as_json:
        # Without the local variables of each frame, which structlog would add: passwords and letters are among them.
        trace = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        processors += [structlog.processors.ExceptionRenderer(trace), structlog.processors.JSONRenderer(_json)]
    else:
        processors += [structlog.processors.format_exc_info, structlog.dev.ConsoleRenderer()]
    factory: Any = structlog.WriteLoggerFactory(file=sys.stderr)
    if as_json:
        factory = LineWriter(sys.stderr.buffer)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )


class LineWriter:
    """Writes lines of info and debug together, those of warnings and errors at once. Invariant: in order.

    One write per letter would cost as much as its transaction's protocol; what is lost when the machine stops
    in that tenth of a second is words, never letters.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lines: list[bytes] = []
        self._lock = threading.Lock()
        atexit.register(self.flush)

    def __call__(self, *_arguments: Any) -> LineWriter:
        """structlog asks for a logger; one serves all."""
        return self

    def info(self, line: bytes) -> None:
        with self._lock:
            self._lines.append(line)
            is_first = len(self._lines) == 1
        if is_first:
            try:
                asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
            except RuntimeError:  # a worker thread, or no loop at all
                self.flush()

    debug = info

    def warning(self, line: bytes) -> None:
        with self._lock:
            self._lines.append(line)
        self.flush()

    error = critical = exception = fatal = msg = warning

    def flush(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
            if lines:
                with contextlib.suppress(OSError, ValueError):  # a log that cannot be written must not stop mail
                    self._file.write(b"\n".join(lines) + b"\n")
                    self._file.flush()


def _json(event: Any, **_options: Any) -> bytes:
    # A line per letter: msgspec costs a tenth of the standard library's encoder.
    return msgspec.json.encode(event, enc_hook=repr)


def logger(part: str) -> Log:
    """The logger of one part of the house (`smtp`, `relay`, `store`, …)."""
    return structlog.get_logger(part=part)


def trace_id(octets: bytes) -> str:
    """A short id that follows a letter from connection to delivery; octets come from Entropy (8 of them)."""
    return octets.hex()


class Metrics:
    """What Prometheus reads. Names are `posthouse_…`; counters count since the start of the process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.letters = self._counter("letters_accepted", "Letters made durable, by where they came from", "origin")
        self.octets = self._counter("octets_accepted", "Octets of accepted letters, by where they came from", "origin")
        self.refusals = self._counter("refusals", "Replies of class 4 and 5, by enhanced status", "status")
        self.logins = self._counter("logins", "Login attempts, by result", "result")
        self.attempts = self._counter("delivery_attempts", "Recipients attempted at other servers", "result")
        self.reports = self._counter("reports", "DSNs written, by action", "action")
        self.sessions = self._counter("sessions", "Connections accepted, by protocol", "protocol")
        self.web_requests = self._counter("web_requests", "Requests to the web listeners, by what was answered", "kind")
        self.imap_commands = self._counter("imap_commands", "IMAP commands that were answered, by name", "command")
        self.verdicts = Counter(
            "posthouse_mail_auth",
            "Results of SPF, DKIM, DMARC, ARC and iprev on letters from other servers",
            ["method", "result"],
            registry=self.registry,
        )
        self.certificates = self._counter(
            "certificate_orders", "Certificates asked of an authority, by result", "result"
        )
        self.open_sessions = Gauge(
            "posthouse_open_sessions", "Connections open now, by protocol", ["protocol"], registry=self.registry
        )
        self.accept_seconds = Histogram(
            "posthouse_accept_seconds",
            "From the final dot to the reply",
            buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
            registry=self.registry,
        )

    def _counter(self, name: str, text: str, label: str) -> Counter:
        return Counter(f"posthouse_{name}", text, [label], registry=self.registry)

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A gauge that is read when Prometheus asks."""
        Gauge(f"posthouse_{name}", text, registry=self.registry).set_function(value)

    def page(self) -> bytes:
        return generate_latest(self.registry)
