# SPDX-License-Identifier: Apache-2.0
"""`posthouse dns DOMAIN --update`: what the domain needs, put into its zone (RFC 2136).

Invariant: only what we have put there, or would put there word for word, is ever removed; what others have put there
and contradicts it is told and left alone, unless the operator says otherwise. A zone changes as a whole or not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from posthouse.ports import Clock, Database, ZoneChanged, ZoneEditor, ZoneFault, ZoneRecord
from posthouse.services.dns_records import DnsRecord
from posthouse.store import zone_records
from posthouse.telemetry import logger

TRIES = 3  # when somebody else writes to the zone at the same time
# Kinds of which a name has one that counts: another value there says something else. Of the others (CAA, TLSA, NS)
# several stand side by side.
SINGLE = frozenset({"MX", "SRV", "CNAME", "A", "AAAA"})
ADDRESSES = ("A", "AAAA")
_log = logger("dns")


@dataclass(frozen=True, slots=True)
class Step:
    """`action`: there, add, remove, replace (somebody else's, as the operator asked), kept (ours is not put there:
    `note` says why), elsewhere (in a zone that we cannot write to), failed."""

    action: str
    name: str
    kind: str
    value: str
    note: str = ""


@dataclass(slots=True)
class _Change:
    """Of one zone."""

    add: list[ZoneRecord] = field(default_factory=list)
    remove: list[ZoneRecord] = field(default_factory=list)
    seen: dict[tuple[str, str], list[ZoneRecord]] = field(default_factory=dict)
    there: list[ZoneRecord] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)


class ZoneUpdate:
    def __init__(self, editor: ZoneEditor, database: Database, clock: Clock) -> None:
        self._editor = editor
        self._database = database
        self._clock = clock

    async def run(
        self,
        domain: str,
        records: Sequence[DnsRecord],
        *,
        is_dry: bool = False,
        replaces: bool = False,
        unsure: Collection[str] = (),
    ) -> list[Step]:
        """`is_dry`: only say what would be done. `replaces`: remove what others have put there and contradicts ours.
        `unsure`: names whose records hang on what DNS does not say now; whatever stands there stays."""
        wanted = wanted_in_zones(records)
        held = [each for each in wanted if each.name in unsure]
        wanted = [each for each in wanted if each not in held]
        ours = await self._database.read(lambda reader: zone_records.of_domain(reader, domain))
        ours = [each for each in ours if each.name not in unsure]
        names = dict.fromkeys([*(each.name for each in wanted), *(each.name for each in ours)])
        by_zone: dict[str, set[str]] = {}
        steps = [
            _step("kept", each, "DNS does not say who else sends for the domain; try again later") for each in held
        ]
        for name in names:
            try:
                by_zone.setdefault(await self._editor.zone_of(name), set()).add(name)
            except ZoneFault as fault:
                # The host's own name may well be in a zone that somebody else keeps.
                action = "failed" if name == domain or name.endswith(f".{domain}") else "elsewhere"
                steps += [_step(action, each, str(fault)) for each in wanted if each.name == name]
        for zone, members in by_zone.items():
            mine = [each for each in wanted if each.name in members]
            put = [each for each in ours if each.name in members]
            steps += await self._zone(domain, zone, mine, put, is_dry=is_dry, replaces=replaces)
        return steps

    async def _zone(
        self,
        domain: str,
        zone: str,
        wanted: Sequence[ZoneRecord],
        ours: Sequence[ZoneRecord],
        *,
        is_dry: bool,
        replaces: bool,
    ) -> list[Step]:
        tries = TRIES
        while True:
            tries -= 1
            try:
                change = await self._plan(wanted, ours, replaces=replaces)
                if is_dry:
                    return change.steps
                await self._do(domain, zone, change)
            except ZoneChanged as fault:
                if tries == 0:
                    return [_step("failed", each, str(fault)) for each in wanted]
            except ZoneFault as fault:
                return [_step("failed", each, str(fault)) for each in wanted]
            else:
                return change.steps

    async def _do(self, domain: str, zone: str, change: _Change) -> None:
        # Noted before it is there: after a crash in between a note too many says only what we would put there anyway.
        noted = [*change.add, *change.there]
        await self._database.write(partial(zone_records.note, domain=domain, records=noted, now=self._clock.wall()))
        if change.add or change.remove:
            try:
                await self._editor.change(zone, add=change.add, remove=change.remove, seen=change.seen)
            except ZoneFault:
                await self._database.write(partial(zone_records.forget, domain=domain, records=change.add))
                raise
            _log.info("zone changed", zone=zone, added=len(change.add), removed=len(change.remove))
        await self._database.write(partial(zone_records.forget, domain=domain, records=change.remove))

    async def _plan(self, wanted: Sequence[ZoneRecord], ours: Sequence[ZoneRecord], *, replaces: bool) -> _Change:
        change = _Change()
        for name, kind in dict.fromkeys((each.name, each.kind) for each in (*wanted, *ours)):
            found = await self._editor.records(name, kind)
            if kind == "CNAME" and not found:
                # RFC 2136 §3.4.2.2: a server passes over a CNAME beside other records without a word.
                found = [each for other in ADDRESSES for each in await self._editor.records(name, other)]
            change.seen[name, kind] = [each for each in found if each.kind == kind]
            here = [each for each in wanted if (each.name, each.kind) == (name, kind)]
            put = [each for each in ours if (each.name, each.kind) == (name, kind)]
            _compare(change, here, put, found, replaces=replaces)
        _hold_back(change)
        return change


def _compare(
    change: _Change,
    wanted: Sequence[ZoneRecord],
    ours: Sequence[ZoneRecord],
    found: Sequence[ZoneRecord],
    *,
    replaces: bool,
) -> None:
    old = [each for each in found if _among(each, ours) and not _among(each, wanted)]
    strange = [each for each in found if not _among(each, ours) and not _among(each, wanted)]
    change.remove += old
    change.steps += [_step("remove", each) for each in old]
    # Ours that somebody has removed and nobody wants any more is to be forgotten; removing it once more is no fault.
    change.remove += [each for each in ours if not _among(each, found) and not _among(each, wanted)]
    for record in wanted:
        if _among(record, found):
            change.there.append(record)
            change.steps.append(_step("there", record))
            continue
        against = [each for each in strange if _contradicts(each, record)]
        if against and not replaces:
            change.steps.append(_step("kept", record, f"there is {against[0].kind} {against[0].value}; --replace"))
            continue
        for each in against:
            if each not in change.remove:
                change.remove.append(each)
                change.steps.append(_step("replace", each))
        change.add.append(record)
        change.steps.append(_step("add", record))


def _hold_back(change: _Change) -> None:
    """Our MTA-STS policy names our hosts: where mail goes to others' it would keep it from arriving (RFC 8461 §5)."""
    held = {f"_mta-sts.{each.name}" for each in change.steps if (each.action, each.kind) == ("kept", "MX")}
    for record in [each for each in change.add if each.name in held]:
        change.add.remove(record)
        change.steps.remove(_step("add", record))
        change.steps.append(_step("kept", record, "mail for the domain goes elsewhere: its MX first"))


