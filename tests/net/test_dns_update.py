# SPDX-License-Identifier: Apache-2.0
"""Updates of a zone, and what its servers show, against a name server by script on loopback."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.update
import pytest

from posthouse.net.authoritative import AuthoritativeDns
from posthouse.net.dns_update import Rfc2136Editor, ZoneKey, read_secret
from posthouse.ports import Shown, ZoneChanged, ZoneFault, ZoneRecord
from tests.net.dns_server import serving

ZONE = "example.test"
SECRET = base64.b64encode(bytes(range(32))).decode()
KEY = ZoneKey("k.example.test", "hmac-sha256", SECRET)
MX = ZoneRecord(ZONE, "MX", "10 mail.example.test.")
TXT = ZoneRecord(f"x.{ZONE}", "TXT", 'a "quoted" \\ text; ' + "long " * 60)

Answer = Callable[[dns.message.Message], dns.message.Message]


class Primary:
    """Answers over TCP; `answer` makes the reply of a query or an update, which is kept."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[dns.message.Message] = []
        self.ring = KEY.ring
        self.port = 0
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        query = dns.message.from_wire(wire, keyring=self.ring)
        self.asked.append(query)
        octets = self._answer(query).to_wire(max_size=65535)
        writer.write(len(octets).to_bytes(2, "big") + octets)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def primary(answer: Answer) -> AsyncIterator[Primary]:
    made = Primary(answer)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await server.wait_closed()


def reply(
    query: dns.message.Message, *records: str, code: dns.rcode.Rcode = dns.rcode.NOERROR, authority: str = ""
) -> dns.message.Message:
    made = dns.message.make_response(query)
    made.set_rcode(code)
    made.flags |= dns.flags.AA
    made.answer = [dns.rrset.from_text(*text.split(" ", 3)[:1], 60, "IN", *text.split(" ", 2)[1:]) for text in records]
    if authority:
        made.authority = [dns.rrset.from_text(authority, 60, "IN", "SOA", "ns. root. 1 2 3 4 5")]
    return made


async def test_an_update_is_one_signed_message() -> None:
    async with primary(reply) as server:
        editor = Rfc2136Editor(f"127.0.0.1:{server.port}", KEY)
        await editor.change(ZONE, add=[MX, TXT], remove=[], seen={(ZONE, "MX"): [], (TXT.name, "TXT"): [TXT]})
    [update] = server.asked
    assert isinstance(update, dns.update.UpdateMessage)
    assert update.had_tsig
    assert update.zone[0].name == dns.name.from_text(ZONE)
    absent, present = update.prerequisite
    assert (absent.name.to_text(), absent.deleting, absent.rdtype) == ("example.test.", 254, dns.rdatatype.MX)
    assert present.name.to_text() == "x.example.test."
    mx, txt = update.update
    assert mx.to_text() == "example.test. 3600 IN MX 10 mail.example.test."
    assert b"".join(txt[0].strings).decode() == TXT.value
    assert max(map(len, txt[0].strings)) <= 255


async def test_removing_names_the_record() -> None:
    async with primary(reply) as server:
        await Rfc2136Editor(f"127.0.0.1:{server.port}", KEY).change(ZONE, add=[], remove=[MX])
    [update] = server.asked
    assert isinstance(update, dns.update.UpdateMessage)
    [gone] = update.update
    assert gone.deleting == 254, "one record, not all of the name (RFC 2136 §2.5.4)"


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (dns.rcode.REFUSED, ZoneFault, "refuses the update .REFUSED.: allow updates"),
        (dns.rcode.NOTAUTH, ZoneFault, "NOTAUTH.: it is not the primary"),
        (dns.rcode.SERVFAIL, ZoneFault, "SERVFAIL"),
        (dns.rcode.NXRRSET, ZoneChanged, "changed by somebody else"),
        (dns.rcode.YXRRSET, ZoneChanged, "try again"),
    ],
)
async def test_updates_that_are_refused(code: dns.rcode.Rcode, kind: type[ZoneFault], text: str) -> None:
    async with primary(lambda query: reply(query, code=code)) as server:
        with pytest.raises(ZoneFault, match=text) as caught:
            await Rfc2136Editor(f"127.0.0.1:{server.port}", KEY).change(ZONE, add=[MX], remove=[])
    assert type(caught.value) is kind


async def test_an_answer_without_a_signature_is_nobodys() -> None:
    def unsigned(query: dns.message.Message) -> dns.message.Message:
        made = reply(query)
        made.tsig = None
        made.keyring = None
        return made

    async with primary(unsigned) as server:
        with pytest.raises(ZoneFault, match="requires a TSIG"):
            await Rfc2136Editor(f"127.0.0.1:{server.port}", KEY).change(ZONE, add=[MX], remove=[])


async def test_an_answer_with_another_signature() -> None:
    def forged(query: dns.message.Message) -> dns.message.Message:
        made = reply(query)
        made.use_tsig(ZoneKey("k.example.test", "hmac-sha256", "AAAA").ring)
        return made

    async with primary(forged) as server:
        with pytest.raises(ZoneFault, match="no usable answer"):
            await Rfc2136Editor(f"127.0.0.1:{server.port}", KEY).change(ZONE, add=[MX], remove=[])


async def test_nobody_answers() -> None:
    async with primary(reply) as server:
        port = server.port
    with pytest.raises(ZoneFault, match="no usable answer"):
        await Rfc2136Editor(f"127.0.0.1:{port}", None).zone_of(ZONE)


