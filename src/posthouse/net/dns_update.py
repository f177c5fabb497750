# SPDX-License-Identifier: Apache-2.0
"""The ZoneEditor port: dynamic updates (RFC 2136) to a zone's primary server, signed with TSIG (RFC 8945).

Invariant: an update is one message, with everything that it takes for granted as its prerequisites; it counts as done
only when the server's own signed answer says so.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.tsig
import dns.tsigkeyring
import dns.update

from posthouse.net.authoritative import TXT_STRING, records_in
from posthouse.net.resolver import nameserver, reason_of
from posthouse.ports import ZoneChanged, ZoneFault, ZoneRecord

SECONDS = 20.0  # for one request, over TCP: a primary writes to its disk before it answers
MAX_KEY_FILE = 64 * 1024  # octets
# RFC 2136 §2.2: what a server says when a prerequisite is not met.
_CHANGED = frozenset({dns.rcode.YXDOMAIN, dns.rcode.YXRRSET, dns.rcode.NXRRSET, dns.rcode.NXDOMAIN})


class ZoneKey:
    """A TSIG key: its name, its algorithm and the shared secret."""

    def __init__(self, name: str, algorithm: str, secret: str) -> None:
        """`secret` in base64. Raises ValueError."""
        try:
            self.name = dns.name.from_text(name)
            self.ring = dns.tsigkeyring.from_text({name: (algorithm, secret)})
        except (dns.exception.DNSException, binascii.Error, UnicodeError) as error:
            raise ValueError(f"not a TSIG key: {error}") from None


def read_secret(path: Path) -> str:
    """The first line that is neither empty nor a comment. Raises OSError, ValueError."""
    with path.open("rb") as file:
        text = file.read(MAX_KEY_FILE).decode("utf-8")
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            return line.strip()
    raise ValueError(f"{path}: holds no secret")


class Rfc2136Editor:
    def __init__(self, server: str, key: ZoneKey | None, *, zones: Sequence[str] = ()) -> None:
        """`server`: "address" or "address:port". `zones`: those that may be written to; none: the server is asked which
        zone a name belongs to. Raises ValueError."""
        place = nameserver(server)
        self._address, self._port = place.address, place.port
        self._key = key
        self._zones = sorted((zone.lower() for zone in zones), key=len, reverse=True)

    async def zone_of(self, name: str) -> str:
        """Raises ZoneFault."""
        if self._zones:
            for zone in self._zones:
                if name == zone or name.endswith(f".{zone}"):
                    return zone
            raise ZoneFault(f"{name} is in none of the zones of dns_update.zones")
        reply = await self._ask(dns.message.make_query(f"{name}.", "SOA"))
        for rrset in (*reply.answer, *reply.authority):
            is_above = dns.name.from_text(f"{name}.").is_subdomain(rrset.name)
            if rrset.rdtype == dns.rdatatype.SOA and is_above and reply.flags & dns.flags.AA:
                return rrset.name.to_text(omit_final_dot=True).lower()
        raise ZoneFault(f"{self._address} has no zone for {name}: it is not the primary server of it")

    async def records(self, name: str, kind: str) -> list[ZoneRecord]:
        """Raises ZoneFault."""
        reply = await self._ask(dns.message.make_query(f"{name}.", kind))
        if reply.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            raise ZoneFault(f"{name} {kind}: {self._address} says {dns.rcode.to_text(reply.rcode())}")
        if not reply.flags & dns.flags.AA:
            raise ZoneFault(f"{name} {kind}: {self._address} is not the primary server of it")
        return records_in(reply, name, kind)

    async def change(
        self,
        zone: str,
        *,
        add: Sequence[ZoneRecord],
        remove: Sequence[ZoneRecord],
        seen: Mapping[tuple[str, str], Sequence[ZoneRecord]] | None = None,
    ) -> None:
        """Raises ZoneFault."""
        ring, name = (self._key.ring, self._key.name) if self._key else (None, None)
        update = dns.update.UpdateMessage(f"{zone}.", keyring=ring, keyname=name)
        for (owner, kind), records in (seen or {}).items():
            _demand(update, owner, kind, records)
        # RFC 2136 §3.4.2: done in this order. What is removed and added again keeps its place with the new TTL.
        for record in remove:
            update.delete(f"{record.name}.", _rdata(record))
        for record in add:
            update.add(f"{record.name}.", record.ttl, _rdata(record))
        reply = await self._ask(update)
        code = reply.rcode()
        if code in _CHANGED:
            raise ZoneChanged(f"{zone}: changed by somebody else meanwhile ({dns.rcode.to_text(code)}); try again")
        if code != dns.rcode.NOERROR:
            raise ZoneFault(f"{zone}: {self._address} refuses the update ({dns.rcode.to_text(code)}){_hint(code)}")

    async def _ask(self, message: dns.message.Message) -> dns.message.Message:
        try:
            # TCP: an update may be long, and nobody can answer in the server's place without being on the way. To a
            # signed request an answer without a good signature is a fault (RFC 8945 §5.3); dnspython sees to that.
            return await dns.asyncquery.tcp(message, self._address, SECONDS, self._port)
        except dns.tsig.PeerError as error:  # BADKEY, BADSIG, BADTIME: RFC 8945 §5.3.2
            text = f"{self._address} does not take the TSIG key ({type(error).__name__.removeprefix('Peer')})"
            raise ZoneFault(f"{text}: compare dns_update.key_name, its algorithm, its secret and the clocks") from None
        except (dns.exception.DNSException, OSError, EOFError) as error:
            raise ZoneFault(f"{self._address}: no usable answer ({reason_of(error)})") from None


def _demand(update: dns.update.UpdateMessage, owner: str, kind: str, records: Iterable[ZoneRecord]) -> None:
    """RFC 2136 §2.4: the records are exactly these."""
    found = [record for record in records if record.kind == kind]
    if not found:
        update.absent(f"{owner}.", kind)  # §2.4.3
        return
    wanted = dns.rdataset.from_rdata_list(0, [_rdata(record) for record in found])
    update.present(f"{owner}.", wanted)  # §2.4.2


def _rdata(record: ZoneRecord) -> dns.rdata.Rdata:
    value = record.value
    if record.kind == "TXT":
        octets = value.encode("utf-8", "surrogateescape")
        strings = [octets[at : at + TXT_STRING] for at in range(0, len(octets), TXT_STRING)] or [b""]
        value = " ".join('"' + "".join(_quoted(each) for each in string) + '"' for string in strings)
    try:
        return dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(record.kind), value)
    except dns.exception.DNSException as error:
        raise ZoneFault(f"{record.name} {record.kind} {record.value}: no such record can be ({error})") from None


def _quoted(octet: int) -> str:
    """RFC 1035 §5.1."""
    return f"\\{octet:03d}" if octet in b'"\\' or not 0x20 <= octet < 0x7F else chr(octet)


def _hint(code: dns.rcode.Rcode) -> str:
    match code:
        case dns.rcode.REFUSED:
            return ": allow updates of these names for the key"
        case dns.rcode.NOTAUTH:
            return ": it is not the primary server of the zone, or does not know the key"
        case _:
            return ""
