# SPDX-License-Identifier: Apache-2.0
"""Answers to an authority that looks whether a name is ours: http-01 (RFC 8555 §8.3), tls-alpn-01 (RFC 8737).

Invariant: an answer is there from before the authority is told to look until it has made up its mind, and nothing else
is ever answered. Whoever serves HTTP or TLS asks here; nothing is written to a disk.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Literal

from posthouse.ports import Clock, Entropy
from posthouse.services.acme.x509 import challenge_certificate

ChallengeKind = Literal["http-01", "tls-alpn-01", "dns-01"]


@dataclass(slots=True)
class _Answer:
    """`was_asked` is set when somebody has looked (RFC 8555 §7.5.1: only then is polling worth while)."""

    text: str
    certificate: bytes
    was_asked: asyncio.Event


class Challenges:
    def __init__(self, clock: Clock, entropy: Entropy) -> None:
        self._clock = clock
        self._entropy = entropy
        self._by_token: dict[str, _Answer] = {}
        self._by_name: dict[str, _Answer] = {}
        self._watchers: list[Callable[[], None]] = []

    def http_answer(self, token: str) -> str | None:
        """For GET /.well-known/acme-challenge/{token}: the body (application/octet-stream), or None: 404."""
        answer = self._by_token.get(token)
        if answer is None:
            return None
        answer.was_asked.set()
        return answer.text

    def tls_names(self) -> dict[str, bytes]:
        """For handshakes that offer acme-tls/1 alone: per name a key and its certificate in PEM form."""
        return {name: answer.certificate for name, answer in self._by_name.items()}

    def tls_asked(self, name: str) -> None:
        """Such a handshake has begun."""
        answer = self._by_name.get(name)
        if answer is not None:
            answer.was_asked.set()

    def watch(self, told: Callable[[], None]) -> None:
        """`told` is called whenever `tls_names` has changed."""
        self._watchers.append(told)

    @contextlib.asynccontextmanager
    async def http(self, token: str, authorization: str) -> AsyncIterator[asyncio.Event]:
        answer = _Answer(authorization, b"", asyncio.Event())
        self._by_token[token] = answer
        try:
            yield answer.was_asked
        finally:
            del self._by_token[token]

    @contextlib.asynccontextmanager
    async def tls(self, name: str, authorization: str) -> AsyncIterator[asyncio.Event]:
        certificate = challenge_certificate(name, authorization, self._clock.wall(), self._entropy)
        answer = _Answer("", certificate, asyncio.Event())
        self._by_name[name] = answer
        try:
            self._tell()
            yield answer.was_asked
        finally:
            del self._by_name[name]
            self._tell()

    def _tell(self) -> None:
        for told in self._watchers:
            told()
