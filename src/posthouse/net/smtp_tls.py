# SPDX-License-Identifier: Apache-2.0
"""TLS for connections that we open to other mail servers.

Invariant: `is_verified` in a TlsInfo is true only when chain and name were checked, or the TLSA records of the host
vouch for it; TLS 1.2 is the floor (RFC 9325 §3.1.1), a host below it is reached without TLS or not at all.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from typing import Any, Protocol

from posthouse.mailauth.dane import DaneFault, authenticate
from posthouse.net.clock import SystemClock
from posthouse.net.session import TlsRefused
from posthouse.ports import Clock, DaneDemand, TlsInfo

# Seconds for a whole handshake; honest ones on a bad line take under 10.
HANDSHAKE_SECONDS = 30.0
# Seconds for the host's close_notify. Many never send it, and nothing depends on it after QUIT.
SHUTDOWN_SECONDS = 2.0
# Octets waiting in a transport before it asks to pause: a TLS transport copies, so this is memory.
WRITE_HIGH_WATER = 64 * 1024
# What openssl/x509_vfy.h numbers, in the words of RFC 8460 §4.3.1: has expired, other host name, other address.
_RESULTS = {10: "certificate-expired", 62: "certificate-host-mismatch", 64: "certificate-host-mismatch"}
_DER = 2  # ENCODING_DER of CPython's _ssl


class TlsStarter(Protocol):
    """Starts TLS as client. In a simulation it only says what was agreed on."""

    async def start(
        self,
        transport: asyncio.Transport,
        protocol: asyncio.Protocol,
        host: str,
        *,
        is_verified: bool,
        dane: DaneDemand | None = None,
    ) -> tuple[asyncio.Transport, TlsInfo]:
        """Do the handshake; the new transport replaces the old. `is_verified`: insist on a certificate for
        `host` that we trust; `dane`: on one that these records vouch for. Raises TlsRefused; the old transport is
        closed then."""


class LoopTlsStarter:
    """TlsStarter on the running event loop, uvloop's or asyncio's."""

    def __init__(self, *, ca_file: str | None = None, clock: Clock | None = None) -> None:
        """`ca_file`: certificates to trust instead of the system's (a smart host with a private CA)."""
        self._clock = clock or SystemClock()
        self._verified = ssl.create_default_context(cafile=ca_file)
        self._any = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # RFC 7435: opportunistic encryption takes what it gets; a wrong certificate beats no encryption.
        self._any.check_hostname = False
        self._any.verify_mode = ssl.CERT_NONE
        # RFC 8461 §4.2, RFC 9525 §2: the name stands in the subject alternative name, or nowhere.
        self._verified.hostname_checks_common_name = False
        for context in (self._verified, self._any):
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.options |= ssl.OP_NO_COMPRESSION

    async def start(
        self,
        transport: asyncio.Transport,
        protocol: asyncio.Protocol,
        host: str,
        *,
        is_verified: bool,
        dane: DaneDemand | None = None,
    ) -> tuple[asyncio.Transport, TlsInfo]:
        name = server_name(host if dane is None or is_verified else dane.base)  # RFC 7672 §8.1
        if name is None and is_verified:
            transport.abort()
            raise TlsRefused(f"{host!r} is no name that a certificate can have", is_judged=True)
        loop = asyncio.get_running_loop()
        try:
            secured = await loop.start_tls(
                transport,
                protocol,
                self._verified if is_verified else self._any,
                server_hostname=name,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
        except ssl.SSLCertVerificationError as error:
            result = _RESULTS.get(error.verify_code, "certificate-not-trusted")
            why = f"the certificate is not good for {host}: {error.verify_message}"
            raise TlsRefused(why, result=result, is_judged=True) from None
        except OSError as error:  # ssl.SSLError, ConnectionError and TimeoutError are such
            reason = getattr(error, "reason", None) or str(error) or "no answer in time"
            raise TlsRefused(str(reason)) from None
        if secured is None:  # the host was gone in the same moment
            raise TlsRefused("the host has gone")
        secured.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        tls = secured.get_extra_info("ssl_object")
        trust = "certificate" if is_verified else ""
        if dane is not None:
            try:
                trust = authenticate(peer_chain(tls), dane.records, dane.names, self._clock.wall())
            except DaneFault as fault:
                secured.abort()
                raise TlsRefused(f"DANE: {fault}", result=fault.result, is_judged=True) from None
        cipher = tls.cipher()
        is_checked = is_verified or dane is not None
        info = TlsInfo(tls.version() or "", cipher[0] if cipher else "", name, is_checked, trust=trust)
        return secured, info


def peer_chain(tls: Any) -> list[bytes]:
    """What the peer showed in the handshake, in DER, its own certificate first. Nothing of it is verified.

    Python has a public way to it from 3.13 on; 3.11 and 3.12 have the same method one layer further in. Where neither
    is there, the peer's own certificate alone: enough for DANE-EE, while DANE-TA then fails, and fails safely."""
    public = getattr(tls, "get_unverified_chain", None)
    if public is not None:
        return [bytes(each) for each in public()]
    inner = getattr(getattr(tls, "_sslobj", None), "get_unverified_chain", None)
    if inner is not None:
        return [each.public_bytes(_DER) for each in inner() or ()]
    own = tls.getpeercert(binary_form=True)
    return [] if own is None else [own]


def server_name(host: str) -> str | None:
    """What to say as server name and to look for in the certificate: a DNS name or the text of an IP address."""
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1].removeprefix("IPv6:")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    labels = host.removesuffix(".").split(".")
    is_name = host.isascii() and all(0 < len(label) <= 63 for label in labels)  # RFC 1035 §2.3.4
    return ".".join(labels) if is_name and len(host) <= 255 else None
