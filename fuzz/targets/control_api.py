# SPDX-License-Identifier: Apache-2.0
"""Whatever is said to the control socket: the HTTP server and the admin API answer it, and never with a fault.

The input is the octets of a connection. The house behind it is a real one in a temporary folder, opened once; what
one input changes the next one finds, so that a rare find may need its predecessors.
"""

from __future__ import annotations

import asyncio
import atexit
import dataclasses
import logging
import shutil
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from fuzz.choices import Choices, pieces
from posthouse import config, telemetry
from posthouse.app import open_house
from posthouse.composing.ground import real_machine
from posthouse.edges.cli.backend import Plan
from posthouse.edges.control import routing
from posthouse.edges.control.api import control_app
from posthouse.founding import found
from posthouse.net.http import HttpServer
from posthouse.office import office_of
from posthouse.outcome import NOT_AUTHORIZED, Refusal
from posthouse.ports import ResolverFault

DICTIONARY = "http.dict"
MAX_SIZE = 2048


class _Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.said = b""
        self._is_closing = False

    def write(self, data: Any) -> None:
        self.said += bytes(data)

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._is_closing = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


class _House:
    """Everything but the socket."""

    def __init__(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="fuzz"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        # Nothing listens.
        found(folder / "house", Plan("mail.alice.test", "alice.test", "alice@alice.test", "secret of alice", {}))
        settings = config.from_table({"hostname": "mail.alice.test"}, "fuzz")
        self.faults: list[str] = []  # what the log would tell of
        errors = logging.getLogger("uvicorn.error")
        errors.addHandler(_Recorder(self.faults))
        errors.propagate = False
        # In place of the log: `exception` is all that is asked of it.
        setattr(routing, "logger", lambda _: self)  # noqa: B010 - a name that the module does not give out
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self._open(folder / "house", settings))

    async def _open(self, folder: Path, settings: config.Settings) -> None:
        # Questions go nowhere, and what would write outside of the house is left out.
        nowhere = _Refusing(ResolverFault("no DNS here"))
        machine = dataclasses.replace(real_machine(), resolver=lambda _: nowhere)
        house = open_house(folder, settings, machine)
        office = office_of(house, list, is_serving=False)
        refusal = Refusal(NOT_AUTHORIZED, "no backups here")
        office = dataclasses.replace(office, backups=_Refusing(refusal))  # type: ignore[arg-type]  # a service
        self._config = HttpServer(control_app(office), [])._config
        self._config.load()

    def exception(self, text: str, **_: object) -> None:
        self.faults.append(f"{text}: {sys.exc_info()[1]!r}")

    async def converse(self, octets: list[bytes]) -> bytes:
        wire, state = _Wire(), ServerState()
        protocol = H11Protocol(self._config, state, {}, _loop=self.loop)
        protocol.connection_made(wire)
        for piece in octets:
            if not wire.is_closing():
                try:
                    protocol.data_received(piece)
                except h11.LocalProtocolError:  # a second, broken request behind a first: the transport would close
                    break
            await asyncio.sleep(0)
        cycle: Any = protocol.cycle
        while state.tasks and not cycle.more_body:  # else it waits for the rest of a request
            await asyncio.wait(list(state.tasks))
        protocol.connection_lost(None)
        while state.tasks:
            await asyncio.wait(list(state.tasks))
        return wire.said


class _Recorder(logging.Handler):
    def __init__(self, faults: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info is None or not isinstance(record.exc_info[1], h11.LocalProtocolError):
            # (That one: the answer came when a second, broken request had closed the connection already.)
            self._faults.append(record.getMessage())


class _Refusing:
    """Whatever is asked of it raises this."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def distrust(self) -> str:
        return str(self._error)

    async def passed_over(self) -> list[str]:
        return []

    def __getattr__(self, name: str) -> Any:
        async def refuse(*_: Any, **__: Any) -> Any:
            raise self._error

        return refuse


@lru_cache(maxsize=1)
def _house() -> _House:
    telemetry.configure(as_json=False, level="error")
    return _House()


def target(data: bytes) -> None:
    choices = Choices(data)
    chance = choices.chance()
    house = _house()
    house.faults.clear()
    said = house.loop.run_until_complete(house.converse(pieces(choices.rest, chance)))
    for line in said.split(b"\r\n"):
        assert not line.startswith(b"HTTP/1.1 500"), said[-600:]
    assert not house.faults, house.faults
