# SPDX-License-Identifier: Apache-2.0
"""An ASGI application on given sockets: the control socket, the metrics port, the web for strangers.

uvicorn does the HTTP. Its signal handling and its timer are left out: the server's own entry point knows the
signals, and nothing here polls.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Generator, Sequence
from typing import Any

import uvicorn

from posthouse.net.web_door import WebDoor

# A request (line and header) larger than this is refused; the API's bodies are limited by the application.
REQUEST_HEADER_BOUND = 64 * 1024
IDLE_SECONDS = 30.0  # a connection kept alive without a request


class HttpFault(Exception):  # noqa: N818 - as StoreFault
    """The application did not start; the message says why."""


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()
        self.is_wanted_down = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()

    async def main_loop(self) -> None:
        # Waits where uvicorn looks ten times a second; its Date header and request limit are switched off.
        self.server_state.default_headers = self.config.encoded_headers
        await self.is_wanted_down.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class HttpServer:
    """Serves one application until `stop`."""

    def __init__(
        self,
        app: Any,
        sockets: Sequence[socket.socket],
        *,
        door: WebDoor | None = None,
        grace: float = 5.0,
        is_lifespan_needed: bool = False,
    ) -> None:
        """`app` is an ASGI application; `door`: for strangers, who get TLS and limits; `grace`: seconds for requests in
        progress when it stops.

        With `is_lifespan_needed` an application whose start-up fails (or is missing) is an error."""
        self._sockets = list(sockets)
        self._door = door
        http: Any = "h11" if door is None else door.protocol
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            ws="none",
            lifespan="on" if is_lifespan_needed else "auto",
            http=http,
            h11_max_incomplete_event_size=REQUEST_HEADER_BOUND if door is None else door.limits.header,
            timeout_keep_alive=int(IDLE_SECONDS) if door is None else door.limits.idle,
            timeout_graceful_shutdown=int(grace),
        )
        self._config = config
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when requests are answered. Raises HttpFault when the application's own start fails."""
        server = self._server = _Server(self._config)
        task = self._task = asyncio.create_task(self._serve(server))
        is_up = asyncio.create_task(server.is_up.wait())
        await asyncio.wait({task, is_up}, return_when=asyncio.FIRST_COMPLETED)
        if not server.is_up.is_set():
            is_up.cancel()
            await task  # raises what went wrong
            raise HttpFault("the HTTP application did not start")

    async def stop(self) -> None:
        """Answer what is in progress, then close the sockets."""
        if self._server is None or self._task is None:
            return
        if self._door is not None:
            self._door.refuse()
        self._server.is_wanted_down.set()
        await self._task
        self._server = self._task = None

    async def _serve(self, server: _Server) -> None:
        try:
            await server.serve(sockets=self._sockets)
        except SystemExit as error:  # how uvicorn says that the application's lifespan failed
            raise HttpFault(f"the HTTP application did not start (exit {error.code})") from None
        finally:
            if self._door is not None:
                self._door.close()
            if sys.exc_info()[0] is not None:
                for sock in self._sockets:
                    sock.close()
