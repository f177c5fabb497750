# SPDX-License-Identifier: Apache-2.0
"""What the dispatcher and a worker know of each other: one lane per connection, one hop per destination.

Invariant: the dispatcher only asks (leave, give way); the worker decides when it is safe to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Hop:
    """What the lanes of one destination share while there are any."""

    name: str
    breaks: int = 0  # mail transactions in a row that ended their session with nothing delivered
    is_down: bool = False  # one of them found it so: the others finish


@dataclass(slots=True, eq=False)
class Lane:
    """One connection's worth of work for one destination, as the dispatcher sees it."""

    hop: Hop
    on_change: Callable[[], None]  # called when the dispatcher should look again
    is_telling: bool = False  # the destination rests: only senders whose time has come are told
    is_connected: bool = False
    is_idle: bool = False
    is_leaving: bool = False  # a drain: finish the present mail transaction and go
    gives_way: bool = False  # others wait for its place: finish what is claimed (at least one claim) and go
    has_claimed: bool = False
    claimed: dict[int, None] = field(default_factory=dict)  # recipients, in order
    host: str = ""  # of the present connection
    address: str = ""
    transactions: int = 0  # on the present connection
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def next_hop(self) -> str:
        return self.hop.name

    @property
    def is_at_work(self) -> bool:
        """It has reached the host and taken its share of what was due: only then is it known who needs another."""
        return self.is_connected and self.has_claimed

    def leave(self) -> None:
        self.is_leaving = True
        self.wake.set()

    def give_way(self) -> None:
        self.gives_way = True
        if self.is_idle:
            self.wake.set()
