# SPDX-License-Identifier: Apache-2.0
"""Connects to other mail servers: the MailTransport port over asyncio.

Invariant: a connection that is handed out has greeted, and is protected and logged in as its Target says;
everything else is a ConnectFault that says why.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import ipaddress
from dataclasses import replace

from posthouse.net.session import TlsRefused
from posthouse.net.smtp_connection import SmtpConnection, Wire, words_of
from posthouse.net.smtp_tls import LoopTlsStarter, TlsStarter
from posthouse.outcome import NO_ANSWER_FROM_HOST, SYSTEM_FAULT, Outcome
from posthouse.ports import ConnectFault, Entropy, Target, TlsTrouble
from posthouse.protocol.smtp.client import SmtpClient
from posthouse.protocol.smtp.client_auth import Credentials
from posthouse.protocol.smtp.client_events import ClientSettings, SessionFailed, SessionReady, TlsUse
from posthouse.protocol.smtp.client_outcomes import TLS_FAILED
from posthouse.telemetry import logger

_log = logger("smtp-client")

# Seconds for the TCP connection. RFC 1123 §5.3.1.1 leaves it to us; systems give up after 75 to 130, but
# who does not answer in 30 has other addresses or a next attempt.
CONNECT_SECONDS = 30.0
# Octets of chance in a SCRAM nonce (RFC 5802 §5.1 wants it unpredictable): 144 bits.
NONCE_OCTETS = 18
# Addresses whose CHUNKING did not work are remembered until the process ends or newer ones push them out.
MAX_REMEMBERED_HOSTS = 1000

# Our own machine's want, not the host's: no other letter learns from it about the host.
_LOCAL_FAULTS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EACCES})

_TLS_USE = {
    "none": TlsUse.NEVER,
    "opportunistic": TlsUse.OFFERED,
    "require": TlsUse.REQUIRED,
    "verify": TlsUse.REQUIRED,
    "dane": TlsUse.REQUIRED,
    "try-verify": TlsUse.OFFERED,
    "implicit": TlsUse.NEVER,  # TLS is there before the greeting
}
# What is tried when TLS does not work as it should. RFC 7435 §3: better unprotected than undelivered.
_DEMANDS = ("require", "verify", "dane")
_NEXT_BEST = {"try-verify": "opportunistic", "opportunistic": "none"}


class SmtpTransport:
    """The MailTransport port. One object serves all hosts; it keeps no connections.

    `mechanisms`: the only ones to log in with; empty: the best that the host offers.
    """

    def __init__(
        self, entropy: Entropy, starter: TlsStarter | None = None, *, mechanisms: tuple[str, ...] = ()
    ) -> None:
        self._entropy = entropy
        self._starter = starter or LoopTlsStarter()
        self._mechanisms = mechanisms
        self._without_bdat: dict[str, None] = {}  # ordered, so that the oldest goes first

    async def connect(self, target: Target) -> SmtpConnection:
        """Connect, greet, EHLO, STARTTLS, AUTH as the target says. Raises ConnectFault."""
        if target.tls not in _TLS_USE:
            raise ValueError(f"unknown use of TLS: {target.tls!r}")
        if target.username is not None and target.tls in _NEXT_BEST and not _is_loopback(target.address):
            # A password is for one host alone: with any certificate taken it would be for whoever stands between.
            # The operator may say otherwise ("require").
            target = replace(target, tls="verify")
        trouble: TlsTrouble | None = None  # the first: what came after it was only second best
        tried = target
        while True:
            connection, failed = await self._attempt(tried)
            trouble = trouble or connection.trouble
            if failed is None:
                connection.trouble = trouble
                return connection
            # With a password it stays protected.
            if not failed.is_tls_suspect or tried.tls not in _NEXT_BEST or target.username is not None:
                is_policy = trouble is not None and target.tls in _DEMANDS
                raise ConnectFault(failed.outcome, trouble=trouble, is_policy=is_policy)
            _log.info("tls failed, trying with less", host=target.host, reason=failed.outcome.diagnostic)
            tried = replace(tried, tls=_NEXT_BEST[tried.tls])

    async def _attempt(self, target: Target) -> tuple[SmtpConnection, SessionFailed | None]:
        """One connection: ready for letters, or why it is not. Raises ConnectFault where there is none at all."""
        loop = asyncio.get_running_loop()
        engine = SmtpClient(self._settings(target))
        wire = Wire(engine, loop)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.create_connection(lambda: wire, target.address, target.port)
        except TimeoutError:
            wire.abort()
            outcome = _silent(target, f"no connection within {CONNECT_SECONDS:.0f} seconds")
            raise ConnectFault(outcome) from None
        except OSError as error:
            raise _no_connection(target, error) from None
        connection = SmtpConnection(wire, target, self._starter, lambda ended: self._remember(target, ended))
        try:
            if target.tls == "implicit":
                await wire.start_tls(self._starter, target, is_verified=True)
            event = await connection.open()
        except TlsRefused as refused:
            wire.abort()
            outcome = Outcome(TLS_FAILED, f"TLS did not start: {refused}", target.host, target.address)
            raise ConnectFault(outcome) from None
        except BaseException:
            wire.abort()
            raise
        if isinstance(event, SessionReady):
            return connection, None
        await wire.close()
        if isinstance(event, SessionFailed):
            return connection, event
        return connection, SessionFailed(_silent(target, "the session ended before it began"))

    def _settings(self, target: Target) -> ClientSettings:
        credentials = None
        if target.username is not None:
            credentials = Credentials(target.username, target.password or "", self._mechanisms)
        return ClientSettings(
            helo=target.helo,
            host=target.host,
            address=target.address,
            tls=_TLS_USE[target.tls],
            is_lmtp=target.is_lmtp,
            credentials=credentials,
            nonce=base64.b64encode(self._entropy.octets(NONCE_OCTETS)).decode(),
            may_show_password=_is_loopback(target.address),
            may_bdat=target.address not in self._without_bdat,
        )

    def _remember(self, target: Target, engine: SmtpClient) -> None:
        if engine.bdat_failed and target.address not in self._without_bdat:
            _log.info("chunking does not work", host=target.host, address=target.address)
            if len(self._without_bdat) >= MAX_REMEMBERED_HOSTS:
                del self._without_bdat[next(iter(self._without_bdat))]
            self._without_bdat[target.address] = None


def _no_connection(target: Target, error: OSError) -> ConnectFault:
    why = f"no connection: {words_of(error)}"
    if error.errno in _LOCAL_FAULTS:
        return ConnectFault(Outcome(SYSTEM_FAULT, why, target.host, target.address), host_is_down=False)
    return ConnectFault(_silent(target, why))


def _silent(target: Target, why: str) -> Outcome:
    return Outcome(NO_ANSWER_FROM_HOST, why, target.host, target.address)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
