# SPDX-License-Identifier: Apache-2.0
"""The IMAP transcripts over real connections with a whole server: the dialogue must be the one of the house alone."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from posthouse.composing.ground import real_machine
from posthouse.net.certificate import ensure_self_signed
from posthouse.ports import Clock
from posthouse.services import guard
from tests.fakes import EPOCH
from tests.system.post import HOSTNAME, Post, open_post
from tests.system.wire import PATIENCE
from tests.transcripts.imap_dialogue import Dialogue, load, run
from tests.transcripts.imap_house import deliver, furnish, sections_of, set_quotas

ON_BOTH_LOOPS = True

DIALOGUES = load(Path(__file__).parent.parent / "transcripts" / "imap")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imap") / "template"
    furnish(folder)
    # By the real clock: it is the client's library that looks at the dates.
    ensure_self_signed(folder / "tls.pem", folder / "tls.key", [HOSTNAME, "localhost"], real_machine().clock.wall())
    return folder


class MovedClock:
    """The real one, from the day on which fakes begin; `skew` lets hours pass."""

    def __init__(self, real: Clock) -> None:
        self._real = real
        self._began = real.monotonic()
        self.skew = 0.0

    def wall(self) -> float:
        return EPOCH + self._real.monotonic() - self._began + self.skew

    def monotonic(self) -> float:
        return self._real.monotonic()


class TcpWire:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, trusting: ssl.SSLContext) -> None:
        self._reader = reader
        self._writer = writer
        self._trusting = trusting

    async def send(self, octets: bytes) -> None:
        self._writer.write(octets)
        with contextlib.suppress(ConnectionError):  # a server that has said its last word may have closed already
            await self._writer.drain()

    async def read(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                return await self._reader.read(65536)
        return b""

    async def is_silent(self) -> bool:
        return not self._reader._buffer  # type: ignore[attr-defined]  # the only way to look without waiting

    async def close(self) -> None:
        if self._writer.can_write_eof():
            self._writer.write_eof()
        else:
            self._writer.close()

    async def start_tls(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self._writer.start_tls(self._trusting, server_hostname=HOSTNAME)

    async def hang_up(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            async with asyncio.timeout(PATIENCE):
                await self._writer.wait_closed()


class TcpWorld:
    def __init__(self, post: Post, clock: MovedClock) -> None:
        self._post = post
        self._clock = clock
        self._wires: list[TcpWire] = []

    async def open(self, *, is_plain: bool) -> TcpWire:
        post = self._post
        port = post.ports["imap" if is_plain else "imaps"]
        name = None if is_plain else HOSTNAME
        tls = None if is_plain else post.trusting
        wire = TcpWire(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name), post.trusting)
        self._wires.append(wire)
        return wire

    async def deliver(self, person: str, octets: bytes) -> None:
        await deliver(self._post.house, person, octets)

    async def wait(self, seconds: float) -> None:
        self._clock.skew += seconds

    async def close(self) -> None:
        for wire in self._wires:
            await wire.hang_up()
        await self._post.is_quiet()


@pytest.mark.parametrize("dialogue", DIALOGUES, ids=lambda dialogue: dialogue.name)
async def test_dialogue(dialogue: Dialogue, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "FAILURE_DELAY", 0.0)  # seconds that a wrong password costs
    clock = MovedClock(real_machine().clock)
    machine = replace(real_machine(), clock=clock)
    post = await open_post(people, tmp_path / "data", machine=machine, **sections_of(dialogue.settings))
    try:
        await set_quotas(post.house, dialogue.settings)
        world = TcpWorld(post, clock)
        try:
            await run(dialogue, world)
        finally:
            await world.close()
    finally:
        await post.close()
