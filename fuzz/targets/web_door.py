# SPDX-License-Identifier: Apache-2.0
"""Whatever strangers say to the web: it is answered or dropped, without a fault, and leads nowhere but to our names.

The input is the octets of a connection without TLS, or of one behind a proxy that did TLS.
"""

from __future__ import annotations

import asyncio
import logging
import re
from functools import lru_cache
from typing import Any

from uvicorn.server import ServerState

from fuzz.choices import Choices, pieces
from fuzz.targets.control_api import _Recorder, _Wire
from posthouse.config import Listen
from posthouse.edges.web import app as module
from posthouse.edges.web.app import WebApp, WebTerms
from posthouse.edges.web.names import Names
from posthouse.net.admission import Admission
from posthouse.net.clock import SystemClock
from posthouse.net.http import HttpServer
from posthouse.net.web_door import WebDoor
from posthouse.services.client_settings import offer_of
from posthouse.services.own_policy import own_policy
from posthouse.telemetry import Metrics

DICTIONARY = "http.dict"
MAX_SIZE = 2048
MAX_SECONDS = 5.0  # for what takes a millisecond: nobody waits for what does not come
HOST = "mail.alice.test"
OURS = re.compile(rb"https://((mta-sts|autoconfig|autodiscover)\.)?((mail\.)?alice|twin)\.test/")


class _Site:
    def __init__(self) -> None:
        self.faults: list[str] = []
        self.loop = asyncio.new_event_loop()
        setattr(module, "logger", lambda _: self)  # noqa: B010 - in place of the log: `exception` is all that is asked
        listen = Listen.model_validate({"imaps": ["*:993"], "submissions": ["*:465"], "https": ["*:443"]})
        terms = WebTerms(
            offer=offer_of(HOST, listen),
            names=Names(HOST, self._is_local),
            policy=lambda: own_policy(HOST, "testing", 86400, []),
            challenge={"token": "answer"}.get,
            sign=self._sign,
            clock=SystemClock(),
            metrics=Metrics(),
            behind_proxy=True,
        )
        self.door = WebDoor(Admission())
        recorder = _Recorder(self.faults)
        recorder.addFilter(_is_a_fault)
        self.door.log.addHandler(recorder)
        self.door.log.setLevel(logging.ERROR)
        self.door.log.propagate = False
        self._config = HttpServer(WebApp(terms), [], door=self.door)._config
        self._config.load()

    async def _is_local(self, name: str) -> bool:
        return name in ("alice.test", "twin.test", HOST)

    async def _sign(self, octets: bytes) -> bytes | None:
        return None

    def exception(self, text: str, **_: object) -> None:
        self.faults.append(text)

    async def converse(self, octets: list[bytes]) -> bytes:
        wire, state = _Aborting(), ServerState()
        connection = self.door.protocol(self._config, state, {}, self.loop)
        connection.connection_made(wire)
        for piece in octets:
            if not wire.is_closing():
                connection.data_received(piece)
            await asyncio.sleep(0)
        cycle: Any = connection.cycle
        async with asyncio.timeout(MAX_SECONDS):
            while state.tasks and not wire.is_closing() and not cycle.more_body:
                await asyncio.wait(list(state.tasks))
            connection.connection_lost(None)
            while state.tasks:
                await asyncio.wait(list(state.tasks))
        return wire.said


def _is_a_fault(record: logging.LogRecord) -> bool:
    """An answer that could not be ended, because nonsense behind its request had ended the connection, is none."""
    return record.getMessage() != "ASGI callable returned without completing response."


class _Aborting(_Wire):
    def abort(self) -> None:
        self.close()


@lru_cache(maxsize=1)
def _site() -> _Site:
    return _Site()


def target(data: bytes) -> None:
    choices = Choices(data)
    chance = choices.chance()
    site = _site()
    site.faults.clear()
    said = site.loop.run_until_complete(site.converse(pieces(choices.rest, chance)))
    for line in said.split(b"\r\n"):
        assert not line.startswith(b"HTTP/1.1 500"), said[-600:]
        if line.lower().startswith(b"location:"):
            assert OURS.match(line.partition(b":")[2].strip()), line
    assert not site.faults, site.faults
    assert not site.door.connections, "a connection was left behind"
    assert site.door.admission.count == 0
