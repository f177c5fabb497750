# SPDX-License-Identifier: Apache-2.0
"""A zone in memory: the ZoneEditor and PublicDns ports."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from posthouse.ports import Shown, ZoneChanged, ZoneFault, ZoneRecord


class FakeZone:
    """`lag`: seconds until the second name server shows a change."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.held: list[ZoneRecord] = []
        self.lag = 0.0
        self.silent: set[str] = set()  # name servers
        self.fault = ""  # of every change
        self.interloper: list[ZoneRecord] = []  # put there by somebody else just before the next change
        self.changes: list[tuple[list[ZoneRecord], list[ZoneRecord]]] = []
        self._late: list[ZoneRecord] = []
        self._late_until = 0.0

    def values(self, name: str, kind: str) -> list[str]:
        return sorted(each.value for each in self.held if (each.name, each.kind) == (name, kind))

    def put(self, name: str, kind: str, value: str, ttl: int = 3600) -> None:
        self.held.append(ZoneRecord(name, kind, value, ttl))

    async def zone_of(self, name: str) -> str:
        if name != self.name and not name.endswith(f".{self.name}"):
            raise ZoneFault(f"no zone for {name}")
        return self.name

    async def records(self, name: str, kind: str) -> list[ZoneRecord]:
        return [each for each in self.held if each.name == name and each.kind in (kind, "CNAME")]

    async def change(
        self,
        zone: str,
        *,
        add: Sequence[ZoneRecord],
        remove: Sequence[ZoneRecord],
        seen: Mapping[tuple[str, str], Sequence[ZoneRecord]] | None = None,
    ) -> None:
        assert zone == self.name
        if self.fault:
            raise ZoneFault(self.fault)
        self.held += self.interloper
        self.interloper = []
        for (name, kind), expected in (seen or {}).items():
            now = [each for each in self.held if (each.name, each.kind) == (name, kind)]
            if sorted(now, key=repr) != sorted(expected, key=repr):
                raise ZoneChanged("somebody else was here")
        self._late, self._late_until = list(self.held), asyncio.get_running_loop().time() + self.lag
        self.changes.append((list(add), list(remove)))
        self.held = [each for each in self.held if each not in remove]
        self.held += [each for each in add if each not in self.held]

    async def shown(self, name: str, kind: str) -> list[Shown]:
        is_late = asyncio.get_running_loop().time() < self._late_until
        found = []
        for server, held in (("ns1", self.held), ("ns2", self._late if is_late else self.held)):
            records = tuple(each for each in held if (each.name, each.kind) == (name, kind))
            found.append(Shown(server, None if server in self.silent else records))
        return found

    async def canonical(self, name: str) -> str:
        aliases = {each.name: each.value.removesuffix(".") for each in self.held if each.kind == "CNAME"}
        return aliases.get(name, name)
