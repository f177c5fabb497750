# SPDX-License-Identifier: Apache-2.0
"""HTTPS to other people's servers: the WebClient port on httpx2.

Invariant: names are looked up by our own resolver, the certificate must be good for the name that was asked for, and
an answer that is too large is cut off, not read. Where strangers chose the address, no connection leads to this
machine or into a private network: what such a server does when somebody asks, strangers must not decide.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx2

from posthouse import __version__
from posthouse.ports import IPAddress, NameNotFound, Resolver, ResolverFault, WebFault, WebReply

# What openssl/x509_vfy.h numbers "has expired", "host name mismatch" and the same of an address, in the words of
# RFC 8460 §4.3.
_RESULTS = {10: "certificate-expired", 62: "certificate-host-mismatch", 64: "certificate-host-mismatch"}
MAX_ADDRESSES = 4  # of one host
# For the connection and for its TLS, each, where another address is left: who makes one of a domain's addresses silent
# must not keep its policy from us. Three take less than the 20 seconds that a policy gets, honest ones one or two.
CONNECT_SECONDS = 2.5
USER_AGENT = f"posthouse/{__version__}"  # RFC 8555 §6.1 demands one
# What libraries raise for names and paths that no request can have: strangers write such, too.
_UNSPEAKABLE = (httpx2.InvalidURL, ValueError, TypeError)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052 §2.1: an IPv4 address in the last 32 bits


class HttpsClient:
    def __init__(self, resolver: Resolver, *, ca_file: str | None = None, only_public: bool = False) -> None:
        """`ca_file`: certificates to trust instead of the system's. `only_public`: for addresses that strangers choose:
        names alone, and none that leads to a loopback address or into a private network."""
        self._resolver = resolver
        self._ca_file = ca_file
        self._only_public = only_public
        self._made: ssl.SSLContext | None = None

    async def get(self, url: str, *, limit: int, seconds: float) -> WebReply:
        """Raises WebFault."""
        return await self._ask("GET", url, b"", {}, limit=limit, seconds=seconds)

    async def post(self, url: str, body: bytes, *, headers: Mapping[str, str], limit: int, seconds: float) -> WebReply:
        """Raises WebFault."""
        return await self._ask("POST", url, body, headers, limit=limit, seconds=seconds)

    async def _ask(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], *, limit: int, seconds: float
    ) -> WebReply:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or 443
        except ValueError as error:
            raise WebFault(f"{url}: {error}") from None
        if parts.scheme != "https" or not host or parts.username is not None:
            raise WebFault(f"{url}: not an https address")
        try:
            async with asyncio.timeout(seconds):
                return await self._try_addresses(method, host, port, parts.path, parts.query, body, headers, limit)
        except TimeoutError:
            raise WebFault(f"{host}: no answer within {seconds:.0f} seconds") from None

    async def _try_addresses(
        self,
        method: str,
        host: str,
        port: int,
        path: str,
        query: str,
        body: bytes,
        headers: Mapping[str, str],
        limit: int,
    ) -> WebReply:
        addresses = (await self._addresses(host))[:MAX_ADDRESSES]
        fault = WebFault(f"{host} has no {'public ' if self._only_public else ''}address")
        name = f"[{host}]" if ":" in host else host
        async with httpx2.AsyncClient(verify=self._context(), trust_env=False, timeout=None) as client:
            for left, address in zip(range(len(addresses) - 1, -1, -1), addresses, strict=True):
                named = name if port == 443 else f"{name}:{port}"
                literal = f"[{address}]" if address.version == 6 else str(address)
                try:
                    request = client.build_request(
                        method,
                        f"https://{literal}:{port}{path or '/'}{'?' + query if query else ''}",
                        content=body or None,
                        headers={"Host": named, "User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers},
                        timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS if left else None),
                        extensions={"sni_hostname": host},
                    )
                    return await _reply(client, request, host, limit)
                except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                    fault = _connect_fault(host, error)
                except (httpx2.HTTPError, *_UNSPEAKABLE) as error:
                    raise WebFault(f"{host}: {str(error) or type(error).__name__}") from None
        raise fault

    def _context(self) -> ssl.SSLContext:
        if self._made is None:  # reading the system's certificates takes 20 ms, and few need them
            self._made = ssl.create_default_context(cafile=self._ca_file)
            self._made.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 9325 §3.1.1
        return self._made

    async def _addresses(self, host: str) -> list[IPAddress]:
        literal = _literal(host)
        if literal is not None:
            return [] if self._only_public else [literal]
        try:
            found = await self._resolver.addresses(host)
        except NameNotFound:
            return []
        except ResolverFault as fault:
            raise WebFault(f"{host}: {fault}") from None
        return [each for each in found if is_public(each)] if self._only_public else found


def is_public(address: IPAddress) -> bool:
    """Whether it is somewhere in the Internet, whatever form an IPv4 address has."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(address.packed[-4:])
        if inner is not None:
            return is_public(inner)
        if address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def _literal(host: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


async def _reply(client: httpx2.AsyncClient, request: httpx2.Request, host: str, limit: int) -> WebReply:
    response = await client.send(request, stream=True, follow_redirects=False)
    try:
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > limit:
                raise WebFault(f"{host}: the answer has more than {limit} octets")
        return WebReply(
            response.status_code, {name.lower(): value for name, value in response.headers.items()}, bytes(body)
        )
    finally:
        await response.aclose()


def _connect_fault(host: str, error: BaseException) -> WebFault:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            result = _RESULTS.get(cause.verify_code, "certificate-not-trusted")
            return WebFault(f"{host}: the certificate is not good: {cause.verify_message}", result=result)
        cause = cause.__cause__ or cause.__context__
    return WebFault(f"{host}: no connection: {str(error) or type(error).__name__}")
