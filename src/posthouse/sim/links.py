# SPDX-License-Identifier: Apache-2.0
"""The links between the hosts of the world, and what can be wrong with them: cut, parted, silent, slow, late.

Invariant: packets of one host to another come in the order in which they left, whatever changes meanwhile. A
packet that meets a cut link waits for it to be mended (TCP sends it again); one of a silent host is gone for
good, and whoever sent it is told by `vanished`, as by the acknowledgement that does not come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import Context
from random import Random

from posthouse.sim.loop import Handle, WorldLoop

# Seconds from host to host, one way: from the same city to the other side of the earth.
LATENCY = (0.002, 0.150)
# Octets of an IP packet with its headers for SYN, FIN, RST and the like: what they cost a slow line.
BARE_PACKET = 60
# A slow line carries a long write in pieces of about a second each, so that the other side sees it come; not
# smaller than one full packet of Ethernet, not larger than a window of an old TCP.
SEGMENT_SECONDS = 1.0
SMALLEST_SEGMENT, LARGEST_SEGMENT = 1460, 64 * 1024

# Where the work of the network itself is done: it belongs to no program, and outlives them all.
_OF_NOBODY = Context()

Pair = tuple[str, str]


class Packet:
    """`arrive` is called in `context` when it has come there, `vanished` if it never will. `is_urgent`: it does not
    wait for what its sender has not sent yet, as a reset."""

    __slots__ = ("arrive", "context", "here", "is_urgent", "number", "size", "there", "vanished")

    def __init__(
        self,
        here: str,
        there: str,
        arrive: Callable[[], None],
        context: Context,
        *,
        size: int = BARE_PACKET,
        vanished: Callable[[], None] | None = None,
        is_urgent: bool = False,
    ) -> None:
        self.number = 0
        self.here = here
        self.there = there
        self.arrive = arrive
        self.context = context
        self.size = size
        self.vanished = vanished
        self.is_urgent = is_urgent


class Links:
    """All of them; who is where is for `Network` to know."""

    def __init__(self, loop: WorldLoop, seed: str) -> None:
        self._loop = loop
        self._seed = seed
        self._latencies: dict[Pair, float] = {}
        self._count = 0
        self._cut: dict[Pair, None] = {}  # both directions
        self._partitions: list[tuple[frozenset[str], frozenset[str] | None]] = []
        self._silent: dict[str, float] = {}  # since when
        self._waiting: list[Packet] = []  # for links that do not pass
        self._has_gaps = False  # any of the three
        self._rates: dict[str, float] = {}
        self._delays: dict[str, float] = {}
        self._free_at: dict[Pair, float] = {}  # (host, direction) of slow lines: when they have sent what waits
        self._last: dict[Pair, float] = {}  # arrival of the last packet from one to the other
        self._is_shaped = False  # was anything slow or late, ever: then order needs care

    # --- cut, parted, silent ----------------------------------------------------------------------

    def cut(self, here: str, there: str) -> None:
        self._cut[here, there] = self._cut[there, here] = None
        self._has_gaps = True

    def mend(self, here: str, there: str) -> None:
        for pair in ((here, there), (there, here)):
            self._cut.pop(pair, None)
        self._release()

    def partition(self, one: Iterable[str], other: Iterable[str] | None) -> None:
        self._partitions.append((frozenset(one), None if other is None else frozenset(other)))
        self._has_gaps = True

    def heal(self) -> None:
        self._partitions.clear()
        self._release()

    def silence(self, host: str) -> None:
        self._silent.setdefault(host, self._loop.time())
        self._has_gaps = True
        self._release()  # what waits for or from that host vanishes

    def unsilence(self, host: str) -> float:
        """How long it was silent, seconds; 0 when it was not."""
        now = self._loop.time()
        since = self._silent.pop(host, now)
        self._release()
        return now - since

    def is_silent(self, *hosts: str) -> bool:
        return any(host in self._silent for host in hosts)

    def passes(self, here: str, there: str) -> bool:
        """Whether a packet that leaves now would arrive."""
        return not self._has_gaps or not (self.is_silent(here, there) or self._is_blocked(here, there))

    def _is_blocked(self, here: str, there: str) -> bool:
        return (here, there) in self._cut or any(
            _parts(one, other, here, there) or _parts(one, other, there, here) for one, other in self._partitions
        )

    def _release(self) -> None:
        """Something changed: what waits and may go now goes, in its order."""
        self._has_gaps = bool(self._cut or self._partitions or self._silent)
        # What was on its way when a link was cut came to wait after what was sent then; it goes first.
        waiting, self._waiting = sorted(self._waiting, key=lambda packet: packet.number), []
        for packet in waiting:
            if not self._stops(packet):
                self._send(packet)

    # --- slow and late ----------------------------------------------------------------------------

    def slow(self, host: str, octets_per_second: float | None) -> None:
        if octets_per_second is None:
            self._rates.pop(host, None)
        else:
            self._rates[host] = octets_per_second
            self._is_shaped = True

    def delay(self, host: str, seconds: float) -> None:
        if seconds:
            self._delays[host] = seconds
            self._is_shaped = True
        else:
            self._delays.pop(host, None)

    def segment(self, here: str, there: str) -> int | None:
        """Octets that one packet carries at most; None where no line is slow."""
        if not self._rates:
            return None
        rates = [rate for rate in (self._rates.get(here), self._rates.get(there)) if rate is not None]
        if not rates:
            return None
        return int(min(max(min(rates) * SEGMENT_SECONDS, SMALLEST_SEGMENT), LARGEST_SEGMENT))

    # --- carrying ---------------------------------------------------------------------------------

    def latency(self, here: str, there: str) -> float:
        known = self._latencies.get((here, there))
        if known is None:
            pair = (here, there) if here <= there else (there, here)
            chance = Random(f"{self._seed}/{pair}")  # noqa: S311 - reproducible on purpose
            known = chance.uniform(*LATENCY)
            self._latencies[here, there] = self._latencies[there, here] = known
        return known

    def carry(self, packet: Packet) -> None:
        self._count += 1
        packet.number = self._count
        if not self._has_gaps or not self._stops(packet):
            self._send(packet)

    def _send(self, packet: Packet) -> None:
        at = self._loop.time() + self.latency(packet.here, packet.there)
        if self._is_shaped:
            at = self._late(packet, at)
        self._loop.call_at(at, self._land, packet, context=_OF_NOBODY)

    def later(self, seconds: float, call: Callable[[], None], context: Context) -> Handle:
        """What the system of a host does then, and not a program on it."""
        return self._loop.call_later(seconds, context.run, call, context=_OF_NOBODY)

    def _late(self, packet: Packet, at: float) -> float:
        """When it arrives, over lines that are slow or long."""
        here, there = packet.here, packet.there
        if packet.is_urgent:
            return at + self._delays.get(here, 0.0) + self._delays.get(there, 0.0)
        # The slower line of the two holds it up; each line sends one packet after the other.
        for line in ((here, "out"), (there, "in")):
            rate = self._rates.get(line[0])
            if rate is not None:
                began = max(self._loop.time(), self._free_at.get(line, 0.0))
                self._free_at[line] = began + packet.size / rate
                at = max(at, self._free_at[line] + self.latency(here, there))
        at += self._delays.get(here, 0.0) + self._delays.get(there, 0.0)
        at = max(at, self._last.get((here, there), 0.0))
        self._last[here, there] = at
        return at

    def _land(self, packet: Packet) -> None:
        if not self._has_gaps or not self._stops(packet):
            packet.context.run(packet.arrive)

    def _stops(self, packet: Packet) -> bool:
        """Whether it goes no further: it has vanished, or waits."""
        if packet.here in self._silent or packet.there in self._silent:
            if packet.vanished is not None:
                packet.vanished()
            return True
        if self._is_blocked(packet.here, packet.there):
            self._waiting.append(packet)
            return True
        return False


def _parts(one: frozenset[str], other: frozenset[str] | None, here: str, there: str) -> bool:
    return here in one and (there not in one if other is None else there in other)
