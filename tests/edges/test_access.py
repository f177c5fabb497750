# SPDX-License-Identifier: Apache-2.0
"""Who has the lock: the command itself, a server that answers, or somebody who does not."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from posthouse import access
from posthouse.edges.cli.backend import Stop
from posthouse.net.http import HttpServer
from posthouse.net.lock import DirectoryInUse, DirectoryLock
from posthouse.net.sockets import close_sockets, open_sockets


async def hello(_request: Request) -> JSONResponse:
    return JSONResponse({"who": "the server"})


async def test_without_a_server_the_command_takes_the_lock_and_gives_it_back(house: Path) -> None:
    async with access.client(house) as client:
        assert (await client.get("/v1/status")).json()["is_serving"] is False
        with pytest.raises(DirectoryInUse, match=f"process {os.getpid()}"):
            DirectoryLock(house)
    DirectoryLock(house).release()


async def test_the_lock_is_given_back_when_the_store_does_not_open(house: Path) -> None:
    (house / "posthouse.toml").write_text("hostname = 5\n")
    with pytest.raises(Exception, match="hostname"):
        async with access.client(house):
            pass
    DirectoryLock(house).release()


async def test_while_the_lock_is_held_the_server_is_asked(house: Path) -> None:
    lock = DirectoryLock(house)
    sockets = open_sockets([f"unix:{house / 'control.sock'}"])
    server = HttpServer(Starlette(routes=[Route("/v1/status", hello)]), sockets)
    await server.start()
    async with access.client(house) as client:
        assert (await client.get("/v1/status")).json() == {"who": "the server"}
    await server.stop()
    close_sockets(sockets)
    lock.release()


async def test_a_server_that_is_just_starting_is_waited_for(house: Path) -> None:
    lock = DirectoryLock(house)
    asking = asyncio.create_task(access.client(house).__aenter__())
    for _ in range(3):
        await asyncio.sleep(0)
    sockets = open_sockets([f"unix:{house / 'control.sock'}"])
    client = await asking
    assert str(client.base_url).startswith("http://posthouse")
    await client.aclose()
    close_sockets(sockets)
    lock.release()


async def test_another_command_is_waited_for(house: Path) -> None:
    lock = DirectoryLock(house)
    manager = access.client(house)
    asking = asyncio.create_task(manager.__aenter__())
    for _ in range(3):
        await asyncio.sleep(0)
    lock.release()
    client = await asking
    assert (await client.get("/v1/status")).json()["is_serving"] is False
    await manager.__aexit__(None, None, None)


async def test_patience_ends_with_a_clear_word(house: Path) -> None:
    lock = DirectoryLock(house)
    with socket.socket(socket.AF_UNIX) as stale:  # of a server that was killed
        stale.bind(str(house / "control.sock"))
    with pytest.raises(Stop, match=f"in use by process {os.getpid()}, which does not answer on control.sock"):
        async with access.client(house, patience=0.0):
            pass
    lock.release()
