# SPDX-License-Identifier: Apache-2.0
"""TLS for accepted connections: a certificate per host name, reloaded while serving.

Invariant: what is being served is always a complete, tested set; a reload that fails changes nothing.

Channel binding: `TlsInfo.binding` is tls-server-end-point (RFC 5929), which RFC 9266 §2 does not allow for
SCRAM-PLUS over TLS 1.3 where tls-exporter is the default; Python's ssl gives no exporter. So it is set for
TLS 1.2 connections and None for TLS 1.3, and no -PLUS mechanism may be offered where it is None.
"""

from __future__ import annotations

import asyncio
import ssl
import weakref
from asyncio import sslproto
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from posthouse.net.certificate import CertificateFacts, CertificateFault, read_facts
from posthouse.net.session import TlsRefused
from posthouse.net.tls_challenge import ChallengeGate, is_challenge_answered
from posthouse.ports import Clock, TlsInfo
from posthouse.telemetry import logger

_log = logger("tls")

# TLS 1.2: only forward secrecy with AEAD (RFC 9325 §4.2); TLS 1.3 has no others.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:!aNULL"
# Keys of session tickets are as old as their context. A day bounds what a stolen one opens (RFC 9325 §3.4).
TICKET_KEY_SECONDS = 24 * 3600.0
# Until files that could not be used are tried again though they look as before: descriptors may have been short.
RETRY_SECONDS = 900.0
# Seconds for the peer's close_notify. Many never send it.
SHUTDOWN_SECONDS = 5.0
# Octets waiting for a slow reader before we stop; a TLS transport copies, so this is memory per connection.
WRITE_HIGH_WATER = 64 * 1024
# Plain asyncio gives each TLS connection a buffer of this many octets: 256 KiB by default, most of what an
# idle one costs. One TLS record (RFC 8446 §5.1) is all that a read can return at once.
TLS_RECORD = 16 * 1024


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """A chain in PEM form, server's certificate first, and its private key."""

    certificate: Path
    key: Path
    is_optional: bool = False  # one that an authority has given us, or will


@dataclass(frozen=True, slots=True)
class _Loaded:
    files: CertificateFiles
    context: ssl.SSLContext
    facts: CertificateFacts


