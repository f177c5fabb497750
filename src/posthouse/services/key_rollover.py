# SPDX-License-Identifier: Apache-2.0
"""A new key for a certificate whose key others have noted in DNS (TLSA, RFC 7672): first the note, then the key.

Invariant: a key is not served before every resolver that still holds an answer without it must have dropped that
(RFC 7671 §8.1). Where nobody has noted the present key there is nothing to wait for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from posthouse.ports import PublicDns, Shown, ZoneEditor, ZoneFault, ZoneRecord
from posthouse.telemetry import logger

SMTP_PORT = 25  # where other servers look (RFC 7672 §2.2.3)
# Seconds between looks at DNS while the record is not shown by all; nobody is in a hurry here.
LOOK = 900.0
# RFC 7671 §8.1 asks for the TTL of the records to have passed; twice, for the resolvers that are behind others.
TTLS = 2
MAX_TTL = 7 * 86400.0  # seconds; resolvers cut longer ones (RFC 8767 §4)

_log = logger("acme")


def tlsa_name(host: str) -> str:
    return f"_{SMTP_PORT}._tcp.{host}"


def tlsa_value(digest: str) -> str:
    """DANE-EE, the public key, SHA-256 (RFC 7672 §3.1.1 recommends it): survives renewals with the same key."""
    return f"3 1 1 {digest}"


@dataclass(frozen=True, slots=True)
class Sight:
    """What DNS shows of a host's TLSA records. `is_used`: there are some; `is_shown`: the one that was looked for is on
    every server; `ttl`: the longest of those that any server gives."""

    is_used: bool
    is_shown: bool
    ttl: float = 0.0
    text: str = ""


class KeyNotice:
    """TLSA records of one host: looked at, and written where the zone can be written to."""

    def __init__(self, public: PublicDns, editor: ZoneEditor | None) -> None:
        self._public = public
        self._editor = editor

    async def look(self, host: str, digest: str) -> Sight:
        name = tlsa_name(host)
        try:
            servers = await self._public.shown(name, "TLSA")
        except ZoneFault as fault:
            return Sight(is_used=True, is_shown=False, text=f"{name}: {fault}")
        silent = [each.server for each in servers if each.records is None]
        if silent:
            return Sight(is_used=True, is_shown=False, text=f"{name}: no answer from {', '.join(silent)}")
        found = [record for each in servers for record in each.records or ()]
        if not found:
            return Sight(is_used=False, is_shown=False)
        ttl = min(max(float(record.ttl) for record in found), MAX_TTL)
        lacking = _lacking(servers, tlsa_value(digest))
        text = f"{name}: {tlsa_value(digest)} is not shown by {', '.join(lacking)}" if lacking else ""
        return Sight(is_used=True, is_shown=not lacking, ttl=ttl, text=text)

    async def put(self, host: str, present: str, following: str) -> bool:
        """Add the next key's record beside the present one's, where that stands in a zone that we write to."""
        return await self._change(host, present, add=following)

    async def take_away(self, host: str, present: str, old: str) -> bool:
        """Remove the record of a key that is served no more, where the present one's stands."""
        return await self._change(host, present, remove=old)

    async def _change(self, host: str, present: str, *, add: str = "", remove: str = "") -> bool:
        if self._editor is None:
            return False
        name = tlsa_name(host)
        try:
            found = await self._editor.records(name, "TLSA")
            standing = [each for each in found if _is(each, tlsa_value(present))]
            if not standing:
                return False  # who has not noted the present key does not use DANE
            added = [ZoneRecord(name, "TLSA", tlsa_value(add), standing[0].ttl)] if add else []
            gone = [each for each in found if remove and _is(each, tlsa_value(remove))]
            if [each for each in added if not any(_is(one, each.value) for one in found)] or gone:
                await self._editor.change(await self._editor.zone_of(name), add=added, remove=gone)
        except ZoneFault as fault:
            _log.warning("TLSA record not changed", name=name, reason=str(fault))
            return False
        return True


def ready_at(shown_at: float, ttl: float) -> float:
    return shown_at + TTLS * ttl


def _lacking(servers: Iterable[Shown], value: str) -> list[str]:
    return [each.server for each in servers if not any(_is(record, value) for record in each.records or ())]


def _is(record: ZoneRecord, value: str) -> bool:
    """Hexadecimal in any case, and with blanks (RFC 6698 §2.2)."""
    words = record.value.lower().split()
    return [*words[:3], "".join(words[3:])] == value.split()