def wanted_in_zones(records: Iterable[DnsRecord]) -> list[ZoneRecord]:
    """Those that belong into zones of ours, as the port has them."""
    found = []
    for record in records:
        line = record.zone_line()
        if line.startswith(";"):  # one for somebody else's zone
            continue
        name, ttl, _, kind, value = line.split(" ", 4)
        value = record.value if kind == "TXT" else value
        found.append(ZoneRecord(name.removesuffix(".").lower(), kind, value, int(ttl)))
    return found


def _contradicts(strange: ZoneRecord, wanted: ZoneRecord) -> bool:
    if strange.kind != wanted.kind:
        return True  # a CNAME where we want something else, or the other way round
    if wanted.kind == "TXT":
        return _tag(strange.value) == _tag(wanted.value)
    return wanted.kind in SINGLE


def _tag(value: str) -> str:
    """What says which kind of policy a TXT record is: `v=spf1`, `v=dkim1`."""
    words = value.partition(";")[0].split()
    return words[0].lower() if words else ""


def _among(record: ZoneRecord, others: Iterable[ZoneRecord]) -> bool:
    return any(_plain(record) == _plain(each) for each in others)


def _plain(record: ZoneRecord) -> tuple[str, str, str]:
    """Without what servers write in other ways: the case of names and of hexadecimal, blanks within it."""
    value = record.value
    if record.kind == "TLSA":
        words = value.lower().split()
        value = " ".join([*words[:3], "".join(words[3:])])
    elif record.kind != "TXT":
        value = " ".join(value.lower().split())
    return record.name.lower(), record.kind, value


def _step(action: str, record: ZoneRecord, note: str = "") -> Step:
    return Step(action, record.name, record.kind, record.value, note)