async def test_a_record_that_cannot_be() -> None:
    with pytest.raises(ZoneFault, match="no such record can be"):
        await Rfc2136Editor("127.0.0.1:9", None).change(ZONE, add=[ZoneRecord(ZONE, "MX", "ten mail")], remove=[])


async def test_the_zone_of_a_name() -> None:
    async with primary(lambda query: reply(query, code=dns.rcode.NXDOMAIN, authority="example.test.")) as server:
        editor = Rfc2136Editor(f"127.0.0.1:{server.port}", None)
        assert await editor.zone_of("_25._tcp.mail.example.test") == ZONE
        with pytest.raises(ZoneFault, match="no zone for"):
            await editor.zone_of("mail.other.test")
    named = Rfc2136Editor("127.0.0.1:9", None, zones=["test", "Example.Test"])
    assert [await named.zone_of(name) for name in ("a.example.test", "b.test")] == [ZONE, "test"]
    with pytest.raises(ZoneFault, match=r"dns_update\.zones"):
        await named.zone_of("example.net")


async def test_records_at_the_primary() -> None:
    async with primary(lambda query: reply(query, "example.test. MX 10 Mail.Example.test.")) as server:
        editor = Rfc2136Editor(f"127.0.0.1:{server.port}", None)
        [found] = await editor.records(ZONE, "MX")
        assert (found.kind, found.value.lower(), found.ttl) == ("MX", "10 mail.example.test.", 60)


async def test_a_server_that_only_passes_on_is_no_primary() -> None:
    def recursive(query: dns.message.Message) -> dns.message.Message:
        made = reply(query)
        made.flags &= ~dns.flags.AA
        return made

    async with primary(recursive) as server:
        editor = Rfc2136Editor(f"127.0.0.1:{server.port}", None)
        with pytest.raises(ZoneFault, match="not the primary"):
            await editor.records(ZONE, "MX")


@pytest.mark.parametrize(("name", "secret"), [("k", "not base64!"), ("a..b", SECRET)])
def test_a_key_that_is_none(name: str, secret: str) -> None:
    with pytest.raises(ValueError, match="not a TSIG key"):
        ZoneKey(name, "hmac-sha256", secret)


def test_the_secret_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(f"# of the zone\n\n  {SECRET}  \nmore\n")
    assert read_secret(path) == SECRET
    path.write_text("# nothing\n")
    with pytest.raises(ValueError, match="no secret"):
        read_secret(path)


# --- what the world sees --------------------------------------------------------------------------

PROOF = f"_acme-challenge.{ZONE}"


async def test_what_a_server_shows() -> None:
    async with serving() as server:
        server.add(PROOF, "TXT", '"one" "two"', '"three"', ttl=60)
        public = AuthoritativeDns(servers=[f"127.0.0.1:{server.port}"])
        [shown] = await public.shown(PROOF, "TXT")
        assert shown == Shown(f"127.0.0.1:{server.port}", None), "no AA bit: a resolver's word"
        server.is_authoritative = True
        [shown] = await public.shown(PROOF, "TXT")
        assert shown.records == (ZoneRecord(PROOF, "TXT", "onetwo"), ZoneRecord(PROOF, "TXT", "three"))
        assert {record.ttl for record in shown.records} == {60}
        [shown] = await public.shown(f"other.{ZONE}", "TXT")
        assert shown.records == (), "NXDOMAIN is an answer"
        server.rcodes[PROOF, "TXT"] = dns.rcode.REFUSED
        [shown] = await public.shown(PROOF, "TXT")
        assert shown.records is None


async def test_truncated_answers_come_by_tcp() -> None:
    async with serving() as server:
        server.is_authoritative = server.truncates_udp = True
        server.add(PROOF, "TXT", *(f'"{number} {"x" * 200}"' for number in range(20)))
        [shown] = await AuthoritativeDns(servers=[f"127.0.0.1:{server.port}"]).shown(PROOF, "TXT")
        assert shown.records is not None
        assert len(shown.records) == 20


async def test_the_servers_of_a_zone_are_looked_up() -> None:
    """Their addresses are asked at port 53, where nobody listens on this one."""
    async with serving() as resolver:
        resolver.has_soa = False
        resolver.add(f"{ZONE}", "SOA", "ns1.example.test. admin.example.test. 1 2 3 4 5")
        resolver.add(f"{ZONE}", "NS", "ns1.example.test.", "ns2.example.test.")
        resolver.add("ns1.example.test", "A", "127.98.76.54")
        public = AuthoritativeDns([f"127.0.0.1:{resolver.port}"])
        assert await public.shown(PROOF, "TXT") == [Shown("ns1.example.test", None), Shown("ns2.example.test", None)]


async def test_a_name_without_servers() -> None:
    async with serving() as resolver:
        resolver.is_silent = True
        public = AuthoritativeDns([f"127.0.0.1:{resolver.port}"])
        resolver.rcodes[f"{PROOF}", "SOA"] = dns.rcode.SERVFAIL
        resolver.is_silent = False
        with pytest.raises(ZoneFault, match="name servers cannot be found"):
            await public.shown(PROOF, "TXT")


async def test_where_an_alias_leads() -> None:
    async with serving() as resolver:
        resolver.add(PROOF, "CNAME", "proof.Other.test.")
        resolver.add("proof.other.test", "A", "192.0.2.1")
        public = AuthoritativeDns([f"127.0.0.1:{resolver.port}"])
        assert await public.canonical(PROOF) == "proof.other.test"
        assert await public.canonical(f"plain.{ZONE}") == f"plain.{ZONE}"
