# SPDX-License-Identifier: Apache-2.0
"""tls-alpn-01 (RFC 8737) beside ordinary TLS on one port: which handshakes are an authority's, and what they get.

Invariant: only a client that offers acme-tls/1 and nothing else gets a challenge's certificate; everybody else is
served as ever, also while a challenge is open.

The ssl module chooses a certificate by the host name alone and shows nobody what protocols were offered. The message
callback, which is there for debugging, does see the ClientHello; it is set while a challenge is open and at no other
time, as it is called for every message of every connection.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from posthouse.protocol.client_hello import CLIENT_HELLO, ClientHello, read_client_hello

ACME_TLS = "acme-tls/1"
HANDSHAKE = 22  # RFC 8446 §5.1
HOOK = "_msg_callback"


class ChallengeGate:
    """Told of ClientHellos by the hook, asked by the callback for the host name in the same handshake."""

    def __init__(self, names: Callable[[], Mapping[str, bytes]], asked: Callable[[str], None]) -> None:
        self._names = names
        self._asked = asked
        self._hellos: weakref.WeakKeyDictionary[ssl.SSLObject, ClientHello] = weakref.WeakKeyDictionary()
        self._contexts: dict[str, ssl.SSLContext] = {}
        self.changed()

    def changed(self) -> None:
        self._contexts = {name: challenge_context(pem) for name, pem in self._names().items()}

    def arm(self, front: ssl.SSLContext) -> None:
        """Look at the handshakes that begin with this context, or no longer."""
        setattr(front, HOOK, self._look if self._contexts else None)

    def is_challenge(self, tls: ssl.SSLObject) -> bool:
        """Asked when a ClientHello has been read: twice where the client is asked for another one (RFC 8446 §4.1.4)."""
        hello = self._hellos.get(tls)
        return hello is not None and hello.protocols == (ACME_TLS.encode(),)

    def answer(self, tls: ssl.SSLObject) -> int | None:
        """The challenge's certificate; an alert for a name without one (RFC 8737 §3)."""
        name = self._hellos[tls].server_name
        context = self._contexts.get(name)
        if context is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        tls.context = context
        self._asked(name)
        return None

    def _look(
        self, tls: ssl.SSLObject, direction: str, _version: object, content: int, kind: int, message: bytes
    ) -> None:
        if direction == "read" and content == HANDSHAKE and kind == CLIENT_HELLO:
            self._hellos[tls] = read_client_hello(message)


def is_possible() -> bool:
    """Whether this Python shows a ClientHello."""
    return hasattr(ssl.SSLContext, HOOK)


def is_challenge_answered(tls: Any) -> bool:
    return bool(tls.selected_alpn_protocol() == ACME_TLS)


def challenge_context(pem: bytes) -> ssl.SSLContext:
    """`pem`: a key and its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8737 §4
    context.set_alpn_protocols([ACME_TLS])
    # The library reads keys from files alone; this one is of no use to anybody after a minute.
    descriptor, name = tempfile.mkstemp(prefix="posthouse-challenge-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
        context.load_cert_chain(name)
    finally:
        with contextlib.suppress(OSError):
            Path(name).unlink()
    return context
