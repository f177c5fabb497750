# SPDX-License-Identifier: Apache-2.0
"""The SMTP transcripts, and those of this folder that only a whole server can play, over real connections.

The dialogue must be the one that the engine has alone; letters are looked up in the store.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posthouse import serving
from posthouse.protocol.smtp.server import SmtpServer
from tests.system.post import Post
from tests.system.wire import Wire
from tests.transcripts.transcript import Transcript, load, run

ON_BOTH_LOOPS = True

ENGINE = Path(__file__).parent.parent / "transcripts" / "smtp"
SYSTEM = Path(__file__).parent / "transcripts"
# What only the engine's scripted session says.
SKIPPED = {
    "refused_greeting": "no setting makes the server greet with 554",
    "busy_greeting": "a server that is busy says 421 before there is a session: test_limits.py",
    "address_literals": "a whole server takes letters for its own domains only: relay_denied.txt",
    "lmtp_each": "nothing that one recipient alone refuses after the content is built yet",
}
FLAGS = ("offers_tls", "requires_tls", "requires_auth", "auth_needs_tls")


class CountingWire(Wire):
    accepted = 0  # letters acknowledged so far

    async def line(self) -> bytes | None:
        line = await super().line()
        self.accepted += (line or b"").startswith(b"250 2.0.0 Accepted")
        return line


class TcpWorld:
    """Sessions with a whole server. `SERVER` settings of the engine are put into the engines it makes."""

    def __init__(self, post: Post, service: str) -> None:
        self._post = post
        self._service = service
        self._wires: list[CountingWire] = []
        self._taken = 0

    async def open(self, settings: dict[str, str]) -> Wire:
        post, service = self._post, self._service
        is_tls = service in ("submissions", "pop3s")
        wire = await CountingWire.open(post.ports[service], post.trusting, is_tls=is_tls)
        self._wires.append(wire)
        return wire

    async def take_letter(self) -> bytes | None:
        letters = await self._post.contents()
        self._taken += 1
        return letters[self._taken]  # the first one filled full@bob.test

    async def close(self) -> None:
        for wire in self._wires:
            await wire.hang_up()
        await self._post.is_quiet()

    async def check_store(self) -> None:
        """Nothing was stored without its 250. (LMTP says one for each recipient.)"""
        accepted = sum(wire.accepted for wire in self._wires)
        kept = len(await self._post.contents()) - 1
        assert (0 < kept <= accepted) if self._service == "lmtp" else kept == accepted


def service_of(settings: dict[str, str]) -> str:
    mode = settings.get("mode", "mx")
    if mode == "submission":
        return "submissions" if settings.get("implicit_tls") == "yes" else "submission"
    return {"mx": "smtp"}.get(mode, mode)


@pytest.mark.parametrize("transcript", load(ENGINE), ids=lambda transcript: transcript.name)
async def test_engine_transcript(
    transcript: Transcript, opener: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if transcript.name in SKIPPED:
        pytest.skip(SKIPPED[transcript.name])
    said = transcript.settings
    flags = {"offers_tls": False, "requires_auth": False, "requires_tls": False, "auth_needs_tls": True}
    flags |= {name: said[name] == "yes" for name in FLAGS if name in said}
    sizes = {name: int(said[name]) for name in ("max_message_size", "max_recipients") if name in said}

    def engine(**options: Any) -> SmtpServer:
        return SmtpServer(**{**options, **flags, **sizes})

    monkeypatch.setattr(serving, "SmtpServer", engine)
    auth = {} if flags["auth_needs_tls"] else {"plaintext": ["submission"]}
    post = await opener(auth=auth)
    post.house.login._mechanisms = ("PLAIN", "LOGIN")
    await play(transcript, TcpWorld(post, service_of(said)))


@pytest.mark.parametrize("transcript", load(SYSTEM), ids=lambda transcript: transcript.name)
async def test_system_transcript(transcript: Transcript, opener: Callable[..., Any]) -> None:
    """`SERVER` settings here: `service=`, and keys of posthouse.toml as `section.key=number`."""
    sections: dict[str, dict[str, int]] = {}
    for key, value in transcript.settings.items():
        if found := re.fullmatch(r"(\w+)\.(\w+)", key):
            sections.setdefault(found[1], {})[found[2]] = int(value)
    post = await opener(**sections)
    await play(transcript, TcpWorld(post, transcript.settings.get("service", "smtp")))


async def play(transcript: Transcript, world: TcpWorld) -> None:
    try:
        await run(transcript, world)
    finally:
        await world.close()
    await world.check_store()