class CertificateStore:
    """The certificates that are served, chosen by the name the client asks for (SNI, RFC 6066 §3)."""

    def __init__(self, files: Sequence[CertificateFiles], clock: Clock) -> None:
        """The first one serves clients that ask for no or an unknown name. Raises CertificateFault.

        Of files that `is_optional` says of itself one that is missing or cannot be used is left out."""
        if not files:
            raise CertificateFault("no certificate is configured")
        self._files = tuple(files)
        self._clock = clock
        self._gate: ChallengeGate | None = None
        # What each handshake in progress asked for; gone with the connection.
        self._asked: weakref.WeakKeyDictionary[ssl.SSLObject, str] = weakref.WeakKeyDictionary()
        self._load({})

    @property
    def context(self) -> ssl.SSLContext:
        """For the next handshake."""
        return self._front

    @property
    def facts(self) -> list[CertificateFacts]:
        """Of every certificate, in the order of the settings (for checks and warnings)."""
        return [one.facts for one in self._loaded]

    def reload(self) -> None:
        """Read all files again (SIGHUP). Raises CertificateFault and then goes on with what was there. An authority's
        certificate that cannot be read just now is no such fault: what was loaded from it before is served on."""
        self._load({one.files: one for one in self._loaded if one.files.is_optional})
        _log.info("certificates loaded", count=len(self._loaded))

    def refresh(self) -> bool:
        """To be called every minute or so: reload if a file changed or the ticket keys are old; True: what is in the
        files is what is served.

        In place of a file that cannot be used (half written, say) what was loaded from it before is served on, so that
        it keeps no other from being renewed; it is logged, and tried again when it changes or after RETRY_SECONDS.
        """
        is_old = self._clock.monotonic() - self._loaded_at > (TICKET_KEY_SECONDS if self._is_whole else RETRY_SECONDS)
        if not is_old and self._stamps() == self._seen:
            return self._is_whole
        try:
            self._load({one.files: one for one in self._loaded})
        except CertificateFault as fault:
            _log.warning("certificates not reloaded", reason=str(fault))
            return False
        _log.info("certificates loaded", count=len(self._loaded))
        return self._is_whole

    def answer_challenges(self, names: Callable[[], Mapping[str, bytes]], asked: Callable[[str], None]) -> None:
        """Answer handshakes that offer acme-tls/1 alone (RFC 8737). `names`: per host name a key and its certificate
        in PEM form; call `challenges_changed` when they change. `asked` is told of each handshake that got one."""
        self._gate = ChallengeGate(names, asked)
        self._gate.arm(self._front)

    def challenges_changed(self) -> None:
        if self._gate is not None:
            self._gate.changed()
            self._gate.arm(self._front)

    def info(self, tls: ssl.SSLObject) -> TlsInfo:
        """What the handshake agreed on."""
        version = tls.version() or ""
        cipher = tls.cipher()
        binding = None
        if version == "TLSv1.2":  # see the head of this file
            binding = self._bindings.get(tls.context)
        return TlsInfo(
            version=version,
            cipher=cipher[0] if cipher else "",
            server_name=self._asked.pop(tls, None),
            binding=binding,
        )

    def _load(self, former: Mapping[CertificateFiles, _Loaded]) -> None:
        """`former`: what stays where its files cannot be used. Raises CertificateFault."""
        seen = self._stamps()
        loaded = [one for files in self._files if (one := _load_one(files, former.get(files))) is not None]
        fresh = [one for one in loaded if one is not former.get(one.files)]
        if not fresh:
            raise CertificateFault("none of the certificates can be used")
        by_name: dict[str, ssl.SSLContext] = {}
        for one in reversed(loaded):  # of two certificates for a name the first one wins
            by_name.update(dict.fromkeys(one.facts.names, one.context))
        asked = self._asked
        default = loaded[0].context

        def choose(tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
            gate = self._gate
            if gate is not None and gate.is_challenge(tls):
                return gate.answer(tls)
            if name is not None:
                name = name.lower()
                asked[tls] = name
                chosen = by_name.get(name) or by_name.get("*." + name.partition(".")[2])
                tls.context = chosen or default
            else:
                tls.context = default
            return None

        # All handshakes begin with one context, so that a ticket of one name's connection is good for resuming
        # with any: OpenSSL keeps the ticket keys where the handshake began.
        front = _new_context(fresh[0].files)
        front.sni_callback = choose
        if self._gate is not None:
            self._gate.arm(front)
        self._bindings = {one.context: one.facts.binding for one in loaded}
        self._loaded = loaded
        self._front = front
        self._seen = seen
        self._loaded_at = self._clock.monotonic()
        self._is_whole = len(fresh) == len(loaded)

    def _stamps(self) -> list[tuple[int, int] | None]:
        return [_stamp(path) for files in self._files for path in (files.certificate, files.key)]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def _load_one(files: CertificateFiles, former: _Loaded | None) -> _Loaded | None:
    if files.is_optional and not files.certificate.exists():
        return None
    try:
        return _Loaded(files, _new_context(files), read_facts(files.certificate))
    except CertificateFault as fault:
        if former is not None:
            _log.error("certificate not usable, the one before it is served on", reason=str(fault))
            return former
        if not files.is_optional:
            raise
        _log.error("certificate left out", reason=str(fault))
        return None


def why_unusable(files: CertificateFiles) -> str:
    """ "" for a certificate that can be served with its key."""
    try:
        _new_context(files)
        read_facts(files.certificate)
    except CertificateFault as fault:
        return str(fault)
    return ""


def _new_context(files: CertificateFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 9325 §3.1.1
    context.set_ciphers(CIPHERS)
    # RFC 9325 §3.3 and §3.5: no compression, no renegotiation.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        # A key with a password counts as unusable: OpenSSL would ask for it on the terminal, and everybody would wait.
        context.load_cert_chain(files.certificate, files.key, password="")
    except ssl.SSLError as error:
        why = error.reason or "empty, or a key with a password"
        raise CertificateFault(
            f"{files.certificate} with {files.key}: not a certificate chain with its key in PEM form ({why})"
        ) from None
    except OSError as error:
        raise CertificateFault(f"{files.certificate}, {files.key}: {error.strerror}: check path and owner") from None
    return context


def _feed(layer: asyncio.BaseProtocol, octets: bytes) -> None:
    """As if the socket had been read only now."""
    if isinstance(layer, asyncio.Protocol):
        layer.data_received(octets)
        return
    buffered = cast("asyncio.BufferedProtocol", layer)
    while octets:
        room = memoryview(buffered.get_buffer(len(octets)))
        size = min(len(room), len(octets))
        room[:size] = octets[:size]
        buffered.buffer_updated(size)
        octets = octets[size:]


class LoopTlsUpgrader:
    """TlsUpgrader on the running event loop, uvloop's or asyncio's."""

    def __init__(self, certificates: CertificateStore) -> None:
        self._certificates = certificates
        # asyncio has no setting for it. A class attribute since 3.11; uvloop has a class of its own.
        sslproto.SSLProtocol.max_size = min(sslproto.SSLProtocol.max_size, TLS_RECORD)

    async def upgrade(
        self, transport: asyncio.Transport, protocol: asyncio.Protocol, limit: float, early: bytes
    ) -> tuple[asyncio.Transport, TlsInfo]:
        loop = asyncio.get_running_loop()
        try:
            starting = loop.create_task(
                loop.start_tls(
                    transport,
                    protocol,
                    self._certificates.context,
                    server_side=True,
                    ssl_handshake_timeout=limit,
                    ssl_shutdown_timeout=SHUTDOWN_SECONDS,
                )
            )
            if early:
                await asyncio.sleep(0)  # its first step puts TLS between transport and protocol
                _feed(transport.get_protocol(), early)
            secured = await starting
        except OSError as error:  # ssl.SSLError and ConnectionError are such
            reason = getattr(error, "reason", None) or str(error) or type(error).__name__
            raise TlsRefused(str(reason)) from None
        if secured is None:  # the peer was gone in the same moment
            raise TlsRefused("the peer has gone")
        secured.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        tls = secured.get_extra_info("ssl_object")
        if is_challenge_answered(tls):  # RFC 8737 §4: it carries no application data
            secured.close()
            raise TlsRefused("an authority has looked")
        return secured, self._certificates.info(tls)
