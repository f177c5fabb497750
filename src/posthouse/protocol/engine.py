# SPDX-License-Identifier: Apache-2.0
"""What every engine looks like from outside, so that one driver (net/connection.py) runs them all.

Pull, not push: the driver feeds octets with `receive_data`, then asks `next_event` until it answers a Signal.
An event must be answered (with the engine's own `send`) before the next one is given: until then PAUSED.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Protocol, TypeVar

from posthouse.ports import TlsInfo


class Signal(Enum):
    NEED_DATA = auto()  # feed more octets
    PAUSED = auto()  # the last event waits for its answer
    START_TLS = auto()  # flush, start TLS as server, call `tls_started`; given once
    MORE = auto()  # flush, then ask again: an answer is too large to be made at once
    CLOSE = auto()  # flush and close; given from then on


class LocalProtocolError(Exception):
    """We said what the protocol does not allow now: a defect of the caller."""


class RemoteProtocolError(Exception):
    """The peer said what cannot be answered within the protocol; the connection ends. (Client engines.)"""


EventT_co = TypeVar("EventT_co", covariant=True)


class Engine(Protocol[EventT_co]):
    def receive_data(self, data: bytes) -> None:
        """Feed octets from the peer; b"" means that it closed its side."""

    def next_event(self) -> EventT_co | Signal: ...

    def data_to_send(self) -> list[bytes | memoryview]:
        """Octets for the peer gathered since the last call, in order; empty when there are none."""

    def wait_limit(self) -> float | None:
        """Seconds the driver may wait for the peer in this state (RFC 5321 §4.5.3.2); None for no limit."""

    def tls_started(self, tls: TlsInfo) -> None:
        """The handshake is done. Plaintext fed before it was discarded by the engine (CVE-2011-0411)."""

    def timed_out(self) -> None:
        """`wait_limit` has passed: queue the farewell; `next_event` then gives CLOSE."""

    def shut_down(self) -> None:
        """The server is stopping: say goodbye at the next safe point (now if idle), then CLOSE."""
