# SPDX-License-Identifier: Apache-2.0
"""A tiny DNS server on loopback: UDP and TCP, from a table of records."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

SOA = "ns.example.test. admin.example.test. 1 3600 600 86400 {minimum}"


class DnsServer(asyncio.DatagramProtocol):
    """`records`: (name, type) -> TTL and texts; a name in `names` without records of a type has none of it."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self.rcodes: dict[tuple[str, str], dns.rcode.Rcode] = {}
        self.garbled: set[tuple[str, str]] = set()
        self.is_silent = False
        self.has_soa = True
        self.negative_ttl = 600
        self.truncates_udp = False
        self.is_authoritative = False
        self.signed: set[str] = set()  # names whose answers are said to be validated, when the question asks for it
        self.queries: list[tuple[str, str, str]] = []
        self.arrived = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, name: str, kind: str, *texts: str, ttl: int = 300) -> None:
        self.records[name, kind] = (ttl, list(texts))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a datagram transport in all but name

    def datagram_received(self, data: bytes, addr: object) -> None:
        task = asyncio.get_running_loop().create_task(self._answer_udp(data, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer_udp(self, data: bytes, addr: object) -> None:
        answer = await self._answer(data, "udp")
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)  # type: ignore[arg-type]  # what datagram_received was given

    async def serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        answer = await self._answer(await reader.readexactly(size), "tcp")
        if answer is not None:
            writer.write(len(answer).to_bytes(2, "big") + answer)
        writer.close()

    async def _answer(self, data: bytes, way: str) -> bytes | None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        key = (question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype))
        self.queries.append((*key, way))
        self.arrived.set()
        await self.may_answer.wait()
        if self.is_silent:
            return None
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.AA if self.is_authoritative else dns.flags.RA
        if key[0] in self.signed and query.flags & dns.flags.AD:
            reply.flags |= dns.flags.AD
        if way == "udp" and self.truncates_udp:
            reply.flags |= dns.flags.TC
            return reply.to_wire()
        if key in self.garbled:
            return reply.to_wire()[:20]
        self._fill(reply, *key)
        return reply.to_wire(max_size=65535)

    def _fill(self, reply: dns.message.Message, name: str, kind: str) -> None:
        if (name, kind) in self.rcodes:
            reply.set_rcode(self.rcodes[name, kind])
            return
        for _ in range(20):  # a loop of CNAMEs is answered as far as this
            if (name, "CNAME") not in self.records:
                break
            ttl, [target] = self.records[name, "CNAME"]
            reply.answer.append(dns.rrset.from_text(name + ".", ttl, "IN", "CNAME", target))
            name = target.removesuffix(".")
        if (name, kind) in self.records:
            ttl, texts = self.records[name, kind]
            reply.answer.append(dns.rrset.from_text(name + ".", ttl, "IN", kind, *texts))
            return
        if not any(known == name for known, _ in self.records):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        if self.has_soa:
            soa = SOA.format(minimum=self.negative_ttl)
            reply.authority.append(dns.rrset.from_text("test.", 3600, "IN", "SOA", soa))


@asynccontextmanager
async def serving() -> AsyncIterator[DnsServer]:
    loop = asyncio.get_running_loop()
    server = DnsServer()
    tcp = await asyncio.start_server(server.serve_tcp, "127.0.0.1", 0)
    server.port = tcp.sockets[0].getsockname()[1]
    udp, _ = await loop.create_datagram_endpoint(lambda: server, local_addr=("127.0.0.1", server.port))
    try:
        yield server
    finally:
        udp.close()
        tcp.close()
        await tcp.wait_closed()
        await asyncio.sleep(0)  # the transport tells its protocol
