# SPDX-License-Identifier: Apache-2.0
"""The Resolver port from a table, for tests of whatever asks DNS."""

from __future__ import annotations

from typing import Any

from posthouse.ports import IPAddress, MxRecord, NameNotFound, ResolverFault


class StaticResolver:
    """`zone`: name -> {"MX" | "ADDRESS" | "TXT" | "PTR": records}; `ill` names give ResolverFault."""

    def __init__(self, zone: dict[str, dict[str, list[Any]]] | None = None) -> None:
        self.zone = zone or {}
        self.ill: set[str] = set()
        self.asked: list[tuple[str, str]] = []

    async def mx(self, domain: str) -> list[MxRecord]:
        return sorted(self._look(domain, "MX"), key=lambda mx: (mx.preference, mx.host))

    async def addresses(self, host: str, version: int = 0) -> list[IPAddress]:
        found = [address for address in self._look(host, "ADDRESS") if version in (0, address.version)]
        return sorted(found, key=lambda address: (-address.version, int(address)))

    async def txt(self, name: str) -> list[bytes]:
        return sorted(self._look(name, "TXT"))

    async def names(self, address: IPAddress) -> list[str]:
        return sorted(self._look(address.reverse_pointer, "PTR"))

    async def records(self, name: str, kind: str) -> list[str]:
        return sorted(self._look(name, kind))

    def _look(self, name: str, kind: str) -> list[Any]:
        name = name.lower().removesuffix(".")
        self.asked.append((name, kind))
        if name in self.ill:
            raise ResolverFault(f"{name} {kind}: ill")
        if name not in self.zone:
            raise NameNotFound(name)
        return self.zone[name].get(kind, [])
