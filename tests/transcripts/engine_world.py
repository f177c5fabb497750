# SPDX-License-Identifier: Apache-2.0
"""Runs transcripts against an engine alone: no socket, no loop, octets fed in pieces of any size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from posthouse.ports import TlsInfo
from posthouse.protocol.engine import Engine, Signal
from tests.transcripts.transcript import TranscriptError

TLS = TlsInfo("TLSv1.3", "TLS_AES_128_GCM_SHA256")


class ScriptedSession(Protocol):
    """Answers events at once, as a real session would do in the end."""

    engine: Any

    def answer(self, event: Any) -> None: ...


class EngineWire:
    """The driver's part, without its waiting: every piece is fed, all events are answered, output is kept."""

    def __init__(self, session: ScriptedSession, piece: int) -> None:
        self._session = session
        self._engine: Engine[Any] = session.engine
        self._piece = piece  # octets per feed; 0 feeds all at once
        self._out = b""
        self._is_closed = False
        self._tls_due = False
        self._pump()

    def _pump(self) -> None:
        while True:
            event = self._engine.next_event()
            self._out += b"".join(self._engine.data_to_send())
            if event is Signal.NEED_DATA:
                return
            if event is Signal.MORE:
                continue
            if event is Signal.START_TLS:
                self._tls_due = True
            elif event is Signal.CLOSE:
                self._is_closed = True
                return
            else:
                assert event is not Signal.PAUSED, "the session left an event without an answer"
                self._session.answer(event)

    async def send(self, octets: bytes) -> None:
        size = self._piece or max(len(octets), 1)
        for start in range(0, len(octets), size):
            self._engine.receive_data(octets[start : start + size])
            self._pump()

    async def line(self) -> bytes | None:
        line, end, rest = self._out.partition(b"\r\n")
        if not end:
            if line or not self._is_closed:
                raise TranscriptError(f"expected a line, have {line!r}")
            return None
        self._out = rest
        return line

    async def is_silent(self) -> bool:
        return not self._out

    async def close(self) -> None:
        self._engine.receive_data(b"")
        self._pump()

    async def start_tls(self) -> None:
        assert self._tls_due, "the engine has not asked for TLS"
        self._tls_due = False
        self._engine.tls_started(TLS)
        self._pump()


class EngineWorld:
    def __init__(self, new_session: Callable[[dict[str, str], list[bytes]], ScriptedSession], piece: int = 0) -> None:
        self._new_session = new_session
        self._piece = piece
        self._letters: list[bytes] = []

    async def open(self, settings: dict[str, str]) -> EngineWire:
        return EngineWire(self._new_session(settings, self._letters), self._piece)

    async def take_letter(self) -> bytes | None:
        if not self._letters:
            raise TranscriptError("no letter was taken")
        return self._letters.pop(0)
