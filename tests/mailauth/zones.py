# SPDX-License-Identifier: Apache-2.0
"""DNS zones of test vectors as a Resolver, with every question counted."""

from __future__ import annotations

import ipaddress
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from posthouse.ports import IPAddress, MxRecord, NameNotFound, ResolverFault

T = TypeVar("T")
Records = Sequence[Mapping[str, Any] | str]


class Zone:
    """`names` maps a name to its records, each `{type: value}`; a bare "TIMEOUT" among them means that a question
    for a type that has no record before it gets no answer. Types: A, AAAA, TXT, MX, PTR, CNAME."""

    def __init__(self, names: Mapping[str, Records]) -> None:
        self._names = {name.lower().rstrip("."): records for name, records in names.items()}
        self.asked: list[tuple[str, str]] = []

    def _look(self, name: str, kind: str) -> list[Any]:
        self.asked.append((name, kind))
        for _ in range(8):
            records = self._names.get(name.lower().rstrip("."))
            if records is None:
                raise NameNotFound(name)
            found: list[Any] = []
            alias = None
            for record in records:
                if isinstance(record, str):
                    if not found:
                        raise ResolverFault(f"{name} {kind}: no answer in time")
                else:
                    found += [value for type_, value in record.items() if type_ == kind]
                    alias = record.get("CNAME", alias)
            if found or alias is None:
                return found
            name = alias
        raise ResolverFault(f"{name} {kind}: a circle")

    async def mx(self, domain: str) -> list[MxRecord]:
        return sorted(
            (MxRecord(preference, host.lower().rstrip(".")) for preference, host in self._look(domain, "MX")),
            key=lambda mx: (mx.preference, mx.host),
        )

    async def addresses(self, host: str, version: int = 0) -> list[IPAddress]:
        kinds = {0: ("AAAA", "A"), 4: ("A",), 6: ("AAAA",)}[version]
        return [ipaddress.ip_address(text) for kind in kinds for text in self._look(host, kind)]

    async def txt(self, name: str) -> list[bytes]:
        return [text if isinstance(text, bytes) else text.encode() for text in self._look(name, "TXT")]

    async def names(self, address: IPAddress) -> list[str]:
        return [name.rstrip(".") for name in self._look(address.reverse_pointer, "PTR")]

    async def records(self, name: str, kind: str) -> list[str]:
        return [str(value) for value in self._look(name, kind)]


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run what never really waits, without a loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("it waits")
